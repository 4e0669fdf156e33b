"""Pure functions from an attribution, running or finished, to the HTML that shows it. All text is escaped here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape

from ..examples.catalog import Catalog, TrainingImage, counted
from ..records.record import GroupRecord, Match, Record
from ..records.text import fallback_note, verdict_of
from . import view

GROUPS = 8  # shown by name in a table; the others together
GROUPED = {"collection": "Collection", "licence": "Licence", "creator": "Creator"}
UrlOf = Callable[[TrainingImage], str]
Scored = Sequence[tuple[str, float, float | None]]  # id, score, standard error where there is one; best first

STEPS = (
    ("Lean on the picture", "The model takes a few small learning steps on your picture alone."),
    ("Look again at every training image", "Each one passes through the moved model once."),
    (
        "See which ones moved",
        "The images that it now meets most differently are estimated to have shaped the picture most.",
    ),
)


def waiting() -> str:
    """What will happen here, before there is a picture."""
    steps = "".join(f"<li><strong>{title}.</strong> {text}</li>" for title, text in STEPS)
    return f'<div class="fi-card fi-empty fi-howto"><p>The answer appears here.</p><ol>{steps}</ol></div>'


def preparing(text: str) -> str:
    return f'<div class="fi-progress"><progress aria-label="Preparing"></progress><p>{escape(text)}</p></div>'


def progress(done: int, total: int, held_out: int, rate: float, seconds_left: float) -> str:
    """How far a sweep is; `held_out` of the `total` are no training images and are compared as a check."""
    left = f"{seconds_left:.0f}&nbsp;s left" if seconds_left < 90 else f"{seconds_left / 60:.0f}&nbsp;min left"
    compared = _compared(done, total, held_out)
    return (
        f'<div class="fi-progress"><progress aria-label="Images compared" value="{done}" max="{total}"></progress>'
        f"<p><b>{done / total:.0%}</b> · {compared} · {rate:,.0f} images/s · {left}</p></div>"
    )


def stopped(done: int, total: int, held_out: int) -> str:
    return (
        f'<div class="fi-notice" role="status"><strong>Stopped</strong> after {_compared(done, total, held_out)}. '
        "Nothing was kept; the model is as it was.</div>"
    )


def _compared(done: int, total: int, held_out: int) -> str:
    return f"{done:,} of {total:,} images" + (f", {held_out:,} held out as a check" if held_out else "")


def finished(record: Record, result_id: str) -> str:
    """The verdict, what was done, and the word of caution; carries the result's id for the link."""
    verdict, took = verdict_of(record), f" in {record.seconds:.0f}&nbsp;s" if record.seconds else ""
    return (
        f'<div class="fi-done" role="status" data-result="{escape(result_id)}">'
        f'<p class="fi-verdict"><strong>{escape(verdict.headline)}</strong> {escape(verdict.explanation)}</p>'
        f"<p>{record.index.trained:,} training images compared{took}, best first. {escape(fallback_note(record))} "
        f"{escape(record.caution)}</p></div>"
    )


def so_far(share: float, scored: Scored, images: dict[str, TrainingImage], url_of: UrlOf) -> str:
    """Training images as buttons that carry their ids, best first, while the sweep has seen a share of them."""
    tiles = (_tile(rank, images[i], s, e, url_of) for rank, (i, s, e) in enumerate(scored, 1))
    return (
        f'<p class="fi-small">So far, after {share:.0%} of the images; the order still changes.</p>'
        f'<ol class="fi-gallery fi-ranked fi-partial">{"".join(tiles)}</ol>'
    )


def answer(record: Record, images: dict[str, TrainingImage], url_of: UrlOf, chosen: str) -> str:
    """The same of a finished result, with what is sure of each image; `chosen` is pressed.

    Where none stands out, none is shown as if it did.
    """
    quiet = " fi-quiet" if record.confidence.stand_out == 0 else ""
    tiles = (
        _tile(
            row.rank,
            images[row.id],
            row.score,
            row.standard_error,
            url_of,
            _sureness(row),
            row.id == chosen,
        )
        for row in record.results
    )
    return f'<ol class="fi-gallery fi-ranked{quiet}">{"".join(tiles)}</ol>'


def _sureness(row: Match) -> str:
    """Whether an image stands out, and within which ranks it stays; in words that need no statistics."""
    mark = '<span class="fi-mark">stands out</span>' if row.stands_out else ""
    lent = '<span class="fi-steady">lent its caption</span>' if row.is_fallback_caption else ""
    steady = f'<span class="fi-steady" title="Rank with any one draw left out">{_steadiness(row)}</span>'
    return mark + lent + (steady if len(row.per_draw) > 1 else "")


