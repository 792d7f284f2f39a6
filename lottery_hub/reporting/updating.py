"""A judged ticket's folder brought up to date: closer looks in its records, and on its card."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lottery_hub.errors import TicketError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.scrutiny import COMPARED, check_images, check_possible, look
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.settings.config import Attack, Look
from lottery_hub.storage import atomic, folder, ownership
from lottery_hub.storage.records import check_ticket


def look_at_folder(
    place: Path,
    wanted: Sequence[Look],
    data: Dataset,
    device: torch.device | str = "cpu",
    *,
    dry_run: bool = False,
) -> list[Look]:
    """Take the looks that a judged ticket's folder has no record of yet, and write them into its records.

    Args:
        place: the ticket folder; see `write_records` for what changes in it.
        wanted: which looks.
        data: the images of the verdict.
        device: where to compute.
        dry_run: only check that the looks can be taken.

    Returns:
        What was looked at, or would be.

    Raises:
        TicketError: the networks behind the verdict are not in the folder, or the images are others.
    """
    ticket = folder.load_ticket(place)
    check_ticket(ticket)
    missing = [name for name in wanted if name not in ticket.records["scrutiny"]]
    if not missing:
        return []
    check_images(ticket, data)
    trained = folder.trained_folders(place)
    networks = {name: folder.load_ticket(path) for name, path in trained.items()}
    if not networks.keys() >= set(COMPARED):
        raise TicketError(f"{printable(place)} does not hold the trained networks behind its verdict; run find again")
    attack = Attack.parse(ticket.records["plan"]["transfer"]["test_attack"])
    check_possible(missing, data, attack)
    _check_writable(place)
    if dry_run:
        return missing
    found = {name: look(name, networks, data, attack, device) for name in missing}
    seen = replace(ticket, records=ticket.records | {"scrutiny": ticket.records["scrutiny"] | found})
    write_records(seen, place)
    return missing


def write_records(ticket: Ticket, place: Path, trained: Mapping[str, Path] | None = None) -> None:
    """Write a judged ticket again where it was written before; whatever else is in the folder stays.

    The card is rendered again unless it was changed by hand: then it stays as it is, which is said.

    Args:
        ticket: with its new records.
        place: its folder.
        trained: name → ticket folder of networks that are not there.

    Raises:
        TicketError: the folder cannot be written.
    """
    _check_writable(place)
    card = place / folder.CARD
    edited = os.path.lexists(card) and not ownership.is_our_card(card)
    if edited:
        _LOG.warning("%s: changed by hand, and left as it is; the records beside it are new", printable(card))
    same = folder.load_ticket(place).fingerprint() == ticket.fingerprint()
    values = folder.read_about(place).values if same else None
    rendered = None if edited else render_card(ticket)
    folder.save_ticket(ticket, place, rendered, values=values, trained=trained, carry=True)


def _check_writable(place: Path) -> None:
    if (place / folder.CONFIG).is_symlink():
        raise TicketError(f"{printable(place)} is part of the Hub's cache; copy it with pull --local-dir")
    atomic.check_place(place, foreign=atomic.nothing)


_LOG = logging.getLogger(__name__)
