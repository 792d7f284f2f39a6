"""Where tickets become worse than the margin, by hand and beside scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from lottery_hub.judging.frontier import Compared, Frontier, falling, frontier_of
from lottery_hub.judging.intervals import of_outcomes

SPARSITIES = {level: 1 - 0.8**level for level in range(1, 15)}


def compared(lost: int, of: int = 10_000, seeds: int = 3, noise: int = 0) -> Compared:
    """So many images lost in every run; of those after them the first run wins some, and the last loses as many."""
    outcomes = np.zeros((seeds, of), np.int8)
    outcomes[:, :lost] = -1
    outcomes[0, lost : lost + noise] = 1
    outcomes[-1, lost : lost + noise] = -1
    return Compared(of_outcomes(outcomes), outcomes.mean(axis=0))


def found(lost: dict[int, int], margin: float = 0.01, **how: int) -> Frontier:
    return frontier_of({level: {"SA": compared(each, **how)} for level, each in lost.items()}, SPARSITIES, margin)


def test_the_fit_is_the_isotonic_regression_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        values, weights = generator.normal(size=7), generator.integers(1, 5, 7).astype(float)
        expected = IsotonicRegression(increasing=False).fit_transform(np.arange(7), values, sample_weight=weights)
        np.testing.assert_allclose(falling(values, weights), expected)


def test_between_two_levels_it_is_interpolated_in_the_logarithm_of_density() -> None:
    # 0.5 points are lost at level 2 and 1.5 at level 4: one point at level 3.
    seen = found({2: 50, 4: 150})
    assert seen.sparsity == pytest.approx(1 - 0.8**3)
    assert seen.interval[0] < seen.sparsity < seen.interval[1]
    assert not seen.beyond


def test_dense_is_no_worse_than_itself() -> None:
    # Two points are lost at level 2: one at level 1.
    assert found({2: 200, 3: 900}).sparsity == pytest.approx(1 - 0.8)


def test_a_level_that_looks_worse_than_a_sparser_one_is_seen_beside_it() -> None:
    # 1.4 and 0.4 points are lost: the fit gives 0.9 to both.
    assert found({3: 140, 4: 40}).beyond
    assert found({3: 180, 4: 40}).sparsity < SPARSITIES[3]


def test_where_every_level_that_was_tried_is_inside_nothing_bounds_it_from_above() -> None:
    seen = found({2: 0, 5: 10})
    assert seen.beyond
    assert seen.sparsity == pytest.approx(SPARSITIES[5])
    assert seen.interval == (pytest.approx(SPARSITIES[5]), 1.0)
    assert seen.inside == {2: 1.0, 5: 1.0}


def test_the_lowest_frontier_of_a_figure_is_that_of_the_ladder() -> None:
    levels = {2: {"SA": compared(0), "RA": compared(50)}, 4: {"SA": compared(0), "RA": compared(150)}}
    assert frontier_of(levels, SPARSITIES, 0.01).sparsity == pytest.approx(1 - 0.8**3)
    # A figure that was not measured at a level says nothing of it.
    assert frontier_of({2: levels[2], 4: {"SA": compared(0)}}, SPARSITIES, 0.01).beyond


def test_its_interval_is_as_wide_as_those_of_the_differences() -> None:
    sure, unsure = found({2: 50, 4: 150}), found({2: 50, 4: 150}, noise=30)
    assert unsure.interval[0] < sure.interval[0]
    assert 0.3 < sure.inside[2] <= 1.0
    # A single level is inside in as many resamples as the interval of its difference says.
    one = compared(50, noise=30)
    (inside,) = frontier_of({2: {"SA": one}}, SPARSITIES, -one.difference.interval()[0]).inside.values()
    assert inside == pytest.approx(0.975, abs=0.015)


def test_where_no_figure_tells_anything_no_level_is_known_to_be_inside() -> None:
    seen = frontier_of({2: {}, 4: {}}, SPARSITIES, 0.01)
    assert (seen.interval, set(seen.inside.values())) == ((0.0, 1.0), {0.0})


def test_the_same_is_found_again() -> None:
    assert found({2: 50, 4: 150}, noise=30) == found({2: 50, 4: 150}, noise=30)
    assert math.isfinite(found({2: 50}).sparsity)
