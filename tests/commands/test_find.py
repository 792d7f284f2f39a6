"""`find` in Python: a line of options, what comes back, and a plan instead of options."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lottery_hub as lh
from lottery_hub.commands.find import plan_of
from lottery_hub.commands.results import Found
from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone

SMALL = {
    "draw.rounds": 2,
    "standard.epochs": 1,
    "standard.image_size": 8,
    "adversarial.epochs": 1,
    "adversarial.image_size": 8,
    "adversarial.selection_attack": None,
    "test_attack.steps": 1,
}
OPTIONS: dict[str, Any] = {"method": "omp", "tolerance": "points:99", "settings": SMALL, "device": "cpu", "jobs": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the find of this page works and keeps what it finishes: given again, it trains nothing."""
    root = tmp_path_factory.mktemp("find")
    return {"output": root / "run", "store": root / "store"}


@pytest.fixture(scope="module")
def found(backbone: Backbone, tiny_data: Dataset, place: dict[str, Path]) -> Found:
    """A find of a backbone and a dataset that are in memory only."""
    return lh.find(backbone, dataset=tiny_data, output=str(place["output"]), store=str(place["store"]), **OPTIONS)


def test_a_find_gives_back_the_ticket_the_networks_and_every_figure(found: Found, tiny_data: Dataset) -> None:
    assert found.verdict == "double win"
    assert found.ticket.double_win is found.double_win is True
    assert found.sparsity == found.ticket.sparsity == pytest.approx(0.36, abs=1e-3)
    assert [row["level"] for row in found.levels] == [1, 2]
    assert [(row["regime"], row["figure"]) for row in found.figures] == [
        (regime, figure) for regime in ("standard", "adversarial") for figure in ("SA", "RA")
    ]
    for regime in ("standard", "adversarial"):
        measured = lh.evaluate(found.model(regime), tiny_data, attack=None, image_size=8, device="cpu")
        (chosen,) = (row for row in found.levels if row["level"] == 2)
        assert chosen[regime]["SA"] == measured.SA


def test_its_network_is_asked_for_by_regime_and_seed(found: Found) -> None:
    assert found.trained("standard").records["transfer"]["regime"] == "standard"
    with pytest.raises(ConfigError, match=r"^unknown regime 'robust'; choose standard or adversarial$"):
        found.model("robust")  # type: ignore[arg-type]
    with pytest.raises(TicketError, match="seed-7"):
        found.model(seed=7)


def test_it_can_be_read_by_people_and_by_machines(found: Found) -> None:
    assert json.loads(json.dumps(found.record()))["ticket"] == os.fspath(found) == str(found.folder)
    assert repr(found).startswith("Found(resnet18-slim (adv) on stripes: double win at 36.00 % sparsity (level 2), ")
    assert "\n" not in repr(found)
    report = found.report()
    assert "Double win at 36.00 % sparsity" in report
    assert report.endswith(f"ticket: {found.folder}\n")
    assert "(level 2, picked on " in report
    assert "(level 2, as asked for)" in replace(found, summary={**found.summary, "asked_for": True}).report()
    page = found._repr_html_()
    assert page.startswith("<pre")
    assert "Double win at 36.00 % sparsity" in page


def test_it_is_a_table_of_pandas(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    table = found.to_pandas()
    assert list(table["level"]) == [0, 1, 2]
    assert table["standard SA, test"][2] == found.levels[1]["standard"]["SA"]
    assert table["adversarial RA, validation"][0] == found.summary["dense"]["validation"]["adversarial"]["RA"]
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"^tables need pandas, which is not installed: pip install pandas$"):
        found.to_pandas()


def test_what_was_found_is_taken_where_a_folder_is(found: Found) -> None:
    assert lh.load_ticket(found).fingerprint() == found.ticket.fingerprint()


def test_the_same_find_again_trains_nothing(
    found: Found, backbone: Backbone, tiny_data: Dataset, place: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery_hub.training.units.transfer", lambda *_, **__: pytest.fail("trained again"))
    again = lh.find(backbone, dataset=tiny_data, **place, **OPTIONS)
    assert again.record() == found.record()


def test_a_plan_says_what_options_would(
    found: Found, backbone: Backbone, tiny_data: Dataset, place: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(pretrain=backbone, dataset=tiny_data, **OPTIONS)
    file = tmp_path / "plan.toml"
    file.write_text(plan.toml(), encoding="utf-8")
    for given in (plan, str(file)):
        again = lh.find(backbone, dataset=tiny_data, plan=given, device="cpu", **place)
        assert again.record() == found.record()


def test_one_number_beside_a_plan_changes_it_even_to_what_it_is_unless_given(
    backbone: Backbone, tiny_data: Dataset
) -> None:
    plan = plan_of(pretrain=backbone, dataset=tiny_data, **OPTIONS | {"seeds": 3})
    changed = plan_of(pretrain=backbone, dataset=tiny_data, plan=plan, seeds=1, margin=2, level=2, eps_standard="1/255")
    assert (changed.seeds, changed.tolerance, changed.level) == (1, "margin:2", 2)
    weaker = plan.transfer.changed(standard_attack=plan.transfer.test_attack.at(1 / 255))
    assert changed == plan.changed(seeds=1, tolerance="margin:2", level=2, transfer=weaker)
    assert plan_of(pretrain=backbone, dataset=tiny_data, plan=changed, sparsity=0.2).level is None
    grown = plan_of(pretrain=backbone, dataset=tiny_data, plan=plan, seeds="auto", max_seeds=5)
    assert (grown.seeds, grown.max_seeds) == (3, 5)


@pytest.mark.parametrize("said", [{"dataset": "cifar10"}, {"preset": "quick"}, {"fraction": 1.0}, {"pretrain": "adv"}])
def test_numbers_that_others_follow_from_are_not_said_beside_a_plan(
    backbone: Backbone, tiny_data: Dataset, tmp_path: Path, said: dict[str, Any]
) -> None:
    plan = plan_of(pretrain=backbone, dataset=tiny_data, **OPTIONS)
    in_memory = {"pretrain": backbone, "dataset": tiny_data}
    with pytest.raises(ConfigError, match=f"the plan says what {next(iter(said))} would"):
        lh.find(**in_memory | said, plan=plan, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_is_shown_to_who_watches_or_asks(
    found: Found, backbone: Backbone, tiny_data: Dataset, place: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for progress, shown in ((None, False), (False, False), (True, True)):
        lh.find(backbone, dataset=tiny_data, progress=progress, **place, **OPTIONS)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("level 2 (36.00 %)" in err) is shown
