"""From files to pixels: parquet files and image folders become uint8 arrays of one size.

A `Source` is one split before decoding: its labels are known, its images are still encoded. Splits and
fractions are decided on labels alone, so only the images that are delivered are ever decoded.

Parquet is read by pyarrow itself rather than through the `datasets` library: that library copies what it
reads into a cache of its own, and this needs none, works on read-only folders, and runs nothing found in them.
Only the schema, with its class names, is read by `datasets`, which wrote it.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lottery_hub.errors import DataError, printable

if TYPE_CHECKING:
    from PIL.Image import Image

    Ints = npt.NDArray[np.int64]
    Pixels = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"})
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
}
# Pillow would also start Ghostscript for an EPS file; a dataset has no business doing that.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_BATCH_ROWS = 512


class Tally:
    """Counts of the conversions made on the way to RGB squares, so that none of them is silent."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, conversion: str) -> None:
        """Count one image under `conversion`, a phrase in which `{images}` stands for the number."""
        self._counts[conversion] += 1

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
            row 3") and the image: file contents, a file's path, or 2-d uint8 grey levels.
    """

    labels: Ints
    classes: tuple[str, ...] | None
    encoded: Callable[[Ints], Iterator[tuple[str, bytes | Path | Pixels]]]


def decode(source: Source, rows: Ints, size: int, tally: Tally) -> Pixels:
    """Decode the images of `rows`.

    Args:
        source: where the encoded images are.
        rows: int64 [n], ascending.
        size: height and width wanted, in pixels.
        tally: where conversions are counted.

    Returns:
        uint8 [n, 3, size, size], RGB.

    Raises:
        DataError: an image is missing or corrupt; none is skipped.
    """
    pixels = np.empty((len(rows), 3, size, size), dtype=np.uint8)
    for i, (where, encoded) in enumerate(source.encoded(rows)):
        pixels[i] = _decode_one(encoded, size, tally, where)
    return pixels


def _decode_one(encoded: bytes | Path | Pixels, size: int, tally: Tally, where: str) -> Pixels:
    from PIL import Image, ImageOps

    try:
        if isinstance(encoded, np.ndarray):
            image: Image.Image = Image.fromarray(encoded)
        else:
            image = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=_FORMATS)
        with image:  # closes the file, which ends lazy loading: the pixels are taken inside
            upright = ImageOps.exif_transpose(image) if "exif" in image.info else image  # photos may lie on a side
            return np.asarray(_square(_rgb(upright, tally, where), size, tally)).transpose(2, 0, 1)
    except (
        OSError,  # includes Pillow's UnidentifiedImageError and truncated files
        SyntaxError,  # Pillow's word for a broken chunk
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as e:
        raise DataError(f"{where} is not a readable image ({printable(e)}); repair or remove it") from e


def _rgb(image: Image, tally: Tally, where: str) -> Image:
    from PIL import Image as Pillow

    mode = image.mode
    if mode == "RGB":
        return image
    if mode in _SIXTEEN_BIT:
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{where} has {mode} pixels beyond 16 bits; convert it to 8-bit RGB")
        tally.add("16-bit grey {images} scaled to 8 bits and repeated to RGB")
        # Pillow's own conversion clips at 255 instead of scaling.
        return Pillow.fromarray(np.rint(levels / 257).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise DataError(f"{where} has floating-point pixels, whose range is not known; convert it to 8-bit RGB")
    if mode in ("1", "L"):
        tally.add("grey {images} repeated to RGB")
    elif mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
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
    if (width, height) == (size, size):
        return image  # bit-exact
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    tally.add(
        f"{{images}} resized to {size}x{size}" if width == height else "non-square {images} cropped at the centre"
    )
    # The same as resizing the shorter side and cropping, without the huge intermediate of a 1 x 100000 image.
    return image.resize((size, size), Pillow.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def open_folder(classes: Sequence[str], root: Path) -> Source:
    """Open `root/<class>/*`, one folder a class.

    Args:
        classes: folder names in label order.
        root: the folder that holds them.

    Raises:
        DataError: a class has no image.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(f for f in (root / name).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        files += [f for f in found if not f.name.startswith(".")]
        labels += [label] * (len(files) - len(labels))
        if not labels or labels[-1] != label:
            raise DataError(f"empty class: {printable(root.name)}/{printable(name)} has no image file")

    def encoded(rows: Ints) -> Iterator[tuple[str, bytes | Path | Pixels]]:
        for row in rows:
            file = files[row]
            yield printable(file.relative_to(root.parent)), file

    return Source(np.array(labels, dtype=np.int64), tuple(classes), encoded)


def find_parquet(folder: Path, shown: str) -> dict[str, dict[str, list[Path]]]:
    """Find parquet files in the layout of the Hub: `[config/]train-*.parquet`, or `[config/]train/*.parquet`.

    Args:
        folder: where to look, at any depth.
        shown: what to call it in messages.

    Returns:
        The sorted files by config ("." for the folder itself) and split ("train", "valid", "test"), for every
        config that has a train split.

    Raises:
        DataError: there is none, or files of a numbered series are missing.
    """
    configs: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        inside = file.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        for word, config in (
            (re.split(r"[-_.]", file.stem)[0], inside.parent),
            (inside.parent.name, inside.parent.parent),
        ):
            if split := SPLIT_WORDS.get(word.lower()):
                configs.setdefault(config.as_posix(), {}).setdefault(split, []).append(file)
                break
    configs = {config: splits for config, splits in configs.items() if "train" in splits}
    if not configs:
        raise DataError(f"{printable(shown)} has no training files; expected train-*.parquet, alone or in a folder")
    for files in (files for splits in configs.values() for files in splits.values()):
        # A download that was cut short leaves part of a series, which would pass for a smaller dataset.
        numbered = re.search(r"-of-(\d+)", files[0].stem)
        if numbered and len(files) < int(numbered[1]):
            raise DataError(
                f"{printable(shown)} has {len(files)} of the {int(numbered[1])} files of the series that "
                f"{printable(files[0].name)} belongs to; fetch the others"
            )
    return configs


def open_parquet(files: Sequence[Path], image: str | None = None, label: str | None = None) -> Source:
    """Open the parquet files of one split, in the layout of the Hub.

    Args:
        files: the split's files, in order.
        image: column of encoded images; None finds it.
        label: column of integer labels; None finds it.

    Raises:
        DataError: a file is not parquet, a column is missing, or a label is not a class number.
    """
    image, label, classes = _columns(files[0], image, label)
    parts = [_labels(file, label, len(classes) if classes else None) for file in files]
    starts = np.cumsum([0, *map(len, parts)])

    def encoded(rows: Ints) -> Iterator[tuple[str, bytes | Path | Pixels]]:
        for file, start, end in zip(files, starts[:-1], starts[1:], strict=True):
            first, last = np.searchsorted(rows, (start, end))
            yield from _encoded_rows(file, image, rows[first:last] - start)

    return Source(np.concatenate(parts), classes, encoded)


def _parquet(file: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise DataError(f"reading {printable(file.name)} needs pyarrow; pip install datasets") from e
    try:
        return pq.ParquetFile(file)
    except (OSError, ValueError) as e:  # pyarrow's own errors are children of these
        raise DataError(f"{printable(file.name)} is not a readable parquet file ({_one_line(e)})") from e


def _columns(file: Path, image: str | None, label: str | None) -> tuple[str, str, tuple[str, ...] | None]:
    """Return the image column, the label column and the class names that the schema records."""
    with _parquet(file) as opened:
        schema = opened.schema_arrow
    features = _features(schema)
    columns = ", ".join(printable(name) for name in schema.names)
    if image is None:
        pictures = [n for n in schema.names if type(features.get(n)).__name__ == "Image"]
        pictures.sort(key=lambda n: n not in ("img", "image"))  # stable: a usual name first
        pictures += [n for n in ("img", "image") if n in schema.names]
        if not pictures:
            raise DataError(f"{printable(file.name)} has no image column; its columns are {columns}")
        image = pictures[0]
    if label is None:
        label = next((n for n in ("label", "labels", "fine_label") if n in schema.names), None)
        if label is None:
            raise DataError(
                f"{printable(file.name)} has no column label, labels or fine_label; its columns are {columns}"
            )
    for wanted in (image, label):
        if schema.names.count(wanted) != 1:
            raise DataError(f"{printable(file.name)} has no column {wanted!r}; its columns are {columns}")
    names = getattr(features.get(label), "names", None)
    well_formed = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return image, label, tuple(names) if names and well_formed else None


def _features(schema: Any) -> dict[str, Any]:
    """Return what `datasets` recorded in a file's schema: column name → feature, or nothing.

    The record is a convenience, not part of the data: without it, or without the library, columns are found
    by their usual names and classes go by number.
    """
    try:
        from datasets import Features

        return dict(Features.from_arrow_schema(schema))
    except (ImportError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _labels(file: Path, column: str, classes: int | None) -> Ints:
    """Return the int64 [n] labels of one file, checked row by row."""
    import pyarrow as pa

    with _parquet(file) as opened:
        _require_column(file, opened, column)
        try:
            values = opened.read(columns=[column]).column(column)
        except (OSError, ValueError) as e:
            raise DataError(f"{printable(file.name)} is damaged ({_one_line(e)}); fetch it again") from e
    if not pa.types.is_integer(values.type):
        raise DataError(
            f"{printable(file.name)} row 0: label {printable(values[0]) if len(values) else ''!s} in column "
            f"{printable(column)} is {values.type}, not an integer; number the classes from 0"
        )
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise DataError(f"{printable(file.name)} row {row} has no label")
    labels = values.to_numpy()
    wrong = (labels < 0) | (labels >= (2**31 if classes is None else classes))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise DataError(f"{printable(file.name)} row {row}: label {labels[row]} is out of range ({allowed})")
    return np.asarray(labels, dtype=np.int64)


def _encoded_rows(file: Path, column: str, rows: Ints) -> Iterator[tuple[str, bytes]]:
    if not len(rows):
        return
    wanted = iter(rows.tolist())
    row = next(wanted)
    start = 0
    with _parquet(file) as opened:
        _require_column(file, opened, column)
        batches = opened.iter_batches(batch_size=_BATCH_ROWS, columns=[column])
        while True:
            try:
                values = next(batches).column(0)
            except (OSError, ValueError) as e:
                raise DataError(f"{printable(file.name)} is damaged ({_one_line(e)}); fetch it again") from e
            while row < start + len(values):
                where = f"{printable(file.name)} row {row}"
                yield where, _content(values[row - start].as_py(), where)
                following = next(wanted, None)
                if following is None:
                    return
                row = following
            start += len(values)


def _content(value: object, where: str) -> bytes:
    """Return the encoded image of one cell: bytes, or the Hub's {"bytes": ..., "path": ...}."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError(f"{where} has no image bytes; embed the images in the parquet file")
    return content


def _require_column(file: Path, opened: Any, column: str) -> None:
    names = opened.schema_arrow.names
    if column not in names:
        columns = ", ".join(printable(name) for name in names)
        raise DataError(f"{printable(file.name)} has no column {column!r}; its columns are {columns}")


def _one_line(error: BaseException) -> str:
    return printable(str(error).strip().split("\n")[0])
