"""Datasets as plain tensors: a name, a Hub id, a folder of parquet or a folder of images becomes three splits.

Everything random is seeded and stratified. The validation split is carved out of the training images before
a fraction is taken, so it is the same for every fraction, and the images of a small fraction are among those
of every larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lottery_hub import downloads, names
from lottery_hub.config import DataPlan
from lottery_hub.decoding import SPLIT_WORDS, Source, Tally, decode, find_parquet, open_folder, open_parquet
from lottery_hub.errors import DataError, printable
from lottery_hub.pasted import pasted

Ints = npt.NDArray[np.int64]

TEST_SHARE = 0.2  # of the training images, where a dataset has no test split of its own


@dataclass(frozen=True)
class Named:
    """A dataset known by a short name: where it is on the Hub and what its columns are called.

    Attributes:
        hub_id: dataset repository, "org/name".
        config: the repository's folder that holds this set.
        image: column of encoded images.
        label: column of integer labels.
        train: file-name prefix of the split that is trained on.
        test: file-name prefix of the split that is tested on.
        revision: pinned commit; None resolves the newest one at load, which is then reported.
    """

    hub_id: str
    config: str
    image: str
    label: str
    train: str = "train"
    test: str = "test"
    revision: str | None = None

    @property
    def patterns(self) -> tuple[str, str]:
        """The files to fetch, one pattern a split."""
        return f"{self.config}/{self.train}-*.parquet", f"{self.config}/{self.test}-*.parquet"


NAMED: dict[str, Named] = {
    "cifar10": Named("uoft-cs/cifar10", "plain_text", "img", "label"),
    "cifar100": Named("uoft-cs/cifar100", "cifar100", "img", "fine_label"),
    "svhn": Named("ufldl-stanford/svhn", "cropped_digits", "image", "label"),
    "mnist": Named("ylecun/mnist", "mnist", "image", "label"),
    # The labels of its real test images were never published: the valid split is what everybody tests on.
    "tiny-imagenet": Named("zh-plus/tiny-imagenet", "data", "image", "label", test="valid"),
}
NAMES = ("digits", *NAMED)


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes:
        images: uint8 [n, 3, size, size], RGB.
        labels: int64 [n].
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits and where they come from.

    Attributes:
        name: short name, Hub id, or a folder's own name; never an absolute path.
        revision: commit on the Hub; None for a local folder and for digits.
        fingerprint: "sha256:..." over shapes, pixels and labels of the splits as delivered.
        classes: class names by label.
        fraction: share of the training images that was kept, in (0, 1].
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

    def describe(self) -> dict[str, object]:
        """Return the provenance that goes into records and cards, ready for JSON."""
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
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Reference:
    """How a folder of parquet was asked for: `shown` in messages, `config` where one of several was named."""

    name: str
    shown: str
    revision: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class _Opened:
    """A dataset whose labels are read and whose images are not: what every kind of reference comes down to."""

    name: str
    revision: str | None
    train: Source
    test: Source | None
    notes: tuple[str, ...] = ()


def load_dataset(
    ref: str,
    *,
    image_size: int = 32,
    fraction: float = 1.0,
    validation: float = 0.1,
    split_seed: int = 0,
    revision: str | None = None,
    local: bool = True,
) -> Dataset:
    """Load a dataset as uint8 RGB tensors in three stratified splits.

    Args:
        ref: a folder, which goes first: parquet files in the Hub's layout, or images as `train/<class>/*` and
            `test/<class>/*`, or as `<class>/*`; else one of `NAMES`; else a dataset id on the Hub, "org/name",
            or "org/name/config" where it has several.
        image_size: height and width in pixels; larger or smaller images are resized, others are untouched.
        fraction: share of each class's training images to keep, in (0, 1]; validation and test stay whole.
        validation: share of the training images held out for validation, in (0, 1).
        split_seed: decides which images are held out and kept, 0 or more.
        revision: branch, tag or commit on the Hub; None means the pinned commit of a named set, else "main".
        local: whether `ref` may be a folder; what a stranger's records name is looked for on no disk.

    Raises:
        DataError: the reference is unknown, or what it holds cannot be read or split as asked.
        DownloadError: the Hub did not deliver the files.
    """
    _check_settings(image_size, fraction, validation, split_seed)
    opened = _open(ref, revision, local)
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
    rows, validation_rows = _carve(opened.train.labels, rows, validation, (split_seed, 2), classes)
    if fraction < 1:
        rows, rescued = _take_fraction(opened.train.labels, rows, fraction, (split_seed, 3), len(classes))
        if rescued:
            notes.append(f"fraction {fraction:g} rounds to no image in {rescued} classes: 1 image was kept in each")

    tally = Tally()
    train = _deliver(opened.train, rows, image_size, tally)
    held_out = _deliver(opened.train, validation_rows, image_size, tally)
    test = _deliver(test_source, test_rows, image_size, tally)
    return Dataset(
        name=opened.name,
        revision=opened.revision,
        fingerprint=_fingerprint((train, held_out, test)),
        classes=classes,
        fraction=float(fraction),
        train=train,
        validation=held_out,
        test=test,
        notes=(*notes, *tally.notes()),
    )


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
    if count > total:
        raise DataError(f"there are {total} test images, not {count}")
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def load_planned(plan: DataPlan, *, local: bool = True) -> Dataset:
    """Load the dataset of a plan; see `load_dataset`."""
    settings = plan.record()
    return load_dataset(settings.pop("dataset"), **settings, local=local)


def _check_settings(image_size: int, fraction: float, validation: float, split_seed: int) -> None:
    if image_size < 1:
        raise DataError(f"image_size must be 1 or more, not {image_size}")
    if not 0 < fraction <= 1:
        raise DataError(f"fraction must be in (0, 1], not {fraction}; 0.1 keeps a tenth of the training images")
    if not 0 < validation < 1:
        raise DataError(f"validation must be a share between 0 and 1, not {validation}")
    if split_seed < 0:
        raise DataError(f"split_seed must be 0 or more, not {split_seed}")


def _open(ref: str, revision: str | None, local: bool) -> _Opened:
    try:
        is_folder = local and bool(ref) and Path(ref).is_dir()
    except (OSError, ValueError):  # too long, or a null character
        is_folder = False
    if revision is not None and (is_folder or ref == "digits"):
        raise DataError(f"{printable(ref)} has no revisions: only datasets of the Hub do")
    if is_folder:
        try:
            return _open_folder(Path(ref).resolve())
        except OSError as e:
            raise DataError(f"cannot read {printable(ref)} ({printable(e.strerror or e)})") from e
    if ref == "digits":
        return _open_digits()
    if page := pasted(ref, "dataset", DataError):
        ref, revision = page.repo_id, revision or page.revision
    for name, row in NAMED.items():
        if ref in (name, row.hub_id):
            return _open_named(name, row, revision)
    if names.fits(names.dataset_id, ref):
        org, name, *configs = ref.split("/")
        hub_id, config = f"{org}/{name}", configs[0] if configs else None
        pattern = f"{config}/*.parquet" if config else "*.parquet"
        folder, sha = downloads.fetch_snapshot(hub_id, repo_type="dataset", revision=revision, patterns=[pattern])
        return _open_parquet_folder(folder, _Reference(ref, hub_id, sha, config))
    known = ", ".join(NAMES)
    raise DataError(f"no dataset {printable(ref)!r}: give one of {known}, a Hub id (org/name) or a folder that exists")


def _open_digits() -> _Opened:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 grey levels."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    grey = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
    source = Source(
        bundled.target.astype(np.int64),
        tuple(str(i) for i in range(10)),
        lambda rows: ((f"digits row {row}", grey[row]) for row in rows),
    )
    return _Opened("digits", None, source, None)


def _open_named(name: str, row: Named, revision: str | None) -> _Opened:
    folder, sha = downloads.fetch_snapshot(
        row.hub_id, repo_type="dataset", revision=revision or row.revision, patterns=row.patterns
    )
    return _open_parquet_folder(folder, _Reference(name, row.hub_id, sha), row)


def _open_folder(folder: Path) -> _Opened:
    if any(folder.rglob("*.parquet")):
        for name, row in NAMED.items():
            if folder.parts[-2:] == tuple(row.hub_id.split("/")):
                return _open_parquet_folder(folder, _Reference(name, row.hub_id), row)
        return _open_parquet_folder(folder, _Reference(folder.name, folder.name))
    return _open_image_folder(folder)


def _open_parquet_folder(folder: Path, opened_as: _Reference, row: Named | None = None) -> _Opened:
    """Open a folder in the Hub's layout; `row` tells the columns and, where there are several sets, which."""
    configs = find_parquet(folder, opened_as.shown)
    config = row.config if row else opened_as.config
    if len(configs) > 1 and config not in configs:
        here = opened_as.shown
        choices = ", ".join(printable(here if found == "." else f"{here}/{found}") for found in sorted(configs))
        raise DataError(f"{printable(here)} holds several datasets; give one of {choices}")
    splits = configs.get(config or "") or next(iter(configs.values()))
    image, label = (row.image, row.label) if row else (None, None)
    test, notes = _choose_test(set(splits))
    return _Opened(
        opened_as.name,
        opened_as.revision,
        open_parquet(splits["train"], image, label),
        open_parquet(splits[test], image, label) if test else None,
        notes,
    )


