"""Training images that leaked into the test set, clean or altered: is each one's twin found?

Ko et al. 2024 (arXiv 2402.08922, section 5) plant 1 % of a training set among the test images and ask whether the twin
of each comes first, or among the first five. The classifier knows its training images by heart, so that their losses
have hardly a gradient. Where that is so, the query is moved a little off its minimum first, as their code does; ours
also asks for the size of the logits, which moves all the same. Seed 0 was used to choose the network and the pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import imagehash
import torch
from PIL import Image
from torch.nn import Sequential
from torch.nn.functional import cosine_similarity

from ...attribution.in_memory import InMemory, off_its_minimum, query_of
from ...draws import DrawPlan
from ...errors import InvalidRequest
from ...methods.forward_inf import ForwardInf
from ...methods.plain import Plain
from ...methods.protocol import AttributionMethod
from ...methods.tracin import TracIn
from ...models.classifier import Classifier
from ...types import Query
from ..intervals import wilson_interval
from .labelled import Labelled, artwork, encoded
from .networks import residual_network, trained_in_batches
from .protocol import OURS, Figure, Found

if TYPE_CHECKING:
    from torch import Tensor

NAME, TITLE = "leakage", "Training images among the test images"
AXES = ("", "")
SIDE = 16  # pixels
TWO_DRAWS = DrawPlan(seed=0, count=2, shared=True)  # the loss at one, the size of the prediction at the other
SHARE = 0.01  # of the training images that are planted
ALTERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda pictures: pictures,
    "darker": lambda pictures: (pictures + 0.5) * 0.7 - 0.5,
    "noisy": lambda pictures: pictures + 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0)),
    "moved a pixel": lambda pictures: torch.roll(pictures, 1, dims=-1),
}
METHODS: dict[str, AttributionMethod] = {
    OURS: ForwardInf(),
    "plain": Plain(),
    "tracin": TracIn(query_draws=1),
}
Scores = Callable[[Labelled], "Tensor"]  # [q n] of a few pictures with their labels


@dataclass(frozen=True)
class Size:
    """How much is trained and asked."""

    examples: int = 1000
    epochs: int = 25
    width: int = 8
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)  # each plants other images


FULL, QUICK = Size(), Size(examples=300, epochs=10, width=4, seeds=(1,))


def run(size: Size) -> Found:
    """Minutes on two cores."""
    hits: dict[tuple[str, str], list[int]] = {}  # ranks of the twins
    seconds: dict[str, float] = {}
    pictures = artwork(SIDE)
    for seed in size.seeds:
        train = pictures.shuffled(seed).part(0, size.examples)
        network = trained_in_batches(residual_network(train, seed, size.width), train, size.epochs, seed)
        ranked_by = _rankings(network, train)
        planted = torch.randperm(size.examples, generator=torch.Generator().manual_seed(seed))
        planted = planted[: round(SHARE * size.examples)]
        for alteration, altered in ALTERATIONS.items():
            asked = Labelled(altered(train.pictures[planted]), train.labels[planted])
            for by, scores in ranked_by.items():
                began = time.perf_counter()
                ranks = _ranks(scores(asked), planted)
                seconds[by] = seconds.get(by, 0.0) + time.perf_counter() - began
                hits.setdefault((alteration, by), []).extend(ranks)
    return Found(tuple(_figures(hits, seconds)), {})


def _rankings(network: Sequential, train: Labelled) -> dict[str, Scores]:
    """What scores every training image for a few pictures with their labels, by the name of the method."""
    model = Classifier(network, "residual network")
    training_set = InMemory.of(model, encoded(model, train), TWO_DRAWS)

    def by_method(method: AttributionMethod, asked: Labelled) -> Tensor:
        batch = encoded(model, asked)
        return torch.stack([_scores(training_set, query_of(batch, row), method) for row in range(asked.count)])

    embeddings, hashes = _embeddings(network, train), _hashes(train.pictures)

    def by_embedding(asked: Labelled) -> Tensor:
        return cosine_similarity(_embeddings(network, asked)[:, None], embeddings[None], dim=2)

    def by_hash(asked: Labelled) -> Tensor:
        return -torch.tensor([[one - other for other in hashes] for one in _hashes(asked.pictures)]).float()

    by_gradients: dict[str, Scores] = {by: partial(by_method, method) for by, method in METHODS.items()}
    return {**by_gradients, "embedding": by_embedding, "perceptual hash": by_hash}


def _scores(training_set: InMemory, query: Query, method: AttributionMethod) -> Tensor:
    """Scores `[n]`; all the same, so that the twin comes last, where no place has a gradient."""
    try:
        return training_set.attribute(off_its_minimum(training_set, query), method).scores
    except InvalidRequest:
        return torch.zeros(len(training_set.ids))


@torch.inference_mode()
def _embeddings(network: Sequential, examples: Labelled) -> Tensor:
    """What enters the last layer, `[n f]`."""
    found: Tensor = network[:-1](examples.pictures)
    return found


def _hashes(pictures: Tensor) -> list[imagehash.ImageHash]:
    images = ((pictures + 0.5) * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [imagehash.phash(Image.fromarray(image)) for image in images]


def _ranks(scores: Tensor, twins: Tensor) -> list[int]:
    """The rank of each query's twin among `scores [q n]`; what ties with it counts as before it."""
    own = scores.gather(1, twins[:, None])
    ranks: list[int] = (scores >= own).sum(dim=1).tolist()
    return ranks


def _figures(hits: dict[tuple[str, str], list[int]], seconds: dict[str, float]) -> list[Figure]:
    figures = []
    for depth in (1, 5):
        for (alteration, by), ranks in hits.items():
            found = sum(rank <= depth for rank in ranks)
            what = f"planted, {alteration}: twin among the first {depth}, of {len(ranks)}" if depth > 1 else ""
            what = what or f"planted, {alteration}: twin first, of {len(ranks)}"
            interval = wilson_interval(found, len(ranks))
            figures.append(Figure(what, by, found / len(ranks), interval, seconds=seconds[by] / len(ALTERATIONS)))
    return figures
