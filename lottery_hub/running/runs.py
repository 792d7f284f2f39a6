"""A run directory: finished work is never done twice, never mixed with other settings, and never believed unseen.

run.json            the settings of the run, and what made them, under a seal
units/NAME/         one finished piece of work: any files it left, and result.json, which seals them, see `sealed`
units/NAME.partial/ one that was killed; its checkpoint.pt is continued from
*.damaged           what was not what it had been when it was read again, set aside
.lock               held while a process works here
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lottery_hub.errors import LotteryHubError, RunError, TicketError, printable
from lottery_hub.storage import atomic, sealed
from lottery_hub.storage.sealed import SEAL, Sealed

CHECKPOINT = "checkpoint.pt"
Work = Callable[[Path], dict[str, Any]]
# What a stranger's folder and records can raise: they may hold anything, and be gone by now.
STRANGE = (LotteryHubError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class Run:
    """A run directory that this process holds; get one from `open_run`."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self.settings = settings
        self._from = {"settings": sealed.digest(settings)}

    def once(self, name: str, work: Work, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the record of the unit `name`, doing its work only if no run here has finished it.

        What is damaged, or was made of something else, is set aside and done anew.

        Args:
            name: of the unit; unique within the run.
            work: called with a folder for its files, which still holds what a killed attempt left there;
                returns a JSON-able record. A file called `checkpoint.pt` is deleted when the unit is done.
            given: what the work depends on besides the settings, JSON-able: fingerprints of what it begins with.

        Raises:
            WriteError: the disk does not take it; the next run goes on from what is there.
        """
        record = self.finished(name, given)
        if record is not None:
            return record
        done = self.folder(name)
        partial = done.with_name(f"{name}.partial")
        with atomic.writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
        # The seal is written before the checkpoint goes and the folder is renamed: a kill between any two of these
        # steps leaves a unit that the next run completes without training again.
        if self._sound(partial / SEAL, partial, given) is None:
            sealed.seal(partial, work(partial), self._from | dict(given or {}), without=CHECKPOINT)
        with atomic.writing(done):
            (partial / CHECKPOINT).unlink(missing_ok=True)
            partial.rename(done)
            atomic.sync(done.parent)
        return sealed.parse(done / SEAL).record

    def finished(self, name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the record of a finished unit whose files are what they were, or None; see `once`."""
        folder = self.folder(name)
        found = self._sound(folder, folder, given)
        return found and found.record

    def _sound(self, piece: Path, folder: Path, given: Mapping[str, Any] | None) -> Sealed | None:
        """Return what the seal of a folder says; where that does not hold, set `piece` of it aside."""
        if not piece.exists():
            return None
        try:
            found = sealed.read(folder)
        except TicketError as problem:
            atomic.set_aside(piece, str(problem))
            return None
        if found.given != self._from | dict(given or {}):
            atomic.set_aside(piece, f"{printable(folder)} was made of something else than what it would be made of now")
            return None
        return found

    def folder(self, name: str) -> Path:
        """Return where a finished unit's files are."""
        return self.directory / "units" / name

    def forget(self, name: str, part: str) -> None:
        """Remove a folder inside a finished unit that nobody needs any more, in one step."""
        place = self.folder(name) / part
        gone = place.with_name(f".{part}")
        with atomic.writing(place):
            if gone.exists():
                shutil.rmtree(gone)
            place.rename(gone)
            shutil.rmtree(gone)

    def elsewhere(self, name: str, same: Callable[[dict[str, Any]], bool], limit: int) -> Iterator[tuple[Path, Sealed]]:
        """Yield folder and seal of the sound units of this name that runs beside this one have finished.

        Nothing that stands there makes this run fail.

        Args:
            name: of the unit.
            same: given the other run's settings, says whether its unit is of interest.
            limit: bytes beyond which a unit is not read.
        """
        runs: list[Path] = []
        with suppress(OSError):
            runs = sorted(self.directory.parent.glob("*/run.json"))
        for record in runs:
            if record.parent == self.directory:
                continue
            with suppress(*STRANGE):
                settings = sealed.parse(record).record
                unit = Run(record.parent, settings).folder(name)
                if same(settings):
                    found = sealed.read(unit, limit)
                    if found.given["settings"] == sealed.digest(settings):
                        yield unit, found


@contextmanager
def open_run(directory: Path, settings: dict[str, Any]) -> Iterator[Run]:
    """Hold a run directory, new or continued.

    Args:
        directory: made if it does not exist.
        settings: everything the results depend on, JSON-able.

    Raises:
        RunError: another process works here, the folder holds something else, or the settings differ.
    """
    record = directory / "run.json"
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{printable(directory)} is a file; give a new or existing run directory")
    # A run that was killed as it began has left these and nothing else.
    beginnings = (".lock", f".{record.name}.partial")
    try:
        there = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        own = [directory / name for name in (".lock", "ladder", "ticket", "units")]
        # Nothing that a link leads to is so much as listed.
        link = next((path for path in own if path.is_symlink()), None)
        inside = [] if link else (directory / "units").rglob("*")
        link = link or next((path for path in inside if path.is_symlink()), None)
    except OSError as problem:
        raise RunError(f"cannot work in {printable(directory)}: {printable(problem)}") from problem
    if link is not None:
        shown = printable(link.relative_to(directory))
        raise RunError(f"{printable(directory)}: {shown} is a link, and a run works in its own folder only; remove it")
    ours = any(name.startswith(record.name) for name in there)  # damaged, it is still a run
    if not ours and any(name not in beginnings for name in there):
        raise RunError(f"{printable(directory)} is not empty and not a run directory; choose another --output")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        lock.acquire(timeout=0)
    except Timeout as busy:
        raise RunError(f"another process is working in {printable(directory)}; wait for it to end") from busy
    except OSError as problem:
        raise RunError(f"cannot work in {printable(directory)}: {printable(problem)}") from problem
    try:
        known = _settings(record)
        if known is not None:
            changes = differences(known, settings)
            if changes:
                raise RunError(
                    f"{printable(directory)} belongs to a run with other settings ({'; '.join(changes[:6])}); "
                    "use those, or another --output"
                )
        else:
            sealed.write(record, Sealed({}, settings, {}))
        yield Run(directory, known or settings)
    finally:
        lock.release()


def _settings(record: Path) -> dict[str, Any] | None:
    """Return the settings of a run, or None where there are none or they are damaged: its units know them too."""
    if not record.exists():
        return None
    try:
        return sealed.parse(record).record
    except TicketError as problem:
        atomic.set_aside(record, str(problem))
        return None


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return `path: old → new` for every leaf that differs between two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            below = f"{path}.{key}" if path else str(key)
            found += differences(old.get(key, "absent"), new.get(key, "absent"), below)
        return found
    if old == new:
        return []
    return [f"{printable(path)}: {printable(old, 80)} → {printable(new, 80)}"]
