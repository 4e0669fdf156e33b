"""Checking zlib streams without keeping what they unpack to."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator


def unpacked_size(parts: Iterable[bytes | memoryview], at_most: int) -> int | None:
    """Bytes that a stream in several parts unpacks to, or a number above `at_most` if more; None if its end is missing.

    Raises zlib.error if it is damaged, also if only its checksum (Adler-32) tells.
    """
    inflater = zlib.decompressobj()
    size = 0
    for output in _outputs(inflater, parts):
        size += output
        if size > at_most:
            return size
    return size if inflater.eof else None


def _outputs(inflater: zlib._Decompress, parts: Iterable[bytes | memoryview]) -> Iterator[int]:
    """Bytes unpacked from each small piece, so that neither a bomb nor a long remainder is ever held or copied."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), 1 << 16):
            pending: bytes | memoryview = view[start : start + (1 << 16)]
            while pending and not inflater.eof:
                yield len(inflater.decompress(pending, 1 << 20))
                pending = inflater.unconsumed_tail
