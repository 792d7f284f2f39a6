"""The store: every finished unit once, under the hash of what determines it, for whoever needs it.

store.json             says that this is a store
units/AB/ABCD…         a finished unit, one at work and one set aside, see `pieces`; who is at work, see `locks`
failures/ABCD….log     why a unit failed in another process

Any number of processes share a store, on one machine or several.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from lottery_hub.errors import StoreError, TicketError, printable
from lottery_hub.fetching.downloads import cache_folder
from lottery_hub.running import pieces
from lottery_hub.running.locks import locked
from lottery_hub.settings.paths import place_of
from lottery_hub.storage import atomic, files, sealed
from lottery_hub.storage.sealed import SEAL, Sealed

VARIABLE = "LOTTERY_HUB_STORE"
MARKER = "store.json"
MARK = {"lottery_hub_store": 1}
_ADDRESS = re.compile(r"[0-9a-f]{64}")
_LEFT = re.compile(r"[0-9a-f]{64}\.(partial|damaged(-[0-9]+)?)")


@dataclass(frozen=True)
class Unit:
    """A piece of work by name: what it is, and where its inputs are; JSON-able and picklable.

    Attributes:
        name: for people, e.g. `transfer-level-03-adversarial-seed-0`; two askers may call one unit differently.
        about: everything that determines it, of plain JSON values.
        inputs: of what it begins with, the key under which each is held or kept.
    """

    name: str
    about: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)

    @cached_property
    def address(self) -> str:
        """64 hex digits: the sha256 of `about` as canonical JSON."""
        return address(self.about)


Fits = Callable[[Unit, Sealed], str | None]  # says what is wrong with a unit that is whole under its seal


def address(value: Any) -> str:
    """Return the sha256 of canonical JSON: keys in order, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def default_store() -> Path:
    """Return where units are kept unless told otherwise: LOTTERY_HUB_STORE, or a folder beside the Hub's cache."""
    named = os.environ.get(VARIABLE)
    return place_of(named) if named else cache_folder() / "store"


