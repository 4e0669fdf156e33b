"""`forwardinf study all | tune | quick | report`: all studies in turn, and their reports side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidRequest, MissingAsset
from . import applications as applications
from .options import STUDIES, WORK
from .study import calibration, self_retrieval, study
from .trained_studies import cases, customisation, lab, lds, leave_k_out, steadiness

Reports = Annotated[Path, typer.Option("--reports", help="folder of reports, tables and plots")]


@dataclass(frozen=True)
class Contender:
    """A method with its settings as the studies compare it; `name` is part of its reports' file names."""

    name: str
    method: str
    setting: tuple[str, ...] = ()

    @property
    def argument(self) -> str:
        """As `study leave-k-out --method` takes it."""
        return f"{self.method}:{','.join(self.setting)}" if self.setting else self.method


CONTENDERS = (
    Contender("forward_inf", "forward_inf"),
    Contender("das", "das"),
    Contender("dtrak", "dtrak"),
    Contender("trak", "trak"),
    Contender("tracin", "tracin"),
    Contender("retrac", "tracin", ("normalised=true",)),
    Contender("mucs", "mucs"),
    Contender("abu_plus", "abu_plus"),
    Contender("abu", "abu"),
    Contender("plain", "plain"),
    Contender("centred_latents", "similarity", ("space=centred latents",)),
    Contender("latents", "similarity", ("space=latents",)),
    Contender("similarity", "similarity"),
    Contender("random", "random"),
)
# The settings that `tune` tries: as many for every method.
_MIRRORED = (
    ("loss_budget=0.1",),
    ("loss_budget=0.05",),
    ("loss_budget=0.2",),
    ("loss_budget=0.1", "damping=0.01"),
    ("loss_budget=0.1", "damping=1"),
)
_KERNEL = (("damping=0.1",), ("damping=0.01",), ("damping=1",), ("damping=10",), ("damping=0.1", "query_draws=192"))
TRIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "forward_inf": _MIRRORED,
    "plain": (
        ("score=difference",),
        ("score=difference", "loss_budget=0.05"),
        ("score=difference", "loss_budget=0.2"),
        ("score=absolute",),
        ("score=skew",),
    ),
    "abu": _MIRRORED,
    "abu_plus": _MIRRORED,
    "das": (
        ("damping=0.1",),
        ("damping=0.01",),
        ("damping=1",),
        ("squared=false", "damping=0.1"),
        ("squared=false", "damping=1"),
    ),
    "dtrak": _KERNEL,
    "trak": _KERNEL,
    "tracin": (
        (),
        ("normalised=true",),
        ("query_draws=192",),
        ("query_draws=12",),
        ("normalised=true", "query_draws=192"),
    ),
    "mucs": (
        ("noise_from=0.3",),
        ("noise_from=0.3", "learning_rate=3e-4"),
        ("noise_from=0.3", "learning_rate=5e-5"),
        ("noise_from=0.3", "forget_weight=0.5"),
        ("noise_from=0.1",),
    ),
}
RETRIEVED_BY = ("forward_inf", "centred_latents", "latents", "similarity")  # others would take many hours
# The best rival of each kind (gradients, unlearning, similarity) on the choosing part, and the default similarity.
LEFT_OUT_BY = ("forward_inf", "dtrak", "abu_plus", "centred_latents", "similarity", "random")


@study.command("all")
def everything(
    reports: Reports = STUDIES,
    work: Annotated[Path, typer.Option(help="folder for what methods and studies reuse")] = WORK,
) -> None:
    """Run every study at the size its goals need, for all methods that it is feasible for; many hours, resumes."""
    reports.mkdir(parents=True, exist_ok=True)
    lab(work=work)
    cases()
    for one in CONTENDERS:
        if one.name in RETRIEVED_BY:
            out = reports / f"self-retrieval-{one.name}.json"
            self_retrieval(method=one.method, setting=list(one.setting), journal=reports, work=work, out=out)
    calibration(journal=reports, work=work, out=reports / "calibration.json")
    for one in CONTENDERS:
        lds(queries=100, method=one.method, setting=list(one.setting), work=work, out=reports / f"lds-{one.name}.json")
    steadiness(work=work, out=reports / "steadiness.json")
    for one in CONTENDERS:
        out = reports / f"customisation-{one.name}.json"
        by = {"method": one.method, "setting": list(one.setting)}
        customisation(part="reported", journal=reports, work=work, out=out, **by)  # type: ignore[arg-type]
    methods = [one.argument for one in CONTENDERS if one.name in LEFT_OUT_BY]
    leave_k_out(queries=20, method=methods, work=work, out=reports / "leave-k-out.json")
    report(reports)


@study.command("tune")
def tune(
    method: Annotated[list[str] | None, typer.Option("--method", help="may be repeated; default: all")] = None,
    reports: Reports = STUDIES,
    work: Annotated[Path, typer.Option(help="folder for what methods and studies reuse")] = WORK,
) -> None:
    """Measure each method's LDS at five settings on the choosing part; hours, resumes."""
    kept = reports / "tuning"
    kept.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in method or TRIED:
        if name not in TRIED:
            raise InvalidRequest(
                f"There are no settings to try for “{name}”; the methods that can be tuned: {', '.join(TRIED)}."
            )
        for number, setting in enumerate(TRIED[name]):
            out = (
                kept / f"{name}-{number}.json"
            )  # measured again even if there, as model or lab may have changed; `work` has the scores
            lds(queries=15, part="choosing", method=name, setting=list(setting), work=work, out=out)
            mean = json.loads(out.read_text(encoding="utf-8"))["lds"]["all"]["mean"]
            lines.append(f"{name:12} {mean:6.1f}  {', '.join(setting) or 'defaults'}")
    typer.echo("\n".join(["", f"{'method':12} LDS × 100, choosing part", *lines]))


@study.command("quick")
def quick(
    reports: Reports = WORK / "quick",
    work: Annotated[Path, typer.Option(help="folder for what methods and studies reuse")] = WORK / "quick",
) -> None:
    """Run a small version of every study that needs no training, in minutes; too small for conclusions; resumes.

    It keeps its files in a folder of its own, as its null distributions come from fewer pictures.
    """
    reports.mkdir(parents=True, exist_ok=True)
    self_retrieval(queries=4, candidates=300, journal=reports, work=work, out=reports / "self-retrieval.json")
    calibration(nulls=2, repeated=2, journal=reports, work=work, out=reports / "calibration.json")
    for one in CONTENDERS:
        if one.name in ("forward_inf", "latents"):
            common = {"method": one.method, "setting": list(one.setting), "work": work}
            few = 9 if one.method == "forward_inf" else 0
            lds(queries=17, nulls=few, out=reports / f"lds-{one.name}.json", **common)  # type: ignore[arg-type]
            out = reports / f"customisation-{one.name}.json"
            customisation(count=1, pictures=1, nulls=few // 3, journal=reports, out=out, **common)  # type: ignore[arg-type]
    report(reports)


@study.command("report")
def report(reports: Reports = STUDIES) -> None:
    """Print the reports' tables, and write them with the plots beside the reports."""
    from ..studies import summary
    from ..studies.reports import read_reports

    found = read_reports(reports)
    try:
        plots = summary.draw(found, reports)
    except ImportError as error:
        raise MissingAsset("The plots need matplotlib, which is not installed. Run: pip install matplotlib") from error
    (reports / summary.TABLES).write_text(summary.as_markdown(found, plots), encoding="utf-8")
    typer.echo(summary.as_markdown(found))
