"""Several pieces of work at once: in order, no more than asked for, and all ended when the call is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch

from lottery_hub.errors import StoppedError
from lottery_hub.running.side_by_side import side_by_side


@pytest.mark.parametrize("jobs", [1, 2, 5, 20])
def test_results_come_in_order_and_no_more_run_at_a_time_than_asked_for(jobs: int) -> None:
    running: list[int] = []
    most: list[int] = []

    def work(place: int) -> int:
        running.append(place)
        most.append(len(running))
        time.sleep(0.01 * (3 - place % 3))
        running.remove(place)
        return place * place

    works = [partial(work, place) for place in range(9)]
    assert side_by_side(works, jobs, 1, threading.Event()) == [place * place for place in range(9)]
    assert max(most) <= jobs


def test_as_many_as_asked_for_do_run_at_a_time() -> None:
    met = threading.Barrier(4, timeout=10)
    assert len(side_by_side([met.wait] * 8, 4, 1, threading.Event())) == 8


def test_each_has_its_share_of_the_threads_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        assert side_by_side([torch.get_num_threads] * 2, 3, 2, threading.Event()) == [2, 2]
        assert side_by_side([torch.get_num_threads] * 2, 1, 6, threading.Event()) == [6, 6]
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)


def test_the_first_failure_is_raised_when_all_have_ended() -> None:
    stop, ended = threading.Event(), []

    def fails() -> None:
        raise ValueError("first")

    def looks() -> None:
        assert stop.wait(10)
        ended.append(True)

    never: Callable[[], None] = partial(ended.append, False)
    with pytest.raises(ValueError, match="first"):
        side_by_side([looks, fails, never], 2, 1, stop)
    assert ended == [True], "what had not begun was not begun"


def test_that_others_were_stopped_hides_no_failure() -> None:
    stop = threading.Event()

    def fails() -> None:
        stop.set()
        time.sleep(0.05)
        raise ValueError("first")

    def stopped() -> None:
        assert stop.wait(10)
        raise StoppedError("stopped")

    with pytest.raises(ValueError, match="first"):
        side_by_side([fails, stopped], 2, 1, stop)


def test_an_interrupt_ends_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, ended = threading.Event(), []

    def looks() -> None:
        assert stop.wait(10)
        ended.append(True)

    original, interrupted = threading.Thread.join, []

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        original(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt):
        side_by_side([looks, looks], 2, 1, stop)
    assert ended == [True, True]
