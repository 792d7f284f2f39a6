"""Datasets as plain tensors: a name, a Hub id, a folder of parquet or a folder of images becomes three splits.

Everything random is seeded and stratified. The validation split is carved out of the training images before
a fraction is taken, so it is the same for every fraction, and the images of a small fraction are among those
of every larger one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottery_hub.errors import DataError, printable
from lottery_hub.images import caching
from lottery_hub.images.asking import SIDES, check_settings
from lottery_hub.images.caching import OnDecoded
from lottery_hub.images.decoding import Ints, Pixels, Source, Tally, decode, side_of
from lottery_hub.images.opening import Opened, open_dataset
from lottery_hub.images.own import open_own
from lottery_hub.settings.config import DataPlan
from lottery_hub.values import page_table, same_fields, whole

# Letters of a class name in records, and of all: many classes with long names would outgrow what a reader takes.
MAX_NAME, MAX_NAMES = 300, 2**17
TEST_SHARE = 0.2  # of the training images, where a dataset has no test split of its own


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes:
        images: uint8 [n, 3, size, size], RGB.
        labels: int64 [n].
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        """Raise DataError where the tensors are of another kind: they would give a wrong figure, and no error."""
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[1] != 3:
            hint = "; turn them with images.permute(0, 3, 1, 2)" if len(shape) == 4 and shape[3] == 3 else ""
            raise DataError(f"images have shape {shape}, not [n, 3, height, width]{hint}")
        if self.images.dtype != torch.uint8:
            hint = "; images in [0,1] become that by (images * 255).round().to(torch.uint8)"
            raise DataError(f"images are {self.images.dtype}, not uint8 from 0 to 255{hint}")
        if self.labels.dtype != torch.int64 or self.labels.dim() != 1 or len(self.labels) != shape[0]:
            given = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise DataError(f"labels are {given}, not int64, one for each of {shape[0]} images")
        if len(self.labels) and int(self.labels.min()) < 0:
            raise DataError(f"a label is {int(self.labels.min())}; classes are numbered from 0")

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(tuple(self.images.shape))

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of {_pixels(self)})"


@dataclass(frozen=True)
class Dataset:
    """Three splits and where they come from.

    Attributes:
        name: short name, Hub id, or a folder's own name; never an absolute path.
        revision: commit on the Hub; None for a local folder and for digits.
        fingerprint: "sha256:..." over shapes, pixels and labels of the splits as delivered.
        classes: class names by label.
        fraction: share of the training images that was kept, in (0, 1].
        validation_share: of the training images, held out; it decides with `split_seed` which images are where. None
            where the validation split was given.
        split_seed: see `load_dataset`.
        original_sides: least and most width or height of the pictures before they were made to fit, in pixels.
        train: what to train on.
        validation: what to choose checkpoints and settings on.
        test: what to report on.
        notes: every conversion made on the way, counted.
    """

    name: str
    revision: str | None
    fingerprint: str
    classes: tuple[str, ...]
    fraction: float
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...]
    validation_share: float | None = 0.1
    split_seed: int = 0
    original_sides: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        images: Any,
        labels: Any = None,
        *,
        validation: Any = 0.1,
        test: Any = None,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        image_size: int | None = None,
        fraction: float = 1.0,
        split_seed: int = 0,
    ) -> Dataset:
        """Make a dataset of images at hand in Python. Nothing about them is guessed, and nothing is dropped silently.

        Args:
            images: one of
                - a tensor or array [n, 3, h, w], or grey [n, 1, h, w] or [n, h, w]: uint8, or floats in [0,1], which
                  are kept in 8 bits; or a list of such images, or of Pillow's. `labels` goes with it.
                - a torch Dataset that gives (image, label), untransformed but for ToTensor or Resize;
                - a Hugging Face Dataset, with a column of images and one of labels;
                - a dict, or DatasetDict, of splits: "train", and "validation" and "test" where there are such, each
                  one of the above, with (images, labels) for arrays;
                - a folder, as of `load_dataset`.
            labels: integers [n] from 0.
            validation: share of the training images to hold out, stratified, in (0, 1); or the split itself.
            test: the split; None holds out a fifth of the training images for it, and `notes` says so.
            classes: their names by label; None takes those that the dataset knows, or the numbers.
            name: in records and cards; it must not be that of a dataset that others can load.
            image_size: side in pixels to which images are cropped and resized; None takes them as they are, which then
                have to be squares of one size. (A folder's are made 32x32.)
            fraction, split_seed: as of `load_dataset`.

        Raises:
            DataError: names the first thing that could be misread, and what mends it.
        """
        if isinstance(images, str | os.PathLike):
            given = [labels, test, classes, name, None if isinstance(validation, float) else validation]
            if any(value is not None for value in given):
                raise DataError("a folder has its own labels, splits, class names and name; give the folder alone")
            if not Path(images).is_dir():
                raise DataError(f"{printable(images)} is no folder; names and Hub ids are for load_dataset")
            how = {"fraction": fraction, "validation": validation, "split_seed": split_seed}
            return load_dataset(images, image_size=32 if image_size is None else image_size, **how)
        if validation is None:
            raise DataError("validation is a share of the training images, such as 0.1, or the split itself, not None")
        share = validation if isinstance(validation, float) else None
        check_settings(32 if image_size is None else image_size, fraction, 0.5 if share is None else share, split_seed)
        opened = open_own(images, labels, None if share is not None else validation, test, classes, name)
        data = _split(opened, image_size, fraction, None if opened.validation else share, split_seed)
        if data.train.images.shape[-1] not in SIDES:
            sides = f"{SIDES.start} to {SIDES.stop - 1}"
            raise DataError(f"images have {data.train.images.shape[-1]} pixels a side, not {sides}; give an image_size")
        return data

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        shown = ", ".join(f"{len(split):,} {name}" for name, split in self._splits())
        return f"Dataset({printable(self.name)}: {len(self.classes)} classes, {shown} images of {_pixels(self.test)})"

    def _repr_html_(self) -> str:
        rows = [(name, f"{len(split):,}", _pixels(split)) for name, split in self._splits()]
        about = f"Dataset: {self.name}, {len(self.classes)} classes"
        return page_table(about, ("split", "images", "pixels"), rows)

    def _splits(self) -> list[tuple[str, Split]]:
        return [("training", self.train), ("validation", self.validation), ("test", self.test)]

    def describe(self) -> dict[str, object]:
        """Return the provenance that goes into records and cards, ready for JSON."""
        names = [printable(name, MAX_NAME) for name in self.classes]
        named = {"class_names": names} if sum(map(len, names)) <= MAX_NAMES else {}
        sides = {"original_sides": list(self.original_sides)} if self.original_sides else {}
        return {
            "name": self.name,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "fraction": self.fraction,
            "image_size": self.train.images.shape[-1],
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
            "classes": len(self.classes),
            **named,
            **sides,
            **({} if self.validation_share is None else {"validation_share": self.validation_share}),
            "split_seed": self.split_seed,
            "notes": list(self.notes),
        }


def _pixels(split: Split) -> str:
    height, width = split.images.shape[2:]
    return f"{height}x{width}"


def load_dataset(
    ref: str | os.PathLike[str],
    *,
    image_size: int = 32,
    fraction: float = 1.0,
    validation: float = 0.1,
    split_seed: int = 0,
    revision: str | None = None,
    local: bool = True,
    on_decoded: OnDecoded | None = None,
) -> Dataset:
    """Load a dataset as uint8 RGB tensors in three stratified splits.

    Args:
        ref: a folder, which goes first: parquet files in the Hub's layout, or images as `train/<class>/*` and
            `test/<class>/*`, or as `<class>/*`; else one of `opening.NAMES`; else a dataset id on the Hub, "org/name",
            or "org/name/config" where it has several.
        image_size: height and width in pixels; larger or smaller images are resized, others are untouched.
        fraction: share of each class's training images to keep, in (0, 1]; validation and test stay whole.
        validation: share of the training images held out for validation, in (0, 1).
        split_seed: decides which images are held out and kept, 0 or more.
        revision: branch, tag or commit on the Hub; None means the pinned commit of a named set, else "main".
        local: whether `ref` may be a folder; what a stranger's records name is looked for on no disk.
        on_decoded: told how many images are decoded, of how many, where they are so many that they are kept in a file;
            see `caching`.

    Raises:
        DataError: the reference is unknown, or what it holds cannot be read or split as asked.
        DownloadError: the Hub did not deliver the files.
    """
    check_settings(image_size, fraction, validation, split_seed)
    opened = open_dataset(os.fspath(ref), revision, local=local)
    return _split(opened, image_size, fraction, validation, split_seed, on_decoded)


def peek(plan: DataPlan) -> tuple[str, int]:
    """Return the name of a plan's dataset and how many images there are to train on, of which none is decoded."""
    opened = open_dataset(plan.dataset, plan.revision)
    return opened.name, len(_choose(opened, plan.fraction, plan.validation, plan.split_seed).parts[0][1])


def _split(
    opened: Opened,
    image_size: int | None,
    fraction: float,
    validation: float | None,
    split_seed: int,
    on_decoded: OnDecoded | None = None,
) -> Dataset:
    """Decide which images are in which split, and decode those; without `image_size` all have to be of one."""
    chosen = _choose(opened, fraction, validation, split_seed)
    (train, held_out, test), about = _delivered(chosen, image_size, on_decoded)
    return Dataset(
        name=opened.name,
        revision=opened.revision,
        fingerprint=about["fingerprint"],
        classes=chosen.classes,
        fraction=float(fraction),
        train=train,
        validation=held_out,
        test=test,
        notes=(*chosen.notes, *about["notes"]),
        validation_share=None if validation is None else float(validation),
        split_seed=split_seed,
        original_sides=about["sides"] and tuple(about["sides"]),
    )


@dataclass(frozen=True)
class _Chosen:
    """Which images each split takes, decided on labels alone."""

    name: str
    classes: tuple[str, ...]
    parts: Sequence[tuple[Source, Ints]]  # of train, validation and test: where from, and which rows
    notes: Sequence[str]


def _choose(opened: Opened, fraction: float, validation: float | None, split_seed: int) -> _Chosen:
    classes = _class_names(opened)
    notes = list(opened.notes)
    rows = np.arange(len(opened.train.labels), dtype=np.int64)
    test_source = opened.test
    if test_source is None:
        test_source = opened.train
        rows, test_rows = _carve(opened.train.labels, rows, TEST_SHARE, (split_seed, 1), classes)
        notes.append(f"no test split: {len(test_rows)} training images ({TEST_SHARE:.0%}, stratified) serve as test")
    else:
        test_rows = np.arange(len(test_source.labels), dtype=np.int64)
    held_out_source = opened.validation
    if held_out_source is None:
        assert validation is not None
        held_out_source = opened.train
        rows, validation_rows = _carve(opened.train.labels, rows, validation, (split_seed, 2), classes)
    else:
        validation_rows = np.arange(len(held_out_source.labels), dtype=np.int64)
    if fraction < 1:
        rows, rescued = _take_fraction(opened.train.labels, rows, fraction, (split_seed, 3), len(classes))
        if rescued:
            notes.append(f"fraction {fraction:g} rounds to no image in {rescued} classes: 1 image was kept in each")
    parts = [(opened.train, rows), (held_out_source, validation_rows), (test_source, test_rows)]
    return _Chosen(opened.name, classes, parts, notes)


def sample(split: Split, count: int, seed: int) -> Split:
    """Return `count` images of a split, drawn without replacement; the same seed draws the same ones.

    Raises:
        DataError: the split has fewer.
    """
    rows = sampled_rows(len(split), count, seed)
    return Split(split.images[rows], split.labels[rows])


def sampled_rows(total: int, count: int, seed: int) -> torch.Tensor:
    """Return which rows `sample` takes: int64 [count], ascending.

    Raises:
        DataError: there are fewer.
    """
    if (whole(count) or 0) < 1:
        raise DataError(f"a sample has 1 image or more, not {printable(repr(count))}")
    if count > total:
        raise DataError(f"there are {total} test images, not {count}")
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def load_planned(plan: DataPlan, *, local: bool = True, on_decoded: OnDecoded | None = None) -> Dataset:
    """Load the dataset of a plan; see `load_dataset`."""
    settings = plan.record()
    return load_dataset(settings.pop("dataset"), **settings, local=local, on_decoded=on_decoded)


def _class_names(opened: Opened) -> tuple[str, ...]:
    """Return the class names, after checking that every class can be learned."""
    train, test = opened.train, opened.test
    name = printable(opened.name)
    splits = (("train", train), ("test", test), ("validation", opened.validation))
    for split, source in splits:
        if source is not None and not len(source.labels):
            raise DataError(f"{name} has no image in its {split} split")
    if test is not None and train.classes and test.classes and train.classes != test.classes:
        raise DataError(f"{name}: the train and test files list different classes")
    present = np.unique(train.labels)
    named = train.classes or (test.classes if test is not None else None)
    count = len(named) if named else int(present[-1]) + 1
    if len(present) < count:
        # `present` is sorted, so the first place where it differs from 0, 1, 2, ... is the first missing class.
        gaps = np.flatnonzero(present != np.arange(len(present)))
        missing = int(gaps[0]) if len(gaps) else len(present)
        shown = printable(named[missing]) if named else missing
        raise DataError(f"empty class: {name} has no training image of class {shown}")
    for what, told in (("dataset", opened.name), *(("class", each) for each in named or ())):
        if not told.strip() or any("\ud800" <= letter <= "\udfff" for letter in told):
            raise DataError(f"{name}: the name of a {what} is no text ({printable(repr(told))}); give it another")
    for split, source in splits:
        if source is not None and (wrong := np.flatnonzero(source.labels >= count)).size:
            label = source.labels[wrong[0]]
            raise DataError(f"{name}: {split} row {wrong[0]} has label {label}, but there are {count} classes")
    return named or tuple(str(i) for i in range(count))


def _shuffled_class(labels: Ints, rows: Ints, label: int, seed: tuple[int, int]) -> Ints:
    """Return the rows of one class in an order that depends on the seed and on nothing of the other classes."""
    mine = rows[labels[rows] == label]
    return np.random.default_rng((*seed, label)).permutation(mine)


def _carve(labels: Ints, rows: Ints, share: float, seed: tuple[int, int], classes: Sequence[str]) -> tuple[Ints, Ints]:
    """Split `rows` in two with the same class proportions, `share` of each class (and at least 1) in the second."""
    kept, carved = [], []
    for label, name in enumerate(classes):
        order = _shuffled_class(labels, rows, label, seed)
        if len(order) < 2:
            raise DataError(f"class {printable(name)} has too few training images to hold any out; add some")
        n = min(max(1, round(share * len(order))), len(order) - 1)
        carved.append(order[:n])
        kept.append(order[n:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(carved))


def _take_fraction(labels: Ints, rows: Ints, fraction: float, seed: tuple[int, int], classes: int) -> tuple[Ints, int]:
    """Keep the first `fraction` of each class's shuffled rows, and count the classes where that rounds to none.

    The order does not depend on the fraction, so a smaller fraction is a prefix of a larger one.
    """
    orders = [_shuffled_class(labels, rows, label, seed) for label in range(classes)]
    counts = [round(fraction * len(order)) for order in orders]
    kept = [order[: max(1, n)] for order, n in zip(orders, counts, strict=True)]
    return np.sort(np.concatenate(kept)), counts.count(0)


def _delivered(chosen: _Chosen, size: int | None, on_decoded: OnDecoded | None) -> tuple[list[Split], dict[str, Any]]:
    """Return the splits, in memory or mapped from the cache, with their fingerprint and notes."""
    parts = chosen.parts

    def splits_of(pixels: Sequence[Pixels]) -> list[Split]:
        return [
            Split(torch.from_numpy(images), torch.from_numpy(source.labels[rows]))
            for images, (source, rows) in zip(pixels, parts, strict=True)
        ]

    def about(pixels: Sequence[Pixels], tally: Tally) -> dict[str, Any]:
        told = {"name": chosen.name, "notes": list(tally.notes()), "sides": tally.sides}
        return told | {"fingerprint": _fingerprint(splits_of(pixels))}

    if size is not None and caching.is_large(parts, size):
        mapped, remembered = caching.decoded_once(parts, size, about, on_decoded)
        return splits_of(mapped), remembered
    tally, side = Tally(), size or side_of(parts[0][0])
    pixels = [decode(source, rows, side, tally, resize=size is not None) for source, rows in parts]
    return splits_of(pixels), about(pixels, tally)


def _fingerprint(splits: Sequence[Split]) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(np.ascontiguousarray(split.images.numpy()).data)
        digest.update(split.labels.numpy().astype("<i8").data)
    return f"sha256:{digest.hexdigest()}"
