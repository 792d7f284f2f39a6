"""Checkpoints of strangers: files that ask for more than they hold, run code, or compute nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import odd
import safetensors.torch
import torch
from attempts import cli
from cases import Case, refuses, replace_by_something, stranger
from folders import TINY, valid
from mutations import InapplicableError
from torch import Tensor
from victims import Scene

from lottery_hub.sharing.pulling import load_ladder
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import load_backbone_folder, load_ticket, save_backbone

State = dict[str, Any]
_FAULTY = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError, pickle.PickleError)


def _honest(scene: Scene) -> State:
    folder = valid()["backbone float32"].copy().write(scene.work / "honest")
    return dict(load_backbone_folder(folder).weights)


def _used(path: Path, scene: Scene, rng: random.Random) -> Case:
    """Load a checkpoint, or draw from it; what is drawn must be what the reader takes."""
    kind, out = rng.choice(["adv", "std"]), scene.work / "out"
    scene.asked = [out]
    if rng.random() < 0.3:
        settings = ["--method", rng.choice(["omp", "random"]), "--rounds", "2", "--arch", TINY, "--output", out]
        command = ["draw", "--pretrain", f"{kind}:{path}", *settings]
        return Case(lambda: cli(*command), lambda _: _is_sound(load_ladder(out / "ladder").backbone))
    return Case(lambda: load_backbone(f"{kind}:{path}", TINY), lambda backbone: _round_trips(backbone, out))


def _round_trips(backbone: Any, out: Path) -> str:
    again = load_backbone_folder(save_backbone(backbone, out))
    same = all(torch.equal(tensor, again.weights[name]) for name, tensor in backbone.weights.items())
    return _is_sound(backbone) if same else "it is read otherwise than it is written"


def _is_sound(backbone: Any) -> str:
    """Say which tensor no folder may hold."""
    for name, tensor in backbone.weights.items():
        if not tensor.isfinite().all() or (
            name.endswith(("running_var", "num_batches_tracked")) and (tensor < 0).any()
        ):
            return f"{name} holds what it never may"
    return ""


def _saved(state: Any, path: Path, rng: random.Random) -> Path:
    """Write a checkpoint in one of the ways in which they are written."""
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=rng.random() < 0.8)
    except _FAULTY as problem:
        raise InapplicableError from problem
    return path


def _odd_tensor(tensor: Tensor, scene: Scene, rng: random.Random) -> Any:
    """Return something else in a tensor's place."""
    shape = tuple(tensor.shape)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool, torch.int8]
    kinds += [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2]

    def stretched() -> Tensor:
        wide = rng.choice([10**6, 10**9, 10**12, 10**14])
        return torch.zeros(1).expand(wide) if rng.random() < 0.5 else torch.zeros(1, 1, 1, 1).expand(wide, 1, 1, 1)

    ways: list[Callable[[], Any]] = [
        *[lambda: tensor.to(rng.choice(kinds))] * 4,
        stretched,
        lambda: torch.zeros(()).expand(shape),
        lambda: torch.zeros(shape, device="meta"),
        lambda: torch.full(shape, rng.choice([float("nan"), float("inf"), 3e38, 1e-45])),
        lambda: -tensor.abs() - 1,
        lambda: tensor.to_sparse() if tensor.dim() else tensor,
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: tensor.unsqueeze(0),
        lambda: tensor.flatten()[:1],
        lambda: torch.zeros(0),
        tensor.numpy,
        lambda: torch.nn.Parameter(tensor.float()),
        lambda: odd.value(scene, rng),
    ]
    return rng.choice(ways)()


@stranger("checkpoints", often=30)
def a_tensor_is_something_else(scene: Scene, rng: random.Random) -> Case:
    state = _honest(scene)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in rng.sample(sorted(state), rng.choice([1, 1, 2, 5])):
                state[name] = _odd_tensor(state[name], scene, rng)
    except _FAULTY as problem:
        raise InapplicableError from problem
    return _used(_saved(state, scene.work / f"net.{rng.choice(['pt', 'pt', 'safetensors'])}", rng), scene, rng)


