"""The double-win decision on hand-made figures."""

from __future__ import annotations

import numpy as np
import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.judging.margins import Margin
from lottery_hub.judging.rules import Tolerance
from lottery_hub.judging.verdict import Measured, caveats, judge, rule_of, summarise, would_decide
from lottery_hub.robustness.outcomes import Outcomes

ONE_POINT = Tolerance(0.01)


def runs(standard, adversarial):
    """[(SA, RA), …] a seed, for each regime."""
    return {
        "standard": [Measured(seed, sa, ra) for seed, (sa, ra) in enumerate(standard)],
        "adversarial": [Measured(seed, sa, ra) for seed, (sa, ra) in enumerate(adversarial)],
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
    assert summary["standard"]["seeds"] == [{"seed": 0, "SA": 0.9, "RA": 0.2}, {"seed": 1, "SA": 0.8, "RA": 0.4}]


def test_the_deviation_over_seeds_is_the_sample_s_and_one_seed_has_none():
    # 0.90 and 0.80: 0.1 / sqrt(2).
    summary = summarise(runs([(0.9, 0.2), (0.8, 0.2)], [(0.8, 0.5), (0.8, 0.5)]))
    assert summary["standard"]["deviation"] == {"SA": pytest.approx(0.1 / 2**0.5), "RA": 0.0}
    assert summarise(DENSE)["standard"]["deviation"] == {"SA": None, "RA": None}


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


def seen(right: int, of: int = 100):
    """Runs of one seed in which the first so many images are right, in all four figures."""
    bits = np.arange(of) < right
    measured = [Measured(0, right / of, right / of, Outcomes(bits, bits))]
    return {"standard": measured, "adversarial": measured}


def test_non_inferiority_wants_the_whole_interval_above_the_bound():
    # Three of 100 images are lost: about 0 to 7 of them in 95 % of the samples.
    verdict = judge(seen(90), seen(87), Tolerance.parse("noninferiority:5", 1))
    low, high = verdict["figures"][0]["interval"]
    assert -0.08 < low < -0.05 < -0.03 < high <= 0
    assert not verdict["double_win"]
    assert verdict["margin"] == pytest.approx(low + 0.05)
    assert judge(seen(90), seen(87), Tolerance.parse("noninferiority:9", 1))["double_win"]
    # The means alone differ by less than five points.
    assert judge(seen(90), seen(87), Tolerance.parse("points:5", 1))["double_win"]


def test_an_interval_that_touches_the_bound_is_not_above_it():
    equal = judge(seen(90), seen(90), Tolerance.parse("noninferiority:0", 1))
    assert equal["figures"][0]["interval"] == [0.0, 0.0]
    assert not equal["double_win"]


def test_where_single_images_were_not_kept_there_is_no_interval():
    assert judge(DENSE, DENSE, ONE_POINT)["figures"][0]["interval"] is None
    assert summarise(DENSE)["standard"]["interval"] == {"SA": None, "RA": None}
    with pytest.raises(ConfigError, match="needs the outcome of every image"):
        judge(DENSE, DENSE, Tolerance(0.01, True))


def test_a_mean_has_an_interval_of_its_own_wider_than_that_of_a_paired_difference():
    low, high = summarise(seen(50))["standard"]["interval"]["SA"]
    # 1.96 standard errors of a half from 100 images are 0.098.
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_a_run_is_read_from_the_record_of_a_split():
    outcomes = Outcomes(np.array([True, True, False]), np.array([True, False, False]))
    measured = Measured.of(7, {"SA": 2 / 3, "RA": 1 / 3, "samples": 3, "outcomes": outcomes.record()})
    assert (measured.seed, measured.SA, measured.RA) == (7, 2 / 3, 1 / 3)
    assert measured.bits("SA").tolist() == [True, True, False]
    assert measured.bits("RA").tolist() == [True, False, False]


def test_a_dense_figure_at_chance_is_named_as_a_caveat():
    lines = caveats(runs([(0.9, 0.0)], [(0.8, 0.11)]), classes=10)
    assert len(lines) == 1
    assert "RA under standard transfer is 0.00 %" in lines[0]
    assert "(10.00 %)" in lines[0]
    assert caveats(DENSE, classes=10) == []


@pytest.mark.parametrize(("images", "named"), [(30, True), (3000, False)])
def test_a_dense_figure_that_few_images_do_not_tell_from_chance_is_named_too(images, named):
    right = np.arange(images) % 30 < 12  # 40 %; guessing has a third, and 30 images tell 17.5 points either way
    run = Measured(0, 0.4, 0.4, Outcomes(right, right))
    lines = caveats({"standard": [run], "adversarial": [run]}, classes=3)
    assert [("not clearly better than guessing" in line) for line in lines] == [True] * (4 if named else 0)


def paired(lost: int, seeds: int = 1, of: int = 10_000, right: int = 8_000):
    """Dense, and a ticket that loses so many images in every run and every figure."""
    bits = np.arange(of) < right
    lacking = bits & (np.arange(of) >= lost)

    def runs_of(each):
        several = [Measured(seed, each.mean(), each.mean(), Outcomes(each, each)) for seed in range(seeds)]
        return {"standard": several, "adversarial": several}

    return runs_of(bits), runs_of(lacking)


@pytest.mark.parametrize(
    ("lost", "answer", "of_figures"),
    [(0, "double win", "matching"), (100, "undecided", "undecided"), (150, "no double win", "worse")],
)
def test_by_a_margin_there_are_three_answers(lost, answer, of_figures):
    verdict = judge(*paired(lost), Margin(0.01))
    assert verdict["answer"] == answer
    assert verdict["double_win"] == (answer == "double win")
    assert {row["answer"] for row in verdict["figures"]} == {of_figures}
    low, high = verdict["figures"][0]["interval"]
    assert verdict["slack"] == pytest.approx(low + 0.01)
    # Of one run, 1.96 standard errors over images.
    assert (high - low) / 2 == pytest.approx(1.96 * ((lost + 2) ** 0.5) / 10_000, rel=0.02)


def test_one_figure_that_is_worse_settles_it_before_the_other_regime_is_run():
    dense, ticket = paired(150)
    verdict = judge(dense, ticket | {"adversarial": []}, Margin(0.01))
    assert verdict["answer"] == "no double win"
    dense, ticket = paired(0)
    assert judge(dense, ticket | {"adversarial": []}, Margin(0.01))["answer"] == "undecided"


def test_a_figure_on_which_dense_only_guesses_does_not_count():
    dense, ticket = paired(0)
    nothing = np.zeros(10_000, bool)
    for side in (dense, ticket):
        side["standard"] = [Measured(0, run.SA, 0.0, Outcomes(run.outcomes.SA, nothing)) for run in side["standard"]]
    verdict = judge(dense, ticket, Margin(0.01, guessing=0.1))
    assert [row["answer"] for row in verdict["figures"]] == ["matching", "uninformative", "matching", "matching"]
    assert verdict["answer"] == "double win"
    assert judge(dense, ticket, Margin(0.01, guessing=0.9))["answer"] == "undecided"


def test_dense_and_ticket_are_paired_by_seed():
    dense, ticket = paired(0, seeds=3)
    fewer = {regime: list(reversed(several))[:2] for regime, several in ticket.items()}
    assert judge(dense, fewer, Margin(0.05))["figures"][0]["difference"] == 0.0
    with pytest.raises(ConfigError, match="dense was not run with seed 2"):
        judge({regime: several[:2] for regime, several in dense.items()}, ticket, Margin(0.05))


def test_what_would_decide_is_told_of_what_is_undecided():
    assert would_decide(*paired(90), Margin(0.01)) == "about 36,000 test images"
    assert would_decide(*paired(0), Margin(0.01)) == ""


def test_a_rule_is_read_from_a_plan_and_a_margin_from_the_dense_runs():
    dense, _ = paired(0)
    assert rule_of("points:1", 1, dense, 10) == Tolerance(0.01)
    assert rule_of("margin:2", 1, dense, 10) == Margin(0.02, guessing=0.1)
    auto = rule_of("margin", 1, dense, 10)
    assert auto.describe() == "margin of 1 point: what 10,000 test images can tell"
    assert rule_of("margin:1", 3, dense, 10, looks=5).level == pytest.approx(0.99)
    with pytest.raises(ConfigError, match="needs the outcome of every image"):
        rule_of("margin", 1, DENSE, 10)
