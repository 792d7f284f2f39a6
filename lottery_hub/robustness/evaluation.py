"""Standard and robust accuracy of a model on a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Split
from lottery_hub.images.views import centred, chosen_batches, plain_batches
from lottery_hub.networks.folding import Folded, folded
from lottery_hub.networks.memory import free_memory, images_that_fit, is_out_of_memory
from lottery_hub.networks.replaying import Replay
from lottery_hub.robustness.attacks import Loss, cross_entropy, draw_as, draw_starts, perturb, perturb_from
from lottery_hub.robustness.foreign import Call, ForeignAttack, attack_of
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings import passes
from lottery_hub.settings.ambient import computing, gradients
from lottery_hub.settings.config import STRONG, Attack, Precision
from lottery_hub.settings.ranks import ALONE, Ranks
from lottery_hub.telling import tell
from lottery_hub.values import page_table, percent

SURE = 2**14  # pixels of a batch that fit anywhere: of each, ResNet-50 keeps a kilobyte or two for the pass back


@dataclass(frozen=True)
class Accuracy:
    """SA and RA in 0..1, from integer counts over `samples` images; RA is None where no attack was asked for.

    `outcomes` says which images were right; it is None where nobody measured them one by one.
    """

    samples: int
    correct: int
    robust: int | None = None
    outcomes: Outcomes | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        robust = "" if self.RA is None else f", RA {percent(self.RA)} %"
        return f"Accuracy(SA {percent(self.SA)} %{robust}, {self.samples:,} images)"

    def _repr_html_(self) -> str:
        return page_table("Accuracy", ("SA %", "RA %", "images"), [(percent(self.SA), percent(self.RA), self.samples)])

    @property
    def SA(self) -> float:  # noqa: N802 - the field's word
        """Share of clean images classified correctly."""
        return self.correct / self.samples

    @property
    def RA(self) -> float | None:  # noqa: N802 - the field's word
        """Share of images classified correctly both clean and attacked."""
        return None if self.robust is None else self.robust / self.samples

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {"SA": self.SA, "RA": self.RA, "correct": self.correct, "robust": self.robust, "samples": self.samples}


@gradients()
def evaluate(
    model: nn.Module,
    split: Split,
    *,
    attack: Attack | ForeignAttack | Call | None = None,
    image_size: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    precision: Precision = "float32",
    device: torch.device | str = "cpu",
    loss: Loss = cross_entropy,
    ranks: Ranks = ALONE,
) -> Accuracy:
    """Measure SA, and RA under `attack`, with the model in eval mode.

    Only images that are classified correctly clean are attacked; the others already count as broken.
    A prediction with a NaN or infinite logit is wrong: argmax would call it class 0.

    Args:
        model: maps float images in [0,1] to logits. Its training flags are restored.
        split: the images.
        attack: how RA is measured, also any function (model, images, labels) → images; see `ForeignAttack`. None
            measures SA only.
        image_size: side of what the model sees, in pixels; None shows it the images at the size they have.
        seed: of the attack's random starts.
        batch_size: images in a pass; fewer where memory would not hold them, half where it runs out.
        precision: of the convolutions. Figures that are published are measured in float32.
        device: where to compute; the model must be there.
        loss: what the attack raises.
        ranks: this process and others that call this with the same arguments: each measures its share of the batches,
            and all return what one would that measures them all.

    Raises:
        ConfigError: the model is a plain timm network, which takes normalised images.
    """
    check_takes_pixels(model)
    size = split.images.shape[-1] if image_size is None else image_size
    attack = attack_of(attack)
    try:
        with computing(device):
            return _evaluate(model, split, attack, size, seed, batch_size, precision, torch.device(device), loss, ranks)
    except RuntimeError as problem:
        if not is_out_of_memory(problem) or batch_size == 1 or ranks.size > 1:  # the others go on with such batches
            raise
    # Outside of the handler: there, the error still holds the tensors of the failed pass.
    free_memory(torch.device(device))
    return evaluate(
        model,
        split,
        attack=attack,
        image_size=image_size,
        seed=seed,
        batch_size=batch_size // 2,
        precision=precision,
        device=device,
        loss=loss,
    )


def _evaluate(
    model: nn.Module,
    split: Split,
    attack: Attack | ForeignAttack | None,
    image_size: int,
    seed: int,
    batch_size: int,
    precision: Precision,
    device: torch.device,
    loss: Loss,
    ranks: Ranks,
) -> Accuracy:
    generator = torch.Generator(device).manual_seed(seed)
    training = [module for module in model.modules() if module.training]
    model.eval()
    # What an attack of others looks for in a model, only the model itself has.
    if not isinstance(attack, ForeignAttack) and (attack is None or attack.batch_norm == "eval"):
        model = folded(model, precision)
    try:
        pixels = min(batch_size, len(split)) * image_size**2
        if attack is not None and len(split) >= 4 and pixels > SURE and isinstance(model, Folded):
            with autocast(device, precision):
                fit = images_that_fit(model, centred(split.images[:4].to(device), image_size))
            batch_size = min(batch_size, fit or batch_size)
        batch_size = ranks.same(batch_size)
        shown = _Shown(model, split, attack, image_size, generator, batch_size, precision, device, loss, ranks)
        clean = shown.clean()
        withstood = shown.in_whole_batches(clean) if device.type == "cuda" else shown.batch_by_batch(clean)
    finally:
        for module in training:
            module.training = True
    outcomes = Outcomes(clean.numpy(), None if attack is None else withstood.numpy())
    robust = None if attack is None else int(withstood.sum())
    return Accuracy(len(split), int(clean.sum()), robust, outcomes)


@dataclass(frozen=True)
class _Shown:
    """A split as it is shown to a model, clean and attacked; see `evaluate`. Results are bool [n] on the CPU."""

    model: nn.Module
    split: Split
    attack: Attack | ForeignAttack | None
    image_size: int
    generator: torch.Generator
    batch_size: int
    precision: Precision
    device: torch.device
    loss: Loss
    ranks: Ranks

    def clean(self) -> Tensor:
        """Return which images are right as they are."""
        rows = torch.split(torch.arange(len(self.split)), self.batch_size)
        found = []
        for at, (images, labels) in self._batches(rows, 1):
            with autocast(self.device, self.precision):
                found.append((rows[at], is_right(self.model, images, labels)))
        return self._gathered(found)

    def batch_by_batch(self, clean: Tensor) -> Tensor:
        """Return which of the right images withstand; of each batch those: they become smaller, and none is in vain."""
        attack = self.attack
        if attack is None:
            return clean
        found = []
        rows = [some[clean[some]] for some in torch.split(torch.arange(len(self.split)), self.batch_size)]
        rows = [some for some in rows if len(some)]
        for at, (images, labels) in self._batches(rows, self._cost):
            self._draw_for_others(images, rows, at)
            with autocast(self.device, self.precision):
                attacked = perturb(self.model, images, labels, attack, self.generator, self.loss)
                found.append((rows[at], is_right(self.model, attacked, labels)))
        return self._gathered(found)

    def in_whole_batches(self, clean: Tensor) -> Tensor:
        """Return which of the right images withstand, in batches of one size, the last one filled up with some again.

        Nothing is waited for within a pass, and batches of one size can be recorded.
        """
        attack, rows = self.attack, clean.nonzero().squeeze(1)
        if attack is None or not len(rows):
            return clean
        # What is not ours to record is given what is right, and nothing in vain.
        if isinstance(attack, ForeignAttack) or attack.method in STRONG:
            return self.batch_by_batch(clean)
        size = min(self.batch_size, len(self.split))
        calls = -(-len(rows) // size)
        replay = Replay(self._withstands, self.device, size, calls // self.ranks.size)
        whole = torch.split(rows.repeat(-(-calls * size // len(rows)))[: calls * size], size)
        found = []
        for at, (images, labels) in self._batches(whole, self._cost):
            self._draw_for_others(images, whole, at)
            starts = draw_starts(images, attack, self.generator)
            right = replay(images, labels, *(start for start in starts if start is not None))
            new = min(size, len(rows) - at * size)
            found.append((whole[at][:new], right[:new]))
        return self._gathered(found)

    @property
    def _cost(self) -> int:
        """Passes that the attack of an image takes, as far as they are known."""
        return passes.of_image(self.attack.record() if isinstance(self.attack, Attack) else None) - 1

    def _withstands(self, images: Tensor, labels: Tensor, *starts: Tensor) -> Tensor:
        assert isinstance(self.attack, Attack)
        with autocast(self.device, self.precision):
            attacked = perturb_from(self.model, images, labels, self.attack, starts, self.loss)
            return is_right(self.model, attacked, labels)

    def _batches(self, rows: Sequence[Tensor], cost: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """Yield those batches that are this process's to measure, with their numbers; tell so many passes an image."""
        own = [at for at in range(len(rows)) if self.ranks.mine(at)]
        batches = chosen_batches(self.split, [rows[at] for at in own], self.image_size, self.device)
        for at, batch in zip(own, batches, strict=True):
            yield at, batch
            tell("passes", passes=cost * len(self.split) / len(own))  # as far as this one is, so are the others

    def _draw_for_others(self, images: Tensor, rows: Sequence[Tensor], at: int) -> None:
        """Draw what other processes draw for the batches since this one's last."""
        for others in rows[max(0, at - self.ranks.size + 1) : at]:
            assert self.attack is not None
            draw_as(images.new_empty((len(others), *images.shape[1:])), self.attack, self.generator)

    def _gathered(self, found: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return, as bool [n] on the CPU, which images are right by what all processes have found of some rows."""
        right = torch.zeros(len(self.split), dtype=torch.int32)
        if found:
            right[torch.cat([rows for rows, _ in found])] = torch.cat([one for _, one in found]).cpu().int()
        self.ranks.add_up([right])
        return right.bool()


def check_takes_pixels(model: nn.Module) -> None:
    """Raise ConfigError for a plain timm network: it names a mean and std, and leaves it to others to apply them."""
    if hasattr(model, "pretrained_cfg"):
        raise ConfigError(
            "a plain timm network takes normalised images, and this shows it [0,1] pixels: give "
            "ticket.to_normalised(), or lottery_hub.Normalised(network, mean, std)"
        )


def is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return bool [n]: finite logits whose largest is the label's."""
    with torch.no_grad():
        logits: Tensor = model(images)
    return (logits.argmax(1) == labels) & logits.isfinite().all(1)


def predictions(
    model: nn.Module, split: Split, *, image_size: int, device: torch.device | str = "cpu", batch_size: int = 256
) -> list[int | None]:
    """Return the class that a model sees in each clean image; None where a logit is not finite.

    Args:
        model: maps float images in [0,1] to logits; on `device`. Its training flags are restored.
        split: the images.
        image_size: side of what the model sees, in pixels.
        device: where to compute.
        batch_size: images in a pass.
    """
    check_takes_pixels(model)
    training = [module for module in model.modules() if module.training]
    model.eval()
    found: list[int | None] = []
    try:
        with torch.no_grad(), computing(device):
            for images, _ in plain_batches(split, batch_size, image_size, torch.device(device)):
                logits: Tensor = model(images)
                known = logits.isfinite().all(1).tolist()
                found += [label if fits else None for label, fits in zip(logits.argmax(1).tolist(), known, strict=True)]
    finally:
        for module in training:
            module.training = True
    return found


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which convolutions and linear layers run in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