@stranger("checkpoints", often=12)
def a_statistic_is_none(scene: Scene, rng: random.Random) -> Case:
    """What the writer of folders would never be able to read again is refused before any work."""
    state = _honest(scene)
    ending, values = rng.choice(
        [
            ("running_var", [-1.0, -1e-30, float("nan"), float("inf"), 1e38]),
            ("running_mean", [float("nan"), float("inf"), 3e38]),
            ("num_batches_tracked", [-1, -(2**63), 2**62]),
            ("bn1.weight", [float("nan"), float("inf"), 3e38]),
        ]
    )
    name = rng.choice([name for name in state if name.endswith(ending)])
    state[name] = torch.full_like(state[name], rng.choice(values))
    return _used(_saved(state, scene.work / f"net.{rng.choice(['pt', 'safetensors'])}", rng), scene, rng)


@stranger("checkpoints", often=12)
def the_names_are_others(scene: Scene, rng: random.Random) -> Case:
    state = _honest(scene)
    known = ["module.", "module._orig_mod.", "module.model.", "model.", "", "module.module."]
    prefix = rng.choice([*known, "x" * 300, "\x1b[2J", "../", "_"])
    state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    if rng.random() < 0.5:
        for end in ("mean", "std"):
            state[f"module.normalizer.new_{end}"] = rng.choice(
                [
                    torch.full((3, 1, 1), rng.choice([1e-320, 0.0, -1.0, float("nan"), 1e-38, 0.5, 1e38])).double(),
                    torch.ones(rng.choice([0, 1, 2, 4, 10**6])),
                    torch.ones(3, dtype=torch.complex64),
                    torch.zeros(1).expand(10**9),
                ]
            )
    for _ in range(rng.choice([0, 0, 1, 3])):
        state[odd.name(scene, rng)] = rng.choice([torch.ones(1), odd.value(scene, rng)])
    whole: Any = state
    for wrapper in rng.choice([(), ("state_dict",), ("model",), ("state_dict", "model"), ("teacher",), ("model_ema",)]):
        whole = {wrapper: whole, "epoch": odd.value(scene, rng)}
    return _used(_saved(whole, scene.work / "net.pt", rng), scene, rng)


@stranger("checkpoints", often=12)
def a_pruned_network_is_odd(scene: Scene, rng: random.Random) -> Case:
    """What becomes a ticket is one that the reader takes, or nothing is written."""
    state = _honest(scene)
    for name in [name for name in state if name.endswith("weight") and state[name].dim() == 4]:
        weight = state.pop(name)
        state[f"{name}_orig"], state[f"{name}_mask"] = weight, (weight.abs() > weight.abs().median()).float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in rng.sample(sorted(state), rng.choice([0, 1, 1, 2])):
                state[name] = _odd_tensor(state[name], scene, rng)
    except _FAULTY as problem:
        raise InapplicableError from problem
    for name in rng.sample(sorted(state), rng.choice([0, 0, 0, 1])):
        state[rng.choice([f"module.{name}", f"{name}_mask", f"{name}_orig", odd.name(scene, rng)])] = state.pop(name)
    prefix = rng.choice(["", "module.", "module._orig_mod.", "model."])
    state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    path = _saved(state, scene.work / f"net.{rng.choice(['pt', 'pt', 'safetensors'])}", rng)
    if rng.random() < 0.4:
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(bytes(data))
    out = scene.work / "out"
    scene.asked = [out]
    if rng.random() < 0.2:
        return _used(path, scene, rng)
    command = ["import", path, "--arch", TINY, "--output", out, *(["--masks", path] if rng.random() < 0.1 else [])]
    return Case(lambda: cli(*command), lambda _: _is_sound(load_ticket(out)))


