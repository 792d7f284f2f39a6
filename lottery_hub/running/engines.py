"""Engines: what runs units. One is an object with this one method; another is another file.

local   threads of this process, see `side_by_side`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.running.store import Store, Unit
from lottery_hub.telling import Report as Report


class Inputs(Protocol):
    """What units begin with; see `training.inputs`."""

    store: Store
    held: Any

    def keep(self) -> None:
        """Write it into the store, where workers in other processes find it."""

    def elsewhere(self) -> Inputs:
        """Return the same for another process, which takes all from the store."""


# do(unit, inputs, device, report, stop) returns the record of a unit; see `training.units.run_unit`.
Do = Callable[[Unit, Any, torch.device | str, Report, Event], dict[str, Any]]


class Engine(Protocol):
    """What runs units; to be entered before, and left after.

    Attributes:
        threads: of torch, for each unit, however many run: figures depend on it in their last digits.
        jobs: how many units it has room for at a time.
    """

    @property
    def threads(self) -> int: ...

    @property
    def jobs(self) -> int: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def whole(self) -> Engine:
        """Return the same for a unit that runs by itself, with what all those on a machine share."""

    def run(
        self, do: Do, units: Sequence[Unit], inputs: Inputs, report: Report, stop: Event, jobs: int
    ) -> list[dict[str, Any]]:
        """Return the records of units, in order; each is made unless the store has it.

        Args:
            do: makes one; a function of a module, so that other processes find it by name.
            units: independent of each other.
            inputs: what they begin with, and the store that they are kept in.
            report: told what happens, by several threads.
            stop: where it is set, work ends soon; set where one fails.
            jobs: how many at a time, where that is the caller's to say.

        Raises:
            BaseException: the first that a unit raised, when the others have ended.
        """


@dataclass(frozen=True)
class Local:
    """Threads of this process, each with so many of torch's own."""

    device: torch.device | str
    threads: int
    jobs: int = 1

    @classmethod
    def of(cls, device: torch.device | str, jobs: int) -> Local:
        """Share torch's threads out among so many units at a time."""
        return cls(device, max(1, torch.get_num_threads() // jobs), jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Threads have ended with `run`."""

    def whole(self) -> Local:
        """See `Engine.whole`."""
        return Local(self.device, torch.get_num_threads())

    def run(
        self, do: Do, units: Sequence[Unit], inputs: Inputs, report: Report, stop: Event, jobs: int
    ) -> list[dict[str, Any]]:
        """See `Engine.run`."""
        works = [partial(do, unit, inputs, self.device, report, stop) for unit in units]
        return side_by_side(works, jobs, self.threads, stop)
