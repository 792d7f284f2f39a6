"""The radius at which RA after standard transfer separates tickets, on made-up accuracies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lottery_hub.settings.config import Attack
from lottery_hub.training.radius import telling_radius

ATTACK = Attack(eps=0.1, step_size=0.025, steps=20)


def falling(at: float) -> Callable[[Attack], float]:
    """RA that falls in a line to nothing at a radius."""
    return lambda attack: max(0.0, 1 - attack.eps / at)


def test_it_is_halved_until_dense_withstands_enough() -> None:
    found = telling_radius(ATTACK, falling(0.04), 10)
    assert found["eps"] == 0.025
    assert found["RA"] == pytest.approx(0.375)
    assert [each["eps"] for each in found["tried"]] == [0.1, 0.05, 0.025]


def test_between_too_much_and_too_little_it_is_sought() -> None:
    found = telling_radius(ATTACK, lambda attack: 1.0 if attack.eps < 0.055 else 0.3 if attack.eps < 0.08 else 0.0, 10)
    assert found["RA"] == 0.3
    assert 0.055 < found["eps"] < 0.08


def test_where_accuracy_leaps_over_the_range_it_is_the_nearest_above() -> None:
    assert telling_radius(ATTACK, lambda attack: float(attack.eps < 0.06), 10)["RA"] == 1.0


def test_an_attack_that_tells_something_is_kept() -> None:
    assert telling_radius(ATTACK, lambda attack: 0.3, 10)["eps"] == 0.1
    # Of two classes, guessing withstands a half.
    assert telling_radius(ATTACK, lambda attack: 0.5 if attack.eps > 0.06 else 0.7, 2)["eps"] == 0.05


def test_a_network_that_withstands_nothing_at_all_has_none() -> None:
    found = telling_radius(ATTACK, lambda attack: 0.0, 10)
    assert (found["eps"], found["RA"]) == (0.1, 0.0)


def test_an_attack_at_another_radius_takes_steps_as_much_smaller() -> None:
    weaker = ATTACK.at(0.02)
    assert (weaker.eps, weaker.step_size, weaker.steps) == (0.02, pytest.approx(0.005), 20)
