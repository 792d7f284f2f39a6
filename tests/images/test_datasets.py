"""Datasets: every kind of reference becomes seeded, stratified splits, or one line that says what is wrong."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lottery_hub.errors import DataError
from lottery_hub.images.datasets import Dataset, Split, _carve, _take_fraction, load_dataset, sample
from lottery_hub.images.decoding import Source, Tally, decode
from lottery_hub.images.opening import NAMED
from tests.hub.server import Hub
from tests.hub.worker import Worker

REAL = Path(__file__).parents[3] / "shared" / "data" / "uoft-cs"
needs_real_images = pytest.mark.skipif(not REAL.is_dir(), reason=f"real CIFAR images are not at {REAL}")


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_parquet(
    file: Path,
    labels: Sequence[object],
    *,
    contents: Sequence[object] | None = None,
    names: Sequence[str] | None = ("cat", "dog"),
    columns: tuple[str, str] = ("image", "label"),
) -> None:
    """Write what `datasets` writes: {"bytes", "path"} images and the class names in the schema's metadata."""
    contents = [encoded(picture(i)) for i in range(len(labels))] if contents is None else contents
    image, label = columns
    table = pa.table({image: [{"bytes": c, "path": None} for c in contents], label: pa.array(labels)})
    features: dict[str, object] = {image: {"_type": "Image"}}
    features[label] = {"_type": "ClassLabel", "names": list(names)} if names else {"_type": "Value", "dtype": "int64"}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def write_image(file: Path, image: Image.Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A parquet folder of 20 + 10 training and 4 + 2 test images."""
    write_parquet(tmp_path / "pets" / "data" / "train-00000-of-00001.parquet", [0] * 20 + [1] * 10)
    write_parquet(tmp_path / "pets" / "data" / "test-00000-of-00001.parquet", [0] * 4 + [1] * 2)
    return tmp_path / "pets"


def class_counts(split: Split) -> list[int]:
    return torch.bincount(split.labels).tolist()


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def refusal(ref: Path | str, **kwargs: object) -> str:
    """Load what must be refused, and return the message, which must be one line without absolute paths."""
    with pytest.raises(DataError) as caught:
        load_dataset(str(ref), **kwargs)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message
    return message


# Digits


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_digits_need_no_network_and_come_as_rgb_bytes(digits: Dataset) -> None:
    for split in (digits.train, digits.validation, digits.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (len(split), 3, 32, 32)
        assert split.labels.dtype == torch.int64
        assert len(class_counts(split)) == 10
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1295, 143, 359)
    assert digits.classes == tuple("0123456789")
    assert digits.train.images.max() == 255


def test_digits_report_what_was_done_to_them(digits: Dataset) -> None:
    assert "1797 grey images repeated to RGB" in digits.notes
    assert "1797 images resized to 32x32" in digits.notes
    assert any("no test split" in note for note in digits.notes)


def test_digits_at_their_own_size_are_their_grey_levels_scaled() -> None:
    from sklearn.datasets import load_digits

    small = load_dataset("digits", image_size=8)
    ours = np.concatenate([s.images.numpy() for s in (small.train, small.validation, small.test)])
    levels = np.sort((ours[:, 0].astype(np.int64) * 16 / 255).round().reshape(len(ours), -1), axis=None)
    np.testing.assert_array_equal(levels, np.sort(load_digits().images, axis=None))
    assert (ours[:, 0] == ours[:, 1]).all()
    assert (ours[:, 0] == ours[:, 2]).all()


def test_the_three_splits_share_no_image(digits: Dataset) -> None:
    # Each of the bundled digits is drawn once.
    assert not rows(digits.train) & rows(digits.test)
    assert not rows(digits.train) & rows(digits.validation)
    assert not rows(digits.validation) & rows(digits.test)


def test_the_same_seed_gives_the_same_fingerprint_and_another_seed_another(digits: Dataset) -> None:
    assert load_dataset("digits").fingerprint == digits.fingerprint
    assert load_dataset("digits", split_seed=1).fingerprint != digits.fingerprint
    assert digits.fingerprint.startswith("sha256:")


def test_the_description_is_json(digits: Dataset) -> None:
    described = json.loads(json.dumps(digits.describe()))
    assert described["name"] == "digits"
    assert (described["train"], described["validation"], described["test"]) == (1295, 143, 359)
    assert (described["image_size"], described["classes"], described["revision"]) == (32, 10, None)


# Splits and fractions


def test_fractions_are_stratified_nested_and_leave_the_other_splits_alone(digits: Dataset) -> None:
    tenth, hundredth = load_dataset("digits", fraction=0.1), load_dataset("digits", fraction=0.01)
    assert rows(hundredth.train) < rows(tenth.train) < rows(digits.train)
    assert class_counts(tenth.train) == [round(0.1 * n) for n in class_counts(digits.train)]
    for other in (tenth, hundredth):
        assert torch.equal(other.validation.images, digits.validation.images)
        assert torch.equal(other.test.images, digits.test.images)
        assert other.fingerprint != digits.fingerprint


def test_a_fraction_that_rounds_to_nothing_keeps_one_image_a_class_and_says_so(pets: Path) -> None:
    tiny = load_dataset(str(pets), fraction=0.01)
    assert class_counts(tiny.train) == [1, 1]
    assert any("rounds to no image in 2 classes" in note for note in tiny.notes)


LABELS = st.lists(st.integers(2, 40), min_size=1, max_size=6).map(lambda n: np.repeat(np.arange(len(n)), n))


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_carving_divides_every_class_in_the_same_proportion(labels: np.ndarray, share: float, seed: int) -> None:
    classes = [str(i) for i in range(labels.max() + 1)]
    kept, carved = _carve(labels, np.arange(len(labels)), share, (seed, 0), classes)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, carved])), np.arange(len(labels)))
    for label in range(len(classes)):
        n, held = int((labels == label).sum()), int((labels[carved] == label).sum())
        assert 1 <= held <= n - 1
        assert held in (1, n - 1) or abs(held - share * n) <= 0.5


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, fractions=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)), seed=st.integers(0, 99))
def test_a_smaller_fraction_is_always_inside_a_larger_one(
    labels: np.ndarray, fractions: tuple[float, float], seed: int
) -> None:
    everything = np.arange(len(labels))
    small, large = (
        set(_take_fraction(labels, everything, f, (seed, 0), labels.max() + 1)[0].tolist()) for f in sorted(fractions)
    )
    assert small <= large
    assert {labels[i] for i in small} == set(labels)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    assert "fraction must be in (0, 1]" in refusal("digits", fraction=fraction)


def test_other_settings_outside_their_range_are_refused() -> None:
    assert "image_size" in refusal("digits", image_size=0)
    assert "validation" in refusal("digits", validation=1)
    assert "split_seed" in refusal("digits", split_seed=-1)
    assert "no revisions" in refusal("digits", revision="main")


# Parquet


@pytest.mark.parametrize(
    "features",
    ['{"a":' * 3000 + "1" + "}" * 3000, "[1]", "null", '{"label": {"_type": "ClassLabel", "num_classes": "many"}}'],
    ids=["deep", "a list", "null", "no number"],
)
def test_a_schema_that_says_nothing_of_use_leaves_the_usual_names_and_numbers(tmp_path: Path, features: str) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2] * 4, names=None)
    file = tmp_path / "train-0.parquet"
    said = {"huggingface": f'{{"info": {{"features": {features}}}}}'}
    pq.write_table(pq.read_table(file).replace_schema_metadata(said), file)
    assert load_dataset(str(tmp_path)).classes == ("0", "1", "2")


def test_a_parquet_folder_loads_with_the_class_names_of_its_schema(pets: Path) -> None:
    loaded = load_dataset(str(pets))
    assert loaded.name == "pets"
    assert loaded.revision is None
    assert loaded.classes == ("cat", "dog")
    assert class_counts(loaded.train) == [18, 9]
    assert class_counts(loaded.validation) == [2, 1]
    assert class_counts(loaded.test) == [4, 2]
    assert loaded.notes == ()


def test_images_of_the_wanted_size_are_delivered_bit_for_bit(pets: Path) -> None:
    expected = np.asarray(picture(3)).transpose(2, 0, 1)
    np.testing.assert_array_equal(load_dataset(str(pets)).test.images[3].numpy(), expected)


def test_a_file_written_by_the_datasets_library_loads_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    written = datasets.Dataset.from_dict({"img": [picture(i) for i in range(8)], "label": [0, 1] * 4}, features)
    (tmp_path / "ours").mkdir()
    written.to_parquet(tmp_path / "ours" / "train-00000-of-00001.parquet")
    written.to_parquet(tmp_path / "ours" / "test-00000-of-00001.parquet")
    loaded = load_dataset(str(tmp_path / "ours"))
    assert loaded.classes == ("cat", "dog")
    assert loaded.test.labels.tolist() == [0, 1] * 4
    np.testing.assert_array_equal(loaded.test.images[5].numpy(), np.asarray(picture(5)).transpose(2, 0, 1))


def test_a_read_only_folder_is_read_and_nothing_is_written_into_it(pets: Path) -> None:
    before = sorted(pets.rglob("*"))
    for folder in (pets / "data", pets):
        folder.chmod(0o555)
    try:
        load_dataset(str(pets))
        assert sorted(pets.rglob("*")) == before
    finally:
        for folder in (pets, pets / "data"):
            folder.chmod(0o755)


def test_several_files_of_a_split_are_one_split_in_order(tmp_path: Path) -> None:
    for i in range(3):
        contents = [encoded(picture(10 * i + j)) for j in range(4)]
        write_parquet(tmp_path / f"test-0000{i}-of-00003.parquet", [0, 1, 0, 1], contents=contents)
        write_parquet(tmp_path / "train" / f"000{i}.parquet", [0, 1, 0, 1], contents=contents)
    test = load_dataset(str(tmp_path)).test
    assert len(test) == 12
    np.testing.assert_array_equal(test.images[9].numpy(), np.asarray(picture(21)).transpose(2, 0, 1))


def test_a_series_with_a_missing_file_is_refused(pets: Path) -> None:
    (pets / "data" / "train-00000-of-00001.parquet").rename(pets / "data" / "train-00000-of-00002.parquet")
    assert "1 of the 2 files" in refusal(pets)


def test_without_a_test_split_the_validation_split_serves_and_without_either_a_fifth_is_carved(pets: Path) -> None:
    test = pets / "data" / "test-00000-of-00001.parquet"
    test.rename(test.with_name("valid-00000-of-00001.parquet"))
    loaded = load_dataset(str(pets))
    assert class_counts(loaded.test) == [4, 2]
    assert "no test split: the dataset's validation split serves as test" in loaded.notes
    test.with_name("valid-00000-of-00001.parquet").unlink()
    loaded = load_dataset(str(pets))
    assert class_counts(loaded.test) == [4, 2]
    assert class_counts(loaded.train) == [14, 7]
    assert any("no test split: 6 training images" in note for note in loaded.notes)


def test_an_unused_validation_split_is_reported(pets: Path) -> None:
    write_parquet(pets / "data" / "validation-00000-of-00001.parquet", [0, 1])
    assert any("validation split is not used" in note for note in load_dataset(str(pets)).notes)


def test_a_folder_of_several_datasets_names_the_choices(tmp_path: Path) -> None:
    for config in ("big", "small"):
        write_parquet(tmp_path / "sets" / config / "train-0.parquet", [0, 1] * 4)
    message = refusal(tmp_path / "sets")
    assert "sets/big, sets/small" in message
    assert load_dataset(str(tmp_path / "sets" / "small")).name == "small"


def test_a_folder_that_ends_in_a_known_hub_id_uses_its_columns_and_its_set(tmp_path: Path) -> None:
    folder = tmp_path / "uoft-cs" / "cifar100"
    for split in ("train", "test"):
        labels = list(range(100)) * 2
        write_parquet(
            folder / "cifar100" / f"{split}-00000-of-00001.parquet", labels, columns=("img", "fine_label"), names=None
        )
        write_parquet(folder / "another" / f"{split}-00000-of-00001.parquet", [0, 1])
    loaded = load_dataset(str(folder))
    assert loaded.name == "cifar100"
    assert len(loaded.classes) == 100


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2] * 4, names=None)
    assert load_dataset(str(tmp_path)).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [(("image", "species"), "no column label, labels or fine_label"), (("sound", "label"), "no image column")],
)
def test_a_missing_column_is_named_with_the_columns_there_are(
    tmp_path: Path, columns: tuple[str, str], complaint: str
) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4, columns=columns, names=None)
    file = tmp_path / "train-0.parquet"
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    message = refusal(tmp_path)
    assert complaint in message
    assert f"its columns are {', '.join(columns)}" in message


def test_a_known_set_without_its_column_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "uoft-cs" / "cifar10"
    write_parquet(folder / "plain_text" / "train-0.parquet", [0, 1] * 4)
    assert "no column 'img'; its columns are image, label" in refusal(folder)


def test_a_later_file_of_a_split_without_the_column_is_refused(pets: Path) -> None:
    write_parquet(pets / "data" / "train-more.parquet", [0, 1], columns=("image", "species"))
    assert "train-more.parquet has no column 'label'" in refusal(pets)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 1, -1, 0], "train-0.parquet row 2: label -1 is out of range (0 to 1)"),
        ([0, 1, 0, 2], "train-0.parquet row 3: label 2 is out of range (0 to 1)"),
        ([0, 1, None, 1], "train-0.parquet row 2 has no label"),
        ([0.5, 1.0, 0.0, 1.0], "is double, not an integer"),
        (["cat", "dog", "cat", "dog"], "label cat in column label is string, not an integer"),
    ],
)
def test_a_label_that_is_no_class_number_is_refused_with_its_row(
    tmp_path: Path, labels: list[object], complaint: str
) -> None:
    write_parquet(tmp_path / "train-0.parquet", labels)
    assert complaint in refusal(tmp_path)


def test_a_test_label_beyond_the_training_classes_is_refused_with_its_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4, names=None)
    write_parquet(tmp_path / "test-0.parquet", [0, 5], names=None)
    assert "test row 1 has label 5, but there are 2 classes" in refusal(tmp_path)


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 2] * 4, names=("cat", "dog", "eel"))
    assert "empty class" in refusal(tmp_path)
    assert "class dog" in refusal(tmp_path)
    write_parquet(tmp_path / "train-0.parquet", [0, 1_000_000_000] * 4, names=None)
    assert "no training image of class 1" in refusal(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 0, 0, 1])
    assert "class dog has too few training images" in refusal(tmp_path)


def test_train_and_test_that_name_different_classes_are_refused(pets: Path) -> None:
    write_parquet(pets / "data" / "test-00000-of-00001.parquet", [0, 1], names=("dog", "cat"))
    assert "list different classes" in refusal(pets)


def test_empty_splits_are_refused(pets: Path) -> None:
    write_parquet(pets / "data" / "test-00000-of-00001.parquet", pa.array([], pa.int64()))
    assert "no image in its test split" in refusal(pets)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good[: len(good) // 2],
        lambda good: b"",
        lambda good: b"not an image",
        lambda good: good[:60] + bytes(40) + good[100:],
    ],
    ids=["truncated", "empty", "text", "overwritten"],
)
def test_a_corrupt_image_is_refused_with_its_row_and_never_skipped(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    contents = [encoded(picture(i)) for i in range(8)]
    contents[5] = spoil(contents[5])
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4, contents=contents)
    assert "train-0.parquet row 5 is not a readable image" in refusal(tmp_path)


def test_a_missing_image_is_refused_with_its_row(tmp_path: Path) -> None:
    contents = [*(encoded(picture(i)) for i in range(7)), None]
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4, contents=contents)
    assert "train-0.parquet row 7 has no image bytes" in refusal(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on what it could read anyway
@settings(max_examples=200, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]))
def test_damage_anywhere_in_an_image_gives_pixels_or_a_data_error(data: st.DataObject, kind: str) -> None:
    from lottery_hub.images.decoding import Tally, _decode_one

    damaged = bytearray(encoded(picture(0, size=(9, 9)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert _decode_one(bytes(damaged), 8, Tally(), "here").shape == (3, 8, 8)
    except DataError as e:
        assert str(e).startswith("here ")  # noqa: PT017 - most damage goes unnoticed, so there may be no error


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 nothing of use PAR1" * 9])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train-0.parquet").write_bytes(content)
    assert "train-0.parquet is not a readable parquet file" in refusal(tmp_path)


def test_a_parquet_file_with_damaged_pages_is_refused(pets: Path) -> None:
    file = pets / "data" / "train-00000-of-00001.parquet"
    content = bytearray(file.read_bytes())
    content[4:4000] = bytes(3996)
    file.write_bytes(content)
    assert "train-00000-of-00001.parquet" in refusal(pets)


def test_parquet_that_is_no_training_split_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "everything.parquet", [0, 1])
    assert "has no training files; expected train-*.parquet" in refusal(tmp_path)


# Image folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, n in (("train", 10), ("test", 3)):
        for label, name in enumerate(("ant", "bee")):
            for i in range(n):
                write_image(tmp_path / "photos" / split / name / f"{i}.png", picture(100 * label + 10 * i + n))
    return tmp_path / "photos"


def test_a_name_from_records_is_looked_for_on_no_disk(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no dataset"):
        load_dataset(str(photos), local=False)
    monkeypatch.chdir(photos.parent)
    photos.rename(photos.with_name("digits"))
    assert len(load_dataset("digits", image_size=8, local=False).test) > 300


def test_an_image_folder_loads_with_its_folders_as_classes(photos: Path) -> None:
    (photos / "train" / "ant" / "notes.txt").write_text("not an image")
    (photos / "train" / ".hidden").mkdir()
    loaded = load_dataset(str(photos))
    assert (loaded.name, loaded.classes) == ("photos", ("ant", "bee"))
    assert class_counts(loaded.train) == [9, 9]
    assert class_counts(loaded.test) == [3, 3]
    np.testing.assert_array_equal(loaded.test.images[4].numpy(), np.asarray(picture(113)).transpose(2, 0, 1))


def test_class_folders_alone_have_their_test_split_carved(photos: Path) -> None:
    loaded = load_dataset(str(photos / "train"))
    assert (class_counts(loaded.train), class_counts(loaded.test)) == ([7, 7], [2, 2])


def test_a_val_folder_serves_as_test(photos: Path) -> None:
    (photos / "test").rename(photos / "val")
    assert class_counts(load_dataset(str(photos)).test) == [3, 3]


def test_an_empty_class_folder_is_refused(photos: Path) -> None:
    for split in ("train", "test"):
        (photos / split / "cow").mkdir()
    assert "empty class: train/cow" in refusal(photos)


def test_class_folders_of_train_and_test_must_agree(photos: Path) -> None:
    write_image(photos / "test" / "cow" / "0.png", picture(0))
    assert "class cow is in only one of train and test" in refusal(photos)


def test_a_corrupt_file_is_refused_by_name(photos: Path) -> None:
    (photos / "train" / "bee" / "4.png").write_bytes(b"\x89PNG and then nothing")
    assert "train/bee/4.png is not a readable image" in refusal(photos)


def test_a_name_with_escape_codes_is_printed_without_them(photos: Path) -> None:
    (photos / "train" / "bee" / "\x1b[31m.png").write_bytes(b"")
    assert "\\x1b[31m.png" in refusal(photos)


def test_a_folder_with_neither_parquet_nor_classes_is_refused(tmp_path: Path) -> None:
    assert "neither parquet files nor class folders" in refusal(tmp_path)


# Conversions


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "12 grey images repeated to RGB"),
        ("1", "12 grey images repeated to RGB"),
        ("P", "12 palette images converted to RGB"),
        ("RGBA", "12 images with transparency made opaque"),
        ("LA", "12 images with transparency made opaque"),
    ],
)
def test_conversions_to_rgb_are_counted(tmp_path: Path, mode: str, note: str) -> None:
    images = [picture(i, mode) for i in range(12)]
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 6, contents=[encoded(image) for image in images])
    loaded = load_dataset(str(tmp_path))
    assert note in loaded.notes
    expected = {np.asarray(image.convert("RGBA").convert("RGB")).transpose(2, 0, 1).tobytes() for image in images}
    assert rows(loaded.train) < expected


def test_sixteen_bit_grey_is_scaled_instead_of_clipped(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    contents = [encoded(Image.fromarray(levels))] * 10
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 5, contents=contents)
    loaded = load_dataset(str(tmp_path))
    np.testing.assert_array_equal(loaded.test.images[0, 1].numpy(), np.rint(levels / 257))
    assert "10 16-bit grey images scaled to 8 bits and repeated to RGB" in loaded.notes


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    contents = [encoded(picture(i, "F"), "TIFF") for i in range(8)]
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4, contents=contents)
    assert "has floating-point pixels" in refusal(tmp_path)


def test_larger_images_are_resized_and_counted(pets: Path) -> None:
    loaded = load_dataset(str(pets), image_size=16)
    assert loaded.train.images.shape == (27, 3, 16, 16)
    assert loaded.notes == ("36 images resized to 16x16",)


def test_an_oblong_image_keeps_its_centre_and_is_counted(tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste(picture(7), (32, 0))
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "test-0.parquet", [0, 1], contents=[encoded(wide), encoded(tall)])
    loaded = load_dataset(str(tmp_path))
    centre = picture(7)
    np.testing.assert_array_equal(loaded.test.images[0].numpy(), np.asarray(centre).transpose(2, 0, 1))
    turned = centre.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(loaded.test.images[1].numpy(), np.asarray(turned).transpose(2, 0, 1))
    assert loaded.notes == ("2 non-square images cropped at the centre and resized to 32x32",)


# References


@pytest.mark.parametrize("ref", ["nope", "", "/no/such/folder", "./also/not", "a\0b", "x" * 5000, "../..x/y"])
def test_an_unknown_reference_lists_the_names(ref: str) -> None:
    message = refusal(ref)
    assert "digits, cifar10, cifar100, svhn, mnist, tiny-imagenet" in message
    assert "\0" not in message


def test_every_named_set_says_which_files_to_fetch() -> None:
    assert NAMED["cifar10"].patterns == ("plain_text/train-*.parquet", "plain_text/test-*.parquet")
    assert NAMED["tiny-imagenet"].patterns[1] == "data/valid-*.parquet"


def test_importing_the_module_imports_neither_datasets_nor_pyarrow_nor_the_client() -> None:
    code = (
        "import sys, lottery_hub.images.datasets\n"
        "loaded = {'datasets', 'pyarrow', 'huggingface_hub', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_real_images
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_real_cifar_loads_by_its_folder_bit_for_bit(name: str, classes: int) -> None:
    loaded = load_dataset(str(REAL / name))
    assert loaded.name == name
    assert len(loaded.classes) == classes
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (5400, 600, 1000)
    assert loaded.notes == ()
    row = NAMED[name]
    table = pq.read_table(REAL / name / row.config / "test-00000-of-00001.parquet")
    assert loaded.test.labels.tolist() == table[row.label].to_pylist()
    with Image.open(io.BytesIO(table[row.image][123].as_py()["bytes"])) as image:
        np.testing.assert_array_equal(loaded.test.images[123].numpy(), np.asarray(image).transpose(2, 0, 1))


def test_a_sample_is_seeded_without_repeats_and_in_order() -> None:
    split = Split(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 1, 1), torch.arange(10))
    drawn = sample(split, 4, seed=0)
    labels = drawn.labels.tolist()
    assert labels == sorted(set(labels))
    assert drawn.images[:, 0, 0, 0].tolist() == labels
    assert sample(split, 4, seed=0).labels.tolist() == labels
    assert any(sample(split, 4, seed=seed).labels.tolist() != labels for seed in range(1, 5))
    assert sample(split, 10, seed=0).labels.tolist() == list(range(10))
    with pytest.raises(DataError, match="there are 10 test images, not 11"):
        sample(split, 11, seed=0)


# What is there and is not used, and other people's ways


@pytest.mark.parametrize("word", ["testing", "Eval", "evaluation", "test1", "test_2024"])
def test_a_test_split_has_any_name_that_datasets_knows(tmp_path: Path, word: str) -> None:
    for split, count in (("train", 12), (word, 3)):
        for i in range(count):
            for name in ("cat", "dog"):
                write_image(tmp_path / "folder" / split / name / f"{i}.png", picture(i))
    write_parquet(tmp_path / "parquet" / "train-0.parquet", [0] * 12 + [1] * 12)
    write_parquet(tmp_path / "parquet" / f"{word}-0.parquet", [0] * 3 + [1] * 3)
    for data in (load_dataset(str(tmp_path / "folder")), load_dataset(str(tmp_path / "parquet"))):
        assert len(data.test) == 6
        assert not any("not used" in note or "test split" in note for note in data.notes)


def test_a_dev_folder_is_a_validation_split_and_the_usual_word_goes_before_another(photos: Path) -> None:
    (photos / "test").rename(photos / "dev")
    assert "no test split: the dataset's validation split serves as test" in load_dataset(str(photos)).notes
    write_image(photos / "eval" / "ant" / "0.png", picture(1))
    write_image(photos / "eval" / "bee" / "0.png", picture(2))
    (photos / "dev").rename(photos / "test")
    data = load_dataset(str(photos))
    assert len(data.test) > 2
    assert "1 file or folder is not used: eval/" in data.notes


def test_whatever_is_not_used_is_counted_and_named(photos: Path) -> None:
    write_image(photos / "holdout" / "ant" / "0.png", picture(1))
    (photos / "README.txt").write_text("about")
    (photos / "train" / "ant" / "notes\x1b[31m.doc").write_text("about")
    (photos / "train" / "list.csv").write_text("about")
    (photos / ".hidden").write_text("about")
    (note,) = (note for note in load_dataset(str(photos)).notes if "not used" in note)
    assert note == (
        "4 files and folders are not used: README.txt, holdout/, train/list.csv, train/ant/notes\\x1b[31m.doc"
    )


def test_many_files_that_are_not_used_are_counted_and_five_are_named(pets: Path) -> None:
    for i in range(9):
        (pets / f"other{i}.txt").write_text("about")
    (note,) = (note for note in load_dataset(str(pets)).notes if "not used" in note)
    assert note.startswith("9 files and folders are not used: ")
    assert note.endswith(", and 4 more")


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "JPEG"), ("avif", "AVIF"), ("jp2", "JPEG2000"), ("JPE", "JPEG")])
def test_pictures_of_every_ending_are_read(photos: Path, suffix: str, kind: str) -> None:
    before = len(load_dataset(str(photos)).train)
    for i in range(10):
        (photos / "train" / "ant" / f"more{i}.{suffix}").write_bytes(encoded(picture(i), kind))
    assert len(load_dataset(str(photos)).train) == before + 9  # one of ten is held out


def test_pictures_in_folders_inside_a_class_are_of_that_class(photos: Path) -> None:
    before = load_dataset(str(photos))
    for i in range(10):
        write_image(photos / "train" / "bee" / "more" / f"{i}.png", picture(100 + i))
    after = load_dataset(str(photos))
    assert class_counts(after.train)[1] == class_counts(before.train)[1] + 9
    assert class_counts(after.train)[0] == class_counts(before.train)[0]


def test_a_link_that_leads_nowhere_is_refused_by_name(photos: Path) -> None:
    (photos / "train" / "ant" / "link.png").symlink_to("nowhere.png")
    assert refusal(photos) == "ant/link.png is a link that leads nowhere; mend or remove it"


def test_class_folders_whose_names_differ_in_their_unicode_form_alone_are_one_class(photos: Path) -> None:
    (photos / "train" / "ant").rename(photos / "train" / "caf\u00e9")
    (photos / "test" / "ant").rename(photos / "test" / "cafe\u0301")
    assert load_dataset(str(photos)).classes == ("bee", "caf\u00e9")


def test_test_images_without_labels_do_not_win_over_validation_images_with_them(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pq" / "train-0.parquet", [0] * 12 + [1] * 12)
    write_parquet(tmp_path / "pq" / "validation-0.parquet", [0] * 3 + [1] * 4)
    write_parquet(tmp_path / "pq" / "test-0.parquet", [-1] * 5)
    for i in range(12):
        for name in ("cat", "dog"):
            write_image(tmp_path / "folder" / "train" / name / f"{i}.png", picture(i))
            write_image(tmp_path / "folder" / "val" / name / f"{i}.png", picture(i))
        write_image(tmp_path / "folder" / "test" / f"{i}.png", picture(i))
    for folder, count in (("pq", 7), ("folder", 24)):
        data = load_dataset(str(tmp_path / folder))
        assert len(data.test) == count
        assert "the test split has no labels: the dataset's validation split serves as test" in data.notes
    (tmp_path / "pq" / "validation-0.parquet").unlink()
    data = load_dataset(str(tmp_path / "pq"))
    assert "the test split has no labels and is not used" in data.notes
    assert len(data.test) == 4


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4242\n"


def test_a_git_lfs_pointer_is_called_what_it_is(photos: Path, pets: Path) -> None:
    (photos / "train" / "ant" / "0.png").write_bytes(POINTER)
    assert "is a Git LFS pointer, not the file itself; run `git lfs pull`" in refusal(photos)
    (pets / "data" / "train-00000-of-00001.parquet").write_bytes(POINTER)
    assert "train-00000-of-00001.parquet is a Git LFS pointer" in refusal(pets)


def test_a_folder_of_save_to_disk_is_told_how_to_become_parquet(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    (tmp_path / "saved" / "train").mkdir()
    assert "save_to_disk" in refusal(tmp_path / "saved")
    assert "to_parquet" in refusal(tmp_path / "saved")


# Metadata of pictures


def tiff(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return a TIFF directory in Intel order: (tag, type, count, four bytes of value) each."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """Return a JPEG with this content of its APP1 segment."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


SIDEWAYS = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
BROKEN_MAKE = (0x010F, 5, 1, struct.pack("<I", 9999))
HEADER = b"Exif\0\0"


def two_of_each(folder: Path, content: bytes, suffix: str = "jpg") -> Dataset:
    for name in ("cat", "dog"):
        for i in range(4):
            file = folder / name / f"{i}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return load_dataset(str(folder))


@pytest.mark.parametrize("exif", [tiff(SIDEWAYS), tiff(BROKEN_MAKE, SIDEWAYS), HEADER + tiff(SIDEWAYS)])
def test_a_photo_that_lies_on_its_side_is_turned_whatever_else_its_metadata_says(tmp_path: Path, exif: bytes) -> None:
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :, 0] = 255  # red above
    lying = Image.fromarray(np.rot90(upright).copy())  # a quarter turn to the left; orientation 6 turns it back
    data = two_of_each(tmp_path / "photos", with_exif(encoded(lying, "JPEG"), HEADER + exif))
    assert data.train.images[0, 0, :12].min() > 200
    assert data.train.images[0, 0, 20:].max() < 60
    assert not any("metadata" in note for note in data.notes)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        tiff((0x0112, 3, 2, struct.pack("<HH", 6, 6))),
        tiff((0x0112, 3, 1, struct.pack("<HH", 9, 0))),
        tiff(SIDEWAYS)[:14],
        b"II*\0" + struct.pack("<I", 2**32 - 1),
    ],
)
def test_damaged_metadata_is_ignored_and_counted(tmp_path: Path, exif: bytes) -> None:
    data = two_of_each(tmp_path / "photos", with_exif(encoded(picture(1), "JPEG"), HEADER + exif))
    assert "8 images with damaged metadata: metadata ignored" in data.notes


