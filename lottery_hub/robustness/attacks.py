"""Adversarial images: FGSM, N-FGSM, PGD and the stronger ones for measuring, behind one function, `perturb`.

The attack sees pixels in [0,1]; the model normalises inside. While it runs the parameters are frozen, so a
pass computes input gradients only, and BatchNorm is in eval mode, so it neither sees nor moves batch
statistics (unless the attack asks for the reference code's behaviour).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery_hub.robustness.foreign import ForeignAttack
from lottery_hub.robustness.strong_attacks import perturb_strongly
from lottery_hub.settings.ambient import gradients
from lottery_hub.settings.config import STRONG, Attack

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits [n, classes] and labels [n], for each image [n]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss that training and the usual attacks follow. Where logits are large its gradient is zero."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the best other class leads, in units of the logits' range: the same at every scale of them.

    Source: Carlini & Wagner 2017; the division, which is not differentiated, is in the spirit of Croce & Hein 2020.
    """
    own = labels[:, None]
    best = logits.scatter(1, own, -torch.inf).amax(1)
    spread = (logits.amax(1) - logits.amin(1)).detach()
    return (best - logits.gather(1, own).squeeze(1)) / spread.clamp_min(torch.finfo(logits.dtype).tiny)


@gradients()
def perturb(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack | ForeignAttack,
    generator: torch.Generator | None = None,
    loss: Loss = cross_entropy,
) -> Tensor:
    """Return images inside the attack's ball that raise the model's loss.

    Args:
        model: maps float images [n, 3, h, w] in [0,1] to logits [n, classes].
        images: float [n, 3, h, w] in [0,1].
        labels: int64 [n].
        attack: what to do; see `config.Attack`, and `ForeignAttack` for others'.
        generator: source of random starts, on the device of `images`; None is a new one with seed 0, which starts the
            same way at every call.
        loss: what is raised; the strong attacks have losses of their own.

    Returns:
        Float [n, 3, h, w] in [0,1], detached. PGD and FGSM stay within eps of `images`; N-FGSM, which does
        not project, within (1 + noise) * eps. With restarts, each image is the one of highest loss. The strong
        attacks return an image that withstood as it was.

    Source: Goodfellow et al. 2015 (FGSM), Madry et al. 2018 (PGD), de Jorge et al. 2022 (N-FGSM). The start of
    N-FGSM is as the paper's algorithm has it; its authors' code also clamps the start to [0,1], ours the result only.
    """
    if generator is None:
        generator = torch.Generator(images.device).manual_seed(0)
    if images.is_inference():  # such takes no gradient, a copy of it does
        images = images.clone()
    if isinstance(attack, ForeignAttack):
        with _frozen(model, keep_training=False):
            return attack.perturb(model, images, labels, _drawn_seed(images, generator))
    if attack.eps == 0:
        return images.clone()
    with _frozen(model, keep_training=attack.batch_norm == "train"):
        if attack.method in STRONG:
            return perturb_strongly(model, images, labels, attack, _drawn_seed(images, generator))
        return _worst(model, images, labels, attack, draw_starts(images, attack, generator), loss)


@gradients()
def perturb_from(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    starts: Sequence[Tensor],
    loss: Loss = cross_entropy,
) -> Tensor:
    """Return what `perturb` does from starts that were drawn: nothing is drawn here, and no number read back."""
    if attack.eps == 0:
        return images.clone()
    with _frozen(model, keep_training=attack.batch_norm == "train"):
        return _worst(model, images, labels, attack, starts or [None], loss)


def draw_starts(images: Tensor, attack: Attack, generator: torch.Generator) -> Iterator[Tensor | None]:
    """Draw, for every restart, by what images are moved before the first step; None where an attack begins at them."""
    for _ in range(attack.restarts):
        if attack.eps == 0 or attack.method == "fgsm" or (attack.method == "pgd" and not attack.random_start):
            yield None
        elif attack.method == "n-fgsm":
            yield attack.noise * attack.eps * _uniform(images, generator)
        else:
            yield _random_in_ball(images, attack, generator)


