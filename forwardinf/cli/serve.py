"""`forwardinf serve`: open the app in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import load_settings
from ..errors import InvalidRequest
from .options import Dtype, EmbedderFolder, PictureSize, RayAddress, RayWorkers, SweepExecutor, TorchDevice

Indexes = Annotated[
    list[Path] | None,
    typer.Option("--index", help="folder made by `index build`; repeatable, with a --model and a --lora for each"),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="checkpoint: folder or Hub id; one for all, or one for each index")
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE[:WEIGHT]", help="LoRA on the model; one for each index, empty for none"),
]


def serve(
    model: Models = None,
    revision: Annotated[str | None, typer.Option(help="revision of a model from the Hub; pin a commit")] = None,
    family: Annotated[str | None, typer.Option(help="model family, to override what the checkpoint says")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="epsilon or v_prediction, where a single file does not say which")
    ] = None,
    lora: Loras = None,
    index: Indexes = None,
    embedder: EmbedderFolder = None,
    results: Annotated[Path | None, typer.Option(help="folder for finished attributions")] = None,
    review_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database of cases")] = None,
    signing_key: Annotated[
        Path | None, typer.Option(help="Ed25519 key (PEM) that evidence packs are signed with")
    ] = None,
    timestamp_url: Annotated[
        str | None, typer.Option(help="RFC 3161 server that evidence packs are stamped by")
    ] = None,
    picture_size: PictureSize = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    executor: SweepExecutor = None,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
    allow_host: Annotated[
        str | None, typer.Option(help="further names that the app is served under, separated by commas")
    ] = None,
    build_root: Annotated[
        str | None, typer.Option(help="folders that indexes may be built from in the browser, separated by “:”")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="file of those who may sign in")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="listen beyond this machine without sign-in")
    ] = None,
) -> None:
    """Open the app in the browser. What no flag says comes from FORWARDINF_MODEL, FORWARDINF_INDEX and so on."""
    flags = dict(locals())  # named as the settings are
    named = [flags.pop(name) or [] for name in ("index", "model", "lora")]
    from ..web.serving import serve as serve_app

    first, *others = [load_settings(**flags, **one) for one in _together(*named)]
    serve_app(first, others)


def _together(indexes: list[Path], models: list[str], loras: list[str]) -> list[dict[str, Any]]:
    """The index, model and LoRA of each, in the order in which they were named; raises InvalidRequest."""
    count = max(1, len(indexes))
    if len(models) not in (0, 1, count) or len(loras) not in (0, count):
        raise InvalidRequest(
            f"There are {count} of --index, {len(models)} of --model and {len(loras)} of --lora. Name one of each for "
            "every index, in the same order; one --model is for all, and an empty --lora is none."
        )
    models = models * count if len(models) == 1 else models
    parts: dict[str, list[Any]] = {"index": indexes, "model": models, "lora": loras}
    return [{name: named[n] for name, named in parts.items() if named and named[n] != ""} for n in range(count)]
