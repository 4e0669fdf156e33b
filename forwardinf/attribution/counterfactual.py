"""What would the model draw, had it not learned from some training images?

Training it again without them would tell, and costs a training. Instead the weights are moved so that the model's loss
on these images rises to what it is on images that it never saw: gradient ascent preconditioned by the Fisher, as a
query is unlearned (methods/mirror.py), towards a goal that held-out images set. Then the prompt is drawn again with the
same seeds. As any move changes pictures, the same is done for as many random training images; and as a move may damage
the model at large, other prompts are drawn under both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..gradients.curvature import WeightCurvature, preconditioned
from ..methods.mirror import ByName, Objective, moved
from ..models.generation import GenerationRequest
from ..scoring.likeness import likeness

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .attributor import Attributor

SEEDS = (0, 1, 2)
UNRELATED = 2  # captions of held-out images, drawn with the first seed
STEPS = 4
DAMPING = 0.1  # share of the mean Fisher, as in the default method
LEAST_RISE, MOST_RISE = 0.2, 30.0  # of the loss, as a share of it
USUAL_RISE = 0.5  # where no held-out image sets the goal
MOST_IMAGES = 50


@dataclass(frozen=True)
class Redrawn:
    """A prompt drawn as the model is, without the chosen images, and without as many random ones."""

    prompt: str
    seed: int
    before: Image
    without_chosen: Image
    without_random: Image
    chosen_likeness: float  # of the picture without the chosen images with the one before, at most 1
    random_likeness: float


@dataclass(frozen=True)
class Counterfactual:
    """How far the question is, and what came out."""

    chosen: tuple[str, ...]  # ids
    random: tuple[str, ...]
    loss_before: float = 0.0  # mean over the chosen images
    loss_after: float = 0.0
    of_prompt: tuple[Redrawn, ...] = ()  # by seed
    unrelated: tuple[Redrawn, ...] = ()
    steps: int = 0  # that are done, of `total`
    total: int = 0

    @property
    def in_words(self) -> str:
        """What was found, in a sentence or two."""
        chosen, by_chance = (self._mean(self.of_prompt, which) for which in ("chosen_likeness", "random_likeness"))
        what = "this image" if len(self.chosen) == 1 else f"these {len(self.chosen)} images"
        other = "a random one" if len(self.random) == 1 else f"{len(self.random)} random ones"
        text = (
            f"Without what it learned from {what}, the model’s pictures are alike to those before by {chosen:.2f}; "
            f"without {other}, by {by_chance:.2f} (1 is the same picture)."
        )
        if self.unrelated:
            text += f" Other prompts: {self._mean(self.unrelated, 'chosen_likeness'):.2f}."
        return text

    def _mean(self, redrawn: tuple[Redrawn, ...], which: str) -> float:
        return sum(getattr(one, which) for one in redrawn) / len(redrawn)


def counterfactual(
    attributor: Attributor, prompt: str, chosen: Sequence[str], seeds: Sequence[int] = SEEDS
) -> Iterator[Counterfactual]:
    """Unlearn the chosen training images and draw `prompt` with each seed; after each step, how far it is.

    The model's weights are as before whenever this has yielded. Raises InvalidRequest for no image, more than
    MOST_IMAGES, images that the model was not trained on, and images whose loss cannot be raised so far.
    """
    chosen = _checked(attributor, chosen)
    others = sorted(attributor.index.trained - set(chosen))
    if len(others) < len(chosen):
        raise InvalidRequest("There are too few other training images to compare with. Choose fewer.")
    by_chance = tuple(random.Random("/".join(chosen)).sample(others, len(chosen)))
    asked = [GenerationRequest(prompt, seed=seed) for seed in seeds]
    aside = [GenerationRequest(caption, seed=seeds[0]) for caption in _unrelated(attributor, prompt)]
    now = Counterfactual(chosen, by_chance, total=2 + len(asked) + len(aside))
    precondition = _preconditioner(attributor)
    without_chosen, before, after = _unlearned(attributor, chosen, precondition)
    now = replace(now, loss_before=before, loss_after=after, steps=1)
    yield now
    without_random, _, _ = _unlearned(attributor, by_chance, precondition)
    yield (now := replace(now, steps=2))
    for request in asked:
        redrawn = _redrawn(attributor, request, without_chosen, without_random)
        yield (now := replace(now, of_prompt=(*now.of_prompt, redrawn), steps=now.steps + 1))
    for request in aside:
        redrawn = _redrawn(attributor, request, without_chosen, without_random)
        yield (now := replace(now, unrelated=(*now.unrelated, redrawn), steps=now.steps + 1))


def _checked(attributor: Attributor, chosen: Sequence[str]) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(chosen))
    if not 1 <= len(ids) <= MOST_IMAGES:
        raise InvalidRequest(f"{len(ids)} images were chosen; choose from 1 to {MOST_IMAGES}.")
    for example_id in ids:
        if example_id not in attributor.index.trained:
            raise InvalidRequest(f"The index has no training image “{example_id}”, so there is nothing to unlearn.")
    return ids


def _unrelated(attributor: Attributor, prompt: str) -> list[str]:
    """Captions that the model was not trained on, none of them the prompt."""
    images = attributor.index.catalog.of_split("held_out").images
    captions = sorted({image.caption for image in images if image.caption.strip()} - {prompt})
    return random.Random(0).sample(captions, min(UNRELATED, len(captions)))


def _preconditioner(attributor: Attributor) -> Callable[[ByName], ByName]:
    moments = attributor.index.fisher(attributor.model.spec.device)
    curvature = {name: WeightCurvature(of_weight) for name, of_weight in moments.items()}
    return partial(preconditioned, curvature=curvature, damping=DAMPING)


def _unlearned(
    attributor: Attributor, ids: Sequence[str], precondition: Callable[[ByName], ByName]
) -> tuple[Mapping[str, Tensor], float, float]:
    """How far to move the weights so that the loss on these images is that on images never seen; before and after."""
    index, model = attributor.index, attributor.model
    batch = index.examples(ids).float()
    draws = index.info.plan.draws(batch.example_ids, batch.latents.shape[1:], model.spec.device)
    rows = [index.catalog.numbers[example_id] for example_id in ids]
    rise = index.base_losses[~index.trained_mask].mean() / index.base_losses[rows].mean() - 1
    budget = min(max(float(rise.nan_to_num(USUAL_RISE)), LEAST_RISE), MOST_RISE)
    try:
        move = moved(Objective(model, batch, draws), precondition, STEPS, 1, budget)
    except InvalidRequest as error:
        named = f"“{ids[0]}”" if len(ids) == 1 else f"these {len(ids)} images"
        raise InvalidRequest(
            f"The model’s loss on {named} could not be raised by {budget:.0%}, so what it would draw without is not "
            "known. Choose other images, or fewer."
        ) from error
    return move.deltas, move.before, move.after


def _redrawn(
    attributor: Attributor, request: GenerationRequest, chosen: Mapping[str, Tensor], by_chance: Mapping[str, Tensor]
) -> Redrawn:
    model, mean = attributor.model, attributor.index.mean_latents
    before = model.generate(request)
    with model.with_deltas(dict(chosen)):
        without_chosen = model.generate(request)
    with model.with_deltas(dict(by_chance)):
        without_random = model.generate(request)
    seen = [model.fit.of(picture) for picture in (before, without_chosen, without_random)]
    latents = model.encode_image(seen).cpu()
    of_chosen, of_random = likeness(latents[1:], latents[:1], mean)[:, 0].tolist()
    return Redrawn(request.prompt, request.seed, before, without_chosen, without_random, of_chosen, of_random)
