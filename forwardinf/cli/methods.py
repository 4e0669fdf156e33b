"""`forwardinf methods`: every method's settings as they are declared, which is also the table in docs/."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def methods() -> None:
    """List the settings of every method, with defaults and what they do."""
    typer.echo(settings_table())


def settings_table() -> str:
    """A row for each setting, in Markdown: what it does, what it may be, and each method's default."""
    from ..methods.registry import method_class, method_names

    by_setting: dict[str, dict[str, FieldInfo]] = {}
    for method in method_names():
        for name, field in method_class(method).model_fields.items():
            by_setting.setdefault(name, {})[method] = field
    rows = ["| setting | meaning | values | default |", "|---|---|---|---|"]
    for name, fields in sorted(by_setting.items()):
        meaning = "; ".join(dict.fromkeys(str(field.description) for field in fields.values()))
        values = "; ".join(dict.fromkeys(_values(field) for field in fields.values()))
        rows.append(f"| `{name}` | {meaning} | {values} | {_defaults(fields)} |")
    return "\n".join(rows)


def _values(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    kind = "whole number" if field.annotation is int else "number"
    return " ".join([kind, *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            limit = getattr(bound, name, None)
            if limit is not None and limit < 2**63:
                yield f"{sign} {limit:g}"


def _defaults(fields: dict[str, FieldInfo]) -> str:
    """Each default with the methods that have it, most methods first."""
    by_default: dict[str, list[str]] = {}
    for method, field in fields.items():
        by_default.setdefault(_literal(field.default), []).append(method)
    return "; ".join(f"`{default}`: {', '.join(names)}" for default, names in by_default.items())


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
