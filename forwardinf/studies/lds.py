"""Linear datamodelling score: do summed scores predict what training on a subset of the images does to a query?

    forwardinf study lds --method forward_inf

Park et al. 2023 (arXiv 2303.14186); for diffusion models Zheng et al. 2024 (arXiv 2311.00500), section 3. For every
query, the Spearman correlation over random half subsets S of

    Σ scores of the images in S    with    − mean loss of the query under the model trained on S,

averaged over queries. The higher the sum of scores, the lower the loss should be.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..attribution.attributor import Attributor
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod
from .ground_truth import CHOSEN_BY, GroundTruth, require_part
from .settings import settings_on

RESAMPLES = 1000


@dataclass(frozen=True)
class Lds:
    """One part of the first `queries` of each origin, so that a larger study resumes a smaller one.

    The defaults of forward_inf were chosen on the first 15 of each origin; only the others are reported.
    """

    queries: int = 100
    part: str = "reported"  # or choosing, all

    def __post_init__(self) -> None:
        require_part(self.part)
        if self.part == "reported" and self.queries <= CHOSEN_BY:
            raise InvalidRequest(
                f"The first {CHOSEN_BY} queries of each origin are those that settings were chosen on. Ask for more, "
                "or for the part all."
            )

    def chosen(self, truth: GroundTruth) -> list[int]:
        """Numbers of the queries."""
        first = {n for drawn in (True, False) for n in truth.plan.numbers(drawn, "all")[: self.queries]}
        return sorted(n for drawn in (True, False) for n in truth.plan.numbers(drawn, self.part) if n in first)


def lds(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Spearman correlation of each query, `[q]`, from scores `[q n]`, masks `[s n]` and losses `[s q]`."""
    return _correlations(scores @ masks.T.astype(scores.dtype), -losses.T)


def interval(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray, queries: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval, over subsets, of the mean over `queries` (a mask `[q]`) of `lds`."""
    predicted, true = (scores @ masks.T.astype(scores.dtype))[queries], -losses.T[queries]
    random = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(masks), len(masks))
        means.append(_correlations(predicted[:, drawn], true[:, drawn]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def as_report(
    study: Lds, truth: GroundTruth, attributor: Attributor, method: AttributionMethod, scores: np.ndarray
) -> dict[str, Any]:
    """LDS × 100 with its interval, by origin of the queries and over all, in JSON's types.

    `reliability` is the expected correlation between the true losses and the same measured with other noise, from those
    at two noise seeds each, stepped up to the number of seeds averaged (Spearman 1910; Brown 1910). It does not include
    the variation between trainings on the same images.
    Raises InvalidRequest where too few subsets have been trained on.
    """
    masks, losses = truth.plan.masks[truth.finished], truth.losses
    if len(masks) < 8:
        raise InvalidRequest(f"The lab has {len(masks)} trained subsets; a correlation needs 8. Run `study lab`.")
    chosen = study.chosen(truth)
    drawn = np.array([truth.plan.queries[number].seed is not None for number in chosen])
    groups = {"drawn": drawn, "held_out": ~drawn, "all": np.ones(len(chosen), dtype=bool)}
    mean_losses = losses.mean(axis=2)[:, chosen]
    each = lds(scores, masks, mean_losses)
    between = _reliabilities(losses[:, chosen])
    return {
        "study": "lds",
        "settings": settings_on(attributor, method)
        | {"subsets": len(masks), "queries": len(chosen), "part": study.part},
        "lds": {
            name: {
                "mean": 100 * float(each[group].mean()),
                "interval": [100 * bound for bound in interval(scores, masks, mean_losses, group)],
                "reliability": 100 * float(between[group].mean()),
                "queries": int(group.sum()),
            }
            for name, group in groups.items()
            if group.any()
        },
    }


def as_table(report: dict[str, Any]) -> str:
    settings = report["settings"]
    lines = [f"{'queries':9} {'count':>5}  {'LDS × 100':22} {'reliability of losses':>24}"]
    for name, row in report["lds"].items():
        low, high = row["interval"]
        shown = f"{row['mean']:6.1f} [{low:.1f}, {high:.1f}]"
        lines.append(f"{name.replace('_', '-'):9} {row['queries']:>5}  {shown:22} {row['reliability']:>24.1f}")
    options = ", ".join(f"{key} {value}" for key, value in settings["method"].items() if key != "name")
    return "\n".join([
        *lines,
        "",
        f"Method: {settings['method']['name']} ({options}). Weights moved: {settings['tunable']}.",
        f"Over {settings['subsets']} random half subsets; brackets: 95 % bootstrap intervals over subsets.",
    ])  # fmt: skip


def _reliabilities(losses: np.ndarray) -> np.ndarray:
    """Reliability of the mean over noise seeds for each query `[q]`, from losses `[s q noise]`, at least 0."""
    pairs = list(itertools.combinations(range(losses.shape[2]), 2))
    between = np.mean([_correlations(losses[:, :, a].T, losses[:, :, b].T) for a, b in pairs], axis=0).clip(min=0)
    seeds = losses.shape[2]
    stepped_up: np.ndarray = seeds * between / (1 + (seeds - 1) * between)
    return stepped_up


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman correlation `[q]` of the rows of two `[q s]`; 0 where one is constant."""
    ranks = [rankdata(x, axis=1) for x in (a, b)]
    centred = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    norms = [np.linalg.norm(c, axis=1) for c in centred]
    product: np.ndarray = norms[0] * norms[1]
    return np.divide((centred[0] * centred[1]).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
