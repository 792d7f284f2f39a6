"""A small verdict for tests: a find over two levels with two seeds on tiny images, and every place in its records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone
from lottery_hub.settings.config import (
    Attack,
    DataPlan,
    DrawPlan,
    Recipe,
    TransferPlan,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage.folder import save_backbone

STANDARD = Recipe(epochs=1, batch_size=12, lr=0.02, augment="none", image_size=8)
ATTACK = Attack(method="fgsm", eps=0.1)
TRANSFER = TransferPlan(standard=STANDARD, adversarial=STANDARD.changed(attack=ATTACK), test_attack=ATTACK)


def judged(backbone: Backbone, data: Dataset, place: Path) -> Path:
    """Return the run directory of a find: two one-shot levels, both seeds, all levels, controls."""
    plan = FindPlan(
        pretrain=str(save_backbone(backbone, place / "net")),
        arch="resnet18-slim",
        data=DataPlan(dataset=data.name, image_size=8),
        draw=DrawPlan(method="omp", rounds=2),
        ladder="draw",
        transfer=TRANSFER,
        seeds=2,
        scan="all",
        controls=True,
    )
    find(plan, place / "run", data=data)
    return place / "run"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every number, word, truth value and null."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield path
    else:
        for key, below in inside:
            yield from leaves(below, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    """Replace what is at a path."""
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what is at a path."""
    for key in path:
        value = value[key]
    return value
