"""Images at hand in Python become a dataset as they are, or are refused in one line that says what mends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from lottery_hub.errors import DataError
from lottery_hub.images.datasets import Dataset, load_dataset
from lottery_hub.images.recorded import recorded_plan
from lottery_hub.storage.origins import Data

CLASSES = ("cat", "dog", "été")
X = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(30) % 3
PICTURES = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in X]


class Named(TorchDataset[Any]):
    """A torch dataset with the names of its classes, as torchvision's are."""

    classes = CLASSES

    def __init__(self, images: Any, jitter: int = 0) -> None:
        self.images, self.jitter = images, jitter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        self.jitter *= 2
        return (self.images[row] if not self.jitter else self.images[row] // self.jitter), int(Y[row])


class Streamed(IterableDataset[Any]):
    """One that is read from beginning to end."""

    def __iter__(self) -> Any:
        return zip(X, Y, strict=True)


def table(names: tuple[str, ...] = CLASSES, decode: bool = True) -> datasets.Dataset:
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    features = datasets.Features({"image": datasets.Image(), "label": label})
    made = datasets.Dataset.from_dict({"image": PICTURES, "label": Y.tolist()}, features=features)
    return made if decode else made.cast_column("image", datasets.Image(decode=False))


@pytest.fixture(scope="module")
def plain() -> Dataset:
    return Dataset.of(X, Y)


def test_the_images_are_those_that_were_given_in_three_stratified_splits(plain: Dataset) -> None:
    assert (len(plain.train), len(plain.validation), len(plain.test)) == (21, 3, 6)
    assert torch.bincount(plain.test.labels).tolist() == [2, 2, 2]
    given = {image.numpy().tobytes(): int(label) for image, label in zip(X, Y, strict=True)}
    found = [
        (image.numpy().tobytes(), int(label))
        for split in (plain.train, plain.validation, plain.test)
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert dict(found) == given
    assert len(found) == 30
    assert plain.classes == ("0", "1", "2")
    assert any("6 training images" in note and "serve as test" in note for note in plain.notes)


@pytest.mark.parametrize(
    "given",
    [
        (X.numpy(), Y.numpy()),
        (X.float() / 255, Y.int()),
        ((X.double() / 255).numpy(), Y.tolist()),
        (list(X), list(Y)),
        (PICTURES, Y),
        (TensorDataset(X, Y),),
        ([*zip(X, Y, strict=True)],),
        ([{"image": image, "label": label} for image, label in zip(PICTURES, Y, strict=True)],),
        (Streamed(),),
        ({"train": (X, Y)},),
    ],
    ids=["arrays", "floats", "doubles", "lists", "pillow", "tensordataset", "pairs", "dicts", "iterable", "dict"],
)
def test_however_they_are_given_they_are_the_same_images(given: tuple[Any, ...], plain: Dataset) -> None:
    assert Dataset.of(*given).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    "given",
    [Named(X), Named(PICTURES), Subset(Named(X), range(30)), table(), table(decode=False)],
    ids=["torch", "pictures", "subset", "table", "encoded"],
)
def test_a_dataset_that_knows_the_names_of_its_classes_hands_them_on(given: Any, plain: Dataset) -> None:
    made = Dataset.of(given)
    assert made.classes == CLASSES
    assert made.fingerprint == plain.fingerprint


def test_splits_that_are_given_are_taken_whole_and_described_as_such() -> None:
    made = Dataset.of(
        X[:18], Y[:18], validation=(X[18:24], Y[18:24]), test=TensorDataset(X[24:], Y[24:]), classes=CLASSES
    )
    assert torch.equal(made.train.images, X[:18])
    assert torch.equal(made.validation.images, X[18:24])
    assert torch.equal(made.test.images, X[24:])
    assert made.classes == CLASSES
    described = made.describe()
    assert "validation_share" not in described
    Data.parse(described)  # what a ticket's records may say
    plan = recorded_plan({"data": described})
    assert plan is not None
    assert (plan.dataset, plan.image_size, plan.validation) == ("own-images", 8, 0.1)


def test_a_dict_of_splits_may_lack_the_test_split() -> None:
    both = datasets.DatasetDict(train=table(), validation=table().select(range(6)))
    made = Dataset.of(both, fraction=0.5)
    assert (len(made.train), len(made.validation), len(made.test)) == (12, 6, 6)
    assert torch.equal(made.validation.images, X[:6])


def test_grey_and_larger_images_are_made_to_fit_and_that_is_said() -> None:
    grey = Dataset.of(X[:, :1], Y)
    assert bool((grey.train.images[:, 0] == grey.train.images[:, 2]).all())
    assert "30 grey images repeated to RGB" in grey.notes
    assert Dataset.of(X[:, 0], Y).fingerprint == grey.fingerprint
    mixed = Dataset.of([*X[:15], *torch.full((15, 3, 20, 12), 9, dtype=torch.uint8)], Y, image_size=16)
    assert mixed.train.images.shape[2:] == (16, 16)
    assert "15 images resized to 16x16" in mixed.notes
    assert "15 non-square images cropped at the centre and resized to 16x16" in mixed.notes


def test_a_folder_is_what_load_dataset_makes_of_it(tmp_path: Path) -> None:
    for row, picture in enumerate(PICTURES[:12]):
        place = tmp_path / "pets" / CLASSES[row % 3]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{row}.png")
    made = Dataset.of(tmp_path / "pets", image_size=8)
    assert made.fingerprint == load_dataset(tmp_path / "pets", image_size=8).fingerprint
    assert (made.name, made.classes) == ("pets", CLASSES)
    with pytest.raises(DataError, match="a folder has its own labels"):
        Dataset.of(tmp_path / "pets", Y)
    with pytest.raises(DataError, match=r"nowhere is no folder; names and Hub ids are for load_dataset"):
        Dataset.of("nowhere")


def names(name: str) -> dict[str, Any]:
    return {"images": X, "labels": Y, "name": name}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"images": X.float(), "labels": Y}, r"values from \d+ to 25\d, .* lie in \[0,1\]; divide by 255"),
        ({"images": X / 255 - 0.5, "labels": Y}, r"values from -0.5 to 0.4.*; were they normalised\?"),
        ({"images": X / 255 * torch.nan, "labels": Y}, r"values from nan to nan"),
        ({"images": X / 255 / 255, "labels": Y}, "divided by 255 twice"),
        ({"images": (X / 256).byte(), "labels": Y}, "no pixel of the train images is brighter than 0 of 1"),
        ({"images": X.long(), "labels": Y}, "train image 0 is int64; give uint8 from 0 to 255, or floats in"),
        ({"images": X.permute(0, 2, 3, 1), "labels": Y}, r"shape \[8, 8, 3\].*a batch with permute\(0, 3, 1, 2\)"),
        ({"images": X[0, 0], "labels": Y[:8]}, r"the train images have shape \[8, 8\], not \[n, 3, height, width\]"),
        ({"images": X[..., :4], "labels": Y}, "train image 0 has 4x8 pixels, which is no square; give an image_size"),
        ({"images": [*X[:29], X[0].repeat(1, 2, 2)], "labels": Y}, "29 has 16x16 pixels, and others 8x8; give"),
        ({"images": X[..., :4, :4], "labels": Y}, "images have 4 pixels a side, not 8 to 1024"),
        ({"images": X, "labels": Y + 1}, "run from 1 to 3, and classes are numbered from 0; give labels - 1"),
        ({"images": X, "labels": Y - 1}, "train image 0 has label -1; classes are numbered"),
        ({"images": X, "labels": Y * 2}, "empty class: own-images has no training image of class 1"),
        ({"images": X, "labels": Y.float()}, r"labels are float32 of shape \[30\], not integers"),
        ({"images": X, "labels": torch.eye(3)[Y]}, r"one-hot rows become numbers by labels.argmax\(1\)"),
        ({"images": X, "labels": Y[:, None]}, r"take labels.reshape\(-1\)"),
        ({"images": X, "labels": [CLASSES[label] for label in Y]}, "np.unique"),
        ({"images": X, "labels": Y[:5]}, "the train split has 30 images and 5 labels"),
        ({"images": X}, "images were given without labels"),
        ({"images": X, "labels": Y, "test": (X[:0], Y[:0])}, "own-images has no image in its test split"),
        ({"images": X, "labels": Y, "test": (X[:3], Y[:3] + 1)}, "test row 2 has label 3, but there are 3 classes"),
        ({"images": X, "labels": Y, "classes": ["cat", "dog"]}, "train row 2 has label 2, but there are 2 classes"),
        ({"images": X, "labels": Y, "classes": "abc"}, "classes are given as a list of their names"),
        ({"images": X, "labels": Y, "classes": ["a", "b", "a"]}, "two classes have one name, a"),
        ({"images": X, "labels": Y, "classes": 7}, "classes are given as a list of their names"),
        ({"images": X, "labels": Y, "classes": ["a", "b", ""]}, "the name of a class is no text"),
        ({"images": X, "labels": Y, "classes": ["a", "b", "\udcff"]}, r"the name of a class is no text \('\\udcff'\)"),
        ({"images": X.to("meta"), "labels": Y}, "the train images cannot be read as an array"),
        ({"images": (X / 255).to_sparse(), "labels": Y}, "the train images cannot be read as an array"),
        ({"images": X, "labels": Y, "validation": None}, "validation is a share .* or the split itself, not None"),
        ({"images": X, "labels": Y, "image_size": 0}, "image_size must be a whole number from 1 to 1024, not 0"),
        ({"images": X, "labels": Y, "image_size": 10**9}, "image_size must be a whole number from 1 to 1024"),
        ({"images": X, "labels": Y, "image_size": "8"}, "image_size must be a whole number from 1 to 1024, not '8'"),
        ({"images": X, "labels": Y, "fraction": "1"}, "fraction must be in"),
        ({"images": X, "labels": Y, "split_seed": 1.5}, "split_seed must be a whole number"),
        ({"images": X, "labels": Y, "validation": 1.5}, "validation must be a share between 0 and 1"),
        ({"images": Named(X, 1)}, "train image 0 is another one each time it is asked for; leave random"),
        ({"images": [(X[0],)]}, r"train image 0 is a tuple, not a pair \(image, label\)"),
        ({"images": {"images": X}}, "a dict of splits has 'train', .* not images"),
        ({"images": {"train": (X, Y), "test": (X, Y)}, "test": (X, Y)}, "the test split is given twice"),
        ({"images": 5}, r"the train split is a int; give \(images, labels\)"),
        ({"images": table().remove_columns("label")}, "the train split has no column label, labels or fine_label"),
        (names("cifar10"), "cifar10 is the name of a dataset that others can load"),
        (names("org/name"), "cannot have the name 'org/name'"),
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        Dataset.of(**given)
    assert "\n" not in str(caught.value)


def test_the_dtype_of_pixels_is_kept_to_the_bit() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(30, 3, 1, 1)
    for given in (ramp, ramp.float() / 255, ramp.half() / 255, np.asarray(ramp / 255, dtype=np.float64)):
        assert torch.equal(Dataset.of(given, Y).train.images[0], ramp[0])
