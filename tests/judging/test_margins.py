"""How small a margin the data can tell, and what would tell more."""

from __future__ import annotations

import numpy as np
import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.judging.intervals import Chance, of_outcomes
from lottery_hub.judging.margins import MARGINS, Margin, chosen, deciding, passes


def dense(images: int, seeds: int, luck: float = 0.0) -> list[np.ndarray]:
    """Runs of one figure at 80 %, most of it the images', with so much luck."""
    generator = np.random.default_rng(0)
    hard = generator.random(images)
    return [hard * 0.95 + 0.05 * generator.random(images) < 0.8 + luck * (seed - seeds // 2) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("runs", "points"),
    [
        (dense(10_000, 5), 1),
        (dense(10_000, 3), 1),
        (dense(10_000, 1), 1),
        (dense(1_000, 3), 2),
        (dense(1_000, 1), 3),
        (dense(10_000, 3, luck=0.01), 3),
    ],
)
def test_the_smallest_margin_that_the_data_can_tell_is_chosen(runs: list[np.ndarray], points: float) -> None:
    margin = chosen([runs] * 4)
    assert margin.points == points / 100
    seeds = f" and {len(runs)} seeds" if len(runs) > 1 else ""
    assert margin.describe() == (
        f"margin of {points} point{'s' * (points > 1)}: what {len(runs[0]):,} test images{seeds} can tell"
    )


def test_where_no_margin_can_be_told_it_is_the_largest_and_says_so() -> None:
    margin = chosen([dense(36, 1)])
    assert margin.points == MARGINS[-1]
    assert margin.describe() == "margin of 5 points: the widest; 36 test images can hardly tell an equal ticket by it"


def test_where_dense_only_guesses_the_smallest_is_named_and_nothing_is_said_of_images() -> None:
    assert chosen([], seeds=3).describe() == "margin of 1 point: dense only guesses on all four figures"


def test_it_is_told_for_the_seeds_that_the_verdict_will_rest_on() -> None:
    assert chosen([dense(1_000, 3)] * 4, seeds=10).points < chosen([dense(1_000, 3)] * 4).points


def test_looking_more_often_needs_more() -> None:
    assert chosen([dense(10_000, 3)] * 4, level=0.9999).points > chosen([dense(10_000, 3)] * 4).points


def test_an_equal_ticket_passes_as_often_as_drawing_says() -> None:
    generator = np.random.default_rng(0)
    chance = Chance(0.002**2, 0.0, 3)
    means = generator.normal(0, 0.002 * 3**0.5, (4000, 3))
    lower = means.mean(axis=1) - 4.3027 * means.std(axis=1, ddof=1) / 3**0.5
    assert passes(0.01, chance) == pytest.approx((lower > -0.01).mean(), abs=0.03)
    assert passes(0.0196, Chance(0.0, 0.01**2, 1)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "100", "two"])
def test_a_margin_is_a_number_of_points(text: str) -> None:
    with pytest.raises(ConfigError, match="choose auto, or percentage points above 0"):
        Margin.parse(text)
    assert Margin.parse("auto") is None
    assert Margin.parse("0.5") == Margin(0.005)
    assert Margin(0.005).describe() == "margin of 0.5 points"


def seen(lost: int, won: int, seeds: int, images: int = 1000):
    """Each run loses and wins so many images of its own."""
    outcomes = np.zeros((seeds, images), np.int8)
    for seed in range(seeds):
        places = seed * (lost + won) + np.arange(lost + won)
        outcomes[seed, places] = np.repeat([-1, 1], [lost, won])
    outcomes[0, -2:] = 1  # runs differ a little
    return of_outcomes(outcomes)


def test_what_would_decide_is_told_in_seeds_and_images() -> None:
    words = deciding([seen(40, 35, 3)], Margin(0.01))
    assert words.startswith("about ")
    assert " seeds, or " in words
    assert words.endswith(" test images")


def test_of_one_seed_nothing_is_known_of_others() -> None:
    assert "seeds" not in deciding([seen(40, 40, 1)], Margin(0.01))


def test_what_stays_at_the_margin_is_not_decided_by_anything() -> None:
    outcomes = np.zeros((1, 1000), np.int8)
    outcomes[0, :10] = -1
    assert deciding([of_outcomes(outcomes)], Margin(0.01)) == "neither 30 seeds nor 100 times as many test images"


def test_one_figure_that_is_worse_decides_alone() -> None:
    near, worse = seen(47, 40, 3), seen(90, 70, 3)
    assert deciding([near, worse], Margin(0.01)) == deciding([worse], Margin(0.01))
