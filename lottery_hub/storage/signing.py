"""The last line of a rendered card: who edits the card breaks it, and so shows that the card is theirs."""

from __future__ import annotations

import hashlib

_MARK = "\n<!-- rendered by lottery_hub; sha256 of the text above: "


def signed(text: str) -> str:
    """Return a card with its last line."""
    return f"{text}{_MARK}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_untouched(card: str) -> bool:
    """Whether a card is as some version of this library rendered it: whoever edits one breaks its last line."""
    text, mark, _ = card.rpartition(_MARK)
    return bool(mark) and card == signed(text)
