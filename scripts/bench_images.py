"""Measure how fast images are decoded into the cache, by one process and by all cores, and read from it again.

    python scripts/bench_images.py                   2,000 JPEGs of 500x375 pixels, made for the purpose
    python scripts/bench_images.py --folder FOLDER   those of a folder, as `train/<class>/*` or `<class>/*`
    python scripts/bench_images.py --busy            on a machine that others use too: one process, by its own time

Photos made here are noise of several sizes, about as large a file as a photo of so many pixels is. They are decoded as
`lottery_hub.images.caching` does it, into a folder that is removed again: first by one process, then by as many as
there are cores. Batches of random images are read by one thread, as for training on a GPU into memory that is kept
for the next; what counts is the second time, when all of the file is in memory and mapped. It wants as much free disk
and memory as the images take, 0.4 GB for 2,000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from lottery_hub.images import caching
from lottery_hub.images.datasets import Dataset, load_dataset
from lottery_hub.settings import machine

Clock = Callable[[], float]  # in seconds
SHAPE = 375, 500  # height and width of a photo, in pixels: ImageNet's median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="photos at hand; none are made then")
    parser.add_argument("--images", type=int, default=2000, help="to make, 30 or more")
    parser.add_argument("--side", type=int, default=256, help="in pixels, of what is stored")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 2048], help="images in a batch")
    parser.add_argument("--busy", action="store_true", help="count the processor's time for one process")
    options = parser.parse_args()
    clock = time.process_time if options.busy else time.perf_counter
    torch.set_num_threads(1)  # of several GPUs' processes none has all cores
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or photos(Path(place) / "photos", options.images)
        files = [file for file in folder.rglob("*") if file.is_file()]
        mean = sum(file.stat().st_size for file in files) / len(files)
        print(f"{len(files):,} photos of {mean / 1000:.0f} KB, stored at {options.side}x{options.side} pixels")
        rates: list[float] = []
        for workers in dict.fromkeys((1, 1 if options.busy else machine.cores())):
            cache = Path(place) / f"cache-{workers}"
            seconds, data = loaded(folder, options.side, cache, workers, clock)
            rates.append(len(files) / seconds)
            print(f"decoded by {workers}: {rates[-1]:,.0f} images/s, {rates[-1] / rates[0] / workers:.0%} of 1's each")
        print(f"second start: {loaded(folder, options.side, cache, 1, clock)[0]:.2f} s")
        for size in options.batches:
            first, again = (gigabytes(data, size, clock) for _ in range(2))
            print(f"batches of {size:,}: {again:.2f} GB/s, {first:.2f} the first time")


def photos(folder: Path, count: int) -> Path:
    """Write so many JPEGs in ten classes."""
    random, (height, width) = np.random.default_rng(0), SHAPE
    for number in range(count):
        seen = np.zeros((height, width, 3))
        for sides, strength in (((6, 8), 60), ((24, 32), 30), ((94, 125), 15), ((height, width), 34)):
            noise = Image.fromarray(random.integers(0, 256, (*sides, 3), dtype=np.uint8))
            seen += (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1) * strength
        file = folder / f"class-{number % 10}" / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((seen + 128).clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return folder


def loaded(folder: Path, side: int, cache: Path, workers: int, clock: Clock) -> tuple[float, Dataset]:
    """Return the images of a folder, kept in a cache, and the seconds until they were there."""
    with (
        patch.dict(os.environ, LOTTERY_HUB_CACHE=str(cache)),
        patch.object(caching, "SHARE", 0),
        patch.object(caching, "TOGETHER", 2**23),  # small enough that a few photos are something for every core
        patch.object(machine, "cores", lambda: workers),
    ):
        began = clock()
        data = load_dataset(folder, image_size=side)
        return clock() - began, data


def gigabytes(data: Dataset, batch: int, clock: Clock) -> float:
    """Return the gigabytes a second, the median of an epoch's batches, at which random images are read."""
    images, rates = data.train.images, []
    place = images.index_select(0, torch.arange(min(batch, len(images))))
    for rows in torch.randperm(len(images)).split(batch):
        began = clock()
        read = torch.index_select(images, 0, rows, out=place[: len(rows)])
        rates.append(read.nbytes / 1e9 / (clock() - began))
    return statistics.median(rates)


if __name__ == "__main__":
    main()
