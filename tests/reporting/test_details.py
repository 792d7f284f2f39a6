"""The pictures behind a verdict show what was recorded: layers, epochs, and what closer looks found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.reporting.details import corruptions, density, security, training, unseen
from lottery_hub.storage.folder import load_ticket

FOUR = [f"{side}-{regime}-seed-0" for side in ("dense", "ticket") for regime in ("standard", "adversarial")]


@pytest.fixture(scope="module")
def records(run: Path) -> dict[str, Any]:
    return load_ticket(run).records


def test_density_is_that_of_each_layer_in_order() -> None:
    mask = {
        "conv1.weight": torch.tensor([True, True, True, False]),
        "layer1.0.conv1.weight": torch.tensor([True, False]),
    }
    picture = density(mask)
    (axes,) = picture.figure().axes
    assert [patch.get_width() for patch in axes.patches] == [75, 50]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1", "layer1.0.conv1"]
    assert axes.get_lines()[0].get_xdata()[0] == pytest.approx(100 * 4 / 6)
    assert picture.rows[-1] == ("all", "4", "6", "66.67 %")
    assert "The least dense layer is layer1.0.conv1 with 50.00 %, the densest conv1 with 75.00 %." in picture.told


def test_training_shows_the_epochs_of_dense_and_of_the_picked_level_alone(records: dict[str, Any]) -> None:
    picture = training(records)
    wanted = [run for run in records["transfers"] if run["ticket"] in ("level-00", f"level-{records['level']:02d}")]
    assert len(picture.rows) == sum(len(run["history"]) for run in wanted) == 8
    losses, _, adversarial, accuracies = picture.figure().axes
    for axes, regime in ((losses, "standard"), (adversarial, "adversarial")):
        shown = [line.get_ydata()[0] for line in axes.get_lines() if line.get_markerfacecolor() != "none"]
        assert shown == [run["history"][0]["loss"] for run in wanted if run["regime"] == regime]
    assert accuracies.get_title("left") == "on validation images, adversarial transfer, %"


def test_corruptions_set_dense_and_ticket_side_by_side() -> None:
    correct = {name: {"fog": [10 + place] * 5, "snow": [4] * 5} for place, name in enumerate(FOUR)}
    look = {"samples": 20, "networks": {name: {"correct": correct[name], "mean": 0.3} for name in FOUR}}
    picture = corruptions(look)
    assert [row[0] for row in picture.rows] == ["snow", "fog", "mean"]
    assert picture.rows[1][1:] == ("50.00 %", "60.00 %", "55.00 %", "65.00 %")
    standard, adversarial = picture.figure().axes
    by_label = {line.get_label(): list(line.get_xdata()) for line in adversarial.get_lines()}
    assert by_label["dense"] == pytest.approx([20, 55, 30])
    assert by_label["ticket"] == pytest.approx([20, 65, 30])
    assert standard.get_title("left") == "after standard transfer"


def test_the_security_curve_begins_at_sa_and_has_a_line_for_each_network_and_attack() -> None:
    rows = [
        {"attack": f"{name} eps {eps}", "eps": eps, "SA": 0.9, "RA": share}
        for name, shares in (("PGD-20 Linf", (0.6, 0.2)), ("AutoAttack Linf", (0.5, 0.1)))
        for eps, share in zip((0.05, 0.1), shares, strict=True)
    ]
    picture = security(
        {"samples": 20, "networks": {"dense-adversarial-seed-0": rows, "ticket-adversarial-seed-0": rows}}
    )
    assert picture.columns == ("eps", "dense, PGD-20", "dense, AutoAttack", "ticket, PGD-20", "ticket, AutoAttack")
    assert picture.rows[0] == ("0", *["90.00 %"] * 4)
    assert picture.rows[2] == ("0.1", "20.00 %", "10.00 %", "20.00 %", "10.00 %")
    (axes,) = picture.figure().axes
    drawn = {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert drawn["dense: PGD-20"] == ([0, 0.05, 0.1], pytest.approx([90, 60, 20]))
    assert drawn["ticket: AutoAttack"] == ([0, 0.05, 0.1], pytest.approx([90, 50, 10]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.05", "0.1"]


def test_attacks_of_other_norms_are_named_as_they_were_recorded() -> None:
    rows = [{"attack": "PGD-20, L2, eps 0.5, step 0.125", "RA": 0.25}, {"attack": "$x^2$ </svg>", "RA": 0.5}]
    picture = unseen({"samples": 20, "networks": dict.fromkeys(FOUR, rows)})
    assert [row[0] for row in picture.rows] == [row["attack"] for row in rows]
    assert [label.get_text() for label in picture.figure().axes[0].get_yticklabels()][1] == "$x^2$ </svg>"
    assert "&lt;/svg&gt;" in picture.svg()
    assert picture.svg().count("</svg>") == 1
