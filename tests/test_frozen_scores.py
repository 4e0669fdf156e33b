"""Scores as they were before the core was rebuilt: six queries by forward_inf, one by one rival of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.progress import AttributionProgress
from forwardinf.methods.registry import load_method

FROZEN = Path(__file__).parent / "frozen"
PROMPTS: Mapping[str, str] = json.loads((FROZEN / "queries.json").read_text(encoding="utf-8"))["queries"]
SCORES = np.load(FROZEN / "scores.npz")
WHOLE = "drawn-apple"  # of which the score of every image is compared
RIVALS = ("abu", "mucs", "tracin", "similarity", "dtrak")
# Of the largest score: within 1e-5 on the machine they were taken on, within 2e-4 on processors that round otherwise.
TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def attributor() -> Iterator[Attributor]:
    """With two threads, as the scores were taken: a gradient by one thread sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield Attributor.load()
    torch.set_num_threads(before)


def every(attributor: Attributor, step: int) -> Attributor:
    ids = [image.id for image in attributor.index.catalog.images][::step]
    return replace(attributor, index=attributor.index.part(ids))


def finished(attributor: Attributor, method: str, query: str) -> AttributionProgress:
    with Image.open(FROZEN / f"{query}.png") as picture:
        asked = attributor.query(picture.convert("RGB"), PROMPTS[query])
    *_, last = attributor.follow(asked, load_method(method))
    return last


def assert_unchanged(found: torch.Tensor, name: str, tolerance: float = TOLERANCE) -> None:
    """The same values, and so the same ranks but of images closer than the tolerance."""
    expected = torch.from_numpy(SCORES[name])
    allowed = tolerance * max(1.0, float(expected.nan_to_num().abs().max()))
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=allowed, equal_nan=True)
    best = expected.argsort(descending=True)
    assert bool((found[best][:-1] >= found[best][1:] - 2 * allowed).all()), f"{name}: ranks changed"


@pytest.mark.parametrize("query", [query for query in PROMPTS if query != WHOLE])
def test_forward_inf_scores_as_before(attributor: Attributor, query: str):
    scores = finished(every(attributor, 20), "forward_inf", query).all_scores()
    assert_unchanged(scores.scores, f"forward_inf/{query}")
    assert_unchanged(scores.standard_errors, f"errors/forward_inf/{query}")


@pytest.mark.parametrize("rival", RIVALS)
def test_rivals_score_as_before(attributor: Attributor, rival: str):
    scores = finished(every(attributor, 140 if rival == "dtrak" else 20), rival, WHOLE).all_scores()
    # D-TRAK inverts a kernel, which magnifies the last bits of the gradients.
    assert_unchanged(scores.scores, f"{rival}/{WHOLE}", 10 * TOLERANCE if rival == "dtrak" else TOLERANCE)


def test_a_whole_answer_is_as_before(attributor: Attributor):
    last, name = finished(attributor, "forward_inf", WHOLE), WHOLE
    assert_unchanged(last.all_scores().scores, f"whole/forward_inf/{name}")
    confidence = attributor.confidence(last.scores(), last.method)
    np.testing.assert_allclose(confidence.p_values, SCORES[f"p-values/{name}"], rtol=1e-6)
    assert confidence.number_standing_out == 1
    assert last.scores().top(1)[0][0] == "openmoji-1f34e"
