"""Answers that weigh the likely images, beside complete sweeps of the same pictures, taken in turn.

make bench-anytime, or: python benchmarks/anytime.py --queries 50
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import dataclass

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.shortlist import Effort
from forwardinf.models.generation import GenerationRequest
from forwardinf.sweep.rounds import forwards
from forwardinf.types import Query

FIRST = 10


@dataclass(frozen=True)
class Compared:
    """One picture, asked about twice."""

    first_tiles: float  # seconds until the likely images are known
    seconds: float
    complete_seconds: float
    forwards: int
    complete_forwards: int
    shared: int  # of the first ten
    overlooked: float  # as told
    truly_overlooked: int  # of the first ten, how many were not weighed
    verdicts_agree: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    attributor = Attributor.load()
    images = attributor.index.catalog.by_id
    chosen = random.Random(asked.seed).sample(sorted(attributor.index.trained), asked.queries)
    found = []
    for number, example_id in enumerate(chosen):
        caption = images[example_id].caption
        picture = attributor.model.generate(GenerationRequest(caption, seed=number))
        found.append(compared(attributor, attributor.query(picture, caption)))
        print(f"{caption}: {found[-1]}", flush=True)
    report(found)


def compared(attributor: Attributor, query: Query) -> Compared:
    start, sweep = time.perf_counter(), attributor.follow(query, effort=Effort(first=FIRST))
    next(sweep)
    first_tiles = time.perf_counter() - start
    *_, part = sweep
    seconds, start = time.perf_counter() - start, time.perf_counter()
    *_, full = attributor.follow(query)
    complete_seconds = time.perf_counter() - start
    best = {example_id for example_id, *_ in full.scores().top(FIRST)}
    weighed, shortlist = part.scores(), part.shortlist
    assert shortlist is not None, "the index has no sketches, or is too small to leave any image out"
    standing_out = [attributor.confidence(p.scores(), p.method).number_standing_out for p in (part, full)]
    return Compared(
        first_tiles,
        seconds,
        complete_seconds,
        forwards(part.state.rounds, len(weighed.example_ids)),
        forwards(full.state.rounds, attributor.index.count),
        len(best.intersection(example_id for example_id, *_ in weighed.top(FIRST))),
        shortlist.overlooked(weighed, part.stages),
        len(best - set(weighed.example_ids)),
        bool(standing_out[0]) == bool(standing_out[1]),
    )


def report(found: list[Compared]) -> None:
    shares = [one.shared / FIRST for one in found]
    print(f"\n{len(found)} generated pictures")
    print(f"first tiles: {statistics.median(one.first_tiles for one in found):.1f} s (median)")
    print(f"decided: {statistics.median(one.seconds for one in found):.1f} s (median)")
    ratio = statistics.median(one.seconds / one.complete_seconds for one in found)
    print(f"time / complete sweep: {ratio:.2f} (median of pairs)")
    print(f"forwards / complete sweep: {statistics.mean(one.forwards / one.complete_forwards for one in found):.2f}")
    print(f"first {FIRST} shared with the complete sweep: mean {statistics.mean(shares):.3f}, worst {min(shares):.1f}")
    told, true = sum(one.overlooked for one in found), sum(one.truly_overlooked for one in found)
    print(f"overlooked of the first {FIRST}, all pictures together: {true}, told {told:.1f}")
    print(f"same verdict: {sum(one.verdicts_agree for one in found)} of {len(found)}")


if __name__ == "__main__":
    main()
