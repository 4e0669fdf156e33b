"""How sure a measured share or mean is."""

from __future__ import annotations

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `hits` in `count` (Wilson 1927); (0, 1) where none was counted."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * (share * (1 - share) / count + z2 / (4 * count**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % interval of the mean of `values [n]`, by drawing n of them again and again (Efron 1979, percentiles)."""
    random = np.random.default_rng(0)
    means = values[random.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
