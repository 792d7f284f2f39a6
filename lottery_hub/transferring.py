"""Transfer: a ticket, or the dense backbone, fine-tuned on a downstream dataset behind a fresh dense head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lottery_hub.backbones import Backbone, Weights
from lottery_hub.config import Attack, Recipe
from lottery_hub.data import Dataset
from lottery_hub.evaluation import Accuracy, evaluate
from lottery_hub.masks import Mask
from lottery_hub.tickets import Ticket
from lottery_hub.training import train


@dataclass(frozen=True)
class Transferred:
    """The trained weights (timm keys, pruned ones exactly 0), test accuracy and the JSON-able record."""

    weights: Weights
    accuracy: Accuracy
    record: dict[str, Any]


def transfer(
    start: Backbone | Ticket,
    data: Dataset,
    recipe: Recipe,
    *,
    test_attack: Attack | None,
    seed: int = 0,
    mask: Mask | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Transferred:
    """Fine-tune and measure on the test split; the epoch is chosen on the validation split.

    Args:
        start: a ticket, whose mask holds throughout, or a backbone, dense unless `mask` is given.
        data: the downstream dataset.
        recipe: with an attack this is adversarial transfer, without one standard.
        test_attack: how test RA is measured; None measures SA only.
        seed: of the fresh head, data order and attack starts. Dense and ticket runs of one seed share all three.
        mask: for a backbone, what to prune from it.
        device: where to compute.
        checkpoint: file to continue from.
        on_epoch: called with each epoch's record.
    """
    classes = len(data.classes)
    if isinstance(start, Ticket):
        mask, model = start.mask, start.to_normalised(classes, head="fresh", seed=seed)
    else:
        model = start.model(classes, seed, mask)
    trained = train(model, data, recipe, seed=seed, mask=mask, device=device, checkpoint=checkpoint, on_epoch=on_epoch)
    model.network.load_state_dict(trained.weights, strict=True)
    accuracy = evaluate(model, data.test, attack=test_attack, image_size=recipe.image_size, seed=seed, device=device)
    record = {
        "regime": recipe.regime,
        "seed": seed,
        **accuracy.record(),
        "attack": None if test_attack is None else test_attack.describe(),
        "outcomes": accuracy.outcomes and accuracy.outcomes.record(),
        "epoch": trained.epoch,
        "history": trained.history,
    }
    return Transferred(trained.weights, accuracy, record)
