"""The double-win decision on hand-made figures."""

from __future__ import annotations

import numpy as np
import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.outcomes import Outcomes
from lottery_hub.verdict import Tolerance, caveats, differences, judge, summarise

ONE_POINT = Tolerance(0.01)


def runs(standard, adversarial):
    """[(SA, RA), …] a seed, for each regime."""
    return {
        "standard": [{"SA": sa, "RA": ra} for sa, ra in standard],
        "adversarial": [{"SA": sa, "RA": ra} for sa, ra in adversarial],
    }


DENSE = runs([(0.90, 0.20)], [(0.80, 0.50)])


def test_a_ticket_equal_to_dense_is_a_double_win():
    verdict = judge(DENSE, DENSE, ONE_POINT)
    assert verdict["double_win"]
    assert [row["matching"] for row in verdict["figures"]] == [True] * 4
    assert verdict["margin"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("ticket", "regime", "figure"),
    [
        (runs([(0.88, 0.20)], [(0.80, 0.50)]), "standard", "SA"),
        (runs([(0.90, 0.18)], [(0.80, 0.50)]), "standard", "RA"),
        (runs([(0.90, 0.20)], [(0.78, 0.50)]), "adversarial", "SA"),
        (runs([(0.90, 0.20)], [(0.80, 0.48)]), "adversarial", "RA"),
    ],
)
def test_each_of_the_four_figures_alone_can_lose(ticket, regime, figure):
    verdict = judge(DENSE, ticket, ONE_POINT)
    assert not verdict["double_win"]
    assert verdict["margin"] == pytest.approx(-0.01)
    lost = [(row["regime"], row["figure"]) for row in verdict["figures"] if not row["matching"]]
    assert lost == [(regime, figure)]


def test_exactly_at_the_tolerance_is_matching_in_spite_of_binary_fractions():
    assert 0.13 - 0.01 > 0.12  # in binary fractions
    dense = runs([(0.13, 0.13)], [(0.13, 0.13)])
    assert judge(dense, runs([(0.12, 0.12)], [(0.12, 0.12)]), ONE_POINT)["double_win"]
    assert not judge(dense, runs([(0.1199, 0.12)], [(0.12, 0.12)]), ONE_POINT)["double_win"]


def test_being_better_is_matching():
    assert judge(DENSE, runs([(0.99, 0.9)], [(0.99, 0.9)]), Tolerance(0.0))["double_win"]


def test_means_over_seeds_are_compared():
    dense = runs([(0.9, 0.2), (0.8, 0.4)], [(0.8, 0.5), (0.8, 0.5)])
    summary = summarise(dense)
    assert summary["standard"]["SA"] == pytest.approx(0.85)
    assert summary["standard"]["RA"] == pytest.approx(0.3)
    assert summary["standard"]["seeds"] == dense["standard"]


def test_the_std_rule_is_the_sample_deviation_of_the_dense_runs():
    # 0.90 and 0.94: mean 0.92, sample deviation 0.04 / sqrt(2) = 0.0283.
    dense = runs([(0.90, 0.2), (0.94, 0.2)], [(0.8, 0.5), (0.8, 0.5)])
    inside = runs([(0.892, 0.2)] * 2, [(0.8, 0.5)] * 2)
    outside = runs([(0.891, 0.2)] * 2, [(0.8, 0.5)] * 2)
    assert judge(dense, inside, Tolerance(None))["double_win"]
    assert not judge(dense, outside, Tolerance(None))["double_win"]
    assert judge(dense, inside, Tolerance(None))["figures"][0]["tolerance"] == pytest.approx(0.04 / 2**0.5)


@pytest.mark.parametrize(
    ("text", "seeds", "points"),
    [("auto", 1, 0.01), ("auto", 2, None), ("std", 3, None), ("points:0.5", 1, 0.005), ("points:0", 5, 0.0)],
)
def test_a_tolerance_is_read_from_a_word(text, seeds, points):
    assert Tolerance.parse(text, seeds) == Tolerance(points)


@pytest.mark.parametrize("text", ["points", "points:", "points:x", "points:-1", "points:nan", "2", "noninferiority:"])
def test_another_word_is_refused_with_the_choices(text):
    with pytest.raises(ConfigError, match="choose auto, std, points:X or noninferiority:X"):
        Tolerance.parse(text, 2)


def test_one_seed_has_no_deviation():
    with pytest.raises(ConfigError, match="at least two seeds"):
        Tolerance.parse("std", 1)


def test_the_rule_is_named_in_words():
    assert Tolerance(0.01).describe() == "1 percentage point"
    assert Tolerance(0.005).describe() == "0.5 percentage points"
    assert Tolerance(None).describe() == "one standard deviation of the dense runs"
    assert Tolerance(0.01, True).describe() == "1 percentage point, by the lower 95 % bound of the paired difference"


def intervals(low: float) -> dict[tuple[str, str], tuple[float, float]]:
    return {(regime, figure): (low, 0.02) for regime in ("standard", "adversarial") for figure in ("SA", "RA")}


@pytest.mark.parametrize(("low", "wins"), [(-0.0099, True), (-0.01, False), (-0.0101, False), (0.001, True)])
def test_non_inferiority_wants_the_whole_interval_above_the_bound(low, wins):
    verdict = judge(DENSE, DENSE, Tolerance.parse("noninferiority:1", 1), intervals(low))
    assert verdict["double_win"] is wins
    assert verdict["margin"] == pytest.approx(low + 0.01)
    assert verdict["figures"][0]["interval"] == [low, 0.02]


def test_an_interval_changes_nothing_where_the_rule_does_not_ask_for_it():
    assert judge(DENSE, DENSE, ONE_POINT, intervals(-0.5))["double_win"]
    assert judge(DENSE, DENSE, ONE_POINT)["figures"][0]["interval"] is None


def test_non_inferiority_without_the_outcomes_of_images_is_refused():
    with pytest.raises(ConfigError, match="needs the outcome of every image"):
        judge(DENSE, DENSE, Tolerance(0.01, True))


def test_differences_are_of_the_same_images_in_every_seed():
    right, wrong = np.ones(4, bool), np.zeros(4, bool)
    seen = {"standard": [Outcomes(right, wrong)], "adversarial": [Outcomes(right, right)]}
    other = {"standard": [Outcomes(right, right)], "adversarial": [Outcomes(right, wrong)]}
    assert differences(seen, other) == {
        ("standard", "SA"): (0.0, 0.0),
        ("standard", "RA"): (1.0, 1.0),
        ("adversarial", "SA"): (0.0, 0.0),
        ("adversarial", "RA"): (-1.0, -1.0),
    }


def test_a_dense_figure_at_chance_is_named_as_a_caveat():
    lines = caveats(runs([(0.9, 0.0)], [(0.8, 0.11)]), classes=10)
    assert len(lines) == 1
    assert "RA under standard transfer is 0.00 %" in lines[0]
    assert "(10.00 %)" in lines[0]
    assert caveats(DENSE, classes=10) == []
