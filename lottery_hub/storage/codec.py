"""The compact encoding of tickets, ladders and backbones: `encode` and `decode`, two pure functions, no files.

All three are the same thing. A ladder is θ_pre and nested rounds of pruning; a weight that survived exactly
j rounds belongs to group j, and every group is stored on its own. A backbone is a ladder of no rounds, and a
ticket one of a single round that stores group 1 alone: what was pruned is gone. docs/format.md draws it.

    layers            I32 [rounds, P, 3]  for each prunable tensor: kept after the round; whether the positions
                                          listed are those that stay (1) or go (0); their Rice parameter
    round/K/unary     U8  the gaps between listed positions among the survivors of round K-1,
    round/K/binary    U8  Rice-coded (`rice`), one prunable tensor after the other
    values/J/...      the weights of group J, prunable tensors in order, positions ascending
    dense/...         every other float tensor, flattened one after the other
    counters          I64 BatchNorm's num_batches_tracked

and a group of floats is
    .../exponents     U8  the exponent fields that occur, most frequent first
    .../unary         U8  for each value which of them it has: Rice-coded with parameter 0
    .../rest          U8  its sign and mantissa: whole bytes plane by plane, then what is left bit plane by bit plane
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lottery_hub.errors import TicketError, printable
from lottery_hub.storage import rice

Arrays = dict[str, npt.NDArray[np.generic]]
Shapes = Mapping[str, tuple[int, ...]]
Values = Literal["float32", "float16", "bfloat16"]


class _Layout(NamedTuple):
    """Bits of a float's exponent and mantissa."""

    exponent: int
    mantissa: int


COUNT = torch.uint8  # of rounds survived
LAYOUTS: dict[Values, _Layout] = {"float32": _Layout(8, 23), "float16": _Layout(5, 10), "bfloat16": _Layout(8, 7)}


def encode(
    weights: Mapping[str, Tensor], survived: Mapping[str, Tensor], levels: int, *, first: int = 0, values: Values
) -> Arrays:
    """Return the compact arrays of a ladder, or of a ticket (`levels` 1, `first` 1).

    Args:
        weights: timm's state dict; what group `first` does not reach is not looked at.
        survived: prunable name → uint8, the rounds each weight survived, at most `levels`.
        levels: rounds.
        first: the lowest group that is stored.
        values: what prunable weights are rounded to; `exact_values` says which loses nothing.

    Raises:
        TicketError: a tensor is of a type the format does not have, or holds NaN or infinity.
    """
    rounds = {name: survived[name].cpu().numpy().reshape(-1) for name in survived}
    layers = np.zeros((levels, len(rounds), 3), np.int32)
    encoded: Arrays = {}
    for level in range(1, levels + 1):
        # `compress` is indexing by a mask, several times faster.
        stays = [np.compress(counts >= level - 1, counts) >= level for counts in rounds.values()]
        # The rarer of the two is listed: its gaps are longer and fewer.
        listed = [bool(2 * np.count_nonzero(kept) <= len(kept)) for kept in stays]
        gaps = [_gaps(kept if some else ~kept) for kept, some in zip(stays, listed, strict=True)]
        parameters, encoded[f"round/{level}/unary"], encoded[f"round/{level}/binary"] = rice.encode(gaps)
        layers[level - 1] = np.array([[np.count_nonzero(kept) for kept in stays], listed, parameters]).T
    if levels:
        encoded["layers"] = layers
    flat = {name: _floats_of(weights[name], name) for name in rounds}
    for group in range(first, levels + 1):
        members = [np.compress(rounds[name] == group, flat[name]) for name in rounds]
        encoded |= _encode_floats(f"values/{group}", _joined(members, np.float32), values)
    rest = {name: tensor for name, tensor in weights.items() if name not in rounds}
    dense = [_floats_of(tensor, name) for name, tensor in rest.items() if not _is_counter(name)]
    encoded |= _encode_floats("dense", _joined(dense, np.float32), "float32")
    encoded["counters"] = np.array([int(tensor) for name, tensor in rest.items() if _is_counter(name)], np.int64)
    return encoded


