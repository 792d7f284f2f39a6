"""What every command has: how much it says while it works (-q, -v), and what it says at Ctrl-C."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from lottery_hub.telling import QUIET, USUAL, VERBOSE, at_volume

INTERRUPTED = 130

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say each step on stderr.")]


def watched(command: Callable[..., None] | None) -> Callable[..., None]:
    """Give a command -q and -v, and have it end at Ctrl-C with what is true then."""
    assert command is not None
    own = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("verbose", Verbose))
    ]

    @wraps(command)
    def called(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("choose one of the two", param_hint="--quiet, --verbose")
        try:
            with at_volume(QUIET if quiet else VERBOSE if verbose else USUAL):
                command(**given)
        except KeyboardInterrupt as stop:
            print(f"stopped: {str(stop) or 'nothing was written'}", file=sys.stderr, flush=True)
            raise typer.Exit(INTERRUPTED) from None

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.parameters.values()]
    called.__signature__ = own.replace(parameters=[*parameters, *more])  # type: ignore[attr-defined]
    return called
