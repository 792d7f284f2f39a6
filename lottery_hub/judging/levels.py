"""Which levels of a ladder to try: all, or as few as the answer needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lottery_hub.judging.choosing import is_whole, near, pick, unsettled, wins

Rows = list[dict[str, Any]]


def judge_levels(
    levels: int,
    scan: str,
    try_levels: Callable[[Sequence[int], bool], Rows],
    together: int = 1,
    only: int | None = None,
    weigh: Callable[[Rows], None] = lambda rows: None,
    frontier: bool = True,
    ahead: Callable[[int, int], None] = lambda levels, rejected: None,
) -> tuple[Rows, dict[str, Any]]:
    """Try levels and return (rows in order of level, the row that `choosing.pick` takes).

    `all` tries each, under both regimes. `bisect` asks which is the sparsest that may be picked, and where the frontier
    is: between the sparsest level that is inside by all that was measured so far and the next that was tried, it
    divides what is between them by the levels it tries. It rejects a level that fails under standard transfer without
    its adversarial one, unless it might be picked all the same.

    Args:
        levels: how many there are.
        scan: `all` or `bisect`.
        try_levels: given levels and whether their rows must be whole, returns the rows.
        together: how many levels are tried at a time; one fewer at first, beside dense.
        only: the one level to try, whatever the scan.
        weigh: told all rows so far, writes into each what all of them tell of it; see `choosing.weigh`.
        frontier: whether `bisect` looks first for the likeliest frontier, which steadies the pick and may lie far above
            it; with few images that takes twice as many levels.
        ahead: told before each try how many levels are tried in all, at most, and how many were rejected so far.
    """
    if only is not None:
        return _weighed(try_levels([only], True), weigh)
    if scan == "all":
        return _weighed(try_levels(range(1, levels + 1), True), weigh)
    tried: dict[int, dict[str, Any]] = {}

    def add(asked: Sequence[int], whole: bool) -> Rows:
        tried.update(zip(asked, try_levels(asked, whole), strict=True))
        rows = [tried[level] for level in sorted(tried)]
        weigh(rows)
        return rows

    rows: Rows = []
    width = max(1, together - 1)
    while True:
        ahead(len(tried) + most_left(tried, levels, width, frontier), sum(not is_whole(row) for row in rows))
        if (gap := _between(tried, levels, (near, wins) if frontier else (wins,))) is not None:
            rows = add(spread(*gap, width), False)
            width = max(1, together)
        elif (row := unsettled(rows)) is not None:
            rows = add([row["level"]], True)
        else:
            return rows, pick(rows)


def most_left(tried: dict[int, dict[str, Any]], levels: int, width: int = 1, frontier: bool = True) -> int:
    """Return how many levels bisection tries yet, at most, unless what is tried later changes what was thought before.

    Args:
        tried: level → its row, as far as it went.
        levels: how many there are.
        width: how many are tried at a time.
        frontier: as of `judge_levels`.
    """

    def rounds(gap: int) -> int:
        return min(gap, width * math.ceil(math.log(gap + 1, width + 1) - 1e-9))

    first = near if frontier else wins
    low = max((level for level, row in tried.items() if first(row)), default=0)
    high = min((level for level in tried if level > low), default=levels + 1) - 1
    between = [0]  # what may lie above the level that may be picked surely, when the first question is answered
    if frontier and all("inside" in row["validation"] for row in tried.values()):
        sure = max((level for level, row in tried.items() if wins(row)), default=0)
        above = min((level for level in tried if sure < level <= low), default=sure + 1)
        between += [above - sure - 1, (high - low) // 2]
    return min(rounds(high - low) + rounds(max(between)), levels - len(tried))


def _weighed(rows: Rows, weigh: Callable[[Rows], None]) -> tuple[Rows, dict[str, Any]]:
    weigh(rows)
    return rows, pick(rows)


def _between(
    tried: dict[int, dict[str, Any]], levels: int, ways: Sequence[Callable[[dict[str, Any]], bool]]
) -> tuple[int, int] | None:
    """Return (low, high): the last level inside is `low`, or one of those above it up to `high`, none of them tried.

    Inside in one of these ways, and where nothing is left between those, in the next. None where nothing is at all.
    """
    for inside in ways:
        low = max((level for level, row in tried.items() if inside(row)), default=0)
        high = min((level for level in tried if level > low), default=levels + 1) - 1
        if low < high:
            return low, high
    return None


def spread(low: int, high: int, count: int) -> list[int]:
    """Return levels above `low`, up to `high`, that divide what the last win can be into parts as equal as can be."""
    count = min(count, high - low)
    return [low + place * (high - low + 1) // (count + 1) for place in range(1, count + 1)]
