"""Backbones: allow-listed timm ResNets with pre-trained weights, and the models built from them.

Which networks exist is one table, `ARCHITECTURES`; where weights come from is the business of `sources`.
A network built here is plain timm with timm's own state-dict keys; `Normalised` wraps it for everything
that works on [0,1] images, and is never saved.
"""

from __future__ import annotations

import copy
import hashlib
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from lottery_hub.errors import BackboneError, printable
from lottery_hub.networks.copying import copied
from lottery_hub.networks.masks import Mask, apply_, full_mask, prunable_names
from lottery_hub.settings.ambient import float32
from lottery_hub.settings.config import Kind
from lottery_hub.values import same_fields, whole

Weights = dict[str, Tensor]
HEAD = ("fc.weight", "fc.bias")

# Our names → timm's name and the arguments that change its shape. Everything a file can ask to be built is here.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    # For CPUs and 32x32 images: 0.7 M parameters; stride 8 leaves a 4x4 final map where stride 32 leaves 1x1.
    "resnet18-slim": ("resnet18", {"channels": (16, 32, 64, 128), "output_stride": 8}),
} | {
    name: (name, {})
    for name in (
        "resnet10t",
        "resnet14t",
        "resnet18",
        "resnet18d",
        "resnet26",
        "resnet26d",
        "resnet26t",
        "resnet34",
        "resnet34d",
        "resnet50",
        "resnet50c",
        "resnet50d",
        "resnet50s",
        "resnet50t",
        "resnet101",
        "resnet101c",
        "resnet101d",
        "resnet152",
        "resnet152d",
        "resnet200",
        "wide_resnet50_2",
        "wide_resnet101_2",
    )
}
DEFAULT_ARCH = "resnet18-slim"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_CLASSES = 100_000
# A thousandth of the pixels' range, less than half of a 255th. Far below it, dividing gives infinity.
MIN_STD = 1e-3
COUNTER = "num_batches_tracked"
_one_at_a_time = threading.Lock()


class Normalised(nn.Module):
    """A network that takes [0,1] images: subtracts mean, divides by std, then calls `network`, in whose mode it is."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.training = network.training  # its own flag alone: a part of the network may be held in another mode

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [n, 3, h, w] in [0,1] to logits [n, classes]."""
        normalised = (images - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        return cast(Tensor, self.network(normalised))


@dataclass(frozen=True)
class Backbone:
    """Pre-trained weights θ_pre of an architecture, and how they came to be.

    Attributes:
        arch: a key of `ARCHITECTURES`.
        kind: how it was pre-trained.
        weights: timm's state dict, the pre-trained fc and BatchNorm statistics included; float32 on the CPU.
        mean, std: per channel, applied to [0,1] pixels inside the model.
        provenance: source, licence, and what is known of the training; JSON-able.
        records: the full record of a pre-training of our own, empty for others' weights; JSON-able.

    Raises:
        BackboneError: mean or std is none that images can have.
    """

    arch: str
    kind: Kind
    weights: Weights
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    provenance: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_normalisation(self.mean, self.std)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        kind: Kind,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        source: str | None = None,
        license: str | None = None,
    ) -> Backbone:
        """Make a backbone of a network at hand in Python, which keeps its own weights.

        Args:
            model: a ResNet of `ARCHITECTURES` with its head, from timm or torchvision; also behind `Normalised`,
                torch.compile or DataParallel. Nothing but its weights is taken, so it has to compute what timm's does.
            kind: how it was pre-trained, which no network tells: `std`, `fast-adv` or `adv`.
            mean, std: of the images that it takes, per channel, for [0,1] pixels; None takes those of `Normalised`, or
                of timm's `pretrained_cfg`, which are timm's even where another has trained it.
            source: where the weights come from, for records and cards.
            license: of the weights, as the Hub spells it.

        Raises:
            BackboneError: it is no such network, computes something else with its weights, or says no mean and std.
        """
        if kind not in get_args(Kind):
            raise BackboneError(f"unknown kind {printable(repr(kind))}; choose one of: {', '.join(get_args(Kind))}")
        network, known_mean, known_std = _unwrapped(model)
        mean, std = known_mean if mean is None else mean, known_std if std is None else std
        if mean is None or std is None:
            raise BackboneError(
                "the network does not say how its images were normalised; give mean and std for [0,1] pixels "
                f"(ImageNet's are mean={IMAGENET_MEAN}, std={IMAGENET_STD})"
            )
        if any(tensor.is_meta for tensor in network.state_dict().values()):
            raise BackboneError("the network is on the meta device, and has no weights")
        weights = {
            name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else torch.int64, copy=True)
            for name, tensor in network.state_dict().items()
        }
        told = {"source": source or f"a {type(network).__name__} given in Python"}
        told |= {"license": license} if license else {}
        return cls(_arch_of(network, weights), kind, weights, _three(mean), _three(std), provenance=told)

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.arch, self.kind, self.num_classes))

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.weights.values())
        source = printable(self.provenance.get("source", "unknown source"))
        return f"Backbone({self.arch} ({self.kind}), {self.num_classes} classes, {count:,} values, {source})"

    @property
    def num_classes(self) -> int:
        """Classes of the pre-trained head."""
        return len(self.weights["fc.weight"])

    @property
    def prunable(self) -> list[str]:
        """Names of the prunable weights, in module order."""
        return layout(self.arch, self.num_classes).prunable

    def dense_mask(self) -> Mask:
        """The mask of level 0."""
        return full_mask({name: self.weights[name] for name in self.prunable})

    def model(self, num_classes: int | None = None, seed: int = 0, mask: Mask | None = None) -> Normalised:
        """Build a model on [0,1] images: pre-trained head, or a fresh dense one for `num_classes` from `seed`.

        With a mask its pruned weights are exactly 0. With a fresh head it is in training mode, else ready to be used.
        """
        weights = self.weights if num_classes is None else with_fresh_head(self.weights, num_classes, seed)
        network = build_network(self.arch, weights).train(num_classes is not None)
        if mask is not None:
            apply_(network, mask)
        return Normalised(network, self.mean, self.std)

    def fingerprint(self) -> str:
        """Return `sha256:…` over names, shapes and bytes of the weights."""
        return fingerprint(self.weights)


