"""What users hold in Python: when two of it are equal, and how one is shown, in a line and in a notebook."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

from lottery_hub.errors import printable


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal: dataclasses in every field that they compare by, tensors in every bit."""
    import torch  # not with the module: what is shown on a screen waits for nothing

    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
            return False
        return (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_fields(one: Any, other: object) -> bool:
    """Whether two values of one dataclass are equal; what `__eq__` of those that hold tensors is."""
    if not is_dataclass(other) or type(one) is not type(other):
        return False
    return all(same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one) if each.compare)


def percent(value: float | None) -> str:
    """Return a share of 1 as percent with two decimals, or a dash."""
    return "–" if value is None else f"{value * 100:.2f}"


def page_table(caption: str, header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a small table as HTML, for `_repr_html_`; whatever the cells say is text."""

    def row(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(printable(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<table><caption>{escape(printable(caption))}</caption>{row(header, 'th')}{body}</table>"


def whole(value: object) -> int | None:
    """Return a whole number as Python's own, whoever's it was; None for what is none, truth values too."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of several
        return None
