"""Training images with wrong labels: which are they?

Forward-INF for a whole set of queries: some steps on images that the classifier has not seen, whose labels are as often
wrong, then one forward per training image. What was learned from right labels is confirmed by them; what was learned by
heart from wrong ones is overwritten, and its loss rises. Rivals: the loss alone, TracIn's self-influence, Outlier
Gradient Analysis, turn-over dropout, and two that have the same further images: a network trained on these alone, and
cleanlab on cross-validated predictions of networks that were trained on these too.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Sequential
from torch.nn.functional import cross_entropy, one_hot

from ..intervals import mean_interval
from .labelled import Labelled, digits, mislabelled
from .networks import losses_of, residual_network, trained_in_batches
from .protocol import OURS, Figure, Found
from .turn_over import turned_over_losses

if TYPE_CHECKING:
    from torch import Tensor

NAME, TITLE = "mislabels", "Training images with wrong labels"
AXES = ("", "")
LEARNING_RATE = 1e-3  # of our steps, by Adam; chosen with STEPS on seeds 0 and 1
FOLDS = 3


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    examples: int = 800
    held_out: int = 400
    epochs: int = 25
    width: int = 8
    steps: int = 60
    rates: tuple[float, ...] = (0.05, 0.1, 0.2)
    seeds: tuple[int, ...] = (2, 3, 4, 5, 6)


FULL, QUICK = Size(), Size(examples=300, held_out=150, epochs=10, width=4, steps=20, rates=(0.1,), seeds=(2, 3))


@dataclass(frozen=True)
class Case:
    """A classifier that was trained on images of which some have wrong labels."""

    train: Labelled
    held_out: Labelled
    network: Sequential
    size: Size
    seed: int

    def trained(self, on: Labelled) -> Sequential:
        """Another one like it."""
        return _trained(self.train, on, self.size, self.seed)


def _trained(like: Labelled, on: Labelled, size: Size, seed: int) -> Sequential:
    """A network for examples `like` these, trained on those."""
    return trained_in_batches(residual_network(like, seed, size.width), on, size.epochs, seed)


def run(size: Size) -> Found:
    """Minutes on two cores."""
    found: dict[tuple[float, str, str], list[float]] = {}
    seconds: dict[str, float] = {}
    for rate in size.rates:
        for seed in size.seeds:
            case, wrong = _case(size, rate, seed)
            for by, suspicion in SUSPICIONS.items():
                began = time.perf_counter()
                scores = suspicion(case).double().numpy()
                seconds[by] = seconds.get(by, 0.0) + time.perf_counter() - began
                for measure, value in _measures(scores, wrong).items():
                    found.setdefault((rate, measure, by), []).append(value)
    trials = len(size.rates) * len(size.seeds)
    figures = [
        Figure(
            f"{rate:.0%} wrong: {measure}",
            by,
            float(np.mean(values)),
            mean_interval(values) if len(values) > 1 else None,
            seconds=seconds[by] / trials,
        )
        for (rate, measure, by), values in sorted(found.items(), key=lambda item: item[0][:2])
    ]
    return Found(tuple(figures), {})


def _case(size: Size, rate: float, seed: int) -> tuple[Case, np.ndarray]:
    """A classifier, and which of its training images have wrong labels, `[n]`."""
    count = size.examples + size.held_out
    right, stream = digits().shuffled(seed).part(0, count), torch.Generator().manual_seed(seed)
    rows = torch.randperm(count, generator=stream)[: round(rate * count)]
    given = Labelled(right.pictures, mislabelled(right.labels, rows, stream))
    train = given.part(0, size.examples)
    case = Case(train, given.part(size.examples, count), _trained(train, train, size, seed), size, seed)
    return case, (given.labels != right.labels)[: size.examples].numpy()


def _measures(scores: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    first = np.argsort(-scores, kind="stable")[: int(wrong.sum())]
    return {
        "area under the ROC curve": float(roc_auc_score(wrong, scores)),
        "precision among as many as are wrong": float(wrong[first].mean()),
    }


# How much each training image is suspected, [n]


def by_mirror(case: Case) -> Tensor:
    """The loss after steps on the held-out images, of all of them at once."""
    network = copy.deepcopy(case.network)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for _ in range(case.size.steps):
        optimiser.zero_grad()
        cross_entropy(network(case.held_out.pictures), case.held_out.labels).backward()
        optimiser.step()
    return losses_of(network, case.train)


def by_loss(case: Case) -> Tensor:
    return losses_of(case.network, case.train)


def by_others(case: Case) -> Tensor:
    """The loss of a network that was trained on the held-out images alone."""
    return losses_of(case.trained(case.held_out), case.train)


def by_self_influence(case: Case) -> Tensor:
    """The squared length of the gradient of the last layer (TracIn; Pruthi et al. 2020, arXiv 2002.08484)."""
    return _last_layer_gradients(case).square().sum(dim=1)


def by_outlier_gradients(case: Case) -> Tensor:
    """How much of an outlier the same gradient is to an isolation forest (Chhabra et al. 2024, arXiv 2405.03869)."""
    from sklearn.ensemble import IsolationForest

    gradients = _last_layer_gradients(case).numpy()
    forest = IsolationForest(n_estimators=200, random_state=case.seed).fit(gradients)
    return torch.from_numpy(-forest.score_samples(gradients))


def by_turn_over_dropout(case: Case) -> Tensor:
    """The loss in the half of a network that an image was kept from (Kobayashi et al. 2020, arXiv 2012.04207)."""
    network = residual_network(case.train, case.seed, case.size.width)
    return turned_over_losses(network, case.train, case.size.epochs, case.seed)


def by_cleanlab(case: Case) -> Tensor:
    """How little cleanlab thinks of a label, given what networks predict that were trained without it."""
    from cleanlab.rank import get_label_quality_scores

    folds, predicted = torch.arange(case.train.count) % FOLDS, torch.zeros(case.train.count, 0)
    for fold in range(FOLDS):
        network = case.trained(case.train.at(folds != fold).with_those(case.held_out))
        with torch.inference_mode():
            p = network(case.train.pictures).softmax(dim=1)
        predicted = predicted if predicted.numel() else torch.zeros_like(p)
        predicted[folds == fold] = p[folds == fold]
    return -torch.from_numpy(get_label_quality_scores(case.train.labels.numpy(), predicted.numpy()))


def _last_layer_gradients(case: Case) -> Tensor:
    """`[n classes · features]`, (p − y) hᵀ."""
    with torch.inference_mode():
        features = case.network[:-1](case.train.pictures)
        logits = case.network[-1](features)
    error = logits.softmax(dim=1) - one_hot(case.train.labels, logits.shape[1])
    return torch.einsum("nc,nf->ncf", error, features).flatten(1)


SUSPICIONS: dict[str, Callable[[Case], Tensor]] = {
    OURS: by_mirror,
    "loss": by_loss,
    "tracin self-influence": by_self_influence,
    "outlier gradient analysis": by_outlier_gradients,
    "turn-over dropout": by_turn_over_dropout,
    "loss, trained on held-out images": by_others,
    "cleanlab, cross-validated": by_cleanlab,
}
