"""The compact encoding: what is decoded is what was encoded, bit for bit, and nothing malformed gets in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lottery_hub.errors import TicketError
from lottery_hub.masks import Mask
from lottery_hub.storage.codec import decode_ladder, decode_ticket, encode_ladder, encode_ticket

SHAPES = {"conv.weight": (2, 5, 1, 1), "bn.weight": (2,), "bn.num_batches_tracked": (), "fc.weight": (3, 2)}
PRUNABLE = ["conv.weight"]
KEPT = [1, 0, 0, 1, 1, 0, 0, 0, 0, 1]

conv_shapes = st.tuples(*[st.integers(1, 4)] * 4)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
halves = st.floats(width=16, allow_nan=False, allow_infinity=False)


def weights_of(conv: Tensor) -> dict[str, Tensor]:
    return {
        "conv.weight": conv,
        "bn.weight": torch.tensor([1.0, 2.0]),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.arange(6.0).view(3, 2),
    }


@pytest.fixture
def example() -> tuple[dict[str, Tensor], Mask]:
    """The ten weights of the format page."""
    mask = torch.tensor(KEPT, dtype=torch.bool).view(2, 5, 1, 1)
    return weights_of(torch.arange(10.0).view(2, 5, 1, 1) / 8), {"conv.weight": mask}


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


# By hand


def test_ten_weights_become_two_bytes_and_four_halves(example: tuple[dict[str, Tensor], Mask]) -> None:
    encoded = encode_ticket(*example)
    assert sorted(encoded) == [
        "dense/bn.num_batches_tracked",
        "dense/bn.weight",
        "dense/fc.weight",
        "mask/conv.weight",
        "values/conv.weight",
    ]
    assert encoded["mask/conv.weight"].tolist() == [0x98, 0x40]
    assert encoded["values/conv.weight"].dtype == torch.float16
    assert encoded["values/conv.weight"].tolist() == [0, 3 / 8, 4 / 8, 9 / 8]


def test_a_ticket_decodes_to_zeros_where_pruned(example: tuple[dict[str, Tensor], Mask]) -> None:
    weights, mask = decode_ticket(encode_ticket(*example), SHAPES, PRUNABLE)
    assert weights["conv.weight"].flatten().tolist() == [0, 0, 0, 3 / 8, 4 / 8, 0, 0, 0, 0, 9 / 8]
    assert mask["conv.weight"].int().flatten().tolist() == KEPT
    assert list(weights) == list(SHAPES)
    assert weights["bn.num_batches_tracked"].item() == 7
    assert torch.equal(weights["fc.weight"], example[0]["fc.weight"])


def test_what_lies_outside_the_mask_is_not_stored(example: tuple[dict[str, Tensor], Mask]) -> None:
    weights, mask = example
    other = weights | {"conv.weight": torch.where(mask["conv.weight"], weights["conv.weight"], torch.nan)}
    one, two = encode_ticket(weights, mask), encode_ticket(other, mask)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_kept_zero_stays_kept() -> None:
    mask = {"conv.weight": torch.ones(2, 5, 1, 1, dtype=torch.bool)}
    encoded = encode_ticket(weights_of(torch.zeros(2, 5, 1, 1)), mask)
    decoded, got = decode_ticket(encoded, SHAPES, PRUNABLE)
    assert bool(got["conv.weight"].all())
    assert not decoded["conv.weight"].any()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.5, torch.float16),
        (65504.0, torch.float16),
        (2.0**-24, torch.float16),
        (65505.0, torch.float32),
        (0.1, torch.float32),
        (2.0**-25, torch.float32),
        (1e-40, torch.float32),
        (3e38, torch.float32),
    ],
)
def test_values_are_half_precision_only_where_that_loses_nothing(value: float, dtype: torch.dtype) -> None:
    conv = torch.full((2, 5, 1, 1), 0.25)
    conv[1, 2] = value
    mask = {"conv.weight": torch.ones_like(conv, dtype=torch.bool)}
    for encoded in (encode_ticket(weights_of(conv), mask), encode_ladder(weights_of(conv), {})):
        assert encoded["values/conv.weight"].dtype == dtype
    decoded, _ = decode_ticket(encode_ticket(weights_of(conv), mask), SHAPES, PRUNABLE)
    assert bits(decoded["conv.weight"]) == bits(conv)


def test_a_minus_zero_keeps_its_sign() -> None:
    conv = torch.full((2, 5, 1, 1), -0.0)
    mask = {"conv.weight": torch.ones_like(conv, dtype=torch.bool)}
    decoded, _ = decode_ticket(encode_ticket(weights_of(conv), mask), SHAPES, PRUNABLE)
    assert bits(decoded["conv.weight"]) == bits(conv)


def test_a_ladder_stores_every_weight_and_a_count_each() -> None:
    conv = torch.arange(10.0).view(2, 5, 1, 1)
    survived = {"conv.weight": torch.tensor([0, 1, 2, 0, 1, 2, 2, 2, 1, 0], dtype=torch.uint8).view(2, 5, 1, 1)}
    encoded = encode_ladder(weights_of(conv), survived)
    assert encoded["survived/conv.weight"].tolist() == [0, 1, 2, 0, 1, 2, 2, 2, 1, 0]
    assert encoded["values/conv.weight"].tolist() == list(range(10))
    weights, got = decode_ladder(encoded, SHAPES, PRUNABLE, 2)
    assert torch.equal(weights["conv.weight"], conv)
    assert torch.equal(got["conv.weight"], survived["conv.weight"])


def test_a_backbone_is_a_ladder_without_counts() -> None:
    encoded = encode_ladder(weights_of(torch.ones(2, 5, 1, 1)), {})
    assert not any(name.startswith("survived/") for name in encoded)
    weights, survived = decode_ladder(encoded, SHAPES, PRUNABLE, 0)
    assert survived == {}
    assert torch.equal(weights["conv.weight"], torch.ones(2, 5, 1, 1))


# Any shape, any mask, any value


@st.composite
def tickets(draw: st.DrawFn) -> tuple[dict[str, Tensor], Mask]:
    weights: dict[str, Tensor] = {"head": torch.ones(3)}
    mask: Mask = {}
    for name in ("conv0", "conv1"):
        shape = draw(conv_shapes)
        # One value that half precision cannot hold makes the whole tensor float32.
        values = draw(arrays(np.float32, shape, elements=draw(st.sampled_from([halves, floats]))))
        kept = draw(st.one_of(st.just(np.ones(shape, bool)), st.just(np.zeros(shape, bool)), arrays(bool, shape)))
        weights[name], mask[name] = torch.from_numpy(values), torch.from_numpy(kept)
    return weights, mask


@settings(max_examples=60, deadline=None)
@given(tickets())
def test_every_ticket_comes_back_bit_for_bit(ticket: tuple[dict[str, Tensor], Mask]) -> None:
    weights, mask = ticket
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    encoded = encode_ticket(weights, mask)
    got, got_mask = decode_ticket(encoded, shapes, list(mask))
    for name, kept in mask.items():
        assert torch.equal(got_mask[name], kept)
        assert bits(got[name][kept]) == bits(weights[name][kept])
        assert not got[name][~kept].any()
        assert got[name].dtype == torch.float32
        # One bit a weight, and two or four bytes a kept one: nothing else.
        assert encoded[f"mask/{name}"].numel() == -(-kept.numel() // 8)
        assert encoded[f"values/{name}"].numel() == int(kept.sum())


@settings(max_examples=40, deadline=None)
@given(tickets(), st.data())
def test_every_ladder_comes_back_bit_for_bit(ticket: tuple[dict[str, Tensor], Mask], data: st.DataObject) -> None:
    weights, mask = ticket
    levels = data.draw(st.integers(1, 64))
    counts = st.integers(0, levels)
    survived = {
        name: torch.from_numpy(data.draw(arrays(np.uint8, tuple(kept.shape), elements=counts)))
        for name, kept in mask.items()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    got, got_survived = decode_ladder(encode_ladder(weights, survived), shapes, list(mask), levels)
    for name in mask:
        assert bits(got[name]) == bits(weights[name])
        assert torch.equal(got_survived[name], survived[name])


# Malformed


def test_a_missing_tensor_is_named(example: tuple[dict[str, Tensor], Mask]) -> None:
    encoded = encode_ticket(*example)
    for name in encoded:
        rest = {key: tensor for key, tensor in encoded.items() if key != name}
        with pytest.raises(TicketError, match=f"tensor {name} is missing"):
            decode_ticket(rest, SHAPES, PRUNABLE)


@pytest.mark.parametrize("name", ["mask/fc.weight", "dense/conv.weight", "values/x", "extra", "survived/conv.weight"])
def test_a_superfluous_tensor_is_named(example: tuple[dict[str, Tensor], Mask], name: str) -> None:
    with pytest.raises(TicketError, match=f"tensor {name} does not belong here"):
        decode_ticket(encode_ticket(*example) | {name: torch.zeros(1)}, SHAPES, PRUNABLE)


def test_escape_codes_in_a_tensors_name_are_not_printed_raw(example: tuple[dict[str, Tensor], Mask]) -> None:
    with pytest.raises(TicketError) as caught:
        decode_ticket(encode_ticket(*example) | {"\x1b[2J\n../x": torch.zeros(1)}, SHAPES, PRUNABLE)
    assert str(caught.value).isprintable()


MALFORMED = {
    "mask too short": ("mask/conv.weight", torch.tensor([0x98], dtype=torch.uint8), "does not hold 2 bytes"),
    "mask too long": ("mask/conv.weight", torch.tensor([0x98, 0x40, 0], dtype=torch.uint8), "does not hold 2 bytes"),
    "mask of another type": ("mask/conv.weight", torch.tensor([0x18, 0x40], dtype=torch.int8), "does not hold 2 bytes"),
    "mask in two rows": ("mask/conv.weight", torch.tensor([[0x98], [0x40]], dtype=torch.uint8), "does not hold"),
    "padding set": ("mask/conv.weight", torch.tensor([0x98, 0x60], dtype=torch.uint8), "padding bits"),
    "one bit more": ("mask/conv.weight", torch.tensor([0x99, 0x40], dtype=torch.uint8), "expected 5 float16"),
    "too few values": ("values/conv.weight", torch.zeros(3), "expected 4 float16"),
    "too many values": ("values/conv.weight", torch.zeros(5), "expected 4 float16"),
    "doubles": ("values/conv.weight", torch.zeros(4, dtype=torch.float64), "expected 4 float16 or float32"),
    "bfloats": ("values/conv.weight", torch.zeros(4, dtype=torch.bfloat16), "expected 4 float16 or float32"),
    "nan": ("values/conv.weight", torch.tensor([0, 0, 0, torch.nan]), "NaN or infinite"),
    "half inf": ("values/conv.weight", torch.tensor([0, 0, 0, torch.inf], dtype=torch.float16), "NaN or infinite"),
    "dense shape": ("dense/fc.weight", torch.zeros(2, 3), r"expected torch.float32 \(3, 2\)"),
    "dense half": ("dense/fc.weight", torch.zeros(3, 2, dtype=torch.float16), "expected torch.float32"),
    "dense nan": ("dense/bn.weight", torch.tensor([1, torch.nan]), "NaN or infinite"),
    "counter": ("dense/bn.num_batches_tracked", torch.tensor(1.0), "expected torch.int64"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_ticket_is_refused(example: tuple[dict[str, Tensor], Mask], case: str) -> None:
    name, tensor, reason = MALFORMED[case]
    with pytest.raises(TicketError, match=reason) as caught:
        decode_ticket(encode_ticket(*example) | {name: tensor}, SHAPES, PRUNABLE)
    assert name in str(caught.value) or case == "one bit more"


@pytest.mark.parametrize(
    "survived",
    [
        torch.full((10,), 3, dtype=torch.uint8),
        torch.zeros(9, dtype=torch.uint8),
        torch.zeros(2, 5, 1, 1, dtype=torch.uint8),
        torch.zeros(10, dtype=torch.int32),
    ],
    ids=["beyond the levels", "too short", "not flat", "of another type"],
)
def test_a_malformed_ladder_is_refused(survived: Tensor) -> None:
    encoded = encode_ladder(weights_of(torch.ones(2, 5, 1, 1)), {"conv.weight": torch.zeros(10, dtype=torch.uint8)})
    with pytest.raises(TicketError, match=r"survived/conv\.weight does not hold 10 counts of 0 to 2"):
        decode_ladder(encoded | {"survived/conv.weight": survived}, SHAPES, PRUNABLE, 2)


def test_a_ladder_without_counts_and_a_backbone_with_them_are_refused() -> None:
    plain = encode_ladder(weights_of(torch.ones(2, 5, 1, 1)), {})
    with pytest.raises(TicketError, match=r"survived/conv\.weight is missing"):
        decode_ladder(plain, SHAPES, PRUNABLE, 2)
    with pytest.raises(TicketError, match=r"survived/conv\.weight does not belong here"):
        decode_ladder(plain | {"survived/conv.weight": torch.zeros(10, dtype=torch.uint8)}, SHAPES, PRUNABLE, 0)
