"""`overlap`: how much two tickets share; `lottery-hub show` of two is this."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery_hub.networks.inspection import Comparison
    from lottery_hub.networks.tickets import Ticket


def overlap(
    one: str | os.PathLike[str] | Ticket, other: str | os.PathLike[str] | Ticket, *, sparsity: float | None = None
) -> Comparison:
    """Return how much the masks of two tickets share: weights that both keep over weights that either keeps.

    Args:
        one, other: tickets, or as of `load_ticket`.
        sparsity: which level of what is a ladder, in 0..1.

    Returns:
        IoU beside that of random masks which keep as many weights in every layer, in total and of every layer.

    Raises:
        TicketError: they belong to different architectures, or are none.
    """
    from lottery_hub.networks.inspection import compare
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.sharing.pulling import load_ticket

    first, second = (each if isinstance(each, Ticket) else load_ticket(each, sparsity) for each in (one, other))
    return compare(first, second)
