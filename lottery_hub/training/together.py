"""What processes that train together tell each other: where to go on, and what BatchNorm has seen.

What they give is what one process gives that takes its batches in as many parts: gradients add up once a step, and
BatchNorm's statistics move by one part after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lottery_hub.errors import LotteryHubError
from lottery_hub.settings.ranks import Ranks

Reached = tuple[int, list[dict[str, Any]], dict[str, Any] | None]  # epochs done, their records, and the best


def one_after_the_other(ranks: Ranks, before: Sequence[Tensor], now: Sequence[Tensor], momentum: float) -> None:
    """Move BatchNorm's statistics as if the parts of the batch had been seen one after the other.

    A pass takes a statistic r to (1 - m) r + m s, and k passes to (1 - m)^k r and something that does not depend
    on r. That is what each process tells of its part.

    Args:
        ranks: this process and the others.
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
    every = ranks.every(told)
    found = was
    for one in every:
        found = one[-2] * found + one[:-2]
    total = torch.stack([one[-1] for one in every]).sum().to(count.dtype)
    for place, value in zip(moving, torch.split(found, [place.numel() for place in moving]), strict=True):
        place.copy_(value.view(place.shape))
    for place in counters:
        place.copy_(count + total)


def resume(
    ranks: Ranks,
    training: str,
    reached: Reached,
    model: nn.Module,
    averaged: nn.Module | None,
    optimizer: torch.optim.Optimizer,
) -> Reached:
    """Bring everything to where it is in the first process; return how far that is.

    Args:
        ranks: this process and the others.
        training: hash of what is trained.
        reached: how far the first process is.
        model, averaged, optimizer: what is brought there.

    Raises:
        LotteryHubError: it is another training here than in the first process.
    """
    if ranks.size == 1:
        return reached
    wrong = torch.tensor([int(ranks.same(training) != training)])
    ranks.add_up([wrong])
    if int(wrong):
        raise LotteryHubError("the processes do not find the same images and weights: have all read the same files")
    holders: list[Any] = [model, optimizer, *([averaged] if averaged else [])]
    states = ranks.same([holder.state_dict() for holder in holders])
    if not ranks.first:
        for holder, state in zip(holders, states, strict=True):
            holder.load_state_dict(state)
    return cast(Reached, ranks.same(reached))
