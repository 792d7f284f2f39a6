"""Weights remember what they were trained from, and heads the seed that they were drawn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.judging.lineage import _head, _kinship, _pruned, trained_networks
from lottery_hub.networks.backbones import fresh_weights, with_fresh_head
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage.folder import load_ladder, load_ticket


def blended(weights: dict[str, Any], others: dict[str, Any], share: float) -> dict[str, Any]:
    """So much of the weights' direction, the rest of another network."""
    return {
        key: share * tensor / tensor.norm() + (1 - share**2) ** 0.5 * others[key] / others[key].norm()
        if tensor.is_floating_point() and tensor.norm() > 0 and others[key].norm() > 0
        else tensor
        for key, tensor in weights.items()
    }


@pytest.mark.parametrize(("share", "answer"), [(0.95, "verified"), (0.3, "cannot tell"), (0.0, "not verified")])
def test_a_network_is_as_near_to_its_backbone_as_training_leaves_it(ladder: Ladder, share: float, answer: str) -> None:
    ticket = ladder.ticket(0)
    others = fresh_weights(ticket.arch, 5, seed=1)
    assert _kinship(blended(ticket.weights, others, share), ticket.weights, ticket.mask)[0] == answer


def test_one_layer_of_another_network_is_enough(ladder: Ladder) -> None:
    ticket, name = ladder.ticket(2), "layer3.0.conv1.weight"
    other = ticket.weights | {name: fresh_weights(ticket.arch, 5, seed=1)[name]}
    answer, why = _kinship(other, ticket.weights, ticket.mask)
    assert answer == "not verified"
    assert why.startswith(name)


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_weights_without_a_direction_come_from_nowhere(ladder: Ladder, value: float) -> None:
    ticket, name = ladder.ticket(2), "conv1.weight"
    broken = ticket.weights | {name: torch.full_like(ticket.weights[name], value)}
    assert _kinship(broken, ticket.weights, ticket.mask)[0] == "not verified"


@pytest.mark.parametrize(
    ("drawn", "said", "answer"),
    [(0, 0, "verified"), (1, 0, "not verified"), (31, 0, "not verified"), (500, 0, "cannot tell")],
)
def test_a_head_is_that_of_its_seed(ladder: Ladder, drawn: int, said: int, answer: str) -> None:
    ticket = replace(ladder.ticket(1), records={"seeds": 1})
    network = replace(ticket, weights=with_fresh_head(ticket.weights, 10, drawn))
    assert _head(ticket, network, {"seeds": {"head": said}})[0] == answer


def test_dense_has_every_weight_also_behind_a_full_mask(ladder: Ladder) -> None:
    ticket, dense = ladder.ticket(3), ladder.ticket(0)
    assert _pruned(ticket, "dense-standard-seed-0", dense, ladder) is None
    assert "prunable weights are pruned" in str(_pruned(ticket, "dense-standard-seed-0", ticket, ladder))
    hidden = replace(dense, weights=ticket.weights)
    assert "hardly has the weights" in str(_pruned(ticket, "dense-standard-seed-0", hidden, ladder))
    assert "mask" in str(_pruned(ticket, "ticket-standard-seed-0", dense, ladder))


def test_the_networks_of_a_find_come_from_where_they_say(run: Path) -> None:
    ticket, ladder = load_ticket(run), load_ladder(run / "ladder")
    networks, finding = trained_networks(ticket, run / "ticket", ladder)
    assert (len(networks), finding.answer) == (8, "verified")
    assert trained_networks(ticket, run / "ticket", None)[1].answer == "cannot tell"


def test_a_network_that_sees_its_images_otherwise_is_not_that_of_the_verdict(run: Path) -> None:
    ticket: Ticket = replace(load_ticket(run), mean=(0.5, 0.5, 0.5))
    finding = trained_networks(ticket, run / "ticket", None)[1]
    assert finding.answer == "not verified"
    assert "sees its images otherwise" in finding.why