def _open_image_folder(folder: Path) -> _Opened:
    """Open `train/<class>/*` with `test/` or `val/` beside it, or `<class>/*`."""
    inside = _folders(folder)
    splits = {SPLIT_WORDS[d.lower()]: folder / d for d in inside if d.lower() in SPLIT_WORDS}
    if "train" not in splits:
        if not inside:
            raise DataError(
                f"{printable(folder.name)} holds neither parquet files nor class folders; expected "
                "train-*.parquet, train/<class>/*.png or <class>/*.png"
            )
        return _Opened(folder.name, None, open_folder(inside, folder), None)
    classes = _folders(splits["train"])
    if not classes:
        raise DataError(f"{printable(folder.name)}/train has no class folders; expected train/<class>/*.png")
    test, notes = _choose_test(set(splits))
    if test and (difference := sorted(set(classes) ^ set(_folders(splits[test])))):
        raise DataError(
            f"{printable(folder.name)}: class {printable(difference[0])} is in only one of train and "
            f"{printable(splits[test].name)}; both need the same class folders"
        )
    train_source = open_folder(classes, splits["train"])
    return _Opened(folder.name, None, train_source, open_folder(classes, splits[test]) if test else None, notes)


def _folders(folder: Path) -> list[str]:
    return sorted(d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))


def _choose_test(splits: set[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return which split is tested on, None to carve one, and what to report about it."""
    if "test" in splits:
        unused = "the dataset's own validation split is not used: validation is carved from train"
        return "test", (unused,) if "valid" in splits else ()
    if "valid" in splits:
        return "valid", ("no test split: the dataset's validation split serves as test",)
    return None, ()


def _class_names(opened: _Opened) -> tuple[str, ...]:
    """Return the class names, after checking that every class can be learned."""
    train, test = opened.train, opened.test
    name = printable(opened.name)
    for split, source in (("train", train), ("test", test)):
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
    for split, source in (("train", train), ("test", test)):
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


def _deliver(source: Source, rows: Ints, size: int, tally: Tally) -> Split:
    return Split(torch.from_numpy(decode(source, rows, size, tally)), torch.from_numpy(source.labels[rows]))


def _fingerprint(splits: Sequence[Split]) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(np.ascontiguousarray(split.images.numpy()).data)
        digest.update(split.labels.numpy().astype("<i8").data)
    return f"sha256:{digest.hexdigest()}"
