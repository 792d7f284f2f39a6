"""Compacting: removing for good the filters and channels of a ResNet that its mask has emptied.

Only channels between two convolutions of one block, or of a deep stem, can go: the next convolution is their
only reader. The residual stream is shared by all blocks of a stage and stays as wide as it is.

A filter whose weights are all zero puts out one number everywhere, which its BatchNorm and ReLU make another, a:

    a = 0                              the filter goes, and with it its channel in the next convolution
    a > 0, next convolution unpadded   its share of the next convolution is a constant: moved into the BatchNorm there
    a > 0, next convolution padded     no constant at the borders, where the padding is 0 and not a: all such channels
                                       of the layer become one, which puts out exactly 1
    no weight reads the channel        it goes, whatever it puts out

Unstructured sparsity seldom empties a filter before it is very high, and a zero in a filter that stays costs a dense
kernel as much as any number: expect little at moderate sparsity, and measure with `compare_latency`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lottery_hub.errors import BackboneError, printable
from lottery_hub.networks.copying import copied

# Where channels lie that one convolution writes and one reads: the first and its BatchNorm, what stands between, the
# second and its BatchNorm.
_Names = tuple[str, str, tuple[str, ...], str, str]
_INSIDE: dict[str, list[_Names]] = {
    "BasicBlock": [("conv1", "bn1", ("drop_block", "act1", "aa"), "conv2", "bn2")],
    "Bottleneck": [
        ("conv1", "bn1", ("act1",), "conv2", "bn2"),
        ("conv2", "bn2", ("drop_block", "act2", "aa"), "conv3", "bn3"),
    ],
}
_DEEP_STEM: list[_Names] = [
    ("conv1.0", "conv1.1", ("conv1.2",), "conv1.3", "conv1.4"),
    ("conv1.3", "conv1.4", ("conv1.5",), "conv1.6", "bn1"),
]
_STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Cost:
    """What a network takes to store and to run in dense kernels, which count a zero as any other number.

    Attributes:
        parameters: all of them, head and BatchNorm included.
        macs: multiplications with a weight of a convolution or linear layer, for one image of `image_size`.
        image_size: side in pixels.
    """

    parameters: int
    macs: int
    image_size: int


@dataclass(frozen=True)
class Compacted:
    """A network without its dead filters and channels.

    Attributes:
        model: the smaller network, in eval mode; its shapes are no longer those timm builds.
        removed: channels that are gone.
        before, after: what the network cost, and costs.
    """

    model: nn.Module
    removed: int
    before: Cost
    after: Cost


@dataclass(frozen=True)
class Latency:
    """How long two networks took on this machine.

    Attributes:
        before, after: milliseconds for one batch, the fastest.
        runs: batches timed of each.
        batch_size, image_size: of a batch.
        device: "cpu" or "cuda".
        threads: that torch used on the CPU.
    """

    before: float
    after: float
    runs: int
    batch_size: int
    image_size: int
    device: str
    threads: int


def compact(model: nn.Module, image_size: int = 32) -> Compacted:
    """Remove the filters and channels of a ResNet that make no difference to its logits.

    The logits are those of `model` in eval mode, up to the rounding of sums taken in another order. Under training
    they would part: BatchNorm then looks at batches, and what is removed here is gone.

    Args:
        model: a plain timm ResNet such as `Ticket.to_model` returns; it is not changed.
        image_size: side of the image for which multiplications are counted, in pixels.

    Returns:
        The smaller network and what it costs before and after. Channels of the residual stream all stay.

    Raises:
        BackboneError: the network is no ResNet of `backbones.ARCHITECTURES`; names the layer that differs.
    """
    small = copied(model).eval()
    chains = list(_chains(small))
    before = cost(small, image_size)
    removed = 0
    # A filter that goes may leave others unread before it, or empty behind it: again until there is nothing left.
    while went := sum(_shrink(chain) for chain in chains):
        removed += went
    return Compacted(small, removed, before, cost(small, image_size))


def cost(model: nn.Module, image_size: int = 32) -> Cost:
    """Count parameters, and the multiplications that one image takes, by running the network.

    Args:
        model: a network on float images [n, 3, h, w].
        image_size: side of the image, in pixels.
    """
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.get_parameter("weight")[0].numel()  # an output is a sum over one filter

    counted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(count) for module in counted]
    try:
        with _evaluating(model):
            model(_images(model, 1, image_size))
    finally:
        for handle in handles:
            handle.remove()
    return Cost(sum(parameter.numel() for parameter in model.parameters()), macs, image_size)


def compare_latency(
    before: nn.Module, after: nn.Module, *, image_size: int = 32, batch_size: int = 1, runs: int = 30
) -> Latency:
    """Time two networks in turns and take each one's fastest batch.

    Whatever else the machine does can only slow a batch down. The one that goes first changes from turn to turn: a
    process that comes back as regularly as the turns do would otherwise always slow the same network.

    Args:
        before, after: networks on the same device, which is the one measured.
        image_size: side of the images, in pixels.
        batch_size: images at once.
        runs: batches timed of each, after three that are not.
    """
    images = _images(before, batch_size, image_size)
    with _evaluating(before, after):
        for _ in range(3):
            _milliseconds(before, images)
            _milliseconds(after, images)
        fastest = {before: math.inf, after: math.inf}
        for turn in range(runs):
            for model in (before, after) if turn % 2 == 0 else (after, before):
                fastest[model] = min(fastest[model], _milliseconds(model, images))
    device = images.device.type
    return Latency(fastest[before], fastest[after], runs, batch_size, image_size, device, torch.get_num_threads())


def _milliseconds(model: nn.Module, images: Tensor) -> float:
    _finish(images)
    began = time.perf_counter()
    model(images)
    _finish(images)
    return (time.perf_counter() - began) * 1000


def _finish(images: Tensor) -> None:
    """Wait for a GPU, which computes while Python goes on."""
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def _images(model: nn.Module, count: int, image_size: int) -> Tensor:
    """Return random [0,1] images of the type and on the device of a network."""
    images = torch.rand(count, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return images.to(next(model.parameters()))


@contextmanager
def _evaluating(*models: nn.Module) -> Iterator[None]:
    """Run the block without gradients and in eval mode, where nothing is learned and no running statistic moves."""
    training = [module for model in models for module in model.modules() if module.training]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class _Chain(NamedTuple):
    """Channels that one convolution writes and one convolution reads."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    between: list[nn.Module]
    next_conv: nn.Conv2d
    next_norm: nn.BatchNorm2d


