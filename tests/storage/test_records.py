"""Records that this library writes are taken; others are refused by one line, before anything is done with them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lottery_hub.errors import TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage.folder import (
    find_folder,
    load_ladder,
    load_ticket,
    packaged_names,
    read_about,
    trained_folders,
)
from lottery_hub.storage.origins import check_ladder
from lottery_hub.storage.records import check_ticket
from lottery_hub.training.transferring import transfer
from tests.judged import STANDARD, at, leaves, put


@pytest.fixture(scope="module")
def ticket(run: Path) -> Ticket:
    return load_ticket(run / "ticket")


def test_what_a_find_writes_is_taken(run: Path, ticket: Ticket) -> None:
    check_ticket(ticket)
    check_ladder(load_ladder(run / "ladder"))
    for place in trained_folders(run / "ticket").values():
        check_ticket(load_ticket(place))


@pytest.mark.parametrize("name", packaged_names())
def test_packaged_tickets_ladders_and_their_levels_are_taken(name: str) -> None:
    folder = find_folder(name)
    if read_about(folder).content == "ticket":
        for place in (folder, *trained_folders(folder).values()):
            check_ticket(load_ticket(place))
        return
    ladder = load_ladder(name)
    check_ladder(ladder)
    check_ticket(ladder.ticket(3))


def test_a_transfer_without_an_attack_and_a_ticket_made_by_hand_are_taken(ladder: Ladder, tiny_data: Dataset) -> None:
    start = ladder.ticket(2)
    check_ticket(transfer(start, tiny_data, STANDARD, test_attack=None, seed=4).ticket(start, tiny_data, STANDARD))
    check_ticket(replace(start, provenance={}))
    check_ticket(replace(start, provenance={"note": "made by hand", "pulled": {"repo": "a/b", "commit": "0" * 40}}))


def edited(ticket: Ticket, path: tuple[Any, ...], new: Any) -> Ticket:
    records = copy.deepcopy(ticket.records)
    put(records, path, new)
    return replace(ticket, records=records)


@pytest.mark.parametrize(
    ("path", "new", "line"),
    [
        (("samples",), "12", "results.json: samples: "),
        (("samples",), 10**8, "results.json: samples: "),
        (("dense", "standard", "SA"), 10**400, "dense.standard.SA: "),
        (("dense", "standard", "SA"), 1.5, "dense.standard.SA: "),
        (("levels",), [], "levels: "),
        (("levels", 0, "figures"), [], r"levels.0.figures: "),
        (("levels", 0, "adversarial"), None, r"levels.0.adversarial: "),
        (("level",), 7, "the level of the verdict is not among the levels"),
        (("plan", "transfer", "standard", "image_size"), 4096, "plan.transfer.standard.image_size: "),
        (("plan", "transfer", "test_attack", "steps"), 10**8, "plan.transfer.test_attack.steps: "),
        (("plan", "data", "split_seed"), 10**25, "plan.data.split_seed: "),
        (("transfers", 0, "seeds", "attack"), -1, "transfers.0.seeds.attack: "),
        (("transfers", 0, "outcomes", "SA"), "é", "transfers.0.outcomes.SA: "),
        (("transfers", 0, "history"), [], "transfers.0.history: "),
        (("transfers", 0, "history", 0, "loss"), None, "transfers.0.history.0.loss: "),
        (("transfers", 0, "provenance", "environment", "torch"), ["2"], "provenance.environment.torch: "),
        (("transfers", 0, "provenance", "environment", "threads"), 10**400, "provenance.environment.threads: "),
        (("scrutiny", "checks"), {}, "scrutiny.checks.samples: "),
        (("data", "notes"), ["x"] * 1000, "data.notes: "),
        (("data", "name"), "x" * 10_000, "data.name: "),
        (("trust_me",), True, "trust_me: "),
    ],
    ids=str,
)
def test_what_nobody_could_have_measured_is_refused_by_name(
    ticket: Ticket, path: tuple[Any, ...], new: Any, line: str
) -> None:
    with pytest.raises(TicketError, match=line) as refused:
        check_ticket(edited(ticket, path, new))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_ten_thousand_rows_of_one_level_are_refused_at_once(ticket: Ticket) -> None:
    rows = [ticket.records["levels"][0]] * 10_000
    with pytest.raises(TicketError, match="levels: "):
        check_ticket(replace(ticket, records=ticket.records | {"levels": rows}))
    with pytest.raises(TicketError, match="the levels are not in order, each once"):
        check_ticket(replace(ticket, records=ticket.records | {"levels": [ticket.records["levels"][0]] * 2}))
    runs = ticket.records["transfers"]
    with pytest.raises(TicketError, match="a transfer is recorded twice"):
        check_ticket(replace(ticket, records=ticket.records | {"transfers": [*runs, runs[0]]}))


@pytest.mark.parametrize(
    "provenance",
    [
        {"backbone": []},
        {"backbone": {"source": ["x"]}},
        {"backbone": {"license": {}}},
        {"drawing": {"prune_fraction": "x"}},
        {"drawing": {"rounds": 3}},
        {"drawing": {"data": {"name": "x"}}},
        {"pulled": "alice/net"},
        {"note": 10**400},
        {str(place): "x" for place in range(1000)},
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_origin_of_another_shape_is_refused(ladder: Ladder, provenance: dict[str, Any]) -> None:
    with pytest.raises(TicketError, match=r"config\.json: provenance"):
        check_ticket(replace(ladder.ticket(2), provenance=provenance))


def test_a_ladder_whose_drawing_is_malformed_is_refused(ladder: Ladder) -> None:
    with pytest.raises(TicketError, match=r"results\.json: drawing: prune_fraction: "):
        check_ladder(replace(ladder, drawing=ladder.drawing | {"prune_fraction": "x"}))


HOSTILE: list[Callable[[Any], Any]] = [
    lambda old: None,
    lambda old: [old],
    lambda old: {"a": old},
    lambda old: 10**400,
    lambda old: -(10**400),
    lambda old: True,
    lambda old: "\x1b[31m" * 2000,
    lambda old: "../../etc/passwd",
]


def test_any_leaf_may_be_anything_and_ends_as_one_line_or_is_taken(ticket: Ticket) -> None:
    chance = random.Random(0)
    lines = []
    for leaf in chance.sample(list(leaves(ticket.records)), 300):
        path = leaf[: chance.randint(1, len(leaf))]
        changed = edited(ticket, path, chance.choice(HOSTILE)(at(ticket.records, path)))
        try:
            check_ticket(changed)
        except TicketError as problem:
            lines.append(str(problem))
    assert len(lines) > 250
    assert [line for line in lines if not line.isprintable()] == []
