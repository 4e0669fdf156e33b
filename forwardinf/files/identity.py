"""What names a result, a cache, a study's settings or an index: a digest of all that decides it."""

from __future__ import annotations

import hashlib
import hmac
import json


def canonical(value: object) -> bytes:
    """`value` as JSON that anyone writes to the same bytes: keys sorted, no white space, UTF-8 (RFC 8785).

    Numbers that are no integers are written as Python does, which RFC 8785 does too from 0.0001 up to 1e16. Raises
    ValueError for numbers that are not finite and TypeError for what is none of JSON's types.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def digest_of(ingredients: object, digits: int = 64) -> str:
    """SHA-256 of `ingredients` as canonical JSON, by its first hexadecimal digits.

    The order of an object's keys makes no difference, that of a list does. Raises ValueError for numbers that are not
    finite, as they do not equal themselves, and TypeError for what is none of JSON's types.
    """
    return hashlib.sha256(_written(ingredients)).hexdigest()[:digits]


def secret_digest_of(key: bytes, ingredients: object, digits: int) -> str:
    """The same as a name that nobody can foresee without `key` (HMAC-SHA-256)."""
    return hmac.new(key, _written(ingredients), hashlib.sha256).hexdigest()[:digits]


def _written(ingredients: object) -> bytes:
    return json.dumps(ingredients, sort_keys=True, allow_nan=False).encode()