def _three(values: object) -> tuple[float, ...]:
    """Return what was given per channel, a list, array or tensor, as numbers; what is none of these as nothing."""
    try:
        return tuple(float(value) for value in cast(Iterable[Any], values))
    except (TypeError, ValueError):
        return ()


def _unwrapped(model: object) -> tuple[nn.Module, Sequence[float] | None, Sequence[float] | None]:
    """Return the network inside of what others put around it, and its mean and std where they are known."""
    if not isinstance(model, nn.Module):
        raise BackboneError(f"a {type(model).__name__} is no network; load_backbone takes names, folders and files")
    mean = std = None
    while True:
        if isinstance(model, Normalised):
            # By way of text: 0.485 is no float32, and comes back as what it was written as.
            mean, std = (
                [float(str(value)) for value in values.flatten().cpu().numpy()] for values in model.buffers(False)
            )
        inside = next(
            (getattr(model, name) for name in ("_orig_mod", "module", "network") if hasattr(model, name)), None
        )
        if not isinstance(inside, nn.Module):
            break
        model = inside
    config = getattr(model, "pretrained_cfg", None)
    known = config if isinstance(config, Mapping) else {}
    return model, mean or known.get("mean"), std or known.get("std")


def _arch_of(network: nn.Module, weights: Weights) -> str:
    """Return the architecture that has these tensors and computes what the network computes.

    Raises:
        BackboneError: there is none.
    """
    classes = len(weights["fc.weight"]) if "fc.weight" in weights else 0
    if not 0 < classes <= MAX_CLASSES:
        raise BackboneError("the network has no head of classes (fc.weight and fc.bias); give it with its head")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    config = getattr(network, "pretrained_cfg", None)
    said = config.get("architecture") if isinstance(config, Mapping) else None
    # Most of the time goes into building skeletons: what a network says of itself is tried first.
    likely = sorted(ARCHITECTURES, key=lambda arch: ARCHITECTURES[arch][0] != said)
    arch = next((arch for arch in likely if layout(arch, classes).shapes == shapes), None)
    if arch is None:
        raise BackboneError(
            f"a {printable(type(network).__name__)} of {len(shapes)} tensors is none of: {', '.join(ARCHITECTURES)}"
        )
    difference = _difference(network, build_network(arch, weights))
    if not difference < SAME:
        raise BackboneError(
            f"the network has the weights of {arch} and computes something else with them: logits lie "
            f"{difference:.1g} of the largest apart; another stem, stride or activation cannot be kept"
        )
    return arch


SAME = 1e-3  # of the largest logit: rounding, of half precision too, and nothing else


def _difference(one: nn.Module, other: nn.Module) -> float:
    """Return how far the logits of two networks lie apart, as a share of the largest."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    with torch.no_grad():
        first, second = (copy.deepcopy(each).to("cpu", torch.float32).eval()(images) for each in (one, other))
    if first.shape != second.shape:
        return 1.0
    return float((first - second).abs().max() / second.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def check_arch(arch: str) -> None:
    """Raise BackboneError unless `arch` is in `ARCHITECTURES`."""
    if arch not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BackboneError(f"unknown architecture {printable(repr(arch))}; choose one of: {known}")


def skeleton(arch: str, num_classes: int) -> nn.Module:
    """Build the timm network on the meta device: names and shapes, no memory, no random numbers."""
    return copied(_skeleton(arch, num_classes))


class Layout(NamedTuple):
    """The tensors of a network: name → shape in state-dict order, and the names of the prunable ones."""

    shapes: dict[str, tuple[int, ...]]
    prunable: list[str]


def layout(arch: str, num_classes: int) -> Layout:
    """Return the names and shapes of an architecture's tensors, without building it in memory."""
    network = _skeleton(arch, num_classes)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return Layout(shapes, prunable_names(network))


