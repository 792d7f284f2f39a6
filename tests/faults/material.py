"""What is damaged: a small find that went right, with its images, backbone, ladder and trained networks."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from folders import LEVELS, TINY, read, valid
from PIL import Image
from victims import Scene

from lottery_hub.finding import find
from lottery_hub.settings.config import (
    Attack,
    DataPlan,
    DrawPlan,
    Recipe,
    TransferPlan,
)
from lottery_hub.settings.plans import FindPlan

CLASSES, SIDE = 4, 8
IMAGES = {"train": 32, "test": 12}
STANDARD = Recipe(epochs=2, batch_size=12, lr=0.02, augment="none", image_size=SIDE)
ATTACK = Attack(method="fgsm", eps=0.1)
# What of a summary says what was found; the rest says when, where and by whom.
FOUND = ("double_win", "sparsity", "level", "dense", "levels", "samples", "seeds")


class Material(NamedTuple):
    """Folders that nobody changes: each case gets copies.

    Attributes:
        place: that holds `data`, `net` (a backbone), `run` and `store` (of a find), and `half` and `half-store` (the
            same, killed in its last level).
        found: what the find found.
    """

    place: Path
    found: dict[str, Any]


def plan_of() -> FindPlan:
    """Return the plan of the find; what it names lies in the folder that one is in."""
    return FindPlan(
        pretrain="net",
        arch=TINY,
        data=DataPlan(dataset="data", image_size=SIDE),
        draw=DrawPlan(method="omp", rounds=LEVELS),
        ladder="draw",
        transfer=TransferPlan(standard=STANDARD, adversarial=STANDARD.changed(attack=ATTACK), test_attack=ATTACK),
        seeds=1,
        scan="all",
    )


def found_in(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: summary[name] for name in FOUND}


@cache
def material() -> Material:
    place = Path(tempfile.mkdtemp(prefix="strangers-"))
    _write_images(place / "data")
    net = valid()["backbone float32"].copy()
    net.results["pretraining"] = {}
    net.write(place / "net")
    here = Path.cwd()
    os.chdir(place)
    try:
        with suppress(_Killed):
            find(plan_of(), Path("run"), store="store", report=_kill_in_the_last_level)
        for name in ("run", "store"):
            shutil.copytree(name, {"run": "half", "store": "half-store"}[name])
        found = found_in(find(plan_of(), Path("run"), store="store"))
    finally:
        os.chdir(here)
    return Material(place, found)


def give(scene: Scene, *names: str) -> list[Path]:
    """Copy some of the material, such as `data` and `run/ticket`, to where the scene's user works."""
    copies = [scene.work / Path(name).name for name in names]
    for name, copy in zip(names, copies, strict=True):
        shutil.copytree(material().place / name, copy)
    return copies


def redraft(folder: Path, change: Callable[[Any, Any], object]) -> None:
    """Change config and results of a folder, as change(config, results), and let its hashes fit again."""
    others = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    draft = read(folder)
    change(draft.config, draft.results)
    for name in ("config.json", "results.json", draft.weights):
        others[name].unlink()
    fresh = draft.write(folder.parent / f"{folder.name}.redraft")
    for path in fresh.iterdir():
        path.rename(folder / path.name)
    fresh.rmdir()


class _Killed(BaseException):
    pass


def _kill_in_the_last_level(kind: str, record: dict[str, Any]) -> None:
    if kind == "epoch" and record["unit"] == f"transfer-level-{LEVELS:02}-standard-seed-0":
        raise _Killed


def _write_images(folder: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    for split, count in IMAGES.items():
        for number in range(count):
            label = number % CLASSES
            pixels = torch.randint(0, 100, (SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
            pixels[:, 2 * label : 2 * label + 2] = 230
            stored = io.BytesIO()
            Image.fromarray(pixels.numpy()).save(stored, "png")
            path = folder / split / f"class-{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.getvalue())
