"""One's own images, as they are at hand in Python: arrays, tensors, a torch or a Hugging Face dataset.

Nothing is guessed: what could be read in two ways (floats beyond [0,1], channels last, classes from 1) is refused in
one line that says what mends it, since a network would learn from it all the same and its figures would mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottery_hub.errors import DataError, first_line, printable
from lottery_hub.images.decoding import Content, Encoded, Ints, Source
from lottery_hub.images.opening import NAMES, Opened
from lottery_hub.images.parquet import choose_columns, class_names
from lottery_hub.images.splits import by_split

NAME = "own-images"
REPEATED = 3  # items of a torch dataset that are asked for twice
DARK = 1.5 / 255  # what no image of a split is brighter than, if it was scaled down once too often


def open_own(
    images: Any, labels: Any, validation: Any, test: Any, classes: Sequence[str] | None, name: str | None
) -> Opened:
    """Open what was given in Python; see `Dataset.of` for the arguments.

    Raises:
        DataError: it is not what it has to be, or could be misread.
    """
    splits = _splits(images, labels)
    for split, given in (("valid", validation), ("test", test)):
        if given is not None and split in splits:
            raise DataError(f"the {_WORD[split]} split is given twice, in the dict and by itself")
        if given is not None:
            splits[split] = given
    notes = ["the images were given in Python: no name or folder leads to them"]
    opened = {split: _source(given, _WORD[split], notes) for split, given in splits.items()}
    if classes is not None:
        opened = {split: replace(source, classes=_checked_classes(classes)) for split, source in opened.items()}
    if "valid" in splits:
        notes.append("the validation split is the one that was given")
    return Opened(
        _checked_name(NAME if name is None else name),
        None,
        opened["train"],
        opened.get("test"),
        tuple(notes),
        opened.get("valid"),
    )


_WORD = {"train": "train", "valid": "validation", "test": "test"}


def _checked_name(name: object) -> str:
    """Return a name that leads nobody to other images, and that a folder can have."""
    fits = isinstance(name, str) and 0 < len(name) <= 96 and name.isprintable() and name == name.strip()
    if not fits or set(str(name)) & set("/\\:") or str(name).startswith("."):
        raise DataError(f"a dataset cannot have the name {printable(name, 80)!r}; give a short one without slashes")
    if name in NAMES:
        raise DataError(f"{name} is the name of a dataset that others can load, and their images are not yours")
    return str(name)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Iterable) else ()
    if isinstance(classes, str) or not names or not all(isinstance(name, str) for name in names):
        raise DataError("classes are given as a list of their names by label, e.g. classes=['cat', 'dog']")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two classes have one name, {printable(twice)}")
    return names


def _splits(images: Any, labels: Any) -> dict[str, Any]:
    """Return split → what was given for it."""
    if labels is not None:
        return {"train": (images, labels)}
    if not isinstance(images, Mapping):
        if isinstance(images, torch.Tensor | np.ndarray):
            raise DataError("images were given without labels; give Dataset.of(images, labels)")
        return {"train": images}
    words = by_split(images, str)
    splits = {split: images[several[0]] for split, several in words.items()}
    if "train" not in splits:
        keys = ", ".join(printable(key, 40) for key in list(images)[:6])
        raise DataError(f"a dict of splits has 'train', and 'validation' and 'test' where there are such, not {keys}")
    unused = [key for key in images if not any(images[key] is given for given in splits.values())]
    if unused:
        raise DataError(f"{printable(unused[0], 40)!r} is none of the splits train, validation and test; leave it out")
    return splits


def _source(given: Any, split: str, notes: list[str]) -> Source:
    """Open one split, whatever it is."""
    if isinstance(given, tuple) and len(given) == 2:
        return _of_arrays(*given, split, notes)
    tensors = getattr(given, "tensors", None)  # of torch's TensorDataset
    if isinstance(tensors, tuple) and len(tensors) == 2:
        return _of_arrays(*tensors, split, notes)
    if hasattr(given, "column_names") and hasattr(given, "features"):
        return _of_table(given, split)
    if isinstance(given, Iterable) or (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        return _of_items(given, split, notes)
    raise DataError(
        f"the {split} split is a {printable(type(given).__name__)}; give (images, labels), a torch Dataset "
        "of such pairs, or a Hugging Face Dataset"
    )


def _of_table(table: Any, split: str) -> Source:
    """Open a Hugging Face Dataset, without importing that library: what is given has done so."""
    if isinstance(table.column_names, Mapping):
        raise DataError(f"the {split} split holds several splits; give one of {', '.join(map(printable, table))}")
    plain, features = table.with_format(None), dict(table.features or {})
    image, label = choose_columns(table.column_names, features, f"the {split} split")
    labels = _labels(list(plain[label]), len(plain), split)

    def encoded(rows: Ints) -> Iterator[Encoded]:
        for row in rows.tolist():
            where = f"{split} image {row}"
            value = plain[row][image]
            if isinstance(value, Mapping):
                value = value.get("bytes") or (Path(value["path"]) if value.get("path") else None)
            if not isinstance(value, bytes | Path) and not _is_pillow(value):
                raise DataError(f"{where} is a {type(value).__name__}; cast the column to datasets.Image()")
            yield where, value

    return Source(labels, class_names(features.get(label)), encoded)


def _of_items(items: Any, split: str, notes: list[str]) -> Source:
    """Open what gives (image, label) pairs: all of it is read once."""
    countable = hasattr(items, "__getitem__") and hasattr(items, "__len__")
    images, labels = [], []
    for row, item in enumerate((items[row] for row in range(len(items))) if countable else items):
        image, label = _pair(item, f"{split} image {row}")
        if countable and row < REPEATED and not _same(image, _pair(items[row], "")[0]):
            raise DataError(
                f"{split} image {row} is another one each time it is asked for; leave random transforms out: "
                "a recipe's augment does that"
            )
        images.append(image)
        labels.append(label.item() if isinstance(label, torch.Tensor | np.generic) and label.ndim == 0 else label)
    source = _of_arrays(images, labels, split, notes)
    inner = items  # the names are those of what a Subset is of
    while not hasattr(inner, "classes") and hasattr(inner, "dataset"):
        inner = inner.dataset
    names = getattr(inner, "classes", None)
    well_formed = isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    return replace(source, classes=tuple(names) if names and well_formed else None)


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image, label = choose_columns([str(key) for key in item], {}, where)
        return item[image], item[label]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{where} is a {printable(type(item).__name__)}, not a pair (image, label)")
    return item[0], item[1]


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return one.shape == other.shape and bool((one == other).all())


def _of_arrays(images: Any, labels: Any, split: str, notes: list[str]) -> Source:
    """Open images in memory, a tensor, an array or a list of them."""
    rows = images if isinstance(images, list | tuple) else _array(images, f"the {split} images")
    if isinstance(rows, np.ndarray) and rows.ndim not in (3, 4):
        raise DataError(f"the {split} images have shape {list(rows.shape)}, not [n, 3, height, width]")
    known = _labels(labels, len(rows), split)
    pictures, floats, brightest = [], 0, 0.0
    for row, given in enumerate(rows):
        picture, was_float, bright = _picture(given, f"{split} image {row}")
        pictures.append(picture)
        floats += was_float
        brightest = max(brightest, bright)
    if pictures and brightest <= DARK:
        raise DataError(
            f"no pixel of the {split} images is brighter than {brightest:.4g} of 1: were they divided by 255 twice, or "
            "cast from [0,1] to uint8? Give uint8 from 0 to 255, or floats in [0,1]"
        )
    if floats:
        notes.append(f"{floats} {split} images of floats in [0,1] are kept in 8 bits")

    def encoded(wanted: Ints) -> Iterator[Encoded]:
        for row in wanted.tolist():
            yield f"{split} image {row}", pictures[row]

    return Source(known, None, encoded)


def _picture(given: Any, where: str) -> tuple[Content, bool, float]:
    """Return an image as uint8 [h, w] or [h, w, 3] or Pillow's, whether it was of floats, and its brightest pixel."""
    if _is_pillow(given):
        return given, False, 1.0
    array = _array(given, where)
    if array.ndim == 3 and array.shape[0] not in (1, 3):
        hint = "; turn it with permute(2, 0, 1), a batch with permute(0, 3, 1, 2)" if array.shape[2] in (1, 3) else ""
        raise DataError(f"{where} has shape {list(array.shape)}, not [3, height, width]{hint}")
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"{where} has shape {list(array.shape)}, not [3, height, width]")
    floats = array.dtype.kind == "f"
    if not floats and array.dtype != np.uint8:
        raise DataError(f"{where} is {array.dtype}; give uint8 from 0 to 255, or floats in [0,1]")
    low, high = float(array.min()), float(array.max())
    if floats and not (low >= 0 and high <= 1):  # also of NaN
        hint = "were they normalised? the network does that itself" if low < 0 else "divide by 255, or give uint8"
        raise DataError(f"{where} has values from {low:.4g} to {high:.4g}, and floats have to lie in [0,1]; {hint}")
    if floats:
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    else:
        high /= 255
    flat = array if array.ndim == 2 else array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    return np.ascontiguousarray(flat), floats, high


