"""What a ticket is made of: sizes, entropies and overlaps against values worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lottery_hub.errors import TicketError
from lottery_hub.networks.inspection import mask_entropy, overlaps, size, total_overlap
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.tickets import Ladder


def mask(**layers: list[int]) -> Mask:
    return {name: torch.tensor(values, dtype=torch.bool) for name, values in layers.items()}


def test_the_entropy_of_a_mask_takes_each_layers_own_density() -> None:
    assert mask_entropy(mask(a=[1, 0, 1, 0], b=[1, 1, 1])) == 4
    quarter = 4 * (0.25 * 2 + 0.75 * math.log2(4 / 3))
    assert mask_entropy(mask(a=[1, 0, 0, 0], b=[0, 0])) == pytest.approx(quarter)


def test_a_dense_ticket_is_as_large_as_its_limit(ladder: Ladder) -> None:
    measured = size(ladder.ticket(0))
    # resnet18-slim with 5 classes: 714,688 convolution weights, 2,400 of BatchNorm (weight, bias), 645 of the head.
    assert (measured.kept, measured.prunable) == (714_688, 714_688)
    batch_norm = sum(t.numel() for n, t in ladder.backbone.weights.items() if n.endswith("running_mean"))
    assert measured.parameters == 714_688 + 2 * batch_norm + 128 * 5 + 5
    layers = sum(n.endswith("num_batches_tracked") for n in ladder.backbone.weights)
    assert measured.dense_bytes == 4 * (714_688 + 4 * batch_norm + 645) + 8 * layers
    assert measured.limit_bytes == measured.dense_bytes
    assert measured.sparsity_of_all == 0


def test_half_the_bits_a_value_halve_its_share_of_the_limit(ladder: Ladder) -> None:
    ticket = ladder.ticket(3)
    kept, prunable = ticket.kept_and_total
    full, half = size(ticket), size(ticket, value_bits=16)
    assert full.limit_bytes - half.limit_bytes == 2 * kept
    assert full.sparsity_of_all == (prunable - kept) / full.parameters


def test_overlap_counts_what_both_keep_beside_what_chance_would() -> None:
    found = overlaps(mask(a=[1, 1, 0, 0], b=[1, 1]), mask(a=[1, 0, 1, 0], b=[1, 1]))
    # Layer a: one shared of three in either; two times two of four is one by chance, too. Layer b: all.
    assert (found["a"].iou, found["a"].chance) == (1 / 3, 1 / 3)
    assert (found["b"].iou, found["b"].chance) == (1, 1)
    total = total_overlap(found.values())
    assert (total.one, total.other, total.shared, total.expected) == (4, 4, 3, 3)
    assert total.iou == total.chance == 3 / 5


def test_equal_masks_overlap_wholly_and_empty_ones_too() -> None:
    one = mask(a=[1, 0, 0, 0], b=[0, 0])
    found = overlaps(one, one)
    assert [overlap.iou for overlap in found.values()] == [1, 1]
    assert found["a"].chance == pytest.approx(0.25 / 1.75)


def test_other_architectures_are_not_compared(ladder: Ladder) -> None:
    with pytest.raises(TicketError, match="different architectures"):
        overlaps(ladder.mask(1), mask(a=[1]))
    wider = replace(ladder, survived={n: torch.cat([t, t]) for n, t in ladder.survived.items()})
    with pytest.raises(TicketError, match="different architectures"):
        overlaps(ladder.mask(1), wider.mask(1))
