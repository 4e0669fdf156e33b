"""The child process in which untrusted bytes are decoded: a file on stdin, a picture or a refusal on stdout.

The answer is one line of JSON: either `{"refused": "..."}`, or `{"mode", "size", "notes", "rgb_size"}` followed by
width × height × 3 raw bytes of RGB. Nothing is pickled.
"""

from __future__ import annotations

import json
import sys

from ...errors import UnreadablePicture
from .decoder import decode
from .limits import MAX_SIDE

MAX_ANSWER = MAX_SIDE * MAX_SIDE * 3 + 65_536
MEMORY = 3 << 29  # bytes of address space; the hungriest picture tried, 40 Mpx of WebP with alpha, takes 0.85 GiB
CPU_SECONDS = 4


def main(format: str) -> None:
    """Decode stdin to stdout, inside limits that this process sets on itself before it reads a byte."""
    limit_itself()
    out = sys.stdout.buffer
    try:
        picture = decode(sys.stdin.buffer.read(), format)
    except UnreadablePicture as refusal:
        out.write(json.dumps({"refused": str(refusal)}).encode() + b"\n")
        return
    header = {"mode": picture.mode, "size": picture.size, "notes": picture.notes, "rgb_size": picture.rgb.size}
    out.write(json.dumps(header).encode() + b"\n" + picture.rgb.tobytes())


def limit_itself() -> None:
    """Bounds this process's CPU time, memory and file sizes, within what it is allowed already."""
    if sys.platform == "win32":  # has no such limits: the limit on pixels and the parent's timeout remain
        return
    import resource

    def lower(limit: int, most: int, hard: int) -> None:
        allowed = resource.getrlimit(limit)[1]
        hard = hard if allowed == resource.RLIM_INFINITY else min(hard, allowed)
        resource.setrlimit(limit, (min(most, hard), hard))

    lower(resource.RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1)
    lower(resource.RLIMIT_FSIZE, MAX_ANSWER, MAX_ANSWER)
    lower(resource.RLIMIT_CORE, 0, 0)
    if sys.platform == "linux":  # macOS refuses to lower this one
        lower(resource.RLIMIT_AS, MEMORY, MEMORY)
