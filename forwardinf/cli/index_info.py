"""The command line's `index info`, `credits` and `verify`: what an index was made with and of."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from .index import index


@index.command("info")
def index_info(folder: Path) -> None:
    """What an index was made with, as JSON."""
    from ..index.info import read_info

    typer.echo(json.dumps(asdict(read_info(folder)), indent=1))


@index.command("credits")
def index_credits(folder: Path) -> None:
    """The sources of an index's images as CSV: creator, licence, address and number of images, for a summary."""
    from ..index.store import Index
    from ..records.csv import credits_as_csv

    typer.echo(credits_as_csv(Index.recorded_in(folder).catalog), nl=False)


@index.command("verify")
def index_verify(folder: Path) -> None:
    """Check every file of an index against its manifest."""
    from ..index.store import Index

    opened = Index.open(folder)
    typer.echo(f"{folder}: {opened.info.examples:,} images, every file as recorded, {opened.fingerprint[:12]}…")
