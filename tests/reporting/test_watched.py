"""What is known of work from what it tells: counts, rates and times, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lottery_hub.reporting.watched import Watched, clock_time, short

PLAN = {"what": "transfer", "most": 10, "at_most": True, "together": 2, "passes": 1000.0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(clock: Clock) -> Watched:
    return Watched(clock)


def take(watched: Watched, *told: tuple[str, dict[str, Any]]) -> None:
    for kind, record in told:
        watched.take(kind, record)


def test_the_title_says_what_is_done_of_what_there_is_at_most(watched: Watched) -> None:
    assert (watched.title(), watched.share()) == ("starting", None)
    take(watched, ("plan", PLAN), ("unit", {"unit": "a", "finished": True, "passes": 100}))
    assert watched.title() == "transfer 1 of ≤ 10, 2 at a time"
    assert watched.share() == 0.1
    assert watched.standing() == "1 of at most 10 transfers are finished"
    take(watched, ("plan", PLAN | {"most": 4, "at_most": False, "passes": 400.0, "together": 1}))
    assert watched.title() == "transfer 1 of 4"
    assert watched.share() == 0.25


def test_time_is_foretold_from_what_was_done_here_not_from_what_was_found(watched: Watched, clock: Clock) -> None:
    take(watched, ("plan", PLAN), ("unit", {"unit": "a", "finished": True, "passes": 100}))
    take(watched, ("unit", {"unit": "b", "finished": False, "passes": 200}))
    take(watched, ("passes", {"unit": "b", "done": 100, "images": 0, "before": True}))
    assert watched.left() is None
    clock.now += 10
    take(watched, ("passes", {"unit": "b", "done": 150, "images": 30}))
    # 50 passes in ten seconds; of 1,000 there are 100 found, and 150 of this unit.
    assert watched.left() == pytest.approx(750 / 5)
    assert watched.networks["b"].left(clock.now) == pytest.approx(50 / 5)
    assert watched.networks["b"].share() == 0.75
    take(watched, ("ended", {"unit": "b"}))
    assert (watched.finished, watched.share()) == (2, 0.3)
    assert watched.left() == pytest.approx(700 / 10)


def test_images_a_second_are_those_of_this_epoch_or_of_the_last_while_it_is_measured(
    watched: Watched, clock: Clock
) -> None:
    take(watched, ("unit", {"unit": "a", "finished": False, "passes": 100}))
    take(watched, ("begun", {"unit": "a", "epoch": 1, "epochs": 2}))
    network = watched.networks["a"]
    assert network.rate(clock.now) is None
    clock.now += 2
    take(watched, ("passes", {"unit": "a", "done": 30, "images": 300}))
    assert network.rate(clock.now) == 150
    take(watched, ("stage", {"unit": "a", "what": "validation"}))
    assert network.rate(clock.now) is None
    epoch = {"unit": "a", "epoch": 1, "epochs": 2, "images": 400, "seconds": 4.0, "loss": 1.5}
    take(watched, ("epoch", epoch))
    assert network.rate(clock.now) == 100
    take(watched, ("begun", {"unit": "a", "epoch": 2, "epochs": 2}))
    clock.now += 2
    take(watched, ("passes", {"unit": "a", "done": 60, "images": 400}))
    assert network.rate(clock.now) == 50


def test_a_part_is_counted_from_where_it_was_first_told_of(watched: Watched, clock: Clock) -> None:
    part = {"what": "sending to alice/digits", "of": 3_400_000, "unit": "bytes"}
    take(watched, ("part", part | {"done": 400_000}))
    clock.now += 4
    take(watched, ("part", part | {"done": 1_400_000}))
    assert watched.title() == "sending to alice/digits: 1.4 of 3.4 MB"
    assert watched.share() == pytest.approx(1.4 / 3.4)
    assert watched.left() == pytest.approx(8)
    take(watched, ("part", part | {"done": 3_400_000}))
    assert watched.part is None


def test_another_kind_of_work_begins_anew_and_so_does_another_cell(watched: Watched) -> None:
    take(watched, ("plan", {"what": "round", "most": 1}), ("unit", {"unit": "a", "finished": True}), ("plan", PLAN))
    assert watched.title() == "transfer 0 of ≤ 10, 2 at a time"
    take(watched, ("dense", {"level": 0}), ("cell", {"cell": "adv-digits"}), ("plan", PLAN))
    assert watched.dense is None
    assert watched.title() == "adv-digits: transfer 0 of ≤ 10, 2 at a time"


def test_units_have_short_names_and_strangers_names_are_printable() -> None:
    assert short("transfer-level-07-adversarial-seed-2") == "level 7, adv, seed 2"
    assert short("transfer-level-00-standard-seed-0") == "dense, std, seed 0"
    assert short("transfer-omp-level-07-standard-seed-0") == "omp 7, std, seed 0"
    assert short("draw-level-03") == "level 3"
    assert "\x1b" not in short("odd \x1b[31m")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0.4, "0:00"), (59.6, "1:00"), (65, "1:05"), (7384, "2:03:04"), (3 * 86_400 + 4 * 3600, "3 d 04 h")],
)
def test_times_are_short(seconds: float | None, shown: str) -> None:
    assert clock_time(seconds) == shown