def test_a_png_whose_metadata_has_no_header_loads(tmp_path: Path) -> None:
    data = b"\0\x08\0\2\1\x12\0\3\0\0\0\1"
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    png = encoded(picture(1))
    assert len(two_of_each(tmp_path / "photos", png[:33] + chunk + png[33:], "png").train) > 0


@given(exif=st.binary(max_size=60), kind=st.sampled_from(["JPEG", "PNG", "WEBP"]))
@settings(deadline=None, max_examples=150)
def test_no_metadata_whatever_keeps_sound_pixels_from_being_read(exif: bytes, kind: str) -> None:
    plain, tally = picture(3), Tally()
    buffer = io.BytesIO()
    plain.save(buffer, kind, exif=exif)
    source = Source(np.zeros(1, np.int64), None, lambda rows: iter([("picture", buffer.getvalue())]))
    assert decode(source, np.arange(1), 32, tally).shape == (1, 3, 32, 32)


def test_what_a_decoder_raises_is_one_line_with_the_files_name(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'read'")

    monkeypatch.setattr(Image, "open", fail)
    assert refusal(photos).startswith("train/ant/")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), "not uint8 from 0 to 255"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "permute"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "not .n, 3, height, width."),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), "labels are torch.float32"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "one for each of 2 images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, -1]), "classes are numbered from 0"),
    ],
)
def test_a_split_of_another_kind_is_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def test_a_repository_of_plain_pictures_says_how_to_get_them(tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        pictures = {f"train/{name}/0.png": encoded(picture(1)) for name in ("cat", "dog")}
        hub.store.commit("datasets/org/pets", pictures | {"README.md": b"pets"})
        hub.store.commit("datasets/org/table", {"train.csv": b"a,b"})
        with Worker(hub.environment(tmp_path / "home")) as worker:
            told = worker("lottery_hub.images.datasets:load_dataset", "org/pets")
            other = worker("lottery_hub.images.datasets:load_dataset", "org/table")
    assert told["error"] == (
        "org/pets holds plain pictures and no parquet; fetch them with `hf download --repo-type dataset org/pets "
        "--local-dir FOLDER` and give the folder"
    )
    assert other["kind"] == "NoSuchFilesError"
    assert "has no file matching '*.parquet'" in other["error"]
