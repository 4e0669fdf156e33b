"""Does the model draw a training image again from its own caption, and nearer than chance would?

Some pictures are drawn from the caption, one to a seed, and each is compared with the image in the model's latents,
about the training set's mean. A picture may look like an image for what both show; how near that comes is seen from
held-out images, which the model never saw: pictures drawn from their captions are compared with them in the same way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..files.atomic import write_json
from ..files.identity import digest_of
from ..models.generation import GenerationRequest
from ..scoring.likeness import likeness

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..examples.catalog import TrainingImage
    from .attributor import Attributor

SEEDS = 8  # pictures drawn from the caption in question
OTHERS = 20  # held-out images that are drawn once each
FIRST = 1000  # seed of the first of these


@dataclass(frozen=True)
class Drawn:
    """A picture drawn from a training image's caption."""

    seed: int
    picture: Image
    likeness: float  # cosine with the image, at most 1


@dataclass(frozen=True)
class Regeneration:
    """Pictures drawn from a training image's caption, as far as they are drawn, and what they are compared with."""

    image: TrainingImage
    seeds: int  # pictures that are to be drawn
    drawn: tuple[Drawn, ...] = ()
    others: int = 0  # held-out images that are to be drawn
    reach: tuple[float, ...] = ()  # how near pictures of held-out captions came to their images

    @property
    def finished(self) -> bool:
        return len(self.drawn) == self.seeds and len(self.reach) == self.others

    @property
    def nearest(self) -> Drawn:
        """The picture that came nearest to the image; there has to be one."""
        return max(self.drawn, key=lambda drawn: drawn.likeness)

    @property
    def near(self) -> int:
        """How many pictures came nearer to the image than any picture of a held-out caption to its own."""
        return sum(drawn.likeness > max(self.reach, default=1.0) for drawn in self.drawn)

    @property
    def in_words(self) -> str:
        """What was found, in a sentence or two."""
        best = f"Nearest {self.nearest.likeness:.2f}, where 1 is the same picture"
        if not self.reach:
            return f"{best}. The index has no held-out image, so it is not known how near chance comes."
        how_often = f"All {self.seeds}" if self.near == self.seeds else f"{self.near or 'None'} of {self.seeds}"
        return (
            f"{how_often} pictures drawn from its caption came nearer to this image than any of "
            f"{len(self.reach)} pictures of images that the model never saw came to theirs. {best}; of the others at "
            f"most {max(self.reach):.2f}."
        )


def regenerated(
    attributor: Attributor, example_id: str, seeds: int = SEEDS, cache: Path | None = None
) -> Iterator[Regeneration]:
    """Draw a training image's caption with seeds from 0, then what that is compared with; after each, how far it is.

    What does not depend on the image is drawn once for an index, and kept in `cache` where one is given. Raises
    InvalidRequest for an id that the index does not have, an image without a caption, and for less than one seed.
    """
    image = attributor.index.catalog.by_id.get(example_id)
    if image is None:
        raise InvalidRequest(f"The index has no image “{example_id}”. Search for its id on the page Training set.")
    if not image.caption.strip():
        raise InvalidRequest(f"“{example_id}” has no caption, so there is nothing to draw it from.")
    if seeds < 1:
        raise InvalidRequest(f"The number of seeds is {seeds}; it must be at least 1.")
    others = _others(attributor)
    now = Regeneration(image, seeds, others=len(others))
    for seed in range(seeds):
        now = replace(now, drawn=(*now.drawn, _drawn(attributor, image, seed)))
        yield now
    for reach in _reach(attributor, others, cache):
        now = replace(now, reach=reach)
        yield now


def _others(attributor: Attributor) -> list[TrainingImage]:
    """Held-out images with captions, the same for every question to an index."""
    held_out = [i for i in attributor.index.catalog.images if i.split != "train" and i.caption.strip()]
    return random.Random(0).sample(held_out, min(OTHERS, len(held_out)))


def _reach(attributor: Attributor, others: list[TrainingImage], cache: Path | None) -> Iterator[tuple[float, ...]]:
    """How near pictures drawn from these captions come to their images, after each."""
    kept = None if cache is None else cache / f"reach-{_key(attributor, others)}.json"
    if kept is not None and kept.is_file():
        yield tuple(json.loads(kept.read_text(encoding="utf-8")))
        return
    reach: tuple[float, ...] = ()
    for number, image in enumerate(others):
        reach = (*reach, _drawn(attributor, image, FIRST + number).likeness)
        if kept is not None and len(reach) == len(others):
            write_json(kept, reach)
        yield reach


def _key(attributor: Attributor, others: list[TrainingImage]) -> str:
    settings = asdict(GenerationRequest("any"))
    return digest_of([attributor.model.fingerprint, attributor.index.fingerprint, [i.id for i in others], settings], 16)


def _drawn(attributor: Attributor, image: TrainingImage, seed: int) -> Drawn:
    model, index = attributor.model, attributor.index
    picture = model.generate(GenerationRequest(image.caption, seed=seed))
    latents = model.encode_image([model.fit.of(picture)]).cpu()
    alike = likeness(latents, index.examples([image.id]).latents, index.mean_latents)
    return Drawn(seed, picture, float(alike))
