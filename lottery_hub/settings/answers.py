"""What a verdict can answer: a double win, none, or that it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Answer = Literal["double win", "no double win", "undecided"]
DOUBLE_WIN: Answer = "double win"
NO_DOUBLE_WIN: Answer = "no double win"
UNDECIDED: Answer = "undecided"
NOT_JUDGED: Literal["not judged"] = "not judged"


def answer_of(verdict: Mapping[str, Any]) -> Answer | Literal["not judged"]:
    """Return what a verdict answers, whoever wrote it; older ones know two answers, and not every ticket has one."""
    won = verdict.get("double_win")
    if not isinstance(won, bool):
        return NOT_JUDGED
    no: Answer = UNDECIDED if verdict.get("answer") == UNDECIDED else NO_DOUBLE_WIN
    return DOUBLE_WIN if won else no
