"""Ticket minus dense, paired by seed and by image, and how far chance moves it. No torch here.

Two things are drawn by chance: which runs there were, and which images. One outcome of run s on image i is

    difference[s, i]  =  truth + run[s] + image[i] + rest[s, i]

and the mean over S runs and n images has the variance run/S + image/n + rest/(S n). Its first and last part, seen
together as the spread of the S runs, are known to S - 1 degrees of freedom only; the middle one, from hundreds of
images, is as good as known. The half-width of an interval joins the two:

    half²  =  z² (seeds + images)  +  (t² - z²) seeds² / (seeds + images / 2)

with z the normal quantile and t that of Student with S - 1 degrees of freedom. It is Student's interval over runs
where images have no effect of their own, and the normal one over images where runs have none. Between the two, where
no exact interval exists (it is the problem of Behrens and Fisher with one variance known), the half in the last term
keeps 95 % within about one point: `scripts/simulate_verdict.py` counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from lottery_hub.robustness.outcomes import LEVEL, Bits


@dataclass(frozen=True)
class Chance:
    """How far chance moves a mean over seeds and images, in shares of 1.

    Attributes:
        by_seeds: variance of the mean as the spread of the runs tells it; 0 where there is one.
        by_images: variance of the mean by which images there are, beyond that.
        seeds: how many runs.
    """

    by_seeds: float
    by_images: float
    seeds: int

    @property
    def stretch(self) -> float:
        """The weight of t² - z²: how much of the variance is known from few runs only."""
        whole = self.by_seeds + self.by_images / 2
        return self.by_seeds**2 / whole if whole > 0 else 0.0

    def half(self, level: float = LEVEL) -> float:
        """Return the half-width of the interval that covers the truth with this probability."""
        normal = float(ndtri((1 + level) / 2))
        squared = normal**2 * (self.by_seeds + self.by_images)
        if self.seeds > 1:
            squared += (float(stdtrit(self.seeds - 1, (1 + level) / 2)) ** 2 - normal**2) * self.stretch
        return float(np.sqrt(squared))


@dataclass(frozen=True)
class Difference:
    """The mean difference of two networks over runs and images, and what its chance is made of.

    Attributes:
        mean: in -1..1.
        seeds, samples: how many runs and images.
        run, image, rest: variances of a run's luck, of an image's effect in every run, and of what is left of a
            single outcome. Of one run nothing is known of luck, and all the rest counts as the image's.
        chance: of the mean.
    """

    mean: float
    seeds: int
    samples: int
    run: float
    image: float
    rest: float
    chance: Chance

    def interval(self, level: float = LEVEL) -> list[float]:
        """Return lower and upper bound. Of one run it says what other images would give, and nothing of other runs."""
        half = self.chance.half(level)
        return [self.mean - half, self.mean + half]

    def expected(self, seeds: int, samples: int) -> Chance:
        """Return the chance that is to be expected of so many runs and images instead."""
        by_seeds = (self.run + self.rest / samples) / seeds if self.seeds > 1 else 0.0
        return Chance(by_seeds, self.image / samples + _unseen(seeds * samples), seeds)


def difference(ticket: Sequence[Bits], dense: Sequence[Bits]) -> Difference:
    """Return ticket minus dense, by a two-way analysis of variance without replication.

    Args:
        ticket: bool [n] for each seed.
        dense: the same images under dense with the same seeds, in the same order.

    Source: Scheffé 1959, The Analysis of Variance, 7.4. That one outcome more is counted for either side, so that
    two networks which agree on 36 images are not called equal, follows Bonett & Price 2012.
    """
    outcomes = np.stack(ticket).astype(np.int8) - np.stack(dense).astype(np.int8)
    return of_outcomes(outcomes)


def of_outcomes(outcomes: np.ndarray[tuple[int, int], np.dtype[np.int8]]) -> Difference:
    """Return the mean of outcomes, integer [seeds, n], with its chance; see `difference`."""
    seeds, samples = outcomes.shape
    # Sums of integers are exact, so that anybody computes the same interval again.
    runs = outcomes.sum(axis=1, dtype=np.int64)
    images = outcomes.sum(axis=0, dtype=np.int64)
    total = int(runs.sum())
    mean = total / (seeds * samples)
    correction = total * mean
    squares = int(np.square(outcomes, dtype=np.int64).sum())
    of_images = int((images**2).sum()) / seeds - correction
    # One image tells nothing of others.
    between_images = of_images / (samples - 1) if samples > 1 else 1.0
    unseen = _unseen(seeds * samples)
    if seeds == 1:
        return Difference(mean, 1, samples, 0.0, between_images, 0.0, Chance(0.0, between_images / samples + unseen, 1))
    of_runs = int((runs**2).sum()) / samples - correction
    between_runs = max(of_runs, 0.0) / (seeds - 1)
    rest = max(squares - correction - of_runs - of_images, 0.0) / ((seeds - 1) * max(samples - 1, 1))
    image = max(between_images - rest, 0.0) / seeds
    chance = Chance(between_runs / (seeds * samples), image / samples + unseen, seeds)
    return Difference(mean, seeds, samples, max(between_runs - rest, 0.0) / samples, image, rest, chance)


def _unseen(outcomes: int) -> float:
    """Return the variance that one outcome more for either side gives the mean of so many."""
    return 2 / outcomes**2
