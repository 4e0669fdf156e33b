"""The command line: `forwardinf generate | attribute | index | study | serve | users | artwork | train | model`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ASSETS, load_settings
from ..errors import ForwardInfError, InvalidRequest
from ..methods import settings
from ..methods.settings import help_of
from ..visible import visible
from .answers import answers
from .case import case
from .counterfactual import counterfactual
from .evidence import study
from .index_share import index
from .methods import methods
from .model import model_group
from .options import (
    WORK,
    AsJson,
    Direction,
    Dtype,
    EmbedderFolder,
    IndexFolder,
    IndexMethod,
    Lora,
    LossBudget,
    MethodSettings,
    Model,
    PictureSize,
    RayAddress,
    RayWorkers,
    Score,
    Steps,
    SweepExecutor,
    TorchDevice,
    Tunable,
    load_attributor,
    method_from,
    method_of_index,
    progress_bar,
    require_folder_of,
)
from .proof import verify
from .regenerate import regenerate
from .serve import serve
from .train import train
from .users import users as users_group

if TYPE_CHECKING:
    from ..attribution.answer import Answer
    from ..attribution.attributor import Attributor
    from ..attribution.shortlist import Effort
    from ..examples.decoding import Picture
    from ..methods.protocol import AttributionMethod
    from ..records.record import GenerationRecord
    from ..types import ModelSpec, Query

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Which training images made this picture?")
artwork = typer.Typer(no_args_is_help=True, help="The shipped training set.")
app.add_typer(index, name="index")
app.add_typer(study, name="study")
app.command()(methods)
app.command()(verify)
app.command()(regenerate)
app.command()(counterfactual)
app.command()(serve)
app.add_typer(artwork, name="artwork")
app.add_typer(train, name="train")
app.add_typer(model_group, name="model")
app.add_typer(answers, name="answers")
app.add_typer(case, name="case")
app.add_typer(users_group, name="users")

EMOJI = ASSETS / "emoji"

Prompt = Annotated[str | None, typer.Option(help="what the picture was generated from; by default what its file says")]
FULL = (errno.ENOSPC, errno.EDQUOT)
GOES_ON = "builds, studies and sweeps with a journal go on from what was finished"


@app.command()
def generate(
    prompt: str,
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write; its ending says the format")],
    seed: int = 0,
    steps: int = 25,
    guidance: float = 5.0,
    model: Model = None,
    lora: Lora = None,
    picture_size: PictureSize = None,
    device: TorchDevice = None,
) -> None:
    """Generate a picture with the model."""
    from ..models.generation import GenerationRequest
    from ..models.registry import load_model
    from ..records.reading import reading_notes

    request = GenerationRequest(prompt, seed, steps, guidance)
    if out.suffix.lower() not in (".png", ".webp", ".jpg", ".jpeg"):
        raise InvalidRequest(f"“{out.name}” does not end in .png, .webp or .jpg, so its format is unknown.")
    require_folder_of(out)
    settings = load_settings(model=model, lora=lora, picture_size=picture_size, device=device)
    loaded = load_model(settings.model_spec())
    for note in reading_notes(loaded, prompt):
        typer.echo(visible(note), err=True)
    loaded.generate(request).save(out)
    typer.echo(f"{out}: “{prompt}”, seed {seed}, {steps} steps, guidance {guidance:g}")


@app.command()
def attribute(
    picture: Path,
    prompt: Prompt = None,
    index: IndexFolder = None,
    model: Model = None,
    lora: Lora = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    executor: SweepExecutor = None,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    method: IndexMethod = None,
    tunable: Tunable = None,
    steps: Steps = None,
    direction: Direction = None,
    loss_budget: LossBudget = None,
    score: Score = None,
    setting: MethodSettings = None,
    seed: Annotated[int | None, typer.Option(help=help_of(settings.Seed))] = None,
    cache: Annotated[Path | None, typer.Option(help="folder for what a method computes once for all queries")] = None,
    journal: Annotated[Path | None, typer.Option(help="folder of finished tasks, which are not run again")] = None,
    top: Annotated[int, typer.Option(min=1, help="how many images to list")] = 10,
    every: Annotated[bool, typer.Option("--all", help="weigh every training image, not only the likely ones")] = False,
    seconds: Annotated[float | None, typer.Option(help="time limit; answers with what is weighed by then")] = None,
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="file to write with every image, best first")] = None,
) -> None:
    """List the training images that shaped a picture most, by estimated influence."""
    from ..attribution.shortlist import Effort
    from ..records.csv import as_csv
    from ..records.origin import with_origin
    from ..records.recording import matches_of, record_of
    from ..records.text import as_table

    require_folder_of(csv)
    flags = {"steps": steps, "direction": direction, "loss_budget": loss_budget, "score": score, "seed": seed}
    by = method_from(method or method_of_index(index), setting, **flags)
    effort, (original, read) = None if every else Effort.to_decide(top, seconds), _read(picture)
    where = {"executor": executor, "ray_address": ray_address, "ray_workers": ray_workers}
    given = {"model": model, "lora": lora, "embedder": embedder, "device": device, "dtype": dtype, **where}
    attributor = replace(load_attributor(index, tunable, cache, **given), journal=journal)
    prompt, origin = _asked(prompt, original, attributor.model.spec)
    query, start = attributor.query(read.rgb, prompt, read.sha256), time.perf_counter()
    answer, seconds = _answered(attributor, query, by, effort), round(time.perf_counter() - start, 1)
    notes, name = _notes(read, attributor, query), picture.name
    record = with_origin(record_of(answer, attributor.index, top, notes=notes, file_name=name, seconds=seconds), origin)
    typer.echo(record.to_json() if as_json else as_table(record), nl=not as_json)
    if csv:
        csv.write_text(as_csv(record, matches_of(answer, attributor.index.catalog)), encoding="utf-8", newline="")


def _read(file: Path) -> tuple[bytes, Picture]:
    from ..examples.decoding import read_picture

    if not file.is_file():
        raise InvalidRequest(f"There is no file “{file}”.")
    original = file.read_bytes()
    return original, read_picture(original, name=file.name)


def _asked(prompt: str | None, original: bytes, spec: ModelSpec) -> tuple[str, GenerationRecord | None]:
    """The prompt to ask with, which is the file's where none is given, and what the file says; the first is told."""
    from ..records.origin import compared, facts_of, searched

    stated, unread = searched(original)
    if unread:
        typer.echo(unread, err=True)
    if stated is None:
        return prompt or "", None
    if prompt is None and stated.prompt:
        prompt, facts = stated.prompt, facts_of(stated)
        typer.echo(f"The prompt in the file is used: “{prompt}”{facts and f' ({facts})'}.", err=True)
    return prompt or "", compared(stated, spec)


