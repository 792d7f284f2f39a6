"""The compact encoding: what is decoded is what was encoded, bit for bit, and nothing malformed gets in."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lottery_hub.errors import TicketError
from lottery_hub.storage import rice
from lottery_hub.storage.codec import Arrays, Values, decode, encode, exact_values

SHAPES = {"conv.weight": (2, 5, 1, 1), "bn.running_var": (2,), "bn.num_batches_tracked": (), "fc.weight": (3, 2)}
PRUNABLE = ["conv.weight"]
KEPT = [1, 0, 0, 1, 1, 0, 0, 0, 0, 1]
CONV = [0.5, 9, 9, -0.75, 1.0, 9, 9, 9, 9, 0.625]

conv_shapes = st.tuples(*[st.integers(1, 4)] * 4)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
halves = st.floats(width=16, allow_nan=False, allow_infinity=False)


def weights_of(conv: Tensor) -> dict[str, Tensor]:
    return {
        "conv.weight": conv.view(2, 5, 1, 1),
        "bn.running_var": torch.tensor([1.0, 2.0]),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.arange(6.0).view(3, 2),
    }


def counts(*values: int) -> dict[str, Tensor]:
    return {"conv.weight": torch.tensor(values, dtype=torch.uint8).view(2, 5, 1, 1)}


@pytest.fixture
def example() -> Arrays:
    """The ten weights of the format page, as bfloat16."""
    return encode(weights_of(torch.tensor(CONV)), counts(*KEPT), 1, first=1, values="bfloat16")


def decoded(encoded: Arrays, values: Values = "bfloat16") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return decode(encoded, SHAPES, PRUNABLE, 1, first=1, values=values)


def pattern(tensor: Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def bits(text: str) -> rice.Bytes:
    return np.packbits(np.array([c == "1" for c in text if c != " "], bool))


# By hand


def test_ten_weights_are_written_as_drawn(example: Arrays) -> None:
    assert sorted(example) == [
        "counters",
        "dense/exponents",
        "dense/rest",
        "dense/unary",
        "layers",
        "round/1/binary",
        "round/1/unary",
        "values/1/exponents",
        "values/1/rest",
        "values/1/unary",
    ]
    # Four of ten are kept, so those are listed: positions 0 3 4 9, gaps 0 2 0 4, 10 bits with parameter 0, 11 with 1.
    assert example["layers"].tolist() == [[[4, 1, 0]]]
    assert np.array_equal(example["round/1/unary"], bits("1 001 1 00001"))
    assert example["round/1/binary"].size == 0
    # 0.5 -0.75 1.0 0.625 have the exponents 126 126 127 126 and the mantissas 0 1000000 0 0100000.
    assert example["values/1/exponents"].tolist() == [126, 127]
    assert np.array_equal(example["values/1/unary"], bits("1 1 01 1"))
    assert example["values/1/rest"].tolist() == [0b0_0000000, 0b1_1000000, 0b0_0000000, 0b0_0100000]
    assert example["counters"].tolist() == [7]
    assert example["dense/rest"].size == 3 * 8


def test_a_ticket_decodes_to_zeros_where_pruned(example: Arrays) -> None:
    weights, survived = decoded(example)
    assert weights["conv.weight"].flatten().tolist() == [0.5, 0, 0, -0.75, 1.0, 0, 0, 0, 0, 0.625]
    assert survived["conv.weight"].flatten().tolist() == KEPT
    assert list(weights) == list(SHAPES)
    assert weights["bn.num_batches_tracked"].item() == 7
    assert torch.equal(weights["fc.weight"], torch.arange(6.0).view(3, 2))
    assert weights["bn.running_var"].tolist() == [1.0, 2.0]


def test_where_most_are_kept_the_pruned_are_listed() -> None:
    encoded = encode(weights_of(torch.ones(10)), counts(1, 1, 1, 0, 1, 1, 1, 1, 0, 1), 1, first=1, values="float32")
    # Positions 3 and 8 go: gaps 3 and 4, 7 bits with parameter 1, 9 with 0.
    assert encoded["layers"].tolist() == [[[8, 0, 1]]]
    assert np.array_equal(encoded["round/1/unary"], bits("01 001"))
    assert np.array_equal(encoded["round/1/binary"], bits("1 0"))
    _, survived = decoded(encoded, "float32")
    assert survived["conv.weight"].flatten().tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 0, 1]


def test_float16_leaves_three_bits_for_planes() -> None:
    encoded = encode(weights_of(torch.tensor(CONV)), counts(*KEPT), 1, first=1, values="float16")
    # Sign and ten bits of mantissa are eleven: a byte each, then the upper three as planes of four bits.
    rest = [0b0_0000000000, 0b1_1000000000, 0b0_0000000000, 0b0_0100000000]
    planes = "".join(str(value >> bit & 1) for bit in (8, 9, 10) for value in rest)
    assert encoded["values/1/rest"].tolist() == [value & 255 for value in rest] + bits(planes).tolist()
    assert encoded["values/1/exponents"].tolist() == [14, 15]


def test_what_lies_outside_the_mask_is_not_stored(example: Arrays) -> None:
    other = torch.tensor(CONV)
    other[torch.tensor(KEPT) == 0] = torch.nan
    again = encode(weights_of(other), counts(*KEPT), 1, first=1, values="bfloat16")
    assert again.keys() == example.keys()
    assert all(np.array_equal(again[name], example[name]) for name in example)


def test_a_kept_zero_stays_kept_and_a_minus_zero_keeps_its_sign() -> None:
    conv = torch.zeros(10)
    conv[3] = -0.0
    for values in ("float32", "float16", "bfloat16"):
        encoded = encode(weights_of(conv), counts(*[1] * 10), 1, first=1, values=values)
        weights, survived = decoded(encoded, values)
        assert bool(survived["conv.weight"].all())
        assert pattern(weights["conv.weight"]) == pattern(conv)


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (0.5, "bfloat16"),
        (3e38, "float32"),
        (2.0**127, "bfloat16"),
        (1 + 2.0**-10, "float16"),
        (65504.0, "float16"),
        (2.0**-24 * 3, "bfloat16"),
        (65505.0, "float32"),
        (0.1, "float32"),
        (1e-40, "float32"),
        (-0.0, "bfloat16"),
    ],
)
def test_the_smallest_exact_type_is_chosen(value: float, values: Values) -> None:
    conv = torch.full((10,), 0.25)
    conv[4] = value
    assert exact_values(weights_of(conv), counts(*[1] * 10)) == values
    # What is not stored does not matter.
    assert exact_values(weights_of(conv), counts(1, 1, 1, 1, 0, 1, 1, 1, 1, 1), first=1) == "bfloat16"


def test_a_ladder_stores_each_round_and_each_group() -> None:
    conv = torch.arange(1.0, 11.0)
    survived = counts(0, 1, 2, 0, 1, 2, 2, 2, 1, 0)
    encoded = encode(weights_of(conv), survived, 2, values="bfloat16")
    assert {name for name in encoded if name.startswith("values/") and name.endswith("unary")} == {
        "values/0/unary",
        "values/1/unary",
        "values/2/unary",
    }
    # Round 1 takes positions 0 3 9 of ten: gaps 0 2 5. Round 2 keeps 3 or 4 of the seven left (1 2 4 5 6 7 8).
    assert encoded["layers"].tolist()[0][0][:2] == [7, 0]
    assert encoded["layers"].tolist()[1][0][:2] == [4, 0]
    weights, got = decode(encoded, SHAPES, PRUNABLE, 2, values="bfloat16")
    assert torch.equal(weights["conv.weight"].flatten(), conv)
    assert torch.equal(got["conv.weight"], survived["conv.weight"])


def test_a_level_of_a_ladder_is_decoded_without_touching_what_it_lost() -> None:
    conv = torch.arange(1.0, 11.0)
    encoded = encode(weights_of(conv), counts(0, 1, 2, 0, 1, 2, 2, 2, 1, 0), 2, values="bfloat16")
    for part in ("exponents", "unary", "rest"):
        encoded[f"values/0/{part}"] = np.zeros(99, np.uint8)  # would be refused if it were read
    weights, survived = decode(encoded, SHAPES, PRUNABLE, 2, values="bfloat16", wanted=1)
    assert weights["conv.weight"].flatten().tolist() == [0, 2, 3, 0, 5, 6, 7, 8, 9, 0]
    assert survived["conv.weight"].flatten().tolist() == [0, 1, 2, 0, 1, 2, 2, 2, 1, 0]
    with pytest.raises(TicketError, match="values/0"):
        decode(encoded, SHAPES, PRUNABLE, 2, values="bfloat16")


def test_a_backbone_is_a_ladder_without_rounds() -> None:
    encoded = encode(weights_of(torch.ones(10)), counts(*[0] * 10), 0, values="float32")
    assert "layers" not in encoded
    assert not any(name.startswith("round/") for name in encoded)
    weights, survived = decode(encoded, SHAPES, PRUNABLE, 0, values="float32")
    assert torch.equal(weights["conv.weight"], torch.ones(2, 5, 1, 1))
    assert not survived["conv.weight"].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity_cannot_be_written(value: float) -> None:
    conv = torch.ones(10)
    conv[0] = value
    with pytest.raises(TicketError, match="values/1 holds NaN or infinite values"):
        encode(weights_of(conv), counts(*[1] * 10), 1, first=1, values="float32")


def test_a_value_too_large_for_the_asked_type_is_an_error_and_not_infinity() -> None:
    with pytest.raises(TicketError, match="too large for float16"):
        encode(weights_of(torch.full((10,), 1e6)), counts(*[1] * 10), 1, first=1, values="float16")


def test_other_types_than_float32_are_refused() -> None:
    weights = weights_of(torch.ones(10)) | {"fc.weight": torch.ones(3, 2, dtype=torch.float64)}
    with pytest.raises(TicketError, match=r"fc\.weight is torch\.float64"):
        encode(weights, counts(*[1] * 10), 1, first=1, values="float32")


# Any shape, any mask, any value


@st.composite
def networks(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Weights of two convolutions and a head, and the rounds their weights survived."""
    levels = draw(st.integers(1, 6))
    weights: dict[str, Tensor] = {"head": torch.from_numpy(draw(arrays(np.float32, 3, elements=floats)))}
    survived: dict[str, Tensor] = {}
    for name in ("conv0", "conv1"):
        shape = draw(conv_shapes)
        values = draw(arrays(np.float32, shape, elements=draw(st.sampled_from([halves, floats]))))
        some = st.integers(0, levels)
        rounds = draw(st.one_of(st.just(0), st.just(levels), arrays(np.uint8, shape, elements=some)))
        weights[name] = torch.from_numpy(values)
        survived[name] = torch.from_numpy(np.full(shape, rounds, np.uint8))
    return weights, survived, levels


