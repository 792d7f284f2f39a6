"""What a run directory keeps for its owner: the ladder it drew, and the ticket folder.

Both are written once. Given again, a finished run writes nothing; what is new goes into the ticket folder's records,
and whatever its owner has put there or changed, and what was looked at meanwhile, stays.
"""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lottery_hub.errors import TicketError, printable
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.updating import write_records
from lottery_hub.storage import atomic, files, folder
from lottery_hub.storage.ownership import first_foreign

T = TypeVar("T")


def kept_ladder(place: Path, overwrite: bool = False) -> Ladder | None:
    """Return the ladder that a run has drawn before; None where there is none.

    Args:
        place: its folder.
        overwrite: take what is no ladder for none: it is moved aside when one is written.

    Raises:
        TicketError: something else is there, or the ladder is damaged.
    """
    return _kept(place, folder.load_ladder, overwrite)


def kept_ticket(place: Path, overwrite: bool = False) -> Ticket | None:
    """Return the ticket that a run has written before; otherwise as `kept_ladder`."""
    return _kept(place, folder.load_ticket, overwrite)


def keep_ticket(ticket: Ticket, place: Path, trained: Mapping[str, Path], overwrite: bool = False) -> Path:
    """Write a find's ticket folder, or into the one that is there what is new.

    Args:
        ticket: with its records.
        place: its folder.
        trained: name → ticket folder of the networks behind the verdict.
        overwrite: move what is no ticket aside.

    Returns:
        The folder.
    """
    older = kept_ticket(place, overwrite)
    if older is None:
        return folder.save_ticket(ticket, place, render_card(ticket), trained=trained, overwrite=overwrite)
    same = older.fingerprint() == ticket.fingerprint()
    # Looks are of a level's networks; where another is picked now, they are of another ticket.
    seen = (older.records.get("scrutiny", {}) if same else {}) | ticket.records["scrutiny"]
    records = json.loads(atomic.json_text(ticket.records | {"scrutiny": seen}))
    # Packages and threads may be others by now, but the figures are those of then.
    unchanged = older.records == records | {"environment": older.records.get("environment")}
    there = folder.trained_folders(place) if same else {}
    # Also one that was made anew: its own records are those of the verdict, to the second that it took.
    missing = {name: path for name, path in trained.items() if name not in there or not _same(path, there[name])}
    if missing or not unchanged:
        write_records(replace(ticket, records=records), place, missing)
    _drop_others(place, trained)
    return place


def _drop_others(place: Path, trained: Mapping[str, Path]) -> None:
    """Remove networks of an earlier verdict that this one does not rest on, as far as they are as we wrote them."""
    for name, path in folder.trained_folders(place).items():
        if name not in trained and first_foreign(path) is None:
            shutil.rmtree(path)


def _same(one: Path, other: Path) -> bool:
    """Whether two ticket folders are one: config.json names all there is by its hashes."""
    return filecmp.cmp(one / folder.CONFIG, other / folder.CONFIG, shallow=False)


def _kept(place: Path, load: Callable[[Path], T], overwrite: bool) -> T | None:
    if place.is_symlink():
        raise TicketError(f"{printable(place)} is a link, and a run keeps what it made in its own folder; remove it")
    if not files.is_file(place / folder.CONFIG):
        atomic.check_place(place, overwrite=overwrite)
        return None
    try:
        return load(place)
    except TicketError as problem:
        if overwrite:
            return None
        raise TicketError(f"{problem}; move the folder away, or {atomic.OVERWRITE}") from problem
