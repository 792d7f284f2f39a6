"""Do trained networks come from where their records say? Weights remember what they were trained from.

Fine-tuning moves them by little: of the packaged backbone and its tickets on digits, every layer keeps a cosine of
0.95 or more with its weights before, where another network's has 0.00 ± 0.01. Of the fresh head, drawn from a seed,
0.5 or more is left; that of another seed has 0.0 ± 0.1. docs/trust.md has the figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lottery_hub.errors import TicketError, printable
from lottery_hub.judging.findings import Answer, Finding, worst
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.backbones import HEAD, Weights, with_fresh_head
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage import folder

# A layer's cosine with its weights before training: from `NEAR` on it comes from there, below `FAR` it does not.
NEAR, FAR = 0.5, 0.1
FEW = 64  # kept weights of a layer, with fewer its cosine says little
# What a whole network keeps at the places that its ticket lost, as a share of their length before; 1.02 or more is
# honest: training moves small weights away from zero.
LEAST_LENGTH = 0.5
SEEDS = 32  # heads that are compared, at least
DEVIATIONS = 5.0  # of the cosine of two independent heads, 1/sqrt(their size)


def trained_networks(ticket: Ticket, place: Path, ladder: Ladder | None) -> tuple[dict[str, Ticket], Finding]:
    """Return the trained networks by name, and whether they are those of the records and come from where they say.

    Args:
        ticket: with the records of a verdict, or of one transfer.
        place: its folder.
        ladder: what it was taken from, where that is at hand.
    """
    if "transfer" in ticket.records:
        return _itself(ticket, ladder)
    networks: dict[str, Ticket] = {}
    unsure: list[str] = []
    for name, path in folder.trained_folders(place).items():
        try:
            network = folder.load_ticket(path)
            record = record_of(ticket, name)
        except TicketError as problem:
            return {}, Finding("networks", "not verified", f"{name}: {problem}")
        why = _foreign(ticket, name, network, record) or _pruned(ticket, name, network, ladder)
        if why:
            return {}, Finding("networks", "not verified", why)
        start = ladder.backbone.weights if ladder and name.startswith("dense") else ticket.weights
        answer, told = _worst_of(_kinship(network.weights, start, ticket.mask), _head(ticket, network, record))
        if answer == "not verified":
            return {}, Finding("networks", answer, f"{name}: {told}")
        if answer == "cannot tell":
            unsure.append(f"{name}: {told}")
        networks[name] = network
    places = folder.trained_places(folder.trained_seeds(ticket.records))
    wanted = {place.rpartition("/")[2] for place in places}
    missing = sorted(wanted - networks.keys())
    if missing:
        few = f"{len(missing)} of {len(wanted)} trained networks are not there, e.g. {missing[0]}"
        return networks, Finding("networks", "cannot tell", few)
    if unsure:
        return networks, Finding("networks", "cannot tell", unsure[0])
    if ladder is None:
        why = "whether dense was the whole backbone: its ladder is not at hand; give it with --ladder"
        return networks, Finding("networks", "cannot tell", why)
    why = f"{len(networks)} trained networks are those of the records, and come from the backbone and seeds named"
    return networks, Finding("networks", "verified", why)


def record_of(ticket: Ticket, name: str) -> dict[str, Any]:
    """Return the record of a trained network by its name, e.g. `dense-standard-seed-0`.

    Raises:
        TicketError: there is none.
    """
    if "transfer" in ticket.records:
        record: dict[str, Any] = ticket.records["transfer"]
        return record
    which, regime, _, seed = name.split("-")
    unit = level_name(0 if which == "dense" else ticket.level)
    for record in ticket.records["transfers"]:
        if (record["ticket"], record["regime"], record["seed"]) == (unit, regime, int(seed)):
            return record
    raise TicketError(f"the records have no transfer of {printable(name)}")


def _itself(ticket: Ticket, ladder: Ladder | None) -> tuple[dict[str, Ticket], Finding]:
    """Return a fine-tuned ticket as its own trained network."""
    record = ticket.records["transfer"]
    if ticket.fingerprint() != record["trained"]:
        return {}, Finding("networks", "not verified", "its weights are not those that its record names")
    if ladder is None:
        why = "what it was trained from: its ladder is not at hand; give it with --ladder"
        return {"ticket": ticket}, Finding("networks", "cannot tell", why)
    answer, told = _worst_of(
        _kinship(ticket.weights, ladder.backbone.weights, ticket.mask), _head(ticket, ticket, record)
    )
    if answer != "verified":
        return {"ticket": ticket}, Finding("networks", answer, told)
    return {"ticket": ticket}, Finding("networks", "verified", "it is itself the trained network of its record")


def _foreign(ticket: Ticket, name: str, network: Ticket, record: dict[str, Any]) -> str | None:
    """Return why a network is not that of its record, or None."""
    if network.fingerprint() != record["trained"]:
        return f"the weights of {name} are not those that the records name"
    if (network.arch, network.kind, network.mean, network.std) != (ticket.arch, ticket.kind, ticket.mean, ticket.std):
        return f"{name} is another architecture, or sees its images otherwise, than the ticket"
    plan = FindPlan.parse(ticket.records["plan"])
    said = {
        "transfer": {key: value for key, value in record.items() if key not in ("ticket", "sparsity")},
        "data": ticket.records["data"],
        "recipe": plan.transfer.recipe(record["regime"]).record(),
    }
    other = [key for key, value in said.items() if network.records.get(key) != value]
    if other:
        return f"the records of {name} by itself are not those of the verdict: {', '.join(other)}"
    return None


def _pruned(ticket: Ticket, name: str, network: Ticket, ladder: Ladder | None) -> str | None:
    """Return why a network's mask is not the one it should have, or None."""
    if name.startswith("ticket"):
        same = all(torch.equal(kept, network.mask[layer]) for layer, kept in ticket.mask.items())
        return None if same else f"the mask of {name} is not that of the ticket"
    kept, total = network.kept_and_total
    if kept != total:
        return f"{name} is not dense: {total - kept} of {total} prunable weights are pruned"
    if ladder is not None:
        now, before = (_lost(weights, ticket.mask) for weights in (network.weights, ladder.backbone.weights))
        if float(now.norm()) < LEAST_LENGTH * float(before.norm()):
            return f"{name} is not dense: it hardly has the weights that the ticket lost"
    return None


