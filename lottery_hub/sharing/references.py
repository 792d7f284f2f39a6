"""Which network a command uses, of what a reference leads to.

A judged ticket is two things. The ticket itself, masks and rewind weights, is what research transfers: `load_ticket`.
The networks that were trained from it are what practice deploys: `load_network` takes the one after adversarial
transfer with seed 0, unless another is asked for.

    a judged ticket (`find` leaves one)   the network that was trained from it, as `Which` says
    a fine-tuned ticket (`finetune`)      itself
    a ticket never judged, a level        itself, with the head of its source task
    a ladder, a backbone, adv, KIND:FILE  the dense backbone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from lottery_hub.errors import TicketError, printable
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ticket
from lottery_hub.settings.config import Kind, Regime
from lottery_hub.settings.paths import path_of
from lottery_hub.sharing.pulling import load_ticket, pull, pulled_ticket
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage import files
from lottery_hub.storage.folder import load_backbone_folder, read_about
from lottery_hub.storage.origins import check_backbone
from lottery_hub.storage.records import check_ticket


@dataclass(frozen=True)
class Which:
    """Which of a judged ticket's networks.

    Attributes:
        regime: of the transfer; None stands for adversarial.
        seed: of the transfer; None stands for 0.
        itself: the ticket's own weights instead, with the head of its source task.
    """

    regime: Regime | None = None
    seed: int | None = None
    itself: bool = False

    def of(self, ticket: Ticket) -> Ticket:
        """Return the network that is meant.

        Raises:
            TicketError: it is not at hand; or a transfer is asked for of a ticket that has but one network, or of the
                ticket itself.
        """
        asked = self.regime is not None or self.seed is not None
        if asked and (self.itself or not ticket.judged):
            why = "which of the trained networks, and the ticket itself, exclude each other"
            raise TicketError(why if self.itself else "it was not judged and is one network: leave out which is meant")
        return ticket if self.itself else ticket.network(self.regime or "adversarial", self.seed or 0)


def load_network(
    ref: Path | str, which: Which = Which(), *, sparsity: float | None = None, arch: str | None = None
) -> Ticket | Backbone:
    """Load the network that a command uses.

    Args:
        ref: as of `load_ticket`: a folder, a run directory, a packaged name, a repository of the Hub, an address; or,
            as of `load_backbone`, a kind or KIND:CHECKPOINT.
        which: of a judged ticket's networks.
        sparsity: which level of a ladder, in 0..1; None takes its dense backbone.
        arch: of a checkpoint or a kind; None is the slim ResNet-18.

    Returns:
        A ticket whose own weights and head are the network's, or a backbone; records and provenance are checked.

    Raises:
        TicketError: names the file and the reason.
        BackboneError: of a checkpoint.
        DownloadError: the Hub, or what is behind the address, did not deliver.
    """
    kind = str(ref).partition(":")[0]
    if sparsity is None and not which.itself and (kind in get_args(Kind) or files.is_file(path_of(ref))):
        return load_backbone(ref, arch)
    pulled = pull(ref)
    if read_about(pulled.folder).content == "ticket" or sparsity is not None:
        ticket = pulled_ticket(pulled, sparsity)
        check_ticket(ticket)
        try:
            network = which.of(ticket)
        except TicketError as problem:
            raise TicketError(f"{printable(ref)}: {problem}") from problem
        if network is not ticket:
            check_ticket(network)
        return network
    backbone = load_backbone_folder(pulled.folder)
    check_backbone(backbone)
    return backbone


def load_sparse(ref: Path | str, which: Which = Which(), *, sparsity: float | None = None) -> Ticket:
    """Load the network that a command uses, where only a ticket's will do; as `load_network`.

    Raises:
        TicketError: it is a backbone, or a ladder of which no level is named.
    """
    network = load_network(ref, which, sparsity=sparsity)
    # Whoever loads a ticket of what is none says what is missing.
    return network if isinstance(network, Ticket) else load_ticket(ref, sparsity)


def named(network: Ticket | Backbone) -> str:
    """Say which network it is, safe for a terminal: `after adversarial transfer to digits, seed 0: 10 classes`."""
    classes = f"{len(network.weights['fc.weight'])} classes"
    done, data = network.records.get("transfer"), network.records.get("data")
    if isinstance(done, Mapping) and isinstance(data, Mapping):
        where = f"after {done.get('regime')} transfer to {data.get('name')}, seed {done.get('seed')}"
        return printable(f"{where}: {classes}")
    return f"with the head of its source task: {classes}"
