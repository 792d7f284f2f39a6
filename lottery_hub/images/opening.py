"""What a reference to a dataset leads to: a name, a Hub id or a folder becomes one or two splits, not yet decoded.

Splits and fractions are decided on labels alone, so nothing but labels is read here. Whatever lies beside the splits
and is not used is counted and named.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lottery_hub.errors import DataError, NoSuchFilesError, printable
from lottery_hub.fetching import downloads, names
from lottery_hub.fetching.pasted import pasted
from lottery_hub.images.decoding import IMAGE_SUFFIXES, Encoded, Ints, Source
from lottery_hub.images.parquet import find_parquet, has_labels, open_parquet
from lottery_hub.images.splits import by_split
from lottery_hub.settings.paths import path_of

SHOWN = 5  # of the files that are not used


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
class _Reference:
    """How a folder of parquet was asked for: `shown` in messages, `config` where one of several was named."""

    name: str
    shown: str
    revision: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class Opened:
    """A dataset whose labels are read and whose images are not: what every kind of reference comes down to.

    Where `test` or `validation` is None, it is carved from `train`.
    """

    name: str
    revision: str | None
    train: Source
    test: Source | None
    notes: tuple[str, ...] = ()
    validation: Source | None = None


def open_dataset(ref: str, revision: str | None, *, local: bool = True) -> Opened:
    try:
        is_folder = local and bool(ref) and path_of(ref).is_dir()
    except (OSError, ValueError):  # too long, or a null character
        is_folder = False
    if revision is not None and (is_folder or ref == "digits"):
        raise DataError(f"{printable(ref)} has no revisions: only datasets of the Hub do")
    if is_folder:
        try:
            return _open_folder(path_of(ref).resolve())
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
        try:
            folder, sha = downloads.fetch_snapshot(hub_id, repo_type="dataset", revision=revision, patterns=[pattern])
        except NoSuchFilesError as problem:
            if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in problem.there):
                raise DataError(
                    f"{hub_id} holds plain pictures and no parquet; fetch them with `hf download --repo-type dataset "
                    f"{hub_id} --local-dir FOLDER` and give the folder"
                ) from problem
            raise
        return _open_parquet_folder(folder, _Reference(ref, hub_id, sha, config))
    known = ", ".join(NAMES)
    raise DataError(f"no dataset {printable(ref)!r}: give one of {known}, a Hub id (org/name) or a folder that exists")


def dataset_name(ref: str) -> str:
    """Return the name that what a reference leads to goes by in records; nothing is read."""
    try:
        folder = path_of(ref).resolve() if path_of(ref).is_dir() else None
    except (OSError, ValueError):
        folder = None
    parts = folder.parts[-2:] if folder else tuple(ref.split("/"))
    for name, row in NAMED.items():
        if parts == tuple(row.hub_id.split("/")):
            return name
    return folder.name if folder else ref


def _open_digits() -> Opened:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 grey levels."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    grey = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
    source = Source(
        bundled.target.astype(np.int64),
        tuple(str(i) for i in range(10)),
        lambda rows: ((f"digits row {row}", grey[row]) for row in rows),
    )
    return Opened("digits", None, source, None)


def _open_named(name: str, row: Named, revision: str | None) -> Opened:
    folder, sha = downloads.fetch_snapshot(
        row.hub_id, repo_type="dataset", revision=revision or row.revision, patterns=row.patterns
    )
    return _open_parquet_folder(folder, _Reference(name, row.hub_id, sha), row)


def _open_folder(folder: Path) -> Opened:
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        raise DataError(
            f"{printable(folder.name)} was written by `save_to_disk` of datasets; write parquet instead, "
            "e.g. load_from_disk(FOLDER)['train'].to_parquet('data/train.parquet')"
        )
    if any(folder.rglob("*.parquet")):
        for name, row in NAMED.items():
            if folder.parts[-2:] == tuple(row.hub_id.split("/")):
                return _open_parquet_folder(folder, _Reference(name, row.hub_id), row)
        return _open_parquet_folder(folder, _Reference(folder.name, folder.name))
    return _open_image_folder(folder)


def _open_parquet_folder(folder: Path, opened_as: _Reference, row: Named | None = None) -> Opened:
    """Open a folder in the Hub's layout; `row` tells the columns and, where there are several sets, which."""
    configs, unused = find_parquet(folder, opened_as.shown)
    config = row.config if row else opened_as.config
    if len(configs) > 1 and config not in configs:
        here = opened_as.shown
        choices = ", ".join(printable(here if found == "." else f"{here}/{found}") for found in sorted(configs))
        raise DataError(f"{printable(here)} holds several datasets; give one of {choices}")
    splits = configs.get(config or "") or next(iter(configs.values()))
    image, label = (row.image, row.label) if row else (None, None)
    test, notes = _choose_test({split for split, files in splits.items() if has_labels(files, label)}, set(splits))
    return Opened(
        opened_as.name,
        opened_as.revision,
        open_parquet(splits["train"], image, label),
        open_parquet(splits[test], image, label) if test else None,
        (*notes, *_not_used(unused)),
    )


