"""The child process in which an index is built: what to build as JSON in its argument, lines of JSON on stdout.

It ends at once when its parent does, whose end of its stdin is closed then; the same build then goes on where this one
was cut off.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def say(**fields: str | int) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Build, or say why not."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(5)  # questions are answered meanwhile
    asked = json.loads(sys.argv[1])
    from ..errors import ForwardInfError

    try:
        say(finished=_built(asked))
    except ForwardInfError as refusal:
        say(refused=str(refusal))


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # past Python's buffer, whose lock would be held when this process ends
        pass
    os._exit(1)


def _built(asked: dict[str, Any]) -> str:
    """The fingerprint of the index."""
    from ..attribution.build_whole import WholePlan, build_whole
    from ..config import load_settings
    from ..examples.metadata import read_training_folder
    from ..models.registry import load_model

    def told(stage: str, done: int, total: int) -> None:
        say(stage=stage, done=done, total=total)

    read = read_training_folder(
        Path(asked["source"]), decode=True, on_progress=lambda done, total: told("reading", done, total)
    )
    say(stage="loading the model", done=0, total=1)
    settings = load_settings(model=asked["model"], lora=asked["lora"] or None, device=asked["device"])
    model = load_model(settings.model_spec())
    return build_whole(model, read, Path(asked["out"]), WholePlan(), told).fingerprint


if __name__ == "__main__":
    main()