# timm initialises what it builds even where there is no memory to fill: most of the time that loading a ticket takes.
@lru_cache(maxsize=16)
def _skeleton(arch: str, num_classes: int) -> nn.Module:
    import timm

    check_arch(arch)
    name, arguments = ARCHITECTURES[arch]
    with torch.device("meta"):
        return cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments))


def build_network(arch: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the plain timm network that holds copies of `weights`; every key must fit.

    Raises:
        BackboneError: names the missing, unexpected or misshapen keys.
    """
    classes = len(weights["fc.weight"]) if "fc.weight" in weights else 1000
    network = skeleton(arch, classes)
    check_weights(arch, weights, network)
    network.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, strict=True, assign=True)
    return network.train()


def check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise BackboneError unless mean and std are of three channels of [0,1] pixels."""
    fits = len(mean) == len(std) == 3 and all(0 <= value <= 1 for value in mean)
    if not fits or not all(MIN_STD <= value <= 1 for value in std):
        raise BackboneError(
            f"mean {mean} and std {std} are not of [0,1] pixels: three means in 0..1 and three stds in {MIN_STD:g}..1"
        )


def check_weights(arch: str, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Check weights by the rules by which a folder of them is read.

    Raises:
        BackboneError: names or shapes are not exactly the network's; a tensor is not of its type (float32, counters
            int64); or a value is not finite, a variance or a count of batches negative.
    """
    check_shapes(arch, weights, network)
    wanted = network.state_dict()
    for name, tensor in weights.items():
        dtype = torch.float32 if wanted[name].is_floating_point() else torch.int64
        if tensor.dtype != dtype:
            raise BackboneError(f"tensor {printable(name)} is {tensor.dtype}, and has to be {dtype}")
        # The extremes are NaN or infinite if any value is, and take a fraction of the time of looking at each.
        extremes = tensor.aminmax() if tensor.numel() else (torch.zeros(()),) * 2
        if not all(bool(extreme.isfinite()) for extreme in extremes):
            raise BackboneError(f"tensor {printable(name)} holds NaN or infinite values; the checkpoint is damaged")
        if name.endswith(("running_var", COUNTER)) and bool(extremes[0] < 0):
            what = "count of batches" if name.endswith(COUNTER) else "variance"
            raise BackboneError(f"tensor {printable(name)} holds a negative {what}; the checkpoint is damaged")


def check_shapes(arch: str, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise BackboneError unless names and shapes are exactly the network's."""
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in weights]
    unexpected = [name for name in weights if name not in wanted]
    if missing or unexpected:
        raise BackboneError(
            f"the weights do not fit {arch}: {_listed('missing', missing)}{_listed('unexpected', unexpected)}"
            "every key must match; check --arch"
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, {arch} wants {tuple(wanted[name].shape)}"
            raise BackboneError(f"tensor {printable(name)} has shape {shapes}; check --arch")


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(printable(name, 60) for name in names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{len(names)} {what} ({shown}{more}); "


def fresh_weights(arch: str, num_classes: int, seed: int) -> Weights:
    """Return timm's random initialisation from `seed`, without touching the global generator."""
    import timm

    check_arch(arch)
    name, arguments = ARCHITECTURES[arch]
    # The generator and the default type are the process's: two threads at once would draw from each other's.
    with _one_at_a_time, torch.random.fork_rng(devices=[]), float32():
        torch.manual_seed(seed)
        network = timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)
    return {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}


def with_fresh_head(weights: Mapping[str, Tensor], num_classes: int, seed: int) -> Weights:
    """Replace the head by a new one: uniform in ±1/sqrt(features), as torch initialises a Linear layer."""
    generator = torch.Generator().manual_seed(seed)
    if not 1 <= (whole(num_classes) or 0) <= MAX_CLASSES:
        raise BackboneError(
            f"num_classes is a number from 1 to {MAX_CLASSES:,}, not {printable(repr(num_classes), 60)}"
        )
    features = weights["fc.weight"].shape[1]
    bound = 1 / math.sqrt(features)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)

    return dict(weights) | {"fc.weight": drawn(num_classes, features), "fc.bias": drawn(num_classes)}


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return `sha256:…` over the names, dtypes, shapes and bytes of tensors, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
