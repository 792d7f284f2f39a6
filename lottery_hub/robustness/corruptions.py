"""The fifteen common corruptions at five severities of CIFAR-10-C and CIFAR-100-C, for 32x32 images, batched.

Definitions and parameters are those of the script that made CIFAR-10-C (Hendrycks & Dietterich 2019,
arXiv 1903.12261), down to its truncation to whole 255ths and to glass blur's shuffle, which copies pixels where it
means to swap them. The draws are our own, seeded: no image is that of the published files to the bit. Frost needs
six photographs that are not ours to ship; a procedural texture stands in for them, so its figures, and means that
contain them, are not comparable with published ones.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.ambient import float32

SIDE = 32
SEVERITIES = (1, 2, 3, 4, 5)
CHUNK = 1000  # images at a time

Corruption = Callable[[Tensor, Any, Generator], Tensor]


@float32()
def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Return corrupted images; each has draws of its own, the same for the same seed.

    Args:
        images: uint8 [n, 3, 32, 32], on the CPU.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the draws; types and severities draw independently.

    Returns:
        uint8 [n, 3, 32, 32].

    Raises:
        ConfigError: there is no such corruption or severity, or the images are of another size.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ConfigError(f"no corruption {printable(name)} of severity {printable(severity)}; see CORRUPTIONS")
    if tuple(images.shape[1:]) != (3, SIDE, SIDE):
        size = "x".join(str(side) for side in images.shape[2:])
        raise ConfigError(f"the severities of corruptions are defined for {SIDE}x{SIDE} images, these are {size}")
    function, parameters = CORRUPTIONS[name]
    place = list(CORRUPTIONS).index(name) * len(SEVERITIES) + severity
    generator = torch.Generator().manual_seed(seed * 100 + place)
    return torch.cat(
        [
            _truncated(function(chunk.float() / 255, parameters[severity - 1], generator))
            for chunk in torch.split(images, CHUNK)
        ]
    )


def _truncated(pixels: Tensor) -> Tensor:
    """Return [0,1] as uint8, cut off below whole 255ths; what float32 leaves a hair below one counts as it."""
    return (pixels.clamp(0, 1) * 255 + 1e-3).to(torch.uint8)


# Noise


def _gaussian_noise(pixels: Tensor, scale: float, generator: Generator) -> Tensor:
    return pixels + scale * torch.randn(pixels.shape, generator=generator)


def _shot_noise(pixels: Tensor, photons: float, generator: Generator) -> Tensor:
    return torch.poisson(pixels * photons, generator) / photons


def _impulse_noise(pixels: Tensor, share: float, generator: Generator) -> Tensor:
    """Set a share of all values, channel by channel, to 0 or 1."""
    drawn = torch.rand(pixels.shape, generator=generator)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn < share, 1.0, pixels))


# Blur


def _defocus_blur(pixels: Tensor, lens: tuple[float, float], generator: Generator) -> Tensor:
    radius, softness = lens
    reach = torch.arange(-8, 9)
    disk = ((reach[:, None] ** 2 + reach**2) <= radius**2).float()
    taps = torch.exp(-(torch.arange(-1, 2) ** 2) / (2 * softness**2))
    kernel = F.conv2d((disk / disk.sum())[None, None], torch.outer(taps, taps)[None, None] / taps.sum() ** 2, padding=1)
    padded = F.pad(pixels, (8, 8, 8, 8), mode="reflect")
    return F.conv2d(padded, kernel.expand(3, 1, 17, 17), groups=3)


def _glass_blur(pixels: Tensor, glass: tuple[float, int], generator: Generator) -> Tensor:
    """Blur, copy each inner pixel from a neighbour above or to the left, so many times over, and blur again."""
    sigma, times = glass
    shuffled = _truncated(_gaussian_blur(pixels, sigma)).float() / 255
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    inner = (rows > 1) & (columns > 1)
    for _ in range(times):
        up, left = torch.randint(0, 2, (2, len(pixels), SIDE, SIDE), generator=generator) * inner
        shuffled = _taken(shuffled, rows - up, columns - left)
    return _gaussian_blur(shuffled, sigma)


def _motion_blur(pixels: Tensor, motion: tuple[int, float], generator: Generator) -> Tensor:
    return _moved(pixels, *motion, _uniform(-45, 45, (len(pixels),), generator))


def _zoom_blur(pixels: Tensor, limit: float, generator: Generator) -> Tensor:
    views = [_zoomed(pixels, factor) for factor in np.arange(1, limit, 0.01)]
    return torch.stack([pixels, *views]).mean(0)


# Weather


def _snow(pixels: Tensor, weather: tuple[float, ...], generator: Generator) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, clear = weather
    flakes = _zoomed(mean + deviation * torch.randn(len(pixels), 1, SIDE, SIDE, generator=generator), zoom)
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    flakes = _moved(flakes, int(radius), sigma, _uniform(-135, -45, (len(pixels),), generator))
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    bright = torch.maximum(pixels, grey * 1.5 + 0.5)
    return clear * pixels + (1 - clear) * bright + flakes + flakes.rot90(2, (2, 3))


def _frost(pixels: Tensor, mix: tuple[float, float], generator: Generator) -> Tensor:
    """Mix with ridges of a fractal, bluish white, in place of the published photographs of frost."""
    ridges = 1 - (2 * _plasma(len(pixels), 2.0, generator) - 1).abs()
    tint = torch.tensor([0.85, 0.95, 1.0])[:, None, None]
    return mix[0] * pixels + mix[1] * ridges[:, None] * tint


def _fog(pixels: Tensor, weather: tuple[float, float], generator: Generator) -> Tensor:
    thickness, decay = weather
    brightest = pixels.amax((1, 2, 3), keepdim=True)
    clouded = pixels + thickness * _plasma(len(pixels), decay, generator)[:, None]
    return clouded * brightest / (brightest + thickness)


def _brightness(pixels: Tensor, added: float, generator: Generator) -> Tensor:
    """Raise the value of HSV: the largest channel rises by `added`, the others keep their ratio to it."""
    value = pixels.amax(1, keepdim=True)
    raised = (value + added).clamp(max=1)
    return torch.where(value > 0, pixels / value.clamp_min(1e-6) * raised, raised)


# Digital


def _contrast(pixels: Tensor, kept: float, generator: Generator) -> Tensor:
    means = pixels.mean((2, 3), keepdim=True)
    return (pixels - means) * kept + means


def _elastic_transform(pixels: Tensor, stretch: tuple[float, float, float], generator: Generator) -> Tensor:
    """Move three points by up to `affine` pixels and the image with them, then each pixel by a smooth field."""
    field, sigma, affine = (SIDE * share for share in stretch)
    points = torch.tensor([[26.0, 26.0, 1.0], [26.0, 6.0, 1.0], [6.0, 6.0, 1.0]])  # x, y, 1
    moved = points.repeat(len(pixels), 1, 1)
    moved[:, :, :2] += _uniform(-affine, affine, (len(pixels), 3, 2), generator)
    back = torch.linalg.solve(moved, points[:, :2].expand(len(pixels), 3, 2))  # from where a pixel is to whence it came
    rows, columns = (axis.float() for axis in torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"))
    came = torch.stack([columns, rows, torch.ones_like(rows)], -1).view(1, -1, 3) @ back
    x, y = came.view(-1, SIDE, SIDE, 2).unbind(-1)
    warped = _sampled(pixels, y, x, corners=True)
    noise = _uniform(-1, 1, (len(pixels), 2, SIDE, SIDE), generator)
    across, down = (field * _gaussian_blur(noise, sigma, truncate=3.0, mirrored=True)).unbind(1)
    return _sampled(warped, rows + down, columns + across, corners=False)


def _pixelate(pixels: Tensor, share: float, generator: Generator) -> Tensor:
    small = int(SIDE * share)
    box = Image.Resampling.BOX
    return _each(pixels, lambda image: image.resize((small, small), box).resize((SIDE, SIDE), box))


def _jpeg_compression(pixels: Tensor, quality: int, generator: Generator) -> Tensor:
    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(pixels, compressed)


CORRUPTIONS: dict[str, tuple[Corruption, list[Any]]] = {
    "gaussian_noise": (_gaussian_noise, [0.04, 0.06, 0.08, 0.09, 0.10]),
    "shot_noise": (_shot_noise, [500, 250, 100, 75, 50]),
    "impulse_noise": (_impulse_noise, [0.01, 0.02, 0.03, 0.05, 0.07]),
    "defocus_blur": (_defocus_blur, [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)]),
    "glass_blur": (_glass_blur, [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)]),
    "motion_blur": (_motion_blur, [(6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)]),
    "zoom_blur": (_zoom_blur, [1.06, 1.11, 1.16, 1.21, 1.26]),
    "snow": (
        _snow,
        [
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ],
    ),
    "frost": (_frost, [(1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]),
    "fog": (_fog, [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)]),
    "brightness": (_brightness, [0.05, 0.1, 0.15, 0.2, 0.3]),
    "contrast": (_contrast, [0.75, 0.5, 0.4, 0.3, 0.15]),
    "elastic_transform": (
        _elastic_transform,
        [(0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    ),
    "pixelate": (_pixelate, [0.95, 0.9, 0.85, 0.75, 0.65]),
    "jpeg_compression": (_jpeg_compression, [80, 65, 58, 50, 40]),
}


# What they share


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _gaussian_blur(pixels: Tensor, sigma: float, truncate: float = 4.0, mirrored: bool = False) -> Tensor:
    """Blur [n, c, h, w]; beyond the border the edge goes on, or its mirror image does."""
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return pixels
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    places = torch.arange(-reach, SIDE + reach)
    places = _mirrored(places) if mirrored else places.clamp(0, SIDE - 1)
    channels = pixels.shape[1]
    across = taps.expand(channels, 1, 1, -1)
    blurred = F.conv2d(pixels[:, :, :, places], across, groups=channels)
    return F.conv2d(blurred[:, :, places], across.transpose(2, 3), groups=channels)


def _mirrored(places: Tensor) -> Tensor:
    """Return places inside, in the order 2 1 0 | 0 1 2: the edge pixel itself is repeated."""
    return torch.minimum(places % (2 * SIDE), 2 * SIDE - 1 - places % (2 * SIDE))


def _moved(pixels: Tensor, radius: int, sigma: float, angles: Tensor) -> Tensor:
    """Blur along a line on one side of each pixel, as ImageMagick's motion blur does; angles [n] in degrees."""
    steps = torch.arange(2 * radius + 1)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    radians = torch.deg2rad(angles)[:, None]
    down, across = ((steps * direction - 0.5).ceil().long() for direction in (radians.sin(), radians.cos()))
    places = torch.arange(SIDE)
    blurred = torch.zeros_like(pixels)
    for step, weight in enumerate(weights):
        rows = (places[None, :, None] + down[:, step, None, None]).clamp(0, SIDE - 1)
        columns = (places[None, None, :] + across[:, step, None, None]).clamp(0, SIDE - 1)
        blurred += weight * _taken(pixels, rows, columns)
    return blurred


