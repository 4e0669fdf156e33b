"""How sure a measured share or mean is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal
RESAMPLES = 10_000


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `hits` in `count` (Wilson 1927); (0, 1) where none was counted."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * (share * (1 - share) / count + z2 / (4 * count**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of `values` (Efron 1979); the same for the same values."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values, dtype=np.float64)[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
