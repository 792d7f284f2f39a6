"""What a ticket is made of: density of each layer, size beside its limit, overlap with another ticket."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lottery_hub.errors import TicketError
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.tickets import Ticket
from lottery_hub.values import page_table, percent


@dataclass(frozen=True)
class Size:
    """How large a ticket is, in bytes and weights.

    Attributes:
        dense_bytes: of the whole network as timm would save it, headers not counted.
        limit_bytes: what a file needs that codes the mask at its entropy, each layer at its own density, and
            everything else as plain numbers. A file can be smaller: exponents of weights are predictable.
        kept, prunable: prunable weights, kept and all.
        parameters: all trainable parameters of the dense network, head and BatchNorm included.
    """

    dense_bytes: int
    limit_bytes: float
    kept: int
    prunable: int
    parameters: int

    @property
    def sparsity_of_all(self) -> float:
        """Share of all parameters that are pruned, in 0..1."""
        return (self.prunable - self.kept) / self.parameters


def size(ticket: Ticket, value_bits: int = 32) -> Size:
    """Return how large a ticket is; `value_bits` is what a surviving weight takes in the limit."""
    kept, prunable = ticket.kept_and_total
    rest = {name: tensor for name, tensor in ticket.weights.items() if name not in ticket.mask}
    rest_bytes = sum(tensor.numel() * tensor.element_size() for tensor in rest.values())
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return Size(
        dense_bytes=4 * prunable + rest_bytes,
        limit_bytes=mask_entropy(ticket.mask) / 8 + kept * value_bits / 8 + rest_bytes,
        kept=kept,
        prunable=prunable,
        parameters=prunable + sum(t.numel() for name, t in rest.items() if not name.endswith(buffers)),
    )


def mask_entropy(mask: Mask) -> float:
    """Return the bits that a mask takes if its layers' densities are known and nothing else is."""
    return sum(_entropy(int(kept.count_nonzero()) / kept.numel()) * kept.numel() for kept in mask.values())


def _entropy(share: float) -> float:
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)


@dataclass(frozen=True)
class Overlap:
    """How much two masks share.

    Attributes:
        one, other: weights that each keeps.
        shared: weights that both keep.
        expected: the shared weights expected of independent random masks that keep as many in every layer.
        size: all weights, kept or not.
    """

    one: int
    other: int
    shared: int
    expected: float
    size: int

    @property
    def iou(self) -> float:
        """Intersection over union, in 0..1; 1 where neither keeps anything."""
        return self._over_union(self.shared)

    @property
    def chance(self) -> float:
        """The IoU at the expected number of shared weights."""
        return self._over_union(self.expected)

    def record(self) -> dict[str, Any]:
        """Return the counts and both shares, ready for JSON."""
        shares = {"IoU": self.iou, "IoU_by_chance": self.chance}
        return {"one": self.one, "other": self.other, "shared": self.shared, **shares}

    def cells(self) -> tuple[str, ...]:
        """Return both densities in percent and both shares, for people."""
        densities = (percent(self.one / self.size), percent(self.other / self.size))
        return (*densities, f"{self.iou:.3f}", f"{self.chance:.3f}")

    def _over_union(self, shared: float) -> float:
        either = self.one + self.other - shared
        return shared / either if either else 1.0


@dataclass(frozen=True, repr=False)
class Comparison:
    """How much two tickets share.

    Attributes:
        sparsities: of the two, in 0..1.
        total: over all layers.
        layers: name → of that layer alone.
    """

    sparsities: tuple[float, float]
    total: Overlap
    layers: dict[str, Overlap]

    @property
    def iou(self) -> float:
        """Weights that both keep over weights that either keeps, in 0..1."""
        return self.total.iou

    @property
    def chance(self) -> float:
        """The IoU of random masks that keep as many weights in every layer."""
        return self.total.chance

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        layers = {name: overlap.record() for name, overlap in self.layers.items()}
        return {"sparsity": list(self.sparsities), "total": self.total.record(), "layers": layers}

    def __repr__(self) -> str:
        one, other = map(percent, self.sparsities)
        return f"Comparison(IoU {self.iou:.3f}, {self.chance:.3f} by chance; sparsities {one} and {other} %)"

    def _repr_html_(self) -> str:
        rows = [(name, *each.cells()) for name, each in {"total": self.total, **self.layers}.items()]
        return page_table(repr(self), ("layer", "density %", "density %", "IoU", "by chance"), rows)


def compare(one: Ticket, other: Ticket) -> Comparison:
    """Return how much two tickets share.

    Raises:
        TicketError: they belong to different architectures.
    """
    layers = overlaps(one.mask, other.mask)
    return Comparison((one.sparsity, other.sparsity), total_overlap(layers.values()), layers)


def overlaps(one: Mask, other: Mask) -> dict[str, Overlap]:
    """Compare two masks layer by layer.

    Raises:
        TicketError: they belong to different architectures.
    """
    if {name: kept.shape for name, kept in one.items()} != {name: kept.shape for name, kept in other.items()}:
        raise TicketError("the tickets belong to different architectures; only equal layers can be compared")
    found = {}
    for name, first in one.items():
        second = other[name]
        a, b, size_ = int(first.count_nonzero()), int(second.count_nonzero()), first.numel()
        found[name] = Overlap(a, b, int((first & second).count_nonzero()), expected=a * b / size_, size=size_)
    return found


def total_overlap(layers: Iterable[Overlap]) -> Overlap:
    """Return the overlap over several layers together."""
    parts = list(layers)
    return Overlap(
        sum(part.one for part in parts),
        sum(part.other for part in parts),
        sum(part.shared for part in parts),
        sum(part.expected for part in parts),
        sum(part.size for part in parts),
    )
