"""How stored uint8 images become the [0,1] batches a network sees: resampling and augmentation, batched.

Images stay uint8 on the device; every operation works on a whole batch at once, with no Python per image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_hub.images.datasets import Split
from lottery_hub.settings.config import Augment
from lottery_hub.settings.speed import memory_format

CROP_PADDING = 0.125  # of the side: 4 pixels at 32, the CIFAR habit
AHEAD = 2  # batches that are read while a GPU computes
EVALUATION_CROP = 224 / 256  # Resize 256 / CenterCrop 224, the ImageNet habit, where images are resampled at all


def _all(tensor: Tensor) -> Tensor:
    return tensor


def train_batches(
    split: Split,
    batch_size: int,
    augment: Augment,
    image_size: int,
    generator: torch.Generator,
    device: torch.device,
    part: Callable[[Tensor], Tensor] = _all,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled, augmented (images, labels): float [n, 3, image_size, image_size] in [0,1], int64 [n].

    `generator` lives on the CPU and decides order and views, so that a run on another device sees the same
    ones. A last batch of a single image is dropped: BatchNorm cannot normalise it. Of every batch only the `part` is
    made that is asked for, a range of a tensor's first dimension.
    """
    order = torch.randperm(len(split), generator=generator)
    batches = [rows for rows in torch.split(order, batch_size) if len(rows) > 1 or len(split) == 1]
    views = [tuple(map(part, draw_views(augment, len(rows), image_size, generator))) for rows in batches]
    batches = [part(rows) for rows in batches]
    # Sent at once: a copy in every step would have the GPU wait for it.
    sent = [_sent(parts, device) for parts in zip(*views, strict=True)]
    for batch, (images, labels) in enumerate(_picked(split, _sent(batches, split.images.device), device)):
        yield _laid_out(seen(images, augment, image_size, tuple(parts[batch] for parts in sent))), labels


def plain_batches(
    split: Split, batch_size: int, image_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) in stored order, unaugmented; shapes and units as in `train_batches`."""
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size].to(device, non_blocking=True)
        labels = split.labels[start : start + batch_size].to(device, non_blocking=True)
        yield _laid_out(centred(images, image_size)), labels


def chosen_batches(
    split: Split, batches: Sequence[Tensor], image_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) of these rows, int64 [n] each on the CPU; unaugmented, as in `plain_batches`."""
    for images, labels in _picked(split, _sent(batches, split.images.device), device):
        yield _laid_out(centred(images, image_size)), labels