def _open_image_folder(folder: Path) -> Opened:
    """Open `train/<class>/*` with a test or validation folder beside it, or `<class>/*`."""
    inside = _folders(folder)
    splits = _split_folders(inside)
    if "train" not in splits:
        if not inside:
            raise DataError(
                f"{printable(folder.name)} holds neither parquet files nor class folders; expected "
                "train-*.parquet, train/<class>/*.png or <class>/*.png"
            )
        source = _open_class_folders(inside)
        return Opened(folder.name, None, source, None, _not_used([*_beside(folder, inside), *source.unused]))
    classes = {split: _folders(place) for split, place in splits.items()}
    if not classes["train"]:
        raise DataError(
            f"{printable(folder.name)}/{printable(splits['train'].name)} has no class folders; "
            "expected train/<class>/*.png"
        )
    test, notes = _choose_test({split for split, names in classes.items() if names}, set(splits))
    if test and (difference := sorted(classes["train"].keys() ^ classes[test].keys())):
        raise DataError(
            f"{printable(folder.name)}: class {printable(difference[0])} is in only one of "
            f"{printable(splits['train'].name)} and {printable(splits[test].name)}; both need the same class folders"
        )
    unused = _beside(folder, [place.name for place in splits.values()])
    opened = {}
    for split in ("train", test) if test else ("train",):
        opened[split] = _open_class_folders(classes[split])
        beside = (*_beside(splits[split], [place.name for place in classes[split].values()]), *opened[split].unused)
        unused += [f"{splits[split].name}/{name}" for name in beside]
    return Opened(folder.name, None, opened["train"], opened[test] if test else None, (*notes, *_not_used(unused)))


def _folders(folder: Path) -> dict[str, Path]:
    """Return name → folder inside, by name; names that differ in their Unicode normal form alone are one name."""
    folders: dict[str, Path] = {}
    for path in folder.iterdir():
        if not path.is_dir() or path.name.startswith("."):
            continue
        name = unicodedata.normalize("NFC", path.name)
        if name in folders:
            raise DataError(f"{printable(folder.name)} has two folders of one name, {printable(name)}; rename one")
        folders[name] = path
    return dict(sorted(folders.items()))


def _beside(folder: Path, used: Iterable[str]) -> list[str]:
    """Return what else is in a folder; a folder is marked with a slash, and what is hidden does not count."""
    names = set(used)
    rest = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in names)
    return [f"{path.name}/" if path.is_dir() else path.name for path in rest]


def _not_used(names: Sequence[str]) -> tuple[str, ...]:
    """Return the note about files and folders that no split takes, if there are any."""
    if not names:
        return ()
    shown = [*map(printable, names[:SHOWN]), *([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else [])]
    what = "file or folder is" if len(names) == 1 else "files and folders are"
    return (f"{len(names)} {what} not used: {', '.join(shown)}",)


def _choose_test(labelled: set[str], splits: set[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return which split is tested on, None to carve one, and what to report about it.

    Args:
        labelled: the splits that can be tested on. Contests publish test images without labels, or with -1.
        splits: all of them.
    """
    unused = ("the dataset's own validation split is not used: validation is carved from train",)
    if "test" in labelled:
        return "test", unused if "valid" in splits else ()
    why = "the test split has no labels" if "test" in splits else "no test split"
    if "valid" in labelled:
        return "valid", (f"{why}: the dataset's validation split serves as test",)
    return None, (f"{why} and is not used",) if "test" in splits else ()


def _open_class_folders(classes: Mapping[str, Path]) -> Source:
    """Open folders of images, one a class; images in folders inside them are theirs too.

    Args:
        classes: class name → folder, in label order.

    Raises:
        DataError: a class has no image, or a name is a link that leads nowhere.
    """
    files: list[Path] = []
    labels: list[int] = []
    unused: list[str] = []
    for label, (name, folder) in enumerate(classes.items()):
        images, others = _images(folder)
        if not images:
            raise DataError(f"empty class: {printable(folder.parent.name)}/{printable(name)} has no image file")
        files += images
        labels += [label] * len(images)
        unused += [file.relative_to(folder.parent).as_posix() for file in others]
    roots = [folder.parent.parent for folder in classes.values()]

    def encoded(rows: Ints) -> Iterator[Encoded]:
        for row in rows:
            yield printable(files[row].relative_to(roots[labels[row]])), files[row]

    return Source(np.array(labels, dtype=np.int64), tuple(classes), encoded, tuple(unused), files)


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images below a folder, and every other file or linked folder there; hidden ones are neither."""
    images: list[Path] = []
    others: list[Path] = []
    for inside, folders, found in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        others += [place / name for place in (Path(inside),) for name in folders if (place / name).is_symlink()]
        for file in (Path(inside) / name for name in sorted(found) if not name.startswith(".")):
            if file.is_symlink() and not file.exists():
                shown = printable(file.relative_to(folder.parent))
                raise DataError(f"{shown} is a link that leads nowhere; mend or remove it")
            (images if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() else others).append(file)
    return images, others


def _split_folders(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return split ("train", "valid", "test") → folder: where several would do, the one with the usual word."""
    return {split: folders[names[0]] for split, names in by_split(folders, lambda name: name).items()}
