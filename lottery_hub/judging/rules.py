"""The rules by which a verdict is given, and how each is written in a plan and told in words.

    margin, margin:X                     non-inferiority over seeds and images, with three answers; see `margins`
    auto, std, points:X                  differences of means, as the literature has them: they know no chance
    noninferiority:X                     the interval over images alone, which knows nothing of runs

The last two lines are for comparison, and for tickets that were judged by them; `auto` is what they were judged by
where nobody chose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from lottery_hub.errors import ConfigError
from lottery_hub.judging.margins import Margin
from lottery_hub.settings.plans import FindPlan

MARGIN = "margin"
ONE_POINT = 0.01


@dataclass(frozen=True)
class Tolerance:
    """How much worse than dense still matches.

    Attributes:
        points: a fixed share of 1, or None for one sample standard deviation of the dense runs, figure by figure.
        noninferiority: whether the interval of the difference is held against it, instead of the difference.
    """

    points: float | None
    noninferiority: bool = False

    @classmethod
    def parse(cls, text: str, seeds: int) -> Tolerance:
        """Read `auto`, `std`, `points:X` or `noninferiority:X` (X in percentage points).

        `auto` is `std` with two seeds or more, else one point.

        Raises:
            ConfigError: another word, or `std` with a single seed.
        """
        if text == "auto":
            return cls(None if seeds > 1 else ONE_POINT)
        if text == "std":
            if seeds < 2:
                raise ConfigError("--tolerance std needs at least two seeds to have a deviation; add --seeds 2")
            return cls(None)
        kind, _, number = text.partition(":")
        try:
            points = float(number) / 100
        except ValueError:
            points = -1.0
        if kind not in ("points", "noninferiority") or not 0 <= points < 1:
            raise ConfigError(
                f"unknown tolerance {text!r}; choose auto, std, points:X or noninferiority:X, X in percentage points"
            )
        return cls(points, noninferiority=kind == "noninferiority")

    def of(self, dense: Sequence[float]) -> float:
        """Return the tolerance for one figure, given its dense values over seeds."""
        return stdev(dense) if self.points is None else self.points

    def describe(self) -> str:
        """Return the rule in words."""
        if self.points is None:
            return "one standard deviation of the dense runs"
        points = f"{self.points * 100:g}"
        words = f"{points} percentage point{'' if points == '1' else 's'}"
        return f"{words}, by the lower 95 % bound of the paired difference" if self.noninferiority else words


Rule = Tolerance | Margin


def parse_rule(text: str, seeds: int) -> Rule | None:
    """Read a rule as plans write it; None where it is the margin that the dense runs will tell.

    Raises:
        ConfigError: it is none, or one that so many seeds do not allow.
    """
    name, _, points = text.partition(":")
    if name == MARGIN:
        return Margin.parse(points or "auto")
    return Tolerance.parse(text, seeds)


CONFIRMING = 3  # seeds at least, of which fewer tell little
CHEAP = 0.25  # share of a find's transfers that its confirmation may be without being asked for


def confirming(plan: FindPlan, levels: int) -> int:
    """Return with how many fresh seeds a verdict is confirmed: as the plan says, or as many as cost little.

    Args:
        plan: of the find.
        levels: of the ladder.
    """
    if plan.confirm is not None:
        return plan.confirm
    by_margin = plan.tolerance.partition(":")[0] == MARGIN
    if plan.seeds < 2 or plan.max_seeds is not None or not by_margin:
        return 0
    asked = plan.level is not None or plan.sparsity is not None
    tried = 1 if asked else levels if plan.scan == "all" else math.ceil(math.log2(levels + 1))
    cheap = (n for n in range(max(CONFIRMING, plan.seeds), CONFIRMING - 1, -1) if _cost(n, plan.seeds, tried) < CHEAP)
    return next(cheap, 0)


def _cost(fresh: int, seeds: int, tried: int) -> float:
    """Return the share of transfers that confirm, of all of them."""
    return 2 * fresh / (2 * fresh + (1 + tried) * seeds)