def _picked(split: Split, batches: Sequence[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows of what is stored, on the device; on their way to a GPU the next are read while it computes."""

    def pick(rows: Tensor) -> tuple[Tensor, Tensor]:
        return _read(split.images, rows, device), _read(split.labels, rows, device)

    # By type: "cuda" is the device that is called cuda:0 too. What lies on a GPU is for this thread's stream alone.
    if device.type == split.images.device.type:
        yield from map(pick, batches)
        return
    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        for rows in batches:
            ahead.append(reader.submit(pick, rows))
            if len(ahead) > AHEAD:
                yield _moved(*ahead.popleft().result(), device)
        for waiting in ahead:
            yield _moved(*waiting.result(), device)


def _read(stored: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return rows of what is stored where it is; pinned, where their way is from here to a GPU."""
    # Indices in brackets would do the same at less than half the speed.
    if device.type != "cuda" or stored.device.type != "cpu":
        return stored.index_select(0, rows)
    # Torch keeps pinned memory for the next batch. Fresh memory is mapped page by page, longer than the copy takes.
    place = torch.empty((len(rows), *stored.shape[1:]), dtype=stored.dtype, pin_memory=True)
    return torch.index_select(stored, 0, rows, out=place)


def _moved(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _sent(parts: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Return these tensors, which differ in their first dimension alone, on the device, in one copy."""
    if device.type == "cpu":
        return parts
    sizes = [len(part) for part in parts]
    return torch.split(_pinned(torch.cat(list(parts)), device).to(device, non_blocking=True), sizes)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def centred(images: Tensor, image_size: int) -> Tensor:
    """Return uint8 [n, 3, h, w] as float [0,1] of the wanted side; resampled ones lose a 1/16 border."""
    pixels = images.float().div_(255)
    if images.shape[-1] == image_size and images.shape[-2] == image_size:
        return pixels
    resized = round(image_size / EVALUATION_CROP)
    pixels = F.interpolate(pixels, (resized, resized), mode="bilinear", antialias=True, align_corners=False)
    edge = (resized - image_size) // 2
    return pixels[..., edge : edge + image_size, edge : edge + image_size].clamp(0, 1)


Views = tuple[Tensor, ...]  # what was drawn for every image of a batch, by its first dimension


def augmented(images: Tensor, augment: Augment, image_size: int, generator: torch.Generator) -> Tensor:
    """Return random views of uint8 [n, 3, h, w] as float [0,1] [n, 3, image_size, image_size]."""
    return seen(images, augment, image_size, draw_views(augment, len(images), image_size, generator))


def draw_views(augment: Augment, count: int, image_size: int, generator: torch.Generator) -> Views:
    """Draw what decides the views of `count` images: the boxes or offsets of crops, and whether they are mirrored."""
    if augment == "none":
        return ()
    if augment == "random-resized-crop":
        return _boxes(count, generator), _flips(count, generator)
    rows, columns = torch.randint(0, 2 * _padding(image_size) + 1, (2, count, 1), generator=generator)
    return (rows, columns, _flips(count, generator)) if augment == "crop-flip" else (rows, columns)


def seen(images: Tensor, augment: Augment, image_size: int, views: Views) -> Tensor:
    """Return the views that were drawn of images, as `augmented` does; they and the images are on one device."""
    on_images = [view.to(images.device) for view in views]
    if augment == "random-resized-crop":
        boxes, flips = on_images
        return _flipped(_cropped(images, image_size, boxes), flips)
    pixels = centred(images, image_size)
    if augment == "none":
        return pixels
    rows, columns, *flips_there = on_images
    pixels = _shifted(pixels, rows, columns)
    return _flipped(pixels, *flips_there) if flips_there else pixels


def _padding(side: int) -> int:
    return max(1, round(side * CROP_PADDING))


def _shifted(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pad with black and crop back at an offset per image: int64 [n, 1] each, of rows and columns."""
    count, _, side, _ = pixels.shape
    padded = F.pad(pixels, (_padding(side),) * 4)
    along = torch.arange(side, device=pixels.device)
    batch = torch.arange(count, device=pixels.device)[:, None, None]
    # Advanced indices split by the channel slice come out in front: [n, side, side, 3], which is channels-last.
    return padded[batch, :, (rows + along)[:, :, None], (columns + along)[:, None, :]].permute(0, 3, 1, 2)


def _flips(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float32) < 0.5


def _flipped(pixels: Tensor, flips: Tensor) -> Tensor:
    return torch.where(flips[:, None, None, None], pixels.flip(-1), pixels)


def _boxes(count: int, generator: torch.Generator) -> Tensor:
    """Draw one box per image, as affine maps [n, 2, 3]: area 8 % to 100 %, aspect 3/4 to 4/3 (Szegedy et al. 2015)."""
    area = torch.empty(count, dtype=torch.float32).uniform_(0.08, 1, generator=generator)
    aspect = torch.empty(count, dtype=torch.float32).uniform_(-0.2877, 0.2877, generator=generator).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    shift = torch.rand(2, count, generator=generator, dtype=torch.float32) * 2 - 1
    boxes = torch.zeros(count, 2, 3, dtype=torch.float32)
    boxes[:, 0, 0], boxes[:, 0, 2] = width, shift[0] * (1 - width)
    boxes[:, 1, 1], boxes[:, 1, 2] = height, shift[1] * (1 - height)
    return boxes


def _cropped(images: Tensor, image_size: int, boxes: Tensor) -> Tensor:
    """Return boxes of images, resampled bilinearly."""
    grid = F.affine_grid(boxes, [len(images), 3, image_size, image_size], align_corners=False)
    pixels = images.float().div_(255)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp(0, 1)


def _laid_out(pixels: Tensor) -> Tensor:
    return pixels.contiguous(memory_format=memory_format())
