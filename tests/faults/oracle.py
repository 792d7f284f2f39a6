"""The format page as a second reader, which shares no code with the library and trusts nothing either.

It reads one bit stream at a time from the front and computes floats by arithmetic, where the library finds all
numbers at once and assembles bit patterns. `read` raises `ContradictionError` where a file is not what it says it is.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch

FLOATS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}  # bits of exponent and mantissa
NUMBERS = {"U8": "<u1", "I32": "<i4", "I64": "<i8"}


class ContradictionError(Exception):
    """A file is not what it says it is."""


def insist(true: object, what: str) -> None:
    if not true:
        raise ContradictionError(what)


@dataclass
class Reading:
    """What a folder says: every tensor by timm's name, and the rounds that prunable weights survived."""

    config: dict[str, Any]
    results: dict[str, Any]
    weights: dict[str, npt.NDArray[Any]]
    survived: dict[str, npt.NDArray[np.uint8]]

    @property
    def about(self) -> dict[str, Any]:
        return self.config["lottery_hub"]

    def kept(self, level: int) -> int:
        return sum(int((rounds >= level).sum()) for rounds in self.survived.values())

    def sparsity(self, level: int) -> float:
        return 1 - self.kept(level) / self.kept(0)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, array in sorted(self.weights.items()):
            digest.update(f"{name}|torch.{array.dtype}|{array.shape}|".encode() + array.tobytes())
        return f"sha256:{digest.hexdigest()}"


