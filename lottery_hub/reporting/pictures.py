"""Which pictures there are of a ticket, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lottery_hub.errors import ConfigError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting import details, plots
from lottery_hub.reporting.canvas import Picture
from lottery_hub.reporting.examples import gallery

# Name → what draws it; of looks, the one that it shows.
OF_VERDICT: dict[str, Callable[[dict[str, Any]], Picture]] = {
    "curve": plots.curve,
    "differences": plots.differences,
    "training": details.training,
}
OF_LOOKS: dict[str, tuple[str, Callable[[dict[str, Any]], Picture]]] = {
    "security": ("curve", details.security),
    "corruptions": ("corruptions", details.corruptions),
    "unseen": ("unseen", details.unseen),
}
DENSITY, IMAGES = "density", "images"
NAMES = ("curve", "differences", DENSITY, "training", *OF_LOOKS, IMAGES)


def possible(ticket: Ticket) -> list[str]:
    """Return the names of the pictures that a ticket's records have what it takes for, the most telling first."""
    judged = ticket.double_win is not None
    looks = ticket.records.get("scrutiny", {}) if judged else {}
    there = {DENSITY, *(OF_VERDICT if judged else ()), *(name for name, (look, _) in OF_LOOKS.items() if look in looks)}
    return [name for name in NAMES if name in there]


def plot(ticket: Ticket, what: str = "curve", dataset: str | Dataset | None = None) -> Picture:
    """Return one picture of a ticket; a notebook shows it, and `save` writes it.

    Args:
        ticket: with its records, checked where they are a stranger's (see `storage.records`).
        what: `curve` (SA and RA over sparsity), `differences` (ticket minus dense, with intervals), `density` (of each
            layer), `training` (loss and validation over epochs); `security` (RA over the radius), `corruptions` and
            `unseen` where the verdict was so looked at; `images` (eight test images under attack, and what the
            network says of them).
        dataset: where the images are, for `images`; None loads those that have a name here.

    Raises:
        ConfigError: there is no such picture, or not of this ticket.
        LotteryHubError: the images are not at hand.
    """
    if what not in NAMES:
        raise ConfigError(f"no picture is called {printable(what)}; there are {', '.join(NAMES)}")
    if what == IMAGES:
        return gallery(ticket, dataset)
    there = possible(ticket)
    if what not in there:
        why = (
            f"its verdict was not looked at so; find with --{OF_LOOKS[what][0]}"
            if ticket.double_win is not None
            else "it was never judged"
        )
        raise ConfigError(f"there is no picture {what} of this ticket: {why}; there is {', '.join(there)}")
    if what == DENSITY:
        return details.density(ticket.mask)
    if what in OF_LOOKS:
        look, draw = OF_LOOKS[what]
        return draw(ticket.records["scrutiny"][look])
    return OF_VERDICT[what](ticket.records)
