"""Untrusted bytes to a canonical RGB picture, or a named refusal.

The bytes are hashed and their first few looked at here; everything else happens in a child process (`decoder`) under
limits of memory, CPU time and wall-clock time, so that a hostile file costs one short-lived process.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from ...errors import UnreadablePicture
from .decoder import MAX_ANSWER, MAX_SIDE, decode
from .signatures import format_of

MAX_BYTES = 30_000_000
TIMEOUT = 60.0  # seconds of wall clock; the child's limit of 20 seconds of CPU time strikes first on an idle machine

# At most this many decoders at once: each may take up to 1.5 GiB for a moment.
_SLOTS = threading.BoundedSemaphore(2)
_AGAIN = "Open it in an image editor, export it as PNG, and use that."


@dataclass(frozen=True)
class Picture:
    """An uploaded picture as everything downstream sees it, and how it came to look so."""

    rgb: Image.Image  # sRGB, upright, on white, at most 1024 px long; the file's own pixels where they already were so
    sha256: str  # of the bytes as they arrived
    format: str  # PNG, JPEG, WEBP, GIF, TIFF, BMP, AVIF
    original_size: tuple[int, int]  # width, height as stored
    original_mode: str  # Pillow's name for it: RGB, RGBA, P, I;16, F, CMYK, …
    notes: tuple[str, ...]  # one plain sentence for each thing that was converted


def read_picture(data: bytes, *, name: str = "picture") -> Picture:
    """The picture in `data`; raises UnreadablePicture saying what is wrong with `name` and what to try."""
    try:
        if len(data) > MAX_BYTES:
            limit = f"at most {MAX_BYTES // 10**6} MB are read"
            raise UnreadablePicture(f"has {len(data) / 1e6:,.1f} MB; {limit}. Save it smaller, or as JPEG.")
        format = format_of(data)
        rgb, header = _parsed(_decoded_apart(data, format))
    except UnreadablePicture as refusal:
        raise UnreadablePicture(f"“{_shown(name)}” {refusal}") from refusal
    digest = hashlib.sha256(data).hexdigest()
    return Picture(rgb, digest, format, tuple(header["size"]), header["mode"], tuple(header["notes"]))


def read_training_picture(path: Path) -> Image.Image:
    """An image of a training set just as `read_picture` would see it, in this process, as its folder is the user's own.

    Raises UnreadablePicture naming the file.
    """
    data = path.read_bytes()
    try:
        return decode(data, format_of(data)).rgb
    except UnreadablePicture as refusal:
        raise UnreadablePicture(f"“{_shown(path.name)}” {refusal}") from refusal


def to_square(picture_rgb: Image.Image, side: int) -> Image.Image:
    """The model's input: centred on white where it is not square, then resized to `side` × `side`.

    Whole-number reductions average blocks of pixels, as training does, so a training picture gives what training saw.
    """
    square = _padded(picture_rgb)
    if square.width == side:
        return square
    if square.width % side == 0:
        resampling = Image.Resampling.BOX
    elif square.width > side:
        resampling = Image.Resampling.LANCZOS  # weighs every pixel, so no aliasing, and blurs least of Pillow's filters
    else:
        resampling = Image.Resampling.BICUBIC
    return square.resize((side, side), resampling)


def _padded(rgb: Image.Image) -> Image.Image:
    side = max(rgb.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    return square


def _decoded_apart(data: bytes, format: str) -> bytes:
    """What the child answers; raises UnreadablePicture where it takes too long or dies."""
    # A file rather than a pipe for the answer: the child's limit on file sizes then bounds it.
    with _SLOTS, tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.run(
                _command(format),
                input=data,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT,
                env=_ENVIRONMENT,
            )
        except subprocess.TimeoutExpired as error:
            raise UnreadablePicture(f"took longer than {TIMEOUT:g} seconds to decode. {_AGAIN}") from error
        if child.returncode:
            raise UnreadablePicture(f"could not be decoded: {_died_of(child.returncode)}. {_AGAIN}")
        answer.seek(0)
        return answer.read(MAX_ANSWER)


# No tokens or other secrets; one BLAS thread, as each would reserve address space that the limit on memory counts.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | {
    key: os.environ[key] for key in ("LD_LIBRARY_PATH", "SYSTEMROOT") if key in os.environ
}


def _command(format: str) -> list[str]:
    """Isolated (-I, -S: no user site, no .pth files), with the very Pillow and numpy that this process would use."""
    packages = [find_spec(package) for package in ("forwardinf", "PIL", "numpy")]
    folders = dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in packages if spec and spec.origin)
    start = f"import sys; sys.path.extend(sys.argv[2:]); from {__name__}.decoder import main; main(sys.argv[1])"
    return [sys.executable, "-I", "-S", "-c", start, format, *folders]


def _died_of(returncode: int) -> str:
    if returncode > 0:
        return "its decoder failed"
    if -returncode == _SIGXCPU:
        return "it takes too much computing time"
    return f"its decoder was stopped (signal {-returncode}), as happens with damaged or hostile files"


_SIGXCPU = 24


def _parsed(answer: bytes) -> tuple[Image.Image, dict[str, Any]]:
    """The child's answer, believed only as far as it is well-formed: the child may have been taken over."""
    line, _, pixels = answer.partition(b"\n")
    try:
        header = json.loads(line)
        if "refused" in header:
            raise UnreadablePicture(str(header["refused"])[:500])
        width, height = header["rgb_size"]
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(f"{width} × {height}")
        rgb = Image.frombytes("RGB", (width, height), pixels)
        stored = tuple(int(side) for side in header["size"])
        notes = [str(note)[:200] for note in header["notes"][:20]]
        return rgb, {"size": stored, "mode": str(header["mode"])[:10], "notes": notes}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadablePicture(f"could not be decoded: its decoder gave no usable answer. {_AGAIN}") from error


def _shown(name: str) -> str:
    """The file's own name, without folders or characters that would not print."""
    printable = "".join(character for character in PurePath(name).name if character.isprintable())
    return printable if len(printable) <= 80 else f"{printable[:60]}…{printable[-15:]}"
