"""Where backbones come from: a kind and an architecture, a file, a folder or a Hub repo becomes a `Backbone`.

Whatever the source, every key of the checkpoint must find its place: a checkpoint that silently loads
nothing gives a randomly initialised ticket with a robust-looking name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from lottery_hub.errors import BackboneError, TicketError, printable
from lottery_hub.fetching import downloads, names
from lottery_hub.fetching.pasted import pasted
from lottery_hub.networks.backbones import (
    ARCHITECTURES,
    COUNTER,
    DEFAULT_ARCH,
    HEAD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_CLASSES,
    Backbone,
    Weights,
    check_arch,
    check_shapes,
    check_weights,
    skeleton,
)
from lottery_hub.networks.published import SOURCES, threat
from lottery_hub.settings.config import Attack, Kind, parse_number
from lottery_hub.settings.paths import path_of
from lottery_hub.sharing.checkpoint_layouts import FLOATS, MASK, Checkpoint, Normalisation, read_checkpoint
from lottery_hub.sharing.pulling import is_remote, pull
from lottery_hub.storage import files
from lottery_hub.storage.folder import RESULTS, load_backbone_folder, packaged_folder, packaged_names, read_about
from lottery_hub.storage.origins import check_backbone
from lottery_hub.storage.places import inside


@dataclass(frozen=True)
class Packaged:
    """A backbone that ships with the library, as its records describe it.

    Attributes:
        arch, kind: what it is; the kind alone names it after `--pretrain`.
        dataset: what it was trained on.
        trained_against: the attack of its training, None for standard training.
        SA, RA: on the whole test split, RA by `attack`.
        samples: test images.
        license: of the weights.
    """

    arch: str
    kind: Kind
    dataset: str
    trained_against: Attack | None
    SA: float
    RA: float
    attack: str
    samples: int
    license: str


def packaged_backbones() -> list[Packaged]:
    """Return a row for each backbone that ships with the library, from its records; weights are not read."""
    rows = []
    for name in packaged_names():
        folder = cast(Path, packaged_folder(name))
        about = read_about(folder)
        if about.content == "ticket":
            continue
        attack = _training_attack(files.read_json(folder / RESULTS)["pretraining"])
        told = {name: about.provenance[name] for name in ("dataset", "SA", "RA", "attack", "samples", "license")}
        rows.append(Packaged(about.arch, about.pretrain, trained_against=attack, **told))
    return rows


def _training_attack(records: Mapping[str, Any]) -> Attack | None:
    given = records["plan"]["recipe"]["attack"]
    return None if given is None else Attack.parse(given)


_THREAT = re.compile(r"(linf|l2)-([\d./]+)", re.IGNORECASE)


def load_backbone(pretrain: str | os.PathLike[str], arch: str | None = None) -> Backbone:
    """Load a backbone.

    Args:
        pretrain: `std`, `fast-adv` or `adv`, for the packaged or published weights of that kind; KIND:linf-EPS or
            KIND:l2-EPS for those of one radius in [0,1] pixel units, e.g. `adv:linf-8/255` or `adv:l2-3`; or a
            folder or run directory that `pretrain` or `draw` wrote, or USER/NAME where it was pushed to; or KIND:PATH
            or KIND:ORG/NAME for a checkpoint file (.safetensors, .pth, .pt, .ckpt, .tar) or a Hub repo with a
            model.safetensors.
        arch: a key of `backbones.ARCHITECTURES`; None takes a folder's own, else the slim ResNet-18.

    Raises:
        BackboneError: unknown, absent or unfitting weights.
        DownloadError: the Hub did not deliver.
    """
    pretrain = os.fspath(pretrain)
    if arch is not None:
        check_arch(arch)
    kind, _, place = pretrain.partition(":")
    if kind not in get_args(Kind) or not place:
        kind, place = "", pretrain
    # Before paths and Hub ids, which could be spelled the same: a name in the table never depends on the folder
    # one is in. `adv:./linf-8/255` is a path.
    if kind and _THREAT.fullmatch(place):
        return _of_kind(cast(Kind, kind), arch or DEFAULT_ARCH, place)
    path = path_of(place)
    # Of a word that names a kind only the folder itself: a run directory of that name does not stand for it.
    itself = path if files.is_file(path / "config.json") else None
    if folder := itself or (None if pretrain in get_args(Kind) else inside(path, "backbone")):
        return _from_folder(folder, kind, arch)
    arch_given, arch = arch, arch or DEFAULT_ARCH
    if pretrain in get_args(Kind):
        return _of_kind(cast(Kind, pretrain), arch)
    if not kind and is_remote(pretrain):
        return _from_hub(pretrain, arch_given)
    if not kind:
        raise BackboneError(
            f"unknown backbone {printable(repr(pretrain))}: give std, fast-adv or adv, a backbone folder, "
            "or say how a checkpoint was pre-trained, e.g. adv:weights.ckpt"
        )
    if files.is_file(path):
        return _from_checkpoint(path, arch, cast(Kind, kind), {"source": f"local file {path.name}"})
    revision = None
    if page := pasted(place, "model", BackboneError):
        place, revision = page.repo_id, page.revision
    if names.fits(names.repo_id, place):
        file, commit = downloads.fetch_file(place, "model.safetensors", revision=revision)
        return _from_checkpoint(file, arch, cast(Kind, kind), {"source": place, "revision": commit})
    raise BackboneError(f"no checkpoint at {printable(place)}: give a file, a backbone folder or a Hub id org/name")


def packaged_name(arch: str, kind: str) -> str:
    """Return the name under which a backbone of this architecture and kind would be packaged."""
    return f"{arch}-{kind}"


def _of_kind(kind: Kind, arch: str, against: str | None = None) -> Backbone:
    """Load the packaged or published backbone of a kind, trained against what `against` says where it is given."""
    shipped = packaged_folder(packaged_name(arch, kind))
    if shipped is not None:
        packaged = _from_folder(shipped, kind, arch)
        if against is not None:
            attack = _training_attack(packaged.records)
            _known_threat(kind, arch, against, [threat(attack.norm, attack.eps) if attack else ""])
        return packaged
    rows = {threat(row.norm, row.eps): row for row in SOURCES if (row.arch, row.kind) == (arch, kind)}
    if not rows:
        have = ", ".join(sorted({source.arch for source in SOURCES if source.kind == kind}))
        raise BackboneError(
            f"no {kind} weights are known for {arch} (known: {have or 'none'}); "
            f"make some with `lottery-hub pretrain --recipe {kind} --arch {arch}`, or give {kind}:CHECKPOINT"
        )
    row = rows[next(iter(rows)) if against is None else _known_threat(kind, arch, against, list(rows))]
    file, commit = downloads.fetch_file(row.repo, row.file, sha256=row.sha256)
    told = {
        "source": f"{row.repo}/{row.file}",
        "revision": commit,
        "license": row.license,
        "SA": row.accuracy,
        "SA_from": row.accuracy_from,
    }
    if row.norm is not None:
        told |= {"norm": row.norm, "eps": row.eps}
    return _from_checkpoint(file, arch, kind, told)


def _known_threat(kind: Kind, arch: str, against: str, known: list[str]) -> str:
    """Return which of the known threats is meant by `against`, as a user may spell it; the error lists them."""
    norm, _, eps = against.lower().partition("-")
    meant = threat(norm, parse_number(eps))
    if meant not in known:
        choices = ", ".join(f"{kind}:{name}" if name else kind for name in known)
        raise BackboneError(
            f"no {kind} weights against {printable(against)} are known for {arch}; choose {choices}, "
            "or another --arch: `lottery-hub backbones` lists them"
        )
    return meant


def _from_checkpoint(file: Path, arch: str, kind: Kind, told: dict[str, Any]) -> Backbone:
    """Load a checkpoint file; whatever is known of it, the sha256 of what was read is recorded."""
    checkpoint = read_checkpoint(file)
    if any(name.endswith(MASK) for name in checkpoint.state):
        raise BackboneError(
            f"{printable(file)} holds masks of a pruned network; make a ticket of it: "
            f"lottery-hub import {printable(file)} --arch {arch} --pretrain {kind}"
        )
    return backbone_of(checkpoint, file, arch, kind, told)


def backbone_of(checkpoint: Checkpoint, file: Path, arch: str, kind: Kind, told: dict[str, Any]) -> Backbone:
    """Return the backbone that was read from a file, with timm's normalisation where it states none.

    Raises:
        BackboneError: it does not fit the architecture; see `match`.
    """
    mean, std = checkpoint.normalisation or _normalisation(arch)
    found = {"layout": checkpoint.layout} if checkpoint.layout else {}
    try:
        weights = match(checkpoint.state, arch)
    except BackboneError as problem:
        read_as = f", read as {checkpoint.layout}" if checkpoint.layout else ""
        raise BackboneError(f"{printable(file.name)}{read_as}: {problem}") from problem
    return Backbone(arch, kind, weights, mean, std, provenance=told | {"sha256": files.sha256(file)} | found)


def _from_folder(folder: Path, kind: str, arch: str | None) -> Backbone:
    try:
        backbone = load_backbone_folder(folder)
        check_backbone(backbone)
    except TicketError as problem:
        raise BackboneError(str(problem)) from problem
    if arch not in (None, backbone.arch):
        raise BackboneError(f"{printable(folder)} holds a {backbone.arch}; add --arch {backbone.arch}")
    if kind not in ("", backbone.kind):
        raise BackboneError(
            f"{printable(folder)} was pre-trained as {backbone.kind}, not {kind}; give the folder alone"
        )
    return backbone


def _from_hub(ref: str, arch: str | None) -> Backbone:
    """Load the backbone of a ladder that was published with `push`."""
    pulled = pull(ref, wanted="backbone")
    backbone = _from_folder(pulled.folder, "", arch)
    return replace(backbone, provenance=backbone.provenance | pulled.origin())


WHOLE = (torch.int64, torch.int32, torch.int16)


def match(state: Mapping[str, Tensor], arch: str) -> Weights:
    """Return the state as float32 weights in the network's own order; every key must match.

    Raises:
        BackboneError: names the keys that do not, or a tensor that is none of a network; see `check_weights`.
    """
    head = state.get("fc.weight")
    classes = len(head) if head is not None and head.dim() else 1000
    if classes > MAX_CLASSES:
        raise BackboneError(f"the head has {classes} classes, more than the {MAX_CLASSES} that are allowed")
    network = skeleton(arch, classes)
    wanted = network.state_dict()
    # Checkpoints from before BatchNorm counted batches lack the counter, which no forward pass reads.
    complete: dict[str, Any] = {n: torch.zeros((), dtype=torch.int64) for n in wanted if n.endswith(COUNTER)}
    complete |= state
    if [name for name in wanted if name not in complete] == list(HEAD) and complete.keys() <= wanted.keys():
        raise BackboneError("the weights have no head (fc.weight and fc.bias are missing); give them with the head")
    check_shapes(arch, complete, network)
    weights = {name: _owned(name, complete[name]) for name in wanted}
    check_weights(arch, weights, network)
    return weights


def _owned(name: str, tensor: Tensor) -> Tensor:
    """Return a copy of a tensor as a network holds it.

    Raises:
        BackboneError: it is of a type that no weights have, or unfolds to more than what is stored of it.
    """
    allowed, dtype = (WHOLE, torch.int64) if name.endswith(COUNTER) else (FLOATS, torch.float32)
    if tensor.dtype not in allowed:
        kinds = ", ".join(str(kind).removeprefix("torch.") for kind in allowed)
        raise BackboneError(f"tensor {printable(name)} is {tensor.dtype}, which is none of {kinds}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise BackboneError(
            f"tensor {printable(name)} stores fewer values than its shape has; the checkpoint is damaged"
        )
    return tensor.detach().resolve_neg().to(dtype, copy=True).contiguous()


def _normalisation(arch: str) -> Normalisation:
    """Return timm's mean and std for an architecture's weights; ImageNet's where timm has none."""
    from timm.models import get_pretrained_cfg

    tag = next((row.repo.partition("/")[2] for row in SOURCES if row.arch == arch and row.kind == "std"), None)
    config = get_pretrained_cfg(tag or ARCHITECTURES[arch][0])
    return (config.mean, config.std) if config is not None else (IMAGENET_MEAN, IMAGENET_STD)
