"""The simulation of finds, small: what the rule promises holds within the chance of so few."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_verdict.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="script")


@pytest.mark.parametrize(("seeds", "luck", "paired"), [(2, 0.0, 0.0), (3, 0.5, 0.0), (3, 0.5, 0.9)])
def test_the_paired_interval_covers_the_truth(script: dict[str, Any], seeds: int, luck: float, paired: float) -> None:
    found = script["coverage"](script["World"](1000, luck / 100, paired), seeds, 80, 0, ["paired"])
    assert 0.91 <= found["paired"][0] <= 0.99  # three standard errors of 320 figures, some of which go together


def test_that_over_images_alone_does_not_where_runs_have_luck(script: dict[str, Any]) -> None:
    assert script["coverage"](script["World"](10_000, 0.005, 0.0), 3, 20, 0, ["images"])["images"][0] < 0.75


def test_equal_tickets_are_found_and_worse_ones_are_not(script: dict[str, Any]) -> None:
    world = script["World"](10_000)
    assert script["answers"](world, 3, "margin", 0.0, 30, 0)["double win"] >= 0.7
    for points in (1, 2):
        told = script["answers"](world, 3, f"margin:{points}", (points + 1) / 100, 30, 0)
        assert told.get("double win", 0) <= 0.05
    # By the older rule a ticket that is no worse than dense loses as often as it wins.
    assert script["answers"](world, 3, "std", 0.0, 30, 0)["no double win"] >= 0.1


def test_the_level_that_is_picked_is_near_the_last_within_the_margin(script: dict[str, Any]) -> None:
    truth = script["falling_off"](10, 0.02, 2.0)
    found = script["picks"](script["World"](4000), 3, "margin:2", truth, "bisect", 6, 0)
    levels = np.array([each["level"] for each in found])
    assert np.median(levels) in (8, 9, 10)
    assert levels.max() <= 11
    assert {each["answer"] for each in found} <= {"double win", "undecided"}
    assert np.mean([each["tried"] for each in found]) < 6
