"""How high images score for pictures that owe them nothing: asked once, when an index is built.

Not every held-out picture is one. A held-out calendar owes much to the trained tear-off calendar: had the model drawn
it, that image should be called. So only the half of the held-out images is asked that looks least like any training
image, in latents, which is decided before anything is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidRequest
from ..examples.catalog import Catalog
from ..examples.decoding import read_training_picture
from ..files import manifest
from ..index.null_file import ReferenceInTheMaking
from ..index.store import Index
from ..methods.protocol import AttributionMethod
from ..scoring.confidence import highest
from ..scoring.likeness import likeness
from ..scoring.score import Changes
from .attributor import Attributor
from .null_changes import changes_under

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = 29  # the third highest of them bounds a rate of 10 %


def build_reference(
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    count: int = QUERIES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    unprompted: bool = True,
) -> Index:
    """Ask `count` held-out images of the index with their captions, and keep every score in the index's folder.

    Random ones of those that look like no training image; fewer where there are not as many. `pictures` holds them at
    the size they have. Each is asked of all images but itself: a picture that an answer is sought for has no row of its
    own in the index, and one's own row moves so much that all others seem to move less. They are asked once more
    without a prompt, if `unprompted`: the caption of the image that looks most like one stands for it then, which lets
    that image score higher, so that what is called needs a bar of its own. Resumes where it was cut off, and does
    nothing where it is there; returns the index as it is then. Raises InvalidRequest where the index has no held-out
    image.
    """
    index = attributor.index
    if not index.catalog.of_split("held_out").images:
        raise InvalidRequest(
            f"“{index.folder.name}” has no image of the split held_out, so there is nothing to compare an answer with. "
            "Name some in metadata.jsonl that the model was not trained on."
        )
    unlike = unlike_any(index)
    chosen = sorted(random.Random(seed).sample(unlike, min(count, len(unlike))))
    settings, kept = attributor.comparable(method), index.reference
    same = kept is not None and attributor.is_comparable(kept.settings, method) and list(kept.queries) == chosen
    if kept and same and (kept.unprompted is not None or not unprompted):
        return index
    making = ReferenceInTheMaking.begin(index.folder, settings, tuple(chosen))
    ids = [image.id for image in index.catalog.images]
    asked = [(query_id, prompted) for prompted in (True, False)[: 1 + unprompted] for query_id in chosen]
    for done, (query_id, prompted) in enumerate(asked):
        on_progress(done, len(asked))
        if not making.has(query_id, prompted):
            image = pictures.by_id[query_id]
            picture = read_training_picture(pictures.path_of(image))
            query = attributor.query(picture, image.caption if prompted else "")
            others = replace(attributor, index=index.part(example_id for example_id in ids if example_id != query_id))
            *_, last = others.follow(query, method)
            making.put(query_id, prompted, _rows(last.changes, ids))
    on_progress(len(asked), len(asked))
    making.finish(_highest_unprompted(index, making) if unprompted else None)
    manifest.write_manifest(index.folder)
    return Index.open(index.folder)


def referenced(
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    count: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Attributor:
    """The attributor with a reference of `count` pictures for `method`, all asked with captions, as studies ask.

    Where `count` is 0 with none, also if there is one.
    """
    if not count:
        return replace(attributor, against_null=False)
    index = build_reference(attributor, method, pictures, count, on_progress=on_progress, unprompted=False)
    return replace(attributor, index=index)


def _rows(changes: Changes, ids: Sequence[str]) -> Tensor:
    """Changes at each draw, and the weight behind them, of all images in order, `[n d+1]`; 0 where one was left out."""
    weights = torch.ones(len(changes.per_draw)) if changes.weights is None else changes.weights
    found = torch.zeros(len(ids), changes.per_draw.shape[1] + 1)
    row = {example_id: i for i, example_id in enumerate(ids)}
    found[[row[i] for i in changes.example_ids]] = torch.cat([changes.per_draw, weights[:, None]], dim=1).float()
    return found


def _highest_unprompted(index: Index, making: ReferenceInTheMaking) -> Tensor:
    """`[b]`, against the null distributions under captions: those belong to the images, whatever the prompt."""
    captioned, bare = making.found(prompted=True), making.found(prompted=False)
    return highest(changes_under(captioned, index), index.trained_mask, changes_under(bare, index))


def unlike_any(index: Index) -> list[str]:
    """Ids of the held-out images that look least like any training image: the half whose nearest one is farthest.

    The training set is read shard by shard.
    """
    ids = [image.id for image in index.catalog.images if image.id not in index.trained]
    asked, mean = torch.cat(list(_latents(index.part(ids)))), index.mean_latents
    nearest = torch.full((len(ids),), -1.0)
    for latents in _latents(index.part(index.trained)):
        if len(latents):
            nearest = nearest.maximum(likeness(asked, latents, mean).max(dim=1).values)
    return sorted(ids[i] for i in nearest.argsort(stable=True)[: -(-len(ids) // 2)])


def _latents(index: Index) -> Iterator[Tensor]:
    """Latents `[n c h w]`, a shard at a time."""
    for shard in index.shards():
        yield shard.batch.latents
