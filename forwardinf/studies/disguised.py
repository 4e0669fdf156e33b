"""Are training images found in disguise, by their own caption or without any prompt?

    forwardinf study disguised --images 50 --prompt none

The query is a training image that was mirrored, turned, recoloured, framed, watermarked or greyed: does the image come
first, and does it stand out? Images are the reported half of those that `make bench-looks` compares embedders on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from ..attribution.attributor import Attributor
from ..attribution.shortlist import Effort
from ..errors import InvalidRequest
from ..examples.catalog import Catalog, TrainingImage
from ..examples.decoding import to_square
from ..methods.protocol import AttributionMethod
from ..scoring.confidence import RATE, p_values
from .calibration import require_verdicts
from .intervals import wilson_interval
from .journal import Journal, Trial
from .reports import goal_text, share_text
from .settings import settings_of_answers

GOAL_FIRST, GOAL_CALLED, GOAL_QUERIES = 0.90, 0.80, 300


def mirrored(picture: Image.Image) -> Image.Image:
    return ImageOps.mirror(picture)


def turned(picture: Image.Image) -> Image.Image:
    return picture.rotate(12, Image.Resampling.BICUBIC, fillcolor="white")


def recoloured(picture: Image.Image) -> Image.Image:
    """With its hue a third of the circle on."""
    hue, saturation, value = picture.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda h: (h + 85) % 256), saturation, value)).convert("RGB")


def bordered(picture: Image.Image) -> Image.Image:
    """In a dark frame of a tenth of its side."""
    return ImageOps.expand(picture, picture.width // 10, "#333333").resize(picture.size, Image.Resampling.LANCZOS)


def watermarked(picture: Image.Image) -> Image.Image:
    over = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(over)
    for top in range(0, picture.height, picture.height // 3):
        draw.text((picture.width // 16, top), "SAMPLE", fill=(90, 90, 90, 140), font_size=picture.width // 4)
    return Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")


def grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L").convert("RGB")


DISGUISES: dict[str, Callable[[Image.Image], Image.Image]] = {
    disguise.__name__: disguise for disguise in (mirrored, turned, recoloured, bordered, watermarked, grey)
}


@dataclass(frozen=True)
class Disguised:
    """So many training images, each in every disguise; raises InvalidRequest for what cannot be asked."""

    images: int = 50
    prompt: str = "none"  # or caption

    def __post_init__(self) -> None:
        if self.prompt not in ("caption", "none"):
            raise InvalidRequest(f"The prompt is “{self.prompt}”; it must be caption or none.")
        if self.images < 1:
            raise InvalidRequest(f"The number of images is {self.images}; it must be above 0.")

    def chosen(self, pictures: Catalog) -> list[TrainingImage]:
        """The first of the reported half of all training images, in a random order that is always the same."""
        return half_of(list(pictures.of_split("train").images), "reported")[: self.images]


def half_of(images: list[TrainingImage], part: str) -> list[TrainingImage]:
    """The half of these that settings are chosen on, or the other, which is reported."""
    order = random.Random("looks").sample(images, len(images))
    return order[0 if part == "choosing" else 1 :: 2]


def run(
    study: Disguised,
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    journal: Journal,
    effort: Effort | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Every trial; those in the journal are taken from there, the others are run and added to it.

    `pictures` holds the training images at the size they were trained on. Answers weigh as many images as `effort`
    says. An image that was not weighed, or with which no step is possible, ranks last. Raises what `require_verdicts`
    does.
    """
    require_verdicts(attributor, method)
    settings = settings_of_answers(attributor, method, effort) | {"prompt": study.prompt}
    finished = {(t["query"], t["disguise"]): t for t in journal.trials_with(settings)}
    wanted = [(image, name) for image in study.chosen(pictures) for name in DISGUISES]
    for done, (image, name) in enumerate(wanted):
        on_progress(done, len(wanted))
        if (image.id, name) not in finished:
            square = to_square(pictures.picture(image), attributor.model.picture_size)
            prompt = image.caption if study.prompt == "caption" else ""
            outcome = _outcome(attributor, method, image, DISGUISES[name](square), prompt, effort)
            finished[image.id, name] = {"query": image.id, "disguise": name, **outcome, "settings": settings}
            journal.append(finished[image.id, name])
    on_progress(len(wanted), len(wanted))
    return [finished[image.id, name] for image, name in wanted]


def _outcome(
    attributor: Attributor,
    method: AttributionMethod,
    image: TrainingImage,
    picture: Image.Image,
    prompt: str,
    effort: Effort | None,
) -> Trial:
    query = attributor.query(picture, prompt)
    right = query.fallback_caption in (None, image.caption)
    try:
        *_, last = attributor.follow(query, method, effort)
    except InvalidRequest as refusal:
        return {"rank": len(attributor.index.trained), "p_value": 1.0, "own_caption": right, "failed": str(refusal)}
    scores, highest = last.scores(), attributor.null_scores(method, query.prompted)
    assert highest is not None
    if image.id not in scores.example_ids:
        return {"rank": len(attributor.index.trained), "p_value": 1.0, "own_caption": right, "failed": None}
    p = float(p_values(scores.scores, highest)[scores.example_ids.index(image.id)])
    return {"rank": scores.rank_of(image.id), "p_value": p, "own_caption": right, "failed": None}


def as_report(study: Disguised, trials: list[Trial]) -> dict[str, Any]:
    """Shares that came first and that stand out, by disguise and over all, with 95 % intervals, in JSON's types."""
    return {
        "study": "disguised",
        "settings": trials[0]["settings"] | {"images": study.images},
        "rows": [_row(name, [t for t in trials if name in (t["disguise"], "all")]) for name in (*DISGUISES, "all")],
    }


def _row(name: str, trials: list[Trial]) -> dict[str, Any]:
    first, called = (sum(trial["rank"] == 1 for trial in trials), sum(trial["p_value"] <= RATE for trial in trials))
    return {
        "disguise": name,
        "queries": len(trials),
        "first": first / len(trials),
        "first_interval": wilson_interval(first, len(trials)),
        "called": called / len(trials),
        "called_interval": wilson_interval(called, len(trials)),
        "own_caption": sum(trial["own_caption"] for trial in trials) / len(trials),
    }


def as_table(report: dict[str, Any]) -> str:
    return "\n".join(lines_of(report))


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """A row for each disguise, in Markdown, and whether the goals are met."""
    given = report["settings"]["prompt"] == "none"
    yield "| disguise | queries | rank 1 | stands out |" + (" own caption |" if given else "")
    yield "|---|---|---|---|" + ("---|" if given else "")
    for row in report["rows"]:
        cells = [share_text(row[what], row[f"{what}_interval"]) for what in ("first", "called")]
        own = f" {row['own_caption']:.1%} |" if given else ""
        yield f"| {row['disguise']} | {row['queries']} | {' | '.join(cells)} |{own}"
    whole = report["rows"][-1]
    enough = whole["queries"] >= GOAL_QUERIES
    yield ""
    yield f"- {goal_text(f'first ≥ {GOAL_FIRST:.0%}', whole['first'] >= GOAL_FIRST if enough else None)}"
    yield f"- {goal_text(f'stands out ≥ {GOAL_CALLED:.0%}', whole['called'] >= GOAL_CALLED if enough else None)}"
