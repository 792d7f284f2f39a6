"""What a ticket is made of: density of each layer, size beside its limit, overlap with another ticket."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lottery_hub.errors import TicketError
from lottery_hub.networks.masks import Mask, kept_and_total
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

    def turned(self) -> Overlap:
        """Return the same of the other with the one."""
        return Overlap(self.other, self.one, self.shared, self.expected, self.size)

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


@dataclass(frozen=True, repr=False)
class Comparisons:
    """How much each of several tickets shares with each other one.

    Attributes:
        names: of the tickets.
        sparsities: of each, in 0..1.
        overlaps: a row a ticket, and in it one for each, over all layers.
    """

    names: tuple[str, ...]
    sparsities: tuple[float, ...]
    overlaps: tuple[tuple[Overlap, ...], ...]

    @property
    def iou(self) -> list[list[float]]:
        """Weights that both keep over weights that either keeps, in 0..1, [tickets, tickets]."""
        return [[each.iou for each in row] for row in self.overlaps]

    @property
    def chance(self) -> list[list[float]]:
        """The IoU of random masks that keep as many weights in every layer; of a ticket with itself too."""
        return [[each.chance for each in row] for row in self.overlaps]

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        shares = {"IoU": self.iou, "IoU_by_chance": self.chance}
        return {"tickets": list(self.names), "sparsity": list(self.sparsities), **shares}

    def cells(self) -> list[tuple[str, ...]]:
        """Return a row for each ticket, for people: its name, density in percent, and what it shares with each."""
        return [
            (name, percent(1 - sparsity), *(f"{each.iou:.3f} ({each.chance:.3f})" for each in row))
            for name, sparsity, row in zip(self.names, self.sparsities, self.overlaps, strict=True)
        ]

    def __repr__(self) -> str:
        between = [value for place, row in enumerate(self.iou) for value in row[:place]]
        return f"Comparisons({len(self.names)} tickets, IoU {min(between):.3f} to {max(between):.3f})"

    def _repr_html_(self) -> str:
        return page_table(repr(self), ("ticket", "density %", *self.names), self.cells())


def compare_all(masks: Mapping[str, Mask]) -> Comparisons:
    """Return how much each of several tickets shares with each other one, given their masks by name.

    Raises:
        TicketError: they belong to different architectures.
    """
    rows = [
        [total_overlap(overlaps(one, other).values()) for other in list(masks.values())[: place + 1]]
        for place, one in enumerate(masks.values())
    ]
    several = range(len(rows))
    # What one shares with another, that one shares with it.
    whole = [tuple(rows[a][b] if b <= a else rows[b][a].turned() for b in several) for a in several]
    counts = [kept_and_total(mask) for mask in masks.values()]
    return Comparisons(tuple(masks), tuple(1 - kept / total for kept, total in counts), tuple(whole))


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
