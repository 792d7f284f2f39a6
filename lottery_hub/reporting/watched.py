"""What is known of work that goes on, from what it tells (see `telling`): what is done, what is at work, how long yet.

Of a find and a study it also knows what they come to know: `ladder`, `data`, `dense`, `level`, `control`, `radius`,
`cell`, `failed`, `look` and `busy`, with the records that they keep.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lottery_hub.errors import printable

SETTLED = 1.0  # seconds of work before which no rate is told
REGIMES = {"standard": "std", "adversarial": "adv"}


@dataclass
class Network:
    """A network at work."""

    name: str
    passes: float  # in all; 0 where that is not known
    began: float
    done: float = 0.0
    before: float = 0.0  # of it, by an earlier process
    images: int = 0  # trained on
    epoch: int = 0
    epochs: int = 0
    epoch_began: float = 0.0
    images_before: int = 0  # this epoch
    stage: str = ""  # besides epochs
    last: dict[str, Any] = field(default_factory=dict)  # the record of its last epoch

    def share(self) -> float | None:
        """Return how much of it is done, in 0..1."""
        return float(min(self.done / self.passes, 1.0)) if self.passes else None

    def rate(self, now: float) -> float | None:
        """Return images a second: of this epoch, or of the last where this has just begun or is over."""
        seconds, seen = now - self.epoch_began, self.images - self.images_before
        if not self.stage and seconds >= SETTLED and seen:
            return seen / seconds
        if self.last:
            return float(self.last["images"] / max(self.last["seconds"], 1e-9))
        return None

    def left(self, now: float) -> float | None:
        """Return the seconds that it will take, at the rate that it had so far."""
        passed, done = now - self.began, self.done - self.before
        if not self.passes or passed < SETTLED or done <= 0:
            return None
        return max(self.passes - self.done, 0.0) * passed / done


@dataclass
class Part:
    """Something that is counted: bytes, images, files."""

    what: str
    done: float
    of: float
    unit: str
    began: float
    before: float = 0.0  # of it, when it was first told of


@dataclass
class Watched:
    """Everything that was told so far.

    Attributes:
        clock: seconds, for rates.
    """

    clock: Callable[[], float] = time.monotonic
    doing: str = "starting"
    cell: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    part: Part | None = None
    finished: int = 0  # units of the plan
    done: float = 0.0  # passes of those
    found: float = 0.0  # of them, passes that were done before
    first: float | None = None  # when the first unit began
    networks: dict[str, Network] = field(default_factory=dict)
    dense: dict[str, Any] | None = None
    levels: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def take(self, kind: str, record: dict[str, Any]) -> None:
        """Take what is told."""
        if kind == "doing":
            self.doing, self.part = printable(record["what"]), None
        elif kind == "part":
            self._part(record)
        elif kind == "plan":
            self._planned(record)
        elif kind == "cell":
            self.dense, self.levels, self.controls = None, [], []
            self.cell = printable(record["cell"])
            self._planned({})
        elif kind == "dense":
            self.dense = record
        elif kind == "level":
            self.levels = [row for row in self.levels if row["level"] != record["level"]] + [record]
        elif kind == "control":
            self.controls.append(record)
        elif "unit" in record and kind in ("unit", "ended", "begun", "passes", "stage", "epoch"):
            self._unit(kind, record["unit"], record)

    def _planned(self, plan: dict[str, Any]) -> None:
        if plan.get("what") != self.plan.get("what"):
            self.finished, self.done, self.found, self.first = 0, 0.0, 0.0, None
            self.networks.clear()
        self.plan, self.part = plan, None

    def _part(self, record: dict[str, Any]) -> None:
        what, done, of = printable(record["what"]), float(record["done"]), float(record["of"])
        if self.part is None or self.part.what != what:
            self.part = Part(what, done, of, record.get("unit", ""), self.clock(), done)
        self.part.done, self.part.of = done, of
        if done >= of:
            self.part = None

    def _unit(self, kind: str, name: str, record: dict[str, Any]) -> None:
        now = self.clock()
        if kind == "unit" and record["finished"]:
            self.finished += 1
            self.done += record.get("passes", 0.0)
            self.found += record.get("passes", 0.0)
            return
        if kind == "unit" or (name not in self.networks and kind != "ended"):
            self.networks[name] = Network(short(name), record.get("passes", 0.0), now, epoch_began=now)
            self.first = now if self.first is None else self.first
        if kind == "ended":
            gone = self.networks.pop(name, None)
            self.finished += 1
            self.done += gone.passes if gone else 0.0
            self.found += gone.before if gone else 0.0
            return
        network = self.networks[name]
        if kind == "begun":
            network.epoch, network.epochs, network.stage = record["epoch"], record["epochs"], ""
            network.epoch_began, network.images_before = now, network.images
        elif kind == "passes":
            network.done, network.images = record["done"], record["images"]
            if record.get("before"):
                network.before = network.done
        elif kind == "stage":
            network.stage = printable(record["what"])
        elif kind == "epoch":
            network.epoch, network.epochs, network.last = record["epoch"], record["epochs"], record

    def title(self, at_most: str = "≤") -> str:
        """Return what is done of what there is to do, in words: `transfer 3 of ≤ 10, 2 at a time`."""
        plan = self.plan
        if self.part is not None:
            return f"{self.part.what}: {_counted(self.part)}"
        if not plan:
            return self.doing
        bound = f"{at_most} " if plan.get("at_most") else ""
        together = f", {plan['together']} at a time" if plan.get("together", 1) > 1 else ""
        cell = f"{self.cell}: " if self.cell else ""
        return f"{cell}{plan['what']} {self.finished} of {bound}{max(plan['most'], self.finished)}{together}"

    def share(self) -> float | None:
        """Return how much of all is done, in 0..1; None where nobody knows."""
        if self.part is not None:
            return min(self.part.done / self.part.of, 1.0) if self.part.of else None
        if self.plan.get("passes"):
            return float(min(self._passes() / self.plan["passes"], 1.0))
        if self.plan.get("most"):
            return float(min(self.finished / self.plan["most"], 1.0))
        if len(self.networks) == 1:
            return next(iter(self.networks.values())).share()
        return None

    def left(self) -> float | None:
        """Return the seconds that all will take, at the rate so far, of all networks at work together."""
        now = self.clock()
        if self.part is not None:
            passed, fresh = now - self.part.began, self.part.done - self.part.before
            if passed < SETTLED or fresh <= 0:
                return None
            return (self.part.of - self.part.done) * passed / fresh
        if not self.plan.get("passes"):
            return next(iter(self.networks.values())).left(now) if len(self.networks) == 1 else None
        fresh = self._passes() - self.found - sum(network.before for network in self.networks.values())
        if self.first is None or now - self.first < SETTLED or fresh <= 0:
            return None
        return float(max(self.plan["passes"] - self._passes(), 0.0) * (now - self.first) / fresh)

    def _passes(self) -> float:
        at_work = sum(min(network.done, network.passes or network.done) for network in self.networks.values())
        return self.done + at_work

    def standing(self) -> str:
        """Return how many units are finished, in words; nothing where nothing was planned."""
        if not self.plan:
            return ""
        bound = "at most " if self.plan.get("at_most") else ""
        return f"{self.finished} of {bound}{self.plan['most']} {self.plan['what']}s are finished"


def short(unit: str) -> str:
    """Return what a unit is called on a screen: `level 7, adv, seed 0`."""
    parts = re.fullmatch(r"transfer-(?:(\w+)-)?level-(\d+)-(standard|adversarial)-seed-(\d+)", unit)
    if parts is None:
        drawn = re.fullmatch(r"draw-level-(\d+)", unit)
        return f"level {int(drawn[1])}" if drawn else printable(unit)
    control, level, regime, seed = parts.groups()
    name = f"{control} {int(level)}" if control else f"level {int(level)}" if int(level) else "dense"
    return f"{name}, {REGIMES[regime]}, seed {seed}"


def clock_time(seconds: float | None) -> str:
    """Return seconds as `1:05`, `2:03:04` or `3 d 04 h`; a dash for None."""
    if seconds is None:
        return "–"
    whole = int(seconds + 0.5)
    if whole >= 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"
    hours = f"{whole // 3600}:{whole % 3600 // 60:02d}" if whole >= 3600 else str(whole // 60)
    return f"{hours}:{whole % 60:02d}"


def _counted(part: Part) -> str:
    """Return how far something is: `1.2 of 3.4 MB`, or `1,200 of 3,400 images`."""
    if part.unit != "bytes":
        return f"{part.done:,.0f} of {part.of:,.0f} {part.unit}".strip()
    size, name = (1e9, "GB") if part.of >= 1e9 else (1e6, "MB") if part.of >= 1e6 else (1e3, "kB")
    return f"{part.done / size:.1f} of {part.of / size:.1f} {name}"