def _steadiness(row: Match) -> str:
    best, worst = row.rank_range
    return f"stays no. {best:,}" if best == worst else f"no. {best:,} to {worst:,}"


def _tile(
    rank: int,
    image: TrainingImage,
    score: float,
    error: float | None,
    url_of: UrlOf,
    sureness: str = "",
    chosen: bool = False,
) -> str:
    caption, pressed = escape(image.caption), ' aria-pressed="true"' if chosen else ""
    return (
        f'<li><button type="button" data-id="{escape(image.id)}" title="{caption}"{pressed}>'
        f'<span class="fi-rank">{rank}</span>'
        f'<img src="{escape(url_of(image))}" alt="{caption}">'
        f'<span class="fi-score">{score:.1f} <small>{_spread(error, 1)}</small></span>{sureness}'
        f'<span class="fi-name" aria-hidden="true">{escape(image.subject)}</span>'
        f'<span class="fi-by">{escape(image.creator)} · {escape(_name("licence", image.licence))}</span></button></li>'
    )


def _spread(error: float | None, digits: int, what: str = "") -> str:
    """A standard error where there is one: not over a single draw."""
    return "" if error is None or math.isnan(error) else f"± {error:.{digits}f}{what}"


def detail(row: Match, image: TrainingImage, query_url: str, url: str) -> str:
    """One training image beside the query: how strongly, at which noise, and whose it is."""
    looks = f"{row.similarity:.2f} <small>(no. {row.similarity_rank:,} in looks alone)</small>"
    draws = len(row.per_draw)
    steady = f"; {_steadiness(row)} <small>when one of {draws} draws is left out</small>" if draws > 1 else ""
    lent = "its own, as no prompt was given <small>(so it scores higher than it would otherwise)</small>"
    facts = (
        ("Influence", f"{row.score:.2f} {_spread(row.standard_error, 2, ' <small>(standard error)</small>')}"),
        ("Stands out", _chance(row.stands_out, row.p_value)),
        ("Rank", f"{row.rank}{steady}"),
        *([("Asked with the caption", lent)] if row.is_fallback_caption else []),
        ("Visual similarity", looks),
        *view.credit_facts(image),
    )
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    noise = by_noise(row.per_draw, row.size_draws)
    return (
        f'<section class="fi-detail" aria-label="Chosen training image">'
        f"<h2>#{row.rank} · {escape(image.caption)}</h2>"
        f'<div class="fi-sides"><div>{compare(query_url, url, image.caption)}{noise}</div>'
        f"<dl>{rows}</dl></div></section>"
    )


def _chance(stands_out: bool | None, p_value: float | None) -> str:
    if p_value is None:
        return "not known <small>(there is no reference for these settings)</small>"
    if stands_out is None:
        return "not known <small>(the reference holds too few pictures)</small>"
    chance = f"p = {p_value:.2f}: the chance that a picture never seen reaches as much with any image"
    return f"{'yes' if stands_out else 'no'} <small>({chance})</small>"


def compare(query_url: str, url: str, caption: str) -> str:
    """The query and a training image in one frame, with a slider between them that a keyboard moves too."""
    return (
        f'<div class="fi-compare"><img src="{escape(query_url)}" alt="The query">'
        f'<img class="fi-over" src="{escape(url)}" alt="{escape(caption)}">'
        '<input type="range" min="0" max="100" value="50" aria-label="Query on the left, training image on the right" '
        "oninput=\"this.parentElement.style.setProperty('--cut', this.value + '%')\"></div>"
        '<p class="fi-small fi-ends"><span>query</span><span>training image</span></p>'
    )


def by_noise(per_draw: Sequence[float], sized: int = 0) -> str:
    """Influence at each draw, from little noise (detail) to much (layout), as bars that are also readable as text.

    The last `sized` of them tell of the size of the prediction, not of its error.
    """
    errors = len(per_draw) - sized
    top = max(1e-9, *(abs(value) for value in per_draw))
    bars = "".join(
        f'<li style="--size:{abs(value) / top:.3f}" class="{"fi-up" if value >= 0 else "fi-down"}" '
        f'title="noise level {k} of {len(per_draw)}{", by the size of the prediction" if k > errors else ""}: '
        f'{value:.1f}"><span>{value:.1f}</span></li>'
        for k, value in enumerate(per_draw, 1)
    )
    last = "The last bar is" if sized == 1 else f"The last {sized} bars are"
    note = f'<p class="fi-small">{last} of how strong the model’s prediction is, not of its error.</p>' if sized else ""
    return (
        '<figure class="fi-noise"><figcaption>Influence by timestep</figcaption>'
        f'<ol>{bars}</ol><p class="fi-small fi-ends"><span>little noise</span>'
        f"<span>much noise</span></p>{note}</figure>"
    )


