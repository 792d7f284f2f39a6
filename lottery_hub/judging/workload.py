"""How much computing a stranger's records ask for, counted before any is done.

The unit is a multiplication with a weight; a pass backward counts as two forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lottery_hub.errors import ConfigError
from lottery_hub.networks.backbones import build_network
from lottery_hub.networks.compacting import cost
from lottery_hub.networks.tickets import Ticket
from lottery_hub.settings.config import (
    Attack,
    Recipe,
)
from lottery_hub.settings.plans import FindPlan

# Twelve ResNet-18 on 10,000 images of 32x32 pixels under PGD-20 take 3·10^14.
LIMIT = 10**15
MOST_PIXELS = 2 * 2**30  # bytes of the images at the size that the records name; CIFAR-10's are 0.2·10^9
AUTOATTACK = 14_000  # passes: 2,800 gradient steps (APGD, APGD-T, FAB-T) and 5,000 queries


def check_amount(multiplications: int, what: str, fix: str) -> None:
    """Raise ConfigError where so much is more than anybody would start without being asked."""
    if multiplications > LIMIT:
        raise ConfigError(f"{what} takes {multiplications:.1g} multiplications, more than {LIMIT:.0g}; {fix}")


def check_pixels(data: Mapping[str, Any]) -> None:
    """Raise ConfigError where the images that records name take more memory than anybody would give unasked.

    Args:
        data: as `Dataset.describe` writes it.
    """
    size = 3 * data["image_size"] ** 2 * sum(data[split] for split in ("train", "validation", "test"))
    if size > MOST_PIXELS:
        raise ConfigError(f"its images take {size:,} bytes of memory, more than {MOST_PIXELS:,}; add --long")


def of_measuring(network: Ticket, attack: Attack | None, images: int, image_size: int) -> int:
    """Return the multiplications of measuring a network on so many images, under an attack where there is one."""
    return images * _passes(attack) * _macs(network, image_size)


def of_training(start: Ticket, plan: FindPlan, images: int) -> int:
    """Return the multiplications of transferring a ticket once in each regime, on so many training images."""
    recipes = [plan.transfer.standard, plan.transfer.adversarial]
    return sum(images * recipe.epochs * (3 * _steps(recipe)) * _macs(start, recipe.image_size) for recipe in recipes)


def _macs(network: Ticket, image_size: int) -> int:
    return cost(build_network(network.arch, network.weights), image_size).macs


def _passes(attack: Attack | None) -> int:
    """Return forward passes, for one image: the clean one, and a step forward and backward for each of the attack."""
    if attack is None:
        return 1
    return 1 + (AUTOATTACK if attack.method == "autoattack" else 3 * attack.steps * attack.restarts)


def _steps(recipe: Recipe) -> int:
    """Return forward and backward passes in a step of training."""
    return 1 if recipe.attack is None else 1 + recipe.attack.steps * recipe.attack.restarts