Network = tuple[dict[str, Tensor], dict[str, Tensor], int]


def shapes_of(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


@settings(max_examples=150, deadline=None)
@given(networks())
def test_every_ladder_comes_back_bit_for_bit(network: Network) -> None:
    weights, survived, levels = network
    values = exact_values(weights, survived)
    encoded = encode(weights, survived, levels, values=values)
    got, got_survived = decode(encoded, shapes_of(weights), list(survived), levels, values=values)
    assert {name: pattern(tensor) for name, tensor in got.items()} == {n: pattern(t) for n, t in weights.items()}
    assert all(torch.equal(got_survived[name], survived[name]) for name in survived)


@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_a_level_of_a_ladder_is_the_ticket_of_that_level(network: Network, data: st.DataObject) -> None:
    weights, survived, levels = network
    level = data.draw(st.integers(1, levels))
    mask = {name: (rounds >= level).to(torch.uint8) for name, rounds in survived.items()}
    shapes, names = shapes_of(weights), list(survived)
    ladder = encode(weights, survived, levels, values="float32")
    ticket = encode(weights, mask, 1, first=1, values="float32")
    got, got_survived = decode(ladder, shapes, names, levels, values="float32", wanted=level)
    alone, kept = decode(ticket, shapes, names, 1, first=1, values="float32")
    for name in shapes:
        assert pattern(got[name]) == pattern(alone[name])
    for name in names:
        assert torch.equal(got_survived[name] >= level, kept[name] == 1)
        assert not alone[name][kept[name] == 0].any()


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from(["float16", "bfloat16"]))
def test_rounding_is_torchs(network: Network, values: Values) -> None:
    weights, survived, levels = network
    dtype = getattr(torch, values)
    rounded = {n: t.to(dtype).float() if n in survived else t for n, t in weights.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in rounded.values()):
        with pytest.raises(TicketError, match="too large"):
            encode(weights, survived, levels, values=values)
        return
    encoded = encode(weights, survived, levels, values=values)
    got, _ = decode(encoded, shapes_of(weights), list(survived), levels, values=values)
    assert {name: pattern(tensor) for name, tensor in got.items()} == {n: pattern(t) for n, t in rounded.items()}