class _Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@stranger("checkpoints", often=10)
def opening_it_runs_code(scene: Scene, rng: random.Random) -> Case:
    target = str(scene.victim / "notes.txt")
    evil = rng.choice(
        [
            _Runs(os.system, f"echo harm > {target}"),
            _Runs(os.unlink, target),
            _Runs(open, target, "w"),
            _Runs(eval, f"open({target!r}, 'w')"),
            _Runs(torch.load, target),
            _Runs(bytearray, 2**33),
            _Runs(torch.zeros, 2**33),
            _Runs(getattr, os, "system"),
        ]
    )
    state = _honest(scene)
    state[rng.choice([*sorted(state), "extra"])] = evil
    path = scene.work / "net.pt"
    if rng.random() < 0.3:
        try:
            path.write_bytes(pickle.dumps(state, protocol=rng.choice([0, 2, 4])))
        except _FAULTY as problem:
            raise InapplicableError from problem
    else:
        _saved({"state_dict": state} if rng.random() < 0.5 else state, path, rng)
    case = _used(path, scene, rng)
    return Case(case.act, refuses)


@stranger("checkpoints", often=10)
def a_small_archive_opens_into_a_large_one(scene: Scene, rng: random.Random) -> Case:
    """torch reads compressed archives too: a record of zeros takes a thousandth of its room."""
    state = _honest(scene)
    name = rng.choice(sorted(state))
    size = rng.choice([2**20, 2**20, 2**20, 2**24, 2**24, 2**24, 2**24, 2**28])
    stored = io.BytesIO()
    torch.save(state | {name: torch.zeros(4)}, stored)
    path = scene.work / "net.pt"
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for one in old.namelist():
            data = old.read(one)
            if one.endswith("data.pkl") and rng.random() < 0.3:
                data = rng.choice([_laughs(), b"\x80\x02" + b"]" * 10**6 + b".", b"\x80\x02}q\x00." + b"\0" * size])
            elif rng.random() < 0.1:
                data = bytes(size)
            new.writestr(one, data)
        for number in range(rng.choice([0, 0, 2])):
            new.writestr(f"archive/data/extra-{number}", bytes(size))
    return _used(path, scene, rng)


def _laughs() -> bytes:
    """Return a pickle of a list in lists, which takes 2^60 words to print and little to hold."""
    value: Any = ["x"]
    for _ in range(60):
        value = [value, value]
    return pickle.dumps({"state_dict": value, "conv1.weight": value}, protocol=2)


@stranger("checkpoints", often=15)
def bytes_are_others(scene: Scene, rng: random.Random) -> Case:
    path = _saved(_honest(scene), scene.work / f"net.{rng.choice(['pt', 'pt', 'safetensors'])}", rng)
    data = bytearray(path.read_bytes())
    way = rng.randrange(6)
    if way == 0:
        for _ in range(rng.choice([1, 5, 100])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif way == 1:
        del data[rng.randrange(len(data)) :]
    elif way == 2:
        data[:8] = struct.pack("<Q", rng.choice([2**63, 2**40, 2**31, 10**8, 0]))
    elif way == 3:
        start = rng.randrange(len(data))
        data[start:start] = rng.randbytes(rng.choice([1, 8, 1000]))
    elif way == 4:
        at = data.find(b"PK\x01\x02")
        for _ in range(10):
            data[rng.randrange(max(at, 0), len(data))] = rng.randrange(256)
    else:
        head = min(len(data), 2000)
        for _ in range(5):
            data[rng.randrange(head)] = rng.randrange(256)
    path.write_bytes(bytes(data))
    return _used(path, scene, rng)


@stranger("checkpoints", often=8)
def a_checkpoint_is_no_file(scene: Scene, rng: random.Random) -> Case:
    path = scene.work / f"net.{rng.choice(['pt', 'safetensors', 'ckpt'])}"
    replace_by_something(path, scene, rng)
    scene.look_away = True  # a user's own link leads where the user wants
    return _used(path, scene, rng)
