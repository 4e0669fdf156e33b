"""The command line's `index push` and `index pull`: an index on the Hub, or at any URL that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..visible import visible
from .index_add import index


@index.command("push")
def index_push(
    folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    to: Annotated[
        str, typer.Argument(metavar="TO", help="data set of the Hub, OWNER/NAME, or a URL: s3://…, file:///…")
    ],
    public: Annotated[bool, typer.Option("--public", help="let everybody see a data set that is made for it")] = False,
) -> None:
    """Send an index to the Hub, as a data set with a card, or to a URL. It shows captions and thumbnails."""
    from ..index.places import place_of
    from ..index.sharing import push
    from ..index.store import Index

    opened, place = Index.open(folder), place_of(to, public=public)
    push(opened, place)
    typer.echo(f"{visible(place.name)}: {opened.info.examples:,} images, {opened.fingerprint[:12]}…")


@index.command("pull")
def index_pull(
    source: Annotated[str, typer.Argument(metavar="FROM", help="data set of the Hub, OWNER/NAME, or a URL")],
    out: Annotated[Path, typer.Option(help="new folder to write")],
    revision: Annotated[str | None, typer.Option(help="commit, branch or tag of a data set of the Hub")] = None,
) -> None:
    """Fetch an index, and verify every file of it."""
    from ..index.places import place_of
    from ..index.sharing import pull

    made = pull(place_of(source, revision), out)
    typer.echo(f"{out}: {made.info.examples:,} images, every file as recorded, {made.fingerprint[:12]}…")
