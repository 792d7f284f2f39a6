"""From encoded images to pixels: pictures of many formats and sizes become uint8 arrays of one.

A `Source` is one split before decoding: its labels are known, its images are still encoded. Splits and
fractions are decided on labels alone, so only the images that are delivered are ever decoded.
"""

from __future__ import annotations

import functools
import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from lottery_hub.errors import DataError, first_line
from lottery_hub.fetching.pointers import POINTER_ADVICE, is_pointer, is_pointer_file

if TYPE_CHECKING:
    from PIL.Image import Image

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Content = Union[bytes, Path, Pixels, "Image"]
Encoded = tuple[str, Content]  # where an image is, for messages, and what holds it

# The formats that are read, and how their files' names end. Pillow would also start Ghostscript for an EPS file; a
# dataset has no business doing that.
_FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),  # what many phones write under the name of a JPEG
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "TGA": (".tga",),
    "QOI": (".qoi",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})


class Tally:
    """Counts of the conversions made on the way to RGB squares, so that none of them is silent."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.sides: tuple[int, int] | None = None  # least and most width or height of the pictures, in pixels

    def measure(self, width: int, height: int) -> None:
        """Take the size of a picture as it came."""
        least, most = self.sides or (width, width)
        self.sides = (min(least, width, height), max(most, width, height))

    def add(self, conversion: str) -> None:
        """Count one image under `conversion`, a phrase in which `{images}` stands for the number."""
        self._counts[conversion] += 1

    def record(self) -> dict[str, Any]:
        """Return everything that was counted, ready for JSON."""
        return {"counts": dict(self._counts), "sides": self.sides}

    def take(self, record: Mapping[str, Any]) -> None:
        """Count what another has counted."""
        self._counts.update(record["counts"])
        for side in record["sides"] or ():
            self.measure(side, side)

    def notes(self) -> tuple[str, ...]:
        """Return one phrase a kind of conversion, for example "1797 grey images repeated to RGB"."""
        return tuple(
            f"{n} {phrase.replace('{images}', 'image' if n == 1 else 'images')}"
            for phrase, n in sorted(self._counts.items())
        )


@dataclass(frozen=True)
class Source:
    """One split before decoding.

    Attributes:
        labels: int64 [n], all in range of the classes.
        classes: class names by label, or None where the files do not say.
        encoded: given ascending row numbers, yields for each a phrase that locates the image ("train.parquet
            row 3") and the image: file contents, a file's path, Pillow's own, or uint8: grey [h, w] or RGB [h, w, 3].
        unused: the files among them that are no images, by their paths.
        files: every file that an image is read from; of none where they are in memory.
    """

    labels: Ints
    classes: tuple[str, ...] | None
    encoded: Callable[[Ints], Iterator[Encoded]]
    unused: tuple[str, ...] = ()
    files: Sequence[Path] = ()


def decode(source: Source, rows: Ints, size: int, tally: Tally, *, resize: bool = True) -> Pixels:
    """Decode the images of `rows`.

    Args:
        source: where the encoded images are.
        rows: int64 [n], ascending.
        size: height and width wanted, in pixels.
        tally: where conversions are counted.
        resize: whether images of another size are made to fit, or refused.

    Returns:
        uint8 [n, 3, size, size], RGB.

    Raises:
        DataError: an image is missing or corrupt; none is skipped.
    """
    pixels = np.empty((len(rows), 3, size, size), dtype=np.uint8)
    decode_into(pixels, source, rows, tally, resize=resize)
    return pixels


def decode_into(pixels: Pixels, source: Source, rows: Ints, tally: Tally, *, resize: bool = True) -> None:
    """Decode the images of `rows` to where they shall be: uint8 [n, 3, size, size]; see `decode`."""
    for i, (where, encoded) in enumerate(source.encoded(rows)):
        pixels[i] = _decode_one(encoded, pixels.shape[-1], tally, where, resize)


def side_of(source: Source) -> int:
    """Return the side of the first image in pixels.

    Raises:
        DataError: it is no square, or cannot be read.
    """
    where, encoded = next(source.encoded(np.zeros(1, dtype=np.int64)))
    with _opened(encoded, where) as image:
        width, height = _upright(image, Tally()).size
    _check_side(where, (width, height), height)
    return height


def _check_side(where: str, found: tuple[int, int], side: int) -> None:
    """Raise DataError where an image is not of the one size that all have."""
    if found != (side, side):
        width, height = found
        others = "which is no square" if width != height else f"and others {side}x{side}"
        raise DataError(
            f"{where} has {width}x{height} pixels, {others}; give an image_size, e.g. image_size=32, "
            "to have all cropped to squares and resized"
        )


def decode_picture(picture: Content, size: int, where: str) -> Pixels:
    """Decode one picture as those of a dataset are.

    Args:
        picture: a file; uint8 [h, w] or [h, w, 3]; or a Pillow image, which stays open.
        size: height and width wanted, in pixels.
        where: a phrase that locates it, for messages.

    Returns:
        uint8 [3, size, size], RGB.

    Raises:
        DataError: it cannot be read.
    """
    return _decode_one(picture, size, Tally(), where)


def _decode_one(encoded: Content, size: int, tally: Tally, where: str, resize: bool = True) -> Pixels:
    if isinstance(encoded, np.ndarray) and encoded.shape == (size, size, 3):
        return encoded.transpose(2, 0, 1)
    with _opened(encoded, where) as image:
        upright = _upright(image, tally)
        if not resize:
            _check_side(where, upright.size, size)
        return np.asarray(_square(_rgb(upright, tally, where), size, tally).convert("RGB")).transpose(2, 0, 1)


@contextmanager
def _opened(encoded: Content, where: str) -> Iterator[Image]:
    """Open an image; whatever is said against it while it is read inside becomes one line.

    Raises:
        DataError: it is missing or corrupt.
    """
    from PIL import Image as Pillow

    try:
        if isinstance(encoded, np.ndarray):
            image: Image = Pillow.fromarray(encoded)
        elif isinstance(encoded, Pillow.Image):
            image = encoded.copy()  # the caller's own stays open
        else:
            image = Pillow.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=_readable())
        with image:  # closes the file, which ends lazy loading: the pixels are taken inside
            yield image
    except DataError:
        raise
    except Exception as e:  # a dozen foreign parsers, each with exceptions of its own over damaged bytes
        if (
            is_pointer_file(encoded)
            if isinstance(encoded, Path)
            else isinstance(encoded, bytes) and is_pointer(encoded)
        ):
            raise DataError(f"{where} {POINTER_ADVICE}") from e
        raise DataError(f"{where} is not a readable image ({first_line(e)}); repair or remove it") from e


@functools.cache
def _readable() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


# What each orientation of the EXIF standard takes to stand upright, by Pillow's names.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _upright(image: Image, tally: Tally) -> Image:
    """Turn a photo that lies on a side, as its metadata says; of damaged metadata nothing is believed."""
    from PIL import Image as Pillow

    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        return image
    orientation = _orientation(exif)
    if orientation is None:
        tally.add("{images} with damaged metadata: metadata ignored")
    turn = _TURNS.get(orientation or 1)
    return image.transpose(Pillow.Transpose[turn]) if turn else image


_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF's numbers of the types that cameras write it in


def _orientation(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, that EXIF bytes name; 1 where they name none, None where they are damaged.

    Pillow reads all of it, and refuses a picture over any tag that is odd. Nothing but this one matters here.
    """
    while exif.startswith(b"Exif\0\0"):  # some programs write the header twice
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION:
                if count != 1 or kind not in _INTEGERS:
                    return None
                (value,) = struct.unpack_from(order + _INTEGERS[kind], exif, entry + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        return None
    return 1


def _rgb(image: Image, tally: Tally, where: str) -> Image:
    """Return an image of 8 bits in RGB, or in grey, which is resized to the same in a third of the memory."""
    from PIL import Image as Pillow

    mode = image.mode
    if mode == "RGB":
        return image
    if mode in _SIXTEEN_BIT:
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{where} has {mode} pixels beyond 16 bits; convert it to 8-bit RGB")
        tally.add("16-bit grey {images} scaled to 8 bits and repeated to RGB")
        # Pillow's own conversion clips at 255 instead of scaling. By rows: all at once would take gigabytes.
        scaled = np.empty(levels.shape, dtype=np.uint8)
        for row, values in zip(scaled, levels, strict=True):
            row[:] = (values.astype(np.int64) + 128) // 257
        return Pillow.fromarray(scaled)
    if mode == "F":
        raise DataError(f"{where} has floating-point pixels, whose range is not known; convert it to 8-bit RGB")
    if mode in ("1", "L"):
        tally.add("grey {images} repeated to RGB")
        return image if mode == "L" else image.convert("L")
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        tally.add("{images} with transparency made opaque")
        image = image.convert("RGBA")
    elif mode == "P":
        tally.add("palette {images} converted to RGB")
    else:
        tally.add(f"{mode} {{images}} converted to RGB")
    return image.convert("RGB")


def _square(image: Image, size: int, tally: Tally) -> Image:
    from PIL import Image as Pillow

    width, height = image.size
    tally.measure(width, height)
    if (width, height) == (size, size):
        return image  # bit-exact
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    tally.add(
        f"{{images}} resized to {size}x{size}"
        if width == height
        else f"non-square {{images}} cropped at the centre and resized to {size}x{size}"
    )
    # The same as resizing the shorter side and cropping, without the huge intermediate of a 1 x 100000 image.
    return image.resize((size, size), Pillow.Resampling.BILINEAR, box=(left, top, left + side, top + side))
