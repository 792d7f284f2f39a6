"""Damaged folders: refused in one line that names the file, or read as the format page says. Nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import campaign
import forgeries
import hub_campaign
import pytest
from bombs import BOMBS
from crafted import ROWS, judge
from disabling import Check, checks, disabled
from folders import valid
from mutations import MUTATIONS

from lottery_hub import verifying
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging import remeasuring
from lottery_hub.networks.backbones import Backbone
from lottery_hub.sharing.pulling import Pulled
from lottery_hub.training import retraining
from tests import warm
from tests.judged import judged

HERE = Path(__file__).parent


def printed(script: str, *arguments: object) -> dict[str, Any]:
    """Run a script of this folder in a process of its own, whose memory is its own, and return what it prints."""
    done = warm.run(HERE / script, *map(str, arguments), timeout=None)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", sorted(valid()))
def test_an_undamaged_folder_is_read_as_the_format_page_says(name: str, tmp_path: Path) -> None:
    folder = valid()[name].copy().write(tmp_path / "folder")
    for load in campaign.LOADERS[name.split()[0]]:
        assert campaign.outcome(folder, load) == ("accepted and equal", "")


@pytest.mark.parametrize("name", ROWS)
def test_a_folder_made_by_hand_is_refused_in_these_words(name: str, tmp_path: Path) -> None:
    judged = judge(ROWS[name], tmp_path)
    assert judged.name == "refused", judged.detail


def check_campaign(cases: int, seed: int) -> None:
    counts = printed("campaign.py", "--cases", cases, "--seed", seed)
    assert counts["failures"] == []
    assert counts["outcomes"].keys() == set(campaign.GOOD)
    assert sum(counts["outcomes"].values()) == cases
    assert all(counts["mutations"][name] for name in MUTATIONS)


def test_hundreds_of_damaged_folders_are_refused_or_read_as_the_format_page_says() -> None:
    check_campaign(400, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_damaged_folders_are_refused_or_read_as_the_format_page_says() -> None:
    check_campaign(20_000, seed=1)


@pytest.mark.timeout(1200)
def test_files_that_ask_for_a_lot_are_refused_in_bounded_time_and_memory() -> None:
    for name, result in printed("bombs.py").items():
        assert result["outcome"] == "refused", f"{name}: {result}"
        assert result["mebibytes"] < BOMBS[name].mebibytes, f"{name}: {result}"


@pytest.mark.slow
@pytest.mark.parametrize("check", checks(), ids=str)
def test_a_check_that_is_missing_is_noticed(check: Check, tmp_path: Path) -> None:
    with disabled(check):
        assert noticed(tmp_path)


def noticed(place: Path) -> str:
    """Return what goes wrong first: a folder made by hand, or one of a thousand damaged ones."""
    for number, (name, row) in enumerate(ROWS.items()):
        (place / str(number)).mkdir()
        judged = judge(row, place / str(number))
        if judged.name != "refused":
            return f"{name}: {judged.name}"
    counts = campaign.run(1000, 0, until=lambda judged: judged.name not in campaign.GOOD)
    return "".join(f"case {failure['case']}: {failure['outcome']}" for failure in counts["failures"])


def test_pulls_from_a_failing_hub_and_racing_pushes_end_as_they_should() -> None:
    counted = hub_campaign.run(6, 1, seed=2)
    assert set(counted["pulls"]) <= {"right bytes", "one of our errors"}
    assert len(counted["pulls"]) == 2, "some of both"
    assert counted["races"] == {"one winner": 1}


def test_no_forgery_that_holds_together_is_verified(
    backbone: Backbone, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (remeasuring, retraining):
        monkeypatch.setattr(module, "LEAST", 5)
    run = judged(backbone, tiny_data, tmp_path)
    with forgeries.remembering():
        monkeypatch.setattr(verifying, "images_of", lambda ticket, dataset, **how: tiny_data)
        honest = verifying.verify(Pulled(run / "ticket"), ladder=run / "ladder")
    assert verifying.verdict_of(honest) == "verified", "what is forged was believed before"
    found = forgeries.forged(run, tiny_data, 0, forgeries.FAST)
    assert [name for name, each in found.items() if each["answer"] == "verified"] == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_campaign_of_forgeries_and_honest_tickets(tmp_path: Path) -> None:
    told = printed("forgeries.py", "--cache", tmp_path, "--honest", 200)
    assert len(told["forgeries"]["each"]) >= 30
    assert "verified" not in told["forgeries"]["answers"]
    assert told["honest"]["refused"] == []
