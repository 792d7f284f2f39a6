"""The paired interval over seeds and images, by hand, beside scipy, and by how often it covers the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lottery_hub.judging.intervals import Chance, difference, of_outcomes


def rows(*seeds: list[int]) -> np.ndarray:
    return np.array(seeds, np.int8)


def test_the_parts_of_chance_are_those_of_a_two_way_analysis_of_variance() -> None:
    # Means of the runs 1/2 and 0, of the images 0.5, 0.5, 0 and 0, of all 1/4:
    # squares between runs 4 * 2 * (1/4)² = 1/2, between images 2 * 4 * (1/4)² = 1/2, in all 2 - 8 / 16 = 3/2,
    # so 1/2 is left for 3 degrees of freedom.
    seen = of_outcomes(rows([1, 1, 0, 0], [0, 0, 0, 0]))
    assert seen.mean == 0.25
    assert seen.rest == pytest.approx(1 / 6)
    assert seen.run == pytest.approx((1 / 2 - 1 / 6) / 4)
    assert seen.image == pytest.approx(0.0)
    assert seen.chance.by_seeds == pytest.approx(1 / 2 / 8)
    assert seen.chance.by_images == pytest.approx(2 / 8**2)  # nothing but one outcome more for either side


def test_without_effects_of_images_it_is_student_s_interval_over_runs() -> None:
    means = np.array([0.01, 0.03, 0.02])
    half = Chance(float(means.var(ddof=1) / 3), 0.0, 3).half()
    low, high = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert half == pytest.approx((high - low) / 2)


def test_without_chance_of_runs_it_is_the_normal_interval_over_images() -> None:
    assert Chance(0.0, 0.01**2, 5).half() == pytest.approx(0.0196, abs=1e-5)
    assert Chance(0.0, 0.01**2, 5).half(0.99) == pytest.approx(0.02576, abs=1e-5)


def test_of_one_run_it_is_the_bootstrap_over_images_of_scipy() -> None:
    generator = np.random.default_rng(0)
    dense, ticket = generator.random((2, 1, 2000)) < 0.7
    low, high = difference(list(ticket), list(dense)).interval()
    values = (ticket[0].astype(int) - dense[0].astype(int),)
    drawn = stats.bootstrap(values, np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    assert (low, high) == pytest.approx((drawn.low, drawn.high), abs=0.003)


def test_two_networks_that_agree_on_every_image_are_not_called_equal_beyond_what_so_few_can_tell() -> None:
    right = np.arange(36) < 30
    low, high = difference([right], [right]).interval()
    # Three images of 36, where none of them was seen to differ, are about 8 points.
    assert (low, high) == pytest.approx((-0.077, 0.077), abs=0.002)
    low, high = difference([right] * 3, [right] * 3).interval()
    assert (low, high) == pytest.approx((-0.0257, 0.0257), abs=0.001)


def test_what_is_paired_cancels() -> None:
    """Images that are hard for both, and runs that are bad for both, are no chance of the difference."""
    generator = np.random.default_rng(0)
    dense = generator.random((3, 500)) < np.array([[0.5], [0.7], [0.9]])
    better = dense.copy()
    better[:, :5] = True
    assert difference(list(better), list(dense)).interval()[1] < 0.02


def test_more_seeds_and_images_are_expected_to_tell_more() -> None:
    generator = np.random.default_rng(0)
    seen = of_outcomes(generator.choice([-1, 0, 1], (3, 1000), p=[0.04, 0.92, 0.04]).astype(np.int8))
    now = seen.expected(3, 1000).half()
    assert seen.expected(6, 1000).half() < now / 2  # by the quantile too, which falls from 4.3 to 2.6
    assert seen.expected(3, 4000).half() == pytest.approx(now / 2, rel=0.05)