def _notes(read: Picture, attributor: Attributor, query: Query) -> tuple[str, ...]:
    """What was converted when the picture was read, and what of the prompt was not read."""
    from ..records.reading import reading_notes

    return (*read.notes, *reading_notes(attributor.model, query.fallback_caption or query.prompt))


def _answered(attributor: Attributor, query: Query, by: AttributionMethod, effort: Effort | None) -> Answer:
    from ..attribution.answer import answer_of

    with progress_bar("img") as bar:
        for progress in attributor.follow(query, by, effort):
            bar.total = progress.total
            bar.update(progress.done - bar.n)
    return answer_of(attributor, query, by, progress)


@artwork.command("build")
def artwork_build(
    out: Annotated[Path, typer.Option(help="folder for pictures and catalog")] = EMOJI,
    downloads: Annotated[Path, typer.Option(help="folder for the downloaded packages")] = WORK / "downloads",
) -> None:
    """Gather the four emoji collections from the npm registry and write pictures and catalog."""
    from ..training.artwork import build_artwork

    typer.echo(build_artwork(out, downloads))


@artwork.command("verify")
def artwork_verify(folder: Annotated[Path, typer.Argument(help="folder of pictures and catalog")] = EMOJI) -> None:
    """Check the catalog against its manifest, and every picture against the catalog."""
    from ..examples.catalog import Catalog

    catalog = Catalog.load(folder)
    catalog.verify()
    typer.echo(f"{folder}: {len(catalog.images):,} pictures, each as catalogued")


def main() -> None:
    """Entry point: an error raised on purpose, or a full disk, is one line on stderr and exit status 2."""
    try:
        app()
    except ForwardInfError as error:
        typer.echo(f"forwardinf: {visible(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        name = f" on which “{Path(error.filename).name}” was to be written" if error.filename else ""
        typer.echo(f"forwardinf: The disk{name} is full. Make room, and run the same again: {GOES_ON}.", err=True)
        sys.exit(2)