def draw_as(images: Tensor, attack: Attack | ForeignAttack, generator: torch.Generator) -> None:
    """Draw from the generator what `perturb` draws for such images."""
    if isinstance(attack, ForeignAttack) or (attack.method in STRONG and attack.eps > 0):
        _drawn_seed(images, generator)
    elif attack.method not in STRONG:
        for _ in draw_starts(images, attack, generator):
            pass


def _drawn_seed(images: Tensor, generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator, device=images.device))


def _worst(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, starts: Iterable[Tensor | None], loss: Loss
) -> Tensor:
    """Return the image of highest loss among those that the starts lead to."""
    others = iter(starts)  # which may be drawn only now, one after the other
    worst = _once(model, images, labels, attack, next(others), loss)
    worst_loss = _losses(model, worst, labels, loss) if attack.restarts > 1 else None
    for start in others:
        found = _once(model, images, labels, attack, start, loss)
        found_loss = _losses(model, found, labels, loss)
        assert worst_loss is not None
        higher = found_loss > worst_loss
        worst = torch.where(higher[:, None, None, None], found, worst)
        worst_loss = torch.where(higher, found_loss, worst_loss)
    return worst


def _once(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, start: Tensor | None, loss: Loss) -> Tensor:
    if attack.method == "fgsm":
        return _step(images, _gradient(model, images, labels, loss), attack.norm, attack.eps)
    moved = images if start is None else images + start
    if attack.method == "n-fgsm":
        return _step(moved, _gradient(model, moved, labels, loss), "linf", attack.eps)
    if start is not None:
        moved = moved.clamp(0, 1)
    for _ in range(attack.steps):
        stepped = _step(moved, _gradient(model, moved, labels, loss), attack.norm, attack.step_size, clamp=False)
        moved = (images + _project(stepped - images, attack)).clamp(0, 1)
    return moved


def _gradient(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    images = images.detach().requires_grad_(True)
    # Summed, not averaged: an image's gradient must not depend on how many others share its batch.
    total = loss(model(images).float(), labels).sum()
    return torch.autograd.grad(total, images)[0]


def _losses(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    with torch.no_grad():
        return loss(model(images).float(), labels)


def _step(images: Tensor, gradient: Tensor, norm: str, length: float, clamp: bool = True) -> Tensor:
    direction = gradient.sign() if norm == "linf" else gradient / _l2(gradient).clamp_min(1e-12)
    moved = images + length * direction
    return moved.clamp(0, 1) if clamp else moved


def _project(delta: Tensor, attack: Attack) -> Tensor:
    if attack.norm == "linf":
        return delta.clamp(-attack.eps, attack.eps)
    shrink: Tensor = (attack.eps / _l2(delta).clamp_min(1e-12)).clamp(max=1)
    return torch.mul(delta, shrink)


def _random_in_ball(images: Tensor, attack: Attack, generator: torch.Generator) -> Tensor:
    if attack.norm == "linf":
        return attack.eps * _uniform(images, generator)
    direction = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    # A radius of u^(1/d) makes the point uniform in the d-dimensional ball, not crowded at its centre.
    radius = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
    return attack.eps * radius.pow(1 / images[0].numel()) * direction / _l2(direction).clamp_min(1e-12)


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype) * 2 - 1


def _l2(values: Tensor) -> Tensor:
    """Return the L2 norm of each image of [n, 3, h, w], as [n, 1, 1, 1]."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3), keepdim=True)
    return norms


@contextmanager
def _frozen(model: nn.Module, keep_training: bool) -> Iterator[None]:
    """Freeze parameters, and BatchNorm unless told otherwise; restore every module's own state after."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = [module for module in model.modules() if module.training]
    for parameter in trainable:
        parameter.requires_grad_(False)
    if not keep_training:
        model.eval()
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True
