"""Is a robust accuracy real, or does the model only hide its gradients? Checks that an honest model passes.

A network whose gradients vanish, or point nowhere, looks robust to attacks that follow them and to no other. These
checks compare attacks that should agree, or should be ordered, on the same images (Athalye et al. 2018; Carlini et
al. 2019, "On Evaluating Adversarial Robustness"). They are necessary, not sufficient: a model that fails one is not
to be trusted, a model that passes all may still fall to a better attack.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lottery_hub.images.datasets import Split
from lottery_hub.images.views import centred
from lottery_hub.networks.folding import folded
from lottery_hub.robustness.attacks import Loss, cross_entropy, margin
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings import passes
from lottery_hub.settings.config import DLR_CLASSES, Attack
from lottery_hub.telling import tell, working

SCALE = 1000.0
STEPS, MORE_STEPS = 20, 100
QUERIES = 1000
GREY = 0.5  # at this Linf radius every image can become the same grey one
LEAST_SLACK, DEVIATIONS = 0.01, 2.0
# What the figures of the checks are called: RA by PGD, at larger radii, and by the other attacks.
BASE, MORE, FIXED = f"PGD-{STEPS}", f"PGD-{MORE_STEPS}", "without random start"
RADII = ("eps x2", "eps x4", "eps 0.5")
DLR, SQUARE = "APGD-DLR", f"Square-{QUERIES}"
MARGIN = f"PGD-{MORE_STEPS} on the margin"  # in the place of DLR, which is not defined for fewer than four classes
GAP = 0.05  # what PGD's RA lies above that of the DLR loss where nothing is masked, at most


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what an honest model does.
        passed: whether this one does.
        figures: name of an attack → RA in 0..1, on the images of the check.
    """

    name: str
    passed: bool
    figures: dict[str, float]

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"name": self.name, "passed": self.passed, "figures": self.figures}


class _Scaled(nn.Module):
    """A model with logits times a constant: the same predictions, other losses."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images) * self.scale
        return logits


def check_masking(
    model: nn.Module,
    split: Split,
    eps: float,
    *,
    image_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Check]:
    """Run all checks, in Linf.

    RAs on the same n images may differ by the larger of one point and two standard errors, 2 sqrt(RA (1 - RA) / n);
    PGD's may lie five points above that of the DLR loss besides, which is the stronger attack. Of fewer than four
    classes there is no DLR loss; the margin, which no scale can blind either, takes its place.

    Args:
        model: maps float images in [0,1] to logits.
        split: the images; a sample of a few hundred will do.
        eps: radius of the RA that is in question, in [0,1] pixel units.
        image_size: side of what the model sees, in pixels.
        seed: of the attacks.
        device: where to compute; the model must be there.

    Returns:
        The checks, in order.
    """

    def robust(attack: Attack, of: nn.Module, loss: Loss) -> float:
        share = evaluate(of, split, attack=attack, image_size=image_size, seed=seed, device=device, loss=loss).RA
        assert share is not None
        return share

    def pgd(radius: float, steps: int = STEPS, random_start: bool = True) -> Attack:
        return Attack(
            eps=radius, step_size=max(radius / 4, 2 * radius / (steps + 1)), steps=steps, random_start=random_start
        )

    model = folded(model, "float32")  # once, and the same inside the scaled one
    classes = _classes(model, split, image_size, device)
    name = scale_free(classes)
    free = Attack(method="apgd-dlr", eps=eps, steps=MORE_STEPS) if name == DLR else pgd(eps, MORE_STEPS)
    free_loss = cross_entropy if name == DLR else margin  # APGD-DLR follows the loss of its name, whatever is said
    attacks: dict[str, tuple[Attack, nn.Module, Loss]] = {
        BASE: (pgd(eps), model, cross_entropy),
        **{f"eps x{factor}": (pgd(min(eps * factor, 1.0)), model, cross_entropy) for factor in (2, 4)},
        "eps 0.5": (pgd(GREY), model, cross_entropy),
        MORE: (pgd(eps, MORE_STEPS), model, cross_entropy),
        name: (free, model, free_loss),
        upscaled(name): (free, _Scaled(model, SCALE).eval(), free_loss),
        SQUARE: (Attack(method="square", eps=eps, steps=QUERIES), model, cross_entropy),
        FIXED: (pgd(eps, random_start=False), model, cross_entropy),
    }
    costs = [len(split) * passes.of_image(attack.record()) for attack, *_ in attacks.values()]
    tell("plan", what="check", most=len(attacks), passes=sum(costs))
    figures = {}
    for attacked_by, how in attacks.items():
        with working(attacked_by, len(split) * passes.of_image(how[0].record())):
            figures[attacked_by] = robust(*how)
    return judge_masking(figures, len(split), classes)


def scale_free(classes: int) -> str:
    """Return the name of the attack on a loss that no scale can blind, for so many classes."""
    return DLR if classes >= DLR_CLASSES else MARGIN


def upscaled(attack: str) -> str:
    """Return what an attack is called where it is run on the model with larger logits."""
    return f"{attack}, logits x{SCALE:g}"


def _classes(model: nn.Module, split: Split, image_size: int, device: torch.device | str) -> int:
    with torch.no_grad():
        logits: Tensor = model(centred(split.images[:1].to(device), image_size))
    return logits.shape[1]


def judge_masking(figures: Mapping[str, float], samples: int, classes: int) -> list[Check]:
    """Return the six checks, given the RA that each attack left on so many images of so many classes.

    Raises:
        KeyError: an attack is missing.
    """
    free = scale_free(classes)
    base, without_scale = figures[BASE], figures[free]
    slack = max(LEAST_SLACK, DEVIATIONS * (base * (1 - base) / samples) ** 0.5)
    falling = [BASE, *RADII]

    def check(name: str, passed: bool, *attacks: str) -> Check:
        return Check(name, passed, {attack: figures[attack] for attack in attacks})

    return [
        check(
            "RA falls to 0 as the radius grows",
            figures[falling[-1]] <= LEAST_SLACK
            and all(figures[b] <= figures[a] + slack for a, b in itertools.pairwise(falling)),
            *falling,
        ),
        check("more steps do not help the defender", figures[MORE] <= base + slack, BASE, MORE),
        check(
            "a loss that no scale can blind finds no more than the gradient of cross-entropy",
            base <= without_scale + slack + GAP,
            BASE,
            free,
        ),
        check(
            f"logits times {SCALE:g} change nothing for {'the DLR loss' if free == DLR else 'the margin'}",
            abs(figures[upscaled(free)] - without_scale) <= LEAST_SLACK,
            free,
            upscaled(free),
        ),
        check("queries alone break no more than gradients", figures[SQUARE] >= base - slack, BASE, SQUARE),
        check("the random start matters little", abs(figures[FIXED] - base) <= slack, BASE, FIXED),
    ]
