"""The one training loop: standard where a recipe has no attack, adversarial where it has one.

Every epoch draws its randomness from (seed, epoch) alone, so a run that is killed and continued from its
last checkpoint takes the same path as one that was not. Masks are applied in place after each optimizer
step: momentum and weight decay may move a pruned weight, but no forward pass ever sees it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lottery_hub.errors import ConfigError, LotteryHubError, TicketError, first_line, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.views import centred, train_batches
from lottery_hub.networks.backbones import Normalised, Weights, fingerprint
from lottery_hub.networks.folding import Folded, folded
from lottery_hub.networks.masks import Mask, apply_, bits_of
from lottery_hub.networks.memory import free_memory, images_that_fit, is_out_of_memory, peak_memory
from lottery_hub.networks.small_maps import arranged
from lottery_hub.robustness.attacks import perturb
from lottery_hub.robustness.evaluation import autocast, evaluate
from lottery_hub.settings.ambient import gradients
from lottery_hub.settings.config import Recipe, Seeds
from lottery_hub.settings.paths import path_of
from lottery_hub.settings.speed import memory_format
from lottery_hub.storage import atomic, checkpoints, sealed

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """What training leaves: the chosen epoch's weights (timm keys, CPU) and one record per epoch."""

    weights: Weights
    epoch: int
    history: list[dict[str, Any]]


