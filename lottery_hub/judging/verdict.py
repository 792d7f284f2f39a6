"""The double-win decision: four figures of a ticket against four of the dense backbone. No torch here.

By the rule of the margin a figure is matching if the interval of the paired difference lies above minus the margin,
worse if it lies below, and undecided else. A ticket is a double win if it matches on SA and RA, under standard and
under adversarial transfer; it is none if it is worse on any; and else it is undecided. A figure on which dense itself
only guesses is uninformative, and does not count. The older rules (`rules.Tolerance`) have two answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from lottery_hub.errors import ConfigError
from lottery_hub.judging.intervals import Difference, difference
from lottery_hub.judging.margins import Margin, chosen, deciding, within_seeds
from lottery_hub.judging.rules import Rule, Tolerance, parse_rule
from lottery_hub.robustness.outcomes import LEVEL, Bits, Outcomes, interval
from lottery_hub.settings.answers import DOUBLE_WIN, NO_DOUBLE_WIN, UNDECIDED
from lottery_hub.settings.config import REGIMES, Regime

FEW = {"test": 400, "validation": 200}  # images, fewer of which are too few to say much
MATCHING, WORSE, UNINFORMATIVE = "matching", "worse", "uninformative"  # of one figure; or undecided

FIGURES = ("SA", "RA")
# Accuracies are ratios of counts: without slack, 0.75 - 0.01 would lose to 0.74 in binary arithmetic.
_ROUNDING = 1e-9


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
    """Return one line for every dense figure that is not seen to be better than guessing: matching it proves little."""
    chance = 1 / classes
    lines = []
    for regime in REGIMES:
        for figure in FIGURES:
            mean = _mean(dense[regime], figure)
            if mean - _by_chance(dense[regime], figure) <= chance:
                seen = "no" if mean <= chance else "not clearly"
                lines.append(
                    f"dense {figure} under {regime} transfer is {mean * 100:.2f} %, {seen} better than guessing "
                    f"({chance * 100:.2f} %): matching it proves little"
                )
    return lines


def _by_chance(runs: Sequence[Measured], figure: str) -> float:
    """Return half the width of the 95 % interval of a mean over images; 0 where single images were not kept."""
    seen = [bits for run in runs if (bits := run.bits(figure)) is not None]
    mean = _mean(runs, figure)
    return 1.96 * math.sqrt(mean * (1 - mean) / len(seen[0])) if seen else 0.0


def few(samples: Mapping[str, int], seeds: int) -> list[str]:
    """Return one line for each thing of which a verdict has too little to say much.

    Args:
        samples: images of each split.
        seeds: how many runs the verdict rests on.
    """
    lines = [
        f"{samples[split]} {split} images are few (fewer than {least}): one is {100 / samples[split]:.2f} points, and "
        "a few are chance"
        for split, least in FEW.items()
        if samples[split] < least
    ]
    if seeds == 1:
        lines.append("one seed: the intervals are over images alone, and say nothing of other runs")
    elif seeds == 2:
        lines.append("two seeds: their spread is hardly known, which makes the intervals wide; three tell far more")
    return lines


def rule_of(text: str, seeds: int, dense: Runs, classes: int, *, looks: int = 1) -> Rule:
    """Return the rule that a plan names; a margin is chosen by what the dense runs tell, unless it is given.

    Args:
        text: as plans write it, see `rules`.
        seeds: how many runs the verdict will rest on.
        dense: on test images, under both regimes.
        classes: of the dataset.
        looks: how often the verdict may be looked at; the intervals allow for it (Bonferroni).

    Raises:
        ConfigError: there is no such rule, or it needs more seeds, or the outcome of every image.
    """
    rule = parse_rule(text, seeds)
    if isinstance(rule, Tolerance):
        return rule
    level, guessing = 1 - (1 - LEVEL) / looks, 1 / classes
    if rule is not None:
        return replace(rule, level=level, guessing=guessing)
    telling = [
        bits_of(dense[regime], figure)
        for regime in REGIMES
        for figure in FIGURES
        if _mean(dense[regime], figure) > guessing
    ]
    return chosen(telling, seeds, level, guessing)


def judge(dense: Runs, ticket: Runs, rule: Rule) -> dict[str, Any]:
    """Decide whether a ticket is a double win on the split on which both were measured.

    Args:
        dense: every run, under both regimes; of other seeds too.
        ticket: every run; of one regime where the figures of that settled the matter.
        rule: by which.

    Returns:
        `double_win`, false unless both regimes were run, and `figures`, one row each with dense and ticket means, their
        difference with its interval, `tolerance` (how much worse was allowed), `slack` and `matching`. By a margin
        also `answer`, of the whole and of each figure, and `slack`, the smallest of a figure that counts (negative
        where one is not seen to match). By a tolerance `margin` is that smallest slack, and an interval is over
        images alone, null where single images were not kept.

    Raises:
        ConfigError: the rule needs the outcome of every image, and single images were not kept.
    """
    return _by_margin(dense, ticket, rule) if isinstance(rule, Margin) else _by_tolerance(dense, ticket, rule)


def differences(dense: Runs, ticket: Runs) -> Iterator[tuple[Regime, str, Difference]]:
    """Yield the paired difference of each figure that was measured.

    Raises:
        ConfigError: single images were not kept, or dense was not run with a seed of the ticket's.
    """
    for regime in _run(ticket):
        beside = alike(dense[regime], ticket[regime])
        for figure in FIGURES:
            yield regime, figure, difference(bits_of(ticket[regime], figure), bits_of(beside, figure))


def alike(dense: Sequence[Measured], ticket: Sequence[Measured]) -> list[Measured]:
    """Return the dense runs with the seeds of a ticket's, in their order."""
    of_seed = {run.seed: run for run in dense}
    lacking = [run.seed for run in ticket if run.seed not in of_seed]
    if lacking:
        raise ConfigError(f"dense was not run with seed {lacking[0]}, so there is nothing to pair the ticket's with")
    return [of_seed[run.seed] for run in ticket]


