"""What a whole verdict says, and on which seeds, on made-up runs."""

from __future__ import annotations

import numpy as np
import pytest

from lottery_hub.judging.deciding import Basis, decide, frontier_of, tells_nothing
from lottery_hub.judging.rules import confirming
from lottery_hub.judging.verdict import Measured, Splits, level_name
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings.config import REGIMES
from lottery_hub.settings.plans import FindPlan

IMAGES = 2000
SPARSITIES = {2: 0.36, 5: 0.672, 8: 0.832}


def plan(**others) -> FindPlan:
    return FindPlan.preset(train_images=1000, confirm=0, **others)


def runs(worse: float, seeds: range) -> Splits:
    """Runs that are so much worse in all figures; those of a seed share what chance does."""
    found: Splits = {split: {regime: [] for regime in REGIMES} for split in ("test", "validation")}
    for split, count in (("test", IMAGES), ("validation", IMAGES // 2)):
        for place, regime in enumerate(REGIMES):
            for seed in seeds:
                hard = np.random.default_rng([seed, place, count]).random(count)
                clean, robust = hard < 0.9 - worse, hard < 0.5 - worse
                measured = Measured(seed, clean.mean(), robust.mean(), Outcomes(clean, robust))
                found[split][regime].append(measured)
    return found


def basis(worse: dict[int, float], run: int, **settings) -> Basis:
    """A find whose levels are so much worse than dense; every level was run with so many seeds."""
    known = {level_name(0): 0.0} | {level_name(level): each for level, each in worse.items()}
    samples = {"test": IMAGES, "validation": IMAGES // 2}
    return Basis(plan(**settings), 10, samples, lambda name: runs(known[name], range(run)))


def test_the_sparsest_level_inside_is_picked_and_the_frontier_lies_behind_it() -> None:
    told = decide(basis({2: 0.0, 5: 0.002, 8: 0.05}, 3, seeds=3, tolerance="margin:2"), SPARSITIES, {})
    assert (told["level"], told["answer"], told["double_win"]) == (5, "double win", True)
    assert SPARSITIES[5] < told["frontier"]["sparsity"] < SPARSITIES[8]
    assert [row["answer"] for row in told["levels"]] == ["double win", "double win", "no double win"]
    assert told["levels"][1]["validation"]["inside"] > 0.9 > told["levels"][2]["validation"]["inside"]
    assert told["would_decide"] == ""


def test_the_verdict_is_that_of_seeds_which_had_no_part_in_picking() -> None:
    confirmed = basis({5: 0.05}, 6, seeds=3, tolerance="margin:2")
    measured = confirmed.measured

    def luck(name: str) -> Splits:
        """The first three seeds of the level are as good as dense, the others are not."""
        first = runs(0.0, range(3))
        return {
            split: {regime: first[split][regime] + several[3:] for regime, several in of.items()}
            for split, of in measured(name).items()
        }

    fresh = Basis(confirmed.plan.changed(confirm=3), 10, confirmed.samples, luck)
    told = decide(fresh, {5: SPARSITIES[5]}, {})
    assert told["levels"][0]["answer"] == "double win"
    assert told["answer"] == "no double win"
    assert [run["seed"] for run in told["confirmed"]["standard"]["seeds"]] == [3, 4, 5]
    assert told["seeds"] == 3


def test_a_verdict_by_a_tolerance_has_neither_margin_nor_frontier() -> None:
    told = decide(basis({2: 0.0}, 2, seeds=2, tolerance="std"), {2: 0.36}, {})
    assert told["answer"] == "double win"
    assert not {"margin", "frontier", "would_decide"} & told.keys()


def test_where_dense_only_guesses_there_is_nothing_to_judge_by_and_no_frontier() -> None:
    some = basis({2: 0.0, 5: 0.002}, 1)
    told = decide(some, {2: 0.36, 5: 0.672}, {})
    assert not tells_nothing(told)
    assert frontier_of(told) == told["frontier"]
    # Of a single class guessing is right, and no network is better than that.
    nothing = decide(Basis(some.plan, 1, some.samples, some.measured), {2: 0.36, 5: 0.672}, {})
    assert tells_nothing(nothing)
    assert frontier_of(nothing) is None
    assert (nothing["answer"], nothing["would_decide"]) == ("undecided", "")


def test_few_images_and_few_seeds_are_said() -> None:
    told = decide(basis({2: 0.0}, 1), {2: 0.36}, {})
    assert any(line.startswith("one seed") for line in told["caveats"])
    few = Basis(plan(), 10, {"test": 36, "validation": 14}, lambda name: runs(0.0, range(1)))
    lines = decide(few, {2: 0.36}, {})["caveats"]
    assert "36 test images are few (fewer than 400): one is 2.78 points, and a few are chance" in lines
    assert any("14 validation images" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [
        ({"seeds": 3, "scan": "all"}, 3),
        ({"seeds": 5}, 4),
        ({"seeds": 3}, 0),
        ({"seeds": 2, "scan": "all"}, 3),
        ({"seeds": 1, "scan": "all"}, 0),
        ({"seeds": 3, "scan": "all", "tolerance": "std"}, 0),
        ({"seeds": 3, "max_seeds": 8, "scan": "all"}, 0),
        ({"seeds": 3, "confirm": 2}, 2),
    ],
    ids=str,
)
def test_a_verdict_is_confirmed_where_that_costs_less_than_a_quarter_of_the_find(settings, seeds: int) -> None:
    assert confirming(FindPlan.preset(train_images=1000, **settings), 14) == seeds


def test_a_verdict_is_looked_at_a_few_times_as_seeds_are_added() -> None:
    assert plan(seeds=3, max_seeds=8).looks == [3, 5, 8]
    assert plan(seeds=3, max_seeds=6).looks == [3, 5, 6]
    assert plan(seeds=3).looks == [3]
