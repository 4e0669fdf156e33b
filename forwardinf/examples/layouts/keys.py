"""Which key of the rows gives each field of a training image, and what its values may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import InvalidRequest
from .protocol import Row
from .texts import kind_of

# The keys that people use for each field; where rows have several, the first of them counts.
ALIASES = {
    "file_name": ("file_name", "file", "filename", "image", "image_path", "path"),
    "text": ("text", "caption", "prompt"),
    "creator": ("creator", "author", "artist"),
    "licence": ("licence", "license"),
    "licence_url": ("licence_url", "license_url"),
    "source": ("source",),
    "url": ("url",),
    "split": ("split",),
    "repeats": ("repeats", "num_repeats"),
}


def parse_choices(choices: Iterable[str]) -> dict[str, str]:
    """Keys by field from `field=key`; an empty key is none. Raises InvalidRequest for anything else."""
    found: dict[str, str] = {}
    for choice in choices:
        field, equals, key = choice.partition("=")
        if not equals or field not in ALIASES:
            raise InvalidRequest(f"“{choice}” is no FIELD=KEY; the fields are: {', '.join(ALIASES)}.")
        if field in found:
            raise InvalidRequest(f"The key of {field} is given twice: “{found[field]}” and “{key}”.")
        found[field] = key
    return found


@dataclass(frozen=True)
class Keys:
    """The key of each field that the rows give, and the keys that are not read."""

    by_field: Mapping[str, str]
    unread: tuple[str, ...]
    chosen: frozenset[str]  # fields whose key somebody named

    @classmethod
    def among(cls, rows: Sequence[Row], choices: Mapping[str, str], where: str) -> Keys:
        """Chosen by what any of the rows has; raises InvalidRequest where none gives file names or captions."""
        there = dict.fromkeys(key for row in rows for key in row.fields)
        by_field: dict[str, str] = {}
        for field, aliases in ALIASES.items():
            if field in choices:
                if choices[field] and choices[field] not in there:
                    raise InvalidRequest(f"{where} has no key “{choices[field]}” for {field} ({_has(there, rows)}).")
                found = [choices[field]] if choices[field] else []
            else:
                found = [key for key in aliases if key in there and key not in choices.values()]
            if found:
                by_field[field] = found[0]
        if "file_name" not in by_field:
            raise InvalidRequest(
                f"{where} has no key that names files ({_has(there, rows)}). Say which with --key file_name=KEY."
            )
        if "text" not in by_field and choices.get("text") != "":
            raise InvalidRequest(
                f"{where} has no key that gives captions ({_has(there, rows)}). Say which with --key text=KEY, or "
                "--key text= if the model was trained without captions."
            )
        unread = tuple(key for key in there if key not in by_field.values())
        return cls(by_field, unread, frozenset(choices))

    def texts_of(self, row: Row, where: str) -> dict[str, str]:
        """A row's values by field, empty where it has none; raises InvalidRequest for what is not a text."""
        return {field: self._text(field, key, row, where) for field, key in self.by_field.items()}

    def _text(self, field: str, key: str, row: Row, where: str) -> str:
        if key not in row.fields and field not in self.chosen:
            others = [alias for alias in ALIASES[field] if alias in row.fields and alias in self.unread]
            if others:
                raise InvalidRequest(
                    f"{where} has “{others[0]}” where other rows have “{key}”. Use one key for {field} throughout."
                )
        value = row.fields.get(key)
        if field == "repeats" and type(value) is int:
            return str(value)
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise InvalidRequest(f"{where} has half a character (a lone surrogate) in “{key}”. Write it anew.")
            return value
        if value is None:
            return ""
        what = f"{where} has {kind_of(value)} as “{key}”, which gives {field}"
        if isinstance(value, list):
            raise InvalidRequest(f"{what}. Write one text: the first, the one trained with, or all of them in one.")
        raise InvalidRequest(f"{what}. Write a text in quotes, or null for none.")

    def described(self) -> str:
        """One line: where each field comes from, and what is not read."""
        given = ", ".join(field if field == key else f"{field} from “{key}”" for field, key in self.by_field.items())
        return given + (f"; not read: {', '.join(self.unread)}" if self.unread else "")


def _has(keys: Iterable[str], rows: Sequence[Row]) -> str:
    who = f"{rows[0].where} has" if len(rows) == 1 else f"{rows[0].where} and the others have"
    return f"{who}: {', '.join(keys) or 'none at all'}"
