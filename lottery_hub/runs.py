"""A run directory: finished work is never done twice, and never mixed with other settings.

run.json            the settings of the run, and what made them
units/NAME/         one finished piece of work: result.json and any files it left
units/NAME.partial/ one that was killed; its checkpoint.pt is continued from
.lock               held while a process works here
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lottery_hub.errors import LotteryHubError, RunError, printable
from lottery_hub.storage import atomic, files

CHECKPOINT = "checkpoint.pt"
Work = Callable[[Path], dict[str, Any]]


class Run:
    """A run directory that this process holds; get one from `open_run`."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self.settings = settings

    def once(self, name: str, work: Work) -> dict[str, Any]:
        """Return the result of the unit `name`, doing its work only if no run here has finished it.

        Args:
            name: of the unit; unique within the run.
            work: called with a folder for its files, which still holds what a killed attempt left there;
                returns a JSON-able result. A file called `checkpoint.pt` is deleted when the unit is done.
        """
        done = self.folder(name)
        if not done.exists():
            partial = done.with_name(f"{name}.partial")
            partial.mkdir(parents=True, exist_ok=True)
            result = partial / "result.json"
            # The result is written before the checkpoint goes and the folder is renamed: a kill between any
            # two of these steps leaves a unit that the next run completes without training again.
            if not result.exists():
                atomic.write_json(result, work(partial))
            (partial / CHECKPOINT).unlink(missing_ok=True)
            partial.rename(done)
        return files.read_json(done / "result.json")

    def has(self, name: str) -> bool:
        """Whether the unit is finished."""
        return self.folder(name).exists()

    def folder(self, name: str) -> Path:
        """Return where a finished unit's files are."""
        return self.directory / "units" / name

    def elsewhere(self, name: str, same: Callable[[dict[str, Any], dict[str, Any]], bool]) -> Path | None:
        """Return the folder of a unit of this name that a run beside this one has finished, or None.

        Args:
            name: of the unit.
            same: given the other run's settings and the unit's result, says whether working here would give the same.
        """
        for record in sorted(self.directory.parent.glob("*/run.json")):
            unit = Run(record.parent, {}).folder(name)
            if record.parent == self.directory or not unit.exists():
                continue
            # It is another's folder, and may hold anything, or be gone by now.
            with suppress(LotteryHubError, OSError, LookupError, TypeError):
                if same(files.read_json(record), files.read_json(unit / "result.json")):
                    return unit
        return None


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
    if directory.is_dir() and not record.exists() and any(p.name not in beginnings for p in directory.iterdir()):
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
        if record.exists():
            changes = differences(files.read_json(record), settings)
            if changes:
                raise RunError(
                    f"{printable(directory)} belongs to a run with other settings ({'; '.join(changes[:6])}); "
                    "use those, or another --output"
                )
        else:
            atomic.write_json(record, settings)
        yield Run(directory, settings)
    finally:
        lock.release()


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
