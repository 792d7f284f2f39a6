"""The compact encoding of a ticket or ladder: two pure functions each way, no files.

A ticket becomes, for every prunable tensor NAME,
    mask/NAME      uint8 [ceil(n/8)]  one bit a weight in row-major order, most significant bit first, zero padded
    values/NAME    float16 or float32 [kept]  the kept weights in the same order
and for every other tensor
    dense/NAME     as it is.
A ladder stores all weights as values (nothing is pruned from θ_pre) and, in place of the mask,
    survived/NAME  uint8 [n]  the number of rounds each weight survived.

Values are float16 where that loses nothing, else float32: the encoding is always exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lottery_hub.errors import TicketError, printable
from lottery_hub.masks import Mask

Shapes = Mapping[str, tuple[int, ...]]


def encode_ticket(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return the compact tensors of a ticket; `weights` outside the mask are not looked at."""
    encoded: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name in mask:
            encoded[f"mask/{name}"] = torch.from_numpy(np.packbits(mask[name].cpu().numpy()))
            encoded[f"values/{name}"] = _smallest(weight[mask[name]])
        else:
            encoded[f"dense/{name}"] = weight.contiguous()
    return encoded


def decode_ticket(encoded: Mapping[str, Tensor], shapes: Shapes, prunable: list[str]) -> tuple[dict[str, Tensor], Mask]:
    """Return (weights, mask): every pruned weight 0, in the order of `shapes`.

    Args:
        encoded: what `encode_ticket` returned.
        shapes: name → shape of every tensor of the network.
        prunable: the names that carry a mask.

    Raises:
        TicketError: a tensor is missing, superfluous or inconsistent.
    """
    _check_names(encoded, shapes, prunable, "mask")
    weights: dict[str, Tensor] = {}
    mask: Mask = {}
    for name, shape in shapes.items():
        if name not in prunable:
            weights[name] = _dense(encoded, name, shape)
            continue
        mask[name] = _unpacked(encoded[f"mask/{name}"], name, shape)
        values = _values(encoded[f"values/{name}"], name, int(mask[name].sum()))
        weights[name] = torch.zeros(shape).masked_scatter_(mask[name], values)
    return weights, mask


def encode_ladder(weights: Mapping[str, Tensor], survived: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the compact tensors of a ladder; with no `survived` it is a backbone's."""
    encoded: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() == 4:
            encoded[f"values/{name}"] = _smallest(weight.flatten())
        else:
            encoded[f"dense/{name}"] = weight.contiguous()
        if name in survived:
            encoded[f"survived/{name}"] = survived[name].flatten().contiguous()
    return encoded


def decode_ladder(
    encoded: Mapping[str, Tensor], shapes: Shapes, prunable: list[str], levels: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return (weights, survived); `survived` is empty for `levels` 0, a backbone.

    Raises:
        TicketError: a tensor is missing, superfluous or inconsistent.
    """
    _check_names(encoded, shapes, prunable, "survived" if levels else None)
    weights: dict[str, Tensor] = {}
    survived: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name not in prunable:
            weights[name] = _dense(encoded, name, shape)
            continue
        weights[name] = _values(encoded[f"values/{name}"], name, _count(shape)).view(shape)
        if levels:
            rounds = encoded[f"survived/{name}"]
            if rounds.dtype != torch.uint8 or rounds.shape != (_count(shape),) or int(rounds.max()) > levels:
                raise TicketError(f"survived/{printable(name)} does not hold {_count(shape)} counts of 0 to {levels}")
            survived[name] = rounds.view(shape)
    return weights, survived


def _smallest(values: Tensor) -> Tensor:
    """Return the values in float16 where every one of them survives it, else unchanged."""
    half = values.to(torch.float16)
    return half if torch.equal(half.to(values.dtype), values) else values.contiguous()


def _check_names(encoded: Mapping[str, Tensor], shapes: Shapes, prunable: list[str], marks: str | None) -> None:
    wanted = {f"dense/{name}" for name in shapes if name not in prunable} | {f"values/{name}" for name in prunable}
    if marks:
        wanted |= {f"{marks}/{name}" for name in prunable}
    missing, extra = sorted(wanted - encoded.keys()), sorted(encoded.keys() - wanted)
    if missing:
        raise TicketError(f"tensor {printable(missing[0])} is missing ({len(missing)} in all)")
    if extra:
        raise TicketError(f"tensor {printable(extra[0])} does not belong here ({len(extra)} in all)")


def _dense(encoded: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = encoded[f"dense/{name}"]
    # BatchNorm counts its batches in an integer scalar; everything else is float32.
    wanted = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
    if tensor.dtype != wanted or tuple(tensor.shape) != shape:
        raise TicketError(
            f"dense/{printable(name)} is {tensor.dtype} {tuple(tensor.shape)}, expected {wanted} {tuple(shape)}"
        )
    if not bool(tensor.isfinite().all()):
        raise TicketError(f"dense/{printable(name)} holds NaN or infinite values")
    return tensor


def _values(values: Tensor, name: str, count: int) -> Tensor:
    if values.dtype not in (torch.float16, torch.float32) or tuple(values.shape) != (count,):
        raise TicketError(
            f"values/{printable(name)} is {values.dtype} {tuple(values.shape)}, expected {count} float16 or float32"
        )
    if not bool(values.isfinite().all()):
        raise TicketError(f"values/{printable(name)} holds NaN or infinite values")
    return values.to(torch.float32)


def _unpacked(packed: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    count = _count(shape)
    if packed.dtype != torch.uint8 or tuple(packed.shape) != ((count + 7) // 8,):
        raise TicketError(f"mask/{printable(name)} does not hold {(count + 7) // 8} bytes for {count} weights")
    bits = np.unpackbits(packed.numpy())
    if bits[count:].any():
        raise TicketError(f"mask/{printable(name)} has padding bits that are not zero")
    return torch.from_numpy(bits[:count].astype(bool)).view(shape)


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
