"""The core needs neither pictures nor noise: a logistic regression on tensors is attributed by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import cross_entropy

from forwardinf.attribution.in_memory import InMemory
from forwardinf.draws import DrawPlan
from forwardinf.errors import InvalidRequest, UnsupportedModel
from forwardinf.methods.registry import load_method
from forwardinf.models.protocol import PredictingModel
from forwardinf.models.weights import TunableWeights
from forwardinf.types import Draws, LatentBatch, ModelSpec, Query

FEATURES, CLASSES, COUNT = 6, 3, 40
PLAN = DrawPlan(0, 1, shared=True)


@dataclass(frozen=True)
class Row:
    id: str
    features: torch.Tensor  # [f]
    label: int


class LogisticRegression:
    """The base protocol and no more: one draw, whose noise is ignored."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.spec, self.fingerprint = ModelSpec("logistic regression"), "0" * 64
        self._network = torch.nn.Linear(FEATURES, CLASSES)
        self._weights = TunableWeights(self._network, "all")

    def encode(self, examples: Sequence[Row]) -> LatentBatch:
        labels = torch.tensor([row.label for row in examples])
        return LatentBatch(tuple(row.id for row in examples), torch.stack([row.features for row in examples]), labels)

    def loss(self, batch: LatentBatch, draws: Draws) -> torch.Tensor:
        found = cross_entropy(self._network(batch.latents), batch.conditioning, reduction="none")
        return found[:, None].expand(draws.u.shape)

    def tunable_parameters(self) -> dict[str, torch.Tensor]:
        return dict(self._weights.by_name)

    def with_deltas(self, deltas: dict[str, torch.Tensor]) -> AbstractContextManager[None]:
        return self._weights.moved(deltas)


def trained() -> tuple[LogisticRegression, list[Row], InMemory]:
    model = LogisticRegression()
    random = torch.Generator().manual_seed(1)
    features, labels = torch.randn(COUNT, FEATURES, generator=random), torch.arange(COUNT) % CLASSES
    rows = [Row(f"row-{i:02}", features[i] + 2 * torch.eye(CLASSES, FEATURES)[label], int(label))
            for i, label in enumerate(labels)]  # fmt: skip
    batch = model.encode(rows)
    optimiser = torch.optim.SGD(model.tunable_parameters().values(), lr=0.5)
    for _ in range(50):
        optimiser.zero_grad()
        model.loss(batch, PLAN.draws(batch.example_ids, (FEATURES,))).mean().backward()
        optimiser.step()
    return model, rows, InMemory.of(model, batch, PLAN)


def query_of(model: LogisticRegression, row: Row) -> Query:
    batch = model.encode([row])
    return Query("query", "", "", batch.latents, batch.conditioning)


def test_it_has_no_ability_beside_the_base():
    assert not isinstance(LogisticRegression(), PredictingModel)


def test_plain_scores_are_the_change_of_loss_by_one_gradient_step():
    model, examples, rows = trained()
    query = query_of(model, examples[7])
    before = {name: weights.detach().clone() for name, weights in model.tunable_parameters().items()}
    scores = rows.attribute(query, load_method("plain"))
    assert all(torch.equal(weights, before[name]) for name, weights in model.tunable_parameters().items())
    state = load_method("plain").prepare(model, query, rows)
    assert state.loss_after / state.loss_before - 1 == pytest.approx(0.1, rel=0.051)
    logits = rows.batch.latents @ before["weight"].T + before["bias"]
    gradient = torch.softmax(logits[7], dim=0) - torch.eye(CLASSES)[rows.batch.conditioning[7]]  # of the query's logits
    (step,) = state.step_sizes
    moved = logits + step * (rows.batch.latents @ examples[7].features + 1)[:, None] * gradient
    change = cross_entropy(moved, rows.batch.conditioning, reduction="none") - cross_entropy(
        logits, rows.batch.conditioning, reduction="none"
    )
    torch.testing.assert_close(scores.scores, change.abs(), rtol=1e-4, atol=1e-6)


def test_scores_mirror_what_leaving_an_example_out_does():
    """Spearman with the query's change of loss under the first-order effect of training without each example."""
    model, examples, rows = trained()
    query = query_of(model, Row("unseen", examples[3].features + 0.3, examples[3].label))
    scores = rows.attribute(query, load_method("plain", score="difference"))
    draws = rows.plan.draws(rows.ids, (FEATURES,))
    gradients = []
    for i in range(COUNT):
        one = rows.examples([rows.ids[i]])
        parts = torch.autograd.grad(model.loss(one, draws.part(slice(i, i + 1), slice(None))).sum(),
                                    list(model.tunable_parameters().values()))  # fmt: skip
        gradients.append(torch.cat([part.flatten() for part in parts]))
    own = torch.autograd.grad(model.loss(query.batch(), rows.plan.draws(["query"], (FEATURES,))).sum(),
                              list(model.tunable_parameters().values()))  # fmt: skip
    effect = torch.stack(gradients) @ torch.cat([part.flatten() for part in own])
    ranks = torch.stack([values.argsort().argsort().float() for values in (effect, scores.scores)])
    assert torch.corrcoef(ranks)[0, 1] > 0.99


@pytest.mark.parametrize("name", ["abu", "tracin", "trak", "random"])
def test_methods_that_need_losses_alone_work_too(name: str):
    model, examples, rows = trained()
    scores = rows.attribute(query_of(model, examples[7]), load_method(name))
    assert scores.scores.isfinite().all()
    assert scores.example_ids == rows.ids


@pytest.mark.parametrize("name", ["dtrak", "das"])
def test_a_method_that_measures_predictions_says_that_there_are_none(name: str):
    model, examples, rows = trained()
    with pytest.raises(UnsupportedModel, match=r"“logistic regression” has a loss but no prediction.*plain"):
        rows.attribute(query_of(model, examples[7]), load_method(name))


def test_similarity_of_pictures_is_refused_for_what_is_no_picture():
    model, examples, rows = trained()
    with pytest.raises(InvalidRequest, match="no picture"):
        load_method("similarity").prepare(model, query_of(model, examples[7]), rows)
