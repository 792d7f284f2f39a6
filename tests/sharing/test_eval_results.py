"""The figures of a verdict as the Hub's `.eval_results`: read back by the client's own parser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from lottery_hub.errors import PublishError
from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.plots import figure_name
from lottery_hub.sharing.eval_results import eval_results_of
from lottery_hub.storage.folder import load_ticket


@pytest.fixture(scope="module")
def ticket(run: Path) -> Ticket:
    """A verdict that says it is of CIFAR-10."""
    ticket = load_ticket(run)
    return replace(ticket, records=ticket.records | {"data": ticket.records["data"] | {"name": "cifar10"}})


def test_the_clients_parser_reads_the_four_figures_with_their_settings(ticket: Ticket) -> None:
    entries: list[EvalResultEntry] = parse_eval_result_entries(yaml.safe_load(eval_results_of(ticket)))
    rows = verdict_runs(ticket.records)[1]["figures"]
    names = [figure_name(row["regime"], row["figure"]).lower().replace(" ", "_") for row in rows]
    assert [each.task_id for each in entries] == names
    assert [each.value for each in entries] == [row["ticket"] for row in rows]
    assert {each.dataset_id for each in entries} == {"uoft-cs/cifar10"}
    assert f"attack {ticket.records['attack']}" in str(entries[1].notes)
    assert "transfer standard, seeds 2, samples 12" in str(entries[0].notes)


def test_images_that_are_no_dataset_of_the_hub_have_none(run: Path, ladder: Ladder) -> None:
    with pytest.raises(PublishError, match="and stripes is none; push without --eval-results"):
        eval_results_of(load_ticket(run))
    with pytest.raises(PublishError, match="never transferred"):
        eval_results_of(ladder.ticket(1))