def bits_of(runs: Sequence[Measured], figure: str) -> list[Bits]:
    """Return which images were right in each run, bool [n].

    Raises:
        ConfigError: single images were not kept.
    """
    known = [bits for run in runs if (bits := run.bits(figure)) is not None]
    if len(known) < len(runs):
        raise ConfigError("the margin needs the outcome of every image; use --tolerance std or points:X")
    return known


def _by_margin(dense: Runs, ticket: Runs, rule: Margin) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for regime, figure, seen in differences(dense, ticket):
        beside = _mean(alike(dense[regime], ticket[regime]), figure)
        low, high = seen.interval(rule.level)
        # An interval must lie above the bound, or below it: one that touches it is neither.
        sides = {MATCHING: low + rule.points > _ROUNDING, WORSE: high + rule.points < -_ROUNDING}
        answer = next((side for side, lies in sides.items() if lies), UNDECIDED)
        rows.append(
            {
                "regime": regime,
                "figure": figure,
                "dense": beside,
                "ticket": _mean(ticket[regime], figure),
                "difference": seen.mean,
                "interval": [low, high],
                "tolerance": rule.points,
                "slack": low + rule.points,
                "matching": answer == MATCHING,
                "answer": answer if informative(dense, regime, figure, rule) else UNINFORMATIVE,
            }
        )
    counted = [row for row in rows if row["answer"] != UNINFORMATIVE]
    answers = {row["answer"] for row in counted}
    whole = len(rows) == len(REGIMES) * len(FIGURES)
    answer = NO_DOUBLE_WIN if WORSE in answers else DOUBLE_WIN if whole and answers == {MATCHING} else UNDECIDED
    return {
        "double_win": answer == DOUBLE_WIN,
        "answer": answer,
        "slack": min((row["slack"] for row in counted), default=-1.0),
        "figures": rows,
    }


def informative(dense: Runs, regime: Regime, figure: str, rule: Margin) -> bool:
    """Whether dense does better than guessing, so that matching it means something."""
    return _mean(dense[regime], figure) > rule.guessing


def hopeless(dense: Runs, ticket: Runs, rule: Margin, most: int) -> bool:
    """Whether some figure would stay undecided with so many seeds, if the differences stay where they are."""
    seen = list(_undecided(dense, ticket, rule))
    return bool(seen) and not within_seeds(seen, rule, most)


def would_decide(dense: Runs, ticket: Runs, rule: Margin) -> str:
    """Return in words what would decide the figures that are undecided; nothing where there is none."""
    seen = list(_undecided(dense, ticket, rule))
    return deciding(seen, rule) if seen else ""


def _undecided(dense: Runs, ticket: Runs, rule: Margin) -> Iterator[Difference]:
    answers = {(row["regime"], row["figure"]): row["answer"] for row in judge(dense, ticket, rule)["figures"]}
    return (seen for regime, figure, seen in differences(dense, ticket) if answers[regime, figure] == UNDECIDED)


def _by_tolerance(dense: Runs, ticket: Runs, tolerance: Tolerance) -> dict[str, Any]:
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


def compare(dense: Splits, ticket: Splits, rule: Rule) -> dict[str, Any]:
    """Return the row of a ticket: summary and decision on the test split, and on `validation` inside it."""
    held_out = summarise(ticket["validation"]) | judge(dense["validation"], ticket["validation"], rule)
    return summarise(ticket["test"]) | judge(dense["test"], ticket["test"], rule) | {"validation": held_out}


def level_name(level: int) -> str:
    """Return the name that a level's transfers have in records."""
    return f"level-{level:02d}"


def control_name(method: str, level: int) -> str:
    """Return the name that the transfers of a control have in records."""
    return f"{method}-{level_name(level)}"
