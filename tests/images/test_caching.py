"""Images that are decoded once: the same pixels, whole or not there, by one process of several."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from lottery_hub.errors import DataError
from lottery_hub.images import caching
from lottery_hub.images.datasets import load_dataset
from lottery_hub.images.parquet import open_parquet
from tests import warm


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty pictures of 20 x 16 pixels in two classes, and eight to test on."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 8)):
        for number in range(count):
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (16, 20, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that every dataset goes to, ten images at a time."""
    monkeypatch.setenv("LOTTERY_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caching, "SHARE", 0)
    monkeypatch.setattr(caching, "TOGETHER", 10 * 3 * 8 * 8)
    return tmp_path / "cache"


def load(folder, **how):
    return load_dataset(folder, image_size=8, **how)


def same(one, other):
    splits = ("train", "validation", "test")
    assert one.fingerprint == other.fingerprint
    assert one.notes == other.notes
    return all(torch.equal(getattr(one, split).images, getattr(other, split).images) for split in splits)


def test_pixels_notes_and_fingerprint_are_those_of_decoding_in_memory(pictures, cache, monkeypatch):
    kept = load(pictures)
    monkeypatch.setattr(caching, "SHARE", 1)
    assert same(load(pictures), kept)


def test_a_small_dataset_is_kept_in_no_file(pictures, cache, monkeypatch):
    monkeypatch.setattr(caching, "SHARE", 0.25)
    load(pictures)
    assert not cache.exists()


def test_what_is_decoded_is_not_decoded_again(pictures, cache, monkeypatch):
    first = load(pictures)
    monkeypatch.setattr(caching, "decode_into", None)
    assert same(first, load(pictures))


def test_pixels_that_are_changed_in_memory_stay_as_they_are_in_the_file(pictures, cache):
    load(pictures).train.images.zero_()
    assert load(pictures).train.images.any()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: load(folder, fraction=0.5),
        lambda folder: load(folder, split_seed=1),
        lambda folder: load_dataset(folder, image_size=6),
        lambda folder: os.utime(folder / "train" / "a" / "0.png", (1, 1)) or load(folder),
    ],
    ids=["a fraction", "another split", "another size", "a file that was touched"],
)
def test_other_images_are_others_in_the_cache(change, pictures, cache, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "copy")
    load(folder)
    change(folder)
    assert len(caching.kept()) == 2


def test_it_tells_how_far_it_is(pictures, cache):
    told = []
    load(pictures, on_decoded=lambda ready, total: told.append((ready, total)))
    assert told[-1] == (48, 48)
    assert sorted(told) == told
    assert len(told) == 6, "36 to train on, 4 to validate on and 8 to test on, at most ten at a time"


def test_a_killed_process_leaves_nothing_half_and_what_it_decoded_is_kept(pictures, cache, monkeypatch):
    def stop(ready, total):
        if ready >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(pictures, on_decoded=stop)
    (entry,) = caching.kept()
    assert entry.about is None
    seen = []
    real = caching.decode_into
    monkeypatch.setattr(threading, "active_count", lambda: 2)  # in threads, where it can be counted
    monkeypatch.setattr(caching, "decode_into", lambda pixels, *how: seen.append(len(pixels)) or real(pixels, *how))
    resumed = load(pictures)
    assert 0 < sum(seen) <= 28
    monkeypatch.setattr(caching, "SHARE", 1)
    assert same(load(pictures), resumed)


def test_two_processes_decode_once(pictures, cache):
    program = (
        "import sys; from lottery_hub.images import caching; from lottery_hub.images.datasets import load_dataset\n"
        "caching.SHARE, told = 0, []\n"
        "data = load_dataset(sys.argv[1], image_size=8, on_decoded=lambda *far: told.append(far))\n"
        "print(len(told), data.fingerprint)"
    )
    with ThreadPoolExecutor(2) as both:
        started = [both.submit(warm.run, "-c", program, pictures) for _ in range(2)]
        (one, first), (other, second) = (each.result().stdout.split() for each in started)
    assert sorted((int(one) > 0, int(other) > 0)) == [False, True]
    assert first == second


def test_a_damaged_image_is_named(pictures, cache, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "copy")
    (folder / "train" / "b" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train/b/1\.png is not a readable image"):
        load(folder)


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(pictures, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 100))
    with pytest.raises(DataError, match=r"decoded images take 0\.0 GB and .* LOTTERY_HUB_CACHE"):
        load(pictures)
    assert not list(cache.glob("*/pixels"))


def test_a_place_where_nothing_can_be_written_is_told_with_the_way_out(pictures, cache):
    cache.write_text("a file")
    with pytest.raises(DataError, match="LOTTERY_HUB_CACHE names another folder"):
        load(pictures)


