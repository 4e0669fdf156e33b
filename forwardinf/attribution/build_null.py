"""The null of an index: what its images score under pictures that owe them nothing, measured once at building.

Not every held-out picture qualifies. A held-out calendar owes much to the trained tear-off calendar: had the model
generated it, that image should stand out. So null pictures are sampled from the half of the held-out images that is
least like any training image, in latents; which half that is, is decided before any score is seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidRequest
from ..examples.catalog import Catalog
from ..index.folder import writing_alone
from ..index.mean_file import resampled
from ..index.null_file import SCORES, SETTINGS, NullChanges, NullInTheMaking
from ..index.store import Index
from ..methods.protocol import AttributionMethod
from ..methods.steady import Steady
from ..models.protocol import adapted
from ..scoring.confidence import FEWEST_FOR_VERDICT, highest
from ..scoring.likeness import likeness
from ..scoring.score import Changes
from .attributor import Attributor
from .null_changes import changes_under
from .null_pictures import Drawn, NullPictures, OfFolder
from .size_null import measure_size_null

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

HELD_OUT, DRAWN = "held-out", "drawn"  # null pictures by name
QUERIES = 29  # null pictures; at most two of them score as high as an image that stands out, (1 + 2) / (1 + 29) = 10 %


def build_null(
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    count: int = QUERIES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    unprompted: bool = True,
    verdicts: bool = True,
) -> Index:
    """Run `count` held-out images of the index as queries, and keep every change in the index's folder.

    They are sampled from the half least like any training image; fewer where there are not as many. `pictures` has
    them at their full size. Each is run with its caption and swept over all images but itself: a query has no row of
    its own in the index, and its own row would move so much that all others would seem to move less. With `unprompted`
    each is run once more without a prompt: the image whose caption is then used scores higher for it, so such answers
    need a threshold of their own. For a method that holds sizes alone against a null, both are measured only for
    `verdicts` (size_null.py). Resumes where it was interrupted, even in the middle of a sweep, and does nothing
    where the same null is there; returns the index as it is then. Raises InvalidRequest where the index has no held-out
    image.
    """
    nulls = HeldOut.of(attributor.index, pictures, count, seed)
    return measure_null(attributor, method, nulls, on_progress, unprompted, verdicts)


def measure_null(
    attributor: Attributor,
    method: AttributionMethod,
    nulls: NullPictures,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    unprompted: bool = True,
    verdicts: bool = True,
) -> Index:
    """Run any null pictures as queries, and keep every change in the index's folder; as `build_null` otherwise."""
    if isinstance(method, Steady):
        told = lambda stage, done, total: on_progress(done, total)  # noqa: E731
        return measure_size_null(attributor, method, nulls, told, verdicts, sketch=False)
    unprompted &= attributor.model.reads_prompts
    index, chosen = attributor.index, tuple(nulls.ids)
    settings, kept = attributor.comparable_settings(method), index.null_changes
    same = isinstance(kept, NullChanges) and attributor.is_comparable(kept.settings, method) and kept.queries == chosen
    if same and kept and (kept.unprompted is not None or not unprompted):
        return index
    with writing_alone(index.folder):
        making = NullInTheMaking.begin(index.folder, index.measured_fingerprint, settings, chosen)
        _run(attributor, method, nulls, making, on_progress, unprompted)
        index = index.without_files(SETTINGS, SCORES)  # whole at every moment
        making.finish(_highest_unprompted(index, making) if unprompted else None)
        return index.with_files(SETTINGS, SCORES)


def _run(
    attributor: Attributor,
    method: AttributionMethod,
    nulls: NullPictures,
    making: NullInTheMaking,
    on_progress: Callable[[int, int], None],
    unprompted: bool,
) -> None:
    """Run the null pictures that were not run yet, with and perhaps without their captions."""
    index = attributor.index
    ids = [image.id for image in index.catalog.images]
    asked = [(query_id, prompted) for prompted in (True, False)[: 1 + unprompted] for query_id in making.queries]
    for done, (query_id, prompted) in enumerate(asked):
        on_progress(done, len(asked))
        if not making.has(query_id, prompted):
            picture, caption = nulls.picture(query_id)
            query = attributor.query(picture, caption if prompted else "")
            others = index.part(example_id for example_id in ids if example_id != query_id)
            *_, last = replace(attributor, index=others, journal=making.journal).follow(query, method)
            making.put(query_id, prompted, _rows(last.changes, ids))
    on_progress(len(asked), len(asked))


