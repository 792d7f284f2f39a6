"""Datasets as parquet files in the layout of the Hub: which file is of which split, columns, labels and images.

Parquet is read by pyarrow itself rather than through the `datasets` library: that library copies what it
reads into a cache of its own, and this needs none, works on read-only folders, and runs nothing found in them.
Only the schema, with its class names, is read by `datasets`, which wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lottery_hub.errors import DataError, first_line, printable
from lottery_hub.fetching.pointers import POINTER_ADVICE, is_pointer_file
from lottery_hub.images.decoding import Encoded, Ints, Source
from lottery_hub.images.splits import by_split, first_word, is_split

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
_BATCH_ROWS = 512


class Parquet(NamedTuple):
    """The parquet files of a folder: config → split → sorted files, and the paths of all files that are neither."""

    configs: dict[str, dict[str, list[Path]]]
    unused: tuple[str, ...]


def find_parquet(folder: Path, shown: str) -> Parquet:
    """Find parquet files in the layout of the Hub: `[config/]train-*.parquet`, or `[config/]train/*.parquet`.

    Args:
        folder: where to look, at any depth.
        shown: what to call it in messages.

    Returns:
        The sorted files by config ("." for the folder itself) and split ("train", "valid", "test"), for every
        config that has a train split, and what belongs to none.

    Raises:
        DataError: there is none, or files of a numbered series are missing.
    """
    visible = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    named: dict[str, list[tuple[str, Path]]] = {}
    for file in (file for file in visible if file.suffix == ".parquet"):
        inside = file.relative_to(folder)
        first = first_word(file.stem)
        if is_split(first):
            named.setdefault(inside.parent.as_posix(), []).append((first, file))
        else:
            named.setdefault(inside.parent.parent.as_posix(), []).append((inside.parent.name, file))
    configs = {
        config: {split: [file for _, file in pairs] for split, pairs in by_split(several, lambda pair: pair[0]).items()}
        for config, several in named.items()
    }
    configs = {config: splits for config, splits in configs.items() if "train" in splits}
    if not configs:
        raise DataError(f"{printable(shown)} has no training files; expected train-*.parquet, alone or in a folder")
    series = [files for splits in configs.values() for files in splits.values()]
    for files in series:
        # A download that was cut short leaves part of a series, which would pass for a smaller dataset.
        numbered = re.search(r"-of-(\d+)", files[0].stem)
        if numbered and len(files) < int(numbered[1]):
            raise DataError(
                f"{printable(shown)} has {len(files)} of the {int(numbered[1])} files of the series that "
                f"{printable(files[0].name)} belongs to; fetch the others"
            )
    used = {file for files in series for file in files}
    return Parquet(configs, tuple(file.relative_to(folder).as_posix() for file in visible if file not in used))


def has_labels(files: Sequence[Path], label: str | None = None) -> bool:
    """Whether a split can be tested on: it has a column of labels, and not each of them is missing or negative."""
    import pyarrow as pa

    for file in files:
        with _parquet(file) as opened:
            names = [label] if label else [name for name in LABEL_COLUMNS if name in opened.schema_arrow.names][:1]
            if not names or names[0] not in opened.schema_arrow.names:
                return False
            values = _read_column(file, opened, names[0])
        known = values.drop_null()
        # What is strange, or empty, is for the reader of labels to refuse.
        if not len(values) or not pa.types.is_integer(known.type) or bool((known.to_numpy() >= 0).any()):
            return True
    return False


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

    def encoded(rows: Ints) -> Iterator[Encoded]:
        for file, start, end in zip(files, starts[:-1], starts[1:], strict=True):
            first, last = np.searchsorted(rows, (start, end))
            yield from _encoded_rows(file, image, rows[first:last] - start)

    return Source(np.concatenate(parts), classes, encoded, files=files)


def _parquet(file: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise DataError(f"reading {printable(file.name)} needs pyarrow; pip install datasets") from e
    try:
        return pq.ParquetFile(file)
    except (OSError, ValueError) as e:  # pyarrow's own errors are children of these
        if is_pointer_file(file):
            raise DataError(f"{printable(file.name)} {POINTER_ADVICE}") from e
        raise DataError(f"{printable(file.name)} is not a readable parquet file ({first_line(e)})") from e


def _columns(file: Path, image: str | None, label: str | None) -> tuple[str, str, tuple[str, ...] | None]:
    """Return the image column, the label column and the class names that the schema records."""
    with _parquet(file) as opened:
        schema = opened.schema_arrow
    features = _features(schema)
    image, label = choose_columns(schema.names, features, printable(file.name), image, label)
    return image, label, class_names(features.get(label))


def choose_columns(
    names: Sequence[str], features: Mapping[str, Any], where: str, image: str | None = None, label: str | None = None
) -> tuple[str, str]:
    """Return the columns of images and of labels.

    Args:
        names: of all columns.
        features: what `datasets` knows of them; may be empty.
        where: what to call the table in messages.
        image, label: the columns, where they are known.

    Raises:
        DataError: there is no such column.
    """
    columns = ", ".join(printable(name) for name in names)
    if image is None:
        pictures = [n for n in names if type(features.get(n)).__name__ == "Image"]
        pictures.sort(key=lambda n: n not in IMAGE_COLUMNS)  # stable: a usual name first
        pictures += [n for n in IMAGE_COLUMNS if n in names]
        if not pictures:
            raise DataError(f"{where} has no image column; its columns are {columns}")
        image = pictures[0]
    if label is None:
        label = next((name for name in LABEL_COLUMNS if name in names), None)
        if label is None:
            raise DataError(f"{where} has no column label, labels or fine_label; its columns are {columns}")
    for wanted in (image, label):
        if list(names).count(wanted) != 1:
            raise DataError(f"{where} has no column {wanted!r}; its columns are {columns}")
    return image, label


def class_names(feature: object) -> tuple[str, ...] | None:
    """Return the names that `datasets` has of a column of labels, or None."""
    names = getattr(feature, "names", None)
    well_formed = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if names and well_formed else None


def _features(schema: Any) -> dict[str, Any]:
    """Return what `datasets` recorded in a file's schema: column name → feature, or nothing.

    The record is a convenience, not part of the data: without it, or without the library, columns are found
    by their usual names and classes go by number.
    """
    try:
        from datasets import Features

        return dict(Features.from_arrow_schema(schema))
    except (ImportError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return {}


def _labels(file: Path, column: str, classes: int | None) -> Ints:
    """Return the int64 [n] labels of one file, checked row by row."""
    import pyarrow as pa

    with _parquet(file) as opened:
        _require_column(file, opened, column)
        values = _read_column(file, opened, column)
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


def _read_column(file: Path, opened: Any, column: str) -> Any:
    try:
        return opened.read(columns=[column]).column(column)
    except (OSError, ValueError) as e:
        raise DataError(f"{printable(file.name)} is damaged ({first_line(e)}); fetch it again") from e


def _encoded_rows(file: Path, column: str, rows: Ints) -> Iterator[tuple[str, bytes]]:
    if not len(rows):
        return
    wanted = iter(rows.tolist())
    row = next(wanted)
    with _parquet(file) as opened:
        _require_column(file, opened, column)
        groups, start = _row_groups(opened, int(rows[0]), int(rows[-1]))
        batches = opened.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=[column])
        while True:
            try:
                values = next(batches).column(0)
            except (OSError, ValueError) as e:
                raise DataError(f"{printable(file.name)} is damaged ({first_line(e)}); fetch it again") from e
            while row < start + len(values):
                where = f"{printable(file.name)} row {row}"
                yield where, _content(values[row - start].as_py(), where)
                following = next(wanted, None)
                if following is None:
                    return
                row = following
            start += len(values)


def _row_groups(opened: Any, first: int, last: int) -> tuple[list[int], int]:
    """Return the row groups that hold these rows and those between, and the row at which they begin."""
    ends = np.cumsum([opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)])
    begin, end = np.searchsorted(ends, (first, last), side="right")
    return list(range(begin, min(end + 1, len(ends)))), int(ends[begin - 1]) if begin else 0


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
