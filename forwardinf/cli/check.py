"""`forwardinf index check`: does this training set belong to this model?"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import load_settings, parse_adapter
from ..errors import InvalidRequest
from ..visible import visible
from .options import Dtype, KeyChoices, TorchDevice
from .telling import Telling

if TYPE_CHECKING:
    from ..examples.belonging import Comparison
    from ..examples.catalog import Catalog


def index_check(
    folder: Path,
    lora: Annotated[
        str | None, typer.Option("--lora", metavar="FILE", help="LoRA whose metadata says what it was trained on")
    ] = None,
    key: KeyChoices = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="base model; LoRAs state the hash of a single file"),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="pictures of the same kind that it was not trained on, whose errors are compared; FOLDER itself for "
            "those of the split held_out in it"
        ),
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="index that should hold the folder's images")] = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
) -> None:
    """Hold a folder of training images against what a LoRA says of its training, its errors on them, and an index."""
    from ..examples.belonging import compared
    from ..examples.layouts.keys import parse_choices
    from ..examples.metadata import training_images
    from ..index.missing import missing_from
    from ..index.store import Index
    from ..models.adapter_file import read_adapter

    if lora is None and held_out is None and index is None:
        raise InvalidRequest(
            "There is nothing to compare with. Name a LoRA (--lora), other pictures (--held-out) or an index (--index)."
        )
    file = read_adapter(parse_adapter(lora).file) if lora else None
    images = training_images(folder, parse_choices(key or ()))
    found = compared(file.metadata, images, model) if file else []
    if held_out is not None:
        others = images.of_split("held_out") if held_out.resolve() == folder.resolve() else training_images(held_out)
        settings: dict[str, Any] = {"model": model and str(model), "lora": lora, "device": device, "dtype": dtype}
        found.append(_by_errors(images.of_split("train"), others, settings))
    if index is not None:
        found += missing_from(Index.open(index), images)
    for one in found:
        typer.echo(visible(f"{one.of:10} {one.verdict:10} {one.told}".rstrip()))


def _by_errors(trained: Catalog, held_out: Catalog, settings: dict[str, Any]) -> Comparison:
    from ..attribution.membership import in_words, membership_of
    from ..models.registry import load_model

    loaded = load_model(load_settings(**settings).model_spec())
    with closing(Telling()) as tell:
        return in_words(membership_of(loaded, trained, held_out, on_progress=partial(tell, "errors")))
