"""Who may import whom, checked on the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "forwardinf"

# The rooms from the ground up: a room imports itself and the rooms above it in this list.
ROOMS = (
    *("types", "errors", "visible", "stopping", "config", "draws", "files", "examples", "models", "embedders"),
    *("sweep", "gradients", "index", "scoring", "methods", "attribution", "records", "jobs"),
    *("review", "training", "studies", "web", "cli"),
)
ALLOWED = {room: {*ROOMS[:number], room, "__version__"} for number, room in enumerate(ROOMS)}
ALLOWED["types"] = ALLOWED["errors"] = {"__version__"}
ALLOWED["web"] -= {"training", "studies"}  # what is shown was made beforehand
# Where a library may be imported: in a room, or in a single file.
LIBRARIES = {
    "gradio": {"web"},
    "jinja2": {"review", "web"},
    "diffusers": {"models", "training"},
    "transformers": {"embedders", "models", "training"},
    "peft": {"models", "training"},
    "faiss": {"index"},
    "ray": {"sweep/executors/ray.py"},
    "sqlalchemy": {"review"},
    "alembic": {"review"},
    "fpdf": {"review"},
    "c2pa": {"examples"},
    "argon2": {"web"},
    "itsdangerous": {"web"},
    "sd_parsers": {"examples"},
}
# Rooms that know a model only by what the protocols say of it, so that a new family is one file.
BY_PROTOCOL = {"sweep", "gradients", "index", "scoring", "methods"}
LONGEST_MODULE, LONGEST_FUNCTION = 300, 50  # lines


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, relative ones resolved."""
    package = ("forwardinf", *path.relative_to(PACKAGE).parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import manifest` names a module; `from .manifest import x` names something in one.
            names |= {f"{stem}.{alias.name}" for alias in node.names} if not node.module else {stem}
    return names


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_its_room_may(path: Path):
    room = room_of(path)
    allowed = ALLOWED[room]
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "forwardinf" and len(parts) > 1:
            assert parts[1] in allowed, f"{path.name} in {room} imports {name}"
        if name.startswith("forwardinf.models") and room in BY_PROTOCOL:
            assert name == "forwardinf.models.protocol", f"{path.name} in {room} imports {name}"
        if parts[0] in LIBRARIES:
            places = {room, path.relative_to(PACKAGE).as_posix()}
            assert places & LIBRARIES[parts[0]], f"{path.name} in {room} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_are_short(path: Path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


def test_the_check_sees_relative_imports(tmp_path: Path):
    assert "forwardinf.files.atomic" in imports_of(PACKAGE / "index" / "build.py")
    assert "forwardinf.errors" in imports_of(PACKAGE / "files" / "manifest.py")


def test_the_package_imports_without_gradio_torch_or_ray():
    libraries = ["gradio", "torch", "ray", "diffusers", "faiss", "sqlalchemy"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({libraries})); "
    rooms = ("errors", "config", "types", "models", "embedders", "index.neighbours", "cli")
    modules = ", ".join(["forwardinf", *(f"forwardinf.{room}" for room in rooms)])
    done = subprocess.run([sys.executable, "-c", blocked + f"import {modules}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
