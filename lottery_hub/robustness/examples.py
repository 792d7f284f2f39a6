"""Single images under attack: what a network says of them, clean and perturbed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery_hub.images.datasets import Split
from lottery_hub.images.views import centred
from lottery_hub.robustness.attacks import perturb
from lottery_hub.robustness.evaluation import check_takes_pixels
from lottery_hub.settings.ambient import computing, gradients
from lottery_hub.settings.config import Attack


@dataclass(frozen=True, eq=False)
class Said:
    """What a network says of an image.

    Attributes:
        label: of the largest logit.
        sure: the softmax of that logit.
    """

    label: int
    sure: float


@dataclass(frozen=True, eq=False)
class Example:
    """An image, clean and attacked.

    Attributes:
        clean: float [3, side, side] in [0,1], as the network sees it.
        label: what it is.
        said: of it.
        attacked: the same perturbed; None where the network is wrong to begin with, and nothing was attacked.
        said_attacked: of that.
    """

    clean: Tensor
    label: int
    said: Said
    attacked: Tensor | None = None
    said_attacked: Said | None = None

    @property
    def outcome(self) -> str:
        """How it ended, in a word or three."""
        if self.said_attacked is None:
            return "wrong already"
        return "withstands" if self.said_attacked.label == self.label else "broken"


@gradients()
def examples(
    model: nn.Module,
    split: Split,
    attack: Attack,
    *,
    image_size: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Example]:
    """Attack every image of a split that is classified correctly.

    Args:
        model: maps float images in [0,1] to logits; on `device`. It is put into eval mode.
        split: few images.
        attack: what to do.
        image_size: side of what the model sees, in pixels.
        seed: of the attack's random starts.
        device: where to compute.
    """
    check_takes_pixels(model)
    model.eval()
    with computing(device):
        clean, labels = centred(split.images.to(device), image_size), split.labels.to(device)
        said = _said(model, clean)
        right = [place for place, label in enumerate(labels.tolist()) if said[place].label == label]
        attacked: dict[int, tuple[Tensor, Said]] = {}
        if right:
            generator = torch.Generator(device).manual_seed(seed)
            perturbed = perturb(model, clean[right], labels[right], attack, generator)
            attacked = dict(zip(right, zip(perturbed.cpu(), _said(model, perturbed), strict=True), strict=True))
    return [
        Example(clean[place].cpu(), label, said[place], *attacked.get(place, ()))
        for place, label in enumerate(labels.tolist())
    ]


def _said(model: nn.Module, images: Tensor) -> list[Said]:
    with torch.no_grad():
        shares = model(images).float().softmax(1)
    largest, labels = shares.max(1)
    return [Said(*pair) for pair in zip(labels.tolist(), largest.tolist(), strict=True)]
