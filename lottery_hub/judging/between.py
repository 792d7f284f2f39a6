"""How far apart the frontiers of two ladders are: of two kinds of pre-training, on the same images.

Both are taken at one margin, the larger of the two, and within what was tried of both. The resamples of a frontier
draw the same images for both (see `frontier`), so that what moves together moves together here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lottery_hub.judging.choosing import locate
from lottery_hub.judging.deciding import basis_of
from lottery_hub.judging.frontier import Frontier
from lottery_hub.judging.margins import Margin
from lottery_hub.judging.verdict import Splits, level_name
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.outcomes import LEVEL


@dataclass(frozen=True)
class Apart:
    """How much sparser the frontier of one ladder is than that of another, in shares of 1, with its 95 % interval."""

    difference: float
    low: float
    high: float


def frontiers_apart(one: Ticket, other: Ticket) -> Apart | None:
    """Return how much sparser the frontier of `other` is than that of `one`, on test images.

    Args:
        one, other: judged tickets, on the same images.

    Returns:
        None where one was judged by a rule that knows no frontier.

    Raises:
        LotteryHubError: the records lack what a frontier rests on.
    """
    bases = [basis_of(ticket) for ticket in (one, other)]
    rules = [basis.rule for basis in bases]
    margins = [rule for rule in rules if isinstance(rule, Margin)]
    if len(margins) < len(rules):
        return None
    wider = max(rule.points for rule in margins)
    found = []
    for ticket, basis, rule in zip((one, other), bases, margins, strict=True):
        sparsities: dict[int, float] = {row["level"]: row["sparsity"] for row in ticket.records["levels"]}
        tried: dict[int, Splits] = {level: basis.picking(level_name(level)) for level in sparsities}
        found.append(locate(basis.dense, tried, sparsities, replace(rule, points=wider), ["test"])["test"])
    return apart(found[0], found[1])


def apart(one: Frontier, other: Frontier) -> Apart:
    """Return how much sparser one frontier is than another, within what was tried of both."""
    last = min(one.last, other.last)
    depths = [np.minimum(each.depths, last) for each in (one, other)]
    drawn = np.expm1(-depths[0]) - np.expm1(-depths[1])
    beyond = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [beyond, 1 - beyond], method="inverted_cdf")
    most = float(-np.expm1(-last))
    return Apart(min(other.sparsity, most) - min(one.sparsity, most), float(low), float(high))
