"""Listing: what is packaged or was fetched, and nothing that is not whole, not ours, or not where it belongs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from lottery_hub import cli
from lottery_hub.networks.tickets import Ladder
from lottery_hub.sharing.listing import list_tickets
from lottery_hub.storage.folder import save_ladder, save_ticket

OLD, NEW = "a" * 40, "b" * 40
PACKAGED = ["resnet18-slim-adv", "resnet18-slim-fast-adv", "resnet18-slim-std"]


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
    assert [row.ref for row in found] == [*PACKAGED, f"alice/digits@{OLD}", "alice/digits"]
    packaged, drawn, ticket = found[0], found[-2], found[-1]
    assert (packaged.where, packaged.content, packaged.levels) == ("packaged", "ladder", 14)
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
    assert all(name in shown["list"] for name in [*PACKAGED, "alice/digits", "48.80"])
    assert json.loads(shown["--json"]) == {"tickets": [row.record() for row in list_tickets()]}
