"""Pure functions from the training image that is chosen in an answer to the HTML that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from ..examples.catalog import TrainingImage
from ..records.record import AdapterRecord, Match, Record
from ..records.text import licence_name, rank_range
from .templates import render
from .training_view import credit_facts, link
from .view import comparison


def no_match(record: Record) -> str:
    """The place of the chosen image where none stands out, so none is chosen."""
    return render("no_match.html", listed=len(record.results))


def match(record: Record, match: Match, image: TrainingImage, query_url: str, url: str) -> str:
    """One training image beside the query: how strong its influence is, at which noise, and whose it is."""
    return render(
        "match.html",
        match=match,
        place=f"Rank {match.rank} of {record.index.trained:,}",
        comparison=comparison(query_url, url, match.caption, "slide"),
        facts=_facts(record, match),
        bars=_bars(match),
        size_note=_size_note(match.size_draws),
        origin=_origin(image),
        licence_name=licence_name,
        link=link,
    )


def _facts(record: Record, match: Match) -> list[tuple[str, str, str]]:
    """Names, values and remarks."""
    error = f"± {match.standard_error:.1f} (standard error)" if match.standard_error is not None else ""
    facts = [
        ("Stands out", *_chance(record, match)),
        ("Influence score", f"{match.score:.1f}", error),
        ("Visual similarity", f"{match.similarity:.2f}", f"rank {match.similarity_rank:,} by similarity alone"),
    ]
    if len(match.per_draw) > 1:
        facts.insert(2, ("Rank range", rank_range(match), "when any one noise level is left out"))
    if (match.repeats or 1) > 1:
        facts.append(("In training", f"shown {match.repeats} times per epoch", ""))
    if match.adapter is not None:
        facts.append(("Learned by the adapter", *_learned(match.adapter)))
    if match.is_fallback_caption:
        facts.append(("Caption", "used as the prompt", "as none was given, which raises this image’s score"))
    return facts


def _learned(adapter: AdapterRecord) -> tuple[str, str]:
    """How much of the model's error on the image the adapter took away, and both errors."""
    share = 1 - adapter.loss / adapter.loss_without if adapter.loss_without > 0 else 0.0
    errors = f"mean denoising error {adapter.loss:.4f} with it, {adapter.loss_without:.4f} without"
    return f"{abs(share):.0%} {'less' if share >= 0 else 'more'} error", errors


def _chance(record: Record, match: Match) -> tuple[str, str]:
    if match.p_value is None:
        return "not known", "this index has no null distribution for these settings"
    if match.stands_out is None:
        return "not known", "the null distribution has too few pictures"
    null = record.confidence.null_pictures
    as_high = round(match.p_value * (1 + null)) - 1
    reached = f"{as_high or 'none'} of {null} pictures that the model never saw reached this score"
    return "yes" if match.stands_out else "no", f"p = {match.p_value:.2f}: {reached}"


@dataclass(frozen=True)
class Bar:
    value: float
    size: float  # share of the longest
    title: str


def _bars(match: Match) -> list[Bar]:
    """Influence at each noise level, from little noise (detail) to much (layout)."""
    values, by_error = match.per_draw, len(match.per_draw) - match.size_draws
    longest = max([1e-9, *map(abs, values)])
    return [
        Bar(
            value,
            abs(value) / longest,
            f"Noise level {k} of {len(values)}{', by the size of the prediction' if k > by_error else ''}: {value:.1f}",
        )
        for k, value in enumerate(values, 1)
    ]


def _size_note(size_draws: int) -> str:
    if not size_draws:
        return ""
    last = "The last bar measures" if size_draws == 1 else f"The last {size_draws} bars measure"
    return f"{last} the size of the model’s prediction, the others its error."


def _origin(image: TrainingImage) -> list[tuple[str, str]]:
    """What is known of an image beside its creator and its licence, which stand above it."""
    return [(name, value) for name, value in credit_facts(image) if name not in ("Creator", "Licence")]
