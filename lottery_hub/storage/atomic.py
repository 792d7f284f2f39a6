"""Folders and files that are whole or absent, whatever kills the process that writes them."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lottery_hub.errors import DamageWarning, WriteError, printable

if sys.platform != "win32":
    import fcntl


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target`, at once and synced to disk, if the block succeeds.

    An older `target` stays what it is until the two trade places in one step. A killed process leaves behind at
    most a hidden `.NAME.*.new` neighbour, which the next save to the same place removes.

    Raises:
        WriteError: the folder cannot be written, for instance because the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # Under the parent's lock nobody mistakes the new folder for a dead process's before it is locked itself.
            with _locked(target.parent, wait=True):
                _remove_leftovers(target)
                fresh = target.parent / f".{target.name}.{secrets.token_hex(4)}.new"
                fresh.mkdir()
                held.enter_context(_locked(fresh, wait=True))
            try:
                yield fresh
                for path in [*fresh.rglob("*"), fresh]:
                    sync(path)
                _put_in_place(fresh, target)
                sync(target.parent)
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


def _not_written(target: Path, problem: OSError) -> WriteError:
    return WriteError(f"cannot write {printable(target)}: {printable(problem.strerror or problem)}")


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file that is whole or absent: to a neighbour, synced, then renamed.

    Raises:
        WriteError: the disk does not take it; an older file stays what it is.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with partial.open("wb") as handle:
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


def _put_in_place(fresh: Path, target: Path) -> None:
    """Move `fresh` to `target`; an older `target` ends where `fresh` was."""
    if not target.exists():
        fresh.rename(target)
    elif not _exchange(fresh, target):
        # Where the system cannot exchange, there is a moment without a target; `_remove_leftovers` mends a kill in it.
        old = fresh.with_suffix(".old")
        target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old)


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
    for path in target.parent.glob(f".{_literal(target.name)}.*.old"):
        if target.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)
    for path in target.parent.glob(f".{_literal(target.name)}.*.new"):
        with _locked(path, wait=False) as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@contextmanager
def _locked(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold a folder's lock, which ends with the process; yield whether it was to be had."""
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


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
