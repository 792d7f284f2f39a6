"""One attempt at one hostile input, and how it ended: in the only two ways that are right, or in one that is not."""

from __future__ import annotations

import io
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import typer.main
from campaign import TooLong

from lottery_hub.errors import LotteryHubError

# The commands are the same each time, and take longer to make of their functions than many a call.
typer.main.get_command = cache(typer.main.get_command)

RIGHT, REFUSED = "accepted and right", "refused"
GOOD = (RIGHT, REFUSED)
SECONDS, MEBIBYTES = 10.0, 1024.0
HEADROOM = 3 * 2**30  # of addresses: what asks for more is stopped before it takes it
_SCARCE = ("can't allocate memory", "not enough memory", "cannot allocate memory", "unable to allocate")


class Ending(NamedTuple):
    """How a case ended, and what there is to say about it."""

    name: str
    detail: str = ""


class Printed(NamedTuple):
    """What the command line printed, and its exit code."""

    code: int
    out: str
    err: str


class EndedError(Exception):
    """It ended elsewhere, in another process, and neither right nor refused."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class RefusedError(Exception):
    """The command line refused, as it should: one line, or the usage."""


class WrongWordsError(Exception):
    """The command line did not end in one of its own ways, or printed what a terminal obeys."""


def attempt(
    act: Callable[[], Any],
    right: Callable[[Any], str] = lambda _: "",
    seconds: float = SECONDS,
    mebibytes: float = MEBIBYTES,
    far: bool = False,
) -> Ending:
    """Do something, and say how it ended.

    Args:
        act: what a user does.
        right: given what came of it, says what is wrong with that; nothing where it is right.
        seconds, mebibytes: more than these is a failure, whatever comes of it.
        far: whether it is done in another process, whose time, memory and threads are measured there.
    """
    before, threads, began = _peak_from_now(), _working(), time.process_time()
    ending, value = _done(act, 9 * seconds if far else seconds)
    if ending.name == RIGHT:
        try:
            wrong = right(value)
        except Exception as problem:  # what cannot be judged is not right
            wrong = f"cannot be judged: {_last(problem)}"
        ending = Ending("wrongly accepted", wrong) if wrong else ending
    took, grown = time.process_time() - began, _peak() - before
    if grown > mebibytes or any(words in ending.detail.lower() for words in _SCARCE):
        return Ending("too large", f"{grown:.0f} MiB more, then {ending.name}: {ending.detail}")
    if took > seconds and not far:
        return Ending("too slow", f"{took:.1f} s, then {ending.name}: {ending.detail}")
    left = set() if far else _left(threads)
    if left:
        return Ending("left running", f"{', '.join(sorted(thread.name for thread in left))}, after {ending}")
    return ending


def _done(act: Callable[[], Any], seconds: float) -> tuple[Ending, Any]:
    try:
        with _in_time(seconds), _bounded():
            return Ending(RIGHT), act()
    except EndedError as problem:
        return problem.ending, None
    except RefusedError as problem:
        return Ending(REFUSED, str(problem)), None
    except WrongWordsError as problem:
        return Ending("bad message", str(problem)), None
    except LotteryHubError as problem:
        told = str(problem)
        good = told.isprintable() and 0 < len(told) < 2000
        return Ending(REFUSED if good else "bad message", told if good else repr(told)[:500]), None
    except TooLong as problem:
        return Ending("too slow", f"more than {seconds:g} seconds of work: {_last(problem)}"), None
    except MemoryError as problem:
        return Ending("too large", _last(problem)), None
    except Exception as problem:
        return Ending("traceback", _last(problem)), None


def _last(problem: BaseException) -> str:
    """Return an error with the last place of the library that it came through."""
    places = [frame for frame in traceback.extract_tb(problem.__traceback__) if "/faults/" not in frame.filename]
    ours = [frame for frame in places if "lottery_hub" in frame.filename or "/cli/" in frame.filename]
    at = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(problem).__name__}: {str(problem)[:200]!r}{at}"


def cli(*arguments: object, answers: tuple[int, ...] = (0,)) -> Printed:
    """Run the command line here.

    Args:
        arguments: after the program's name.
        answers: the exit codes that are an answer; 1 and 2 refuse where they are not among them.

    Raises:
        RefusedError: it refused in one line, or with its usage.
        WrongWordsError: it ended otherwise, or printed what a terminal obeys.
    """
    done = printed(*arguments)
    _, marker, told = f"\n{done.err}".rpartition("\nerror: ")
    if done.code == 1 and marker:
        if told.count("\n") != 1 or len(told) > 2100:
            raise WrongWordsError(f"not one line: {told[:300]!r}")
        raise RefusedError(told.strip())
    if done.code in answers:
        return done
    if done.code == 2 and done.err:
        lines = [line.strip("│ ") for line in done.err.splitlines() if any(map(str.isalnum, line))]
        raise RefusedError(lines[-1] if lines else "")
    raise WrongWordsError(f"exit code {done.code}, {done.err[-300:]!r}")


def printed(*arguments: object) -> Printed:
    """Run the command line here, and return what it printed.

    Raises:
        WrongWordsError: it printed what a terminal obeys.
    """
    from lottery_hub import cli as command_line

    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    argv = mock.patch.object(sys, "argv", ["lottery-hub", *map(str, arguments)])
    with argv, redirect_stdout(out), redirect_stderr(err):
        try:
            command_line.main()
        except SystemExit as end:
            code = 0 if end.code is None else end.code
    done = Printed(code, out.getvalue(), err.getvalue())
    obeyed = [c for c in done.out + done.err if not c.isprintable() and c not in "\n\t"]
    if obeyed:
        raise WrongWordsError(f"prints {obeyed[0]!r}")
    return done


def _working() -> set[threading.Thread]:
    """Return the threads that do something; tqdm keeps one that does not."""
    return {thread for thread in threading.enumerate() if type(thread).__name__ != "TMonitor"}


def _left(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the threads that came during an attempt and do not end by themselves, soon."""
    end = time.monotonic() + 1.0
    while (left := _working() - before) and time.monotonic() < end:
        time.sleep(0.02)
    return left


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """Stop work that takes longer on the processor, and what waits for as long without working."""
    began = _busy()

    def stop(*_: object) -> None:
        raise TooLong

    def look(*_: object) -> None:
        if _busy() - began < seconds / 5:
            raise TooLong
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, stop), signal.SIGALRM: (signal.ITIMER_REAL, look)}
    before = {number: signal.signal(number, handler) for number, (_, handler) in timers.items()}
    signal.setitimer(signal.ITIMER_PROF, 1.2 * seconds)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _busy() -> float:
    """Return the seconds that this process has worked, or waited for a processor that others had."""
    try:
        worked, waited = Path("/proc/self/schedstat").read_text().split()[:2]
    except (OSError, ValueError):
        return time.process_time()
    return (int(worked) + int(waited)) / 1e9


@contextmanager
def _bounded() -> Iterator[None]:
    """Let nothing ask for much more memory than there is in use; where the system cannot say, it may."""
    used = _status("VmSize")
    if used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _peak_from_now() -> float:
    """Return the memory in use in MiB, and let the peak begin there where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    high = _status("VmHWM")
    if high is not None:
        return high / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _status(name: str) -> int | None:
    """Return a line of this process's status, in KiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
