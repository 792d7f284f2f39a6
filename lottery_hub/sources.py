"""Where backbones come from: a kind and an architecture, a file, a folder or a Hub repo becomes a `Backbone`.

Whatever the source, every key of the checkpoint must find its place: a checkpoint that silently loads
nothing gives a randomly initialised ticket with a robust-looking name.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from lottery_hub import downloads
from lottery_hub.backbones import (
    ARCHITECTURES,
    DEFAULT_ARCH,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    Weights,
    check_arch,
    check_weights,
    skeleton,
)
from lottery_hub.config import Kind
from lottery_hub.errors import BackboneError, TicketError, printable
from lottery_hub.storage import files
from lottery_hub.storage.folder import load_backbone_folder, packaged_folder


@dataclass(frozen=True)
class Source:
    """One row of the table: a file on the Hub that holds a backbone.

    Attributes:
        arch, kind: what it is.
        repo, file: where it is.
        license: of the weights.
        accuracy: ImageNet top-1 in 0..1 as its authors report it, or None.
        sha256: of the file, where it is known.
    """

    arch: str
    kind: Kind
    repo: str
    file: str
    license: str
    accuracy: float | None = None
    sha256: str | None = None


def _timm(arch: str, tag: str, license: str = "apache-2.0", accuracy: float | None = None) -> Source:
    return Source(arch, "std", f"timm/{arch}.{tag}", "model.safetensors", license, accuracy)


def _madry(arch: str, accuracy: float, sha256: str) -> Source:
    # eps 4/255: the strongest of the series whose clean accuracy still transfers well (Salman et al. 2020).
    file = f"{arch}_linf_eps4.0.ckpt"
    return Source(arch, "adv", "madrylab/robust-imagenet-models", file, "mit", accuracy, sha256)


SOURCES: tuple[Source, ...] = (
    _timm("resnet10t", "c3_in1k"),
    _timm("resnet14t", "c3_in1k"),
    _timm("resnet18", "tv_in1k", "bsd-3-clause", 0.6975),
    _timm("resnet18d", "ra2_in1k"),
    _timm("resnet26", "bt_in1k"),
    _timm("resnet26d", "bt_in1k"),
    _timm("resnet26t", "ra2_in1k"),
    _timm("resnet34", "tv_in1k", "bsd-3-clause"),
    _timm("resnet34d", "ra2_in1k"),
    # Not the stronger a1_in1k: tv_in1k was trained like the robust ones, so the pair differs in robustness alone.
    _timm("resnet50", "tv_in1k", "bsd-3-clause", 0.7616),
    _timm("resnet50c", "gluon_in1k"),
    _timm("resnet50d", "ra2_in1k"),
    _timm("resnet50s", "gluon_in1k"),
    _timm("resnet101", "tv_in1k", "bsd-3-clause"),
    _timm("resnet101c", "gluon_in1k"),
    _timm("resnet101d", "ra2_in1k"),
    _timm("resnet152", "tv_in1k", "bsd-3-clause"),
    _timm("resnet152d", "ra2_in1k"),
    _timm("wide_resnet50_2", "tv_in1k", "bsd-3-clause"),
    _timm("wide_resnet101_2", "tv_in1k", "bsd-3-clause"),
    _madry("resnet18", 0.5249, "6f8ccef1ae4958c381617081e9e0fb5f50e7cccd4965192d1caa452fd6c5cd1e"),
    _madry("resnet50", 0.6386, "9e62216975c111b8081481533b6142dec34be69abe5d90b54d7f860015c263db"),
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load_backbone(pretrain: str, arch: str | None = None) -> Backbone:
    """Load a backbone.

    Args:
        pretrain: `std`, `fast-adv` or `adv`, for the packaged or published weights of that kind; or a folder
            that `pretrain` or `draw` wrote; or KIND:PATH or KIND:ORG/NAME for a checkpoint file (.safetensors,
            .pth, .pt, .ckpt, .tar) or a Hub repo with a model.safetensors.
        arch: a key of `backbones.ARCHITECTURES`; None takes a folder's own, else the slim ResNet-18.

    Raises:
        BackboneError: unknown, absent or unfitting weights.
        DownloadError: the Hub did not deliver.
    """
    if arch is not None:
        check_arch(arch)
    kind, _, place = pretrain.partition(":")
    if kind not in get_args(Kind) or not place:
        kind, place = "", pretrain
    path = Path(place)
    if files.is_file(path / "config.json"):
        return _from_folder(path, kind, arch)
    arch = arch or DEFAULT_ARCH
    if pretrain in get_args(Kind):
        return _of_kind(cast(Kind, pretrain), arch)
    if not kind:
        raise BackboneError(
            f"unknown backbone {printable(repr(pretrain))}: give std, fast-adv or adv, a backbone folder, "
            "or say how a checkpoint was pre-trained, e.g. adv:weights.ckpt"
        )
    if files.is_file(path):
        weights = match(read_checkpoint(path), arch)
        provenance = {"source": f"local file {path.name}", "sha256": files.sha256(path)}
    elif _HUB_ID.fullmatch(place):
        file, commit = downloads.fetch_file(place, "model.safetensors")
        weights = match(read_checkpoint(file), arch)
        provenance = {"source": place, "revision": commit, "sha256": files.sha256(file)}
    else:
        raise BackboneError(f"no checkpoint at {printable(place)}: give a file, a backbone folder or a Hub id org/name")
    return Backbone(arch, cast(Kind, kind), weights, *_normalisation(arch), provenance=provenance)


def packaged_name(arch: str, kind: str) -> str:
    """Return the name under which a backbone of this architecture and kind would be packaged."""
    return f"{arch}-{kind}"


def _of_kind(kind: Kind, arch: str) -> Backbone:
    inside = packaged_folder(packaged_name(arch, kind))
    if inside is not None:
        return _from_folder(inside, kind, arch)
    row = next((row for row in SOURCES if (row.arch, row.kind) == (arch, kind)), None)
    if row is None:
        have = ", ".join(sorted({source.arch for source in SOURCES if source.kind == kind}))
        raise BackboneError(
            f"no {kind} weights are known for {arch} (known: {have or 'none'}); "
            f"make some with `lottery-hub pretrain --recipe {kind} --arch {arch}`, or give {kind}:CHECKPOINT"
        )
    file, commit = downloads.fetch_file(row.repo, row.file, sha256=row.sha256)
    provenance = {"source": f"{row.repo}/{row.file}", "revision": commit, "license": row.license, "SA": row.accuracy}
    provenance["sha256"] = files.sha256(file)
    return Backbone(arch, kind, match(read_checkpoint(file), arch), *_normalisation(arch), provenance=provenance)


def _from_folder(folder: Path, kind: str, arch: str | None) -> Backbone:
    try:
        backbone = load_backbone_folder(folder)
    except TicketError as problem:
        raise BackboneError(str(problem)) from problem
    if arch not in (None, backbone.arch):
        raise BackboneError(f"{printable(folder)} holds a {backbone.arch}; add --arch {backbone.arch}")
    if kind not in ("", backbone.kind):
        raise BackboneError(
            f"{printable(folder)} was pre-trained as {backbone.kind}, not {kind}; give the folder alone"
        )
    return backbone


# What torch.load raises over damaged bytes: an unpickler stumbles over whatever comes next.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
)


def _is_entry(item: tuple[Any, Any]) -> bool:
    name, value = item
    return (
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the network's tensors out of a checkpoint file, with prefixes removed; no code in it is run.

    Two structures are known besides a bare state dict: `{"model": …}` as the robustness library writes it,
    of which exactly the keys that start with `module.model.` are the network, and `{"state_dict": …}` whose
    keys all start with `module.`.

    Raises:
        BackboneError: the file cannot be read safely, or holds something else.
    """
    if path.suffix == ".safetensors":
        try:
            return files.read_tensors(path)
        except TicketError as problem:
            raise BackboneError(str(problem)) from problem
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise BackboneError(
            f"{printable(path)} is damaged, or needs code to be run to be opened, which is refused; "
            "save its state dict as .safetensors where it comes from"
        ) from problem
    except _UNREADABLE as problem:
        reason = printable(problem) or type(problem).__name__
        raise BackboneError(f"cannot read {printable(path)}: {reason}") from problem
    state = content
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), Mapping):
            state = content[wrapper]
            break
    if not isinstance(state, Mapping) or not state or not all(map(_is_entry, state.items())):
        raise BackboneError(f"{printable(path)} holds no state dict of dense tensors")
    return _without_prefix(cast(Mapping[str, Tensor], state))


