"""Checkpoints as people have them: the network's tensors out of a file, whatever they stand in and under.

    {"state_dict": {...}, "epoch": ...}     wrappers, see `WRAPPERS`; of an average and the plain weights, the average
    module.model.conv1.weight               one prefix before every key, of any parts
    normalize.mean, normalizer.new_std, ... mean and std beside the network
    attacker.model.conv1.weight             the second copy that the robustness library saves

Prefixes are found by whole parts, never sliced out of a name: what stands before `conv1`, `layer1`, ... is the prefix,
and has to be the same for the whole network. Everything else is left for the check that every key finds its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lottery_hub.errors import BackboneError, TicketError, printable
from lottery_hub.fetching.pointers import POINTER_ADVICE, is_pointer_file
from lottery_hub.networks.backbones import check_normalisation
from lottery_hub.storage import checkpoints, files

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std per channel

AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict")  # before the others, as timm takes them
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
WRAPPERS = (*AVERAGES, *PLAIN)
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ORIGINAL, MASK = "_orig", "_mask"  # what torch.nn.utils.prune makes of a parameter

_MAX_WRAPPERS = 3  # inside each other
_BEGINNINGS = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}  # of every key of a ResNet
_NORMALISERS = ("normalizer", "normalize", "0")  # "0": the first of an nn.Sequential
_COPY = "attacker"
_AVERAGED = "n_averaged"  # how many steps went into an average, beside the network in torch's AveragedModel


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        state: the network's tensors under their own names.
        normalisation: the mean and std that it says it was trained with.
        layout: what they stood in and under, for people: `state_dict, prefix module.`; empty for a bare state dict.
    """

    state: dict[str, Tensor]
    normalisation: Normalisation | None = None
    layout: str = ""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the network's tensors out of a .safetensors file or one that torch.save wrote; no code in it is run.

    Whatever stands beside a wrapped state dict (optimizer, epoch, …) is not looked at.

    Raises:
        BackboneError: the file cannot be read safely, or holds something else.
    """
    if is_pointer_file(path):
        raise BackboneError(f"{printable(path)} {POINTER_ADVICE}")
    try:
        if path.suffix == ".safetensors":
            content: Any = files.read_tensors(path)
        else:
            with path.open("rb") as file:
                content = checkpoints.unpickled(file, path)
    except OSError as problem:
        raise BackboneError(f"cannot read {printable(path)}: {printable(problem)}") from problem
    except TicketError as problem:
        raise BackboneError(str(problem)) from problem
    try:
        return normalised(content)
    except BackboneError as problem:
        raise BackboneError(f"{printable(path)} {problem}") from problem


def normalised(content: Any) -> Checkpoint:
    """Return the network in what a file holds.

    Raises:
        BackboneError: there is none, or more than one; the message goes on after the file's name.
    """
    state, wrappers = _unwrapped(content)
    prefix = _prefix(state)
    stated = {name: tensor for name, tensor in state.items() if _states_normalisation(name, prefix)}
    inside = {name: tensor for name, tensor in state.items() if name.startswith(prefix) and name not in stated}
    beside = [name for name in state if name not in inside and name not in stated]
    copies = [name for name in beside if _COPY in name.split(".")]
    rest = [name for name in beside if name not in copies and name.split(".")[-1] != _AVERAGED]
    if rest:
        where = f" under {printable(prefix, 60)}" if prefix else ""
        raise BackboneError(f"has {len(rest)} keys outside the network{where}, e.g. {printable(rest[0])}")
    normalisation = _normalisation(stated)
    told = [
        *wrappers,
        *([f"prefix {printable(prefix, 60)}"] if prefix else []),
        *(["its own mean and std"] if normalisation else []),
        *(["without the copy under attacker"] if copies else []),
    ]
    network = {name.removeprefix(prefix): tensor for name, tensor in inside.items()}
    return Checkpoint(network, normalisation, ", ".join(told))


def _unwrapped(content: Any) -> tuple[Mapping[str, Tensor], list[str]]:
    """Return the state dict in what a file holds, and the names it stood under."""
    wrappers: list[str] = []
    for _ in range(_MAX_WRAPPERS):
        held = [name for name in WRAPPERS if _holds_tensors(content, name)]
        if not held:
            break
        same = [name for name in held if (name in AVERAGES) == (held[0] in AVERAGES)]
        if len(same) > 1:
            raise BackboneError(f"holds {len(same)} networks, under {' and '.join(same)}; save the one that is meant")
        passed = f", not {held[1]}" if len(held) > 1 else ""
        wrappers.append(f"{held[0]} (the average{passed})" if held[0] in AVERAGES else held[0])
        content = content[held[0]]
    where = f" under {', '.join(wrappers)}" if wrappers else ""
    if not isinstance(content, Mapping):
        raise BackboneError(f"holds no state dict of dense tensors{where}: it is a {printable(type(content).__name__)}")
    odd = [name for name, value in content.items() if not _is_entry(name, value)]
    if odd or not content:
        shown = ", ".join(printable(repr(name), 60) for name in odd[:4])
        reason = f"{len(odd)} of {len(content)} entries are none, e.g. {shown}" if odd else "it is empty"
        raise BackboneError(f"holds no state dict of dense tensors{where}: {reason}")
    return cast(Mapping[str, Tensor], content), wrappers


def _holds_tensors(content: Any, name: str) -> bool:
    """Whether a wrapper of this name is there with something that may be a network."""
    inner = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping):
        return False
    return any(isinstance(value, Tensor) or (isinstance(key, str) and key in WRAPPERS) for key, value in inner.items())


def _is_entry(name: Any, value: Any) -> bool:
    # A tensor on the meta device has a shape and nothing in it.
    return isinstance(name, str) and isinstance(value, Tensor) and value.device.type == "cpu" and _is_dense(value)


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized


def _prefix(state: Mapping[str, Tensor]) -> str:
    """Return what stands before the names of the network; nothing where it is not the same for all of it.

    Raises:
        BackboneError: there are two networks.
    """
    found: dict[str, set[str]] = {}
    for name in state:
        parts = name.split(".")
        first = next((place for place, part in enumerate(parts) if part in _BEGINNINGS), None)
        if first is not None and _COPY not in parts[:first]:
            found.setdefault("".join(f"{part}." for part in parts[:first]), set()).add(parts[first])
    if len(found) == 1:
        return next(iter(found))
    whole = [prefix for prefix, beginnings in found.items() if {"conv1", "layer1"} <= beginnings]
    if len(whole) > 1:
        named = " and ".join(printable(repr(prefix), 60) for prefix in whole[:3])
        raise BackboneError(f"holds {len(whole)} networks, under the prefixes {named}; save the one that is meant")
    return whole[0] if whole else ""


def _states_normalisation(name: str, prefix: str) -> bool:
    """Whether a key is the mean or std that stands beside the network of this prefix, or around it."""
    *before, last = name.split(".")
    if last.removeprefix("new_") not in ("mean", "std"):
        return False
    if before and before[-1] in _NORMALISERS:
        before.pop()
    return prefix.startswith("".join(f"{part}." for part in before))


def _normalisation(stated: Mapping[str, Tensor]) -> Normalisation | None:
    """Return the (mean, std) beside the network, or None. With others than its own a network computes nonsense."""
    if not stated:
        return None
    means, stds = ([name for name in stated if name.endswith(end)] for end in ("mean", "std"))
    mean, std = (_decimals(stated[names[0]]) if len(names) == 1 else () for names in (means, stds))
    if not len(mean) == len(std) == 3:
        raise BackboneError("cannot be used: the checkpoint's normalizer is no mean and std of three channels")
    try:
        check_normalisation(mean, std)
    except BackboneError as problem:
        raise BackboneError(f"cannot be used: the checkpoint's normalizer: {problem}") from problem
    return mean, std


def _decimals(stored: Tensor) -> tuple[float, ...]:
    """Return the three decimals that were stored as float32: 0.485, not 0.48500001430511475; none of anything else."""
    if stored.numel() != 3 or stored.dtype not in FLOATS:
        return ()
    return tuple(round(value, 6) for value in stored.detach().double().flatten().tolist())
