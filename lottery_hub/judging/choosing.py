"""Which level is picked, by validation images alone, and where the frontier is.

By a margin, it is the sparsest level that lies inside the frontier of the validation images with nine chances in ten;
by a tolerance, the sparsest that is a double win there. Where there is none, it is the level with the smallest
shortfall. What its test figures say is then said of one level, not of the best of many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lottery_hub.judging.frontier import INSIDE, Compared, Frontier, frontier_of
from lottery_hub.judging.margins import Margin
from lottery_hub.judging.rules import Rule
from lottery_hub.judging.verdict import Runs, Splits, alike, bits_of, differences, informative
from lottery_hub.settings.config import REGIMES


def locate(
    dense: Splits,
    tried: Mapping[int, Splits],
    sparsities: Mapping[int, float],
    rule: Rule,
    splits: Iterable[str] = ("test", "validation"),
) -> dict[str, Frontier]:
    """Return the frontier on each of these splits; none by a tolerance, which has no intervals to fit.

    Args:
        dense: every run.
        tried: level → its runs.
        sparsities: of these levels.
        rule: by which.
        splits: of them.
    """
    if not isinstance(rule, Margin):
        return {}
    return {split: _located(dense[split], tried, split, sparsities, rule) for split in splits}


def weigh(rows: Sequence[dict[str, Any]], found: Mapping[str, Frontier]) -> None:
    """Write into the rows in what share of the resamples each level lies inside the frontier on validation images."""
    if found:
        for row in rows:
            row["validation"]["inside"] = found["validation"].inside[row["level"]]


def _located(
    dense: Runs, tried: Mapping[int, Splits], split: str, sparsities: Mapping[int, float], rule: Margin
) -> Frontier:
    levels: dict[int, dict[Any, Compared]] = {}
    for level, splits in tried.items():
        levels[level] = {}
        for regime, figure, seen in differences(dense, splits[split]):
            if not informative(dense, regime, figure, rule):
                continue
            runs = splits[split][regime]
            ticket, beside = (bits_of(side, figure) for side in (runs, alike(dense[regime], runs)))
            images = np.stack(ticket).sum(0, dtype=np.float64) - np.stack(beside).sum(0, dtype=np.float64)
            levels[level][regime, figure] = Compared(seen, images / len(runs))
    return frontier_of(levels, sparsities, rule.points)


def pick(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the level that is reported, by the validation split alone.

    Args:
        rows: of the levels tried, in order. Those that were rejected are not picked.
    """
    winners = [row for row in rows if wins(row) and is_whole(row)]
    return winners[-1] if winners else max(filter(is_whole, rows), key=_slack)


def wins(row: Mapping[str, Any]) -> bool:
    """Whether a level may be picked, by the validation images of the regimes run so far."""
    held_out = row["validation"]
    return bool(held_out["inside"] >= INSIDE if "inside" in held_out else held_out["double_win"])


def near(row: Mapping[str, Any]) -> bool:
    """Whether a level lies inside the frontier by what is most likely."""
    held_out = row["validation"]
    return bool(held_out["inside"] >= 0.5 if "inside" in held_out else held_out["double_win"])


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a level was run under both regimes; else it was rejected after the first."""
    return all(regime in row for regime in REGIMES)


def is_rejected(row: Mapping[str, Any]) -> bool:
    """Whether the regimes run so far settle that a level is not picked."""
    held_out = row["validation"]
    return not wins(row) if "inside" in held_out else not all(figure["matching"] for figure in held_out["figures"])


def unsettled(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the rejected level that must be run under both regimes before one can be picked, or None.

    What was measured since may have brought it inside. And where no level wins, more figures can only lower a slack: a
    rejected level can be the one with the smallest shortfall only if its slack so far is no smaller than that of every
    level which was run wholly.
    """
    inside = [row for row in rows if not is_whole(row) and "inside" in row["validation"] and wins(row)]
    if inside:
        return inside[-1]
    if any(wins(row) for row in rows):
        return None
    best = max(map(_slack, filter(is_whole, rows)), default=-math.inf)
    return max((row for row in rows if not is_whole(row) and _slack(row) >= best), key=_slack, default=None)


def _slack(row: Mapping[str, Any]) -> float:
    held_out = row["validation"]
    slack: float = held_out["slack"] if "slack" in held_out else held_out["margin"]
    return slack
