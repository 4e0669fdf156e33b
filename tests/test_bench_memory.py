"""The count of `make bench-memory`: what is held at once, and nothing that is gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def peak_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("memory", None)
    import memory

    monkeypatch.setattr(memory, "CORES", torch.get_num_threads())
    return memory.peak_of


def test_what_is_held_at_once_is_counted(peak_of):
    assert peak_of(lambda: [torch.zeros(256) for _ in range(5)]) == 5 * 1024


def test_what_is_gone_is_not(peak_of):
    def one_by_one() -> None:
        for _ in range(5):
            torch.zeros(256)

    assert peak_of(one_by_one) == 1024


def test_what_a_backward_needs_is_counted_and_views_are_not(peak_of):
    x = torch.ones(256, requires_grad=True)

    def chain() -> None:
        y = x
        for _ in range(4):
            y = y.exp()  # keeps its output
        y.view(16, 16).sum()

    assert peak_of(chain) == 4 * 1024 + 4
