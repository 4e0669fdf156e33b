"""The child process in which a file is searched for how it was generated: the file on stdin, JSON on stdout."""

from __future__ import annotations

import json
import sys

from ..decoding.child import limit_itself
from .generators import generation_in


def main(format: str) -> None:
    """Search stdin, inside limits that this process sets on itself before it reads a byte."""
    limit_itself()
    found = generation_in(sys.stdin.buffer.read(), format)
    sys.stdout.buffer.write(json.dumps(found).encode())
