"""Measure what a store and an engine cost beside the work: time outside of units, and what is missing of very many.

python scripts/bench_units.py --units 200                    threads of this process, two at a time
python scripts/bench_units.py --units 200 --engine ray       the same on Ray
python scripts/bench_units.py --names 100000                 which of so many units are missing

A unit is a transfer of resnet18-slim to 24 images of 8x8 pixels, one epoch, every unit with a seed of its own. Time
inside of units is from when a worker begins one until its network is written; a checkpoint an epoch belongs to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch

from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.networks.tickets import Ticket, ticket_of
from lottery_hub.running.engines import Report
from lottery_hub.running.named import engine_of
from lottery_hub.running.store import Unit, open_store
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.training.inputs import Inputs
from lottery_hub.training.transferring import start_of
from lottery_hub.training.units import run_unit, transfer_unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=0)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--names", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if options.names:
            names(options.names, Path(place))
        if options.units:
            units(options.units, options.engine, options.jobs, Path(place))


def names(count: int, place: Path) -> None:
    """Say how long it takes to tell which of so many units are missing, where every other one is there."""
    store = open_store(place / "store")
    began = time.perf_counter()
    asked = [Unit(f"{number}", {"unit": "none", "number": number}) for number in range(count)]
    for unit in asked[::2]:
        store.folder(unit).mkdir(parents=True)
    made, busy = time.perf_counter(), time.process_time()
    missing = store.missing(asked)
    took, busy = time.perf_counter() - made, time.process_time() - busy
    print(f"{len(missing):,} of {count:,} units are missing: told in {took:.2f} s ({busy:.2f} s of one core)")
    print(f"(their addresses and folders took {made - began:.1f} s to make)")


RECIPE = Recipe(epochs=1, batch_size=12, lr=0.02, augment="none", image_size=8)
ATTACK = Attack(method="fgsm", eps=0.1)


def tiny(count: int, place: Path) -> tuple[list[Unit], Inputs]:
    """Return so many tiny units with all that they begin with."""
    backbone = Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 5, 0))
    start, data = ticket_of(backbone, backbone.dense_mask(), 0, "omp", {}), images()
    begins = start_of(start)
    asked = [transfer_unit(f"seed {seed}", start, data, RECIPE, ATTACK, seed, "cpu", begins) for seed in range(count)]
    held: dict[str, Ticket | Dataset] = {asked[0].inputs["start"]: start, asked[0].inputs["data"]: data}
    return asked, Inputs(open_store(place / "store"), held)


def units(count: int, engine: str, jobs: int, place: Path) -> None:
    """Run so many tiny units, and say what share of the time was spent outside of them."""
    torch.set_num_threads(jobs)
    asked, inputs = tiny(count + jobs, place)
    spent = place / "spent"
    spent.mkdir()
    do = partial(timed, spent)
    with engine_of(engine, "cpu", jobs) as runs:
        runs.run(do, asked[:jobs], inputs, silent, Event(), jobs)  # workers are started and warm
        began = time.perf_counter()
        runs.run(do, asked[jobs:], inputs, silent, Event(), jobs)
        whole = time.perf_counter() - began
    inside = sum(float((spent / unit.address).read_text()) for unit in asked[jobs:])
    outside = 1 - inside / (jobs * whole)
    print(f"{engine}: {count} units in {whole:.1f} s, {jobs} at a time; {outside:.1%} of the time outside of units")


def timed(
    spent: Path, unit: Unit, inputs: Inputs, device: torch.device | str, report: Report, stop: Event
) -> dict[str, Any]:
    """Make a unit as `run_unit`, and write down for how many seconds its work went on."""
    began = 0.0

    def clocked(kind: str, record: dict[str, Any]) -> None:
        nonlocal began
        if kind == "unit":
            began = time.perf_counter()
        elif kind == "ended":
            (spent / unit.address).write_text(str(time.perf_counter() - began))
        report(kind, record)

    return run_unit(unit, inputs, device, clocked, stop)


def images() -> Dataset:
    generator = torch.Generator().manual_seed(1)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 255, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
        return Split(pixels, torch.arange(count) % 3)

    return Dataset("noise", None, "sha256:noise", ("a", "b", "c"), 1.0, split(24), split(9), split(12), ())


def silent(kind: str, record: dict[str, Any]) -> None:
    """Say nothing."""


if __name__ == "__main__":
    main()