class Stream:
    """Bits, read from the front, the most significant of a byte first."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        insist(data.dtype == np.uint8 and data.ndim == 1, "a stream is a row of bytes")
        self.left = np.unpackbits(data)

    def take(self, count: int) -> npt.NDArray[np.int64]:
        insist(len(self.left) >= count, "the stream ends early")
        taken, self.left = self.left[:count].astype(np.int64), self.left[count:]
        return taken

    def unary(self, count: int) -> npt.NDArray[np.int64]:
        ends = np.flatnonzero(self.left)[:count]
        insist(len(ends) == count, "the unary stream ends early")
        if count:
            self.left = self.left[int(ends[-1]) + 1 :]
        return np.diff(ends, prepend=-1) - 1

    def finish(self) -> None:
        insist(len(self.left) < 8 and not self.left.any(), "the stream goes on")


def read(folder: Path, wanted: int = 0) -> Reading:
    """Read a folder; of a ladder the groups below `wanted` are left out."""
    config, results = (json.loads((folder / name).read_bytes()) for name in ("config.json", "results.json"))
    about = config["lottery_hub"]
    weights = folder / f"{about['content']}.safetensors"
    for path in (weights, folder / "results.json"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        insist(about["hashes"][path.name] == f"sha256:{digest}", f"the hash of {path.name}")
    levels, first = {"ticket": (1, 1), "ladder": (about.get("levels"), 0), "backbone": (0, 0)}[about["content"]]
    arrays = _arrays(weights.read_bytes())
    classes = about.get("num_classes", config["num_classes"])
    shapes, prunable = _network(config["architecture"], classes, json.dumps(config["model_args"]))
    _check_names(arrays, levels, first)
    survived = _survived(arrays, [math.prod(shapes[name]) for name in prunable], levels)
    found = _groups(arrays, survived, range(max(first, wanted), levels + 1), about["values"])
    flat = dict(zip(prunable, found, strict=True)) | _dense(arrays, shapes, prunable)
    reading = Reading(
        config,
        results,
        {name: flat[name].reshape(shape) for name, shape in shapes.items()},
        {name: rounds.reshape(shapes[name]) for name, rounds in zip(prunable, survived, strict=True)},
    )
    _check_claims(reading, wanted)
    return reading


@lru_cache
def _network(name: str, num_classes: int, arguments: str) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=num_classes, **json.loads(arguments))
    convolutions = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return shapes, [f"{name}.weight" for name in convolutions]


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start], object_pairs_hook=_once)
    header.pop("__metadata__", None)
    arrays, end = {}, 0
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        insist(one["data_offsets"][0] == end, f"a gap before {name}")
        begin, end = one["data_offsets"]
        numbers = np.frombuffer(data[start + begin : start + end], NUMBERS[one["dtype"]])
        insist(len(numbers) == math.prod(one["shape"]), f"the shape of {name}")
        arrays[name] = numbers.reshape(one["shape"])
    insist(start + end == len(data), "bytes after the last tensor")
    return arrays


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    insist(len(dict(pairs)) == len(pairs), "a key appears twice")
    return dict(pairs)


def _check_names(arrays: dict[str, npt.NDArray[Any]], levels: int, first: int) -> None:
    names = {"counters"} | ({"layers"} if levels else set())
    for group in ("dense", *(f"values/{number}" for number in range(first, levels + 1))):
        names |= {f"{group}/exponents", f"{group}/unary", f"{group}/rest"}
    for number in range(1, levels + 1):
        names |= {f"round/{number}/unary", f"round/{number}/binary"}
    insist(arrays.keys() == names, f"other tensors: {sorted(arrays.keys() ^ names)}")


def _survived(arrays: dict[str, npt.NDArray[Any]], sizes: list[int], levels: int) -> list[npt.NDArray[np.uint8]]:
    survived = [np.zeros(size, np.uint8) for size in sizes]
    if levels:
        insist(arrays["layers"].dtype == np.int32 and arrays["layers"].shape == (levels, len(sizes), 3), "layers")
    for level in range(1, levels + 1):
        unary, binary = (Stream(arrays[f"round/{level}/{part}"]) for part in ("unary", "binary"))
        for rounds, (kept, stays, parameter) in zip(survived, arrays["layers"][level - 1].tolist(), strict=True):
            alive = np.flatnonzero(rounds == level - 1)
            insist(0 <= kept <= len(alive) and stays in (0, 1) and 0 <= parameter <= 24, "a row of layers")
            count = kept if stays else len(alive) - kept
            gaps = unary.unary(count) * 2**parameter
            for plane in range(parameter):
                gaps += binary.take(count) * 2**plane
            positions = np.cumsum(gaps + 1) - 1
            insist((positions < len(alive)).all(), "a position beyond the tensor")
            listed = np.isin(np.arange(len(alive)), positions)
            rounds[alive[listed if stays else ~listed]] = level
        unary.finish()
        binary.finish()
    return survived


def _groups(
    arrays: dict[str, npt.NDArray[Any]], survived: list[npt.NDArray[np.uint8]], groups: range, values: str
) -> list[npt.NDArray[np.float32]]:
    found = [np.zeros(len(rounds), np.float32) for rounds in survived]
    for group in groups:
        members = [rounds == group for rounds in survived]
        floats = _floats(arrays, f"values/{group}", sum(int(some.sum()) for some in members), values)
        ends = np.cumsum([some.sum() for some in members])
        for weight, some, part in zip(found, members, np.split(floats, ends[:-1]), strict=True):
            weight[some] = part
    return found


def _floats(arrays: dict[str, npt.NDArray[Any]], name: str, count: int, values: str) -> npt.NDArray[np.float32]:
    exponent, mantissa = FLOATS[values]
    exponents, rest = arrays[f"{name}/exponents"], arrays[f"{name}/rest"]
    insist(exponents.dtype == np.uint8 and exponents.ndim == 1, "exponents are a row of bytes")
    insist(rest.dtype == np.uint8 and rest.ndim == 1, "the rest is a row of bytes")
    insist(len(set(exponents.tolist())) == len(exponents), "an exponent twice")
    insist((exponents < 2**exponent - 1).all(), "NaN or infinity")
    unary = Stream(arrays[f"{name}/unary"])
    places = unary.unary(count)
    unary.finish()
    insist((places < len(exponents)).all(), "an exponent that is not listed")
    whole, left = divmod(1 + mantissa, 8)
    insist(len(rest) >= whole * count, "the rest ends early")
    bits = np.zeros(count, np.int64)
    for byte in range(whole):
        bits += rest[byte * count : (byte + 1) * count].astype(np.int64) * 256**byte
    planes = Stream(rest[whole * count :])
    for plane in range(left):
        bits += planes.take(count) * 2 ** (8 * whole + plane)
    planes.finish()
    negative, fraction = np.divmod(bits, 2**mantissa)
    field = exponents[places].astype(np.int64) if count else np.zeros(0, np.int64)
    # Subnormal numbers have no leading one, and the exponent of the smallest that do.
    significand = fraction + np.where(field > 0, 2**mantissa, 0)
    powers = np.maximum(field, 1) - (2 ** (exponent - 1) - 1) - mantissa
    magnitudes = np.ldexp(significand.astype(np.float64), powers.astype(np.int32))
    return np.copysign(magnitudes, np.where(negative == 1, -1.0, 1.0)).astype(np.float32)


def _dense(
    arrays: dict[str, npt.NDArray[Any]], shapes: dict[str, tuple[int, ...]], prunable: list[str]
) -> dict[str, npt.NDArray[Any]]:
    names = [name for name in shapes if name not in prunable and not name.endswith("num_batches_tracked")]
    sizes = [math.prod(shapes[name]) for name in names]
    parts = np.split(_floats(arrays, "dense", sum(sizes), "float32"), np.cumsum(sizes)[:-1])
    dense: dict[str, npt.NDArray[Any]] = dict(zip(names, parts, strict=True))
    for name, part in dense.items():
        insist(not name.endswith("running_var") or (part >= 0).all(), f"a negative variance in {name}")
    counters = [name for name in shapes if name.endswith("num_batches_tracked")]
    numbers = arrays["counters"]
    insist(numbers.dtype == np.int64 and numbers.shape == (len(counters),) and (numbers >= 0).all(), "counters")
    return dense | dict(zip(counters, numbers, strict=True))


def _check_claims(reading: Reading, wanted: int) -> None:
    about = reading.about
    if about["content"] == "ticket":
        insist((about["kept"], about["total"]) == (reading.kept(1), reading.kept(0)), "kept and total")
        insist(about["sparsity"] == reading.sparsity(1), "sparsity")
        verdict = reading.results.get("double_win")
        insist(about["double_win"] is (verdict if isinstance(verdict, bool) else None), "the verdict")
    if about["content"] == "ladder":
        found = [reading.sparsity(level) for level in range(about["levels"] + 1)]
        insist(about["sparsities"] == found, "sparsities")
