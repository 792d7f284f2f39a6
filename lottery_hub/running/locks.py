"""One worker a unit, whatever process or machine it is on; what a dead one held is taken over.

    NAME.lock    held through the system (flock): it ends with its process, however that ends
    NAME.owner   who holds it, {"host": …, "process": …}, touched while it works

On one machine the system's lock decides. Over a network a file system may hand the same lock to two machines, or have
none: there an owner of another host counts as alive for as long as its file is touched. Should two ever work on one
unit all the same, that costs time and no figure: what is finished is whole, and the same from either.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from lottery_hub.errors import BusyError, printable
from lottery_hub.storage import atomic

if sys.platform != "win32":
    import fcntl

BEAT = 10.0  # seconds between two touches of an owner's file
DEAD = 60.0  # and after so many without one, an owner of another host is dead
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@dataclass
class Held:
    """A lock that this thread holds; where its work is finished, its files go with it."""

    finished: bool = False


@contextmanager
def locked(path: Path) -> Iterator[Held]:
    """Hold a lock, or say at once who does.

    Args:
        path: of the lock's files, without their endings; its folder exists.

    Raises:
        BusyError: somebody holds it.
        WriteError: the disk does not take its files.
    """
    lock, owner = path.with_name(f"{path.name}.lock"), path.with_name(f"{path.name}.owner")
    held = Held()
    with atomic.writing(lock):
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        ours = _lock(handle, owner)
        if os.fstat(handle).st_nlink == 0:  # whoever held it has finished, and removed it
            raise BusyError(_said(owner))
        _own(owner, ours)
        rest = Event()
        beating = Thread(target=_beat, args=(owner, rest), daemon=True)
        beating.start()
        try:
            yield held
        finally:
            rest.set()
            beating.join()
            with suppress(OSError):
                owner.unlink()
                if held.finished:
                    lock.unlink()
    finally:
        os.close(handle)


def here() -> str:
    """Return what tells this machine from others, also from one of its name: name and boot."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    return f"{platform.node()} {boot}".strip()


def _lock(handle: int, owner: Path) -> bool:
    """Take the system's lock; return whether the file system has any."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as busy:
        raise BusyError(_said(owner)) from busy
    except OSError as problem:
        if problem.errno in _NO_LOCKS:
            return False
        with atomic.writing(owner):
            raise
    return True


def _own(owner: Path, locks: bool) -> None:
    """Write down who holds the lock now; whoever is written there and may be alive goes first."""
    if os.path.lexists(owner):
        # With the system's lock in hand, an owner on this machine is no more.
        if not (locks and _owner(owner).get("host") == here()) and _silence(owner) < DEAD:
            raise BusyError(_said(owner))
        with suppress(FileNotFoundError), atomic.writing(owner):
            owner.unlink()
    with atomic.writing(owner):
        try:
            with owner.open("x", encoding="utf-8") as file:
                json.dump({"host": here(), "process": os.getpid()}, file)
        except FileExistsError as busy:
            raise BusyError(_said(owner)) from busy


def _silence(owner: Path) -> float:
    """Return for how many seconds a file was not touched, by the clock of the file system that it is on."""
    clock = owner.with_name(f".{owner.name}.{os.getpid()}.clock")
    try:
        clock.touch()
        return clock.stat().st_mtime - owner.stat().st_mtime
    except OSError:
        return time.time() - owner.stat().st_mtime if owner.exists() else 0.0
    finally:
        clock.unlink(missing_ok=True)


def _beat(owner: Path, rest: Event) -> None:
    while not rest.wait(BEAT):
        with suppress(OSError):
            os.utime(owner)


def _owner(owner: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        said = json.loads(owner.read_text(encoding="utf-8"))
        if isinstance(said, dict):
            return said
    return {}


def _said(owner: Path) -> str:
    who = _owner(owner)
    if not who:
        return "another process is at it"
    host = str(who.get("host", "")).split(" ")[0]
    return f"process {printable(who.get('process'), 20)} on {printable(host, 80)} is at it"
