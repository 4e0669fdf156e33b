"""The scripts beside this file, which Gradio runs in the browser."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("scripts")


def script(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
