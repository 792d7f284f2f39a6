"""Which pictures there are of a ticket, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lottery_hub.errors import ConfigError, printable
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting import details, plots
from lottery_hub.reporting.canvas import Picture

# Name → what it needs of the records besides a verdict, and what draws it.
OF_VERDICT: dict[str, Callable[[dict[str, Any]], Picture]] = {
    "curve": plots.curve,
    "differences": plots.differences,
    "training": details.training,
}
OF_LOOKS: dict[str, Callable[[dict[str, Any]], Picture]] = {
    "corruptions": details.corruptions,
    "unseen": details.unseen,
}
DENSITY = "density"
NAMES = ("curve", "differences", DENSITY, "training", *OF_LOOKS)


def possible(ticket: Ticket) -> list[str]:
    """Return the names of the pictures that a ticket's records have what it takes for, the most telling first."""
    judged = ticket.double_win is not None
    looks = ticket.records.get("scrutiny", {}) if judged else {}
    there = {DENSITY, *(OF_VERDICT if judged else ()), *(name for name in OF_LOOKS if name in looks)}
    return [name for name in NAMES if name in there]


def plot(ticket: Ticket, what: str = "curve") -> Picture:
    """Return one picture of a ticket; a notebook shows it, and `save` writes it.

    Args:
        ticket: with its records, checked where they are a stranger's (see `storage.records`).
        what: `curve` (SA and RA over sparsity), `differences` (ticket minus dense, with intervals), `density` (of each
            layer), `training` (loss and validation over epochs); `corruptions` and `unseen` where the verdict was so
            looked at.

    Raises:
        ConfigError: there is no such picture, or not of this ticket.
    """
    if what not in NAMES:
        raise ConfigError(f"no picture is called {printable(what)}; there are {', '.join(NAMES)}")
    there = possible(ticket)
    if what not in there:
        why = (
            f"its verdict was not looked at so; find with --{what}"
            if ticket.double_win is not None
            else "it was never judged"
        )
        raise ConfigError(f"there is no picture {what} of this ticket: {why}; there is {', '.join(there)}")
    if what == DENSITY:
        return details.density(ticket.mask)
    if what in OF_LOOKS:
        return OF_LOOKS[what](ticket.records["scrutiny"][what])
    return OF_VERDICT[what](ticket.records)
