"""How far apart two frontiers are, of draws written by hand and of a judged ticket."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lottery_hub.judging.between import apart, frontiers_apart
from lottery_hub.judging.frontier import Frontier
from lottery_hub.storage.folder import load_ticket


def frontier(sparsity: float, drawn: list[float], last: float) -> Frontier:
    """A frontier that lies at these sparsities in its resamples; the sparsest level has `last`."""
    depths = np.array([-math.log1p(-each) if each < 1 else math.inf for each in drawn])
    return Frontier(sparsity, (0.0, 1.0), False, {}, depths, -math.log1p(-last))


def test_what_moves_together_is_no_difference() -> None:
    one = frontier(0.6, [0.5, 0.6, 0.7], last=0.9)
    other = frontier(0.8, [0.7, 0.8, 0.9], last=0.9)
    found = apart(one, other)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))
    back = apart(other, one)
    assert (back.difference, back.low, back.high) == pytest.approx((-0.2, -0.2, -0.2))


def test_what_was_tried_of_one_alone_does_not_count() -> None:
    one, other = frontier(0.5, [0.4, 0.5], last=0.5), frontier(0.9, [0.9, 1.0], last=0.95)
    found = apart(one, other)
    assert (found.difference, found.low, found.high) == pytest.approx((0.0, 0.0, 0.1))


def test_a_ticket_is_not_apart_from_itself(run: Path) -> None:
    ticket = load_ticket(run)
    found = frontiers_apart(ticket, ticket)
    assert found is not None
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
