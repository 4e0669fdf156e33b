from __future__ import annotations

import pytest

from forwardinf.errors import InvalidRequest
from forwardinf.models.generation import GenerationRequest


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t"}, "prompt is empty"),
        ({"prompt": "a" * 10_000}, "10,000 characters"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**40}, "seed is 1099511627776"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": None}, "seed is None"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 100_000}, "steps is 100000"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": -1.0}, "guidance is -1"),
    ],
)
def test_a_request_that_cannot_be_drawn_is_refused_by_name(fields: dict, named: str):
    with pytest.raises(InvalidRequest, match=named):
        GenerationRequest(**{"prompt": "red apple", **fields})


def test_the_limits_themselves_are_accepted():
    GenerationRequest("яблоко 苹果", seed=2**32 - 1, steps=100, guidance=0.0)