@gradients()
def train(
    model: Normalised,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int | Seeds,
    mask: Mask | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | str | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train `model` in place with SGD and return the chosen epoch.

    The epoch is the best on the validation split: by RA under `recipe.selection_attack` where that is set
    (SA breaks ties), else by SA; or the last, if the recipe says so. Where the recipe averages weights, it is
    the average that is validated and returned. A guard that strikes ends the training at the best epoch; the last
    record then says `stopped`.

    Args:
        model: trained in place; ends with the last epoch's weights (not averaged), or the best if a guard struck.
        data: its train and validation splits are used.
        recipe: all the numbers.
        seed: of data order and views, and of attack starts; they may be given apart.
        mask: pruned weights stay exactly 0 after every step.
        device: where to compute.
        checkpoint: file to continue from and to update after every epoch. One that is damaged, or of another
            training, is set aside with a `DamageWarning`, and training begins anew.
        on_epoch: called with each epoch's record.

    Where memory runs out, a batch is taken in parts; a record says in how many, and what memory was taken at most.

    Raises:
        ConfigError: the model was made in inference mode.
        LotteryHubError: the loss, or a weight that would be kept, is no longer finite.
        WriteError: the disk does not take the checkpoint; the older one stays what it is.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ConfigError("the model was made in inference mode, and cannot be trained: build it outside")
    checkpoint = None if checkpoint is None else path_of(checkpoint)
    saved = None if checkpoint is None else _Saved(checkpoint, _training_of(model, data, recipe, Seeds.of(seed), mask))
    loop = Loop.over(model, data, recipe, seed=seed, mask=mask, device=device)
    optimizer, averaged = loop.optimizer, loop.averaged
    judged = model if averaged is None else cast(Normalised, averaged.module)
    start, history, best = saved.resume(model, averaged, optimizer) if saved else (0, [], None)
    for epoch in range(start, recipe.epochs):
        if history and "stopped" in history[-1]:
            break
        began = time.monotonic()
        loss, seen = loop.epoch(epoch)
        if not math.isfinite(loss):
            raise _diverged(epoch + 1, f"loss {loss}")
        record: dict[str, Any] = {"epoch": epoch + 1, "epochs": recipe.epochs, "loss": loss, "images": seen}
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            record |= _validate(judged, data, recipe, loop.seeds.attack, loop.device)
            score = (record["validation_RA"] or 0.0, record["validation_SA"])
            if best is not None and score[0] < (1 - recipe.guard) * best["score"][0] and recipe.guard:
                record["stopped"] = f"validation RA fell below {1 - recipe.guard:g} of epoch {best['epoch']}'s"
                model.network.load_state_dict(best["weights"], strict=True)
            elif best is None or recipe.select == "last" or score > best["score"]:
                best = {"score": score, "epoch": epoch + 1, "weights": _snapshot(judged, epoch + 1)}
        record |= {"parts": loop.parts, "peak_memory": peak_memory(loop.device)}
        record["seconds"] = round(time.monotonic() - began, 3)
        history.append(record)
        if saved:
            saved.update(model, averaged, optimizer, epoch + 1, history, best)
        if on_epoch is not None:
            on_epoch(record)
    assert best is not None  # the last epoch is always validated
    return Trained(best["weights"], best["epoch"], history)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the rate at `progress` epochs into training (a float: it moves with every step)."""
    share = progress / recipe.epochs
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))
    if recipe.schedule == "one-cycle":
        return recipe.lr * (share / 0.3 if share < 0.3 else (1 - share) / 0.7)
    if recipe.schedule == "steps":
        return recipe.lr * 0.1 ** sum(progress >= milestone for milestone in recipe.milestones)
    return recipe.lr


@dataclass
class Loop:
    """What the steps of a training share; see `train` for what they are.

    A batch that memory is unlikely to hold is taken in parts from the beginning. Where a step runs out of memory all
    the same, it is taken again in twice as many, and so are those after it. Gradients add up to those of the whole
    batch, but for BatchNorm, which sees the images of one part at a time.
    """

    model: Normalised
    learning: nn.Module  # the same model, as the passes see it in which it learns
    attacked: nn.Module  # and as those of the attack do
    data: Dataset
    recipe: Recipe
    seeds: Seeds
    device: torch.device
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    pruned: list[tuple[Tensor, Tensor]]
    parts: int = 1

    @classmethod
    def over(
        cls,
        model: Normalised,
        data: Dataset,
        recipe: Recipe,
        *,
        seed: int | Seeds,
        mask: Mask | None = None,
        device: torch.device | str = "cpu",
    ) -> Loop:
        """Bring the model to the device, prune it, and make what goes with it."""
        device = torch.device(device)
        model.to(device=device, memory_format=memory_format())  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        pruned = _pruned_entries(model, mask)
        learning, averaged = arranged(model), _averaged(model, recipe)
        frozen = recipe.attack is not None and recipe.attack.batch_norm == "eval"
        attacked = folded(model, recipe.precision) if frozen else learning
        parts = _parts(learning, data, recipe, device)
        return cls(model, learning, attacked, data, recipe, Seeds.of(seed), device, optimizer, averaged, pruned, parts)

    def epoch(self, epoch: int) -> tuple[float, int]:
        """Run one epoch, counted from 0; return (mean loss, images seen)."""
        total = torch.zeros((), device=self.device)
        seen = 0
        for loss, images in self.steps(epoch):
            # Summed on the device: reading the number here would make every step wait for the GPU.
            total += loss * images
            seen += images
        return float(total) / max(seen, 1), seen

    def steps(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Take the steps of an epoch one at a time, and yield the loss of each and how many images it saw."""
        model, recipe, optimizer, train = self.model, self.recipe, self.optimizer, self.data.train
        views = torch.Generator().manual_seed(_epoch_seed(self.seeds.order, epoch))
        starts = torch.Generator(self.device).manual_seed(_epoch_seed(self.seeds.attack, epoch) + 1)
        count = math.ceil(len(train) / recipe.batch_size)
        self.learning.train()
        batches = train_batches(train, recipe.batch_size, recipe.augment, recipe.image_size, views, self.device)
        for step, (images, labels) in enumerate(batches):
            progress = epoch + (step + 0.5) / count if recipe.schedule != "steps" else epoch
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, progress)
            if isinstance(self.attacked, Folded):
                self.attacked.refresh()
            loss = self._gradients(images, labels, starts)
            optimizer.step()
            with torch.no_grad():
                for weight, kept in self.pruned:
                    weight.view(kept.dtype).bitwise_and_(kept)
            if self.averaged is not None:
                self.averaged.update_parameters(model)
            yield loss, len(labels)

    def _gradients(self, images: Tensor, labels: Tensor, starts: torch.Generator) -> Tensor:
        """Compute the gradients of a batch, in as many parts as memory asks for; return its mean loss."""
        before = starts.get_state()
        statistics = [buffer.clone() for buffer in self.model.network.buffers()]
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                pieces = zip(images.tensor_split(self.parts), labels.tensor_split(self.parts), strict=True)
                losses = [self._part(*piece, starts, len(labels)) for piece in pieces]
                return torch.stack(losses).sum()
            except RuntimeError as problem:
                if not is_out_of_memory(problem) or len(labels) < 4 * self.parts:
                    raise
            # Outside of the handler: there, the error still holds the tensors of the failed pass.
            self.parts *= 2
            starts.set_state(before)
            for buffer, value in zip(self.model.network.buffers(), statistics, strict=True):
                buffer.copy_(value)
            free_memory(self.device)

    def _part(self, images: Tensor, labels: Tensor, starts: torch.Generator, of: int) -> Tensor:
        """Add the gradients of a part of a batch of `of` images; return its share of the mean loss."""
        recipe = self.recipe
        with autocast(self.device, recipe.precision):
            shown = images if recipe.attack is None else perturb(self.attacked, images, labels, recipe.attack, starts)
            logits = self.learning(shown.contiguous(memory_format=memory_format()))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        share = loss if len(labels) == of else loss * (len(labels) / of)
        share.backward()  # type: ignore[no-untyped-call]
        return share.detach()


