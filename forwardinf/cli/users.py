"""`forwardinf users`: who may sign in to an app that listens beyond this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import load_settings
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..web.guard.users import Users

users = typer.Typer(no_args_is_help=True, help="Who may sign in to the app.")

File = Annotated[Path | None, typer.Option("--users", help="file of users; by default below the user's home")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="what the user signs in by, and decisions are signed with")]


@users.command("add")
def users_add(
    name: Name,
    role: Annotated[str, typer.Option(help="reviewer: asks, uploads and decides; viewer: only sees")] = "viewer",
    file: File = None,
) -> None:
    """Let a user sign in, or give one another role or password.

    The password is asked for; where nobody can be asked, it is taken from FORWARDINF_PASSWORD, or the first line of
    standard input.
    """
    from ..web.guard.users import Role

    if role not in list(Role):
        raise InvalidRequest(f"There is no role “{role}”. Try {' or '.join(Role)}.")
    kept = _opened(file)
    user = kept.add(name, Role(role), _password())
    typer.echo(f"{kept.path.name}: {user.name}, {user.role}")


@users.command("list")
def users_list(file: File = None) -> None:
    """Name the users and their roles."""
    for user in _opened(file).named():
        typer.echo(f"{user.name}: {user.role}")


@users.command("remove")
def users_remove(name: Name, file: File = None) -> None:
    """Let a user sign in no more, and end their sessions at once."""
    _opened(file).remove(name)
    typer.echo(f"{name}: removed")


def _opened(file: Path | None) -> Users:
    from ..web.guard.users import Users

    return Users(load_settings(users=file).users_file)


def _password() -> str:
    if given := os.environ.get("FORWARDINF_PASSWORD"):
        return given
    if sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return sys.stdin.readline().rstrip("\r\n")
