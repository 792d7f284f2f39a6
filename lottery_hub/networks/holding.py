"""A mask that holds in a training loop of one's own, whoever wrote the loop.

A step of an optimizer revives what was pruned, since its gradient is not zero; momentum and weight decay then go on.
After each step, before anything else sees the weights, the pruned ones are set to exactly 0 again. That is all: the
network stays plain, its state-dict keys stay timm's own, and a moving average of zeros is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lottery_hub.errors import TicketError, printable
from lottery_hub.networks.masks import Mask, bits_of

COMPILED = "_orig_mod."  # what torch.compile puts into the names of what it wraps


def hold_mask(mask: Mask, optimizer: torch.optim.Optimizer, model: nn.Module) -> RemovableHandle:
    """Set pruned weights to exactly 0 now and after every step of an optimizer; see `Ticket.hold_mask`.

    Raises:
        TicketError: the model does not hold the weights of this mask once, or the optimizer trains none of them.
    """
    if not isinstance(model, nn.Module) or not hasattr(optimizer, "param_groups"):
        given = f"{type(optimizer).__name__} and {type(model).__name__}"
        raise TicketError(f"hold_mask takes an optimizer and the model whose weights it trains, not {given}")
    parameters = inside(dict(model.named_parameters()), mask)
    for name, kept in mask.items():
        if parameters[name].shape != kept.shape:
            shapes = f"{tuple(parameters[name].shape)}, the ticket's has {tuple(kept.shape)}"
            raise TicketError(f"the model is another network than the ticket's: {name} has shape {shapes}")
    while isinstance(wrapped := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = wrapped  # accelerate's and Lightning's have one inside, and it is that which steps
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if trained.isdisjoint(map(id, parameters.values())):
        raise TicketError(
            "the optimizer trains none of the model's prunable weights; make it of the parameters of this very model"
        )
    held = [_Held(parameters[name], kept) for name, kept in mask.items() if not bool(kept.all())]

    def prune(*_: object) -> None:
        for each in held:
            each.prune()

    prune()
    return optimizer.register_step_post_hook(prune)


def inside(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors of a network's own names, wherever in a model the network is.

    Args:
        tensors: of the whole model, by their names there: `module.conv1.weight`, `network.conv1.weight`, …
        names: of the network's.

    Raises:
        TicketError: they are there not at all, or more than once.
    """
    wanted = list(names)
    plain = {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
    ends = [name for name in plain if name == wanted[0] or name.endswith(f".{wanted[0]}")]
    places = [name.removesuffix(wanted[0]) for name in ends]
    whole = [place for place in places if all(place + name in plain for name in wanted)]
    if len(whole) != 1:
        why = "is there several times" if whole else f"is not there ({printable(wanted[0])} and others are missing)"
        raise TicketError(f"the ticket's network {why}; give the model that ticket.to_model() made, or what wraps it")
    return {name: plain[whole[0] + name] for name in wanted}


class _Held:
    """A weight and which of it is kept, as bits on the device where the weight is."""

    def __init__(self, weight: Tensor, kept: Tensor) -> None:
        self.weight, self.kept = weight, kept
        self.bits = bits_of(kept, weight)

    @torch.no_grad()
    def prune(self) -> None:
        """Set to exactly 0 what is not kept."""
        moved = self.bits.device != self.weight.device or self.bits.element_size() != self.weight.element_size()
        if moved:  # a model is moved, or made half as wide, under the optimizer that it has
            self.bits = bits_of(self.kept, self.weight)
        self.weight.view(self.bits.dtype).bitwise_and_(self.bits)
