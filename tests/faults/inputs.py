"""Metadata of pictures, checkpoints and terminals by the number: what is sound is read, and all else is one line.

    python tests/faults/inputs.py --seed 0

    exif          pictures whose pixels are sound and whose EXIF is not, as JPEG, PNG and WebP: each is read
    checkpoints   one byte flipped, anywhere in a checkpoint's file: refused in one line, never read as something else
    runs          one byte flipped in a file of a finished find: it ends as before, or is refused in one line
    terminals     commands that print tables, in three encodings at four widths: they end well, with the same numbers

The last line is one JSON object: how many cases of each ended how, and the first failures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "lottery-hub-inputs-have-no-cache")
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from attempts import REFUSED, RIGHT, Ending, WrongWordsError, attempt
from material import found_in, material, plan_of
from PIL import Image

from lottery_hub import cli
from lottery_hub.errors import DamageWarning
from lottery_hub.finding import find
from lottery_hub.images.decoding import Source, Tally, decode
from lottery_hub.storage import checkpoints

FORMATS = ("JPEG", "PNG", "WEBP")
ENCODINGS, WIDTHS = ("ascii", "latin-1", "cp1252"), (40, 60, 80, 120)

Case = tuple[str, Ending]  # what kind it was, and how it ended


def exif(count: int, rng: random.Random) -> Iterator[Case]:
    """Read pictures whose metadata is noise, or a directory with noise in it."""
    pixels = np.asarray([[(8 * x, 8 * y, 99) for x in range(24)] for y in range(24)], np.uint8)
    for number in range(count):
        kind = FORMATS[number % len(FORMATS)]
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, kind, exif=_metadata(rng))
        yield kind, attempt(lambda: _decoded(stored.getvalue()), _of_one_picture)  # noqa: B023


def _metadata(rng: random.Random) -> bytes:
    """Return the bytes of a TIFF directory, or of what is none, with or without the header of EXIF."""
    order = rng.choice(["<", ">"])
    entries = b"".join(
        struct.pack(
            order + "HHI",
            rng.choice([0x0112, 0x010F, 0x8769, 0x927C, rng.randrange(2**16)]),
            rng.randrange(14),
            rng.choice([0, 1, 2, 9999, 2**32 - 1]),
        )
        + rng.randbytes(4)
        for _ in range(rng.randrange(6))
    )
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    directory = start + struct.pack(order + "IH", 8, rng.choice([len(entries) // 12, rng.randrange(2**16)])) + entries
    noise = rng.randbytes(rng.randrange(60))
    body = rng.choice([directory, directory[: rng.randrange(len(directory))], directory + noise, noise])
    return rng.choice([b"", b"Exif\0\0"]) + body


def _decoded(content: bytes) -> Any:
    source = Source(np.zeros(1, np.int64), None, lambda rows: iter([("picture", content)]))
    return decode(source, np.arange(1), 24, Tally())


def _of_one_picture(images: Any) -> str:
    # Whichever way it is turned; JPEG and WebP keep colours nearly.
    blue = torch.as_tensor(np.asarray(images))[0, 2].float().mean()
    return "" if tuple(images.shape) == (1, 3, 24, 24) and abs(float(blue) - 99) < 12 else "other pixels"


def flipped_checkpoints(count: int, rng: random.Random, place: Path) -> Iterator[Case]:
    """Flip one byte in each of as many regions of a checkpoint."""
    state = {"epoch": 3, "model": {"weight": torch.arange(600.0), "bias": torch.zeros(40)}, "history": [{"loss": 0.5}]}
    whole = place / "whole.pt"
    checkpoints.save(whole, state)
    content = whole.read_bytes()
    path = place / "checkpoint.pt"
    for number in range(count):
        at = len(content) * number // count + rng.randrange(max(1, len(content) // count))
        damaged = bytearray(content)
        damaged[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        yield "a byte", attempt(lambda: checkpoints.load(path, 2**26), lambda _: "read, though damaged")


def flipped_runs(count: int, rng: random.Random, place: Path) -> Iterator[Case]:
    """Flip one byte of a finished find's run, and run the same find again; nothing is trained but what was damaged."""
    shutil.copytree(material().place / "data", place / "data")
    shutil.copytree(material().place / "net", place / "net")
    here = Path.cwd()
    os.chdir(place)
    try:
        for _ in range(count):
            for name in ("run", "store"):
                shutil.rmtree(name, ignore_errors=True)
                shutil.copytree(material().place / name, name)
            there = [*Path("run").rglob("*"), *Path("store").rglob("*")]
            files = sorted(path for path in there if path.is_file() and path.stat().st_size)
            victim = rng.choice(files)
            content = bytearray(victim.read_bytes())
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            victim.write_bytes(content)
            yield victim.name, attempt(_again, lambda found: "" if found == material().found else "other figures", 60.0)
    finally:
        os.chdir(here)


