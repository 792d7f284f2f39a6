"""Which levels of a ladder to try: all, or as few as the answer needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lottery_hub.judging.verdict import pick, undecided


def judge_levels(
    levels: int,
    scan: str,
    try_levels: Callable[[Sequence[int], bool], list[dict[str, Any]]],
    together: int = 1,
    only: int | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Try levels and return (rows in order of level, the row that `verdict.pick` takes).

    `all` tries each, under both regimes. `bisect` does what the answer needs: it assumes that below a level that wins
    on validation every level does, and divides the range of candidates by the levels it tries; and it rejects a
    level that fails under standard transfer without its adversarial one, unless it might be picked all the same.

    Args:
        levels: how many there are.
        scan: `all` or `bisect`.
        try_levels: given levels and whether their rows must be whole, returns the rows.
        together: how many levels are tried at a time; one fewer at first, beside dense.
        only: the one level to try, whatever the scan.
    """
    if only is not None:
        rows = try_levels([only], True)
        return rows, rows[0]
    if scan == "all":
        rows = try_levels(range(1, levels + 1), True)
        return rows, pick(rows)
    tried: dict[int, dict[str, Any]] = {}
    low, high = 0, levels
    width = max(1, together - 1)
    while low < high:
        probes = spread(low, high, width)
        tried |= zip(probes, try_levels(probes, False), strict=True)
        low = max((level for level in probes if tried[level]["validation"]["double_win"]), default=low)
        high = min((level for level in probes if level > low), default=high + 1) - 1
        width = together
    rows = [tried[level] for level in sorted(tried)]
    while (row := undecided(rows)) is not None:
        rows[rows.index(row)] = try_levels([row["level"]], True)[0]
    return rows, pick(rows)


def spread(low: int, high: int, count: int) -> list[int]:
    """Return levels above `low`, up to `high`, that divide what the last win can be into parts as equal as can be."""
    count = min(count, high - low)
    return [low + place * (high - low + 1) // (count + 1) for place in range(1, count + 1)]
