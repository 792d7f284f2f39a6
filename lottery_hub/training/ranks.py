"""One training by several processes, a GPU each: every one takes its part of a batch, and all take the same step.

What they give is what one process gives that takes its batches in as many parts: gradients add up once a step, and
BatchNorm's statistics move by one part after the other. Every process calls `loop.train` with the same arguments, in a
process group of torch (see `joined`); the first one writes and tells of epochs. Where one dies, the others end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(minutes=30)  # until a process that says nothing counts as dead


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; one of one where there are no others."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return this process's place in torch's process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this one runs the command, reads and writes."""
        return self.rank == 0

    def part(self, tensor: Tensor) -> Tensor:
        """Return this process's part of a batch; of one too small for all, the first takes everything."""
        if self.size == 1:
            return tensor
        if len(tensor) < 2 * self.size:
            return tensor if self.first else tensor[:0]
        return tensor.tensor_split(self.size)[self.rank]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))

    def one_after_the_other(self, before: Sequence[Tensor], now: Sequence[Tensor], momentum: float) -> None:
        """Move BatchNorm's statistics as if the parts of the batch had been seen one after the other.

        A pass takes a statistic r to (1 - m) r + m s, and k passes to (1 - m)^k r and something that does not depend
        on r. That is what each process tells of its part.

        Args:
            before: a network's buffers before the step: statistics, and counters of passes.
            now: the buffers themselves, after it.
            momentum: m.
        """
        moving = [place for place in now if place.is_floating_point()]
        counters = [place for place in now if not place.is_floating_point()]
        if not counters:
            return
        was = torch.cat([place.reshape(-1) for place in before if place.is_floating_point()])
        count = next(place for place in before if not place.is_floating_point())
        passes = (counters[0] - count).to(was.dtype).reshape(1)
        keep = (1 - momentum) ** passes
        told = torch.cat([torch.cat([place.reshape(-1) for place in moving]) - keep * was, keep, passes])
        every = [torch.empty_like(told) for _ in range(self.size)]
        dist.all_gather(every, told)
        found = was
        for one in every:
            found = one[-2] * found + one[:-2]
        total = int(sum(float(one[-1]) for one in every))
        for place, value in zip(moving, torch.split(found, [place.numel() for place in moving]), strict=True):
            place.copy_(value.view(place.shape))
        for place in counters:
            place.copy_(count + total)

    def same(self, value: Any) -> Any:
        """Return the first process's value in all of them."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def resume(
        self,
        progress: tuple[int, list[dict[str, Any]], dict[str, Any] | None],
        model: nn.Module,
        averaged: nn.Module | None,
        optimizer: torch.optim.Optimizer,
    ) -> tuple[int, list[dict[str, Any]], dict[str, Any] | None]:
        """Bring everything to where it is in the first process; return how far that is."""
        holders: list[Any] = [model, optimizer, *([averaged] if averaged else [])]
        states = self.same([holder.state_dict() for holder in holders])
        if not self.first:
            for holder, state in zip(holders, states, strict=True):
                holder.load_state_dict(state)
        return cast(tuple[int, list[dict[str, Any]], dict[str, Any] | None], self.same(progress))


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started, if it has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # Statistics and messages go by gloo, gradients on a GPU by NCCL.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Ranks.here()
    finally:
        dist.destroy_process_group()
