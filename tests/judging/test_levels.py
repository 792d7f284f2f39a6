"""Which levels are tried: few where that is enough, and none less than the answer needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery_hub.judging.choosing import unsettled
from lottery_hub.judging.levels import judge_levels, most_left
from lottery_hub.settings.config import REGIMES


def row_of(level: int, slack: dict[str, float], test: bool = False) -> dict[str, Any]:
    """The row of a level with one figure a regime: how far it is from failing on validation."""
    figures = [{"regime": regime, "matching": value >= 0} for regime, value in slack.items()]
    wins = len(slack) == 2 and all(figure["matching"] for figure in figures)
    validation = {"double_win": wins, "margin": min(slack.values()), "figures": figures}
    return {"level": level, "double_win": test, "validation": validation} | {regime: {} for regime in slack}


def each(try_level: Callable[[int, bool], dict[str, Any]]) -> Callable[[Sequence[int], bool], list[dict[str, Any]]]:
    """Try levels one after the other."""
    return lambda levels, whole: [try_level(level, whole) for level in levels]


def scanned(pattern: str, scan: str, together: int = 1) -> tuple[list[int], list[int], int | None]:
    """Return (levels in the order they were tried, levels of the rows, winner); "1" at place k: level k+1 wins.

    Wins are those on validation; the test split says the contrary throughout.
    """
    tried: list[int] = []

    def try_level(level: int, whole: bool) -> dict[str, Any]:
        tried.append(level)
        wins = pattern[level - 1] == "1"
        return row_of(level, {"standard": 0.02, "adversarial": 0.01 if wins else -0.01 * level}, test=not wins)

    rows, picked = judge_levels(len(pattern), scan, each(try_level), together)
    return tried, [row["level"] for row in rows], picked["level"] if picked["validation"]["double_win"] else None


@pytest.mark.parametrize(
    ("pattern", "tried", "winner"),
    [
        ("1111111", [4, 6, 7], 7),
        ("1110000", [4, 2, 3], 3),
        ("1000000", [4, 2, 1], 1),
        ("0000000", [4, 2, 1], None),
        ("1111110", [4, 6, 7], 6),
        ("1", [1], 1),
        ("0", [1], None),
        ("10", [1, 2], 1),
        ("00", [1], None),
        # The assumption fails here: level 7 wins, but nothing above level 4 is tried.
        ("1110001", [4, 2, 3], 3),
    ],
)
def test_bisect_halves_the_candidates(pattern: str, tried: list[int], winner: int | None) -> None:
    assert scanned(pattern, "bisect") == (tried, sorted(tried), winner)


@pytest.mark.parametrize(
    ("pattern", "together", "tried", "winner"),
    [
        # Dense has the other place at first.
        ("11100000000000", 2, [7, 2, 4, 3], 3),
        ("11111111111111", 2, [7, 9, 12, 13, 14], 14),
        ("00000000000000", 2, [7, 2, 4, 1], None),
        ("1110000", 3, [2, 5, 3, 4], 3),
        ("10", 9, [1, 2], 1),
        # The assumption fails here: level 4 wins though level 2 does not.
        ("00011010000000", 2, [7, 9, 12, 8], 7),
        ("00010000000000", 2, [7, 2, 4, 5, 6], 4),
    ],
)
def test_several_levels_at_a_time_divide_the_candidates(
    pattern: str, together: int, tried: list[int], winner: int | None
) -> None:
    assert scanned(pattern, "bisect", together) == (tried, sorted(tried), winner)


@given(wins=st.integers(0, 19), losses=st.integers(0, 19), together=st.integers(1, 8))
def test_however_many_at_a_time_the_last_win_is_found(wins: int, losses: int, together: int) -> None:
    if wins + losses:
        tried, _, winner = scanned("1" * wins + "0" * losses, "bisect", together)
        assert winner == (wins or None)
        assert len(tried) == len(set(tried))


@pytest.mark.parametrize(("pattern", "winner"), [("1110001", 7), ("0100", 2), ("000", None), ("1", 1)])
def test_all_tries_every_level_and_takes_the_sparsest(pattern: str, winner: int | None) -> None:
    levels = list(range(1, len(pattern) + 1))
    assert scanned(pattern, "all") == (levels, levels, winner)


def test_without_a_win_on_validation_the_smallest_shortfall_there_is_picked() -> None:
    shortfalls = {1: -0.03, 2: -0.01, 3: -0.02}

    def try_level(level: int, whole: bool) -> dict[str, Any]:
        return row_of(level, {"standard": 0.0, "adversarial": shortfalls[level]}, test=level == 3)

    _, picked = judge_levels(3, "all", each(try_level))
    assert picked["level"] == 2


def test_bisect_finds_the_last_win_of_every_monotone_pattern_in_few_tries() -> None:
    for wins in range(20):
        tried, _, winner = scanned("1" * wins + "0" * (19 - wins), "bisect")
        assert winner == (wins or None)
        assert len(tried) <= 5  # 20 outcomes: log2(20) rounded up


SLACK = st.integers(-5, 5).map(lambda points: points / 100)


@given(slacks=st.lists(st.tuples(SLACK, SLACK), min_size=1, max_size=19))
def test_rejecting_a_level_early_changes_neither_verdict_nor_shortfall(slacks: list[tuple[float, float]]) -> None:
    runs: list[tuple[int, str]] = []

    def try_level(level: int, whole: bool, reject: bool) -> dict[str, Any]:
        standard, adversarial = slacks[level - 1]
        slack = {"standard": standard}
        if standard >= 0 or whole or not reject:
            slack["adversarial"] = adversarial
        runs.extend((level, regime) for regime in slack)
        return row_of(level, slack)

    _, expected = judge_levels(len(slacks), "bisect", each(partial(try_level, reject=False)))
    wholly = len(set(runs))
    runs.clear()
    rows, picked = judge_levels(len(slacks), "bisect", each(partial(try_level, reject=True)))
    assert picked["validation"]["double_win"] == expected["validation"]["double_win"]
    assert picked["validation"]["margin"] == expected["validation"]["margin"]
    assert picked.keys() == expected.keys(), "a level that is reported was run under both regimes"
    assert len(set(runs)) <= wholly
    assert unsettled(rows) is None


def test_a_level_that_fails_under_standard_transfer_needs_no_adversarial_one() -> None:
    slacks = {4: {"standard": 0.0, "adversarial": 0.0}, 6: {"standard": -0.01}, 5: {"standard": -0.02}}
    rows, picked = judge_levels(7, "bisect", each(lambda level, whole: row_of(level, slacks[level])))
    assert [row["level"] for row in rows] == [4, 5, 6]
    assert picked["level"] == 4


def test_bisect_looks_for_the_likeliest_frontier_too_unless_it_is_only_asked_what_may_be_picked() -> None:
    shares = {1: 1.0, 2: 0.95, 3: 0.8, 4: 0.7, 5: 0.6, 6: 0.55, 7: 0.1}  # how surely each level lies inside
    rows = each(lambda level, whole: {"level": level, "validation": {"inside": shares[level]}} | dict.fromkeys(REGIMES))
    for frontier, asked in ((True, [2, 3, 4, 6, 7]), (False, [2, 3, 4])):
        tried, picked = judge_levels(7, "bisect", rows, frontier=frontier)
        assert ([row["level"] for row in tried], picked["level"]) == (asked, 2)


def test_however_bad_all_levels_are_one_is_run_wholly_and_picked() -> None:
    def try_level(level: int, whole: bool) -> dict[str, Any]:  # the wide interval of few images begins below minus one
        return row_of(level, {"standard": -1.5} | ({"adversarial": -2.0} if whole else {}))

    _, picked = judge_levels(1, "bisect", each(try_level))
    assert (picked["level"], picked["validation"]["margin"]) == (1, -2.0)


def test_where_no_level_wins_those_that_might_be_picked_are_run_wholly_after_all() -> None:
    slacks = {1: (-0.02, -0.05), 2: (-0.01, -0.03), 4: (-0.04, -0.04)}
    asked = []

    def try_level(level: int, whole: bool) -> dict[str, Any]:
        asked.append((level, whole))
        standard, adversarial = slacks[level]
        return row_of(level, {"standard": standard, "adversarial": adversarial} if whole else {"standard": standard})

    rows, picked = judge_levels(7, "bisect", each(try_level))
    assert picked["level"] == 2
    # Level 2 is 3 points short, so level 1 with at least 2 may be nearer, and level 4 with at least 4 is not.
    assert asked == [(4, False), (2, False), (1, False), (2, True), (1, True)]
    assert [len(row["validation"]["figures"]) for row in rows] == [2, 2, 1]


def inside(level: int, sure: int, likely: int) -> dict[str, Any]:
    """Return the row of a level where those up to `sure` may be picked, and those up to `likely` are near."""
    share = 1.0 if level <= sure else 0.6 if level <= likely else 0.1
    return {"level": level, "standard": {}, "adversarial": {}, "validation": {"inside": share, "slack": -level}}


def test_how_many_levels_bisection_tries_yet_is_worked_by_hand() -> None:
    assert most_left({}, 14, frontier=False) == 4  # 14, 7, 3 and 1 are left
    assert most_left({}, 14) == 4 + 3  # and then the seven below the eighth
    assert most_left({8: inside(8, 0, 8)}, 14) == 3 + 3
    assert most_left({8: inside(8, 8, 8), 12: inside(12, 8, 8)}, 14) == 2 + 1
    assert most_left({8: inside(8, 8, 8), 12: inside(12, 8, 8)}, 14, frontier=False) == 2
    assert most_left({}, 14, width=2) == 6 + 4


@pytest.mark.parametrize("frontier", [True, False])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_never_are_more_levels_tried_than_was_told(together: int, frontier: bool) -> None:
    for likely in range(10):
        for sure in range(likely + 1):
            told: list[int] = []
            rows, _ = judge_levels(
                9,
                "bisect",
                lambda levels, _, sure=sure, likely=likely: [inside(level, sure, likely) for level in levels],
                together,
                frontier=frontier,
                ahead=lambda levels, rejected, told=told: told.append(levels),
            )
            assert min(told) >= len(rows), (sure, likely)
            assert told[-1] == len(rows)
