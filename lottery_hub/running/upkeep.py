"""Looking after a store: what is in it, whether it is what it was, and making room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lottery_hub.errors import BusyError, StoreError, TicketError, printable
from lottery_hub.running.store import Store, address
from lottery_hub.storage import sealed
from lottery_hub.storage.sealed import Sealed


@dataclass(frozen=True)
class Entry:
    """What takes room in a store: a finished unit, or what is left of one.

    Attributes:
        path: its folder, or file.
        bytes: of all its files.
        used: when it was last made or found again, in seconds since 1970.
    """

    path: Path
    bytes: int
    used: float

    @property
    def finished(self) -> bool:
        """Whether it is a finished unit, not one that is half done or set aside."""
        return "." not in self.path.name


def entries(store: Store) -> list[Entry]:
    """Return everything that takes room, what was of use last coming first."""
    paths = [*map(store.folder, store.addresses()), *store.left()]
    found = []
    for path in paths:
        with suppress(FileNotFoundError):  # somebody else has finished or removed it
            found.append(Entry(path, _bytes(path), path.lstat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def unit_at(store: Store, beginning: str) -> tuple[str, Sealed]:
    """Return address and seal of the one unit whose address begins so.

    Raises:
        StoreError: there is none, or several.
        TicketError: it is damaged.
    """
    found = sorted(name for name in store.addresses() if name.startswith(beginning))
    if len(found) != 1:
        many = f"{len(found)} units of {printable(store.directory)} have" if found else "no unit of the store has"
        raise StoreError(f"{many} an address that begins with {printable(beginning)}; `store list` shows them")
    return found[0], sealed.read(store.folder(found[0]))


def damaged(store: Store) -> Iterator[tuple[str, str]]:
    """Yield address and what is wrong with every unit that is not what it was; whoever needs it makes it anew."""
    for name in sorted(store.addresses()):
        try:
            found = sealed.read(store.folder(name))
            if address(found.given) != name:
                yield name, f"{printable(name)} is another unit than its name says"
        except TicketError as problem:
            if store.folder(name).exists():  # else somebody has removed it meanwhile
                yield name, str(problem)


def prune(
    store: Store, *, days: float | None = None, most: int | None = None, left: bool = True, dry_run: bool = False
) -> list[Entry]:
    """Remove what is of no more use, and return it. What a process is at work on stays.

    Args:
        store: which.
        days: units that were not of use for so long.
        most: bytes that may stay; the units that were of use longest ago go first.
        left: also what was set aside as damaged, and what was left half done, for longer than a day.
        dry_run: only say what would be removed.
    """
    now, room = time.time(), 0
    gone = []
    for entry in entries(store):
        age = (now - entry.used) / 86_400
        if entry.finished:
            room += entry.bytes
            useless = (days is not None and age > days) or (most is not None and room > most)
        else:
            useless = left and (".damaged" in entry.path.name or age > 1)
        if useless:
            with suppress(BusyError):
                if not dry_run:
                    store.remove(entry.path)
                gone.append(entry)
                room -= entry.bytes if entry.finished else 0
    return gone


def _bytes(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(path) for name in names)
