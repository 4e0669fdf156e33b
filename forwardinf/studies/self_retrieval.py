"""At which rank does a training image come when the image itself, or a degraded copy of it, is the query?

    forwardinf study self-retrieval --queries 200 --candidates 300

The test for leakage and memorisation of Ko et al., CVPR 2024 (arXiv 2402.08922), section 5: an image that was trained
on must rank first. This is necessary, not sufficient: the nearest neighbour by an embedding passes it too.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..attribution.attributor import Attributor
from ..attribution.shortlist import Effort
from ..errors import InvalidRequest
from ..examples.catalog import Catalog, TrainingImage
from ..examples.decoding import to_square
from ..examples.metadata import training_images
from ..index.store import Index
from ..index.thumbnails import THUMBNAIL
from ..methods.protocol import AttributionMethod
from .degraded import DEGRADED, IN_TURN, VARIANTS
from .intervals import wilson_interval
from .journal import Journal, Trial
from .settings import settings_of_answers

GOAL_QUERIES = 200  # that a goal needs, each ranked among all training images
GOALS = {"clean": {"rank_1": 0.99}}  # for other copies: nine in ten in the top ten


@dataclass(frozen=True)
class SelfRetrieval:
    """The queries and what they are ranked among; raises InvalidRequest for what does not exist.

    Queries and candidates are prefixes of two orders fixed by the seed, so that a larger study resumes a smaller one.
    The variant “degraded” makes one copy of each query, by the degraded variants in turn.
    """

    queries: int = 200
    candidates: int = 0  # images ranked for each query, including the query's; 0 for all indexed training images
    variants: tuple[str, ...] = ("clean", IN_TURN)
    prompt: str = "caption"  # or none
    seed: int = 0
    effort: Effort | None = None  # how many images are weighed for an answer; None for all that are ranked

    def __post_init__(self) -> None:
        known = (*VARIANTS, IN_TURN)
        if unknown := [name for name in self.variants if name not in known]:
            raise InvalidRequest(f"There is no variant “{unknown[0]}”; the variants are: {', '.join(known)}.")
        if IN_TURN in self.variants and (twice := [name for name in self.variants if name in DEGRADED]):
            raise InvalidRequest(
                f"“{IN_TURN}” stands for {', '.join(DEGRADED)} in turn. Choose either it or “{twice[0]}”."
            )
        if self.prompt not in ("caption", "none"):
            raise InvalidRequest(f"The prompt is “{self.prompt}”; it must be caption or none.")
        if self.queries < 1 or self.candidates < 0 or not self.variants:
            raise InvalidRequest(
                "A study needs at least one query, at least one variant, and no negative number of candidates."
            )

    def settings(self, attributor: Attributor, method: AttributionMethod) -> dict[str, Any]:
        """Everything that a trial's rank depends on, apart from its query and variant."""
        return {
            **settings_of_answers(attributor, method, self.effort),
            "dtype": attributor.model.spec.dtype,
            "prompt": self.prompt,
            "candidates": self.ranked_among(attributor.index),
            "training_images": len(_training_ids(attributor.index)),
            "seed": self.seed,
        }

    def ranked_among(self, index: Index) -> int:
        """How many images are ranked for each query."""
        trained = len(_training_ids(index))
        return min(self.candidates or trained, trained)

    def chosen(self, index: Index) -> list[str]:
        """The training images that are queries."""
        return _shuffled(_training_ids(index), f"queries/{self.seed}")[: self.queries]

    def copies(self, index: Index) -> list[tuple[str, str]]:
        """Each query with the variants of it."""
        return [
            (query, DEGRADED[position % len(DEGRADED)] if variant == IN_TURN else variant)
            for position, query in enumerate(self.chosen(index))
            for variant in self.variants
        ]

    def candidates_of(self, query_id: str, index: Index) -> list[str]:
        """The query's image, followed by others that are the same for every query."""
        others = (i for i in _shuffled(_training_ids(index), f"candidates/{self.seed}") if i != query_id)
        return [query_id, *(i for i, _ in zip(others, range(self.ranked_among(index) - 1), strict=False))]


