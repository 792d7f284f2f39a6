"""Datasets of strangers: pictures that unfold, labels that are none, and metadata without end."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import odd
import pyarrow
import pyarrow.parquet
import torch
from attempts import cli
from cases import Case, replace_by_something, stranger
from material import SIDE, give
from mutations import InapplicableError
from PIL import Image
from victims import Scene

from lottery_hub.images.datasets import Dataset, load_dataset

_UNWRITABLE = (OSError, ValueError, TypeError, OverflowError, LookupError, pyarrow.ArrowException)


def _picture(rng: random.Random) -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(256) for _ in range(3))).save(stored, "png")
    return stored.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bad_picture(rng: random.Random) -> Any:
    """Return what is no picture, or one that unfolds to far more than it takes."""
    width = rng.choice([2**31 - 1, 100_000, 30_000, 20_000])
    header = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    rows = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(10**6))) + _chunk(b"IEND", b"")
    honest = _picture(rng)
    flipped = bytearray(honest)
    flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    text = _chunk(b"zTXt", b"x\0\0" + zlib.compress(b" " * 10**7))
    others = [b"", b"\xff" * 9, honest[: len(honest) // 2], bytes(flipped), None, b"GIF89a" + b"\xff" * 20]
    others += [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch notes) run\n",
        honest[:33] + text + honest[33:],
    ]
    return rng.choice([b"\x89PNG\r\n\x1a\n" + rows, b"\x89PNG\r\n\x1a\n" + rows, *others])


def _write(file: Path, rng: random.Random, count: int, change: Callable[[dict[str, Any]], object]) -> None:
    parts: dict[str, Any] = {
        "pictures": [{"bytes": _picture(rng), "path": None} for _ in range(count)],
        "labels": [number % 4 for number in range(count)],
        "names": ("image", "label"),
        "metadata": {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel"}}}},
        "key": "huggingface",
    }
    parts["metadata"]["info"]["features"]["label"]["names"] = ["a", "b", "c", "d"]
    change(parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        table = pyarrow.table(dict(zip(parts["names"], (parts["pictures"], parts["labels"]), strict=True)))
        told = parts["metadata"] if isinstance(parts["metadata"], str) else json.dumps(parts["metadata"])
        pyarrow.parquet.write_table(table.replace_schema_metadata({parts["key"]: told}), file)
    except _UNWRITABLE as problem:
        raise InapplicableError from problem


def _used(scene: Scene, rng: random.Random) -> Case:
    place = scene.work / "images"
    if rng.random() < 0.2:
        (network,) = give(scene, "run/ticket/trained/ticket-standard-seed-0")
        seed = rng.choice([0, 10**25, 2**63])
        command = ["evaluate", network, "--dataset", place, "--attack", "none", "--seed", seed]
        return Case(lambda: cli(*command))
    return Case(lambda: load_dataset(str(place), image_size=SIDE), _is_whole)


def _is_whole(data: Dataset) -> str:
    for split in (data.train, data.validation, data.test):
        if split.images.dtype != torch.uint8 or split.images.shape[1:] != (3, SIDE, SIDE):
            return "its images are of another shape"
        if len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(data.classes):
            return "a label has no class"
    return ""


@stranger("folders", often=10)
def a_parquet_is_hostile(scene: Scene, rng: random.Random) -> Case:
    deep: Any = {}
    for _ in range(rng.choice([100, 900])):
        deep = {"features": deep}
    wide = '{"info": ' + "[" * 100_000 + "]" * 100_000 + "}"
    labels = [-1, 2**62, None, "x", 0.5, [1], True, "\x1b[2J", 10**6]

    def change(parts: dict[str, Any]) -> None:
        way = rng.randrange(7)
        if way == 0:
            parts["pictures"][rng.randrange(8)] = {"bytes": _bad_picture(rng), "path": odd.path_to(scene, rng)}
        elif way == 1:
            parts["pictures"] = [{"bytes": None, "path": odd.path_to(scene, rng)} for _ in parts["pictures"]]
        elif way == 2:
            parts["labels"] = [rng.choice(labels)] * len(parts["labels"])
        elif way == 3:
            parts["labels"][3] = rng.choice(labels)
        elif way == 4:
            parts["metadata"] = rng.choice([deep, wide, "[]", "null", "{", "1" * 10**5, odd.value(scene, rng)])
        elif way == 5:
            parts["metadata"] = odd.twist(parts["metadata"], scene, rng)
        else:
            parts["names"] = rng.choice([("image", "x"), ("\x1b[2J", "label"), ("a" * 10**5, "b"), ("", " ")])

    place = scene.work / "images"
    for split, count in (("train", 40), ("test", 8)):
        _write(
            place / f"data/{split}-00000-of-00001.parquet", rng, count, change if rng.random() < 0.8 else lambda _: 0
        )
    if rng.random() < 0.2:
        file = place / "data/train-00000-of-00001.parquet"
        data = bytearray(file.read_bytes())
        for _ in range(rng.choice([1, 20])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(bytes(data))
    return _used(scene, rng)


@stranger("folders", often=8)
def a_folder_of_images_is_hostile(scene: Scene, rng: random.Random) -> Case:
    (data,) = give(scene, "data")
    place = data.rename(scene.work / "images")
    files = sorted(path for path in place.rglob("*.png"))
    scene.look_away = True  # where links in a folder of images lead is read, and goes nowhere
    for path in rng.sample(files, rng.choice([1, 3])):
        way = rng.randrange(4)
        if way == 0:
            replace_by_something(path, scene, rng)
        elif way == 1:
            path.write_bytes(_bad_picture(rng) or b"")
        elif way == 2:
            path.rename(
                path.with_name(rng.choice(["\x1b[2J.png", "\u202e.png", "a\nb.png", "x" * 240 + ".png", ".png"]))
            )
        else:
            deep = path.parent
            for _ in range(rng.choice([3, 60])):
                deep = deep / "d"
            deep.mkdir(parents=True)
            path.rename(deep / path.name)
    if rng.random() < 0.2:
        (place / "train/class-0").rename(
            place / "train" / rng.choice(["\x1b[2J", "\u202eclass", "[bold]", os.fsdecode(b"\xff")])
        )
    if rng.random() < 0.2:
        (place / "train/class-1/loop").symlink_to(rng.choice([place, scene.work, Path("/")]))
    return _used(scene, rng)
