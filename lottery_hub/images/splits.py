"""Which split a file or folder belongs to, by the words that are usual."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

# The words by which `datasets` knows a split, the usual one first.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "valid": ("validation", "valid", "val", "dev"),
}
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}


def by_split(items: Iterable[T], word: Callable[[T], str]) -> dict[str, list[T]]:
    """Sort what is named after a split: split → those whose word comes first in `SPLIT_WORDS`."""
    found: dict[str, dict[str, list[T]]] = {}
    for item in items:
        # `datasets` takes a word at its end too: test1, eval_2024.
        first = first_word(word(item))
        if is_split(first):
            exact = first == word(item).lower()
            found.setdefault(_SPLIT_OF[first], {}).setdefault(first + ("" if exact else "~"), []).append(item)
    order = {split: [form for word in words for form in (word, f"{word}~")] for split, words in SPLIT_WORDS.items()}
    return {split: words[min(words, key=order[split].index)] for split, words in found.items()}


def first_word(name: str) -> str:
    """Return what a name begins with, up to a number or a mark: "train" of `Train-00000-of-00001`."""
    return re.split(r"[-._ 0-9]", name.lower())[0]


def is_split(word: str) -> bool:
    """Whether a word names a split."""
    return word in _SPLIT_OF
