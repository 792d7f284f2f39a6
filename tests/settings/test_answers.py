"""What a verdict answers."""

from __future__ import annotations

from typing import Any

import pytest

from lottery_hub.settings.answers import answer_of


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        ({"double_win": True, "answer": "double win"}, "double win"),
        ({"double_win": False, "answer": "no double win"}, "no double win"),
        ({"double_win": False, "answer": "undecided"}, "undecided"),
        # By a rule of two answers.
        ({"double_win": True}, "double win"),
        ({"double_win": False, "answer": None}, "no double win"),
        # As strangers write them.
        ({}, "not judged"),
        ({"double_win": "yes", "answer": "double win"}, "not judged"),
        ({"double_win": [], "answer": []}, "not judged"),
        ({"double_win": False, "answer": "\x1b[31m"}, "no double win"),
        ({"double_win": True, "answer": {}}, "double win"),
    ],
)
def test_an_answer_is_one_of_four_words_whoever_wrote_the_verdict(verdict: dict[str, Any], answer: str) -> None:
    assert answer_of(verdict) == answer
