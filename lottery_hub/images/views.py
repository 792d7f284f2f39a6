"""How stored uint8 images become the [0,1] batches a network sees: resampling and augmentation, batched.

Images stay uint8 on the device; every operation works on a whole batch at once, with no Python per image.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_hub.images.datasets import Split
from lottery_hub.settings.config import Augment
from lottery_hub.settings.speed import memory_format

CROP_PADDING = 0.125  # of the side: 4 pixels at 32, the CIFAR habit
EVALUATION_CROP = 224 / 256  # Resize 256 / CenterCrop 224, the ImageNet habit, where images are resampled at all


def train_batches(
    split: Split, batch_size: int, augment: Augment, image_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled, augmented (images, labels): float [n, 3, image_size, image_size] in [0,1], int64 [n].

    `generator` lives on the CPU and decides order and views, so that a run on another device sees the same
    ones. A last batch of a single image is dropped: BatchNorm cannot normalise it.
    """
    order = torch.randperm(len(split), generator=generator)
    for chosen in torch.split(order, batch_size):
        if len(chosen) == 1 and len(split) > 1:
            continue
        images = split.images[chosen].to(device, non_blocking=True)
        labels = split.labels[chosen].to(device, non_blocking=True)
        yield _laid_out(augmented(images, augment, image_size, generator)), labels


def plain_batches(
    split: Split, batch_size: int, image_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) in stored order, unaugmented; shapes and units as in `train_batches`."""
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size].to(device, non_blocking=True)
        labels = split.labels[start : start + batch_size].to(device, non_blocking=True)
        yield _laid_out(centred(images, image_size)), labels


def centred(images: Tensor, image_size: int) -> Tensor:
    """Return uint8 [n, 3, h, w] as float [0,1] of the wanted side; resampled ones lose a 1/16 border."""
    pixels = images.float().div_(255)
    if images.shape[-1] == image_size and images.shape[-2] == image_size:
        return pixels
    resized = round(image_size / EVALUATION_CROP)
    pixels = F.interpolate(pixels, (resized, resized), mode="bilinear", antialias=True, align_corners=False)
    edge = (resized - image_size) // 2
    return pixels[..., edge : edge + image_size, edge : edge + image_size].clamp(0, 1)


def augmented(images: Tensor, augment: Augment, image_size: int, generator: torch.Generator) -> Tensor:
    """Return random views of uint8 [n, 3, h, w] as float [0,1] [n, 3, image_size, image_size]."""
    if augment == "random-resized-crop":
        return _flipped(_random_resized_crop(images, image_size, generator), generator)
    pixels = centred(images, image_size)
    if augment in ("crop", "crop-flip"):
        pixels = _shifted(pixels, generator)
    return _flipped(pixels, generator) if augment == "crop-flip" else pixels


def _shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pad with black and crop back at a random offset per image."""
    count, _, side, _ = pixels.shape
    padding = max(1, round(side * CROP_PADDING))
    padded = F.pad(pixels, (padding,) * 4)
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = (offsets + torch.arange(side)).to(pixels.device)
    batch = torch.arange(count, device=pixels.device)[:, None, None]
    # Advanced indices split by the channel slice come out in front: [n, side, side, 3], which is channels-last.
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _flipped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    flip = torch.rand(len(pixels), generator=generator, dtype=torch.float32) < 0.5
    return torch.where(flip.to(pixels.device)[:, None, None, None], pixels.flip(-1), pixels)


def _random_resized_crop(images: Tensor, image_size: int, generator: torch.Generator) -> Tensor:
    """Sample one box per image: area 8 % to 100 %, aspect 3/4 to 4/3 (Szegedy et al. 2015), resampled bilinearly."""
    count = len(images)
    area = torch.empty(count, dtype=torch.float32).uniform_(0.08, 1, generator=generator)
    aspect = torch.empty(count, dtype=torch.float32).uniform_(-0.2877, 0.2877, generator=generator).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    shift = torch.rand(2, count, generator=generator, dtype=torch.float32) * 2 - 1
    boxes = torch.zeros(count, 2, 3, dtype=torch.float32)
    boxes[:, 0, 0], boxes[:, 0, 2] = width, shift[0] * (1 - width)
    boxes[:, 1, 1], boxes[:, 1, 2] = height, shift[1] * (1 - height)
    grid = F.affine_grid(boxes.to(images.device), [count, 3, image_size, image_size], align_corners=False)
    pixels = images.float().div_(255)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp(0, 1)


def _laid_out(pixels: Tensor) -> Tensor:
    return pixels.contiguous(memory_format=memory_format())
