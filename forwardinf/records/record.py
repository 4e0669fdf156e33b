"""A finished attribution as a record that can be kept, and as a table for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..methods.protocol import AttributionMethod, QueryState
from ..methods.registry import settings_of
from ..scoring.confidence import ENOUGH, RATE, Confidence
from ..scoring.groups import ranked_groups
from ..types import InfluenceScores, MirroredWeights, Query

if TYPE_CHECKING:
    from torch import Tensor

    from ..attribution.attributor import Attributor
    from ..examples.catalog import Catalog

CSV_CREDIT = ("caption", "collection", "creator", "licence", "source_url")
GROUPED_BY = ("collection", "licence", "creator")
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
    index, confidence = attributor.index, attributor.confidence(scores, method, prompted=query.prompted)
    draws = dict(zip(scores.example_ids, scores.per_draw.tolist(), strict=True))
    sure = _sureness(scores, confidence)
    likeness = dict(zip((image.id for image in index.catalog.images), similarities.tolist(), strict=True))
    most_alike = sorted(scores.example_ids, key=lambda example_id: -likeness[example_id])
    results = []
    for rank, (example_id, score, error) in enumerate(scores.top(top), 1):
        image = index.catalog.by_id[example_id]
        looks = {"similarity": likeness[example_id], "similarity_rank": 1 + most_alike.index(example_id)}
        numbers = {
            "score": score,
            "standard_error": None if math.isnan(error) else error,
            **sure[example_id],
            **looks,
            "per_draw": draws[example_id],
        }
        credit = {key: getattr(image, key) for key in ("caption", "collection", "creator", "licence", "licence_url")}
        source = {"source_url": image.source_url, "split": image.split, "sha256": image.sha256}
        lent = {"lent_caption": query.borrowed is not None and image.caption == query.borrowed}
        results.append({"rank": rank, "id": example_id, **numbers, **lent, **credit, **source})
    sureness = {"stand_out": confidence.stand_out, "false_discovery_rate": RATE,
                "reference_queries": confidence.reference_queries}  # fmt: skip
    return {
        "caution": CAUTION,
        "version": __version__,
        "query": {"sha256": query.sha256, "prompt": query.prompt, "borrowed": query.borrowed,
                  "notes": list(notes)},
        "method": settings_of(method),
        "mirrored": _steps_of(state) if isinstance(state, MirroredWeights) else None,
        "model": {"name": index.info.model, "fingerprint": index.info.fingerprint,
                  "tunable": attributor.model.spec.tunable},
        "index": {"fingerprint": index.fingerprint, "examples": index.count, "trained": len(scores.example_ids),
                  "draws": index.info.draw_count, "draw_seed": index.info.draw_seed},
        "confidence": {"verdict": verdict(sureness, len(results)), **sureness},
        "results": results,
        "groups": {key: _groups(scores, index.catalog, key) for key in GROUPED_BY},
    }  # fmt: skip


def _sureness(scores: InfluenceScores, confidence: Confidence) -> dict[str, dict[str, Any]]:
    """What is said of each image's score beside its standard error."""
    unknown = [None] * len(scores.example_ids)
    p = unknown if confidence.p_values is None else confidence.p_values.tolist()
    stand_out = unknown if confidence.standing_out is None else confidence.standing_out.tolist()
    each = zip(scores.example_ids, p, stand_out, confidence.rank_ranges.tolist(), strict=True)
    return {
        example_id: {"p_value": p_value, "stands_out": stands_out, "rank_range": rank_range}
        for example_id, p_value, stands_out, rank_range in each
    }


def _groups(scores: InfluenceScores, catalog: Catalog, key: str) -> list[dict[str, Any]]:
    """Every creator, collection or licence with its mean rank and the chance of it, best first."""
    names = [getattr(catalog.by_id[example_id], key) for example_id in scores.example_ids]
    return [asdict(group) for group in ranked_groups(scores.scores, names)]


def as_table(record: dict[str, Any]) -> str:
    """The verdict and the results, best first, with their credits, over the word of caution."""
    lines = [verdict(record["confidence"], len(record["results"])), ""]
    lines += [f"{'':>4} {'score':>8} {'± s.e.':>7} {'p':>5} {'ranks':>9}  {'caption':40} {'creator':30} licence"]
    lines += [
        f"{r['rank']:>4} {r['score']:>8.3f} {_or_dash(r['standard_error'], 7, 3)} {_or_dash(r['p_value'], 5, 2)} "
        f"{ranks(r['rank_range']):>9}  {r['caption'][:40]:40} {r['creator'][:30]:30} {r['licence']}"
        for r in record["results"]
    ]
    notes = filter(None, [*record["query"]["notes"], without_prompt(record), record["caution"]])
    return "\n".join([*lines, "", *notes])


def verdict(confidence: dict[str, Any], shown: int) -> str:
    """What may be said of an answer as a whole, over the `shown` images that come first."""
    found, rate = confidence["stand_out"], confidence["false_discovery_rate"]
    if found is None and confidence["reference_queries"]:
        count = confidence["reference_queries"]
        return (
            f"The index holds scores of {count} reference {'picture' if count == 1 else 'pictures'}, too few to say "
            f"whether any image stands out: that takes {ENOUGH}. Build it with more held-out images."
        )
    if found is None:
        return (
            "There is nothing to compare this answer with: the index holds no reference for these settings, so it is "
            "not said whether any image stands out."
        )
    if not found:
        return "No training image stands out: what follows is merely similar."
    if found > shown:
        return f"{found} training images stand out (false-discovery rate {rate:.0%}); listed here: {shown}."
    return f"{found} of these {'stands' if found == 1 else 'stand'} out (false-discovery rate {rate:.0%})."


def without_prompt(record: dict[str, Any]) -> str:
    """What stood for a prompt that was not given; empty where one was."""
    borrowed = record["query"].get("borrowed")  # absent from records of earlier versions
    if borrowed is None:
        return ""
    told = (
        f"No prompt was given; the caption of the training image that looks most like it stood for one: “{borrowed}”."
    )
    if any(row["stands_out"] and row.get("lent_caption") for row in record["results"]):
        told += " That image is among those that stand out, and scores higher for it: give the prompt if it is known."
    return told


def ranks(rank_range: Sequence[int]) -> str:
    best, worst = rank_range
    return f"{best}" if best == worst else f"{best}–{worst}"


def _steps_of(mirrored: MirroredWeights) -> dict[str, Any]:
    steps = list(mirrored.step_sizes)
    return {"loss_before": mirrored.loss_before, "loss_after": mirrored.loss_after, "step_sizes": steps}


def _or_dash(number: float | None, width: int, digits: int) -> str:
    return f"{'–':>{width}}" if number is None else f"{number:>{width}.{digits}f}"


def as_csv(scores: InfluenceScores, catalog: Catalog, confidence: Confidence) -> str:
    """Every scored example, best first, with its credit: one header line, then one row each, as RFC 4180 has it.

    A p-value is empty where there is no reference to have it from.

    Scores are written in full, so that reading them back gives the same floats. A cell that a spreadsheet would run
    as a formula is led by an apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "rank", "score", "standard_error", "p_value", *CSV_CREDIT])
    sure = _sureness(scores, confidence)
    for rank, (example_id, score, error) in enumerate(scores.top(len(scores.example_ids)), 1):
        credit = [_inert(getattr(catalog.by_id[example_id], key)) for key in CSV_CREDIT]
        writer.writerow([_inert(example_id), rank, score, error, sure[example_id]["p_value"], *credit])
    return text.getvalue()


def _inert(cell: str) -> str:
    """A cell that no spreadsheet runs (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
