"""The file that a killed training goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lottery_hub.errors import TicketError, first_line, printable
from lottery_hub.networks.backbones import Normalised
from lottery_hub.storage import atomic, checkpoints


@dataclass(frozen=True)
class Saved:
    """The file that a training goes on from: its place, and of what training it must be."""

    path: Path
    training: str

    def update(
        self,
        model: Normalised,
        averaged: AveragedModel | None,
        optimizer: torch.optim.Optimizer,
        epoch: int,
        history: list[dict[str, Any]],
        best: dict[str, Any] | None,
    ) -> None:
        state = {
            "training": self.training,
            "epoch": epoch,
            "model": model.network.state_dict(),
            "averaged": None if averaged is None else averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "best": best,
        }
        checkpoints.save(self.path, state)

    def resume(
        self, model: Normalised, averaged: AveragedModel | None, optimizer: torch.optim.Optimizer
    ) -> tuple[int, list[dict[str, Any]], dict[str, Any] | None]:
        """Bring everything to where the file left it; return (epochs done, history, the best epoch)."""
        if not self.path.exists():
            return 0, [], None
        weights = sum(tensor.nbytes for tensor in model.network.state_dict().values())
        try:
            # Weights, their average, momentum and the best epoch are four times the network. What is on a GPU is copied
            # there; the best epoch's weights stay on the CPU, where those of later ones are.
            state = checkpoints.load(self.path, 2**26 + 8 * weights)
        except TicketError as problem:
            atomic.set_aside(self.path, str(problem))
            return 0, [], None
        if state.get("training") != self.training:
            atomic.set_aside(self.path, f"{printable(self.path)} is of another training")
            return 0, [], None
        holders: dict[str, Any] = {"model": model.network, "optimizer": optimizer}
        holders |= {} if averaged is None else {"averaged": averaged}
        before = {name: deepcopy(holder.state_dict()) for name, holder in holders.items()}
        # How an optimizer steps is the recipe's and the device's doing; the file gives its momentum alone.
        settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        try:
            for name, holder in holders.items():
                holder.load_state_dict(state[name])
            _check_momentum(optimizer)
            for group, ours in zip(optimizer.param_groups, settings, strict=True):
                group.update(ours)
            return _progress(state, model.network.state_dict())
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
            # Its hash fits, so somebody made it so.
            for name, holder in holders.items():
                holder.load_state_dict(before[name])
            why = f"{printable(self.path)} is no checkpoint of this training ({first_line(problem)})"
            atomic.set_aside(self.path, why)
            return 0, [], None


def _check_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Refuse momentum that is not of the weights that it moves, which the optimizer takes and stumbles over later.

    Raises:
        ValueError: it is not.
    """
    for parameter, state in optimizer.state.items():
        momentum = state.get("momentum_buffer")
        if momentum is not None and not (isinstance(momentum, Tensor) and momentum.shape == parameter.shape):
            raise ValueError(f"momentum of the shape {tuple(parameter.shape)} is missing")


def _progress(
    state: dict[str, Any], network: Mapping[str, Tensor]
) -> tuple[int, list[dict[str, Any]], dict[str, Any] | None]:
    """Return the epochs done, their records and the best of them, whose weights are those of such a network.

    Raises:
        ValueError, LookupError: that is not what is there.
    """
    epoch, history, best = state["epoch"], state["history"], state["best"]
    whole = type(epoch) is int and isinstance(history, list) and all(isinstance(row, dict) for row in history)
    if not whole or not 0 < epoch == len(history):
        raise ValueError(f"epoch {epoch!r} is not that of its history")
    if not (type(history[-1]["parts"]) is int and 1 <= history[-1]["parts"] <= 65_536):
        raise ValueError(f"a batch in {history[-1]['parts']!r} parts is none")
    if best is not None:
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in best["weights"].items()}
        fits = shapes == {name: (tensor.shape, tensor.dtype) for name, tensor in network.items()}
        if not (fits and type(best["epoch"]) is int and len(best["score"]) == 2):
            raise ValueError("its best epoch is none")
    return epoch, history, best
