"""What work costs in passes: one image through the network, forward. A pass backward counts as two.

From the JSON-able records of recipes and attacks, as descriptions of units hold them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def of_image(attack: Record | None) -> int:
    """Return the passes of an image that is measured: clean, and forward and backward in each step of the attack."""
    return 1 + 3 * _steps(attack)


def of_step(recipe: Record) -> int:
    """Return the passes of an image in a step of training."""
    return 3 * (1 + _steps(recipe["attack"]))


def of_training(recipe: Record, images: int, validated: int, epochs: int | None = None) -> int:
    """Return the passes of the first epochs of a training, of all unless told how many.

    Args:
        recipe: of the training.
        images: trained on.
        validated: images that an epoch is judged by.
        epochs: how many of them.
    """
    epochs = recipe["epochs"] if epochs is None else epochs
    every = recipe["validate_every"]
    validations = math.ceil(epochs / every) if epochs == recipe["epochs"] else epochs // every
    return int(epochs * images * of_step(recipe) + validations * validated * of_image(recipe["selection_attack"]))


def of_unit(about: Record) -> int:
    """Return the passes of a unit of the store, from its description."""
    recipe, counts = about["recipe"], about["data"]
    few = recipe.get("validation_images", 0)  # of older records
    validated = min(few, counts["validation"]) if few else counts["validation"]
    measured = counts["test"] + (counts["validation"] if about.get("unit") != "round" else 0)
    if about.get("unit") == "round" and about["attack"] is None:
        measured = 0
    return of_training(recipe, counts["train"], validated) + int(measured) * of_image(about["attack"])


def _steps(attack: Record | None) -> int:
    return 0 if attack is None else int(attack["steps"] * attack["restarts"])
