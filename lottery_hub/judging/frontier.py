"""Up to which sparsity are a ladder's tickets no worse than dense? What was measured at one level informs all.

A sparser level of nested masks is taken to be no better than a denser one. Figure by figure, the differences are
fitted by the nearest curve that never rises with sparsity (isotonic regression), and where that curve falls below
minus the margin is the figure's frontier; the frontier of the ladder is the lowest of them. Between two levels it is
interpolated in the logarithm of density, in which the levels of a ladder are equally far apart; dense is no worse
than itself.

Its interval is that of a bootstrap, the lowest of the figures' own: images are drawn with all their outcomes, at every
level and in every figure, so that what moves together moves together; each deviation is stretched to the width, and to
Student's tail, of its own interval over seeds and images (see `intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from lottery_hub.judging.intervals import Difference
from lottery_hub.robustness.outcomes import LEVEL, Floats

RESAMPLES = 1000
BLOCKS = 200  # of images that are drawn together; with more, drawing takes longer and tells no more
INSIDE = 0.9  # share of resamples in which a level must lie inside to be picked
# Shares of counts, subtracted and compared.
_ROUNDING = 1e-9
_TAILS = np.linspace(0, 6, 601)


@dataclass(frozen=True, eq=False)
class Compared:
    """One figure of one level against dense.

    Attributes:
        difference: ticket minus dense.
        images: the same of every image, the mean over seeds, float [n].
    """

    difference: Difference
    images: Floats


@dataclass(frozen=True)
class Frontier:
    """Where the tickets of a ladder become worse than the margin.

    Attributes:
        sparsity: where the fitted differences cross; the sparsest level tried where they do not.
        interval: 95 %, of sparsities; its upper end is 1 where the truth may lie beyond all that was tried.
        beyond: whether no level that was tried lies outside.
        inside: level → share of resamples in which it is within the margin.
        depths: where it lies in each resample, as -log(density), float [resamples]; infinite beyond all that was tried.
        last: the depth of the sparsest level that was tried.
    """

    sparsity: float
    interval: tuple[float, float]
    beyond: bool
    inside: Mapping[int, float]
    depths: Floats = field(repr=False, compare=False)
    last: float = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"sparsity": self.sparsity, "interval": list(self.interval), "beyond": self.beyond}


def frontier_of(
    levels: Mapping[int, Mapping[Any, Compared]], sparsities: Mapping[int, float], margin: float
) -> Frontier:
    """Fit what was measured, and return the frontier.

    Args:
        levels: level → its figures against dense; those that were measured and tell something.
        sparsities: of these levels.
        margin: as a share of 1.
    """
    order = sorted(levels)
    depths = {level: -np.log1p(-sparsities[level]) for level in order}
    figures = dict.fromkeys(figure for level in order for figure in levels[level])
    if not figures:  # nothing is known of any level
        unknown = np.full(RESAMPLES, np.inf)
        return Frontier(0.0, (0.0, 1.0), True, dict.fromkeys(order, 0.0), unknown, float(depths[order[-1]]))
    draws, beyond = _draws(), (1 - LEVEL) / 2
    point, drawn = np.inf, np.full(RESAMPLES, np.inf)
    lows: list[float] = []
    highs: list[float] = []
    for figure in figures:
        tried = [level for level in order if figure in levels[level]]
        seen = [levels[level][figure] for level in tried]
        depth = np.array([depths[level] for level in tried])
        weights = np.array([float(each.difference.seeds) for each in seen])
        means = np.array([each.difference.mean for each in seen])
        values = means + np.stack([_deviations(each, draws) for each in seen], axis=-1)
        point = min(point, float(_crossing(falling(means, weights), depth, margin)))
        own = _crossing(falling(values, weights), depth, margin)
        # The lowest of several is lower than each: where they lie together, a quantile of it would be too low. Nothing
        # is interpolated between draws, of which some are infinite.
        low, high = np.quantile(own, [beyond, 1 - beyond / len(figures)], method="inverted_cdf")
        lows.append(float(low))
        highs.append(float(high))
        drawn = np.minimum(drawn, own)
    inside = {level: float((drawn >= depths[level] - _ROUNDING).mean()) for level in order}
    last = depths[order[-1]]
    ends = [float(-np.expm1(-depth)) for depth in (min(point, last), min(*lows, last), min(highs))]
    return Frontier(ends[0], (ends[1], ends[2]), not np.isfinite(point), inside, drawn, float(last))


@cache
def _draws() -> Floats:
    """Return a normal number for every block of every resample; numpy promises that these never change."""
    return np.random.RandomState(0).standard_normal((RESAMPLES, BLOCKS))


def falling(values: Floats, weights: Floats) -> Floats:
    """Return the nearest values that never rise, along the last axis: isotonic regression by its min-max formula.

    Args:
        values: float [..., levels].
        weights: float [levels].

    Source: Robertson, Wright & Dykstra 1988, Order Restricted Statistical Inference, 1.4.
    """
    count = len(weights)
    sums = np.cumsum(np.concatenate([np.zeros((*values.shape[:-1], 1)), values * weights], axis=-1), axis=-1)
    heavy = np.cumsum(np.concatenate([[0.0], weights]))
    first, last = np.arange(count)[:, None], np.arange(count)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (sums[..., last + 1] - sums[..., first]) / (heavy[last + 1] - heavy[first])
    means = np.where(last >= first, means, -np.inf)  # [..., from, to]
    highest = np.maximum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    fitted: Floats = np.where(last >= first, highest, np.inf).min(axis=-2)
    return fitted


def _crossing(fitted: Floats, depth: Floats, margin: float) -> Floats:
    """Return the depth at which falling values [..., levels] reach minus the margin; infinity where none does."""
    within = (fitted >= -margin - _ROUNDING).sum(axis=-1)
    depth, fitted = np.concatenate([[0.0], depth]), np.concatenate([np.zeros((*fitted.shape[:-1], 1)), fitted], axis=-1)
    after = np.minimum(within + 1, len(depth) - 1)
    above, below = (np.take_along_axis(fitted, at[..., None], axis=-1)[..., 0] for at in (within, after))
    fallen = np.clip((above + margin) / np.maximum(above - below, _ROUNDING), 0.0, 1.0)
    met: Floats = depth[within] + fallen * (depth[after] - depth[within])
    return np.where(within == len(depth) - 1, np.inf, met)


def _deviations(seen: Compared, draws: Floats) -> Floats:
    """Return how far chance moves a difference in each resample, float [resamples]."""
    centred = seen.images - seen.images.mean()
    blocks = min(draws.shape[1], len(centred))
    sums = np.bincount(np.arange(len(centred)) % blocks, weights=centred)
    length = float(np.sqrt((sums**2).sum()))
    # Where no image differs, nothing moves together with anything.
    normal = draws[:, :blocks] @ (sums / length if length > 0 else np.full(blocks, blocks**-0.5))
    chance, squares = seen.difference.chance, _TAILS**2
    widths = squares * (chance.by_seeds + chance.by_images)
    if chance.seeds > 1:
        widths = widths + (stdtrit(chance.seeds - 1, ndtr(_TAILS)) ** 2 - squares) * chance.stretch
    moved: Floats = np.sign(normal) * np.interp(np.abs(normal), _TAILS, np.sqrt(widths))
    return moved
