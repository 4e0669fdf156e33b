"""A finished attribution as a record that can be kept, and as a table for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import __version__
from .methods import AttributionMethod, QueryState, settings_of
from .types import InfluenceScores, MirroredWeights, Query

if TYPE_CHECKING:
    from torch import Tensor

    from .attribution import Attributor
    from .index.catalog import Catalog

CSV_CREDIT = ("caption", "collection", "creator", "licence", "source_url")
CAUTION = "Estimated influence is neither copying nor infringement."


def as_record(
    attributor: Attributor,
    query: Query,
    method: AttributionMethod,
    state: QueryState,
    scores: InfluenceScores,
    similarities: Tensor,
    top: int,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that reproduces an attribution, and its `top` results, in JSON's types.

    `similarities [n]` are the index's, in its order; an image's rank in them is among the images trained on. What the
    steps on the query did is there where the method took any, a standard error where there is one.
    """
    index = attributor.index
    draws = dict(zip(scores.example_ids, scores.per_draw.tolist(), strict=True))
    likeness = dict(zip((image.id for image in index.catalog.images), similarities.tolist(), strict=True))
    most_alike = sorted(scores.example_ids, key=lambda example_id: -likeness[example_id])
    results = []
    for rank, (example_id, score, error) in enumerate(scores.top(top), 1):
        image = index.catalog.by_id[example_id]
        looks = {"similarity": likeness[example_id], "similarity_rank": 1 + most_alike.index(example_id)}
        numbers = {
            "score": score,
            "standard_error": None if math.isnan(error) else error,
            **looks,
            "per_draw": draws[example_id],
        }
        credit = {key: getattr(image, key) for key in ("caption", "collection", "creator", "licence", "licence_url")}
        source = {"source_url": image.source_url, "split": image.split, "sha256": image.sha256}
        results.append({"rank": rank, "id": example_id, **numbers, **credit, **source})
    return {
        "caution": CAUTION,
        "version": __version__,
        "query": {"sha256": query.sha256, "prompt": query.prompt, "notes": list(notes)},
        "method": settings_of(method),
        "mirrored": _steps_of(state) if isinstance(state, MirroredWeights) else None,
        "model": {"name": index.info.model, "fingerprint": index.info.fingerprint,
                  "tunable": attributor.model.spec.tunable},
        "index": {"fingerprint": index.fingerprint, "examples": index.count,
                  "draws": index.info.draw_count, "draw_seed": index.info.draw_seed},
        "results": results,
    }  # fmt: skip


def as_table(record: dict[str, Any]) -> str:
    """The results, best first, with their credits, over the word of caution."""
    lines = [f"{'':>4} {'score':>8} {'± s.e.':>7}  {'caption':40} {'creator':30} licence"]
    lines += [
        f"{r['rank']:>4} {r['score']:>8.3f} {_error(r['standard_error'])}  {r['caption'][:40]:40} "
        f"{r['creator'][:30]:30} {r['licence']}"
        for r in record["results"]
    ]
    return "\n".join([*lines, "", *record["query"]["notes"], record["caution"]])


def _steps_of(mirrored: MirroredWeights) -> dict[str, Any]:
    steps = list(mirrored.step_sizes)
    return {"loss_before": mirrored.loss_before, "loss_after": mirrored.loss_after, "step_sizes": steps}


def _error(error: float | None) -> str:
    return f"{'–':>7}" if error is None else f"{error:>7.3f}"


def as_csv(scores: InfluenceScores, catalog: Catalog) -> str:
    """Every scored example, best first, with its credit: one header line, then one row each, as RFC 4180 has it.

    Scores are written in full, so that reading them back gives the same floats. A cell that a spreadsheet would run
    as a formula is led by an apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "rank", "score", "standard_error", *CSV_CREDIT])
    for rank, (example_id, score, error) in enumerate(scores.top(len(scores.example_ids)), 1):
        credit = [_inert(getattr(catalog.by_id[example_id], key)) for key in CSV_CREDIT]
        writer.writerow([_inert(example_id), rank, score, error, *credit])
    return text.getvalue()


def _inert(cell: str) -> str:
    """A cell that no spreadsheet runs (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
