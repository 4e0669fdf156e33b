"""`make bench-gpu` in small: every section runs, and the report has its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ASSETS


def test_the_benchmark_runs_in_small_on_a_cpu(tmp_path: Path):
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--device", "cpu", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ASSETS.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    sections = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert len(sections) == 9
    assert not [name for name, found in sections.items() if "failed" in found], sections
    shipped = sections["Scores of the shipped model"]
    assert "left out" in shipped or shipped["correlation"] > 0.9999
    report = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert all(f"## {name}\n" in report for name in sections)