def credits(record: Record, catalog: Catalog) -> str:
    """The results by collection, licence and creator, beside what chance would give."""
    rows, trained = record.results, catalog.of_split("train").images
    tables = "".join(_roll_up(title, key, rows, trained) for key, title in GROUPED.items())
    return (
        f'<h2 class="fi-section">Who made these {len(rows)}</h2>'
        f'<div class="fi-rollups">{tables}</div>'
        '<p class="fi-small">“By chance” is what a random choice from the training set would give.</p>'
    )


def _roll_up(title: str, key: str, rows: Sequence[Match], trained: Sequence[TrainingImage]) -> str:
    share = {name: count / len(trained) for name, count in counted(trained, lambda image: getattr(image, key))}
    most_first = Counter(getattr(row, key) for row in rows).most_common()
    body = [(_name(key, name), f"{n}", f"{share[name] * len(rows):.1f}") for name, n in most_first[:GROUPS]]
    if others := most_first[GROUPS:]:
        chance = sum(share[name] for name, _ in others) * len(rows)
        body.append((f"{len(others)} others", f"{sum(n for _, n in others)}", f"{chance:.1f}"))
    return _table((title, "Images", "By chance"), body)


def whole_groups(record: Record) -> str:
    """Whether the images of a collection, a licence or a creator rank high as a whole; folded where none stands out."""
    tables = "".join(_tested(title, getattr(record.groups, key), key) for key, title in GROUPED.items())
    alone = record.confidence.stand_out == 0
    weak = " No single image stands out here, so take it as a leaning towards a style at most." if alone else ""
    return (
        f'<details class="fi-how"{"" if alone else " open"}>'
        "<summary>Does anyone’s work rank high as a whole?</summary>"
        '<p class="fi-small">The mean rank is over <em>all</em> of a group’s images, not only those above; p is the '
        "chance of one as good if images belonged to groups at random. It allows for how many groups of a kind were "
        "tested, so the same images may have one p as a collection and another as a creator’s. Images of one style "
        f"move together. It is no estimate of how much of the picture a group accounts for.{weak}</p>"
        f'<div class="fi-rollups">{tables}</div></details>'
    )


def _tested(title: str, groups: Sequence[GroupRecord], key: str) -> str:
    body = [
        (_name(key, group.name), f"{group.images:,}", f"{group.mean_rank:,.0f}", _p(group.p_value))
        for group in groups[:GROUPS]
    ]
    if len(groups) > GROUPS:
        body.append((f"{len(groups) - GROUPS} others", "", "", f"from {_p(groups[GROUPS].p_value)}"))
    return _table((f"{title}, {len(groups)} tested", "Images", "Mean rank", "p"), body)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="fi-rollup"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _name(key: str, value: str) -> str:
    names = {"collection": view.COLLECTION_NAMES, "licence": view.LICENCE_NAMES}.get(key, {})
    return names.get(value, value)


def keep(result_id: str) -> str:
    """Ways to keep a result: its link, and its files."""
    result = escape(result_id)
    return (
        '<p class="fi-keep">'
        f'<button type="button" class="fi-button" data-copy="?result={result}">Copy link</button>'
        f'<a class="fi-button" href="results/{result}/scores.csv" download="forward-inf-{result}.csv">Download CSV</a>'
        f'<a class="fi-button" href="results/{result}/record.json" download="forward-inf-{result}.json">'
        "Download JSON</a></p>"
    )


def reproduced_by(record: Record) -> str:
    """Settings, seeds and fingerprints, for whoever wants to check."""
    m = record.mirrored
    facts: Iterable[tuple[str, object]] = (
        ("Query, SHA-256", record.query.sha256),
        ("Prompt", record.query.prompt or "(empty)"),
        ("Caption that stood for it", record.query.fallback_caption or "(none)"),
        ("Method", record.method.name),
        *((f"Method: {key.replace('_', ' ')}", value) for key, value in record.method.settings.items()),
        *([("Query’s loss before and after", f"{m.loss_before:.5f} → {m.loss_after:.5f}")] if m else []),
        ("Weights moved", record.model.tunable),
        ("Model", f"{record.model.name} {record.model.fingerprint}"),
        ("Index", record.index.fingerprint),
        ("Draws per image, seed", f"{record.index.draws}, {record.index.draw_seed}"),
        ("Version", record.version),
    )
    rows = "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(str(value))}</code></dd>" for name, value in facts)
    return (
        '<details class="fi-how"><summary>What reproduces this result</summary>'
        f'<dl class="fi-model">{rows}</dl></details>'
    )