def _is_pillow(image: object) -> bool:
    from PIL.Image import Image

    return isinstance(image, Image)


def _array(values: Any, what: str) -> np.ndarray[Any, Any]:
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as problem:  # the last of a tensor without data
        raise DataError(f"{what} cannot be read as an array ({first_line(problem)})") from problem


def _labels(values: Any, count: int, split: str) -> Ints:
    """Return int64 [n] labels, each a class number from 0."""
    labels = _array(values, f"the {split} labels")
    if not count and not labels.size:
        return np.zeros(0, dtype=np.int64)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        hint = {
            "U": "; classes, labels = np.unique(labels, return_inverse=True) numbers them",
            "b": "; number the classes 0 and 1",
            "f": "; one-hot rows become numbers by labels.argmax(1)" if labels.ndim == 2 else "",
        }.get(labels.dtype.kind, "; take labels.reshape(-1)" if labels.ndim == 2 else "")
        given = f"{labels.dtype} of shape {list(labels.shape)}"
        raise DataError(f"the {split} labels are {given}, not integers from 0, one for each image{hint}")
    if len(labels) != count:
        raise DataError(f"the {split} split has {count} images and {len(labels)} labels")
    if int(labels.min()) < 0:
        row = int(labels.argmin())
        raise DataError(
            f"{split} image {row} has label {labels[row]}; classes are numbered from 0, and each image needs one"
        )
    if split == "train" and int(labels.min()) > 0:
        raise DataError(
            f"the train labels run from {labels.min()} to {labels.max()}, and classes are numbered from 0; "
            "give labels - 1 for all splits"
        )
    return labels.astype(np.int64)
