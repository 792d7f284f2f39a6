"""A run directory: one process at a time, never mixed with other settings, and never believed unseen.

run.json     the settings of the run, and what made them, under a seal
units/NAME   a finished piece of work, see `pieces`
*.damaged    what was not what it had been when it was read again, set aside
.lock        held while a process works here
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lottery_hub.errors import RunError, TicketError, printable
from lottery_hub.running import pieces
from lottery_hub.running.pieces import CHECKPOINT as CHECKPOINT
from lottery_hub.storage import atomic, sealed
from lottery_hub.storage.sealed import Sealed


class Run:
    """A run directory that this process holds; get one from `open_run`."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self.settings = settings
        self._from = {"settings": sealed.digest(settings)}

    def once(self, name: str, work: pieces.Work, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the record of the unit `name`, doing its work only if no run here has finished it.

        What is damaged, or was made of something else, is set aside and done anew.

        Args:
            name: of the unit; unique within the run.
            work: see `pieces.make`.
            given: what the work depends on besides the settings, JSON-able: fingerprints of what it begins with.

        Raises:
            WriteError: the disk does not take it; the next run goes on from what is there.
        """
        record = self.finished(name, given)
        return record if record is not None else pieces.make(self.folder(name), self._given(given), work)

    def finished(self, name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the record of a finished unit whose files are what they were, or None; see `once`."""
        folder = self.folder(name)
        found = pieces.sound(folder, self._given(given), blame=folder)
        return found and found.record

    def folder(self, name: str) -> Path:
        """Return where a finished unit's files are."""
        return self.directory / "units" / name

    def _given(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        return self._from | dict(given or {})


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
            if known.get("format") != settings.get("format"):
                raise RunError(
                    f"{printable(directory)} is a run of another version of lottery-hub, which kept its work "
                    "otherwise; what it made can be used, but to go on choose another --output"
                )
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
