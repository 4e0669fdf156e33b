"""`forwardinf study applications`: what the hypothesis is good for beside pictures, each use by a study of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import STUDIES, WORK, AsJson
from .study import study

QUICK = WORK / "quick"


@study.command("applications")
def applications(
    only: Annotated[list[str] | None, typer.Option("--only", help="a use; may be repeated; default: all")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small, in minutes; too small for conclusions")] = False,
    reports: Annotated[Path | None, typer.Option(help="folder of the reports; what is there is not run again")] = None,
    as_json: AsJson = False,
) -> None:
    """Study each use that the paper names, beside its rivals, and print their figures; resumes."""
    from ..studies.applications import registry

    folder = reports or (QUICK if quick else STUDIES) / "applications"
    found = []
    for name in only or registry.studies():
        one = registry.require(name)
        typer.echo(f"{one.TITLE} …", err=True)
        found.append(registry.reported(one, folder, quick))
    typer.echo(json.dumps(found, indent=1) if as_json else registry.as_table(found))
