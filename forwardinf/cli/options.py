"""Options that several commands share, and how they load, refuse and show progress; imports nothing heavy."""

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
from ..methods import settings
from ..methods.settings import help_of

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..attribution.attributor import Attributor
    from ..methods.protocol import AttributionMethod

WORK = Path(os.environ.get("FORWARDINF_TRAINING", ".training"))
STUDIES = ASSETS / "studies"

Work = Annotated[Path, typer.Option(help="folder of checkpoints, loss logs and sample sheets")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="checkpoint in diffusers' format: folder, or Hub id; or a single .safetensors file of SD or SDXL",
    ),
]
Lora = Annotated[
    str | None,
    typer.Option(
        "--lora", metavar="FILE[:WEIGHT]", help="LoRA, DoRA, LoHa or LoKr on the model: .safetensors, or PEFT's folder"
    ),
]
PictureSize = Annotated[
    int | None,
    typer.Option(
        "--picture-size", help="side of the pictures that the model was trained on, in pixels; default: as it says"
    ),
]
SweepExecutor = Annotated[
    str | None, typer.Option("--executor", help="where sweeps run: threads of this process (default), or ray")
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="host:port of a Ray cluster's head node, or auto; default: this machine alone"),
]
RayWorkers = Annotated[
    int | None, typer.Option("--ray-workers", min=1, help="Ray workers at most; default: one to a GPU, or to a core")
]
TorchDevice = Annotated[str | None, typer.Option("--device", help="torch device")]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="what the networks run in: float32 or float16; by default as the index was built; when building, float16 "
        "on CUDA, unless every weight may move, and else float32",
    ),
]
KeyChoices = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="FIELD=KEY",
        help="which key of the metadata gives a field, as in text=description; `text=` for no captions; repeatable",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with everything needed to reproduce it")]
ReportFile = Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to")]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", help="folder made by `index build`; default: FORWARDINF_INDEX, or the shipped index"),
]
Tunable = Annotated[
    str | None,
    typer.Option(help="weights that a query moves: “cross-attention k,v”, attention, all, or a pattern of their names"),
]
# An option that is not given leaves the method's default.
Method = Annotated[str, typer.Option("--method", help="a file of forwardinf/methods")]
IndexMethod = Annotated[
    str | None,
    typer.Option("--method", help="a file of forwardinf/methods; default: the method that the index was built for"),
]
Steps = Annotated[int | None, typer.Option(help=help_of(settings.Steps))]
Direction = Annotated[str | None, typer.Option(help=help_of(settings.Direction))]
LossBudget = Annotated[float | None, typer.Option(help=help_of(settings.LossBudget))]
MethodSettings = Annotated[
    list[str] | None, typer.Option("--setting", help="any setting of the method, as name=value; may be repeated")
]
NullPictures = Annotated[
    int | None,
    typer.Option(
        "--null-pictures",
        min=0,
        help="number of null pictures, which the model never saw, for scores relative to a null distribution; 0: none; "
        "default: some for forward_inf, none for the other methods, which are defined without",
    ),
]
EmbedderFolder = Annotated[
    str | None,
    typer.Option("--embedder", help="the CLIP or DINOv2 checkpoint that the index was made with: folder or Hub id"),
]
FinishedTrials = Annotated[
    Path, typer.Option("--journal", help="folder of finished trials, which are not run again; default: those that ship")
]
Score = Annotated[str | None, typer.Option(help=help_of(settings.Score))]


def method_from(name: str, settings: list[str] | None, **flags: object) -> AttributionMethod:
    """The method with the settings given by flags and as `name=value`; raises InvalidRequest for unknown ones."""
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


def method_of_index(index: Path | None) -> str:
    """The name of the method that an index was built for, by default that of FORWARDINF_INDEX."""
    from ..index.info import read_info

    return read_info(load_settings(index=index).index).method


def null_pictures_for(method: AttributionMethod, given: int | None, usual: int) -> int:
    """The number of null pictures: as `NullPictures` says, else `usual` for what is held against a null by default."""
    return given if given is not None else usual if method.against_null else 0


def load_attributor(
    index: Path | None, tunable: str | None, cache: Path | None, **flags: str | int | None
) -> Attributor:
    """The attributor that flags and settings name."""
    from ..attribution.attributor import Attributor
    from ..attribution.executor import load_executor
    from ..index.store import Index

    settings = load_settings(index=index, **flags)
    executor, opened = load_executor(settings), Index.open(settings.index)
    spec = settings.model_spec(index_dtype=opened.info.dtype)
    return Attributor.load(opened, spec, tunable, cache, settings.embedder, executor)


def require_folder_of(file: Path | None) -> None:
    """Raise InvalidRequest, before any work is done, where a file's folder does not exist."""
    if file and not file.parent.is_dir():
        raise InvalidRequest(f"The folder “{file.parent}” does not exist. Make it first.")


def progress_bar(unit: str, total: int | None = None) -> tqdm:
    """A progress bar on stderr, shown only in a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, file=sys.stderr, leave=False, disable=None)


def reporting_to(bar: tqdm) -> Callable[[int, int], None]:
    """A callback of (done, total) that moves a bar."""

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return report


def tell(report: dict[str, Any], as_table: Callable[[dict[str, Any]], str], as_json: bool, out: Path | None) -> None:
    """Print a study's report as a table or as JSON, and write it to a file where one is named."""
    text = json.dumps(report, indent=1)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    typer.echo(text if as_json else as_table(report))