def run(
    study: SelfRetrieval,
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    journal: Journal,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Every trial of a study; those in the journal are taken from there, the others are run and added to it.

    `pictures` holds the training images at the size they were trained on. Where no step is possible on a query, its
    image ranks last, and `failed` says why.
    """
    settings = study.settings(attributor, method)
    finished = {(t["query"], t["variant"]): t for t in journal.trials_with(settings)}
    wanted = study.copies(attributor.index)

    @lru_cache(maxsize=1)  # the same for all where every image is a candidate
    def among(candidates: frozenset[str]) -> Attributor:
        return replace(attributor, index=attributor.index.part(candidates))

    for done, (query, variant) in enumerate(wanted):
        on_progress(done, len(wanted))
        if (query, variant) not in finished:
            restricted = among(frozenset(study.candidates_of(query, attributor.index)))
            outcome = _outcome(study, restricted, method, pictures, pictures.by_id[query], variant)
            finished[query, variant] = {"query": query, "variant": variant, **outcome, "settings": settings}
            journal.append(finished[query, variant])
    on_progress(len(wanted), len(wanted))
    return [finished[key] for key in wanted]


def _outcome(
    study: SelfRetrieval,
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    image: TrainingImage,
    variant: str,
) -> Trial:
    """One trial; the attributor's index is restricted to the candidates."""
    square = to_square(pictures.picture(image), attributor.model.picture_size)
    picture = VARIANTS[variant](square)
    try:
        query = attributor.query(picture, image.caption if study.prompt == "caption" else "")
        *_, last = attributor.follow(query, method, study.effort)
    except InvalidRequest as refusal:
        return {"rank": attributor.index.count, "score": None, "standard_error": None, "failed": str(refusal)}
    scores = last.scores()
    if image.id not in scores.example_ids:  # it was not weighed
        return {"rank": attributor.index.count, "score": None, "standard_error": None, "failed": None}
    position = scores.example_ids.index(image.id)
    error = float(scores.standard_errors[position])
    return {
        "rank": scores.rank_of(image.id),
        "score": float(scores.scores[position]),
        "standard_error": None if math.isnan(error) else error,
        "failed": None,
    }


def pictures_of(index: Index, folder: Path | None) -> Catalog:
    """The training pictures: those of `folder`, or the index's thumbnails where no folder is given.

    Raises InvalidRequest where thumbnails are smaller than the pictures they show, or `folder` lacks a picture.
    """
    trained = index.catalog.of_split("train")
    if folder is None:
        if any(max(image.width, image.height) > THUMBNAIL for image in trained.images):
            raise InvalidRequest(
                f"“{index.folder.name}” keeps pictures at {THUMBNAIL} px, smaller than the originals. "
                "Name the folder that it was built from with --images."
            )
        return index.thumbnails.of_split("train")
    pictures = training_images(folder)
    if missing := trained.by_id.keys() - pictures.by_id.keys():
        raise InvalidRequest(f"“{folder.name}” lacks the indexed training image “{min(missing)}”.")
    return pictures


def as_report(study: SelfRetrieval, settings: dict[str, Any], trials: list[Trial]) -> dict[str, Any]:
    """Shares with their 95 % intervals and goals, by variant, and the settings that reproduce them, in JSON's types.

    `goal_met` is None for fewer than 200 queries, or where not every training image was ranked. Variants that were used
    in turn are listed as well, without a goal, as each has only a third of the queries.
    """
    of = {variant: [trial for trial in trials if trial["variant"] == variant] for variant in VARIANTS}
    if IN_TURN in study.variants:
        of[IN_TURN] = [trial for name in DEGRADED for trial in of[name]]
    shown = [name for name in ("clean", IN_TURN, *DEGRADED) if of.get(name)]
    whole = settings["candidates"] == settings["training_images"]
    goals = {v: {} if IN_TURN in of and v in DEGRADED else GOALS.get(v, {"top_10": 0.90}) for v in shown}
    variants = [_summary(v, of[v], goals[v], whole) for v in shown]
    return {"study": "self_retrieval", "settings": settings, "variants": variants}


def _summary(variant: str, trials: list[Trial], goal: dict[str, float], whole: bool) -> dict[str, Any]:
    ranks = [trial["rank"] for trial in trials]
    first, ten = sum(rank == 1 for rank in ranks), sum(rank <= 10 for rank in ranks)
    shares = {"rank_1": first / len(ranks), "top_10": ten / len(ranks)}
    return {
        "variant": variant,
        "queries": len(ranks),
        **shares,
        "rank_1_interval": wilson_interval(first, len(ranks)),
        "top_10_interval": wilson_interval(ten, len(ranks)),
        "median_rank": statistics.median(ranks),
        "failed": sum(trial["failed"] is not None for trial in trials),
        "goal": goal,
        "goal_met": all(shares[figure] >= least for figure, least in goal.items())
        if goal and whole and len(ranks) >= GOAL_QUERIES
        else None,
    }


def as_table(report: dict[str, Any]) -> str:
    """One line for each variant, followed by the settings."""
    lines = [*_table_lines(report), "", *_setting_lines(report["settings"])]
    if any(row["goal"] and row["goal_met"] is None for row in report["variants"]):
        lines.append(f"A goal stays open until there are {GOAL_QUERIES} queries, ranked among all training images.")
    return "\n".join(lines)


def _table_lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'variant':9} {'queries':>7}  {'rank 1':22} {'top 10':22} {'median rank':>11}  goal"
    for row in report["variants"]:
        verdict = {True: "met", False: "not met", None: "open"}[row["goal_met"]]
        goal = "".join(f"{f.replace('_', ' ')} ≥ {least:.0%}: {verdict}" for f, least in row["goal"].items()) or "–"
        failed = f", no step possible on {row['failed']}" if row["failed"] else ""
        shares = [_share(row[f], row[f"{f}_interval"]) for f in ("rank_1", "top_10")]
        yield (
            f"{row['variant']:9} {row['queries']:>7}  {shares[0]:22} {shares[1]:22} {row['median_rank']:>11g}  "
            f"{goal}{failed}"
        )


def _setting_lines(settings: dict[str, Any]) -> Iterator[str]:
    count, trained = settings["candidates"], settings["training_images"]
    if count == trained:
        yield f"Ranked among all {trained:,} indexed training images."
    else:
        yield (
            f"Ranked among {count:,} of {trained:,} indexed training images: the query's and a fixed random choice. "
            "Among all images, ranks would be worse."
        )
    given = "the image's caption" if settings["prompt"] == "caption" else "none, so the most similar image's caption"
    options = ", ".join(f"{key} {value}" for key, value in settings["method"].items() if key != "name")
    yield f"Prompt: {given}. Weights moved: {settings['tunable']}."
    yield f"Method: {settings['method']['name']} ({options})."
    yield "Brackets: 95 % Wilson intervals over queries."


def _share(share: float, interval: tuple[float, float]) -> str:
    return f"{share:6.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"


def _training_ids(index: Index) -> list[str]:
    return sorted(image.id for image in index.catalog.images if image.split == "train")


def _shuffled(ids: list[str], seed: str) -> list[str]:
    return random.Random(seed).sample(ids, len(ids))
