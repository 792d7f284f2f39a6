"""Several pieces of work at once, each on its share of the processor's cores.

Steps of a small network are too short for many cores: two transfers on a core each are done sooner than one after the
other on both. Threads do, since torch holds no lock while it computes, and they end with their process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import Event, Thread
from typing import TypeVar

import torch

from lottery_hub.errors import BusyError, StoppedError

Result = TypeVar("Result")
PATIENCE = 2.0  # seconds, at most, between two looks at what others are at


def side_by_side(works: Sequence[Callable[[], Result]], jobs: int, threads: int, stop: Event) -> list[Result]:
    """Do all pieces of work, at most `jobs` at a time, and return their results in order.

    One that another process is at (BusyError) is tried again after the others, until that has finished or died.

    Args:
        works: independent of each other, and with no use for torch's global generator.
        jobs: how many at a time; with one, they are done here, one after the other.
        threads: of torch, for each, however few there are: what one gives does not depend on what runs beside it.
        stop: set where one fails, or this call is interrupted; the others should look at it and end soon.

    Raises:
        BaseException: the first that a piece of work raised, when the others have ended; that it was stopped is no
            news.
    """
    waiting = deque(enumerate(works))
    results: dict[int, Result] = {}
    problems: list[BaseException] = []

    def take() -> None:
        busy = 0  # times in a row
        while not stop.is_set():
            try:
                place, work = waiting.popleft()
            except IndexError:
                return
            try:
                results[place] = work()
                busy = 0
            except BusyError:
                waiting.append((place, work))
                busy += 1
                if busy >= len(waiting):
                    stop.wait(min(PATIENCE, 0.05 * busy))

    def member() -> None:
        torch.set_num_threads(threads)  # of this thread, where OpenMP counts
        try:
            take()
        except BaseException as problem:  # raised below, in the thread that asked
            problems.append(problem)
            stop.set()

    # What is told in a thread is heard by whoever listens here.
    count = min(jobs, len(works)) if jobs > 1 else 0
    crew = [Thread(target=copy_context().run, args=(member,), daemon=True) for _ in range(count)]
    if jobs == 1:
        take()
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            thread.join()
    except BaseException:
        stop.set()
        for thread in crew:
            thread.join()
        raise
    if problems:
        raise next((problem for problem in problems if not isinstance(problem, StoppedError)), problems[0])
    if len(results) < len(works):
        raise StoppedError("work was stopped; what is finished is kept")
    return [results[place] for place in range(len(works))]
