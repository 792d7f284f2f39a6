"""Four processes on one store, killed at random moments: nobody waits for the dead, and nothing is made twice.

    python -m tests.faults.store_campaign --kills 1000 --seed 0

prints one JSON object a store, the last of which counts for all: how many processes were killed, how often at work on a
unit, and what went wrong. A unit of this campaign takes a few hundredths of a second in three epochs, and leaves a
checkpoint after each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from lottery_hub.running.pieces import CHECKPOINT
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.running.store import Store, Unit, open_store

UNITS, CREW, EPOCHS = 24, 4, 3
KILLS = 6  # of one store
WAIT = 120.0  # seconds, after which they are taken to wait for each other


def unit(number: int) -> Unit:
    return Unit(f"unit {number}", {"unit": "test", "number": number})


def figure(number: int) -> float:
    """Return what a unit is to find."""
    return sum((number * epoch) % 7 for epoch in range(EPOCHS)) / 10


def make(number: int, log: Path, pause: float, folder: Path) -> dict[str, Any]:
    """Make a unit, or the rest of it, and note when that begins and ends, and every epoch."""
    note = partial(_note, log, number)
    note("begins")
    checkpoint = folder / CHECKPOINT
    done, total = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
    for epoch in range(done, EPOCHS):
        time.sleep(pause)
        total += (number * epoch) % 7
        note(f"epoch-{epoch}")
        fresh = checkpoint.with_name("fresh")
        fresh.write_text(json.dumps([epoch + 1, total]))
        fresh.replace(checkpoint)
    (folder / "weights").write_text(str(number))
    note("ends")
    return {"number": number, "figure": total / 10}


def _note(log: Path, number: int, what: str) -> None:
    with log.open("a") as lines:
        lines.write(f"{what} {number} {os.getpid()}\n")


def wrong(store: Store, log: Path, killed: set[int], count: int = UNITS) -> list[str]:
    """Say what is not as it should be in a store whose units are all finished, by what those at work have noted."""
    problems = [f"{each.name} is missing" for each in store.missing(map(unit, range(count)))]
    problems += [f"{left.name} is left" for left in store.left()]
    problems += [f"{path.name} is left" for path in store.directory.rglob("*.owner")]
    said = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    noted, lost = Counter(), Counter()
    for what, number, process in said:
        noted[what, int(number)] += 1
        lost[what, int(number)] += int(process) in killed
    for number in range(count):
        found = store.finished(unit(number))
        if found and found.record != {"number": number, "figure": figure(number)}:
            problems.append(f"unit {number} has the figures {found.record}")
        for what in ("begins", *(f"epoch-{epoch}" for epoch in range(EPOCHS)), "ends"):
            # Only what a killed process was at was done again, and of that no epoch whose checkpoint was written.
            if not 1 <= noted[what, number] <= 1 + lost[what, number]:
                problems.append(f"unit {number} {what} {noted[what, number]} times, {lost[what, number]} of them lost")
    return problems


def once(place: Path, dice: random.Random, kills: int = KILLS) -> dict[str, Any]:
    """Have a crew make all units of a store, kill so many of its processes, and say what came of it."""
    store, log = open_store(place / "store"), place / "log"
    crew = [_start(store, log, dice) for _ in range(CREW)]
    killed: set[int] = set()
    for _ in range(kills):
        time.sleep(dice.uniform(0.01, 0.12))
        victim = crew.pop(0)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed.add(victim)
        crew.append(_start(store, log, dice))
    deadline, stuck = time.monotonic() + WAIT, False
    for process in crew:
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            time.sleep(0.005)
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                stuck = True
    lines = [line.split() for line in log.read_text().splitlines()]
    ended = {(number, process) for what, number, process in lines if what == "ends"}
    at_work = {(n, p) for what, n, p in lines if what == "begins" and int(p) in killed} - ended
    problems = ["they wait for each other"] if stuck else wrong(store, log, killed)
    return {"killed": len(killed), "at work": len(at_work), "problems": problems}


def _start(store: Store, log: Path, dice: random.Random) -> int:
    order = dice.sample(range(UNITS), UNITS)
    child = os.fork()
    if not child:
        try:
            works = [partial(store.once, unit(n), partial(make, n, log, 0.007)) for n in order]
            side_by_side(works, 1, 1, Event())
        finally:
            os._exit(0)
    return child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    said: dict[str, Any] = {"seed": options.seed, "stores": 0, "units": 0, "killed": 0, "at work": 0, "problems": []}
    while said["killed"] < options.kills:
        with tempfile.TemporaryDirectory() as place:
            found = once(Path(place), dice)
        said["stores"] += 1
        said["units"] += UNITS
        for name in ("killed", "at work", "problems"):
            said[name] += found[name]
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
