"""`make bench-looks` in small."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ASSETS


def test_the_benchmark_counts_right_captions_by_disguise_with_intervals():
    few = ["--images", "2", "--held-out", "3", "--part", "choosing", "--show"]
    command = [sys.executable, "benchmarks/looks.py", "--embedders", "unet", *few]
    ended = subprocess.run(command, cwd=ASSETS.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    counts = {
        name: (int(right), int(of)) for name, right, of in re.findall(r"^(\w.*?) +(\d+) of +(\d+)", ended.stdout, re.M)
    }
    disguises = ["mirrored", "turned", "recoloured", "bordered", "watermarked", "grey"]
    assert {name: of for name, (_, of) in counts.items()} == {
        **dict.fromkeys(disguises, 2),
        "held out": 3,
        "all disguises": 12,
    }
    assert counts["all disguises"][0] == sum(counts[name][0] for name in disguises)
    assert counts["held out"][0] == 3 - ended.stdout.count("(wrong)")