@dataclass(frozen=True)
class Store:
    """A folder of finished units; get one from `open_store`."""

    directory: Path

    def folder(self, unit: Unit | str) -> Path:
        """Return where a finished unit is, given it or its address."""
        name = unit if isinstance(unit, str) else unit.address
        return self.directory / "units" / name[:2] / name

    def finished(self, unit: Unit, fits: Fits | None = None) -> Sealed | None:
        """Return what the seal of a finished unit says, where its files are what they were, or None.

        Args:
            unit: which.
            fits: says what is wrong with one that is whole all the same.
        """
        return self._found(unit, fits, aside=False)

    def once(self, unit: Unit, work: pieces.Work, fits: Fits | None = None) -> Sealed:
        """Return what the seal of a unit says, doing its work only if nobody has finished it.

        What is damaged, or does not fit, is set aside with a `DamageWarning` and made anew.

        Args:
            unit: which.
            work: see `pieces.make`.
            fits: see `finished`.

        Raises:
            BusyError: another process is at work on it.
            WriteError: the disk does not take it; the next attempt goes on from what is there.
        """
        place = self.folder(unit)
        self._check(place)
        with atomic.writing(place):
            if not (self.directory / MARKER).exists():
                _mark(self.directory / MARKER)
            place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place) as held:
            found = self._found(unit, fits, aside=True)
            if found is None:
                pieces.make(place, unit.about, work)
                found = sealed.parse(place / SEAL)
            held.finished = True
        return found

    def missing(self, units: Iterable[Unit]) -> list[Unit]:
        """Return those of the units that nobody has finished, each once; none is read."""
        there, missing = self.addresses(), {}
        for unit in units:
            if unit.address not in there:
                missing[unit.address] = unit
        return list(missing.values())

    def addresses(self) -> set[str]:
        """Return the address of every finished unit."""
        return {name for _, name in self._entries() if _ADDRESS.fullmatch(name)}

    def left(self) -> Iterator[Path]:
        """Yield what killed processes left half done, and what was set aside."""
        return (Path(shard, name) for shard, name in self._entries() if _LEFT.fullmatch(name))

    def remove(self, path: Path) -> None:
        """Remove a unit, or what is left of one, in one step; a process that is at work on it keeps it.

        Raises:
            BusyError: there is such a process.
        """
        name = path.name.partition(".")[0]
        place = self.folder(name)
        self._check(place)
        gone = place.with_name(f".{path.name}.gone")
        with locked(place) as held, atomic.writing(path):
            held.finished = True
            shutil.rmtree(gone, ignore_errors=True)
            place.with_name(path.name).rename(gone)
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink()  # set aside in a unit's place

    def _found(self, unit: Unit, fits: Fits | None, aside: bool) -> Sealed | None:
        place = self.folder(unit)
        self._check(place)
        found = pieces.sound(place, unit.about, blame=place if aside else None)
        wrong = fits(unit, found) if found and fits else None
        if wrong is not None:
            if aside:
                atomic.set_aside(place, f"{printable(place)} is not what it should be: {wrong}")
            return None
        if found:
            with suppress(OSError):
                os.utime(place)  # when it was last of use
        return found

    def _check(self, place: Path) -> None:
        for above in (place.parent.parent, place.parent):
            if above.is_symlink():
                raise StoreError(f"{printable(above)} is a link, and a store works in its own folder only; remove it")

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Yield folder and name of everything in the folders of units that is named as units are."""
        units = self.directory / "units"
        with suppress(FileNotFoundError):
            for shard in os.scandir(units):
                if re.fullmatch("[0-9a-f]{2}", shard.name) and shard.is_dir(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        names = (entry.name for entry in os.scandir(shard.path))
                        yield from ((shard.path, name) for name in names if name[:2] == shard.name)


def open_store(directory: PathLike[str] | str | None = None) -> Store:
    """Return the store in a folder; where there is nothing, the first unit makes it.

    Args:
        directory: where; None is `default_store`.

    Raises:
        StoreError: the folder holds something else, or a store of another version.
    """
    place = default_store() if directory is None else place_of(directory)
    marker = place / MARKER
    if place.exists() and not place.is_dir():
        raise StoreError(f"{printable(place)} is a file; give a new or existing folder for a store")
    try:
        if not marker.exists():
            there = [path.name for path in place.iterdir()] if place.is_dir() else []
            # Another process may be making the same store at this moment.
            if any(not name.startswith((MARKER, f".{MARKER}", "units", "failures")) for name in there):
                raise StoreError(f"{printable(place)} is not empty and not a store of units; choose another --store")
            above = next(each for each in (place, *place.absolute().parents) if os.path.lexists(each))
            if not above.is_dir() or not os.access(above, os.W_OK):
                raise StoreError(f"cannot keep units in {printable(place)}: {printable(above)} takes no folders")
            return Store(place)
        said = _marked(marker)
        if said is None:
            atomic.set_aside(marker, f"{printable(marker)} is damaged")
            _mark(marker)
    except OSError as problem:
        raise StoreError(f"cannot keep units in {printable(place)}: {printable(problem)}") from problem
    if said not in (None, MARK):
        raise StoreError(f"{printable(place)} is a store of another version of lottery-hub; choose another --store")
    return Store(place)


def _mark(marker: Path) -> None:
    """Write the marker; several processes may, at once."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    fresh = marker.with_name(f".{marker.name}.{secrets.token_hex(4)}")
    fresh.write_text(atomic.json_text(MARK), encoding="utf-8")
    fresh.replace(marker)


def _marked(marker: Path) -> dict[str, Any] | None:
    """Return what a marker says, None where it says nothing of a store."""
    try:
        said = files.read_json(marker)
    except TicketError:
        return None
    return said if type(said.get("lottery_hub_store")) is int else None
