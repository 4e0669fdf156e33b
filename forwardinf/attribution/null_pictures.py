"""Pictures that owe the training images nothing, for sets that have too few held-out ones.

A folder of one's own; or, for a model with an adapter, what its base draws from the set's own captions: such a picture
shows the same subjects, but no training image had a part in the adapter-free weights that made it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidRequest, MissingAsset
from ..examples.catalog import Catalog
from ..examples.decoding import decode_training_picture
from ..examples.layouts.paths import SUFFIXES
from ..examples.metadata import training_images
from ..models.generation import MAX_PROMPT, GenerationRequest
from ..models.protocol import AdaptedModel, PictureModel, adapted

if TYPE_CHECKING:
    from PIL.Image import Image


DRAWN_ID = "drawn:"  # how the ids of drawn pictures begin


class NullPictures(Protocol):
    """Pictures to run as queries, each with an id that says all of it."""

    @property
    def ids(self) -> Sequence[str]: ...

    def picture(self, query_id: str) -> tuple[Image, str]:
        """A picture in RGB, and the caption that it is run with; an empty one for none."""
        ...


@dataclass(frozen=True)
class Drawn:
    """What the base model draws, with the adapter left out, from captions of training images taken in turn."""

    model: PictureModel
    captions: tuple[str, ...]
    count: int
    seed: int = 0

    @classmethod
    def of(cls, model: PictureModel, source: Catalog, count: int, seed: int = 0) -> Drawn:
        """Raises InvalidRequest where the model has no adapter, or the set no caption."""
        if adapted(model) is None:
            raise InvalidRequest(
                "Null pictures can be drawn only by the base of a model with an adapter (--lora): what the model "
                "itself draws owes its training images much. Name a folder of other pictures with --null."
            )
        captions = sorted({image.caption.strip()[:MAX_PROMPT] for image in source.of_split("train").images} - {""})
        if not captions:
            raise InvalidRequest(
                "The training images have no captions that null pictures could be drawn from. Name a folder of "
                "other pictures with --null."
            )
        random.Random(seed).shuffle(captions)
        return cls(model, tuple(captions), count, seed)

    @cached_property
    def _requests(self) -> dict[str, GenerationRequest]:
        """What is drawn, by id."""
        requests = {}
        for n in range(self.count):
            caption, seed = self.captions[n % len(self.captions)], 1000 * self.seed + n
            digest = hashlib.sha256(f"{seed} {caption}".encode()).hexdigest()
            requests[f"{DRAWN_ID}{n:03}-{digest[:12]}"] = GenerationRequest(caption, seed)
        return requests

    @property
    def ids(self) -> Sequence[str]:
        return list(self._requests)

    def picture(self, query_id: str) -> tuple[Image, str]:
        request = self._requests[query_id]
        if query_id not in self._drawn:
            assert isinstance(self.model, AdaptedModel)
            with self.model.without_adapter():
                self._drawn[query_id] = self.model.generate(request)
        return self._drawn[query_id], request.prompt

    @cached_property
    def _drawn(self) -> dict[str, Image]:
        """Pictures so far, as each is run with and without its caption."""
        return {}


@dataclass(frozen=True)
class OfFolder:
    """Pictures of a folder, laid out as a training set is, or without any captions."""

    pictures: Mapping[str, tuple[Callable[[], Image], str]]  # by id; read when they are needed

    @classmethod
    def read(cls, folder: Path, count: int, seed: int = 0) -> OfFolder:
        """So many of its pictures, at random, none twice; raises MissingAsset or InvalidRequest where there is none."""
        if not folder.is_dir():
            raise MissingAsset(f"There is no folder “{folder.name}” of null pictures. Name another with --null.")
        found = _captioned(folder) or _alone(folder)
        if not found:
            raise InvalidRequest(f"“{folder.name}” has no picture to measure a null with ({', '.join(SUFFIXES)}).")
        chosen = random.Random(seed).sample(sorted(found), min(count, len(found)))
        return cls({query_id: found[query_id] for query_id in sorted(chosen)})

    @property
    def ids(self) -> Sequence[str]:
        return list(self.pictures)

    def picture(self, query_id: str) -> tuple[Image, str]:
        read, caption = self.pictures[query_id]
        return read(), caption


def _captioned(folder: Path) -> dict[str, tuple[Callable[[], Image], str]]:
    """The pictures of a folder that is laid out as a training set; none of another one."""
    try:
        catalog = training_images(folder)
    except MissingAsset:
        return {}
    return {
        f"{folder.name}-{image.sha256[:12]}": (partial(catalog.picture, image), image.caption)
        for image in catalog.images
    }


def _alone(folder: Path) -> dict[str, tuple[Callable[[], Image], str]]:
    found: dict[str, tuple[Callable[[], Image], str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found[f"{folder.name}-{digest[:12]}"] = partial(decode_training_picture, content, path.name), ""
    return found
