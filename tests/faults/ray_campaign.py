"""A Ray cluster of two nodes on one machine, whose workers and whose second node are killed at random moments.

    python -m tests.faults.ray_campaign --kills 100 --seed 0

prints one JSON object a store, the last of which counts for all: how many workers and nodes were killed, and what went
wrong. The units are those of `store_campaign`. The node that is killed is never the driver's: with that, the command
itself is gone, and is given again. Where Ray gives a unit up, because its workers died too often, the command is given
again too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray
from ray.cluster_utils import Cluster

from lottery_hub.errors import LotteryHubError
from lottery_hub.running.named import engine_of
from lottery_hub.running.store import Store, Unit, open_store
from tests.faults.store_campaign import UNITS, make, unit, wrong

ROOT = Path(__file__).parents[2]
KILLS = 25  # of one store, at most
NODES = 0.2  # share of the kills that take a whole node
PAUSE = 0.15  # seconds that an epoch takes


@dataclass
class Nothing:
    """The inputs of units that need none, but for where they note what they do."""

    store: Store
    log: Path
    held: dict[str, Any] = field(default_factory=dict)

    def keep(self) -> None:
        """Nothing is held."""

    def elsewhere(self) -> Nothing:
        return self


def do(unit: Unit, inputs: Nothing, *_: Any) -> dict[str, Any]:
    """Make a unit in a worker, which says who and where it is before it begins."""
    number = unit.about["number"]
    node = ray.get_runtime_context().get_node_id()
    (inputs.log.parent / "workers" / str(os.getpid())).write_text(node)
    return inputs.store.once(unit, lambda folder: make(number, inputs.log, PAUSE, folder)).record


@dataclass
class Killer:
    """Kills workers and the second node of a cluster, for as long as there is something to kill."""

    cluster: Cluster
    dice: random.Random
    place: Path
    most: int
    dead: set[int] = field(default_factory=set)
    workers: int = 0
    nodes: int = 0

    def go(self, working: Thread) -> None:
        """Kill while somebody works; in the main thread, where alone Ray begins a node."""
        node = _patiently(lambda: self.cluster.add_node(num_cpus=1))
        while working.is_alive():
            working.join(self.dice.uniform(0.0, 1.0))
            there = self._there() if self.workers + self.nodes < self.most else {}
            if there and self.dice.random() < NODES:
                on_it = {process for process, where in there.items() if where == node.node_id}
                self.cluster.remove_node(node, allow_graceful=False)
                for process in on_it:  # a worker that outlives its node goes soon after, of itself
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                self.dead |= on_it
                self.nodes += 1
                node = _patiently(lambda: self.cluster.add_node(num_cpus=1))
            elif there:
                victim = self.dice.choice(sorted(there))
                self.dead.add(victim)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    self.workers += 1
        self.cluster.remove_node(node)

    def _there(self) -> dict[int, str]:
        """Return the workers that live, with their nodes."""
        known = ((int(path.name), path.read_text()) for path in (self.place / "workers").iterdir())
        return {process: node for process, node in known if process not in self.dead and _lives(process)}


def _patiently(begin: Callable[[], Any]) -> Any:
    """Begin a node, again if need be: Ray waits for one for half a minute, for which a busy machine may be too slow."""
    for _ in range(9):
        with suppress(Exception):
            return begin()
    return begin()


def _lives(process: int) -> bool:
    with suppress(OSError):
        return "ray::" in Path(f"/proc/{process}/cmdline").read_text()
    return False


@contextmanager
def cluster_of_two() -> Iterator[Cluster]:
    """Give a cluster of the driver's node, with one processor; the second is the killer's to add."""
    names = ("PYTHONPATH", "RAY_ADDRESS")
    before = {name: os.environ.get(name) for name in names}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [before["PYTHONPATH"]])])  # of the workers
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def once(cluster: Cluster, place: Path, dice: random.Random, kills: int = KILLS, units: int = UNITS) -> dict[str, Any]:
    """Have a cluster make all units of a store, kill so much of it, and say what came of it."""
    (place / "workers").mkdir()
    store, log = open_store(place / "store"), place / "log"
    inputs, asked = Nothing(store, log), [unit(number) for number in range(units)]
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    commands = 0

    def work() -> None:
        nonlocal records, commands
        while not records and not problems:
            commands += 1
            try:
                records = engine.run(do, asked, inputs, _silent, Event(), 2)
            except LotteryHubError as problem:
                if "worker died" not in str(problem):
                    problems.append(str(problem))

    killer = Killer(cluster, dice, place, kills)
    with engine_of("ray", "cpu", 2) as engine:
        working = Thread(target=work, daemon=True)
        working.start()
        killer.go(working)
    if [record.get("number") for record in records] != list(range(units)):
        problems.append(f"the result is {records}")
    problems += wrong(store, log, killer.dead, units)
    return {"workers": killer.workers, "nodes": killer.nodes, "commands": commands, "problems": problems}


def _silent(kind: str, record: dict[str, Any]) -> None:
    """Report to nobody."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice, began = random.Random(options.seed), time.monotonic()
    said: dict[str, Any] = {"seed": options.seed, "stores": 0, "units": 0, "workers": 0, "nodes": 0, "commands": 0}
    said["problems"] = []
    with cluster_of_two() as cluster:
        while said["workers"] + said["nodes"] < options.kills and not said["problems"]:
            with tempfile.TemporaryDirectory() as place:
                found = once(cluster, Path(place), dice)
            said["stores"] += 1
            said["units"] += UNITS
            for name, value in found.items():
                said[name] += value
            print(json.dumps(said | {"seconds": round(time.monotonic() - began)}), flush=True)


if __name__ == "__main__":
    main()
