"""Convolutions over a few pixels, as products of matrices.

A ResNet made for large images shrinks one of 32x32 pixels to 2x2, then to a single one. There most taps of a 3x3
convolution lie on padding; the library multiplies them with zeros, and takes longest over the gradient of the weights.
As a matrix, from all values of the input to all of the output, only the taps are left that see something. Where that is
the middle one alone, as with dilation 4 over 4x4 pixels, the convolution is one of a single tap.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lottery_hub.networks.copying import Model, copied
from lottery_hub.settings.speed import on

FEW = 4  # pixels of output over which a product of matrices beats a convolution of a single tap


def fits(kernel: int, height: int, width: int, stride: int, padding: int, device: str = "cpu") -> bool:
    """Whether a convolution of kernel x kernel taps over maps of height x width pixels is better taken as a matrix.

    Of a single tap a GPU's library makes the same product in one kernel.
    """
    if kernel == 1:
        return device == "cpu" and padding == 0 and -(-height // stride) * -(-width // stride) <= FEW
    return height * width < kernel * kernel


def sees_middle_only(kernel: int, height: int, width: int, padding: int, dilation: int) -> bool:
    """Whether all taps of a convolution but the middle one lie on padding wherever it stands."""
    middle_is_own_pixel = kernel % 2 == 1 and padding == dilation * (kernel // 2)
    return kernel > 1 and middle_is_own_pixel and dilation >= max(height, width)


def middle(weight: Tensor) -> Tensor:
    """Return the middle tap of weights [out, in, k, k] as [out, in, 1, 1]."""
    at = weight.shape[2] // 2
    return weight[:, :, at : at + 1, at : at + 1]


def matrix(weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
    """Return [h', w', out, h, w, in]: with which weight each value of the input enters each of the output.

    Of a single tap it is [out, in]: all pixels share it.

    Args:
        weight: [out, in, k, k] of a convolution without groups and dilation.
        height, width: of its input, in pixels.
        stride, padding: of the convolution.
    """
    if weight.shape[2] == 1:
        return weight[:, :, 0, 0]
    # Tap by tap is many small copies, which a processor makes as fast as one large one, and a GPU does not.
    laid_out = _Matrix if weight.device.type == "cpu" else _Gathered
    return cast(Tensor, laid_out.apply(weight, height, width, stride, padding))


def product(images: Tensor, matrix: Tensor, biases: Tensor | None, stride: int) -> Tensor:
    """Return what the convolution makes of `images` [n, in, h, w]: [n, out, h', w']; see `matrix` and `repeated`."""
    if matrix.dim() == 2:
        seen = images[:, :, ::stride, ::stride].permute(0, 2, 3, 1)
        return F.linear(seen.contiguous(), matrix, biases).permute(0, 3, 1, 2)
    rows, columns, channels = matrix.shape[:3]
    flat = images.permute(0, 2, 3, 1).flatten(1)
    mapped = F.linear(flat, matrix.flatten(3).flatten(0, 2), biases)
    return mapped.view(-1, rows, columns, channels).permute(0, 3, 1, 2)


def repeated(bias: Tensor | None, matrix: Tensor) -> Tensor | None:
    """Return the biases [out] of a convolution for every pixel of its output."""
    return bias if bias is None or matrix.dim() == 2 else bias.repeat(matrix.shape[0] * matrix.shape[1])


def arranged(model: Model) -> Model:
    """Return a view of a model whose convolutions of small maps are products of matrices.

    It is made of the same tensors: gradients of its passes are the model's, and so are the statistics they move.
    """
    known: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            known[id(module)] = _Conv2d(module)
    return copied(model, known)


class _Conv2d(nn.Module):
    """A convolution of the same weights as another, which looks at the size of its input."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding = conv.stride[0], cast(tuple[int, int], conv.padding)[0]
        self.dilation = conv.dilation[0]

    def forward(self, images: Tensor) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        height, width = images.shape[2:]
        shape = self.weight.shape[2], height, width, self.stride, self.padding
        if on("small-maps", images.device):
            if self.dilation == 1 and fits(*shape, images.device.type):
                return self._as_matrix(images)
            if sees_middle_only(self.weight.shape[2], height, width, self.padding, self.dilation):
                return F.conv2d(images, middle(self.weight), self.bias, self.stride)
        return F.conv2d(images, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def _as_matrix(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        device = images.device.type
        # As autocast does with a convolution's weight, but before the matrix is made of it, which is larger.
        weight = self.weight.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else self.weight
        laid_out = matrix(weight, height, width, self.stride, self.padding)
        return product(images, laid_out, repeated(self.bias, laid_out), self.stride)


class _Matrix(torch.autograd.Function):
    """Weights laid out as a matrix, and its gradient gathered tap by tap."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
        outs, ins, kernel, _ = weight.shape
        ctx.rows, ctx.columns = seen_taps(height, kernel, stride, padding), seen_taps(width, kernel, stride, padding)
        ctx.weight = weight.shape
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
        found = weight.new_zeros(*sides, outs, height, width, ins)
        for i, a, u in ctx.rows:
            for j, b, v in ctx.columns:
                found[i, j, :, a, b] = weight[:, :, u, v]
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = gradients
        outs, ins, kernel, _ = ctx.weight
        taps = gradient.new_zeros(outs, kernel, kernel, ins)
        for i, a, u in ctx.rows:
            for j, b, v in ctx.columns:
                taps[:, u, v] += gradient[i, j, :, a, b]
        return taps.permute(0, 3, 1, 2), None, None, None, None


class _Gathered(torch.autograd.Function):
    """The same in a few large operations."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
        outs, ins, kernel, _ = weight.shape
        ctx.tap, ctx.weight = tap_of(height, width, kernel, stride, padding, weight.device), weight.shape
        taps = weight.new_zeros(kernel * kernel + 1, outs, ins)  # the last one stands for padding
        taps[:-1].view(kernel, kernel, outs, ins).copy_(weight.permute(2, 3, 0, 1))
        found: Tensor = taps[ctx.tap[:, :, None], torch.arange(outs, device=weight.device)[:, None, None]]
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = gradients
        outs, ins, kernel, _ = ctx.weight
        every = torch.arange(kernel * kernel, device=gradient.device)
        enters = (ctx.tap.flatten() == every[:, None]).to(gradient.dtype)
        taps = enters @ gradient.permute(0, 1, 3, 4, 2, 5).reshape(-1, outs * ins)
        return taps.view(kernel, kernel, outs, ins).permute(2, 3, 0, 1), None, None, None, None


@functools.lru_cache(maxsize=256)
def tap_of(height: int, width: int, kernel: int, stride: int, padding: int, device: torch.device) -> Tensor:
    """Return int64 [h', w', h, w]: with which of the taps an input enters an output; their number where with none."""
    rows, columns = seen_taps(height, kernel, stride, padding), seen_taps(width, kernel, stride, padding)
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    found = torch.full((*sides, height, width), kernel * kernel)
    for i, a, u in rows:
        for j, b, v in columns:
            found[i, j, a, b] = kernel * u + v
    return found.to(device)


def seen_taps(side: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> list[tuple[int, int, int]]:
    """Return (output, input, tap) for every tap along one side that does not lie on padding."""
    outputs = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    placed = ((i, i * stride - padding + tap * dilation, tap) for i in range(outputs) for tap in range(kernel))
    return [(i, a, tap) for i, a, tap in sorted(placed) if 0 <= a < side]
