"""Cases under stress: a writer that is killed a hundred times, and how long an evidence pack takes.

make bench-review
python benchmarks/review.py --kills 20 --matches 50 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from made_cases import CASE, answer, made_case, opened, png
from made_records import match

from forwardinf.records.store import FolderStore
from forwardinf.review.cases import load_case, pictures_of
from forwardinf.review.decisions import decide, decisions_of
from forwardinf.review.dossier import gather
from forwardinf.review.pack import packed
from forwardinf.review.verify import verified

LONGEST_LIFE = 0.3  # seconds after its first decision that a writer has at most before it is killed
GOAL = 10.0  # seconds for a pack of 50 matches


def write_for_ever(folder: Path, told: int) -> None:
    """Decide without end; the hash of each decision goes to the pipe `told` once it was acknowledged."""
    database = opened(folder)
    case = load_case(database, CASE)
    picture = pictures_of(database, case)[0]
    while True:
        made = decide(database, case, picture, "unsure", reason="r" * 500, author="Ada")
        os.write(told, f"{made.hash}\n".encode())


def killed(folder: Path, seconds: float) -> list[str]:
    """The hashes that a writer acknowledged before it was killed, so many seconds after the first."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            write_for_ever(folder, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as told:
        first = told.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "the writer ended by itself"
        return (first + told.read()).split()


def kills(count: int, seed: int) -> bool:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_case(opened(folder))
        acknowledged: list[str] = []
        for _ in range(count):
            acknowledged += killed(folder, draw.uniform(0, LONGEST_LIFE))
        database = opened(folder)
        made = [decision.hash for decision in decisions_of(database, load_case(database, CASE))]  # the chain is checked
        lost = [one for one in acknowledged if one not in set(made)]
        unacknowledged = len(made) - len(acknowledged) + len(lost)
    print(f"{count} kills: {len(acknowledged)} decisions acknowledged, {len(lost)} lost, {unacknowledged} kept besides")
    return not lost


def pack_time(count: int) -> bool:
    """Seconds for a pack of a case with so many matches, ten to a picture."""
    with tempfile.TemporaryDirectory() as name:
        folder, pictures = Path(name), -(-count // 10)
        database, store = opened(folder), FolderStore(Path(name) / "results")
        case, kept = made_case(database, *range(pictures))
        for picture in kept:
            listed = [
                match(rank=rank, id=f"m{rank}", sha256=f"{picture.number * 100 + rank:064}") for rank in range(1, 11)
            ]
            answer(database, store, picture, *listed)
            for one in listed:
                decide(database, case, picture, "unsure", match=one.id, reason="looked at", author="Ada")
        began, cpu = time.perf_counter(), time.process_time()
        dossier = gather(database, case, store, lambda index, found: png(found.rank % 9))
        content = packed(dossier, database)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        (folder / "pack.zip").write_bytes(content)
        began = time.perf_counter()
        faults = verified(folder / "pack.zip").faults
        checking = time.perf_counter() - began
    print(f"{pictures * 10} matches: packed in {seconds:.1f} s, {cpu:.1f} s of CPU (goal {GOAL:g} s)")
    print(f"verified in {checking:.2f} s, {len(faults)} faults")
    return seconds <= GOAL and not faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--matches", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    held = [kills(given.kills, given.seed), pack_time(given.matches)]
    sys.exit(not all(held))
