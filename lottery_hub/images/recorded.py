"""The images that a network's records name: which they are, at what size they were stored, and how they were split.

A network is measured on what it was not trained on, at the size it was trained at. Only its records say which images
those are: another split seed makes a test split of images that it has learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lottery_hub.errors import DataError, printable
from lottery_hub.images.datasets import Dataset, load_dataset, load_planned
from lottery_hub.images.opening import NAMES, dataset_name
from lottery_hub.settings.config import DataPlan
from lottery_hub.settings.paths import path_of


def recorded_plan(records: Mapping[str, Any]) -> DataPlan | None:
    """Return how the images were loaded that a network's records speak of; None where they speak of none.

    Raises:
        ConfigError: what they say is not allowed.
    """
    said = records.get("data")
    if not isinstance(said, Mapping):
        return None
    plan = records.get("plan")
    planned = plan.get("data") if isinstance(plan, Mapping) else None
    found = {
        "dataset": said.get("name"),
        "revision": said.get("revision"),
        "fraction": said.get("fraction"),
        "image_size": said.get("image_size"),
        # Records from before these were described have them in their plan, or have the defaults.
        "validation": said.get("validation_share", 0.1),
        "split_seed": said.get("split_seed", 0),
    }
    if isinstance(planned, Mapping):
        found |= {key: planned[key] for key in ("validation", "split_seed") if key in planned}
    return DataPlan.parse(found)


def seen_size(records: Mapping[str, Any]) -> int | None:
    """Return the side of what a trained network sees, in pixels; None where its records do not say."""
    for inside in (records, *_plans(records)):
        recipe = inside.get("recipe") if isinstance(inside, Mapping) else None
        size = recipe.get("image_size") if isinstance(recipe, Mapping) else None
        if type(size) is int:
            return size
    return None


def _plans(records: Mapping[str, Any]) -> list[Any]:
    plan = records.get("plan")
    return [plan] if isinstance(plan, Mapping) else []


def load_for(
    records: Mapping[str, Any],
    dataset: str | None = None,
    *,
    image_size: int | None = None,
    fraction: float | None = None,
) -> Dataset:
    """Load images to measure or train a network on, as its records have it.

    Args:
        records: of the network, or of its backbone's pre-training; may be empty.
        dataset: as of `load_dataset`; None takes what the records name, if that is one of `opening.NAMES`, or digits
            where they name nothing.
        image_size: stored side in pixels; None takes the records', or 32.
        fraction: of the training images; None takes the records' for the recorded dataset, else all.

    Returns:
        The dataset. Where it is the recorded one by name and holds other images, its notes begin with that.

    Raises:
        DataError: it cannot be loaded.
    """
    plan = recorded_plan(records)
    if plan is None:
        return load_dataset(dataset or "digits", image_size=image_size or 32, fraction=fraction or 1.0)
    if dataset is None and plan.dataset not in NAMES:
        raise DataError(
            f"its records name the dataset {printable(plan.dataset)}, which may be anything; "
            "say where it is with --dataset"
        )
    if dataset is not None and dataset_name(dataset) != plan.dataset:
        return load_dataset(dataset, image_size=image_size or plan.image_size, fraction=fraction or 1.0)
    changed = plan.changed(dataset=dataset, image_size=image_size, fraction=fraction)
    if dataset == "digits" or (dataset is not None and path_of(dataset).is_dir()):
        changed = changed.model_copy(update={"revision": None})
    loaded = load_planned(changed)
    same_way = (changed.image_size, changed.fraction) == (plan.image_size, plan.fraction)
    if same_way and loaded.fingerprint != records["data"].get("fingerprint"):
        note = f"these are not the images of {printable(plan.dataset)} that its records name: fingerprints differ"
        return replace(loaded, notes=(note, *loaded.notes))
    return loaded
