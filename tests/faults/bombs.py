"""Small files that ask for a lot: each is read or refused in little time and memory, in a process of its own.

    python tests/faults/bombs.py

prints one JSON object: for each what became of it, its seconds and the MiB of memory it took.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from campaign import LOADERS, outcome, peak
from crafted import both, content
from folders import CONFIG, RESULTS, Draft, Stored, valid
from mutations import table

from lottery_hub.storage.files import MAX_JSON_BYTES


class Bomb(NamedTuple):
    """What is wrong, in which folder, and the MiB and seconds of work that it may take."""

    change: Callable[[Draft], object]
    base: str = "ticket float16"
    mebibytes: int = 256
    seconds: int = 10


def _all(value: int, column: int) -> Callable[[Draft], object]:
    return lambda draft: table(draft, "layers")[..., column].fill(value)


def _stream(name: str, data: bytes) -> Callable[[Draft], object]:
    return lambda draft: draft.tensors.update({name: Stored("U8", [len(data)], bytearray(data))})


def _header(text: bytes) -> Callable[[Draft], object]:
    return lambda draft: draft.edit(draft.weights, lambda _: len(text).to_bytes(8, "little") + text)


def _results(start: bytes, unit: bytes, end: bytes) -> Callable[[Draft], object]:
    """Repeat `unit` until results.json is as large as it may be."""
    return content(RESULTS, start + unit * ((MAX_JSON_BYTES - len(start) - len(end)) // len(unit)) + end)


def _sparse(name: str) -> Callable[[Draft], object]:
    """Make a file of 100 GiB that takes no place on the disk."""
    return lambda draft: draft.after.append(lambda place: (place / name).open("r+b").truncate(100 * 2**30))


def _largest_network(draft: Draft) -> None:
    """Ask for the largest network and the most classes that are allowed, with all of it pruned."""
    _network(draft, "wide_resnet101_2", {}, 104)
    draft.config["num_classes"] = 100_000


def _slim(draft: Draft) -> None:
    """Ask for a network whose weights file may have 12 MB, with all of it pruned."""
    _network(draft, "resnet18-slim", {"channels": [16, 32, 64, 128], "output_stride": 8}, 21)
    if "values/0/rest" in draft.tensors:
        _stream("values/0/rest", bytes(3 * 714_688))(draft)


def _network(draft: Draft, arch: str, arguments: dict[str, Any], convolutions: int) -> None:
    draft.about["arch"] = arch
    draft.config |= {"architecture": arch.removesuffix("-slim"), "model_args": arguments}
    if "layers" in draft.tensors:
        layers = np.zeros((1, convolutions, 3), "<i4")
        layers[..., 1] = 1
        draft.tensors["layers"] = Stored("I32", list(layers.shape), bytearray(layers.tobytes()))
        for part in ("round/1/unary", "round/1/binary", "values/1/unary", "values/1/rest", "values/1/exponents"):
            _stream(part, b"")(draft)
    draft.tensors["counters"] = Stored("I64", [convolutions], bytearray(8 * convolutions))


FULL = 10**7
JSON_LIMITS: dict[str, Any] = {"mebibytes": 512, "seconds": 20}
BOMBS: dict[str, Bomb] = {
    "every count is the largest": Bomb(_all(2**31 - 1, 0)),
    "every count is the smallest": Bomb(_all(-(2**31), 0)),
    "every parameter is the largest": Bomb(_all(2**31 - 1, 2)),
    "every parameter is the largest allowed": Bomb(_all(24, 2)),
    "a stream of ones": Bomb(both(_slim, _stream("round/1/unary", b"\xff" * FULL))),
    "a stream of zeros": Bomb(both(_slim, _stream("round/1/unary", bytes(FULL)))),
    "a stream of low bits": Bomb(both(_slim, _stream("round/1/binary", b"\xff" * FULL))),
    "values of ones": Bomb(both(_slim, _stream("values/0/unary", b"\xff" * FULL)), "backbone float32"),
    "exponents without end": Bomb(both(_slim, _stream("values/1/exponents", bytes(FULL)))),
    "the largest network": Bomb(_largest_network, mebibytes=1536, seconds=20),
    "a header of lists in lists": Bomb(_header(b'{"a":' + b"[" * (2**20 - 5))),
    "a header of empty lists": Bomb(_header(b'{"a":[' + b"[]," * 349_000 + b"0]}")),
    "a header of many tensors": Bomb(
        _header(b"{%b}" % b",".join(b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(18_000)))
    ),
    "a header of one huge number": Bomb(_header(b'{"a":' + b"9" * (2**20 - 6) + b"}")),
    "a config of lists in lists": Bomb(content(CONFIG, b'{"a":' + b"[" * (2**20 - 5))),
    "a config of huge numbers": Bomb(content(CONFIG, b'{"a":[' + (b"9" * 4300 + b",") * 240 + b"0]}")),
    "a config of 100 GiB": Bomb(_sparse(CONFIG)),
    "weights of 100 GiB": Bomb(_sparse("ticket.safetensors")),
    "results of 100 GiB": Bomb(_sparse(RESULTS)),
    "results of lists in lists": Bomb(_results(b'{"a":', b"[", b"")),
    "results of lists within the depth": Bomb(_results(b'{"a":[', b"[" * 60 + b"]" * 60 + b",", b"0]}"), **JSON_LIMITS),
    "results of small objects": Bomb(_results(b'{"a":[', b'{"a":0},', b"0]}"), **JSON_LIMITS),
    "results of huge numbers": Bomb(_results(b'{"a":[', b"9" * 4300 + b",", b"0]}"), **JSON_LIMITS),
    "results of escapes": Bomb(_results(b'{"a":"', b"\\u0001", b'"}'), **JSON_LIMITS),
}


def set_off(name: str, folder: Path) -> dict[str, Any]:
    """Load a bomb's folder, and measure."""
    bomb = BOMBS[name]
    before, started = peak(), time.process_time()
    judged = outcome(folder, LOADERS[bomb.base.split()[0]][0], bomb.seconds, bomb.mebibytes)
    seconds, mebibytes = time.process_time() - started, peak() - before
    return {"outcome": judged.name, "why": judged.detail, "seconds": round(seconds, 1), "mebibytes": round(mebibytes)}


def main() -> None:
    results = {}
    for name, bomb in BOMBS.items():
        draft = valid()[bomb.base].copy()
        bomb.change(draft)
        with tempfile.TemporaryDirectory() as place:
            folder = draft.write(Path(place, "folder"))
            # What a process had at most can only grow: each bomb gets its own.
            with multiprocessing.get_context("fork").Pool(1) as child:
                results[name] = child.apply(set_off, (name, folder))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
