"""Decoding in a child process, under limits of memory, CPU time and wall-clock time.

A hostile file costs one short-lived process. The child has no secrets in its environment, and what it answers is
believed only as far as it is well-formed, as the file may have taken it over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import Image

from ...errors import UnreadablePicture
from .child import CPU_SECONDS, MAX_ANSWER
from .decoder import Decoded, decoder_warning
from .limits import EXPORT_AS_PNG, MAX_SIDE
from .slots import DecoderSlots

TIMEOUT = 30.0  # seconds of wall clock for one child; its limit of CPU time strikes first unless the machine is busy
MAX_WAIT = 45.0  # seconds for a free decoder; longer than TIMEOUT, so that the smallest file is never refused

SLOTS = DecoderSlots(2)  # each may take 1.5 GiB for a moment
DECODER = f"{__package__}.child"
_SIGXCPU = 24


def decode_apart(data: bytes, format: str) -> Decoded:
    """What `decoder.decode` gives, from a child process; raises UnreadablePicture also if the child takes too long,
    dies or gives no usable answer, or if no decoder is free in time.
    """
    answer, complaints = answered_apart(DECODER, format, data)
    decoded = _parsed(answer)
    return replace(decoded, notes=(*decoded.notes, *_complained(complaints)))


def answered_apart(child: str, format: str, data: bytes, packages: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """What `main(format)` of the module `child` answers to `data`, and the beginning of what it complains about.

    In a process of its own, which has `packages` beside those of the decoder; raises what `decode_apart` raises.
    """
    # Files, not pipes: the child's limit on file sizes bounds them. They have no names, so none is left over.
    with SLOTS.one(len(data), MAX_WAIT), tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
        _run_child(_command(child, format, packages), data, answer, complaints)
        answer.seek(0)
        complaints.seek(0)
        return answer.read(MAX_ANSWER), complaints.read(1000)


def _run_child(command: list[str], data: bytes, answer: IO[bytes], complaints: IO[bytes]) -> None:
    try:
        child = subprocess.run(command, input=data, stdout=answer, stderr=complaints, timeout=TIMEOUT, env=_ENVIRONMENT)
    except subprocess.TimeoutExpired as error:
        raise UnreadablePicture(f"took longer than {TIMEOUT:g} seconds to decode. {EXPORT_AS_PNG}") from error
    if child.returncode:
        raise UnreadablePicture(f"could not be decoded: {_cause_of_death(child.returncode)}. {EXPORT_AS_PNG}")


def _complained(text: bytes) -> list[str]:
    """A note of the first thing that the decoder printed; libtiff reports in this way what it works around."""
    lines = text.decode(errors="replace").replace("tempfile.tif: ", "").splitlines()
    return [decoder_warning("".join(filter(str.isprintable, lines[0])))] if lines else []


# Nothing secret, and no proxy: the child opens no connection. One BLAS thread, as each reserves address space, which
# the limit on memory counts.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | {
    key: os.environ[key] for key in ("LD_LIBRARY_PATH", "SYSTEMROOT") if key in os.environ
}


def _command(child: str, format: str, packages: Sequence[str]) -> list[str]:
    """Isolated (-I, -S: no user site, no .pth files), with the same packages that this process uses."""
    found = [find_spec(package) for package in ("forwardinf", "PIL", "numpy", "simplejpeg", *packages)]
    folders = dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin)
    start = f"import sys; sys.path.extend(sys.argv[2:]); from {child} import main; main(sys.argv[1])"
    return [sys.executable, "-I", "-S", "-c", start, format, *folders]


def _cause_of_death(returncode: int) -> str:
    if returncode > 0:
        return "its decoder failed"
    if -returncode == _SIGXCPU:
        return f"it takes more than {CPU_SECONDS} seconds of computing time"
    return f"its decoder was stopped (signal {-returncode}), as happens with damaged or hostile files"


def _parsed(answer: bytes) -> Decoded:
    line, _, pixels = answer.partition(b"\n")
    try:
        header = json.loads(line)
        if "refused" in header:
            raise UnreadablePicture(str(header["refused"])[:500])
        width, height = header["rgb_size"]
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(f"{width} × {height}")
        rgb = Image.frombytes("RGB", (width, height), pixels)
        stored_width, stored_height = (int(side) for side in header["size"])
        notes = tuple(str(note)[:200] for note in header["notes"][:20])
        return Decoded(rgb, str(header["mode"])[:10], (stored_width, stored_height), notes)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadablePicture(f"could not be decoded: its decoder gave no usable answer. {EXPORT_AS_PNG}") from error