def test_random_masks_are_within_three_percent_of_their_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    for density in (0.5, 0.3, 0.2, 0.1, 0.05, 0.0144):
        mask = (torch.rand(200_000, 1, 1, 1, generator=generator) < density).to(torch.uint8)
        encoded = encode({"conv": mask.float()}, {"conv": mask}, 1, first=1, values="float32")
        bytes_ = encoded["round/1/unary"].nbytes + encoded["round/1/binary"].nbytes
        share = float(mask.float().mean())
        entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) * mask.numel() / 8
        assert entropy < bytes_ < 1.03 * entropy


# Malformed


def test_a_missing_tensor_is_named(example: Arrays) -> None:
    for name in example:
        with pytest.raises(TicketError, match=f"tensor {name} is missing"):
            decoded({key: array for key, array in example.items() if key != name})


@pytest.mark.parametrize("name", ["values/0/rest", "round/2/unary", "extra", "\x1b[2J\n../x"])
def test_a_superfluous_tensor_is_named_and_printed_harmlessly(example: Arrays, name: str) -> None:
    with pytest.raises(TicketError, match="does not belong here") as caught:
        decoded(example | {name: np.zeros(1, np.uint8)})
    assert str(caught.value).isprintable()


def _u8(*values: int) -> rice.Bytes:
    return np.array(values, np.uint8)