def _again() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        return found_in(find(plan_of(), Path("run"), store="store"))


def terminals(count: int, rng: random.Random) -> Iterator[Case]:
    """Print tables in all encodings at all widths: every combination, or some where fewer are wanted."""
    ticket = str(material().place / "run/ticket")
    commands = [
        ["show", "resnet18-slim-adv", "--sparsity", "0.5"],
        ["show", "resnet18-slim-adv"],
        ["show", ticket],
        ["show", ticket, ticket],
        ["backbones"],
        ["backbones", "--kind", "adv"],
        ["verify", ticket, "--dataset", str(material().place / "data"), "--sample", "2"],
        ["--help"],
        ["find", "--help"],
    ]
    every = [(words, encoding, width) for words in commands for encoding in ENCODINGS for width in WIDTHS]
    for words, encoding, width in every if count >= len(every) else rng.sample(every, count):

        def right(shown: str, words: list[str] = words, width: int = width) -> str:
            return "" if digits(shown) == digits(_shown("utf-8", width, words)) else "other numbers"

        yield f"{encoding} {width}", attempt(lambda: _shown(encoding, width, words), right, 60.0)  # noqa: B023


def digits(text: str) -> Counter[str]:
    """Count the digits that are shown: where a narrow column breaks a number, and in which order, it is the same."""
    return Counter(filter(str.isdigit, re.sub(r"drawn with seed \d+", "", text)))


def _shown(encoding: str, columns: int, words: list[str]) -> str:
    screen, errors = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with (
        mock.patch.object(sys, "argv", ["lottery-hub", *words]),
        mock.patch.object(sys, "stdout", screen),
        mock.patch.object(sys, "stderr", errors),
        mock.patch.dict(os.environ, {"COLUMNS": str(columns)}),
    ):
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        if code not in ((None, 0, 3) if words[0] == "verify" else (None, 0)):
            raise WrongWordsError(f"exit code {code}")
        screen.flush()
        errors.flush()
        assert isinstance(screen.buffer, io.BytesIO)
        return screen.buffer.getvalue().decode(encoding)


GOOD: dict[str, tuple[str, ...]] = {
    "exif": (RIGHT,),
    "checkpoints": (REFUSED,),
    "runs": (RIGHT, REFUSED),
    "terminals": (RIGHT,),
}


def run(seed: int, pictures: int, flips: int, runs: int, screens: int) -> dict[str, Any]:
    """Run all cases, and count."""
    began = time.monotonic()
    told: dict[str, Any] = {"seed": seed}
    failures = []
    with tempfile.TemporaryDirectory(prefix="inputs-") as name:
        place = Path(name)
        parts: dict[str, Callable[[random.Random], Iterator[Case]]] = {
            "exif": lambda rng: exif(pictures, rng),
            "checkpoints": lambda rng: flipped_checkpoints(flips, rng, place),
            "runs": lambda rng: flipped_runs(runs, rng, place),
            "terminals": lambda rng: terminals(screens, rng),
        }
        for part, cases in parts.items():
            counts: dict[str, Counter[str]] = {}
            for number, (kind, ending) in enumerate(cases(random.Random(f"inputs {seed} {part}"))):
                counts.setdefault(kind, Counter())[ending.name] += 1
                if ending.name not in GOOD[part]:
                    failures.append({"part": part, "case": number, "kind": kind, "ending": ending})
                    print(f"{part} {number}, {kind}: {ending}", file=sys.stderr)
            total: Counter[str] = sum(counts.values(), Counter())
            told[part] = {
                "cases": sum(total.values()),
                **total,
                "kinds": {kind: dict(of) for kind, of in counts.items()},
            }
    shutil.rmtree(material().place, ignore_errors=True)
    material.cache_clear()
    return told | {"seconds": round(time.monotonic() - began, 1), "failures": failures[:50]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--flips", type=int, default=2000, help="of a checkpoint's bytes")
    parser.add_argument("--runs", type=int, default=100, help="flipped bytes of finished runs")
    parser.add_argument("--terminals", type=int, default=1000, help="at most so many; there are 108")
    given = parser.parse_args()
    torch.set_num_threads(1)
    counts = run(given.seed, given.pictures, given.flips, given.runs, given.terminals)
    print(json.dumps(counts))
    sys.exit(bool(counts["failures"]))


if __name__ == "__main__":
    main()
