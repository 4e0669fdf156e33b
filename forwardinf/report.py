"""A finished attribution as a record that can be kept, and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    from .attribution import Attributor
    from .methods.forward_inf import ForwardInf
    from .types import InfluenceScores, MirroredWeights, Query

CAUTION = "Estimated influence is neither copying nor infringement."


def as_record(
    attributor: Attributor,
    query: Query,
    method: ForwardInf,
    mirrored: MirroredWeights,
    scores: InfluenceScores,
    top: int,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that reproduces an attribution, and its `top` results, in JSON's types."""
    index = attributor.index
    rows = {image.id: image for image in index.catalog.images}
    draws = dict(zip(scores.example_ids, scores.per_draw.tolist(), strict=True))
    results = []
    for rank, (example_id, score, error) in enumerate(scores.top(top), 1):
        image = rows[example_id]
        numbers = {"score": score, "standard_error": error, "similarity": 0.5, "per_draw": draws[example_id]}
        credit = {key: getattr(image, key) for key in ("caption", "collection", "creator", "licence", "licence_url")}
        source = {"source_url": image.source_url, "split": image.split, "sha256": image.sha256}
        results.append({"rank": rank, "id": example_id, **numbers, **credit, **source})
    return {
        "caution": CAUTION,
        "version": __version__,
        "query": {"sha256": query.sha256, "prompt": query.prompt, "notes": list(notes)},
        "method": {"name": "forward_inf", **asdict(method)},
        "mirrored": {"loss_before": mirrored.loss_before, "loss_after": mirrored.loss_after,
                     "step_sizes": list(mirrored.step_sizes)},
        "model": {"name": index.info.model, "fingerprint": index.info.fingerprint,
                  "tunable": attributor.model.spec.tunable},
        "index": {"fingerprint": index.fingerprint, "examples": index.info.examples,
                  "draws": index.info.draw_count, "draw_seed": index.info.draw_seed},
        "results": results,
    }  # fmt: skip


def as_table(record: dict[str, Any]) -> str:
    """The results, best first, with their credits, over the word of caution."""
    lines = [f"{'':>4} {'score':>8} {'± s.e.':>7}  {'caption':40} {'creator':30} licence"]
    lines += [
        f"{r['rank']:>4} {r['score']:>8.3f} {r['standard_error']:>7.3f}  {r['caption'][:40]:40} "
        f"{r['creator'][:30]:30} {r['licence']}"
        for r in record["results"]
    ]
    return "\n".join([*lines, "", *record["query"]["notes"], record["caution"]])


def as_csv(attributor, scores):
    return "rank,id,score\n" + "".join(
        f"{r},{i},{v}\n" for r, (i, v, e) in enumerate(scores.top(len(scores.example_ids)), 1)
    )
