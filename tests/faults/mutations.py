"""Ways to damage a folder, most of which leave its hashes and its safetensors container in order."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from folders import CONFIG, RESULTS, Draft, Stored, sha256

Mutation = Callable[[Draft, random.Random], object]
MUTATIONS: dict[str, Mutation] = {}
HARMLESS: set[str] = set()  # the mutations that leave a valid folder


class InapplicableError(Exception):
    """This folder has nothing that the mutation could change."""


def mutation(change: Mutation) -> Mutation:
    MUTATIONS[change.__name__] = change
    return change


def harmless(change: Mutation) -> Mutation:
    HARMLESS.add(change.__name__)
    return mutation(change)


def _some(draft: Draft, rng: random.Random, ending: str = "", *, empty: bool = False) -> Stored:
    """Return one of the streams whose names end so; usually not an empty one."""
    names = [name for name, one in draft.tensors.items() if name.endswith(ending) and one.dtype == "U8"]
    names = [name for name in names if empty or draft.tensors[name].data]
    if not names:
        raise InapplicableError
    return draft.tensors[rng.choice(names)]


def _resized(stream: Stored) -> None:
    stream.shape = [len(stream.data)]


# Streams


@mutation
def flips_a_bit_of_a_stream(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng).data
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


@mutation
def flips_many_bits_of_a_stream(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng).data
    for _ in range(rng.randint(2, 50)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


@mutation
def flips_a_bit_of_a_list(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng, rng.choice(["binary", "exponents"])).data
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


@mutation
def swaps_neighbouring_bits_of_a_unary_stream(draft: Draft, rng: random.Random) -> None:
    # The numbers stay as many: only what they are changes.
    stream = _some(draft, rng, "unary")
    bits = np.unpackbits(stream.data)
    place = rng.randrange(len(bits) - 1)
    bits[[place, place + 1]] = bits[[place + 1, place]]
    stream.data[:] = np.packbits(bits).tobytes()


@mutation
def ends_a_stream_early(draft: Draft, rng: random.Random) -> None:
    stream = _some(draft, rng)
    del stream.data[-rng.choice([1, 1, 2, len(stream.data)]) :]
    _resized(stream)


@mutation
def lets_a_stream_go_on(draft: Draft, rng: random.Random) -> None:
    stream = _some(draft, rng, empty=True)
    stream.data += rng.choice([b"\0", b"\0" * 9, b"\x80", rng.randbytes(5), b"\xff" * 1000])
    _resized(stream)


@mutation
def sets_padding(draft: Draft, rng: random.Random) -> None:
    _some(draft, rng).data[-1] |= (1 << rng.randint(1, 4)) - 1


@mutation
def fills_a_stream(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng).data
    data[:] = rng.choice([b"\0", b"\xff", b"\x01", b"\x80"]) * len(data)


@mutation
def swaps_two_streams(draft: Draft, rng: random.Random) -> None:
    one, other = rng.sample(sorted(draft.tensors), 2)
    draft.tensors[one], draft.tensors[other] = draft.tensors[other], draft.tensors[one]


# Tables


def table(draft: Draft, name: str) -> np.ndarray[Any, Any]:
    """Return a writable view of a table."""
    if name not in draft.tensors:
        raise InapplicableError
    stored = draft.tensors[name]
    return np.frombuffer(stored.data, {"I32": "<i4", "I64": "<i8"}[stored.dtype]).reshape(stored.shape)


@mutation
def lies_about_a_list(draft: Draft, rng: random.Random) -> None:
    layers = table(draft, "layers")
    place = tuple(rng.randrange(size) for size in layers.shape)
    wild = [0, 1, 2, 24, 25, -1, 2**31 - 1, -(2**31), 255, 65536]
    layers[place] = rng.choice([int(layers[place]) + rng.choice([-1, 1]), rng.choice(wild)])


@mutation
def marks_what_stays_as_what_goes(draft: Draft, rng: random.Random) -> None:
    # With the count turned round too, the streams still fit: another mask, which config.json did not announce.
    layers = table(draft, "layers")
    row = layers[rng.randrange(len(layers)), rng.randrange(layers.shape[1])]
    row[1] = 1 - row[1]


@mutation
def makes_every_count_huge(draft: Draft, rng: random.Random) -> None:
    table(draft, "layers")[..., 0] = rng.choice([2**31 - 1, 2**30, 10**6])


@mutation
def swaps_rows_of_the_lists(draft: Draft, rng: random.Random) -> None:
    layers = table(draft, "layers")
    one, other = rng.sample(range(layers.shape[1]), 2)
    layers[:, [one, other]] = layers[:, [other, one]]


@mutation
def changes_a_counter(draft: Draft, rng: random.Random) -> None:
    counters = table(draft, "counters")
    counters[rng.randrange(len(counters))] = rng.choice([0, 1, -1, 2**63 - 1, -(2**63), 10**12])


@harmless
def parameter_of_an_empty_list(draft: Draft, rng: random.Random) -> None:
    # The first tensor loses nothing in the last round, so the list of what goes is empty.
    layers = table(draft, "layers")
    rows = [row for row in layers.reshape(-1, 3) if row[0] == 0 and row[1] == 1]
    if not rows:
        raise InapplicableError
    rng.choice(rows)[2] = rng.randint(0, 24)


# Values


@harmless
def changes_a_value(draft: Draft, rng: random.Random) -> None:
    if "fingerprint" in draft.about:
        raise InapplicableError
    rest = [one for name, one in draft.tensors.items() if name.startswith("values/") and name.endswith("rest")]
    data = rng.choice(rest).data
    data[rng.randrange(len(data) // 2)] ^= 1 << rng.randrange(8)


@mutation
def makes_a_dense_value_negative(draft: Draft, rng: random.Random) -> None:
    # Sign bits are in the last of the three planes; among them are those of the variances.
    data = draft.tensors["dense/rest"].data
    data[rng.randrange(len(data) * 2 // 3, len(data))] ^= 128


@mutation
def lists_an_exponent_that_is_none(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng, "exponents").data
    data[rng.randrange(len(data))] = rng.choice([255, 31, 0, data[0], data[-1]])


@mutation
def lists_exponents_in_another_order(draft: Draft, rng: random.Random) -> None:
    data = _some(draft, rng, "exponents").data
    order = list(data)
    rng.shuffle(order)
    data[:] = bytes(order)


@mutation
def lists_one_exponent_more(draft: Draft, rng: random.Random) -> None:
    stream = _some(draft, rng, "exponents")
    stream.data.append(rng.randrange(256))
    _resized(stream)


@mutation
def lists_one_exponent_less(draft: Draft, rng: random.Random) -> None:
    stream = _some(draft, rng, "exponents")
    del stream.data[rng.randrange(len(stream.data))]
    _resized(stream)


# Tensors


@mutation
def renames_a_tensor(draft: Draft, rng: random.Random) -> None:
    name = rng.choice(sorted(draft.tensors))
    new = [name.upper(), name + "x", "", "values/9/rest", "round/1/unary ", "\x1b[2J\n", "../" + name, "θ" * 300]
    draft.tensors[rng.choice(new)] = draft.tensors.pop(name)


@mutation
def removes_a_tensor(draft: Draft, rng: random.Random) -> None:
    del draft.tensors[rng.choice(sorted(draft.tensors))]


@mutation
def adds_a_tensor(draft: Draft, rng: random.Random) -> None:
    name = rng.choice(["extra", "values/0/rest", "values/3/rest", "round/0/unary", "layers", "conv1.weight", "\u202e"])
    draft.tensors[name] = Stored("U8", [3], bytearray(3))


@mutation
def reshapes_a_tensor(draft: Draft, rng: random.Random) -> None:
    one = draft.tensors[rng.choice(sorted(draft.tensors))]
    size = int(np.prod(one.shape))
    shapes = [[1, size], [size, 1], [size, *[1] * 70], [*one.shape, 1]]
    one.shape = rng.choice(shapes + ([[0, 2**40], [0, 2**63], [2**40, 0]] if size == 0 else []))


@mutation
def gives_a_tensor_another_type(draft: Draft, rng: random.Random) -> None:
    one = draft.tensors[rng.choice(sorted(draft.tensors))]
    kind = rng.choice(["U8", "I8", "BOOL", "F8_E4M3", "BF16", "F16", "I32", "F32", "I64", "F64", "U64", "I32", "I64"])
    size = {"8": 1, "L": 1, "3": 1, "16": 2, "32": 4, "64": 8}[kind[-2:] if kind[-2:] in "163264" else kind[-1]]
    one.data += bytes(-len(one.data) % size)
    one.dtype, one.shape = kind, [len(one.data) // size]


# The container


@mutation
def lies_about_the_header(draft: Draft, rng: random.Random) -> None:
    length = rng.choice([0, 1, 7, 2**20, 2**20 + 1, 2**31, 2**63, 2**64 - 1])
    shift = rng.choice([-8, -1, 1, 8, 1000])

    def lie(data: bytes) -> bytes:
        said = (int.from_bytes(data[:8], "little") + shift) if rng.random() < 0.5 else length
        return said.to_bytes(8, "little") + data[8:]

    draft.edit(draft.weights, lie)


@mutation
def lies_about_an_offset(draft: Draft, rng: random.Random) -> None:
    def lie(header: dict[str, Any]) -> None:
        one = header[rng.choice(sorted(header))]
        offsets = one["data_offsets"]
        offsets[rng.randrange(2)] = rng.choice([0, -1, offsets[0] + 1, offsets[1] - 1, 2**40, 2**64 - 1, 2**64, 0.5])

    draft.edit_header.append(lie)


@mutation
def says_something_odd_about_a_tensor(draft: Draft, rng: random.Random) -> None:
    def lie(header: dict[str, Any]) -> None:
        name = rng.choice(sorted(header))
        if rng.random() < 0.2:
            header[name] = odd(rng)
        else:
            header[name][rng.choice(["dtype", "shape", "data_offsets", "name"])] = odd(rng)

    draft.edit_header.append(lie)


@mutation
def writes_metadata(draft: Draft, rng: random.Random) -> None:
    metadata = rng.choice([{}, {"format": "pt"}, {"dtype": "U8"}, {"dtype": "U8", "a": 1}, [], None])
    draft.edit_header.append(lambda header: header.update(__metadata__=metadata))


@mutation
def says_a_tensor_twice(draft: Draft, rng: random.Random) -> None:
    def double(data: bytes) -> bytes:
        start = 8 + int.from_bytes(data[:8], "little")
        pairs = list(json.loads(data[8:start]).items())
        pairs.append(rng.choice(pairs))
        text = "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in pairs) + "}"
        return len(text).to_bytes(8, "little") + text.encode() + data[start:]

    draft.edit(draft.weights, double)


@mutation
def changes_a_byte_of_a_file(draft: Draft, rng: random.Random) -> None:
    def change(data: bytes) -> bytes:
        place = rng.randrange(min(len(data), rng.choice([8, 200, 2000, len(data)])))
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]

    draft.edit(rng.choice([draft.weights, RESULTS, CONFIG]), change)


@mutation
def cuts_a_file(draft: Draft, rng: random.Random) -> None:
    draft.edit(rng.choice([draft.weights, RESULTS, CONFIG]), lambda data: data[: rng.choice([0, 1, 7, 8, 9, -1, -9])])


@mutation
def lengthens_a_file(draft: Draft, rng: random.Random) -> None:
    tail = rng.choice([b"\0", b" ", b"\n", b"}", b"{}", rng.randbytes(20)])
    draft.edit(rng.choice([draft.weights, RESULTS, CONFIG]), lambda data: data + tail)


@harmless
def writes_the_tensors_in_another_order(draft: Draft, rng: random.Random) -> None:
    names = list(draft.tensors)
    rng.shuffle(names)
    draft.tensors = {name: draft.tensors[name] for name in names}


@harmless
def writes_spaces_after_the_header(draft: Draft, rng: random.Random) -> None:
    spaces = b" " * rng.randint(1, 99)

    def spaced(data: bytes) -> bytes:
        start = 8 + int.from_bytes(data[:8], "little")
        return (start - 8 + len(spaces)).to_bytes(8, "little") + data[8:start] + spaces + data[start:]

    draft.edit(draft.weights, spaced)


# JSON


def odd(rng: random.Random) -> Any:
    deep: Any = []
    for _ in range(rng.choice([10, 100])):
        deep = [deep]
    numbers = [0, -1, 1, 255, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), 2**53 + 1]
    words = ["", "x", "\x1b[31m\n", "\ud800", "a" * 5000, "\u202e", "U8", "sha256:" + "0" * 64, "../../etc/passwd"]
    others = [None, True, False, [], {}, ["U8"], [[]], {"a": 1}, {"\ud800": 1}, [0] * 5000, deep, {"\x07": deep}]
    return rng.choice([rng.choice(numbers), rng.choice(words), rng.choice(others)])


@dataclass
class Place:
    """Where a value is in a JSON value."""

    inside: Any
    key: Any

    def set(self, value: Any) -> None:
        self.inside[self.key] = value

    def get(self) -> Any:
        return self.inside[self.key]


def places(value: Any) -> list[Place]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [Place(value, key), *places(value[key])]]


def _json_of(draft: Draft, rng: random.Random) -> dict[str, Any]:
    return rng.choice([draft.config, draft.config, draft.config, draft.about, draft.results])


@mutation
def says_something_odd(draft: Draft, rng: random.Random) -> None:
    rng.choice(places(_json_of(draft, rng))).set(odd(rng))


@mutation
def says_something_odd_in_a_setting(draft: Draft, rng: random.Random) -> None:
    draft.about[rng.choice(sorted(draft.about))] = odd(rng)


@mutation
def leaves_a_key_out(draft: Draft, rng: random.Random) -> None:
    place = rng.choice(places(_json_of(draft, rng)))
    del place.inside[place.key]


@mutation
def adds_a_key(draft: Draft, rng: random.Random) -> None:
    objects = [place.get() for place in places(draft.config) if isinstance(place.get(), dict)]
    keys = ["code", "auto_map", "level", "levels", "num_classes", "\x1b[2J", "\ud800", "", "θ", "x" * 999, "pruned"]
    rng.choice([draft.config, draft.results, *objects])[rng.choice(keys)] = odd(rng)


@mutation
def says_a_key_twice(draft: Draft, rng: random.Random) -> None:
    name = rng.choice([CONFIG, RESULTS])
    key = rng.choice(sorted({str(place.key) for place in places(draft.config) if isinstance(place.inside, dict)}))

    def double(data: bytes) -> bytes:
        text = data.decode()
        again = f'"{key}": {rng.choice(["0", "null", "{}"])}, "{key}": '
        return text.replace(f'"{key}": ', again, 1).encode()

    draft.edit(name, double)


@mutation
def nests_deeply(draft: Draft, rng: random.Random) -> None:
    # Python's own parser gives up on the deepest of these.
    levels = rng.choice([60, 63, 64, 65, 100, 5000, 100_000])
    name = rng.choice([CONFIG, RESULTS])
    deep = b'{"deep": ' + b"[" * levels + b"]" * levels + b", "
    draft.edit(name, lambda data: deep + data[1:] if name == RESULTS else data.replace(b'"provenance": {', deep[8:], 1))


@mutation
def asks_for_another_architecture(draft: Draft, rng: random.Random) -> None:
    draft.about["arch"] = rng.choice(["resnet18", "resnet18-slim", "hf-hub:evil/net", "", "resnet18-tiny\n", "../x"])
    if rng.random() < 0.3:
        draft.about["arch"] = "resnet18"
        draft.config["model_args"] = {}


@mutation
def lies_about_the_classes(draft: Draft, rng: random.Random) -> None:
    draft.config["num_classes"] = rng.choice([0, 2, 4, 100_000, 100_001, -1, 10**9, True, "3", 3.0, None])


@mutation
def lies_about_a_count(draft: Draft, rng: random.Random) -> None:
    keys = [key for key in ("level", "kept", "total", "levels") if key in draft.about]
    if not keys:
        raise InapplicableError
    key = rng.choice(keys)
    draft.about[key] += rng.choice([-1, 1, 100, 10**9, 0.5])


@mutation
def lies_about_a_sparsity(draft: Draft, rng: random.Random) -> None:
    if "sparsity" in draft.about:
        draft.about["sparsity"] += rng.choice([1e-16, 0.1, -0.1, 1])
    elif "sparsities" in draft.about:
        draft.about["sparsities"][rng.randrange(3)] += rng.choice([1e-15, 0.1, -0.1])
    else:
        raise InapplicableError


@mutation
def lies_about_the_fingerprint(draft: Draft, rng: random.Random) -> None:
    if "fingerprint" not in draft.about:
        raise InapplicableError
    draft.about["fingerprint"] = sha256(rng.randbytes(4))


@mutation
def lies_about_the_values(draft: Draft, rng: random.Random) -> None:
    draft.about["values"] = rng.choice(["float32", "float16", "bfloat16", "int8"])


@mutation
def lies_about_the_content(draft: Draft, rng: random.Random) -> None:
    draft.about["content"] = rng.choice(["ticket", "ladder", "backbone", "model"])


@mutation
def changes_the_verdict(draft: Draft, rng: random.Random) -> None:
    said = rng.choice([True, False, None, 1, "yes", []])
    rng.choice([draft.results, draft.about])["double_win"] = said


@mutation
def leaves_the_hashes_as_they_were(draft: Draft, rng: random.Random) -> None:
    draft.rehash = False
    flips_a_bit_of_a_stream(draft, rng)


@mutation
def lies_about_a_hash(draft: Draft, rng: random.Random) -> None:
    draft.rehash = False
    draft.about["hashes"][rng.choice([draft.weights, RESULTS])] = sha256(b"")


@harmless
def says_what_timm_says(draft: Draft, rng: random.Random) -> None:
    draft.config[rng.choice(["num_features", "global_pool", "pretrained_cfg"])] = rng.choice([7, "avg", {"a": [1]}])


@harmless
def tells_more_of_its_provenance(draft: Draft, rng: random.Random) -> None:
    draft.about["provenance"][rng.choice(["θ", "\x1b[2J", "a" * 500])] = rng.choice([1, 10**300, "\n", [[[]]], None])


# Files


def _file(draft: Draft, rng: random.Random) -> str:
    return rng.choice([draft.weights, RESULTS, CONFIG])


@mutation
def links_out_of_the_folder(draft: Draft, rng: random.Random) -> None:
    name = _file(draft, rng)

    def link(place: Path) -> None:
        target = place.parent / "outside" / name
        target.parent.mkdir(exist_ok=True)
        (place / name).replace(target)
        (place / name).symlink_to(rng.choice([target, Path("..") / "outside" / name]))

    draft.after.append(link)


@mutation
def links_in_a_circle(draft: Draft, rng: random.Random) -> None:
    name = _file(draft, rng)
    draft.after.append(lambda place: ((place / name).unlink(), (place / name).symlink_to(name)))


@mutation
def links_to_a_device(draft: Draft, rng: random.Random) -> None:
    name = _file(draft, rng)
    draft.after.append(lambda place: ((place / name).unlink(), (place / name).symlink_to("/dev/zero")))


@mutation
def links_within_the_folder(draft: Draft, rng: random.Random) -> None:
    name = _file(draft, rng)
    draft.after.append(lambda place: ((place / name).rename(place / "real"), (place / name).symlink_to("real")))


@mutation
def is_no_file(draft: Draft, rng: random.Random) -> None:
    name, make = _file(draft, rng), rng.choice([os.mkdir, os.mkfifo, lambda path: None])
    draft.after.append(lambda place: ((place / name).unlink(), make(place / name)))


@mutation
def swaps_two_files(draft: Draft, rng: random.Random) -> None:
    one, other = rng.sample([draft.weights, RESULTS, CONFIG], 2)

    def swap(place: Path) -> None:
        (place / one).rename(place / "aside")
        shutil.move(place / other, place / one)
        (place / "aside").rename(place / other)

    draft.after.append(swap)
