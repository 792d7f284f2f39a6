"""`overlap`: how much tickets share; `lottery-hub show` of two or more is this."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias, overload

if TYPE_CHECKING:
    from lottery_hub.networks.inspection import Comparison, Comparisons
    from lottery_hub.networks.tickets import Ticket

Named: TypeAlias = "str | os.PathLike[str] | Ticket"


@overload
def overlap(one: Named, other: Named, *, sparsity: float | None = None) -> Comparison: ...


@overload
def overlap(one: Named, other: Named, third: Named, /, *more: Named, sparsity: float | None = None) -> Comparisons: ...


def overlap(one: Named, other: Named, *more: Named, sparsity: float | None = None) -> Comparison | Comparisons:
    """Return how much the masks of tickets share: weights that both keep over weights that either keeps.

    Args:
        one, other, more: tickets, or as of `load_ticket`.
        sparsity: which level of what is a ladder, in 0..1.

    Returns:
        Of two, IoU beside that of random masks which keep as many weights in every layer, in total and of every layer.
        Of more, both in total for each pair.

    Raises:
        TicketError: they belong to different architectures, or are none.
    """
    from lottery_hub.networks.inspection import compare, compare_all
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.sharing.pulling import load_ticket

    tickets = [each if isinstance(each, Ticket) else load_ticket(each, sparsity) for each in (one, other, *more)]
    if not more:
        return compare(*tickets)
    named = [
        f"level {ticket.level}" if isinstance(each, Ticket) else os.fspath(each)
        for each, ticket in zip((one, other, *more), tickets, strict=True)
    ]
    masks = [ticket.mask for ticket in tickets]
    return compare_all(dict(zip(told_apart(named), masks, strict=True)))


def told_apart(names: list[str]) -> list[str]:
    """Return names with the number of its place after each that another has too."""
    return [f"{name} #{place + 1}" if names.count(name) > 1 else name for place, name in enumerate(names)]
