"""Pictures as people hold them, Pillow images, arrays, tensors and files, as pixels of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lottery_hub.errors import DataError, first_line, printable
from lottery_hub.images.decoding import Pixels, decode_picture
from lottery_hub.settings.paths import exists, path_of

CHANNELS = (1, 3)


def one_by_one(pictures: Any) -> Iterator[Any]:
    """Yield the single pictures of what may be one, a batch of them (4 dimensions), or several in a row."""
    if isinstance(pictures, str | PathLike) or _is_image(pictures):
        yield pictures
    elif isinstance(pictures, np.ndarray | Tensor):
        yield from pictures if pictures.ndim == 4 else [pictures]
    elif isinstance(pictures, Iterable):
        for each in pictures:
            yield from one_by_one(each)
    else:
        raise DataError(f"no picture: a {type(pictures).__name__}; give a file, a Pillow image, an array or a tensor")


def as_pixels(picture: Any, size: int, where: str = "the picture") -> Tensor:
    """Return one picture as pixels from 0 to 255 of the wanted side, its central square.

    Args:
        picture: a file; a Pillow image; or an array or tensor, grey or RGB, with channels first or last, uint8 or float
            in [0,1].
        size: height and width wanted, in pixels. Floats of that size are kept as they are, others are rounded to uint8.
        where: a phrase that locates it, for messages.

    Returns:
        Float32 [3, size, size].

    Raises:
        DataError: it cannot be read, or is of another kind.
    """
    if isinstance(picture, str | PathLike):
        path = path_of(Path(picture))
        if not (exists(path) and path.is_file()):
            raise DataError(f"{printable(path)} is no file; give a picture, or a folder to `lottery-hub predict`")
        return _floats(decode_picture(path, size, printable(path)))
    if _is_image(picture):
        return _floats(decode_picture(picture, size, where))
    pixels = _channels_last(picture, where)
    if pixels.dtype == np.uint8:
        return _floats(decode_picture(_flat(pixels), size, where))
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{where} is of {pixels.dtype}; give uint8 from 0 to 255, or floats in [0,1]")
    # `not` first: a NaN lies nowhere.
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        least, most = pixels.min(), pixels.max()
        raise DataError(
            f"{where} has floats from {least:g} to {most:g}, not in [0,1]; give pixels that are not normalised, "
            "divided by 255, or uint8"
        )
    if pixels.shape[:2] == (size, size):
        shown = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)) * 255
        return shown.expand(3, size, size)
    rounded = np.rint(pixels * 255).astype(np.uint8)
    return _floats(decode_picture(_flat(rounded), size, where))


def _floats(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32))


def _flat(pixels: Pixels) -> Pixels:
    """Return grey levels in two dimensions, as Pillow takes them; RGB as it is."""
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _channels_last(picture: Any, where: str) -> np.ndarray[Any, Any]:
    """Return [h, w, 1 or 3]; where both ends could be channels, a tensor has them first and an array last."""
    first = isinstance(picture, Tensor)
    try:
        if isinstance(picture, Tensor):
            picture = picture.detach().cpu()
            picture = (picture.float() if picture.dtype == torch.bfloat16 else picture).numpy()
        pixels: np.ndarray[Any, Any] = np.asarray(picture)
    except (TypeError, ValueError, RuntimeError) as problem:  # the last of a tensor without data
        raise DataError(f"{where} cannot be read as an array ({first_line(problem)})") from problem
    if not pixels.size:
        raise DataError(f"{where} has shape {tuple(pixels.shape)}, and no pixels")
    if pixels.ndim == 2:
        return pixels[:, :, None]
    fits = [end for end in ((0, -1) if first else (-1, 0)) if pixels.ndim == 3 and pixels.shape[end] in CHANNELS]
    if not fits:
        raise DataError(f"{where} has shape {tuple(pixels.shape)}, which is no grey or RGB picture")
    return pixels if fits[0] == -1 else pixels.transpose(1, 2, 0)


def _is_image(picture: object) -> bool:
    from PIL.Image import Image

    return isinstance(picture, Image)
