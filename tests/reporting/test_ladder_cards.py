"""Cards of ladders: every figure is the records', a missing one is an error, and the published cards are current."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lottery_hub.errors import TicketError
from lottery_hub.networks.reach import reach_of
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.ladder_cards import render_ladder_card
from lottery_hub.storage.folder import load_ladder

CARDS = Path(__file__).parents[2] / "model_cards"
NAMES = [f"resnet18-slim-{kind}" for kind in ("std", "fast-adv", "adv")]


@pytest.fixture(scope="module")
def packaged() -> Ladder:
    return load_ladder("resnet18-slim-adv")


def changed(ladder: Ladder, **records: Any) -> Ladder:
    return replace(ladder, backbone=replace(ladder.backbone, records=ladder.backbone.records | records))


@pytest.mark.parametrize("name", NAMES)
def test_the_published_cards_are_what_the_records_give(name: str) -> None:
    assert (CARDS / f"{name}.md").read_text(encoding="utf-8") == render_ladder_card(load_ladder(name), name)


def test_the_metadata_carries_the_figures_of_the_dense_backbone(packaged: Ladder) -> None:
    metadata = yaml.safe_load(render_ladder_card(packaged, "mine").split("---\n")[1])
    assert metadata["license"] == "apache-2.0"
    assert metadata["datasets"] == ["uoft-cs/cifar100"]
    [result] = metadata["model-index"][0]["results"]
    test = packaged.backbone.records["test"]
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {"SA": test["SA"], "RA": test["RA"]}
    assert result["metrics"][1]["args"]["steps"] == 20


def test_every_level_has_a_row_with_its_figures(packaged: Ladder) -> None:
    card = render_ladder_card(packaged, "mine")
    for level, record in enumerate(packaged.drawing["rounds"], start=1):
        sparsity, source = packaged.sparsities[level] * 100, record["source"]
        figures = f"{source['SA'] * 100:.2f} % | {source['RA'] * 100:.2f} %"
        of_reached = reach_of(packaged.mask(level), "resnet18-slim", 32).sparsity * 100
        assert f"| {level} | {sparsity:.2f} % | {of_reached:.2f} % | {record['kept']:,} | {figures} |" in card
    assert "| 6 | 73.79 % | 41.72 % |" in card


def test_a_level_that_was_not_measured_says_so(packaged: Ladder) -> None:
    rounds = [{key: value for key, value in record.items() if key != "source"} for record in packaged.drawing["rounds"]]
    card = render_ladder_card(replace(packaged, drawing=packaged.drawing | {"rounds": rounds}), "mine")
    assert card.count("| not measured | not measured |") == packaged.levels


@pytest.mark.parametrize(
    "records",
    [{"test": {"SA": 0.5, "samples": 10}}, {"test": {"SA": "half", "RA": 0.1, "samples": 10}}, {"plan": {}}],
    ids=["no RA", "words for a number", "no plan"],
)
def test_records_that_lack_a_figure_make_no_card(packaged: Ladder, records: dict[str, Any]) -> None:
    with pytest.raises(TicketError, match="do not make a card"):
        render_ladder_card(changed(packaged, **records), "mine")


def test_rows_that_are_out_of_place_make_no_card(packaged: Ladder) -> None:
    shuffled = packaged.drawing | {"rounds": packaged.drawing["rounds"][::-1]}
    with pytest.raises(TicketError, match="in the place of level 1 is of level 14"):
        render_ladder_card(replace(packaged, drawing=shuffled), "mine")


def test_a_strangers_words_stay_words(packaged: Ladder) -> None:
    data = packaged.backbone.records["data"] | {"name": "<img src=x>|\n# owned", "revision": "*bold*"}
    card = render_ladder_card(changed(packaged, data=data), "mine")
    assert "<img" not in card.split("---\n")[2]
    assert not any(line.startswith("# owned") for line in card.splitlines())
    assert "*bold*" not in card.split("---\n")[2].replace("\\*", "")
