"""The double-win decision: four figures of a ticket against four of the dense backbone. No torch here.

A ticket is matching on a figure if its mean over seeds is no worse than the dense mean minus the tolerance; or, by
the rule of non-inferiority, if the whole 95 % interval of the paired difference lies above minus the tolerance.
It is a double win if it matches on SA and RA, under standard and under adversarial transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lottery_hub.errors import ConfigError
from lottery_hub.robustness.outcomes import Bits, Outcomes, interval
from lottery_hub.settings.config import REGIMES, Regime

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


@dataclass(frozen=True)
class Measured:
    """One transfer as it was measured on one split.

    Attributes:
        seed: of the transfer.
        SA, RA: accuracies in 0..1.
        outcomes: which images were right; None where that was not kept.
    """

    seed: int
    SA: float
    RA: float
    outcomes: Outcomes | None = None

    @classmethod
    def of(cls, seed: int, measured: Mapping[str, Any]) -> Measured:
        """Read a record of one split.

        Raises:
            TicketError: the outcomes are not of so many images.
        """
        return cls(seed, measured["SA"], measured["RA"], Outcomes.parse(measured["outcomes"], measured["samples"]))

    def bits(self, figure: str) -> Bits | None:
        """Return which images were right for `SA` or `RA`, bool [n]."""
        return None if self.outcomes is None else getattr(self.outcomes, figure)


Runs = Mapping[Regime, Sequence[Measured]]  # one a seed
Splits = Mapping[str, Runs]  # of `validation` and `test`


def splits_of(transfers: Iterable[Mapping[str, Any]]) -> Splits:
    """Return the runs on both splits, given the records of one network's transfers.

    Raises:
        TicketError: the outcomes are not of so many images.
    """
    found: dict[str, dict[Regime, list[Measured]]] = {
        split: {regime: [] for regime in REGIMES} for split in ("validation", "test")
    }
    for record in transfers:
        found["test"][record["regime"]].append(Measured.of(record["seed"], record))
        found["validation"][record["regime"]].append(Measured.of(record["seed"], record["validation"]))
    return dict(found)


def summarise(runs: Runs) -> dict[str, Any]:
    """Return, for each regime, mean, deviation and interval of its two figures, and every single run.

    As `{regime: {"SA", "RA", "deviation": {SA, RA}, "interval": {SA, RA}, "seeds": [{seed, SA, RA}, …]}}`, of the
    regimes that were run. The deviation is the sample's over seeds, null where there is one. The interval is the
    mean's 95 % bootstrap interval over test images, null where single images were not kept.
    """
    return {
        regime: {figure: _mean(runs[regime], figure) for figure in FIGURES}
        | {
            "deviation": {figure: _deviation(runs[regime], figure) for figure in FIGURES},
            "interval": {figure: _interval(runs[regime], None, figure) for figure in FIGURES},
            "seeds": [{"seed": run.seed, "SA": run.SA, "RA": run.RA} for run in runs[regime]],
        }
        for regime in _run(runs)
    }


def _run(runs: Runs) -> list[Regime]:
    return [regime for regime in REGIMES if runs[regime]]


def _mean(runs: Sequence[Measured], figure: str) -> float:
    return fmean(getattr(run, figure) for run in runs)


def _deviation(runs: Sequence[Measured], figure: str) -> float | None:
    return stdev(getattr(run, figure) for run in runs) if len(runs) > 1 else None


def _interval(ticket: Sequence[Measured], dense: Sequence[Measured] | None, figure: str) -> list[float] | None:
    """Return the 95 % interval of a mean, or of ticket minus dense; see `outcomes.interval`."""
    seen = [[run.bits(figure) for run in side] for side in (ticket, dense or [])]
    known = [[bits for bits in side if bits is not None] for side in seen]
    if [len(side) for side in seen] != [len(side) for side in known]:
        return None
    return list(interval(known[0], known[1] or None))


def caveats(dense: Runs, classes: int) -> list[str]:
    """Return one line for every dense figure that is no better than guessing: matching it proves nothing."""
    chance = 1 / classes
    lines = []
    for regime in REGIMES:
        for figure in FIGURES:
            mean = _mean(dense[regime], figure)
            if mean <= chance:
                lines.append(
                    f"dense {figure} under {regime} transfer is {mean * 100:.2f} %, no better than guessing "
                    f"({chance * 100:.2f} %): matching it proves little"
                )
    return lines


def judge(dense: Runs, ticket: Runs, tolerance: Tolerance) -> dict[str, Any]:
    """Decide whether a ticket is a double win on the split on which both were measured.

    Args:
        dense: every run, under both regimes.
        ticket: every run; of one regime where the figures of that settled the matter.
        tolerance: the rule.

    Returns:
        `double_win`, false unless both regimes were run; `margin`, the smallest slack over the figures (negative where
        one does not match); and `figures`, one row each with dense and ticket means, their difference with its
        interval (null where single images were not kept), tolerance and `matching`.

    Raises:
        ConfigError: the rule is non-inferiority, and single images were not kept.
    """
    rows: list[dict[str, Any]] = []
    for regime in _run(ticket):
        for figure in FIGURES:
            allowed = tolerance.of([getattr(run, figure) for run in dense[regime]])
            dense_mean, ticket_mean = _mean(dense[regime], figure), _mean(ticket[regime], figure)
            bounds = _interval(ticket[regime], dense[regime], figure)
            lowest = ticket_mean - dense_mean
            if tolerance.noninferiority:
                if bounds is None:
                    raise ConfigError("non-inferiority needs the outcome of every image; use std or points:X")
                lowest = bounds[0]
            slack = lowest + allowed
            rows.append(
                {
                    "regime": regime,
                    "figure": figure,
                    "dense": dense_mean,
                    "ticket": ticket_mean,
                    "difference": ticket_mean - dense_mean,
                    "interval": bounds,
                    "tolerance": allowed,
                    "slack": slack,
                    # An interval must lie above the bound, a mean may lie on it.
                    "matching": slack > _ROUNDING if tolerance.noninferiority else slack >= -_ROUNDING,
                }
            )
    return {
        "double_win": len(rows) == len(REGIMES) * len(FIGURES) and all(row["matching"] for row in rows),
        "margin": min(row["slack"] for row in rows),
        "figures": rows,
    }


def compare(dense: Splits, ticket: Splits, tolerance: Tolerance) -> dict[str, Any]:
    """Return the row of a ticket: summary and decision on the test split, and on `validation` inside it."""
    held_out = summarise(ticket["validation"]) | judge(dense["validation"], ticket["validation"], tolerance)
    return summarise(ticket["test"]) | judge(dense["test"], ticket["test"], tolerance) | {"validation": held_out}


def pick(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the level that is reported, by the validation split alone.

    It is the sparsest that is a double win there, else the one with the smallest shortfall. What its test figures say
    is then said of one level, not of the best of many.

    Args:
        rows: of the levels tried, in order. Those that were rejected are not picked.
    """
    winners = [row for row in rows if row["validation"]["double_win"]]
    return winners[-1] if winners else max(filter(is_whole, rows), key=_margin)


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a level was run under both regimes; else it was rejected after the first."""
    return all(regime in row for regime in REGIMES)


def is_rejected(row: Mapping[str, Any]) -> bool:
    """Whether the regimes run so far settle that a level is no double win on the validation split."""
    return not all(figure["matching"] for figure in row["validation"]["figures"])


def undecided(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the rejected level that must be run under both regimes before one can be picked, or None.

    More figures can only lower a margin. So where no level wins, a rejected one can be the one with the smallest
    shortfall only if its margin so far is no smaller than that of every level which was run wholly.
    """
    if any(row["validation"]["double_win"] for row in rows):
        return None
    best = max(map(_margin, filter(is_whole, rows)), default=-1.0)
    return max((row for row in rows if not is_whole(row) and _margin(row) >= best), key=_margin, default=None)


def _margin(row: Mapping[str, Any]) -> float:
    margin: float = row["validation"]["margin"]
    return margin


def level_name(level: int) -> str:
    """Return the name that a level's transfers have in records."""
    return f"level-{level:02d}"


def control_name(method: str, level: int) -> str:
    """Return the name that the transfers of a control have in records."""
    return f"{method}-{level_name(level)}"
