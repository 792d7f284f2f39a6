"""The double-win decision: four figures of a ticket against four of the dense backbone. No torch here.

A ticket is matching on a figure if its mean over seeds is no worse than the dense mean minus the tolerance; or, by
the rule of non-inferiority, if the whole 95 % interval of the paired difference lies above minus the tolerance.
It is a double win if it matches on SA and RA, under standard and under adversarial transfer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lottery_hub.config import REGIMES, Regime
from lottery_hub.errors import ConfigError
from lottery_hub.outcomes import Outcomes, interval

FIGURES = ("SA", "RA")
ONE_POINT = 0.01
# Accuracies are ratios of counts: without slack, 0.75 - 0.01 would lose to 0.74 in binary arithmetic.
_ROUNDING = 1e-9


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


Runs = dict[Regime, list[dict[str, Any]]]  # regime → one {"SA": …, "RA": …} a seed
Seen = Mapping[Regime, Sequence[Outcomes]]  # regime → which images were right, for each seed


def differences(dense: Seen, ticket: Seen) -> dict[tuple[Regime, str], tuple[float, float]]:
    """Return (regime, figure) → 95 % interval of ticket minus dense over the same test images; see `outcomes`."""
    return {
        (regime, figure): interval(
            [getattr(seen, figure) for seen in ticket[regime]], [getattr(seen, figure) for seen in dense[regime]]
        )
        for regime in REGIMES
        for figure in FIGURES
    }


def summarise(runs: Runs) -> dict[str, Any]:
    """Return mean and every single value of the four figures, as `{regime: {SA, RA, seeds: [...]}}`."""
    return {
        regime: {figure: fmean(run[figure] for run in runs[regime]) for figure in FIGURES} | {"seeds": runs[regime]}
        for regime in REGIMES
    }


def caveats(dense: Runs, classes: int) -> list[str]:
    """Return one line for every dense figure that is no better than guessing: matching it proves nothing."""
    chance = 1 / classes
    lines = []
    for regime in REGIMES:
        for figure in FIGURES:
            mean = fmean(run[figure] for run in dense[regime])
            if mean <= chance:
                lines.append(
                    f"dense {figure} under {regime} transfer is {mean * 100:.2f} %, no better than guessing "
                    f"({chance * 100:.2f} %): matching it proves little"
                )
    return lines


def judge(
    dense: Runs,
    ticket: Runs,
    tolerance: Tolerance,
    intervals: Mapping[tuple[Regime, str], tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Decide whether a ticket is a double win.

    Args:
        dense, ticket: the accuracies of every seed, in 0..1, under both regimes.
        tolerance: the rule.
        intervals: of `differences`; None where single images were not recorded, and then not for non-inferiority.

    Returns:
        `double_win`; `margin`, the smallest slack over the four figures (negative where one does not match);
        and `figures`, one row each with dense and ticket means, their difference with its interval, tolerance and
        `matching`.
    """
    if tolerance.noninferiority and intervals is None:
        raise ConfigError("non-inferiority needs the outcome of every image; use std or points:X")
    rows: list[dict[str, Any]] = []
    for regime in REGIMES:
        for figure in FIGURES:
            dense_values = [run[figure] for run in dense[regime]]
            allowed = tolerance.of(dense_values)
            dense_mean = fmean(dense_values)
            ticket_mean = fmean(run[figure] for run in ticket[regime])
            bounds = intervals[regime, figure] if intervals is not None else None
            lowest = bounds[0] if bounds is not None and tolerance.noninferiority else ticket_mean - dense_mean
            slack = lowest + allowed
            rows.append(
                {
                    "regime": regime,
                    "figure": figure,
                    "dense": dense_mean,
                    "ticket": ticket_mean,
                    "difference": ticket_mean - dense_mean,
                    "interval": None if bounds is None else list(bounds),
                    "tolerance": allowed,
                    "slack": slack,
                    # An interval must lie above the bound, a mean may lie on it.
                    "matching": slack > _ROUNDING if tolerance.noninferiority else slack >= -_ROUNDING,
                }
            )
    return {
        "double_win": all(row["matching"] for row in rows),
        "margin": min(row["slack"] for row in rows),
        "figures": rows,
    }
