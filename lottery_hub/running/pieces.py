"""One piece of work in a folder: whole and sealed, or half done and gone on with; what is damaged is made anew.

NAME/           finished: any files the work left, and result.json, which seals them, see `sealed`
NAME.partial/   being made, or killed; its checkpoint.pt is continued from
NAME.damaged/   not what it had been when it was read again
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lottery_hub.errors import TicketError, printable
from lottery_hub.storage import atomic, sealed
from lottery_hub.storage.sealed import SEAL, Sealed

CHECKPOINT = "checkpoint.pt"
PARTIAL = ".partial"
Work = Callable[[Path], dict[str, Any]]


def make(done: Path, given: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """Do a piece of work, or the rest of it, and return its record.

    Args:
        done: its folder, where nothing is; only one process may be here at a time.
        given: what determines the work, JSON-able.
        work: called with a folder for its files, which still holds what a killed attempt left there; returns a
            JSON-able record. A file called `checkpoint.pt` is deleted when it is done.

    Raises:
        WriteError: the disk does not take it; the next attempt goes on from what is there.
    """
    partial = done.with_name(done.name + PARTIAL)
    with atomic.writing(partial):
        if _first_link(partial) is not None:
            atomic.set_aside(partial, f"{printable(_first_link(partial))} is a link, and nothing is written through it")
        partial.mkdir(parents=True, exist_ok=True)
    # The seal is written before the checkpoint goes and the folder is renamed: a kill between any two of these
    # steps leaves a piece that the next attempt completes without doing it again.
    if sound(partial, given, blame=partial / SEAL) is None:
        sealed.seal(partial, work(partial), given, without=CHECKPOINT)
    with atomic.writing(done):
        (partial / CHECKPOINT).unlink(missing_ok=True)
        partial.rename(done)
        atomic.sync(done.parent)
    return sealed.parse(done / SEAL).record


def sound(folder: Path, given: Mapping[str, Any], blame: Path | None) -> Sealed | None:
    """Return what the seal of a piece says, where it holds and is of that work; else None.

    Args:
        folder: of the piece.
        given: what determines the work.
        blame: what is set aside where it does not hold; None leaves it.
    """
    if not os.path.lexists(blame or folder):
        return None
    try:
        if folder.is_symlink():
            raise TicketError(f"{printable(folder)} is a link")
        found = sealed.read(folder)
        if found.given != given:
            raise TicketError(f"{printable(folder)} was made of something else than what it would be made of now")
    except TicketError as problem:
        if blame is not None:
            atomic.set_aside(blame, str(problem))
        return None
    return found


def _first_link(folder: Path) -> Path | None:
    """Return the first link at or below a path."""
    if folder.is_symlink():
        return folder
    return next((path for path in folder.rglob("*") if path.is_symlink()), None)