# What the robustness library saves beside the network: a second copy of it, and normalisation constants.
_MADRY_EXTRAS = ("module.attacker.", "module.normalizer.")


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inner = "module.model."
    if any(name.startswith(inner) for name in state):
        rest = [name for name in state if not name.startswith((inner, *_MADRY_EXTRAS))]
        if rest:
            raise BackboneError(f"the checkpoint has {len(rest)} keys outside the network, e.g. {printable(rest[0])}")
        return {name.removeprefix(inner): tensor for name, tensor in state.items() if name.startswith(inner)}
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def match(state: Mapping[str, Tensor], arch: str) -> Weights:
    """Return the state as float32 weights in the network's own order; every key must match.

    Raises:
        BackboneError: names the keys that do not.
    """
    head = state.get("fc.weight")
    network = skeleton(arch, len(head) if head is not None and head.dim() else 1000)
    wanted = network.state_dict()
    # Checkpoints from before BatchNorm counted batches lack the counter, which no forward pass reads.
    complete: dict[str, Any] = {n: torch.zeros((), dtype=torch.int64) for n in wanted if n.endswith(_COUNTER)}
    complete |= state
    check_weights(arch, complete, network)
    return {name: complete[name].to(wanted[name].dtype).clone() for name in wanted}


_COUNTER = "num_batches_tracked"


def _normalisation(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return timm's mean and std for an architecture's weights; ImageNet's where timm has none."""
    from timm.models import get_pretrained_cfg

    tag = next((row.repo.partition("/")[2] for row in SOURCES if row.arch == arch and row.kind == "std"), None)
    config = get_pretrained_cfg(tag or ARCHITECTURES[arch][0])
    return (config.mean, config.std) if config is not None else (IMAGENET_MEAN, IMAGENET_STD)