def test_a_file_cut_short_is_made_anew(pictures, cache):
    first = load(pictures)
    (entry,) = caching.kept()
    with (entry.folder / "pixels").open("rb+") as file:
        file.truncate(100)
    assert same(first, load(pictures))


def test_a_dataset_is_removed(pictures, cache):
    load(pictures)
    (entry,) = caching.kept()
    assert entry.size > 0
    caching.remove(entry)
    assert caching.kept() == []
    assert list(cache.iterdir()) == []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked")
def test_a_process_that_decodes_ends_with_the_one_that_forked_it():
    began = time.monotonic()
    child = multiprocessing.get_context("fork").Process(target=caching._end_with, args=(os.getpid() + 1,))
    child.start()
    child.join(10)
    assert child.exitcode == 1
    assert time.monotonic() - began < 10


def test_rows_of_a_parquet_file_are_read_from_their_row_groups(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = [{"bytes": bytes([number]), "path": None} for number in range(23)]
    table = pa.table({"img": pictures, "label": [number % 2 for number in range(23)]})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=5)
    source = open_parquet([tmp_path / "train.parquet"])
    for rows in ([0], [4, 5], [9, 10, 22], [22], [5, 19], list(range(23))):
        found = list(source.encoded(np.array(rows)))
        assert [content for _, content in found] == [bytes([row]) for row in rows]
        assert [where for where, _ in found] == [f"train.parquet row {row}" for row in rows]


def write_imagenet(place, photos, tested):
    """Write so many JPEGs of 500 x 375 pixels in ten classes as the two forms of ImageNet; those tested on are val's.

    `folder` is that of the contest, `hub` the parquet files of its Hub repository, test images without labels included.
    """
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    random, classes = np.random.default_rng(0), [f"n0{1440764 + number}" for number in range(10)]
    rows = {"train": [], "validation": [], "test": []}
    for number in range(photos):
        split, label = "train" if number < photos - tested else "validation", number % 10
        small = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        content = io.BytesIO()
        small.resize((500, 375), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
        file = place / "folder" / ("train" if split == "train" else "val") / classes[label] / f"{number:05}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.getvalue())
        rows[split].append((label, file))
    for split in ("train", "validation"):
        rows[split].sort(key=lambda row: row[1])
    rows["test"] = [(-1, file) for _, file in rows["validation"]]
    (place / "hub" / "data").mkdir(parents=True)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": classes}}
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        for part, chosen in enumerate(np.array_split(np.arange(len(rows[split])), count)):
            labels, files = zip(*(rows[split][row] for row in chosen), strict=True)
            images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
            table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            file = place / "hub" / "data" / f"{split}-{part:05}-of-{count:05}.parquet"
            pq.write_table(table, file, row_group_size=100)


def test_imagenet_is_the_same_from_its_folder_and_from_the_hub_and_decoded_once(tmp_path, cache, monkeypatch):
    write_imagenet(tmp_path, 60, 20)
    monkeypatch.setattr(caching, "TOGETHER", 10 * 3 * 64 * 64)
    folder, hub = (load_dataset(tmp_path / form, image_size=64) for form in ("folder", "hub"))
    assert (len(hub.train), len(hub.validation), len(hub.test)) == (30, 10, 20)
    assert "the test split has no labels: the dataset's validation split serves as test" in hub.notes
    assert "60 non-square images cropped at the centre and resized to 64x64" in hub.notes
    assert hub.fingerprint == folder.fingerprint
    assert hub.classes == folder.classes
    monkeypatch.setattr(caching, "decode_into", None)
    assert same(hub, load_dataset(tmp_path / "hub", image_size=64))
    assert same(folder, load_dataset(tmp_path / "folder", image_size=64))


@pytest.mark.slow
def test_a_large_dataset_is_decoded_once_and_starts_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTERY_HUB_CACHE", str(tmp_path / "cache"))
    write_imagenet(tmp_path, 2000, 200)
    program = (
        "import sys, time; from lottery_hub.images import caching\n"
        "from lottery_hub.images.datasets import load_dataset\n"
        "caching.SHARE, began, told = 0, time.process_time(), []\n"
        "data = load_dataset(sys.argv[1], image_size=256, on_decoded=lambda *far: told.append(far))\n"
        "seconds = time.process_time() - began\n"
        "from lottery_hub.settings.machine import told as tells\n"
        "print(seconds, tells('/proc/self/status', 'RssAnon'), len(told), data.fingerprint)"
    )
    found = set()
    for form in ("folder", "hub"):
        command = [sys.executable, "-c", program, str(tmp_path / form)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(2)]
        assert int(runs[0][2]) > 0
        assert int(runs[1][2]) == 0
        assert float(runs[1][0]) < 2
        assert all(int(memory) < 1e9 for _, memory, *_ in runs)
        found |= {runs[0][3], runs[1][3]}
    assert len(found) == 1
