"""The mirrored influence hypothesis, held to true retraining.

Ko et al. 2024 (arXiv 2402.08922, section 3): how leaving a training example out changes the loss on a query mirrors how
training on the query changes the loss on the example. Both sides are found here by training:

- each example left out of a regularised logistic regression, and each query added to it, both to convergence;
- groups of examples with more and more wrong labels left out of a small convolutional network, and the queries added
  to it as a group, from the same initial weights.

Their correlation tells the hypothesis. Beside it stand estimates by one gradient step on the query, which need no
training at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...attribution.in_memory import ONE_DRAW, InMemory, query_of
from ...gradients.curvature import preconditioned
from ...methods.mirror import ByName, Objective, moved
from ...methods.plain import Plain
from ...methods.protocol import AttributionMethod
from ...methods.tracin import TracIn
from ...models.classifier import Classifier
from ..intervals import mean_interval
from .labelled import Labelled, digits, encoded, mislabelled
from .logistic import LogisticRegression
from .networks import losses_of, trained_network
from .protocol import OURS, Figure, Found

if TYPE_CHECKING:
    from torch import Tensor

NAME, TITLE = "hypothesis", "The hypothesis: leave-one-out against its mirror"
AXES = ("query's loss without the example", "example's loss with the query")
GOAL_ALONE, GOAL_GROUPS = 0.99, 0.97
WORST = 0.8  # share of wrong labels in the last group; the first has none
WEIGHT = 0.1  # of each added query, beside 1 for an example
DRAWN = 400  # pairs of single examples in the plot
BUDGET, DAMPING = 0.01, 0.1  # of a step
MIRRORED, ALL_QUERIES = "mirrored training", f"{OURS}, one step on all queries"
HELD_TO_IT = (MIRRORED, ALL_QUERIES)
Points = list[tuple[float, float]]
STEPS: dict[str, AttributionMethod] = {
    f"{OURS}, one step": Plain(loss_budget=BUDGET, score="difference", curvature="kronecker", damping=DAMPING),
    "plain step": Plain(loss_budget=BUDGET, score="difference"),
    "tracin": TracIn(query_draws=1),
}


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    examples: int = 1000
    left_out: int = 100
    queries: int = 40
    groups: int = 20
    group_examples: int = 800
    group_queries: int = 400
    steps: int = 400
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)  # seed 0 was used to choose the network and its training


FULL, QUICK = Size(), Size(left_out=20, queries=10, groups=8, group_examples=320, steps=150, seeds=(1,))


def run(size: Size) -> Found:
    """Both parts; minutes on two cores."""
    alone, pairs = _alone(size)
    groups, by_group = _groups(size)
    few = pairs[:: max(1, len(pairs) // DRAWN)]  # all of them would make a plot of a megabyte
    return Found((*alone, *groups), points={"one example": few, "groups": by_group})


# One example of a logistic regression


def _alone(size: Size) -> tuple[list[Figure], Points]:
    shuffled = digits().shuffled(size.seeds[0])
    train, queries = shuffled.part(0, size.examples), shuffled.part(size.examples, size.examples + size.queries)
    fitted = LogisticRegression.fit(train.pictures.flatten(1), train.labels)
    chosen = torch.randperm(size.examples, generator=torch.Generator().manual_seed(0))[: size.left_out].tolist()
    asked = queries.pictures.flatten(1)
    before = fitted.losses(asked, queries.labels)
    truth = torch.stack([fitted.without(i).losses(asked, queries.labels) - before for i in chosen])  # [i q]
    with_each = [fitted.with_example(x, label) for x, label in zip(asked, queries.labels, strict=True)]
    of_train = fitted.of_its_examples
    mirror = torch.stack([(of_train - one.of_its_examples[: len(of_train)])[chosen] for one in with_each], dim=1)
    model = Classifier(fitted.as_network(), "logistic regression")
    training_set, batch = InMemory.of(model, encoded(model, train)), encoded(model, queries)
    estimates = {MIRRORED: mirror}
    for by, method in STEPS.items():
        columns = [training_set.attribute(query_of(batch, q), method).scores for q in range(size.queries)]
        estimates[by] = torch.stack(columns, dim=1)[chosen]
    what = f"leave-one-out, logistic regression: Pearson over {size.left_out} examples, mean of {size.queries} queries"
    figures = [
        _figure(what, by, [_pearson(*pair) for pair in zip(truth.T, estimate.T, strict=True)], GOAL_ALONE)
        for by, estimate in estimates.items()
    ]
    return figures, _points(truth, mirror)


# Groups of examples of a convolutional network


def _groups(size: Size) -> tuple[list[Figure], Points]:
    found: dict[str, list[float]] = {}
    points: Points = []
    for seed in size.seeds:
        truth, estimates = _groups_of(size, seed)
        for by, estimate in estimates.items():
            found.setdefault(by, []).append(_pearson(truth, estimate))
        points += _points(truth, estimates[MIRRORED])
    what = f"{size.groups} groups with wrong labels left out, small CNN: Pearson, mean of {len(size.seeds)} seeds"
    return [_figure(what, by, values, GOAL_GROUPS) for by, values in found.items()], points


def _groups_of(size: Size, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """How leaving each group out changes the mean loss of the queries, `[g]`, and what mirrors or estimates that."""
    count, stream = size.group_examples, torch.Generator().manual_seed(seed)
    shuffled = digits().shuffled(seed)
    train, queries = shuffled.part(0, count), shuffled.part(count, count + size.group_queries)
    groups = torch.arange(count).view(size.groups, -1)
    wrong = [group[: round(WORST * len(group) * k / (size.groups - 1))] for k, group in enumerate(groups)]
    train = Labelled(train.pictures, mislabelled(train.labels, torch.cat(wrong), stream))
    both = train.with_those(queries)

    def trained(weights: Tensor) -> Tensor:
        """Losses of all after training on the examples by their weights."""
        return losses_of(trained_network(both, weights, count, size.steps, seed), both)

    ones, nothing = torch.ones(count), torch.zeros(size.group_queries)
    usual = torch.cat([ones, nothing])
    network = trained_network(both, usual, count, size.steps, seed)
    before = losses_of(network, both)
    truth = []
    for group in groups:
        weights = usual.clone()
        weights[group] = 0
        truth.append((trained(weights) - before)[count:].mean())
    with_queries = trained(torch.cat([ones, nothing + WEIGHT]))
    estimates = {MIRRORED: _by_group(before - with_queries, groups)}
    model = Classifier(network, "small CNN")
    training_set, batch = InMemory.of(model, encoded(model, train)), encoded(model, queries)
    objective = Objective(model, batch, ONE_DRAW.draws(batch.example_ids, batch.latents.shape[1:]))
    for by, precondition in _preconditioners(training_set).items():
        step = moved(objective, precondition, steps=1, sign=1, budget=BUDGET)
        with model.with_deltas(step.deltas):
            estimates[by] = _by_group(losses_of(network, train) - before[:count], groups)
    return torch.stack(truth), estimates


def _preconditioners(training_set: InMemory) -> dict[str, Callable[[ByName], ByName]]:
    curvature = training_set.kronecker()
    return {
        ALL_QUERIES: partial(preconditioned, curvature=curvature, damping=DAMPING),
        "plain step on all queries": lambda gradient: gradient,
    }


def _by_group(changes: Tensor, groups: Tensor) -> Tensor:
    """The mean change of each group's examples, `[g]`."""
    return changes[groups].mean(dim=1)


# Both


def _pearson(one: Tensor, other: Tensor) -> float:
    return float(np.corrcoef(one.double(), other.double())[0, 1])


def _points(truth: Tensor, mirror: Tensor) -> Points:
    return list(zip(truth.flatten().tolist(), mirror.flatten().tolist(), strict=True))


def _figure(what: str, by: str, correlations: list[float], goal: float) -> Figure:
    several = len(correlations) > 1
    interval = mean_interval(correlations) if several else None
    return Figure(what, by, float(np.mean(correlations)), interval, goal if by in HELD_TO_IT else None)
