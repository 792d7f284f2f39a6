"""The one training loop: standard where a recipe has no attack, adversarial where it has one.

Every epoch draws its randomness from (seed, epoch) alone, so a run that is killed and continued from its
last checkpoint takes the same path as one that was not. Masks are applied in place after each optimizer
step: momentum and weight decay may move a pruned weight, but no forward pass ever sees it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lottery_hub.errors import ConfigError, LotteryHubError
from lottery_hub.images.datasets import Dataset, Split, sample
from lottery_hub.images.fitting import check_resampled_once
from lottery_hub.images.views import centred, train_batches
from lottery_hub.networks.backbones import Normalised, Weights, fingerprint
from lottery_hub.networks.folding import Folded, folded
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.memory import (
    free_memory,
    images_that_fit,
    is_out_of_memory,
    peak_memory,
)
from lottery_hub.networks.replaying import Replay
from lottery_hub.networks.small_maps import arranged
from lottery_hub.robustness.attacks import draw_starts, perturb_from
from lottery_hub.robustness.evaluation import autocast, evaluate
from lottery_hub.settings import passes
from lottery_hub.settings.ambient import computing, gradients
from lottery_hub.settings.config import Recipe, Seeds
from lottery_hub.settings.paths import path_of
from lottery_hub.settings.ranks import ALONE, Ranks
from lottery_hub.settings.speed import memory_format, on
from lottery_hub.storage import sealed
from lottery_hub.telling import tell
from lottery_hub.training.saved import Saved
from lottery_hub.training.stepping import average_of, momentum_of, move, optimizer_of, pruned_entries, resident
from lottery_hub.training.together import one_after_the_other, resume

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
    ranks: Ranks = ALONE,
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
        ranks: this process and others that call this with the same arguments: each takes its part of every batch, and
            the first one reads and writes the checkpoint and calls `on_epoch`.

    Where memory runs out, a batch is taken in parts; a record says in how many, and what memory was taken at most. A
    training that goes on takes as many as before.

    Raises:
        ConfigError: the model was made in inference mode, or images are stored at another size than the recipe's.
        LotteryHubError: the loss, or a weight that would be kept, is no longer finite.
        WriteError: the disk does not take the checkpoint; the older one stays what it is.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ConfigError("the model was made in inference mode, and cannot be trained: build it outside")
    check_resampled_once(data.train.images.shape[-1], recipe)
    checkpoint = None if checkpoint is None else path_of(checkpoint)
    training = _training_of(model, data, recipe, Seeds.of(seed), mask) if checkpoint or ranks.size > 1 else ""
    saved = Saved(checkpoint, training) if checkpoint and ranks.first else None
    with computing(device):
        loop = Loop.over(model, data, recipe, seed=seed, mask=mask, device=device, ranks=ranks)
        return _train(loop, data, training, saved, on_epoch)


def _train(loop: Loop, data: Dataset, training: str, saved: Saved | None, on_epoch: OnEpoch | None) -> Trained:
    model, recipe = loop.model, loop.recipe
    optimizer, averaged = loop.optimizer, loop.averaged
    judged = model if averaged is None else cast(Normalised, averaged.module)
    reached = saved.resume(model, averaged, optimizer) if saved else (0, [], None)
    start, history, best = resume(loop.ranks, training, reached, model, averaged, optimizer)
    if history:
        loop.parts = history[-1]["parts"]  # whatever memory is free now: BatchNorm goes on seeing as many images
    validation, few = data.validation, recipe.validation_images
    if 0 < few < len(validation):
        validation = sample(validation, few, 0)
    if start:
        tell("passes", passes=passes.of_training(recipe.record(), len(data.train), len(validation), start), before=True)
    for epoch in range(start, recipe.epochs):
        if history and "stopped" in history[-1]:
            break
        tell("begun", epoch=epoch + 1, epochs=recipe.epochs)
        began = time.monotonic()
        loss, seen = loop.epoch(epoch)
        if not math.isfinite(loss):
            raise _diverged(epoch + 1, f"loss {loss}")
        record: dict[str, Any] = {"epoch": epoch + 1, "epochs": recipe.epochs, "loss": loss, "images": seen}
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            record |= _validate(judged, validation, recipe, loop)
            score = (record["validation_RA"] or 0.0, record["validation_SA"])
            if best is not None and score[0] < (1 - recipe.guard) * best["score"][0] and recipe.guard:
                record["stopped"] = f"validation RA fell below {1 - recipe.guard:g} of epoch {best['epoch']}'s"
                model.network.load_state_dict(best["weights"], strict=True)
            elif best is None or recipe.select == "last" or score > best["score"]:
                best = {"score": score, "epoch": epoch + 1, "weights": _snapshot(judged, epoch + 1)}
        record |= {"parts": loop.parts, "peak_memory": peak_memory(loop.device)}
        if loop.device.type == "cuda":
            record["replayed"] = loop.replay.described()
        if loop.ranks.size > 1:
            record["ranks"] = loop.ranks.size
        record["seconds"] = round(time.monotonic() - began, 3)
        history.append(record)
        if not loop.ranks.first:
            continue
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

    On a GPU nothing in a step waits for it: images are there already, random numbers of an epoch are sent in one copy,
    the learning rate is a tensor, and whole steps are recorded and played back.
    """

    model: Normalised
    learning: nn.Module  # the same model, as the passes see it in which it learns
    attacked: nn.Module  # and as those of the attack do
    images: Split  # to train on, on the device where there is room
    recipe: Recipe
    seeds: Seeds
    device: torch.device
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    pruned: list[tuple[Tensor, Tensor]]
    parts: int = 1
    ranks: Ranks = ALONE
    of: int = 0  # images in the batch at work, of which this process may have a part; 0 is all that it is given
    replay: Replay = field(init=False)

    def __post_init__(self) -> None:
        # With others, something is told in every step.
        steps = self.recipe.epochs * (len(self.images) // self.recipe.batch_size) if self.ranks.size == 1 else 0
        self.replay = Replay(self._step, self.device, self.recipe.batch_size, steps)
        self._statistics = [torch.empty_like(buffer) for buffer in self.model.network.buffers()]

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
        ranks: Ranks = ALONE,
    ) -> Loop:
        """Bring the model to the device, prune it, and make what goes with it."""
        device = torch.device(device)
        model.to(device=device, memory_format=memory_format())  # type: ignore[call-overload]
        pruned = pruned_entries(model, mask)
        learning, averaged = arranged(model), average_of(model, recipe)
        frozen = recipe.attack is not None and recipe.attack.batch_norm == "eval"
        attacked = folded(model, recipe.precision) if frozen else learning
        if on("compile", device):
            for view in {learning, attacked}:
                view.compile(dynamic=False)
        parts = _parts(learning, data, recipe, device, ranks)
        images, optimizer = resident(data.train, device), optimizer_of(model, recipe, device)
        seeds = Seeds.of(seed)
        return cls(model, learning, attacked, images, recipe, seeds, device, optimizer, averaged, pruned, parts, ranks)

    def epoch(self, epoch: int) -> tuple[float, int]:
        """Run one epoch, counted from 0; return (mean loss, images seen)."""
        total = torch.zeros((), device=self.device)
        seen, cost = 0, passes.of_step(self.recipe.record())
        for loss, images in self.steps(epoch):
            tell("passes", passes=images * cost, images=images)
            # Summed on the device: reading the number here would make every step wait for the GPU.
            total += loss * images
            seen += images
        return float(total) / max(seen, 1), seen

    def steps(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Take the steps of an epoch one at a time, and yield the loss of each and how many images it saw."""
        recipe, train = self.recipe, self.images
        views = torch.Generator().manual_seed(_epoch_seed(self.seeds.order, epoch))
        generator = torch.Generator(self.device).manual_seed(_epoch_seed(self.seeds.attack, epoch) + 1)
        count = math.ceil(len(train) / recipe.batch_size)
        self.learning.train()
        views_of = (recipe.augment, recipe.image_size, views, self.device)
        batches = train_batches(train, recipe.batch_size, *views_of, self.ranks.part)
        for step, (images, labels) in enumerate(batches):
            of = self.of = min(recipe.batch_size, len(train) - step * recipe.batch_size)
            progress = epoch + (step + 0.5) / count if recipe.schedule != "steps" else epoch
            self._set_rate(learning_rate(recipe, progress))
            loss = self.replay(images, labels, *self._starts(images, of, generator))
            if self.averaged is not None:
                self.averaged.n_averaged += 1
            yield loss, of

    def _starts(self, images: Tensor, of: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Draw where the attack begins, for this process's images of a batch of so many."""
        if self.recipe.attack is not None:
            whole = images if len(images) == of else images.new_empty((of, *images.shape[1:]))
            for start in draw_starts(whole, self.recipe.attack, generator):
                if start is not None:
                    yield self.ranks.part(start)

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _step(self, images: Tensor, labels: Tensor, *starts: Tensor) -> Tensor:
        """Take a step, in which nothing is drawn and nothing read back; return its mean loss."""
        if isinstance(self.attacked, Folded):
            self.attacked.refresh()
        # What is recorded has run before, and takes what memory it needs when it is recorded.
        gradients_of = self._gradients if self.replay.recording else self._gradients_that_fit
        loss = gradients_of(images, labels, starts)
        for parameter in self.model.parameters():
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                # They differ in sides of a single element at most, over which the fused optimizer stumbles.
                parameter.grad = parameter.grad.as_strided(parameter.shape, parameter.stride())
        self.optimizer.step()
        with torch.no_grad():
            if self.pruned:
                weights, kept = zip(*self.pruned, strict=True)
                torch._foreach_mul_(weights, kept)
            if self.averaged is not None:
                first = not self.replay.recording and int(self.averaged.n_averaged) == 0
                move(self.averaged, self.model, first)
        return loss

    def _gradients_that_fit(self, images: Tensor, labels: Tensor, starts: Sequence[Tensor]) -> Tensor:
        """Compute the gradients of a batch, in as many parts as memory asks for; return its mean loss."""
        buffers = list(self.model.network.buffers())
        torch._foreach_copy_(self._statistics, buffers)
        while True:
            try:
                loss = self._gradients(images, labels, starts)
                return loss if self.ranks.size == 1 else self._together(loss)
            except RuntimeError as problem:
                if is_out_of_memory(problem) and self.recipe.norm_batch:
                    raise _too_large(self.recipe.norm_batch) from problem
                if not is_out_of_memory(problem) or len(labels) < 4 * self.parts:
                    raise
            # Outside of the handler: there, the error still holds the tensors of the failed pass.
            self.parts *= 2
            torch._foreach_copy_(buffers, self._statistics)
            free_memory(self.device)

    def _together(self, loss: Tensor) -> Tensor:
        """Have every process's gradients and statistics be those of the whole batch; return its mean loss."""
        for parameter in self.model.parameters():
            if parameter.grad is None:  # this process had no image
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        with torch.no_grad():
            self.ranks.add_up([loss, *gradients])
            buffers = list(self.model.network.buffers())
            one_after_the_other(self.ranks, self._statistics, buffers, momentum_of(self.model))
        return loss

    def _gradients(self, images: Tensor, labels: Tensor, starts: Sequence[Tensor]) -> Tensor:
        """Compute the gradients of a batch in the parts that it is taken in; return its mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        norm = self.recipe.norm_batch
        parts = math.ceil(len(labels) / norm) if norm else self.parts
        pieces = zip(*(tensor.tensor_split(parts) for tensor in (images, labels, *starts)), strict=True)
        of = self.of or len(labels)
        losses = [self._part(seen, of_seen, begin, of) for seen, of_seen, *begin in pieces if len(seen)]
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.device)

    def _part(self, images: Tensor, labels: Tensor, starts: Sequence[Tensor], of: int) -> Tensor:
        """Add the gradients of a part of a batch of `of` images; return its share of the mean loss."""
        recipe = self.recipe
        with autocast(self.device, recipe.precision):
            shown = images
            if recipe.attack is not None:
                shown = perturb_from(self.attacked, images, labels, recipe.attack, starts)
            logits = self.learning(shown.contiguous(memory_format=memory_format()))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        share = loss if len(labels) == of else loss * (len(labels) / of)
        share.backward()  # type: ignore[no-untyped-call]
        return share.detach()


def _validate(model: Normalised, split: Split, recipe: Recipe, loop: Loop) -> dict[str, Any]:
    tell("stage", what="validation")
    measured = evaluate(
        model,
        split,
        attack=recipe.selection_attack,
        image_size=recipe.image_size,
        seed=loop.seeds.attack,
        precision=recipe.precision,
        device=loop.device,
        ranks=loop.ranks,
    )
    return {"validation_SA": measured.SA, "validation_RA": measured.RA}


def _parts(model: nn.Module, data: Dataset, recipe: Recipe, device: torch.device, ranks: Ranks) -> int:
    """Return in how many parts, a power of two, a batch is taken so that each is likely to fit into memory."""
    images = centred(data.train.images[:4].to(device), recipe.image_size)
    with autocast(device, recipe.precision):
        fit = images_that_fit(model, images) if len(images) == 4 else None
    size = math.ceil(min(recipe.batch_size, len(data.train)) / ranks.size)
    if recipe.norm_batch:
        if size < min(recipe.norm_batch, len(data.train)):
            raise ConfigError(
                f"BatchNorm is to see {recipe.norm_batch} images at once (recipe.norm_batch), and each of {ranks.size} "
                f"processes has {size} of a batch: start fewer, or set it lower"
            )
        if fit is not None and min(recipe.norm_batch, size) > fit:
            raise _too_large(recipe.norm_batch)
        return math.ceil(size / recipe.norm_batch)
    parts = 1
    while fit is not None and size > fit * parts and size >= 4 * parts:
        parts *= 2
    return parts


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


def _too_large(norm_batch: int) -> LotteryHubError:
    return LotteryHubError(
        f"BatchNorm is to see {norm_batch} images at once (recipe.norm_batch), which memory does not hold; set it lower"
    )


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
