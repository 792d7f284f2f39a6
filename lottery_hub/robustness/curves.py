"""The security curve: robust accuracy over the radius, by the attack of a verdict and by AutoAttack.

One radius says little of how a network fails. A curve that does not fall to zero is one of masked gradients, and one
that AutoAttack sees fall earlier than PGD does tells how much of a robust accuracy is the attack's weakness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn

from lottery_hub.images.datasets import Split
from lottery_hub.robustness.evaluation import Accuracy, evaluate
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.robustness.unseen import Conditions
from lottery_hub.settings import passes
from lottery_hub.settings.config import Attack
from lottery_hub.telling import tell, working

SHARES = (0.25, 0.5, 1.0, 1.5, 2.0)  # of the attack's own radius


def curve_attacks(attack: Attack) -> list[list[Attack]]:
    """Return the attack at each radius of its curve, and AutoAttack at the same: a list of each, by rising radius."""
    ours = [attack.at(attack.eps * share) for share in SHARES]
    if attack.method == "autoattack":
        return [ours]
    return [ours, [Attack(method="autoattack", norm=attack.norm, eps=each.eps) for each in ours]]


def measure_curve(
    models: Mapping[str, nn.Module],
    split: Split,
    attack: Attack,
    *,
    classes: int | None = None,
    **how: Unpack[Conditions],
) -> dict[str, list[dict[str, Any]]]:
    """Measure RA at each radius, of all models on the same images.

    A ball lies inside each larger one, so an image that was broken at a radius is broken at all larger ones, and is
    not attacked there again: a curve can only fall.

    Args:
        models: name → maps float images in [0,1] to logits; on `device`.
        split: the images.
        attack: at its own radius; see `SHARES`.
        classes: that the models tell apart; of few AutoAttack lacks parts, and its name says so.
        how: see `unseen.Conditions`.

    Returns:
        For each model a row for each attack of `curve_attacks`, in that order: its name, radius, SA, RA, counts and
        the outcome of every image.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    tell("plan", what="attack", most=len(models) * sum(map(len, curve_attacks(attack))))
    for name, model in models.items():
        clean = evaluate(model, split, **how).outcomes
        assert clean is not None
        found[name] = []
        for several in curve_attacks(attack):
            standing = clean.SA.copy()
            for each in several:
                rows = torch.from_numpy(np.flatnonzero(standing))
                with working(f"{name} {each.describe(classes)}".strip(), len(rows) * passes.of_image(each.record())):
                    some = Split(split.images[rows], split.labels[rows])
                    left = evaluate(model, some, attack=each, **how).outcomes if len(rows) else None
                if left is not None:
                    assert left.RA is not None
                    standing[rows.numpy()] = left.RA
                outcomes = Outcomes(clean.SA, standing.copy())
                counted = Accuracy(len(split), int(clean.SA.sum()), int(standing.sum()), outcomes)
                about = {"attack": each.describe(classes), "eps": each.eps}
                found[name].append({**about, **counted.record(), "outcomes": outcomes.record()})
    return found
