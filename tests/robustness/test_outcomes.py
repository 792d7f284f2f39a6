"""Outcomes image by image: exact in records, and the basis of intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_hub.errors import TicketError
from lottery_hub.robustness.outcomes import Outcomes, interval


def bits(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.booleans())
def test_a_record_holds_every_image(images: list[bool], attacked: bool) -> None:
    clean = np.array(images)
    outcomes = Outcomes(clean, clean & (np.arange(len(images)) % 2 == 0) if attacked else None)
    read = Outcomes.parse(outcomes.record(), len(images))
    assert read.SA.tolist() == images
    assert (read.RA is None) is not attacked
    if attacked:
        assert read.RA is not None
        assert outcomes.RA is not None
        assert read.RA.tolist() == outcomes.RA.tolist()


def test_a_record_is_bits_in_base64() -> None:
    assert Outcomes(bits("110000001"), None).record() == {"SA": "wIA=", "RA": None}


@pytest.mark.parametrize(
    "record",
    [None, {}, {"SA": "wIA="}, {"SA": 1, "RA": None}, {"SA": "w", "RA": None}, {"SA": "wIA=wIA=", "RA": None},
     {"SA": "wA==", "RA": None}, {"SA": "wME=", "RA": None}],
    ids=["nothing", "empty", "no RA", "a number", "no base64", "too long", "too short", "padding that is not 0"],
)  # fmt: skip
def test_a_record_of_something_else_is_refused(record: object) -> None:
    with pytest.raises(TicketError, match="the outcomes of a transfer are not"):
        Outcomes.parse(record, 9)


def test_an_interval_of_what_never_varies_is_a_point() -> None:
    assert interval([bits("1111")]) == (1.0, 1.0)
    assert interval([bits("1010")], [bits("1010")]) == (0.0, 0.0), "the same images wrong: no difference at all"


def test_the_interval_of_an_accuracy_is_that_of_the_binomial() -> None:
    half = np.arange(1000) % 2 == 0
    low, high = interval([half])
    deviation = (0.25 / 1000) ** 0.5
    assert low == pytest.approx(0.5 - 1.96 * deviation, abs=0.003)
    assert high == pytest.approx(0.5 + 1.96 * deviation, abs=0.003)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    generator = np.random.default_rng(1)
    hard = generator.random(2000) < 0.5
    dense, ticket = hard.copy(), hard.copy()
    ticket[:20] = ~ticket[:20]  # twenty images differ
    low, high = interval([ticket], [dense])
    assert high - low < 0.01 < 2 * 1.96 * (2 * 0.25 / 2000) ** 0.5
    assert low <= ticket.mean() - dense.mean() <= high


def test_seeds_are_averaged_image_by_image() -> None:
    one, other = bits("1100" * 50), bits("0011" * 50)
    assert interval([one, other]) == (0.5, 0.5), "every image is right in one of the two"
    assert interval([one, other], [other, one]) == (0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_an_interval_holds_the_figure_it_is_of(seed: int, share: float) -> None:
    right = np.random.default_rng(seed).random(500) < share
    low, high = interval([right])
    assert low <= right.mean() <= high


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        low, high = interval([generator.random(400) < 0.7])
        held += low <= 0.7 <= high
    assert 0.91 <= held / 300 <= 0.985