def _layers(*row: int) -> Any:
    return np.array([[row]], np.int32)


MALFORMED = {
    "layers of another type": ("layers", np.array([[[4, 1, 0]]], np.int64), "layers is int64"),
    "layers of another shape": ("layers", np.array([[[4, 1]]], np.int32), "layers is int32"),
    "more kept than there are": ("layers", _layers(11, 1, 0), "cannot keep 11 of 10 weights of conv.weight"),
    "a negative count": ("layers", _layers(-1, 1, 0), "cannot keep -1 of 10"),
    "a mark that is none": ("layers", _layers(4, 2, 0), "cannot keep 4 of 10"),
    "another count": ("layers", _layers(5, 1, 0), "round/1: the unary stream holds 4 numbers, not 5"),
    "another mark": ("layers", _layers(4, 0, 0), "round/1: the unary stream holds 4 numbers, not 6"),
    "another parameter": ("layers", _layers(4, 1, 2), "round/1: the streams are too short"),
    "a wild parameter": ("layers", _layers(4, 1, 2**31 - 1), "Rice parameter"),
    "a position beyond": ("round/1/unary", bits("1 001 1 000001"), "beyond the 10 weights of conv.weight"),
    "unary in two rows": ("round/1/unary", np.zeros((1, 2), np.uint8), "expected a row of bytes"),
    "unary of another type": ("round/1/unary", np.zeros(2, np.int64), "expected a row of bytes"),
    "values: a byte short": ("values/1/rest", _u8(0, 0, 0), "values/1/rest does not hold 4 values of bfloat16"),
    "values: a byte more": ("values/1/rest", _u8(0, 0, 0, 0, 0), "does not hold 4 values"),
    "an exponent twice": ("values/1/exponents", _u8(126, 126), "values/1/exponents repeats one"),
    "an infinite exponent": ("values/1/exponents", _u8(126, 255), "NaN and infinity"),
    "too few exponents": ("values/1/exponents", _u8(126), "values/1/unary points beyond the 1 exponents"),
    "one value less": ("values/1/unary", bits("1 1 01"), "values/1: the unary stream holds 3 numbers, not 4"),
    "a negative variance": ("dense/rest", None, "bn.running_var holds a negative variance"),
    "counters of another type": ("counters", np.array([7], np.int32), "counters is not 1 whole numbers"),
    "two counters": ("counters", np.array([7, 7], np.int64), "counters is not 1 whole numbers"),
    "a negative counter": ("counters", np.array([-1], np.int64), "counters is not 1 whole numbers"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_ticket_is_refused(example: Arrays, case: str) -> None:
    name, array, reason = MALFORMED[case]
    if array is None:  # the sign of the first dense value is the top bit of the third plane's first byte
        array = example[name].copy()
        array[16] |= 128
    with pytest.raises(TicketError, match=reason):
        decoded(example | {name: cast(Any, array)})


def test_padding_of_spare_planes_must_be_zero() -> None:
    encoded = encode(weights_of(torch.tensor(CONV)), counts(*KEPT), 1, first=1, values="float16")
    encoded["values/1/rest"][-1] |= 1
    with pytest.raises(TicketError, match="values/1/rest has padding bits"):
        decoded(encoded, "float16")


def test_a_file_too_small_for_its_weights_is_refused_before_any_round_is_decoded() -> None:
    # 64 rounds in which everything stays take no bytes, and would take gigabytes over an architecture of this size.
    size, levels = 2**26, 64
    nothing = np.zeros(0, np.uint8)
    floats = ["dense", *(f"values/{group}" for group in range(levels + 1))]
    encoded: Arrays = {f"{name}/{part}": nothing for name in floats for part in ("exponents", "unary", "rest")}
    encoded |= {f"round/{level}/{part}": nothing for level in range(1, levels + 1) for part in ("unary", "binary")}
    encoded |= {"layers": np.full((levels, 1, 3), (size, 0, 0), np.int32), "counters": np.zeros(0, np.int64)}
    began = time.monotonic()
    with pytest.raises(TicketError, match="values are those of fewer than 67108864 weights"):
        decode(encoded, {"conv.weight": (size,)}, ["conv.weight"], levels, values="bfloat16")
    assert time.monotonic() - began < 1, "refused before anything of that size is made"
