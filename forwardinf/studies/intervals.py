"""How sure a measured share is."""

from __future__ import annotations

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `hits` in `count` (Wilson 1927); (0, 1) where none was counted."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 / (1 + z2 / count) * (share * (1 - share) / count + z2 / (4 * count**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
