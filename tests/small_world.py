"""A world in which what the pages show takes seconds: few digits, trainings of one epoch, and looks at few images."""

from __future__ import annotations

from typing import Any

import sklearn.datasets
import torch

from lottery_hub.judging import scrutiny
from lottery_hub.settings import plans, presets
from lottery_hub.settings.config import Recipe, TransferPlan
from lottery_hub.training import loop

DIGITS = 120


def shrink() -> None:
    """Make it so in this process, which is nobody else's."""
    torch.set_num_threads(1)
    whole, train, transfers = sklearn.datasets.load_digits, loop.train, presets.quick_transfer

    def few_digits() -> Any:
        bundled = whole()
        bundled.images, bundled.target = bundled.images[:DIGITS], bundled.target[:DIGITS]
        return bundled

    def one_epoch(model: Any, data: Any, recipe: Recipe, **how: Any) -> Any:
        return train(model, data, recipe.changed(epochs=1, validate_every=1), **how)

    def short(*given: Any, **named: Any) -> TransferPlan:
        return transfers(*given, **named).with_settings({"test_attack.steps": 2})

    scrutiny.SAMPLES = 4
    sklearn.datasets.load_digits = few_digits
    loop.train = one_epoch
    presets.quick_transfer = plans.quick_transfer = short
