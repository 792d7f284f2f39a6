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
        sparsity, history = packaged.sparsities[level] * 100, record.get("history")
        figures = f"{history[-1]['validation_SA'] * 100:.2f} %" if history else "not trained"
        of_reached = reach_of(packaged.mask(level), "resnet18-slim", 32).sparsity * 100
        assert f"| {level} | {sparsity:.2f} % | {of_reached:.2f} % | {record['kept']:,} | {figures} |" in card
    assert "| 6 | 73.79 % | 41.72 % |" in card


def test_levels_that_were_measured_show_it_and_one_that_was_not_says_so(packaged: Ladder) -> None:
    first, *others = packaged.drawing["rounds"]
    measured = first | {"source": {"SA": 0.25, "RA": 0.125}}
    card = render_ladder_card(replace(packaged, drawing=packaged.drawing | {"rounds": [measured, *others]}), "mine")
    assert "| 571,750 | 25.00 % | 12.50 % |" in card
    assert card.count("| not measured | not measured |") == packaged.levels - 1
    assert "on the same test images and under the same attack" in card
    assert "validation SA |" not in card


def test_levels_that_nobody_trained_have_no_column_of_figures(packaged: Ladder) -> None:
    rounds = [{name: record[name] for name in ("level", "kept", "total")} for record in packaged.drawing["rounds"]]
    card = render_ladder_card(replace(packaged, drawing=packaged.drawing | {"rounds": rounds}), "mine")
    assert "| level | sparsity | of what 32x32 images reach | kept weights |\n|---:|---:|---:|---:|\n" in card
    assert "| 0.09 % | 571,750 |\n" in card


def test_a_drawing_that_ended_on_another_machine_says_so(packaged: Ladder) -> None:
    environment = packaged.backbone.records["environment"]
    for hardware, told in ((environment["hardware"], 0), ("a toaster", 1)):
        drawing = packaged.drawing | {"environment": environment | {"hardware": hardware}}
        card = render_ladder_card(replace(packaged, drawing=drawing), "mine")
        assert card.count("The drawing ended with: ") == card.count("hardware a toaster") == told


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
