"""Text that people or their scripts wrote, in UTF-8 with or without a byte order mark."""

from __future__ import annotations

import codecs
import json
from typing import Any

from ...errors import InvalidRequest

_SAVE = "Save it as UTF-8."
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded(content: bytes, name: str) -> str:
    """The text of a file; raises InvalidRequest naming the file, the line and what it seems to be instead."""
    if content.startswith(_UTF_16) or b"\0" in content[:4]:
        raise InvalidRequest(f"“{name}” is UTF-16 or UTF-32, not UTF-8. {_SAVE}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(
            f"“{name}” line {line} is not UTF-8 but perhaps Latin-1 or Windows-1252. {_SAVE}"
        ) from error


def parsed_json(text: str, where: str) -> object:
    """A JSON value; raises InvalidRequest saying what is wrong with it, also where an object has a key twice."""

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InvalidRequest(f"{where} has the key “{key}” twice. Remove one of them.")
            found[key] = value
        return found

    try:
        value: object = json.loads(text, object_pairs_hook=without_repeats)
        return value
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"{where} is not JSON: {error.msg}, at {place}.") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        raise InvalidRequest(f"{where} is not JSON that can be read.") from error


def objects_only(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f'{where} is {kind_of(value)}, not an object such as {{"file_name": …, "text": …}}.')
    return value


def kind_of(value: object) -> str:
    """What JSON calls a value, with its article."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    names = {bool: "true or false", dict: "an object", str: "a text", type(None): "null", bytes: "bytes"}
    return names.get(type(value), "a number")
