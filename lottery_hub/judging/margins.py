"""The margin: how much worse than dense still counts as no worse, and what is needed to tell.

By itself it is one point, or the smallest that the data can tell: the one that a ticket equal to dense would pass in
four of five finds. How far chance moves such a ticket is foretold from the dense runs alone, so that no ticket
chooses the rule by which it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from lottery_hub.errors import ConfigError
from lottery_hub.judging.intervals import Chance, Difference, of_outcomes
from lottery_hub.robustness.outcomes import LEVEL, Bits

MARGINS = (0.01, 0.02, 0.03, 0.05)
GUESSES = "dense only guesses on all four figures"
POWER = 0.8  # of finds in which a ticket equal to dense shall pass on all figures

# What dense and ticket of one seed share: head, order and attack starts are the same, and so is much of their luck.
# Measured on digits, and taken from the cautious side (docs/trust.md).
SHARED_LUCK = 0.85  # share of the variance of a run's luck
SHARED_REST = 0.5  # share of the variance of a single outcome
# Two networks of one run each disagree on fewer images than by chance alone, which would be 2 p (1 - p).
DISAGREEMENT = 0.35  # of p (1 - p)

MOST_SEEDS = 30  # that are worth naming
MOST_IMAGES = 100  # times as many as there are


@dataclass(frozen=True)
class Margin:
    """The rule of non-inferiority: a ticket may be worse than dense by less than this.

    Attributes:
        points: as a share of 1.
        told: why it is that, in words; empty where it was given.
        level: of the intervals that are held against it.
        guessing: accuracy of a network that guesses. Where dense is no better, a figure is uninformative.
    """

    points: float
    told: str = ""
    level: float = LEVEL
    guessing: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Margin | None:
        """Read the points of `X`, or None of `auto`, which is for `chosen` to find.

        Raises:
            ConfigError: another word, or no number of points above 0.
        """
        if text == "auto":
            return None
        try:
            points = float(text) / 100
        except ValueError:
            points = -1.0
        if not 0 < points < 1:
            raise ConfigError(f"unknown margin {text!r}; choose auto, or percentage points above 0")
        return cls(points)

    def describe(self) -> str:
        """Return the rule in words."""
        words = f"margin of {in_points(self.points)}"
        return f"{words}: {self.told}" if self.told else words


def chosen(
    dense: Iterable[Sequence[Bits]], seeds: int | None = None, level: float = LEVEL, guessing: float = 0.0
) -> Margin:
    """Return the margin that the data can tell.

    Args:
        dense: of each figure that tells something, the outcomes of the dense runs, bool [n] for each seed.
        seeds: how many runs the verdict will rest on; None for as many.
        level: of its intervals.
        guessing: see `Margin`.
    """
    figures = [list(runs) for runs in dense]
    if not figures:
        return Margin(MARGINS[0], GUESSES, level, guessing)
    images = f"{max(len(runs[0]) for runs in figures):,} test images"
    count = seeds or max(len(runs) for runs in figures)
    if count > 1:
        images += f" and {count} seeds"
    foretold = [spread_of_equal(runs, seeds or len(runs)) for runs in figures]
    for points in MARGINS:
        if math.prod(passes(points, chance, level) for chance in foretold) >= POWER:
            return Margin(points, f"what {images} can tell", level, guessing)
    return Margin(MARGINS[-1], f"the widest; {images} can hardly tell an equal ticket by it", level, guessing)


def spread_of_equal(dense: Sequence[Bits], seeds: int) -> Chance:
    """Return how far chance is expected to move a ticket that is equal to dense, given the dense runs of a figure."""
    seen = of_outcomes(np.stack(dense).astype(np.int8))
    samples = seen.samples
    unseen = 2 / (seeds * samples) ** 2
    if len(dense) == 1:
        return Chance(0.0, DISAGREEMENT * seen.mean * (1 - seen.mean) / samples + unseen, seeds)
    luck = 2 * (1 - SHARED_LUCK) * seen.run + 2 * (1 - SHARED_REST) * seen.rest / samples
    return Chance(luck / seeds, unseen, seeds)


def passes(margin: float, chance: Chance, level: float = LEVEL) -> float:
    """Return the probability that the lower bound of a ticket equal to dense lies above minus the margin."""
    deviation = math.sqrt(chance.by_seeds + chance.by_images)
    if chance.by_seeds == 0 or chance.seeds == 1:
        return float(ndtr(margin / deviation - ndtri((1 + level) / 2)))
    degrees = chance.seeds - 1
    return float(1 - nctdtr(degrees, margin / deviation, stdtrit(degrees, (1 + level) / 2)))


def deciding(undecided: Iterable[Difference], margin: Margin) -> str:
    """Return in words what would decide these differences if they stay where they are: seeds, or test images.

    Args:
        undecided: whose intervals reach to both sides of minus the margin.
        margin: the rule.
    """
    several = list(undecided)
    seeds, images = (_settling(several, margin, needed) for needed in (_seeds, _images))
    ways = []
    if math.isfinite(seeds):
        ways.append(f"about {seeds:.0f} seeds")
    if math.isfinite(images):
        ways.append(f"{'about ' * (not ways)}{_round(images):,} test images")
    return ", or ".join(ways) or f"neither {MOST_SEEDS} seeds nor {MOST_IMAGES} times as many test images"


def within_seeds(undecided: Sequence[Difference], margin: Margin, most: int) -> bool:
    """Whether so many seeds are expected to decide these differences if they stay where they are."""
    return _settling(undecided, margin, _seeds) <= most


def _settling(undecided: Sequence[Difference], margin: Margin, needed: Callable[[Difference, Margin], float]) -> float:
    """Return what is needed: one that is worse settles a verdict alone; those that are not must all be seen to be."""
    worse = [each for each in undecided if each.mean < -margin.points]
    return (min if worse else max)(needed(each, margin) for each in worse or undecided)


def _seeds(seen: Difference, margin: Margin) -> float:
    if seen.seeds == 1:
        return math.inf  # nothing is known of the luck of a run
    distance = abs(seen.mean + margin.points)
    more = range(seen.seeds + 1, MOST_SEEDS + 1)
    return next((n for n in more if seen.expected(n, seen.samples).half(margin.level) < distance), math.inf)


def _images(seen: Difference, margin: Margin) -> float:
    distance = abs(seen.mean + margin.points)
    more = (seen.samples * 1.05**step for step in range(1, math.ceil(math.log(MOST_IMAGES, 1.05))))
    return next((n for n in more if seen.expected(seen.seeds, round(n)).half(margin.level) < distance), math.inf)


def _round(number: float) -> int:
    """Return it to two digits."""
    scale = int(10 ** max(math.floor(math.log10(number)) - 1, 0))
    return math.ceil(number / scale) * scale


def in_points(share: float) -> str:
    """Return 0.02 as `2 points`."""
    points = f"{share * 100:g}"
    return f"{points} point{'' if points == '1' else 's'}"