@dataclass(frozen=True)
class HeldOut:
    """Held-out images of an index, from the half least like any training image."""

    ids: tuple[str, ...]
    pictures: Catalog

    @classmethod
    def of(cls, index: Index, pictures: Catalog, count: int, seed: int = 0) -> HeldOut:
        """So many of them, or as many as there are; raises InvalidRequest where the index has none."""
        if not index.catalog.of_split("held_out").images:
            raise InvalidRequest(
                f"“{index.folder.name}” has no image of the split held_out, so there is nothing to compare an answer "
                'with. Mark some that the model was not trained on in metadata.jsonl with "split": "held_out", or '
                "name a folder of other pictures with --null."
            )
        unlike = unlike_any(index)
        return cls(tuple(sorted(random.Random(seed).sample(unlike, min(count, len(unlike))))), pictures)

    def picture(self, query_id: str) -> tuple[Image, str]:
        image = self.pictures.by_id[query_id]
        return self.pictures.picture(image), image.caption


def chosen_null(attributor: Attributor, source: Catalog, null: str, count: int, seed: int = 0) -> NullPictures | None:
    """The pictures to measure an index's null with, as `null` says: held-out, drawn, or a folder of one's own.

    With an empty `null`, held-out images where there are enough of them for a verdict; else, of a model with an
    adapter, what its base draws; else as many held-out images as there are. None where that is none.
    """
    if null not in ("", DRAWN, HELD_OUT):
        return OfFolder.read(Path(null), count, seed)
    if null == DRAWN:
        return Drawn.of(attributor.model, source, count, seed)
    there = len(attributor.index.catalog.of_split("held_out").images)
    if null == HELD_OUT or (there + 1) // 2 >= FEWEST_FOR_VERDICT:
        return HeldOut.of(attributor.index, source, count, seed)
    if adapted(attributor.model) and any(image.caption.strip() for image in source.of_split("train").images):
        return Drawn.of(attributor.model, source, count, seed)
    return HeldOut.of(attributor.index, source, count, seed) if there else None


def with_null(
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    count: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Attributor:
    """The attributor with a null of `count` pictures for `method`, all with captions, as in studies of scores.

    With a `count` of 0 without any, even where the index has one.
    """
    if not count or (isinstance(method, Steady) and not method.size_draws):  # whose null is one of sizes
        return replace(attributor, against_null=False)
    index = build_null(attributor, method, pictures, count, on_progress=on_progress, unprompted=False, verdicts=False)
    return replace(attributor, index=index)


def _rows(changes: Changes, ids: Sequence[str]) -> Tensor:
    """Changes of all images in order, each with its likeness weight as the last column, `[n d+1]`; 0 if left out."""
    weights = torch.ones(len(changes.per_draw)) if changes.likeness_weights is None else changes.likeness_weights
    found = torch.zeros(len(ids), changes.per_draw.shape[1] + 1)
    row = {example_id: i for i, example_id in enumerate(ids)}
    found[[row[i] for i in changes.example_ids]] = torch.cat([changes.per_draw, weights[:, None]], dim=1).float()
    return found


def _highest_unprompted(index: Index, making: NullInTheMaking) -> Tensor:
    """`[m]`, against the null distributions under captions: those belong to the images, whatever the prompt."""
    captioned, bare = making.found(prompted=True), making.found(prompted=False)
    return highest(changes_under(captioned, index), index.trained_mask, changes_under(bare, index))


def unlike_any(index: Index) -> list[str]:
    """Ids of the half of the held-out images whose most alike training image is least alike; reads shard by shard."""
    ids = [image.id for image in index.catalog.images if image.id not in index.trained]
    mean = index.mean_latents
    asked = torch.cat([resampled(latents.float(), mean.shape) for latents in _latents(index.part(ids))])
    nearest = torch.full((len(ids),), -1.0)
    for latents in _latents(index.part(index.trained)):
        if len(latents):
            nearest = nearest.maximum(likeness(asked, latents, mean).max(dim=1).values)
    return sorted(ids[i] for i in nearest.argsort(stable=True)[: -(-len(ids) // 2)])


def _latents(index: Index) -> Iterator[Tensor]:
    """Latents `[n c h w]`, a shard at a time."""
    for shard in index.shards():
        yield shard.batch.latents