def _lost(weights: Weights, mask: Mask) -> Tensor:
    """Return all weights that a mask prunes, in one row."""
    return torch.cat([weights[layer][~kept] for layer, kept in mask.items()])


def _kinship(trained: Weights, start: Weights, mask: Mask) -> tuple[Answer, str]:
    """Return whether weights were trained from others, by the layer that is least like before, where `mask` keeps."""
    cosines = {
        layer: _cosine(trained[layer][kept], start[layer][kept])
        for layer, kept in mask.items()
        if int(kept.sum()) >= FEW
    }
    if not cosines:
        return "cannot tell", "no layer has weights enough to tell what it was trained from"
    layer = min(cosines, key=cosines.__getitem__)
    told = f"{layer} has a cosine of {cosines[layer]:.2f} with the backbone's"
    # `not >=`: a weight that is NaN is not near anything.
    answer: Answer = (
        "verified" if cosines[layer] >= NEAR else "cannot tell" if cosines[layer] >= FAR else "not verified"
    )
    return answer, told


def _head(ticket: Ticket, network: Ticket, record: dict[str, Any]) -> tuple[Answer, str]:
    """Return whether a network's head began as the fresh one of its seed."""
    seed, now = record["seeds"]["head"], _joined(network.weights)
    classes = len(network.weights["fc.bias"])
    others = {other for other in range(max(SEEDS, ticket.records.get("seeds", 0))) if other != seed}

    def left(of: int) -> float:
        return _cosine(now, _joined(with_fresh_head(network.weights, classes, of)))

    own, least = left(seed), DEVIATIONS / len(now) ** 0.5
    likest = max(others, key=left)
    if left(likest) > max(own, least):
        return "not verified", f"its head began as that of seed {likest}, not of seed {seed}"
    if not own > least:
        return "cannot tell", f"its head bears no trace of seed {seed}"
    return "verified", ""


def _joined(weights: Weights) -> Tensor:
    return torch.cat([weights[name].flatten() for name in HEAD])


def _cosine(one: Tensor, other: Tensor) -> float:
    one, other = one.flatten().double(), other.flatten().double()
    return float(one @ other / (one.norm() * other.norm()).clamp_min(1e-300))


def _worst_of(*told: tuple[Answer, str]) -> tuple[Answer, str]:
    answer = worst({each for each, _ in told})
    return next(each for each in told if each[0] == answer)
