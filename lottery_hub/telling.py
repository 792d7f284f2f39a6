"""What work tells of itself while it goes on, and who hears it: a screen, a notebook, a log, or nobody.

Work does not know who listens. Wherever it is, it tells what it is at:

    doing      what                                 something begins that cannot be counted
    notes      lines                                what is worth knowing, whatever else is shown
    part       what, done, of, unit                 how far something is: bytes fetched, images decoded
    plan       what, most, at_most, together, passes     how much there is to do, at most perhaps
    unit       unit, finished, passes               a network is at work now, or was done before
    begun      unit, epoch, epochs                  an epoch of it begins
    passes     unit, done, images, before           so much of it is done, so many images were trained on; or an
                                                    earlier process has done so much of it
    stage      unit, what                           what it is at besides epochs
    epoch      unit and the record of the epoch     an epoch is done
    ended      unit                                 the network is done

and what a find or a study comes to know, see `reporting.watched`. A pass is one image through the network, forward;
backward counts as two.

Telling changes no figure, and nothing that is told is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event
from typing import Any

from lottery_hub.errors import StoppedError, printable

Report = Callable[[str, dict[str, Any]], None]
EVERY = 0.2  # seconds, at least, between two words about the passes of one unit
QUIET, USUAL, VERBOSE = -1, 0, 1

_LISTENER: ContextVar[Report | None] = ContextVar("listener", default=None)
_VOLUME: ContextVar[int] = ContextVar("volume", default=USUAL)


def tell(kind: str, **record: Any) -> None:
    """Tell whoever listens here; see the top of this page for what there is to tell."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(kind, record)


def heard() -> Report:
    """Return who listens here, to be told from elsewhere."""
    listener = _LISTENER.get()
    return _nobody if listener is None else listener


def is_heard() -> bool:
    """Whether anybody listens here."""
    return _LISTENER.get() is not None


@contextmanager
def listening(report: Report) -> Iterator[None]:
    """Have everything that is told inside, by this thread, told to `report` and nobody else."""
    token = _LISTENER.set(report)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def at_volume(volume: int) -> Iterator[None]:
    """Have who shows what is told show nothing (`QUIET`), the usual, or all (`VERBOSE`)."""
    token = _VOLUME.set(volume)
    try:
        yield
    finally:
        _VOLUME.reset(token)


def volume() -> int:
    """Return how much is to be shown here."""
    return _VOLUME.get()


@contextmanager
def working(unit: str, passes: float, report: Report | None = None, stop: Event | None = None) -> Iterator[None]:
    """Tell of one unit: that it is at work, how far it is, and when it has ended.

    Args:
        unit: its name.
        passes: that it takes in all.
        report: told; None is whoever listens here.
        stop: where it is set, the unit ends at the next thing that it tells.

    Raises:
        StoppedError: it was.
    """
    report = heard() if report is None else report
    report("unit", {"unit": unit, "finished": False, "passes": passes})
    with listening(_Course(unit, report, stop)):
        yield
    report("ended", {"unit": unit})


def _nobody(kind: str, record: dict[str, Any]) -> None:
    """Hear nothing."""


class _Course:
    """Puts a unit's name to what is told inside it, and adds passes up."""

    def __init__(self, unit: str, report: Report, stop: Event | None) -> None:
        self.unit, self.report, self.stop = unit, report, stop
        self.done, self.images, self.told = 0.0, 0, 0.0

    def __call__(self, kind: str, record: dict[str, Any]) -> None:
        if self.stop is not None and self.stop.is_set():
            raise StoppedError(f"{self.unit} was stopped; the epochs that it has trained are kept")
        if kind != "passes":
            self.report(kind, {"unit": self.unit} | record)
            return
        self.done += record["passes"]
        self.images += record.get("images", 0)
        now = time.monotonic()
        if now - self.told >= EVERY or "before" in record:
            self.told = now
            about = {"unit": self.unit, "done": self.done, "images": self.images}
            self.report(kind, about | ({"before": True} if "before" in record else {}))


@contextmanager
def if_stopped(words: str | Callable[[], str]) -> Iterator[None]:
    """Have Ctrl-C say what is kept, and whether the same command goes on; the innermost knows best."""
    try:
        yield
    except KeyboardInterrupt as stop:
        told = str(stop) or (words if isinstance(words, str) else words())
        raise KeyboardInterrupt(told) from None


def kept_in(folder: Path) -> str:
    """Return what Ctrl-C says of trainings that are kept in a folder: a run directory, or a store."""
    return f"finished epochs are kept in {printable(folder, 1000)}, and the same command goes on from there"