def _validate(model: Normalised, data: Dataset, recipe: Recipe, seed: int, device: torch.device) -> dict[str, Any]:
    measured = evaluate(
        model,
        data.validation,
        attack=recipe.selection_attack,
        image_size=recipe.image_size,
        seed=seed,
        precision=recipe.precision,
        device=device,
    )
    return {"validation_SA": measured.SA, "validation_RA": measured.RA}


def _averaged(model: Normalised, recipe: Recipe) -> AveragedModel | None:
    """Return the model that holds the moving average of weights and BatchNorm statistics, or None."""
    if not recipe.average:
        return None
    decayed = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=decayed, use_buffers=True)


def _parts(model: nn.Module, data: Dataset, recipe: Recipe, device: torch.device) -> int:
    """Return in how many parts, a power of two, a batch is taken so that each is likely to fit into memory."""
    images = centred(data.train.images[:4].to(device), recipe.image_size)
    with autocast(device, recipe.precision):
        fit = images_that_fit(model, images) if len(images) == 4 else None
    size = min(recipe.batch_size, len(data.train))
    parts = 1
    while fit is not None and size > fit * parts and size >= 4 * parts:
        parts *= 2
    return parts


def _pruned_entries(model: Normalised, mask: Mask | None) -> list[tuple[Tensor, Tensor]]:
    if mask is None:
        return []
    apply_(model.network, mask)
    parameters = dict(model.network.named_parameters())
    return [(parameters[name], bits_of(kept, parameters[name])) for name, kept in mask.items() if not kept.all()]


def _epoch_seed(seed: int, epoch: int) -> int:
    # Room for two streams an epoch and a million epochs before the next seed's streams begin.
    return seed * 2_000_003 + 2 * epoch


def _snapshot(model: Normalised, epoch: int) -> Weights:
    weights = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in model.network.state_dict().items()
    }
    # The loss of an epoch is that before its last step: what that step left shows here, or never.
    for name, tensor in weights.items():
        if not all(bool(extreme.isfinite()) for extreme in tensor.aminmax()):
            raise _diverged(epoch, f"{name} is no longer finite")
    return weights


def _diverged(epoch: int, what: str) -> LotteryHubError:
    return LotteryHubError(f"training diverged in epoch {epoch} ({what}); lower the learning rate")


def _training_of(model: Normalised, data: Dataset, recipe: Recipe, seeds: Seeds, mask: Mask | None) -> str:
    """Return `sha256:…` of everything that a training's path depends on."""
    images = {"fingerprint": data.fingerprint, "fraction": data.fraction, "train": len(data.train)}
    normalisation = {name: tensor.flatten().tolist() for name, tensor in model.named_buffers(recurse=False)}
    return sealed.digest(
        {
            "recipe": recipe.record(),
            "seeds": seeds.record(),
            "data": images | {"validation": len(data.validation)},
            "weights": fingerprint(model.network.state_dict()),
            "mask": None if mask is None else fingerprint(mask),
            **normalisation,
        }
    )


@dataclass(frozen=True)
class _Saved:
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
            # Weights, their average, momentum and the best epoch are four times the network.
            state = checkpoints.load(self.path, 2**26 + 8 * weights, next(model.parameters()).device)
        except TicketError as problem:
            atomic.set_aside(self.path, str(problem))
            return 0, [], None
        if state.get("training") != self.training:
            atomic.set_aside(self.path, f"{printable(self.path)} is of another training")
            return 0, [], None
        holders: dict[str, Any] = {"model": model.network, "optimizer": optimizer}
        holders |= {} if averaged is None else {"averaged": averaged}
        before = {name: deepcopy(holder.state_dict()) for name, holder in holders.items()}
        try:
            for name, holder in holders.items():
                holder.load_state_dict(state[name])
            return _progress(state, model.network.state_dict())
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
            # Its hash fits, so somebody made it so.
            for name, holder in holders.items():
                holder.load_state_dict(before[name])
            why = f"{printable(self.path)} is no checkpoint of this training ({first_line(problem)})"
            atomic.set_aside(self.path, why)
            return 0, [], None


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
    if best is not None:
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in best["weights"].items()}
        fits = shapes == {name: (tensor.shape, tensor.dtype) for name, tensor in network.items()}
        if not (fits and type(best["epoch"]) is int and len(best["score"]) == 2):
            raise ValueError("its best epoch is none")
    return epoch, history, best