def _chains(network: nn.Module) -> Iterator[_Chain]:
    """Yield every chain of a ResNet, in the order of computation.

    Raises:
        BackboneError: names the layer that no ResNet of ours has.
    """
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    if type(network) is not ResNet:
        raise BackboneError(f"only plain timm ResNets can be compacted, not {type(network).__name__}")
    if type(network.conv1) is nn.Sequential:
        yield from (_chain(network, "", names) for names in _DEEP_STEM)
    for stage in _STAGES:
        for place, block in network.get_submodule(stage).named_children():
            if type(block) not in (BasicBlock, Bottleneck):
                raise _unlike(f"{stage}.{place}", block)
            yield from (_chain(block, f"{stage}.{place}.", names) for names in _INSIDE[type(block).__name__])


def _chain(parent: nn.Module, prefix: str, names: _Names) -> _Chain:
    conv, norm, between, next_conv, next_norm = names
    return _Chain(
        _conv(parent, prefix, conv),
        _norm(parent, prefix, norm),
        [_pointwise(parent, prefix, name) for name in between],
        _conv(parent, prefix, next_conv),
        _norm(parent, prefix, next_norm),
    )


def _conv(parent: nn.Module, prefix: str, name: str) -> nn.Conv2d:
    conv = parent.get_submodule(name)
    if type(conv) is nn.Conv2d and conv.groups == 1 and conv.bias is None and conv.padding_mode == "zeros":
        return conv
    raise _unlike(prefix + name, conv)


def _norm(parent: nn.Module, prefix: str, name: str) -> nn.BatchNorm2d:
    norm = parent.get_submodule(name)
    if type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats:
        return norm
    raise _unlike(prefix + name, norm)


def _pointwise(parent: nn.Module, prefix: str, name: str) -> nn.Module:
    module = parent.get_submodule(name)
    if type(module) in (nn.ReLU, nn.Identity):
        return module
    raise _unlike(prefix + name, module)


def _unlike(name: str, module: nn.Module) -> BackboneError:
    return BackboneError(f"only plain timm ResNets can be compacted; {name} is {printable(module, 100)}")


@torch.no_grad()
def _shrink(chain: _Chain) -> int:
    """Remove the channels of one chain that make no difference; return how many went."""
    conv, norm, _, next_conv, next_norm = chain
    dead = ~conv.weight.flatten(1).any(1)
    read = next_conv.weight.transpose(0, 1).flatten(1).any(1)
    level = _levels(chain)
    kept = read & ~dead
    steady = read & dead & (level != 0)
    if steady.any():
        # In float64, so that what is moved is rounded once.
        moved = (next_conv.weight[:, steady].double() * level[steady].view(1, -1, 1, 1)).sum(1)
        if next_conv.padding == (0, 0):
            next_norm.get_buffer("running_mean").sub_(moved.sum((1, 2)))
        else:
            one = int(steady.nonzero()[0])
            kept[one] = True
            next_conv.weight[:, one] = moved
            _put_out_one(norm, one)
    if not kept.any():
        # A convolution needs a channel: the first stays, reads nothing and is read by nothing.
        kept[0] = True
        conv.weight[0] = 0
        next_conv.weight[:, 0] = 0
    if not kept.all():
        _keep_outputs(conv, norm, kept)
        _keep_inputs(next_conv, kept)
    return int((~kept).sum())


def _put_out_one(norm: nn.BatchNorm2d, channel: int) -> None:
    """Let a BatchNorm make exactly 1 of a channel that is 0: (0 - 0) / sqrt(variance + eps) * weight + 1."""
    norm.get_buffer("running_mean")[channel] = 0
    norm.bias[channel] = 1


def _levels(chain: _Chain) -> Tensor:
    """Return float64 [channels]: the a that each channel puts out where its filter puts out 0."""
    norm = chain.norm
    mean, variance = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    level = norm.bias.double() - mean * norm.weight.double() / (variance + norm.eps).sqrt()
    for module in chain.between:
        level = module(level)
    return level


def _keep_outputs(conv: nn.Conv2d, norm: nn.BatchNorm2d, kept: Tensor) -> None:
    conv.weight = _part(conv.weight, conv.weight[kept])
    conv.out_channels = norm.num_features = len(conv.weight)
    norm.weight = _part(norm.weight, norm.weight[kept])
    norm.bias = _part(norm.bias, norm.bias[kept])
    norm.running_mean = norm.get_buffer("running_mean")[kept]
    norm.running_var = norm.get_buffer("running_var")[kept]


def _keep_inputs(conv: nn.Conv2d, kept: Tensor) -> None:
    conv.weight = _part(conv.weight, conv.weight[:, kept])
    conv.in_channels = conv.weight.shape[1]


def _part(whole: Tensor, part: Tensor) -> nn.Parameter:
    return nn.Parameter(part, requires_grad=whole.requires_grad)
