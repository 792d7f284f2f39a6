"""A card says what the network is, how it was trained, and whom to cite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.card_parts import described, hyperparameters, training_log
from lottery_hub.reporting.cards import render_card
from lottery_hub.storage.folder import load_ticket


@pytest.fixture(scope="module")
def ticket(run: Path) -> Ticket:
    return load_ticket(run)


@pytest.fixture(scope="module")
def card(ticket: Ticket) -> str:
    return render_card(ticket, "alice/net")


def test_the_hub_is_told_what_the_network_does_and_which_paper_it_follows(card: str) -> None:
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["pipeline_tag"] == "image-classification"
    assert "https://arxiv.org/abs/2206.04762" in card
    assert re.findall(r"^@(\w+)\{", card, re.MULTILINE) == ["inproceedings", "software"]
    assert "pip install lottery-hub" in card
    assert 'ticket.predict("photo.png")' in card


def test_what_it_is_stands_in_a_table(ticket: Ticket) -> None:
    rows = dict(described(ticket))
    kept, total = ticket.kept_and_total
    assert rows["architecture"] == "resnet18-slim"
    assert rows["parameters"].endswith(f", {total:,} of them prunable, {kept:,} kept")
    assert (rows["takes"], rows["classes"]) == ("RGB images of 8x8 pixels in [0,1]", "3")


def test_a_setting_that_is_not_used_is_not_listed(ticket: Ticket) -> None:
    regimes, rows = hyperparameters(ticket.records)
    settings = {str(name): list(map(str, values)) for name, values in rows}
    assert regimes == ["standard", "adversarial"]
    assert (settings["epochs"], settings["lr"], settings["batch_size"]) == (["1", "1"], ["0.02"] * 2, ["12"] * 2)
    assert settings["attack"] == ["–", "FGSM Linf eps 0.1"]
    assert "guard" not in settings


def test_the_log_has_the_epochs_of_the_tickets_first_transfers(ticket: Ticket, ladder: Ladder) -> None:
    log = training_log(ticket.records)
    assert [(row["regime"], row["epoch"], row["kept"]) for row in log] == [
        ("standard", 1, True),
        ("adversarial", 1, True),
    ]
    assert "Training log" not in render_card(ladder.ticket(2))
