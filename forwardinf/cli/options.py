"""What several commands take, and how they load, refuse and show progress; imports nothing heavy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import ASSETS, load_settings
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..attribution.attributor import Attributor
    from ..methods.protocol import AttributionMethod

WORK = Path(os.environ.get("FORWARDINF_TRAINING", ".training"))
STUDIES = ASSETS / "studies"

Work = Annotated[Path, typer.Option(help="folder of checkpoints, loss logs and sample sheets")]
Model = Annotated[str | None, typer.Option("--model", help="folder or Hub id of a Stable Diffusion or SDXL checkpoint")]
TorchDevice = Annotated[str | None, typer.Option("--device", help="torch device")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with all that reproduces it")]
ReportFile = Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", help="made by `index build`; else FORWARDINF_INDEX, or the shipped one"),
]
Tunable = Annotated[
    str | None,
    typer.Option(help="weights a query moves: “cross-attention k,v”, attention, all, or a pattern over their names"),
]
# What is not given stays at the method's own default.
Method = Annotated[str, typer.Option("--method", help="a file of forwardinf/methods")]
Steps = Annotated[int | None, typer.Option(help="gradient steps on the query")]
Direction = Annotated[str | None, typer.Option(help="ascent or descent")]
LossBudget = Annotated[
    float | None,
    typer.Option(help="relative change of the query's loss to reach; descent wants less: 0.02"),
]
MethodSettings = Annotated[
    list[str] | None, typer.Option("--setting", help="any setting of the method, as name=value; may be repeated")
]
References = Annotated[
    int | None,
    typer.Option(
        "--reference",
        min=0,
        help="unseen pictures asked first, so that an image counts by how far it is beyond its habit; by default some "
        "for forward_inf, none for its rivals, which know of no such thing",
    ),
]
EmbedderFolder = Annotated[
    str | None, typer.Option("--embedder", help="CLIP or DINOv2 that the index was made with: folder or Hub id")
]
FinishedTrials = Annotated[
    Path, typer.Option("--journal", help="folder of finished trials, which are not made again; those that ship, if any")
]
Score = Annotated[str | None, typer.Option(help="skew, root, difference or absolute")]


def method_from(name: str, settings: list[str] | None, **flags: object) -> AttributionMethod:
    """The method that flags and `name=value` settings ask for; raises InvalidRequest where there is none such."""
    from ..methods.registry import load_method

    given = dict(flags)
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise InvalidRequest(f"The setting “{setting}” is not of the form name=value.")
        try:
            given[key] = json.loads(value)
        except ValueError:
            given[key] = value
    return load_method(name, **given)


def references_for(method: AttributionMethod, asked: int | None, usual: int) -> int:
    """How many reference pictures `References` asks for, or else are usual for a method."""
    from ..methods.forward_inf import ForwardInf

    return asked if asked is not None else usual if type(method) is ForwardInf else 0


def load_attributor(index: Path | None, tunable: str | None, cache: Path | None, **flags: str | None) -> Attributor:
    """The attributor that flags and settings name."""
    from ..attribution.attributor import Attributor

    settings = load_settings(index=index, **flags)
    return Attributor.load(settings.index, settings.model_spec(), tunable, cache, settings.embedder)


def require_folder_of(file: Path | None) -> None:
    """Raise InvalidRequest before any work is done for a file that could not be written."""
    if file and not file.parent.is_dir():
        raise InvalidRequest(f"The folder “{file.parent}” does not exist; make it first.")


def progress_bar(unit: str, total: int | None = None) -> tqdm:
    """A progress bar where stderr is a terminal, else nothing."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, file=sys.stderr, leave=False, disable=None)


def reporting_to(bar: tqdm) -> Callable[[int, int], None]:
    """A callback of (done, total) that moves a bar."""

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return report


def tell(report: dict[str, Any], as_table: Callable[[dict[str, Any]], str], as_json: bool, out: Path | None) -> None:
    """A study's report on stdout, as a table or as JSON, and in a file where one was named."""
    text = json.dumps(report, indent=1)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    typer.echo(text if as_json else as_table(report))
