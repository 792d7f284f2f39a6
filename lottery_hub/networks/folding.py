"""A network for passes in which nothing is learned: the same function, arranged for speed.

An attack looks at frozen weights ten times over, so what can be computed once is:

    BatchNorm     its scale and shift become part of the convolution before it
    precision     weights are cast once, not in every pass
    stem          a 7x7 convolution with stride 2 over 3 channels becomes a 4x4 one over 12, whose gradient is cheap
    small maps    a convolution over a few pixels becomes a matrix, see `small_maps`

In exact arithmetic nothing changes; in float32 logits move in their last digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery_hub.networks import small_maps
from lottery_hub.networks.backbones import Normalised
from lottery_hub.networks.copying import copied
from lottery_hub.settings.config import Precision
from lottery_hub.settings.speed import memory_format, on


def folded(model: nn.Module, precision: Precision) -> nn.Module:
    """Return a model's view for passes in which nothing is learned; the model itself where it is no ResNet of ours."""
    return Folded(model, precision) if isinstance(model, Normalised) and on("folding") else model


class Folded(nn.Module):
    """An eval-mode view of a model as it was when `refresh` was last called; gradients are those of images only.

    Args:
        model: a timm ResNet behind its normalisation.
        precision: of its passes.

    Raises:
        TypeError: a BatchNorm follows no convolution.
    """

    def __init__(self, model: Normalised, precision: Precision) -> None:
        super().__init__()
        self.dtype = torch.bfloat16 if precision == "bfloat16" else next(model.parameters()).dtype
        self.mean, self.std = (cast(Tensor, each).detach().clone() for each in (model.mean, model.std))
        self._head = (model.network.get_submodule("fc"),)  # in a tuple, lest it becomes a part of this module
        # Each convolution here, and what it is made of.
        self._folded = list(_pairs(model.network))
        known: dict[int, Any] = {id(conv): folded for folded, conv, _ in self._folded}
        known |= {id(norm): nn.Identity() for _, _, norm in self._folded}
        network = copied(model.network, known).eval().requires_grad_(False)
        self.network = network.to(self.dtype, memory_format=memory_format())  # type: ignore[call-overload]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the model's weights and BatchNorm statistics as they are now."""
        for folded, conv, norm in self._folded:
            variance, mean = norm.get_buffer("running_var"), norm.get_buffer("running_mean")
            scale = norm.weight * (variance + norm.eps).rsqrt()
            folded.take(conv.weight * scale.view(-1, 1, 1, 1), norm.bias - mean * scale)
        for name, parameter in self._head[0].named_parameters():
            self.network.get_submodule("fc").get_parameter(name).copy_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [n, 3, h, w] in [0,1] to logits [n, classes] of their type."""
        normalised = ((images - self.mean) / self.std).to(self.dtype, memory_format=memory_format())
        logits: Tensor = self.network(normalised)
        return logits.to(images.dtype)


def _pairs(network: nn.Module) -> Iterator[tuple[_Conv, nn.Conv2d, nn.BatchNorm2d]]:
    """Yield each BatchNorm, the convolution before it, and the one with a bias that takes the place of both.

    Raises:
        TypeError: a BatchNorm follows no convolution.
    """
    conv: nn.Conv2d | None = None
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            conv = module
        elif isinstance(module, nn.BatchNorm2d):
            if conv is None:
                raise TypeError(f"the BatchNorm {name} follows no convolution")
            stem = on("stem", conv.weight.device) and _Stem.fits(conv)
            yield (_Stem if stem else _Conv)(conv), conv, module
            conv = None


class _Conv(nn.Module):
    """A convolution whose weights are taken from elsewhere."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride[0], cast(tuple[int, int], conv.padding)[0]
        self.dilation, self.groups = conv.dilation[0], conv.groups
        self.register_buffer("weight", self.arranged(conv.weight.detach()).clone())
        self.register_buffer("bias", conv.weight.new_zeros(conv.out_channels).detach())
        self._matrices: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}  # and biases

    @staticmethod
    def arranged(weight: Tensor) -> Tensor:
        """Return weights [out, in, k, k] as they are kept here."""
        return weight

    def take(self, weight: Tensor, bias: Tensor) -> None:
        """Take over weights [out, in, k, k] and biases [out]."""
        self.weight.copy_(self.arranged(weight))
        self.bias.copy_(bias)
        self._matrices.clear()

    def forward(self, images: Tensor) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        height, width = images.shape[2:]
        if self.groups == 1 and on("small-maps", images.device):
            shape = self.weight.shape[2], height, width, self.stride, self.padding
            if self.dilation == 1 and small_maps.fits(*shape, images.device.type):
                return small_maps.product(images, *self._laid_out(height, width), self.stride)
            if small_maps.sees_middle_only(self.weight.shape[2], height, width, self.padding, self.dilation):
                return F.conv2d(images, small_maps.middle(self.weight), self.bias, self.stride)
        return F.conv2d(images, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _laid_out(self, height: int, width: int) -> tuple[Tensor, Tensor | None]:
        """Return the matrix of maps of this size, made once for these weights, and its biases."""
        found = self._matrices.get((height, width))
        if found is None:
            matrix = small_maps.matrix(self.weight, height, width, self.stride, self.padding)
            found = self._matrices[height, width] = matrix, small_maps.repeated(self.bias, matrix)
        return found


class _Stem(_Conv):
    """A 7x7 convolution with stride 2 as a 4x4 one on blocks of 2x2 pixels: output, weights and their sum are the same.

    Row 2i + k - 3, which weight k of the 7 sees for output i, lies in block i + (k + 1) // 2 - 2, at (k + 1) % 2.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.stride, self.padding = 1, 0

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether a convolution can be arranged so."""
        shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        return shape == ((7, 7), (2, 2), (3, 3), (1, 1), 1)

    @staticmethod
    def arranged(weight: Tensor) -> Tensor:
        """Return weights [out, in, 7, 7] as [out, 4 in, 4, 4]."""
        return F.pixel_unshuffle(F.pad(weight, (1, 0, 1, 0)), 2)

    def forward(self, images: Tensor) -> Tensor:
        """Map [n, in, h, w] to [n, out, ⌈h / 2⌉, ⌈w / 2⌉]."""
        height, width = images.shape[2:]
        even = F.pad(images, (0, width % 2, 0, height % 2))
        blocks = F.pad(F.pixel_unshuffle(even, 2), (2, 1, 2, 1))
        return super().forward(blocks.contiguous(memory_format=memory_format()))