def _zoomed(pixels: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of [n, c, h, w] by a factor of 1 or more, bilinearly, corner pixels onto corner pixels."""
    side = int(np.ceil(SIDE / factor))
    first = (SIDE - side) // 2
    middle = pixels[:, :, first : first + side, first : first + side]
    enlarged = F.interpolate(middle, (round(side * factor),) * 2, mode="bilinear", align_corners=True)
    trim = (enlarged.shape[2] - SIDE) // 2
    return enlarged[:, :, trim : trim + SIDE, trim : trim + SIDE]


def _taken(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels [n, c, h, w] at rows and columns, which are one [n, h, w] for all channels."""
    images = torch.arange(len(pixels))[:, None, None]
    # Advanced indices split by the channel slice come out in front.
    return pixels[images, :, rows, columns].permute(0, 3, 1, 2)


def _sampled(pixels: Tensor, rows: Tensor, columns: Tensor, corners: bool) -> Tensor:
    """Sample bilinearly at float [n, h, w]; beyond the border is the mirror image, about edge pixels or their rims."""
    scale = (SIDE - 1) / 2 if corners else SIDE / 2
    grid = torch.stack([(columns - (SIDE - 1) / 2) / scale, (rows - (SIDE - 1) / 2) / scale], -1)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=corners)


def _plasma(count: int, decay: float, generator: Generator) -> Tensor:
    """Return [count, 32, 32] in 0..1: a fractal by the diamond-square algorithm on a torus (Fournier et al. 1982)."""
    heights = torch.zeros(count, SIDE, SIDE)
    step, wibble = SIDE, 100.0

    def middle(total: Tensor) -> Tensor:
        return total / 4 + _uniform(-(wibble**2), wibble**2, tuple(total.shape), generator)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = middle(pairs + pairs.roll(-1, 2))
        centres = heights[:, half::step, half::step]
        across = corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = middle(centres + centres.roll(1, 1) + across)
        heights[:, half::step, ::step] = middle(centres + centres.roll(1, 2) + pairs)
        step, wibble = half, wibble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def _each(pixels: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Apply what Pillow does to one image at a time."""
    arrays = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = np.stack([np.asarray(change(Image.fromarray(array))) for array in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255
