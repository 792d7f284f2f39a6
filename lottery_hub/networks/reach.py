"""Which weights an image can reach at all: on small maps, taps of a convolution lie on padding wherever it stands.

A 3x3 convolution over a map of one pixel multiplies eight of its nine taps with zeros, whatever the image; so does one
with dilation 4 over 4x4 pixels, as timm's `output_stride` makes them. Such weights compute nothing and learn nothing,
and weight decay shrinks them to nothing. To prune them costs nothing: of a sparsity, that part is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lottery_hub.networks.backbones import skeleton
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.small_maps import seen_taps
from lottery_hub.values import percent


@lru_cache(maxsize=32)
def reached(arch: str, side: int) -> Mapping[str, Tensor]:
    """Return of each convolution which taps some position of its map reaches, bool [k, k], for images of one side.

    Args:
        arch: a key of `backbones.ARCHITECTURES`.
        side: of what the network sees, in pixels.
    """
    network = skeleton(arch, 2).eval()
    found: dict[str, Tensor] = {}

    def note(name: str, conv: nn.Conv2d, shown: tuple[Any, ...], _: Tensor) -> None:
        down, across = (_taps(conv, axis, shown[0].shape[2 + axis]) for axis in (0, 1))
        found[f"{name}.weight"] = down[:, None] & across[None, :]

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, shown, given, name=name: note(name, conv, shown, given))
    with torch.no_grad():
        network(torch.empty(1, 3, side, side, device="meta"))
    return found


def _taps(conv: nn.Conv2d, axis: int, side: int) -> Tensor:
    """Return of the taps along one axis which lie on the map for some position of the convolution, bool [k]."""
    size, step, edge, spread = (
        int(each[axis]) for each in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    )
    seen = {tap for _, _, tap in seen_taps(side, size, step, edge, spread)}
    return torch.tensor([tap in seen for tap in range(size)])


class Reach(NamedTuple):
    """How many weights a mask keeps of those that images reach, how many they reach, and how many there are."""

    kept: int
    reached: int
    total: int

    @property
    def sparsity(self) -> float:
        """Of what images reach, the share that is pruned, in 0..1."""
        return 1 - self.kept / self.reached


def reach_of(mask: Mask, arch: str, side: int) -> Reach:
    """Return how much of what images reach a mask keeps.

    Args:
        mask: name → bool, True where kept.
        arch: of the network.
        side: of what it sees, in pixels.
    """
    taps = reached(arch, side)
    kept = sum(int((one & taps[name]).sum()) for name, one in mask.items())
    within = sum(int(taps[name].expand(one.shape).sum()) for name, one in mask.items())
    return Reach(kept, within, sum(one.numel() for one in mask.values()))


def reach_told(mask: Mask, arch: str, side: int) -> list[str]:
    """Return a line where images of a side do not reach all weights, so that some of a sparsity is free; else none."""
    reach = reach_of(mask, arch, side)
    if reach.reached == reach.total:
        return []
    return [
        f"{side}x{side} images reach {percent(reach.reached / reach.total)} % of the prunable weights; the others only "
        f"ever meet padding, and to prune them costs nothing. Of those that are reached {percent(reach.sparsity)} % "
        "are pruned"
    ]
