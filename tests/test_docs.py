"""README, CONTRIBUTING and the pages of docs/ say what is there: links, commands, settings, methods, figures."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from conftest import ASSETS
from forwardinf.cli.main import app
from forwardinf.cli.methods import settings_table
from forwardinf.config import Settings
from forwardinf.examples.layouts.keys import ALIASES
from forwardinf.records.upgrade import read_record
from forwardinf.studies import summary
from forwardinf.studies.applications import registry
from forwardinf.studies.reports import read_reports

ROOT = ASSETS.parent
README, COMMANDS = ROOT / "README.md", ROOT / "docs/command-line.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CLI = typer.main.get_command(app)
LONG = re.compile(r"--[a-z][a-z-]*")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands between backticks outside of blocks, on one line."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(group: click.Command = CLI, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command by its words, without `forwardinf`."""
    found = {path: group}
    for name, command in getattr(group, "commands", {}).items():
        found |= commands(command, (*path, name))
    return found


KNOWN = commands()
LEAVES = {path: command for path, command in KNOWN.items() if not hasattr(command, "commands")}


def options_of(command: click.Command) -> set[str]:
    named = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {name for name in named if name.startswith("-")} | {"--help"}


def faults_of(line: str) -> list[str]:
    """What of a `forwardinf …` command line is not there: the command, or options of it."""
    words = [word for word in shlex.split(line, comments=True) if word not in ("…", "NAME", "COMMAND")]
    path: tuple[str, ...] = ()
    rest = words[1:]
    while rest and (*path, rest[0]) in KNOWN:
        path, rest = (*path, rest[0]), rest[1:]
    if path not in LEAVES and rest and not rest[0].startswith("-"):
        return [f"{' '.join(path)} {rest[0]}"]
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in options_of(KNOWN[path])]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)}


def test_readme_is_short():
    assert len(text_of(README).splitlines()) <= 150


@each_page
def test_every_relative_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


@each_page
def test_every_command_line_shown_can_be_run(page: Path):
    shown = [line for block in blocks(page, "sh") for line in block.splitlines()] + spans(page)
    for line in shown:
        if line.startswith("forwardinf ") and "/" not in line.split()[1]:
            assert not faults_of(line), line


def test_the_check_sees_what_is_not_there():
    assert faults_of("forwardinf attribute a.png --top 3 --json") == []
    assert faults_of("forwardinf attribute a.png --nothing 3") == ["--nothing"]
    assert faults_of("forwardinf index rebuild x") == ["index rebuild"]
    assert faults_of("forwardinf study all --queries 3") == ["--queries"]


@each_page
def test_every_option_named_in_passing_exists(page: Path):
    known = set().union(*map(options_of, KNOWN.values()), {"--rm", "--ff-only", "--repo-type"})
    for span in spans(page):
        assert set(LONG.findall(span)) <= known, span


def test_every_command_and_option_is_documented():
    told = text_of(COMMANDS) + text_of(ROOT / "docs/training-the-shipped-model.md")
    for path, command in LEAVES.items():
        assert " ".join(path) in told, path
        undocumented = {name for name in options_of(command) - {"--help"} if f"`{name}" not in told}
        assert not undocumented, (path, undocumented)


def test_every_setting_is_documented_and_every_documented_one_exists():
    sources = "".join(map(text_of, (ROOT / "forwardinf").rglob("*.py")))
    settings = {f"FORWARDINF_{name.upper()}" for name in Settings.model_fields}
    read = settings | set(re.findall(r'environ\S*[\["(](FORWARDINF_[A-Z]+)', sources))
    variable = re.compile(r"FORWARDINF_[A-Z_]+[A-Z]")
    assert set(variable.findall(text_of(COMMANDS))) == read
    for page in PAGES:
        assert set(variable.findall(text_of(page))) <= read, page.name


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        for name in re.findall(r"\bmake ([a-z-]+)", "\n".join(spans(page) + blocks(page, "sh"))):
            assert name in targets, (page.name, name)


def method_files() -> set[str]:
    files = {path.stem for path in (ROOT / "forwardinf/methods").glob("*.py")}
    return {name for name in files if hasattr(importlib.import_module(f"forwardinf.methods.{name}"), "METHOD")}


