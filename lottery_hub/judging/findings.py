"""What a verification finds: one answer a question, and the answer to all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["verified", "not verified", "cannot tell"]
ANSWERS: tuple[Answer, ...] = ("not verified", "cannot tell", "verified")  # the worst first
# Levels that were not picked have no networks in the folder. What was picked, and the verdict on it, is measured.
BESIDE = "others"


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes:
        question: `files`, `records`, `card`, `drawing`, `networks`, `figures`, `masking`, `looks`, `others` or
            `training`.
        answer: whether it is as it is said to be.
        why: one line.
    """

    question: str
    answer: Answer
    why: str


def worst(answers: set[Answer]) -> Answer:
    """Return the worst answer, where a no is worse than not knowing."""
    return next(answer for answer in ANSWERS if answer in answers)


def verdict_of(findings: list[Finding]) -> Answer:
    """Return the answer to all questions on which the verdict rests: the worst."""
    return worst({finding.answer for finding in findings if finding.question != BESIDE})
