"""What a run directory keeps: a ladder and a ticket that are read, never written twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery_hub.errors import TicketError
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.keeping import kept_ladder, kept_ticket
from lottery_hub.storage.folder import save_ladder, save_ticket


def test_what_was_kept_is_read_and_what_was_not_is_none(ladder: Ladder, tmp_path: Path) -> None:
    assert kept_ladder(tmp_path / "ladder") is None
    (tmp_path / "ticket").mkdir()
    assert kept_ticket(tmp_path / "ticket") is None
    save_ladder(ladder, tmp_path / "ladder")
    (tmp_path / "ladder" / "notes.txt").write_text("mine")
    save_ticket(ladder.ticket(2), tmp_path / "ticket")
    kept, ticket = kept_ladder(tmp_path / "ladder"), kept_ticket(tmp_path / "ticket")
    assert kept is not None
    assert kept.sparsities == ladder.sparsities
    assert ticket is not None
    assert ticket.level == 2


def test_something_else_is_an_error_unless_it_is_to_be_moved_aside(ladder: Ladder, tmp_path: Path) -> None:
    place = save_ticket(ladder.ticket(2), tmp_path / "place")
    with pytest.raises(TicketError, match="holds a ticket, not a ladder; move the folder away, or --overwrite"):
        kept_ladder(place)
    assert kept_ladder(place, overwrite=True) is None
    (place / "config.json").unlink()
    with pytest.raises(TicketError, match=r"place holds results\.json, which would be lost"):
        kept_ticket(place)
    assert kept_ticket(place, overwrite=True) is None
