"""Output that never fails: what a terminal's encoding cannot show is written in ASCII."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

# What the commands print besides letters, and what stands in for it.
STAND_INS = {
    "–": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "×": "x",
    "±": "+/-",
    "█": "#",
    "⊙": "*",
    "θ": "theta",
    "’": "'",
}
_HANDLER = "lottery-hub-stand-in"


def never_fail() -> None:
    """Let stdout and stderr take any text, in whatever encoding they have."""
    codecs.register_error(_HANDLER, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _stand_in(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    beyond = problem.object[problem.start : problem.end]
    return "".join(STAND_INS.get(c) or c.encode("unicode_escape").decode("ascii") for c in beyond), problem.end
