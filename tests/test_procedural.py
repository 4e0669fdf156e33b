from __future__ import annotations

import hashlib

import pytest

from forwardinf.studies.procedural import KINDS, procedural


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_and_a_seed_give_one_picture(kind: str):
    first = procedural(kind, 1)
    assert (first.size, first.mode) == ((64, 64), "RGB")
    assert first.tobytes() == procedural(kind, 1).tobytes() != procedural(kind, 2).tobytes()
    assert len(first.getcolors(64 * 64)) > 2


def test_no_two_of_many_are_alike():
    pictures = [procedural(kind, seed) for kind in KINDS for seed in range(20)]
    assert len({hashlib.sha256(p.tobytes()).digest() for p in pictures}) == len(pictures)
