"""Folders and files that are whole or absent, whatever kills the process that writes them.

What is there already and is somebody's stays: a save that would lose it is refused, or moves it aside where it is asked
to. Who writes says what it may replace, as a function from a folder to the first thing in it that is somebody's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lottery_hub.errors import DamageWarning, TicketError, WriteError, printable

if sys.platform != "win32":
    import fcntl


Foreign = Callable[[Path], str | None]

_LOG = logging.getLogger(__name__)
OVERWRITE = "--overwrite (in Python overwrite=True) moves it aside"


def everything(folder: Path) -> str | None:
    """Return the first thing in a folder: all there is is somebody's."""
    return min((path.name for path in folder.iterdir()), default=None)


def nothing(folder: Path) -> str | None:
    """Return None: the folder is the library's own, such as one of its cache."""
    return None


@contextmanager
def new_folder(target: Path, *, foreign: Foreign = everything, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `target`, at once and synced to disk, if the block succeeds.

    An older `target` stays what it is until the two trade places in one step. A killed process leaves behind at
    most a hidden `.NAME.*.new` neighbour, which the next save to the same place removes. Where `target` is a link, the
    folder is written where it leads.

    Args:
        target: the folder; missing parents are made.
        foreign: what an older folder holds that may not be lost.
        overwrite: move aside what may not be lost, to `NAME.old` or the first free name after it, instead of refusing.

    Raises:
        TicketError: something would be lost.
        WriteError: the folder cannot be written, for instance because the disk is full.
    """
    place = check_place(target, foreign=foreign, overwrite=overwrite)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # Under the parent's lock nobody mistakes the new folder for a dead process's before it is locked itself.
            with _locked(place.parent, wait=True):
                _remove_leftovers(place)
                fresh = place.parent / f".{place.name}.{secrets.token_hex(4)}.new"
                fresh.mkdir()
                held.enter_context(_locked(fresh, wait=True))
            try:
                yield fresh
                _sync_all(fresh)
                check_place(target, foreign=foreign, overwrite=overwrite)  # it may have changed meanwhile
                _put_in_place(fresh, place, foreign)
                sync(place.parent)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except WriteError as problem:  # of a file inside: the folder is what the caller knows
        raise WriteError(f"cannot write {printable(target)}: {str(problem).rpartition(': ')[2]}") from problem
    except OSError as problem:
        raise _not_written(target, problem) from problem


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn whatever the system says against writing `target` into one line.

    Raises:
        WriteError: the disk is full, read-only, or not ours.
    """
    try:
        yield
    except OSError as problem:
        raise _not_written(target, problem) from problem


def _not_written(target: Path, problem: Exception) -> WriteError:
    why = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
    return WriteError(f"cannot write {printable(target)}: {printable(why)}")


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file that is whole or absent: to a neighbour, synced, then renamed.

    Raises:
        WriteError: the disk does not take it; an older file stays what it is.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            partial.unlink(missing_ok=True)  # a killed process's, or a stranger's link, which is not written through
            with partial.open("xb") as handle:
                for part in parts:
                    handle.write(part)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(path)
        except OSError:
            with suppress(OSError):  # a full disk needs the room; the first problem is the one to tell
                partial.unlink(missing_ok=True)
            raise
        sync(path.parent)


def check_place(target: Path, *, foreign: Foreign = everything, overwrite: bool = False) -> Path:
    """Return where a folder goes, links followed, and refuse to lose anything there; arguments as for `new_folder`.

    Asked before hours are spent on what is to be written.

    Raises:
        TicketError: something would be lost, or nothing can be written there.
    """
    place = _followed(target)
    try:
        if place.exists() and not overwrite:
            if not place.is_dir():
                raise TicketError(
                    f"{printable(target)} is a file, and a folder goes there; give another name, or {OVERWRITE}"
                )
            lost = foreign(place)
            if lost is not None:
                raise TicketError(
                    f"{printable(target)} holds {printable(lost)}, which would be lost; give another name, "
                    f"or {OVERWRITE}"
                )
        _check_writable(place)
    except OSError as problem:
        raise _not_written(target, problem) from problem
    return place


@contextmanager
def new_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden neighbour that becomes the file `target` if the block succeeds, and is gone if it does not.

    Raises:
        TicketError: something else is there, which `overwrite` moves aside, or the file cannot be written.
    """
    place = _followed(target)
    try:
        if place.exists() and not overwrite:
            raise TicketError(f"{printable(target)} is there already; give another name, or {OVERWRITE}")
        _check_writable(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with _locked(place.parent, wait=True):
                _remove_leftovers(place)
                partial = place.parent / f".{place.name}.{secrets.token_hex(4)}.partial"
                partial.touch()
                held.enter_context(_locked(partial, wait=True))
            try:
                yield partial
                sync(partial)
                if place.exists():
                    _move_aside(place)
                partial.rename(place)
                sync(place.parent)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as problem:
        raise _not_written(target, problem) from problem


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or absent; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def set_aside(path: Path, why: str) -> Path:
    """Move what is damaged out of the way, to a neighbour's name, and say so in a `DamageWarning`.

    Args:
        path: the file or folder.
        why: what is wrong with it, naming it.

    Returns:
        Where it is now.

    Raises:
        WriteError: it cannot be moved.
    """
    places = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *(f"-{n}" for n in range(2, 1000))))
    with writing(path):
        place = next(place for place in places if not os.path.lexists(place))
        path.rename(place)
    warnings.warn(f"{why}; it is set aside as {printable(place.name)} and made anew", DamageWarning, stacklevel=2)
    return place


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, whole or absent."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return strict JSON (no NaN), indented, as it is written to files."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _followed(target: Path) -> Path:
    """Return where a path leads: a link is written through, never replaced."""
    try:
        return target.resolve()
    except (OSError, ValueError, RuntimeError) as problem:  # ValueError: a null character; RuntimeError: circular links
        raise _not_written(target, problem) from problem


def _check_writable(place: Path) -> None:
    """Raise OSError where nothing can be made at a place that may not exist yet."""
    above = next(path for path in (*place.parents, place) if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(None, f"{above.name} is not a folder")
    if hasattr(os, "statvfs") and os.statvfs(above).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(None, f"{above} is not for you to write in")


def _put_in_place(fresh: Path, place: Path, foreign: Foreign) -> None:
    """Move `fresh` to its place; an older folder of ours ends where `fresh` was, anything else beside it."""
    if not place.exists():
        fresh.rename(place)
        return
    if not place.is_dir() or foreign(place) is not None:
        aside = _move_aside(place)
        try:
            fresh.rename(place)
        except BaseException:
            aside.rename(place)
            raise
        return
    said = foreign is not nothing and everything(place) is not None
    if not _exchange(fresh, place):
        # Where the system cannot exchange, there is a moment without a target; `_remove_leftovers` mends a kill in it.
        old = fresh.with_suffix(".old")
        place.rename(old)
        try:
            fresh.rename(place)
        except BaseException:
            old.rename(place)
            raise
        shutil.rmtree(old)
    if said:
        _LOG.warning("%s: replaced what lottery-hub had written there before", printable(place))


def _move_aside(place: Path) -> Path:
    """Rename what is somebody's to a visible neighbour, and say so."""
    names = (f"{place.name}.old{number}" for number in ("", *(f"-{count}" for count in range(2, 10_000))))
    aside = next(path for path in map(place.with_name, names) if not os.path.lexists(path))
    place.rename(aside)
    _LOG.warning("%s: what was there is now %s", printable(place), printable(aside))
    return aside


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths trade places in one step; False where system or file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    here, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
    if hasattr(libc, "renameat2"):
        return bool(libc.renameat2(here, names[0], here, names[1], swap) == 0)
    if hasattr(libc, "renamex_np"):
        return bool(libc.renamex_np(*names, swap) == 0)
    return False


def _remove_leftovers(target: Path) -> None:
    """Remove what killed saves to `target` left: hidden neighbours that no process holds."""
    for path in _leftovers(target, "old"):
        if target.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)
    for path in _leftovers(target, "new"):
        with _locked(path, wait=False) as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)
    for path in _leftovers(target, "partial"):
        with _locked(path, wait=False) as free:
            if free:
                path.unlink(missing_ok=True)


def _leftovers(target: Path, ending: str) -> list[Path]:
    """Return the neighbours that can only be ours: with a hidden name and eight digits, as saves give them."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.{ending}")
    return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


@contextmanager
def _locked(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of a folder or file, which ends with the process; yield whether it was to be had."""
    if sys.platform == "win32":
        yield wait
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # its owner has just finished
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        locked = True
    except OSError:  # busy, or a file system without locks: then nothing is removed, and nobody waits
        locked = wait
    try:
        yield locked
    finally:
        os.close(handle)


def _sync_all(folder: Path) -> None:
    """Sync a folder and the files written in it; those it shares with another folder are on the disk already."""
    for above, _, names in os.walk(folder, topdown=False):
        for path in (Path(above, name) for name in names):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
                sync(path)
        sync(Path(above))


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
