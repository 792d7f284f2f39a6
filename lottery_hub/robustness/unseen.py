"""Accuracy under what no training here has seen: common corruptions, and attacks in other norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from lottery_hub.images.datasets import Split
from lottery_hub.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from lottery_hub.robustness.evaluation import Accuracy, evaluate
from lottery_hub.settings import passes
from lottery_hub.settings.config import Attack
from lottery_hub.telling import tell, working

# The customary radii for 32x32 images of the world.
ATTACKS = (
    Attack(norm="l2", eps=0.5, step_size=0.125, steps=20),
    Attack(method="apgd-ce", norm="l1", eps=12, steps=100),
)


class Conditions(TypedDict, total=False):
    """What both measurements can be told.

    image_size: side of what the models see, in pixels; 32 unless given.
    seed: of the corruptions' draws, or of the attacks' starts; 0 unless given.
    device: where the models compute; the CPU unless given.
    """

    image_size: int
    seed: int
    device: torch.device | str


def measure_corruptions(
    models: Mapping[str, nn.Module],
    split: Split,
    *,
    kinds: Sequence[str] = tuple(CORRUPTIONS),
    **how: Unpack[Conditions],
) -> dict[str, Any]:
    """Measure standard accuracy under every corruption at every severity, of all models on the same images.

    Args:
        models: name -> maps float images in [0,1] to logits; on `device`.
        split: its images are 32x32.
        kinds: which corruptions.
        how: see `Conditions`.

    Returns:
        For each model: `correct`, corruption -> images right at severities 1 to 5; and `mean`, in 0..1 over all of
        them (the mean corruption error of the field is 1 minus that).

    Raises:
        ConfigError: the images are of another size.
    """
    correct: dict[str, dict[str, list[int]]] = {name: {kind: [] for kind in kinds} for name in models}
    tell("plan", what="corruption", most=len(kinds))
    for kind in kinds:
        with working(kind.replace("_", " "), len(SEVERITIES) * len(models) * len(split)):
            for severity in SEVERITIES:
                corrupted = Split(corrupt(split.images, kind, severity, how.get("seed", 0)), split.labels)
                for name, model in models.items():
                    correct[name][kind].append(evaluate(model, corrupted, **how).correct)
    return {name: {"correct": counts, "mean": mean_share(counts, len(split))} for name, counts in correct.items()}


def mean_share(correct: Mapping[str, list[int]], samples: int) -> float:
    """Return the share of images right, over all corruptions and severities."""
    counts = [count for severities in correct.values() for count in severities]
    return sum(counts) / (len(counts) * samples)


def measure_unseen(models: Mapping[str, nn.Module], split: Split, **how: Unpack[Conditions]) -> dict[str, Any]:
    """Measure SA and RA under each of `ATTACKS`; arguments as above.

    Returns:
        For each model a list with, for each attack, its name, SA, RA, counts and the outcome of every image.

    Raises:
    """
    tell("plan", what="attack", most=len(models) * len(ATTACKS))
    found: dict[str, Any] = {name: [] for name in models}
    for name, model in models.items():
        for attack in ATTACKS:
            with working(attack.describe(), len(split) * passes.of_image(attack.record())):
                found[name].append(_row(attack, evaluate(model, split, attack=attack, **how)))
    return found


def _row(attack: Attack, measured: Accuracy) -> dict[str, Any]:
    assert measured.outcomes is not None
    return {"attack": attack.describe(), **measured.record(), "outcomes": measured.outcomes.record()}