def test_the_settings_of_methods_are_documented_as_they_are_declared():
    (told,) = re.findall(r"<!-- what `forwardinf methods` prints -->\n(.*?)\n<!--", text_of(COMMANDS), re.DOTALL)
    assert told == settings_table()


def test_every_method_has_a_row():
    table = text_of(COMMANDS).partition("## Methods")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == method_files()


def test_every_module_and_test_named_exists():
    folders, path = (ROOT, ROOT / "forwardinf"), re.compile(r"[\w/.]+/([\w.]+\.(py|md|svg|parquet))?")
    named = [span for page in PAGES for span in spans(page) if path.fullmatch(span)]
    assert "tests/test_layers.py" in named
    assert [span for span in named if not any((folder / span).exists() for folder in folders)] == []


def test_readmes_figures_are_those_of_the_reports():
    told = summary.as_markdown(read_reports(ASSETS / "studies"))
    section = text_of(README).partition("## How good it is")[2].partition("\n## ")[0]
    figures = re.findall(r"\d+\.\d+", section)
    assert len(figures) >= 8
    assert [figure for figure in figures if figure not in told] == []


def test_the_tables_of_uses_are_those_of_the_reports():
    told = text_of(ROOT / "docs/applications.md")
    reports = sorted((ASSETS / "studies/applications").glob("*.json"))
    assert {report.stem for report in reports} == set(registry.studies())
    for report in reports:
        table = registry.as_table([json.loads(report.read_text(encoding="utf-8"))])
        assert table.partition("\n\n")[2].strip() in told, report.name


def test_readmes_answers_are_those_that_ship():
    told = text_of(README).partition("## Three answers")[2].partition("\n## ")[0]
    records = [read_record(path.read_text(encoding="utf-8")) for path in (ASSETS / "answers").glob("*/record.json")]
    rows = re.findall(r"\| ([\d.]+) \| ([\d.]+) \|$", told, re.MULTILINE)
    assert len(rows) == 3
    shipped = {(f"{r.results[0].score:.1f}", f"{r.confidence.threshold:.1f}") for r in records}
    assert set(rows) <= shipped


def test_python_shown_imports_what_is_there():
    names = []
    for block in (block for page in PAGES for block in blocks(page, "python")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("forwardinf"):
                names += [(node.module, alias.name) for alias in node.names]
    assert names
    assert [(module, name) for module, name in names if not hasattr(importlib.import_module(module), name)] == []


def test_keys_of_metadata_are_those_that_are_read():
    section = text_of(COMMANDS).partition("### Training images")[2].partition("\n## ")[0]
    documented: dict[str, tuple[str, ...]] = {}
    for fields, keys in re.findall(r"^\| (`.*?`) \| (`.*?`) \|", section, re.MULTILINE):
        for field, read_from in zip(fields.split(", "), keys.split("; "), strict=True):
            documented[field.strip("`")] = tuple(re.findall(r"`(\w+)`", read_from))
    assert documented == ALIASES
    shown = [json.loads(block) for page in (README, COMMANDS) for block in blocks(page, "json")]
    assert shown
    for line in shown:
        assert {"file_name", "text"} <= line.keys() <= set().union(*ALIASES.values())


def test_the_docker_image_is_of_what_is_pinned_and_of_what_is_here():
    recipe, pinned = text_of(ROOT / "Dockerfile"), text_of(ROOT / "requirements.txt").splitlines()
    for page in (recipe, text_of(README)):
        for requirement in re.findall(r"\b[a-z-]+==[\d.]+\d", page):
            assert requirement in pinned, requirement
    oldest = re.search(r'requires-python = ">=([\d.]+)"', text_of(ROOT / "pyproject.toml"))
    assert oldest
    assert f"FROM python:{oldest[1]}-" in recipe
    copied = [name for line in re.findall(r"^COPY (?:--\S+ )*(.*) \S+$", recipe, re.MULTILINE) for name in line.split()]
    assert "requirements.txt" in copied
    assert all((ROOT / name).exists() for name in copied)
    variable = re.compile(r"FORWARDINF_(\w+)=")
    assert {name.lower() for name in variable.findall(recipe)} <= set(Settings.model_fields)
    assert 'CMD ["python", "app.py"]' in recipe
