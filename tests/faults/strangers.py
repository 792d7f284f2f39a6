"""What strangers give, by the thousand: folders, cards, records, checkpoints, run directories and a Hub's answers.

    python tests/faults/strangers.py --cases 5000 --seed 1
    python tests/faults/strangers.py --seed 1 --only 1234        # a case that failed, alone

Each case ends in one of two ways, accepted and right or refused in one line, within ten seconds and a gibibyte of
memory, and leaves everything beside it as it was: a folder and a HOME of somebody's are looked at before and after.
The last line is one JSON object: how many cases ended how, by group and by kind, and the first failures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "lottery-hub-strangers-have-no-cache")
    os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / "lottery-hub-strangers-fonts")
    os.environ["OMP_NUM_THREADS"] = "1"

import hostile
import strange_checkpoints
import strange_datasets
import strange_folders
import strange_hub
import strange_records
import strange_runs
import torch
from attempts import GOOD, Ending, attempt
from cases import GROUPS, TABLE
from material import material
from mutations import InapplicableError
from remembering import drawing_once
from victims import Peeking, Scene, remove

# Each of these enters its generators into the table.
GENERATORS = (strange_checkpoints, strange_datasets, strange_folders, strange_hub, strange_records, strange_runs)
SHARES = {"folders": 34, "cards": 12, "records": 18, "checkpoints": 20, "runs": 8, "hub": 8}


class Campaign:
    """Runs cases one after the other, each in a scene of its own."""

    def __init__(self, place: Path, seed: int, groups: tuple[str, ...] = GROUPS) -> None:
        self.seed = seed
        self.groups = [group for group in GROUPS if group in groups]
        self.scene_root = place / "scene"
        self.peeking = Peeking()

    def case(self, number: int) -> tuple[str, str, Ending]:
        """Run a case, and return its group, its kind and how it ended."""
        rng = random.Random(f"stranger {self.seed} {number}")
        group = rng.choices(self.groups, [SHARES[group] for group in self.groups])[0]
        rows = TABLE[group]
        while True:
            name = rng.choices(list(rows), [row.often for row in rows.values()])[0]
            scene = Scene(self.scene_root)
            scene.build()
            try:
                case = rows[name].generator(scene, rng)
                break
            except InapplicableError:
                continue
            except Exception as problem:  # one case that cannot be made does not end the others
                return group, name, Ending("case not made", repr(problem))
        before = scene.note()
        here, environment, temporary = Path.cwd(), dict(os.environ), tempfile.tempdir
        os.environ |= {"HOME": str(scene.home), "TMPDIR": str(scene.temporary)}
        tempfile.tempdir = str(scene.temporary)
        os.chdir(scene.work)
        self.peeking.watch(None if scene.look_away else scene)
        try:
            ending = attempt(case.act, case.right, far=case.far)
        finally:
            seen = self.peeking.seen
            self.peeking.watch(None)
            os.chdir(here)
            os.environ.clear()
            os.environ |= environment
            tempfile.tempdir = temporary
        return group, name, judged(ending, scene.damage(before), seen, scene)

    def close(self) -> None:
        remove(self.scene_root)


def judged(ending: Ending, damage: list[str], seen: list[str], scene: Scene) -> Ending:
    """Let what happened to somebody's files be worse than how the case ended."""
    rest = f"; then {ending.name}: {ending.detail}"
    theirs = [line for line in damage if line.split(" ", 1)[1].startswith(("home", "victim"))]
    mine = {str(path.relative_to(scene.root)) for path in scene.kept if path.is_relative_to(scene.root)}
    own = [line for line in damage if line.split(" ", 1)[1] in mine]
    if theirs:
        return Ending("victim touched", ", ".join(theirs[:3]) + rest)
    if own:
        return Ending("the user's own file touched", ", ".join(own[:3]) + rest)
    if damage:
        return Ending("stray file", ", ".join(damage[:3]) + rest)
    if seen:
        return Ending("private file read", seen[0].removeprefix(str(scene.root)) + rest)
    return ending


@drawing_once()
def run(cases: int, seed: int, first: int = 0, groups: tuple[str, ...] = GROUPS) -> dict[str, Any]:
    """Run cases, and count how they end."""
    began, worked, endings = time.monotonic(), time.process_time(), Counter[str]()
    by_group = {group: Counter[str]() for group in groups}
    by_kind: dict[str, Counter[str]] = {}
    failures = []
    place = Path(tempfile.mkdtemp(prefix="strangers-"))
    campaign = Campaign(place, seed, groups)
    try:
        for number in range(first, first + cases):
            group, kind, ending = campaign.case(number)
            endings[ending.name] += 1
            by_group[group][ending.name] += 1
            by_kind.setdefault(f"{group}: {kind}", Counter())[ending.name] += 1
            if ending.name not in GOOD:
                failures.append(
                    {"seed": seed, "case": number, "kind": kind, "ending": ending.name, "why": ending.detail}
                )
                print(f"--seed {seed} --only {number}: {kind}: {ending.name}: {ending.detail}", file=sys.stderr)
    finally:
        campaign.close()
        hostile.stop()
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(material().place, ignore_errors=True)
        material.cache_clear()
    return {
        "cases": sum(endings.values()),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "seconds of work": round(time.process_time() - worked, 1),
        "endings": dict(endings),
        "groups": {group: dict(counts) for group, counts in by_group.items()},
        "kinds": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "failures": failures[:50],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one case, by its number")
    parser.add_argument("--groups", default=",".join(GROUPS), help="only these; a case's number then means another")
    given = parser.parse_args()
    torch.set_num_threads(1)
    first, cases = (given.first, given.cases) if given.only is None else (given.only, 1)
    counts = run(cases, given.seed, first, tuple(given.groups.split(",")))
    print(json.dumps(counts))
    sys.exit(bool(counts["failures"]))


if __name__ == "__main__":
    main()