def decode(
    encoded: Mapping[str, npt.NDArray[np.generic]],
    shapes: Shapes,
    prunable: list[str],
    levels: int,
    *,
    first: int = 0,
    values: Values,
    wanted: int | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return (weights, survived) in the order of `shapes`; weights of groups below `wanted` are 0.

    Args:
        encoded: what `encode` returned.
        shapes: name → shape of every tensor of the network.
        prunable: the names that are pruned.
        levels: rounds.
        first: the lowest group that is stored.
        values: what prunable weights were rounded to.
        wanted: the lowest group to decode; the others are neither read nor checked.

    Raises:
        TicketError: names the tensor and the reason.
    """
    _check_names(encoded, levels, first)
    sizes = [math.prod(shapes[name]) for name in prunable]
    layers = _layers(encoded, levels, len(prunable))
    if not first:
        _check_room(encoded, sum(sizes), values)
    survived = [np.zeros(size, np.uint8) for size in sizes]
    # Positions of what is still alive, by prunable tensor; the last round's are also group `levels`.
    alive = [np.arange(0)] * len(prunable)
    for level in range(1, levels + 1):
        counts = sizes if level == 1 else [len(positions) for positions in alive]
        stay = _decode_round(encoded, level, layers[level - 1], counts, prunable)
        # Before the first round, a weight's place among those alive is its place in the tensor.
        alive = stay if level == 1 else [before[places] for before, places in zip(alive, stay, strict=True)]
        for counter, positions in zip(survived, alive, strict=True):
            counter[positions] = level
    flat = [np.zeros(size, np.float32) for size in sizes]
    for group in range(first if wanted is None else wanted, levels + 1):
        last = levels and group == levels
        places = alive if last else [np.flatnonzero(counter == group) for counter in survived]
        floats = _decode_floats(encoded, f"values/{group}", sum(map(len, places)), values)
        start = 0
        for weight, positions in zip(flat, places, strict=True):
            weight[positions] = floats[start : start + len(positions)]
            start += len(positions)
    pruned = {name: torch.from_numpy(weight).view(shapes[name]) for name, weight in zip(prunable, flat, strict=True)}
    marks = {
        name: torch.from_numpy(counter).view(shapes[name]) for name, counter in zip(prunable, survived, strict=True)
    }
    rest = _decode_rest(encoded, {name: shape for name, shape in shapes.items() if name not in pruned})
    return {name: pruned[name] if name in pruned else rest[name] for name in shapes}, marks


def exact_values(weights: Mapping[str, Tensor], survived: Mapping[str, Tensor], first: int = 0) -> Values:
    """Return the smallest type that loses nothing of the prunable weights from group `first` on."""
    left: list[Values] = ["bfloat16", "float16"]
    for name, rounds in survived.items():
        kept = np.compress((rounds >= first).cpu().numpy().reshape(-1), _floats_of(weights[name], name))
        left = [values for values in left if _loses_nothing(kept, values)]
        if not left:
            return "float32"
    return left[0]


def _loses_nothing(floats: npt.NDArray[np.float32], values: Values) -> bool:
    rounded = torch.from_numpy(floats).to(getattr(torch, values)).float().numpy()
    return np.array_equal(rounded.view(np.uint32), floats.view(np.uint32))  # as bits: -0.0 is not 0.0


def _gaps(member: npt.NDArray[np.bool_]) -> rice.Numbers:
    positions = np.flatnonzero(member)
    gaps = positions.copy()
    gaps[1:] -= positions[:-1] + 1
    return gaps


def _joined(parts: list[npt.NDArray[np.float32]], dtype: type) -> npt.NDArray[np.float32]:
    return np.concatenate([*parts, np.zeros(0, dtype)])


def _is_counter(name: str) -> bool:
    # BatchNorm counts its batches in an integer scalar; everything else is float32.
    return name.endswith("num_batches_tracked")


def _floats_of(tensor: Tensor, name: str) -> npt.NDArray[np.float32]:
    if tensor.dtype != torch.float32:
        raise TicketError(f"tensor {printable(name)} is {tensor.dtype}; only float32 weights can be kept")
    return tensor.detach().cpu().contiguous().numpy().reshape(-1)


def _encode_floats(name: str, floats: npt.NDArray[np.float32], values: Values) -> Arrays:
    layout = LAYOUTS[values]
    whole, left = divmod(layout.mantissa + 1, 8)
    fields = np.empty(len(floats), np.uint8)
    planes = np.empty((whole, len(floats)), np.uint8)
    spare = np.empty((left, len(floats)), np.uint8)
    for start in range(0, len(floats), rice.CHUNK):
        part = slice(start, start + rice.CHUNK)
        bits = _to_bits(floats[part], values)
        fields[part] = (bits >> layout.mantissa) & (2**layout.exponent - 1)
        rest = (bits >> (layout.exponent + layout.mantissa)) << layout.mantissa | bits & (2**layout.mantissa - 1)
        for byte in range(whole):
            planes[byte, part] = (rest >> 8 * byte) & 255
        for bit in range(left):
            spare[bit, part] = (rest >> (8 * whole + bit)) & 1
    counts = np.bincount(fields, minlength=2**layout.exponent)
    if counts[-1]:
        raise TicketError(f"{name} holds NaN or infinite values, or some too large for {values}")
    # Most frequent first; a stable sort makes the file depend on the weights alone.
    exponents = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].astype(np.uint8)
    rank = np.zeros(len(counts), np.uint8)
    rank[exponents] = np.arange(len(exponents))
    return {
        f"{name}/exponents": exponents,
        f"{name}/unary": rice.unary(rank[fields]),
        f"{name}/rest": np.concatenate([planes.reshape(-1), np.packbits(spare)]),
    }


def _decode_floats(
    encoded: Mapping[str, npt.NDArray[np.generic]], name: str, count: int, values: Values
) -> npt.NDArray[np.float32]:
    layout = LAYOUTS[values]
    exponents = _bytes(encoded, f"{name}/exponents").astype(np.uint32)
    rest = _bytes(encoded, f"{name}/rest")
    whole, left = divmod(layout.mantissa + 1, 8)
    if len(rest) != whole * count + (left * count + 7) // 8:
        raise TicketError(f"{name}/rest does not hold {count} values of {values}")
    if len(np.unique(exponents)) != len(exponents) or (exponents >= 2**layout.exponent - 1).any():
        raise TicketError(f"{name}/exponents repeats one, or lists that of NaN and infinity")
    try:
        ranks = rice.decode([count], [0], _bytes(encoded, f"{name}/unary"), np.zeros(0, np.uint8))[0]
    except TicketError as problem:
        raise TicketError(f"{name}: {problem}") from problem
    if count and int(ranks.max()) >= len(exponents):
        raise TicketError(f"{name}/unary points beyond the {len(exponents)} exponents")
    spare = np.unpackbits(rest[whole * count :])
    if spare[left * count :].any():
        raise TicketError(f"{name}/rest has padding bits that are not zero")
    byte_planes = rest[: whole * count].reshape(whole, count)
    bit_planes = spare[: left * count].reshape(left, count)
    bits = np.empty(count, np.uint32)
    for start in range(0, count, rice.CHUNK):
        part = slice(start, start + rice.CHUNK)
        low = np.zeros(len(bits[part]), np.uint32)
        for byte in range(whole):
            low |= byte_planes[byte, part].astype(np.uint32) << 8 * byte
        for bit in range(left):
            low |= bit_planes[bit, part].astype(np.uint32) << (8 * whole + bit)
        sign = (low >> layout.mantissa) << (layout.exponent + layout.mantissa)
        bits[part] = sign | (exponents << layout.mantissa)[ranks[part]] | low & (2**layout.mantissa - 1)
    return _from_bits(bits, values)


def _to_bits(floats: npt.NDArray[np.float32], values: Values) -> npt.NDArray[np.uint32]:
    """Return the bit patterns of floats rounded to `values`, to the nearest and ties to even."""
    if values == "float32":
        return floats.view(np.uint32)
    rounded = torch.from_numpy(floats).to(getattr(torch, values))
    return rounded.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)


def _from_bits(bits: npt.NDArray[np.uint32], values: Values) -> npt.NDArray[np.float32]:
    if values == "float16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return (bits if values == "float32" else bits << 16).view(np.float32)


def _check_names(encoded: Mapping[str, object], levels: int, first: int) -> None:
    floats = ["dense", *(f"values/{group}" for group in range(first, levels + 1))]
    wanted = {f"{name}/{part}" for name in floats for part in ("exponents", "unary", "rest")} | {"counters"}
    wanted |= {f"round/{level}/{part}" for level in range(1, levels + 1) for part in ("unary", "binary")}
    wanted |= {"layers"} if levels else set()
    missing, extra = sorted(wanted - encoded.keys()), sorted(encoded.keys() - wanted)
    if missing:
        raise TicketError(f"tensor {printable(missing[0])} is missing ({len(missing)} in all)")
    if extra:
        raise TicketError(f"tensor {printable(extra[0])} does not belong here ({len(extra)} in all)")


def _bytes(encoded: Mapping[str, npt.NDArray[np.generic]], name: str) -> rice.Bytes:
    array = encoded[name]
    if array.dtype != np.uint8 or array.ndim != 1:
        raise TicketError(f"{name} is {array.dtype} {printable(array.shape)}, expected a row of bytes")
    return array  # type: ignore[return-value]


def _layers(encoded: Mapping[str, npt.NDArray[np.generic]], levels: int, count: int) -> npt.NDArray[np.int32]:
    layers = encoded["layers"] if levels else np.zeros((0, count, 3), np.int32)
    if layers.dtype != np.int32 or layers.shape != (levels, count, 3):
        raise TicketError(f"layers is {layers.dtype} {printable(layers.shape)}, expected int32 {(levels, count, 3)}")
    return layers  # type: ignore[return-value]


def _check_room(encoded: Mapping[str, npt.NDArray[np.generic]], count: int, values: Values) -> None:
    """Raise TicketError where a file is too small for its weights, before rounds over all of them are decoded."""
    bits = 8 * sum(array.size for name, array in encoded.items() if name.startswith("values/"))
    if bits < count * (LAYOUTS[values].mantissa + 1):
        raise TicketError(f"values are those of fewer than {count} weights")


def _decode_round(
    encoded: Mapping[str, npt.NDArray[np.generic]],
    level: int,
    layers: npt.NDArray[np.int32],
    sizes: list[int],
    names: list[str],
) -> list[npt.NDArray[np.int64]]:
    """Return for each prunable tensor which of its survivors stay, as increasing places among them."""
    counts = []
    for name, size, (kept, listed, _) in zip(names, sizes, layers.tolist(), strict=True):
        if not 0 <= kept <= size or listed not in (0, 1):
            raise TicketError(f"layers: round {level} cannot keep {kept} of {size} weights of {printable(name)}")
        counts.append(kept if listed else size - kept)
    streams = [_bytes(encoded, f"round/{level}/{part}") for part in ("unary", "binary")]
    try:
        gaps = rice.decode(counts, layers[:, 2].tolist(), streams[0], streams[1])
    except TicketError as problem:
        raise TicketError(f"round/{level}: {problem}") from problem
    stay = []
    for name, size, listed, numbers in zip(names, sizes, layers[:, 1].tolist(), gaps, strict=True):
        positions = np.add(numbers, 1, out=numbers)
        np.cumsum(positions, out=positions)
        positions -= 1
        if len(positions) and int(positions[-1]) >= size:
            raise TicketError(f"round/{level} lists a position beyond the {size} weights of {printable(name)}")
        if not listed:
            others = np.ones(size, np.bool_)
            others[positions] = False
            positions = np.flatnonzero(others)
        stay.append(positions)
    return stay


def _decode_rest(encoded: Mapping[str, npt.NDArray[np.generic]], shapes: Shapes) -> dict[str, Tensor]:
    """Return the tensors that are not pruned."""
    counters = encoded["counters"]
    names = [name for name in shapes if _is_counter(name)]
    if counters.dtype != np.int64 or counters.shape != (len(names),) or (counters < 0).any():  # type: ignore[operator]
        raise TicketError(f"counters is not {len(names)} whole numbers from 0 on")
    rest = {name: torch.tensor(number) for name, number in zip(names, counters.tolist(), strict=True)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if not _is_counter(name)}
    floats = torch.from_numpy(_decode_floats(encoded, "dense", sum(sizes.values()), "float32"))
    for name, part in zip(sizes, torch.split(floats, list(sizes.values())), strict=True):
        if name.endswith("running_var") and bool((part < 0).any()):
            raise TicketError(f"dense: {printable(name)} holds a negative variance")
        rest[name] = part.clone().view(shapes[name])
    return rest
