"""Artwork made by rules: pictures that no model was trained on, the same for a kind and seed on every machine."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
OVERSAMPLING = 4  # drawn larger and reduced, for smooth edges


def procedural(kind: str, seed: int, side: int = 64) -> Image.Image:
    """An RGB picture of `side` pixels; `kind`, one of KINDS, is the rule, `seed` fixes what the rule leaves open."""
    chance = random.Random(f"{kind}/{seed}")
    start = chance.random()
    palette = [_colour(start + turn / 5, chance.uniform(0.35, 0.9), chance.uniform(0.45, 0.95)) for turn in range(5)]
    canvas = Image.new("RGB", (side * OVERSAMPLING,) * 2, palette[0])
    _RULES[kind](ImageDraw.Draw(canvas), chance, palette[1:], canvas.width)
    return canvas.resize((side, side), Image.Resampling.BOX)


def _stripes(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    slope, width = chance.uniform(-1.5, 1.5), side / chance.randint(4, 14)
    at, n = -2.0 * side, 0
    while at < 3 * side:
        wide = width * (0.5 + (n % 3) / 2)
        left, right = (at, 0), (at + wide, 0)
        draw.polygon(
            [left, right, (right[0] + slope * side, side), (left[0] + slope * side, side)], palette[n % len(palette)]
        )
        at, n = at + 1.6 * wide, n + 1


def _tiles(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """Rings around two opposite corners of each tile, chosen at random, after Truchet (1704)."""
    count = chance.randint(4, 8)
    step = side / count
    line = max(2, round(step / 5))
    for row in range(count):
        for column in range(count):
            x, y, colour = column * step, row * step, chance.choice(palette)
            corners = [(x, y), (x + step, y + step)] if chance.random() < 0.5 else [(x + step, y), (x, y + step)]
            for cx, cy in corners:
                draw.ellipse((cx - step / 2, cy - step / 2, cx + step / 2, cy + step / 2), outline=colour, width=line)


def _cells(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """Nearest-seed regions on a coarse grid."""
    seeds = [(chance.random() * side, chance.random() * side, chance.choice(palette)) for _ in range(18)]
    block = OVERSAMPLING
    for x in range(0, side, block):
        for y in range(0, side, block):
            _, _, colour = min(seeds, key=lambda s: (s[0] - x) ** 2 + (s[1] - y) ** 2)
            draw.rectangle((x, y, x + block, y + block), colour)


def _spiral(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """Dots at the golden angle, as in Vogel's model of a sunflower (1979)."""
    count, grow = chance.randint(80, 220), chance.uniform(0.4, 1.4)
    for n in range(count):
        angle, radius = n * math.pi * (3 - 5**0.5), side * 0.62 * (n / count) ** 0.5
        x, y, r = (
            side / 2 + radius * math.cos(angle),
            side / 2 + radius * math.sin(angle),
            side / 40 * (1 + grow * n / count),
        )
        draw.ellipse((x - r, y - r, x + r, y + r), palette[n % len(palette)])


def _waves(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    bands, frequency, height = chance.randint(5, 12), chance.uniform(1, 4), side / chance.uniform(10, 24)
    for n in range(bands):
        shift, level = chance.random() * math.tau, side * n / bands
        crest = [
            (x, level + height * math.sin(frequency * math.tau * x / side + shift))
            for x in range(0, side + 1, OVERSAMPLING)
        ]
        draw.polygon([*crest, (side, side), (0, side)], palette[n % len(palette)])


def _rectangles(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """A square that is split again and again, with heavy lines between the parts."""
    parts = [(0.0, 0.0, float(side), float(side))]
    for _ in range(chance.randint(6, 14)):
        parts.sort(key=lambda p: (p[2] - p[0]) * (p[3] - p[1]))
        x0, y0, x1, y1 = parts.pop()
        cut = chance.uniform(0.3, 0.7)
        if x1 - x0 > y1 - y0:
            parts += [(x0, y0, x0 + cut * (x1 - x0), y1), (x0 + cut * (x1 - x0), y0, x1, y1)]
        else:
            parts += [(x0, y0, x1, y0 + cut * (y1 - y0)), (x0, y0 + cut * (y1 - y0), x1, y1)]
    for part in parts:
        draw.rectangle(part, chance.choice(palette), outline=(20, 20, 24), width=max(2, side // 40))


def _plasma(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """A sum of plane waves, coloured by the palette."""
    waves = [(chance.uniform(-5, 5), chance.uniform(-5, 5), chance.random() * math.tau) for _ in range(5)]
    block = OVERSAMPLING
    for x in range(0, side, block):
        for y in range(0, side, block):
            level = sum(math.sin(math.tau * (a * x + b * y) / side / 2 + c) for a, b, c in waves) / 5 + 1
            place = min(level / 2, 0.999) * (len(palette) - 1)
            low, share = palette[int(place)], place % 1
            high = palette[int(place) + 1]
            draw.rectangle(
                (x, y, x + block, y + block),
                tuple(round(p + share * (q - p)) for p, q in zip(low, high, strict=True)),
            )


def _web(draw: ImageDraw.ImageDraw, chance: random.Random, palette: list[Colour], side: int) -> None:
    """Straight lines between points on two edges, whose envelope is a curve."""
    for colour in palette:
        a, b = (_edge_point(chance, side) for _ in range(2))
        c, d = (_edge_point(chance, side) for _ in range(2))
        for n in range(25):
            s = n / 24
            start = (a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1]))
            end = (c[0] + s * (d[0] - c[0]), c[1] + s * (d[1] - c[1]))
            draw.line((*start, *end), colour, width=OVERSAMPLING)


def _edge_point(chance: random.Random, side: int) -> tuple[float, float]:
    along = chance.random() * side
    return chance.choice([(along, 0.0), (along, float(side)), (0.0, along), (float(side), along)])


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


_RULES: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, list[Colour], int], None]] = {
    "stripes": _stripes,
    "tiles": _tiles,
    "cells": _cells,
    "spiral": _spiral,
    "waves": _waves,
    "rectangles": _rectangles,
    "plasma": _plasma,
    "web": _web,
}
KINDS = tuple(_RULES)
