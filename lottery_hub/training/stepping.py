"""What a step of training is made of, as the device likes it: images, optimizer, masks and averages."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lottery_hub.images.datasets import Split
from lottery_hub.networks.backbones import Normalised
from lottery_hub.networks.masks import Mask, apply_, bits_of
from lottery_hub.networks.memory import available_memory
from lottery_hub.settings.config import Recipe


def optimizer_of(model: Normalised, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """Return SGD over a model's parameters."""
    rate: float | Tensor = recipe.lr
    # As a tensor, its value may change between steps that are recorded. On a CPU the fused kernel copies gradients.
    fused = True if device.type == "cuda" else None
    if fused:
        rate = torch.tensor(recipe.lr, device=device)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=fused
    )


def resident(split: Split, device: torch.device) -> Split:
    """Return the images on a GPU, where they take no more than a quarter of what is free there; else as they are."""
    if device.type != "cuda" or split.images.nbytes > (available_memory(device) or 0) / 4:
        return split
    return replace(split, images=split.images.to(device), labels=split.labels.to(device))


def average_of(model: Normalised, recipe: Recipe) -> AveragedModel | None:
    """Return the model that holds the moving average of weights and BatchNorm statistics, or None."""
    if not recipe.average:
        return None
    decayed = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=decayed, use_buffers=True)
    averaged.n_averaged = averaged.n_averaged.cpu()  # which is looked at in every step
    return averaged


def move(averaged: AveragedModel, model: Normalised, first: bool) -> None:
    """Move the average toward a step's weights and statistics; those of the first are taken as they are.

    As `update_parameters` does, which reads its counter on the device and so can not be recorded.
    """
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for ours, theirs in zip(_state(averaged.module), _state(model), strict=True):
        lists = kinds.setdefault(ours.dtype, ([], []))
        lists[0].append(ours)
        lists[1].append(theirs)
    for means, now in kinds.values():
        if first:
            torch._foreach_copy_(means, now)
        else:
            averaged.multi_avg_fn(means, now, averaged.n_averaged)  # type: ignore[misc]


def _state(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def momentum_of(model: nn.Module) -> float:
    """Return by how much BatchNorm's statistics move in a pass."""
    return next((m.momentum or 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d)), 0.1)


def pruned_entries(model: Normalised, mask: Mask | None) -> list[tuple[Tensor, Tensor]]:
    """Prune a model; return what `as_integers` makes of each weight of which something is pruned."""
    if mask is None:
        return []
    apply_(model.network, mask)
    parameters = dict(model.network.named_parameters())
    return [as_integers(parameters[name], kept) for name, kept in mask.items() if not kept.all()]


def as_integers(weight: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight's bits as integers, and 1 where it is kept and 0 where not, laid out in memory like the weight.

    The product of both is what taking the bits of both is (see `bits_of`), and can be made of all weights at once.
    """
    bits = bits_of(kept, weight)
    return weight.detach().view(bits.dtype), bits.neg_()
