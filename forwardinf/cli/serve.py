"""`forwardinf serve`: open the app in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import load_settings
from .options import Dtype, EmbedderFolder, IndexFolder, Lora, Model, RayAddress, RayWorkers, SweepExecutor, TorchDevice


def serve(
    model: Model = None,
    revision: Annotated[str | None, typer.Option(help="revision of a model from the Hub; pin a commit")] = None,
    family: Annotated[str | None, typer.Option(help="model family, to override what the checkpoint says")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="epsilon or v_prediction, where a single file does not say which")
    ] = None,
    lora: Lora = None,
    index: IndexFolder = None,
    embedder: EmbedderFolder = None,
    results: Annotated[Path | None, typer.Option(help="folder for finished attributions")] = None,
    review_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database of cases")] = None,
    signing_key: Annotated[
        Path | None, typer.Option(help="Ed25519 key (PEM) that evidence packs are signed with")
    ] = None,
    timestamp_url: Annotated[
        str | None, typer.Option(help="RFC 3161 server that evidence packs are stamped by")
    ] = None,
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
    users: Annotated[Path | None, typer.Option(help="file of those who may sign in")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="listen beyond this machine without sign-in")
    ] = None,
) -> None:
    """Open the app in the browser. What no flag says comes from FORWARDINF_MODEL, FORWARDINF_INDEX and so on."""
    flags = dict(locals())  # named as the settings are
    from ..web.build import serve as serve_app

    serve_app(load_settings(**flags))
