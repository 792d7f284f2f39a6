"""Attacks of others: any function from a model, images and labels to images, such as those of foolbox and torchattacks.

It is called with the model as it is, parameters frozen and in eval mode. What it does inside is its own business, so
records say that it is foreign; what it returns is checked, since images out of range would break any network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.config import Attack, pixel_units
from lottery_hub.settings.presets import Norm

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]
ROUNDING = 1e-5  # in pixel units, or of a larger radius
_ORDERS: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True)
class ForeignAttack:
    """An attack that is not this library's, with what is promised of it.

    Attributes:
        call: given a model that maps float images [n, 3, h, w] in [0,1] to logits, such images, and labels int64 [n],
            returns images of that shape in [0,1], each in its place.
        name: what records call it.
        eps: radius in [0,1] pixel units that its images are to stay within, which is then checked; None checks nothing.
        norm: of that radius.

    Raises:
        ConfigError: the name or the radius is none.
    """

    call: Call
    name: str
    eps: float | None = None
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if not callable(self.call):
            raise ConfigError(
                f"an attack is a function (model, images, labels) → images, not {type(self.call).__name__}"
            )
        if (
            not isinstance(self.name, str)
            or not self.name.strip()
            or not self.name.isprintable()
            or len(self.name) > 200
        ):
            raise ConfigError("an attack needs a name for the records, of at most 200 letters")
        fits = self.eps is None or (math.isfinite(self.eps) and 0 <= self.eps <= 1000)
        if not fits or self.norm not in _ORDERS:
            raise ConfigError(
                f"eps {self.eps} in {printable(self.norm)} is no radius; give e.g. eps=8/255, norm='linf'"
            )

    @classmethod
    def of(cls, attack: object) -> ForeignAttack:
        """Return an attack that was given as a bare function, by the name that it has.

        Raises:
            ConfigError: it is no function.
        """
        if isinstance(attack, cls):
            return attack
        if not callable(attack):
            raise ConfigError(
                f"{printable(attack, 80)} is no attack; give an Attack, or a function (model, images, labels) → images"
            )
        name = getattr(attack, "__name__", None) or type(attack).__name__
        return cls(attack, "unnamed" if name == "<lambda>" else name)

    def describe(self, classes: int | None = None) -> str:
        """Return it in words: the name, that it is foreign, and the ball where one is promised."""
        ball = "" if self.eps is None else f" {self.norm.capitalize()} eps {pixel_units(self.eps)}"
        return f"{self.name} (foreign){ball}"

    def record(self) -> dict[str, Any]:
        """Return what records say of it, JSON-able."""
        return {"foreign": self.name, "eps": self.eps, "norm": None if self.eps is None else self.norm}

    def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Call it, and check what it returns; see `attacks.perturb`.

        Args:
            model, images, labels: see the class.
            seed: for torch's own generators, which it may draw from; they are as before afterwards.

        Raises:
            ConfigError: what it returns is no such images.
        """
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            found = self.call(model, images.clone(), labels.clone())
        return self._checked(found, images)

    def _checked(self, found: object, images: Tensor) -> Tensor:
        what = f"the attack {self.name} returned"
        if not isinstance(found, Tensor):
            hint = "; foolbox returns (raw, clipped, success): return the second" if isinstance(found, tuple) else ""
            raise ConfigError(f"{what} a {type(found).__name__}, not images{hint}")
        if found.shape != images.shape or not found.is_floating_point():
            raise ConfigError(
                f"{what} {found.dtype} of shape {tuple(found.shape)}, not floats of shape {tuple(images.shape)}"
            )
        attacked = found.detach().to(images)
        low, high = (float(extreme) for extreme in attacked.aminmax())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # also of NaN
            raise ConfigError(f"{what} pixels from {low:.4g} to {high:.4g}; they have to lie in [0,1]")
        if self.eps is not None:
            moved = (attacked - images).flatten(1)
            farthest = float(torch.linalg.vector_norm(moved, _ORDERS[self.norm], dim=1).max())
            if farthest > self.eps + ROUNDING * max(1.0, self.eps):
                raise ConfigError(f"{what} an image {farthest:.4g} away in {self.norm}, and its eps is {self.eps:.4g}")
        return attacked.clamp(0, 1)


def attack_of(attack: object) -> Attack | ForeignAttack | None:
    """Return an attack as this library's functions take it: one of ours, None, or any function as a foreign one."""
    return attack if isinstance(attack, Attack | ForeignAttack | None) else ForeignAttack.of(attack)
