"""Golomb-Rice coding: the drawn example, any numbers and back, and streams that do not add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_hub.errors import TicketError
from lottery_hub.storage import rice

sequences = st.lists(st.lists(st.integers(0, 5000), max_size=40), max_size=5)


def numbers(*values: int) -> rice.Numbers:
    return np.array(values, np.int64)


def bits(text: str) -> rice.Bytes:
    return np.packbits(np.array([c == "1" for c in text if c != " "], bool))


def test_the_drawn_example_decodes_to_its_numbers() -> None:
    (decoded,) = rice.decode([4], [1], bits("1 01 1 001"), bits("0 1 1 1"))
    assert decoded.tolist() == [0, 3, 1, 5]


def test_unary_writes_as_many_zeros_and_a_one() -> None:
    assert np.array_equal(rice.unary(numbers(0, 1, 0, 2)), bits("1 01 1 001"))
    assert rice.unary(numbers()).tolist() == []


def test_low_bits_come_plane_after_plane_and_sequences_without_padding_between() -> None:
    parameters, unary, binary = rice.encode([numbers(5, 6, 7), numbers(2, 3)])
    assert parameters == [2, 1]
    assert np.array_equal(unary, bits("01 01 01 01 01"))
    # The lowest bits of 5 6 7, their second bits, and the lowest of 2 3.
    assert np.array_equal(binary, bits("101 011 01"))


@pytest.mark.parametrize("values", [(0, 0, 0), (1, 1, 1, 0), (9, 8, 12, 7), (1000, 900, 1100), (0, 0, 0, 63), (3,)])
def test_no_other_parameter_is_shorter(values: tuple[int, ...]) -> None:
    def length(r: int) -> int:
        return sum((value >> r) + 1 + r for value in values)

    assert length(rice.best_parameter(numbers(*values))) == min(length(r) for r in range(25))


@settings(max_examples=200, deadline=None)
@given(sequences)
def test_any_numbers_come_back(lists: list[list[int]]) -> None:
    given_ = [numbers(*values) for values in lists]
    parameters, unary, binary = rice.encode(given_)
    decoded = rice.decode([len(values) for values in lists], parameters, unary, binary)
    assert [values.tolist() for values in decoded] == lists


def test_a_chunks_end_is_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    values = numbers(0, 3, 1, 5, 0, 0, 2)
    whole = rice.unary(values)
    monkeypatch.setattr(rice, "CHUNK", 2)
    assert np.array_equal(rice.unary(values), whole)


@pytest.mark.parametrize(
    ("counts", "parameters", "unary", "binary", "reason"),
    [
        ([4], [1], "1 01 1 001 1", "0111", "holds 5 numbers, not 4"),
        ([5], [1], "1 01 1 001", "0111 0", "holds 4 numbers, not 5"),
        ([4], [1], "1 01 1 001 0 00000000", "0111", "goes on after its last number"),
        ([0], [0], "00000000", "", "goes on after its last number"),
        ([4], [1], "1 01 1 001", "0111 1", "padding of the binary stream"),
        ([4], [1], "1 01 1 001", "0111 0000 0", "too short or too long"),
        ([4], [1], "1 01 1 001", "", "too short or too long"),
        ([400], [0], "1 01 1 001", "", "too short or too long"),
        ([4], [25], "1 01 1 001", "0111", "not in 0..24"),
        ([4], [-1], "1 01 1 001", "0111", "not in 0..24"),
    ],
)
def test_streams_that_do_not_add_up_are_refused(
    counts: list[int], parameters: list[int], unary: str, binary: str, reason: str
) -> None:
    with pytest.raises(TicketError, match=reason):
        rice.decode(counts, parameters, bits(unary), bits(binary))
