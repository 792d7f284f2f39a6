"""What takes long shows what it is at, from its first moment on: before anything is imported that takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from lottery_hub.telling import is_heard, tell

Given = ParamSpec("Given")
Result = TypeVar("Result")


@contextmanager
def showing(first: str, progress: bool | None = True) -> Iterator[None]:
    """Show what is told inside, unless somebody listens already.

    Args:
        first: what is done first, in words.
        progress: whether to; None does where a terminal or a notebook watches.
    """
    if is_heard() or progress is False:
        tell("doing", what=first)
        yield
        return
    from lottery_hub.reporting.progress import Progress

    with Progress(progress):
        tell("doing", what=first)
        yield


def shows(first: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Have a function show what is told inside it, as its argument `progress` says; see `showing`."""

    def give(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @wraps(function)
        def shown(*args: Given.args, **options: Given.kwargs) -> Result:
            progress: Any = options.get("progress")
            with showing(first, progress):
                return function(*args, **options)

        return shown

    return give
