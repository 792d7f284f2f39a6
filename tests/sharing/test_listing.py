"""Listing: what is packaged or was fetched, and nothing that is not whole, not ours, or not where it belongs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from lottery_hub import cli
from lottery_hub.networks.tickets import Ladder
from lottery_hub.sharing.listing import list_tickets
from lottery_hub.storage.folder import (
    load_ladder,
    load_ticket,
    packaged_names,
    save_ladder,
    save_ticket,
    trained_folders,
)

OLD, NEW = "a" * 40, "b" * 40
LADDERS = ["resnet18-slim-adv", "resnet18-slim-fast-adv", "resnet18-slim-std"]


@pytest.fixture
def cache(ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of a repository in a cache of the Hub's client, and much that is none."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshots = tmp_path / "hub" / "models--alice--digits" / "snapshots"
    save_ladder(ladder, snapshots / OLD)
    save_ticket(ladder[3], snapshots / NEW)
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs" / "main").write_text(NEW)
    foreign = tmp_path / "hub" / "models--timm--resnet18" / "snapshots" / OLD
    foreign.mkdir(parents=True)
    (foreign / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    half = save_ticket(ladder[2], tmp_path / "hub" / "models--bob--half" / "snapshots" / NEW)
    (half / "ticket.safetensors").unlink()
    save_ticket(ladder[2], snapshots / "no-commit")
    save_ticket(ladder[2], tmp_path / "elsewhere")
    (snapshots / ("c" * 40)).symlink_to(tmp_path / "elsewhere")
    return tmp_path


def test_what_is_packaged_and_every_commit_that_was_fetched_is_a_row(cache: Path, ladder: Ladder) -> None:
    found = list_tickets()
    assert [row.ref for row in found] == [*packaged_names(), f"alice/digits@{OLD}", "alice/digits"]
    packaged, drawn, ticket = next(row for row in found if row.ref == LADDERS[0]), found[-2], found[-1]
    assert (packaged.where, packaged.content, packaged.levels) == ("packaged", "ladder", 14)
    test = load_ladder(LADDERS[0]).backbone.records["test"]
    assert (packaged.dataset, packaged.SA, packaged.RA) == ("cifar100", test["SA"], test["RA"])
    assert packaged.answer is drawn.dataset is drawn.SA is ticket.dataset is ticket.answer is None
    assert (drawn.where, drawn.content, drawn.levels, drawn.sparsity) == ("cached", "ladder", 6, ladder.sparsities[6])
    assert (ticket.content, ticket.levels, ticket.sparsity, ticket.double_win) == (
        "ticket",
        None,
        ladder[3].sparsity,
        None,
    )
    page = found._repr_html_()
    assert page.startswith("<table>")
    assert "<td>alice/digits</td>" in page


def test_a_row_has_the_figures_after_adversarial_transfer_and_strangers_records_are_not_believed(
    cache: Path, run: Path
) -> None:
    judged, tuned = load_ticket(run / "ticket"), load_ticket(trained_folders(run / "ticket")["ticket-standard-seed-1"])
    forged = replace(judged, records=judged.records | {"data": {"name": ["x"] * 9}})
    places = [cache / "hub" / f"models--bob--{name}" / "snapshots" / NEW for name in ("forged", "judged", "tuned")]
    for ticket, place in zip((forged, judged, tuned), places, strict=True):
        save_ticket(ticket, place)
    rows = {row.ref: row for row in list_tickets()}
    row, picked = rows["bob/judged@" + NEW], judged.records["levels"][judged.records["level"] - 1]["adversarial"]
    assert (row.dataset, row.SA, row.RA) == ("stripes", picked["SA"], picked["RA"])
    assert row.answer == judged.records.get("answer", "double win" if judged.double_win else "no double win")
    row, done = rows["bob/tuned@" + NEW], tuned.records["transfer"]
    assert (row.dataset, row.SA, row.RA, row.answer) == ("stripes", done["SA"], done["RA"], None)
    row = rows["bob/forged@" + NEW]
    assert (row.content, row.dataset, row.SA, row.answer) == ("ticket", None, None, None)


def test_the_command_prints_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for words in (["list"], ["list", "--json"]):
        monkeypatch.setattr(sys, "argv", ["lottery-hub", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        shown[words[-1]] = capsys.readouterr().out
    assert all(name in shown["list"] for name in [*LADDERS, "alice/digits", "48.80"])
    assert json.loads(shown["--json"]) == {"tickets": [row.record() for row in list_tickets()]}
