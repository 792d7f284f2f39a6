"""Adversarial images of another network: an attack in a black box, which knows nothing of the one that is measured.

The other network's loss is raised, and the images are shown to this one: what it withstands so is mostly far more than
under an attack of its own, and is reported beside that, never in its place. A robust accuracy that is lower so than
under its own attack speaks of masked gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.robustness.attacks import perturb
from lottery_hub.robustness.foreign import ForeignAttack
from lottery_hub.settings.config import Attack


@dataclass(frozen=True, kw_only=True)
class BlackBox(ForeignAttack):
    """An attack on another network; get one from `black_box`.

    Attributes:
        attack: on that network. Of several starts the one is shown that raises its loss most; an image that it
            withstands under one of the strong attacks is shown as it is.
        source: that network, in words.
    """

    attack: Attack | ForeignAttack
    source: str

    def describe(self, classes: int | None = None) -> str:
        """Return it in words: the attack, and whose images those are."""
        return f"{self.attack.describe(classes)} on {self.source} (black box)"

    def record(self) -> dict[str, Any]:
        """Return what records say of it, JSON-able."""
        return {"black_box": self.attack.record(), "source": self.source}


def black_box(other: nn.Module, attack: Attack | ForeignAttack, source: str) -> BlackBox:
    """Return an attack that perturbs images against another network, whatever network it is given.

    Args:
        other: maps float images [n, 3, h, w] in [0,1] to logits [n, classes], on the device of the images.
        attack: on it.
        source: that network, in words, for the records.

    Raises:
        ConfigError: the attack leaves its parameters or BatchNorm other than it found them.
    """
    if isinstance(attack, Attack) and attack.batch_norm == "train":
        raise ConfigError("an attack on another network leaves its BatchNorm as it is: batch_norm has to be eval")

    def call(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        # `ForeignAttack.perturb` has seeded torch's own generator, of which this one is drawn.
        seed = int(torch.randint(2**31, ()))
        return perturb(other, images, labels, attack, torch.Generator(images.device).manual_seed(seed))

    return BlackBox(call=call, name="black box", attack=attack, source=source)
