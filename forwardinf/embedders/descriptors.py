"""What a picture looks like: oriented gradients and colours on coarse grids, the same for its mirror image."""

from __future__ import annotations

import numpy as np

SIDE = 64  # pixels of the square pictures that are described
ORIENTATIONS = 8  # of edges, over half a turn
CELLS = 8  # along a side, of which histograms are taken; of four together as well
COLOUR_CELLS = 4


def describe(squares: np.ndarray) -> np.ndarray:
    """RGB pictures `[b 64 64 3]` of uint8 to descriptors `[b n]`, the same for a picture and its mirror image.

    Histograms of oriented gradients (Dalal & Triggs 2005) take of each pixel the channel with the strongest edge, so
    that they hardly depend on hue. Each part has length 1. The mean of a part and of that of the mirror image, and
    their absolute difference, are the same for both.
    """
    x = squares.astype(np.float32) / 255
    fine, coarse = _histograms(x), _histograms(_cells(x, SIDE // 2))
    parts = [_shares(of) for of in (fine, _cells(fine, CELLS // 2), _cells(coarse, CELLS // 2))]
    parts.append(_cells(x, COLOUR_CELLS) - 1)  # [b y x 3], white as zeros
    described = []
    for part in parts:
        flipped = part[:, :, ::-1]
        if part.shape[-1] == ORIENTATIONS:
            flipped = flipped[..., -np.arange(ORIENTATIONS) % ORIENTATIONS]
        half = part.shape[2] // 2
        for symmetric in ((part + flipped) / 2, abs(part - flipped) / 2):
            described.append(symmetric[:, :, :half].reshape(len(x), -1))
    return np.concatenate(described, axis=1)


def _histograms(x: np.ndarray) -> np.ndarray:
    """Edge strength by cell and orientation, `[b y x o]`."""
    b, side = x.shape[:2]
    across, down = _strongest_edges(x)
    strength = np.sqrt(across**2 + down**2)
    angle = np.arctan2(down, across) % np.pi * (ORIENTATIONS / np.pi)
    lower = angle.astype(np.int64)
    share = angle - lower
    cell = np.arange(side) // (side // CELLS)
    place = ((np.arange(b)[:, None, None] * CELLS + cell[:, None]) * CELLS + cell) * ORIENTATIONS
    found = np.zeros(b * CELLS**2 * ORIENTATIONS)
    for orientation, weight in ((lower, 1 - share), (lower + 1, share)):
        bins = place + orientation % ORIENTATIONS
        found += np.bincount(bins.ravel(), (strength * weight).ravel(), len(found))
    return found.astype(np.float32).reshape(b, CELLS, CELLS, ORIENTATIONS)


def _strongest_edges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences across and down, `[b h w]` each, in the channel where they are strongest."""
    across, down, most = (np.zeros(x.shape[:3], np.float32) for _ in range(3))
    for channel in np.moveaxis(x, 3, 0):
        a, d = np.zeros_like(most), np.zeros_like(most)
        a[:, :, 1:-1] = channel[:, :, 2:] - channel[:, :, :-2]
        d[:, 1:-1] = channel[:, 2:] - channel[:, :-2]
        strength = a**2 + d**2
        stronger = strength > most
        across, down = np.where(stronger, a, across), np.where(stronger, d, down)
        most = np.maximum(most, strength)
    return across, down


def _shares(histograms: np.ndarray) -> np.ndarray:
    """Square roots of what share of a picture's edges each is."""
    return np.sqrt(histograms / np.maximum(histograms.sum(axis=(1, 2, 3), keepdims=True), 1e-6))


def _cells(x: np.ndarray, cells: int) -> np.ndarray:
    """Means `[b cells cells n]` over as many parts of `[b y x n]` along each side."""
    b, side, _, n = x.shape
    pool = np.kron(np.eye(cells, dtype=np.float32), np.full(side // cells, cells / side, np.float32))  # [cells side]
    return pool @ (pool @ x.reshape(b, side, side * n)).reshape(b, cells, side, n)
