"""A folder made by hand for each check of the reading side, and the words in which it is refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from campaign import LOADERS, Outcome, outcome
from folders import CLASSES, CONFIG, RESULTS, Draft, Stored, valid
from mutations import table

from lottery_hub.storage.files import read_tensors
from lottery_hub.storage.folder import load_backbone_folder, load_ladder, load_ticket

Change = Callable[[Draft], object]
Load = Callable[[Path], object]
TICKET, LADDER, BACKBONE = "ticket float16", "ladder float32", "backbone bfloat16"
WEIGHTS = "ticket.safetensors"
# Rows of `layers` in a ticket: the first convolution lists many, the second keeps and lists none, the third keeps all.
MANY, NONE, ALL = 0, 1, 2
KEPT, LISTED, PARAMETER = 0, 1, 2


class Row(NamedTuple):
    """What is wrong, what is said of it, in which folder, and what loads that."""

    change: Change
    words: str
    base: str = TICKET
    load: Load | None = None


def judge(row: Row, place: Path) -> Outcome:
    """Load a row's folder; where it is refused in other words, that is the outcome."""
    draft = valid()[row.base].copy()
    row.change(draft)
    judged = outcome(draft.write(place / "folder"), row.load or LOADERS[row.base.split()[0]][0])
    if judged.name == "refused" and not re.search(row.words, judged.detail):
        return Outcome("other words", judged.detail)
    return judged


def nothing(_: Draft) -> None:
    """Leave the folder as it is: what is wrong is how it is loaded."""


def both(*changes: Change) -> Change:
    return lambda draft: [change(draft) for change in changes]


def stream(name: str, change: Callable[[bytes], bytes]) -> Change:
    def edit(draft: Draft) -> None:
        data = bytearray(change(bytes(draft.tensors[name].data)))
        draft.tensors[name] = Stored("U8", [len(data)], data)

    return edit


def bits(name: str, change: Callable[[Any], Any]) -> Change:
    return stream(name, lambda data: np.packbits(change(np.unpackbits(np.frombuffer(data, np.uint8)))).tobytes())


def tensor(name: str, dtype: str, *shape: int) -> Change:
    size = int(np.prod(shape)) * {"U8": 1, "I32": 4, "F32": 4, "I64": 8}[dtype]
    return lambda draft: draft.tensors.update({name: Stored(dtype, list(shape), bytearray(size))})


def layer(row: int, column: int, value: int) -> Change:
    return lambda draft: table(draft, "layers")[0, row].__setitem__(column, value)


def nothing_listed(draft: Draft) -> None:
    layers = table(draft, "layers")
    layers[..., KEPT], layers[..., LISTED] = 0, 1


def counter(value: int) -> Change:
    return lambda draft: table(draft, "counters").__setitem__(0, value)


def reshaped(name: str, *shape: int) -> Change:
    return lambda draft: setattr(draft.tensors[name], "shape", list(shape))


def setting(**said: Any) -> Change:
    return lambda draft: draft.about.update(said)


def timm_setting(**said: Any) -> Change:
    return lambda draft: draft.config.update(said)


def results(**said: Any) -> Change:
    return lambda draft: draft.results.update(said)


def without(*keys: str) -> Change:
    def remove(draft: Draft) -> None:
        inside: Any = {CONFIG: draft.config, RESULTS: draft.results, "tensors": draft.tensors}[keys[0]]
        for key in keys[1:-1]:
            inside = inside[key]
        del inside[keys[-1]]

    return remove


def content(name: str, data: bytes) -> Change:
    return lambda draft: draft.edit(name, lambda _: data)


def header(said: object, data: bytes = b"") -> Change:
    text = json.dumps(said).encode()
    return content(WEIGHTS, len(text).to_bytes(8, "little") + text + data)


def one(**about: Any) -> Change:
    return header({"layers": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} | about})


def a_run(config: Path) -> None:
    """Put a folder with a ticket where a ticket was."""
    (config.parent / "run" / "ticket").mkdir(parents=True)
    (config.parent / "run" / "ticket" / CONFIG).write_text("{}")


def replaced(name: str, make: Callable[[Path], object]) -> Change:
    return lambda draft: draft.after.append(lambda place: ((place / name).unlink(), make(place / name)))


def linked_outside(name: str) -> Change:
    def link(place: Path) -> None:
        (place / name).rename(place.parent / "outside")
        (place / name).symlink_to(place.parent / "outside")

    return lambda draft: draft.after.append(link)


def long_header(draft: Draft) -> None:
    """Fill the header with spaces up to one byte more than is allowed."""

    def fill(data: bytes) -> bytes:
        start = 8 + int.from_bytes(data[:8], "little")
        return (2**20 + 1).to_bytes(8, "little") + data[8:start].ljust(2**20 + 1) + data[start:]

    draft.edit(WEIGHTS, fill)


def negative_values(draft: Draft) -> None:
    """Set the sign of every dense value: the topmost bits of the last of three planes."""
    data = draft.tensors["dense/rest"].data
    data[len(data) * 2 // 3 :] = bytes(byte | 128 for byte in data[len(data) * 2 // 3 :])


def another_value(draft: Draft) -> None:
    draft.tensors["dense/rest"].data[0] ^= 1


def unhashed(change: Change) -> Change:
    """Leave config.json the hashes that it had."""
    return both(change, lambda draft: setattr(draft, "rehash", False))


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = [value]
    return value


def _far(stream: Any) -> Any:
    """Put a million zeros before the last one."""
    ends = np.flatnonzero(stream)
    return np.r_[stream[: ends[-1]], np.zeros(10**6, np.uint8), np.uint8(1)]


def _twice(key: str) -> Change:
    again = f'"{key}": null, "{key}": '.encode()
    return lambda draft: draft.edit(CONFIG, lambda data: data.replace(f'"{key}": '.encode(), again, 1))


def _tensors(folder: Path) -> object:
    return read_tensors(folder / WEIGHTS)


def _one_less(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] & (data[-1] - 1)])


LISTS: dict[str, Row] = {
    "a parameter below 0": Row(layer(NONE, PARAMETER, -1), r"safetensors: round/1: a Rice parameter is not in 0\.\.24"),
    "a parameter above 24": Row(layer(NONE, PARAMETER, 25), r"round/1: a Rice parameter is not in 0\.\.24"),
    "a wild parameter": Row(layer(MANY, PARAMETER, 2**31 - 1), r"round/1: a Rice parameter is not in 0\.\.24"),
    "a parameter too large": Row(layer(MANY, PARAMETER, 3), "round/1: the streams are too short or too long for"),
    "a unary stream cut short": Row(stream("round/1/unary", lambda data: data[:9]), "the streams are too short"),
    "a unary stream of one less": Row(stream("values/1/unary", _one_less), r"values/1: the unary stream holds \d+ num"),
    "a unary stream of one more": Row(stream("round/1/unary", lambda data: data + b"\x80"), "the unary stream holds"),
    "set bits after a unary stream": Row(
        stream("dense/unary", lambda data: data + b"\x01"), r"dense: the unary stream holds 496 numbers, not 495"
    ),
    "zeros after a unary stream": Row(
        stream("round/1/unary", lambda data: data + b"\0"), "round/1: the unary stream goes on after its last number"
    ),
    "zeros where there are no numbers": Row(
        both(nothing_listed, stream("round/1/unary", lambda _: b"\0"), stream("round/1/binary", lambda _: b"")),
        "round/1: the unary stream goes on after its last number",
    ),
    "a binary stream of a byte less": Row(stream("round/1/binary", lambda data: data[:-1]), "the streams are too shor"),
    "a binary stream of a byte more": Row(stream("round/1/binary", lambda data: data + b"\0"), "streams are too short"),
    "padding of a binary stream": Row(
        stream("round/1/binary", lambda data: data[:-1] + bytes([data[-1] | 1])),
        "round/1: the padding of the binary stream is not zero",
    ),
    "a position beyond the last": Row(
        bits("round/1/unary", _far), "round/1 lists a position beyond the 144 weights of"
    ),
    "a negative count": Row(layer(MANY, KEPT, -1), "layers: round 1 cannot keep -1 of 9408 weights of conv1.weight"),
    "a count above the weights": Row(layer(ALL, KEPT, 37), "layers: round 1 cannot keep 37 of 36 weights of layer1"),
    "a huge count": Row(layer(MANY, KEPT, 2**31 - 1), "cannot keep 2147483647 of 9408"),
    "a mark that is none": Row(layer(NONE, LISTED, 2), "layers: round 1 cannot keep 0 of 1152"),
    "a negative mark": Row(layer(ALL, LISTED, -1), "layers: round 1 cannot keep 36 of 36"),
    "a count of another number": Row(layer(ALL, KEPT, 35), r"round/1: the unary stream holds \d+ numbers, not \d+"),
    "layers of another type": Row(tensor("layers", "I64", 1, 20, 3), r"layers is int64 \(1, 20, 3\), expected int32"),
    "layers of another shape": Row(tensor("layers", "I32", 2, 20, 3), r"layers is int32 \(2, 20, 3\), expected int32"),
    "layers turned round": Row(reshaped("layers", 1, 3, 20), r"layers is int32 \(1, 3, 20\), expected int32"),
    "layers of many dimensions": Row(reshaped("layers", 1, 20, 3, *[1] * 61), r"layers is int32 \(1, 20, 3, 1"),
    "a round of the wrong type": Row(tensor("round/1/unary", "I32", 99), r"round/1/unary is int32 \(99,\), expected a"),
    "a round in two rows": Row(tensor("round/1/binary", "U8", 2, 9), r"round/1/binary is uint8 \(2, 9\), expected a"),
}
VALUES: dict[str, Row] = {
    "values cut short": Row(
        stream("values/1/rest", lambda data: data[:-1]), r"rest does not hold \d+ values of float16"
    ),
    "values that go on": Row(stream("values/1/rest", lambda data: data + b"\0"), "values/1/rest does not hold"),
    "an exponent twice": Row(
        stream("values/1/exponents", lambda data: data + data[:1]), "values/1/exponents repeats one, or lists that"
    ),
    "the exponent of NaN in float16": Row(
        stream("values/1/exponents", lambda data: data + b"\x1f"),
        "values/1/exponents repeats one, or lists that of NaN",
    ),
    "the exponent of NaN in float32": Row(
        stream("dense/exponents", lambda data: b"\xff" + data[1:]), "dense/exponents repeats one, or lists that of NaN"
    ),
    "an exponent beyond float16's": Row(
        stream("values/1/exponents", lambda data: b"\x80" + data[1:]), "values/1/exponents repeats one, or lists that"
    ),
    "exponents missing": Row(
        stream("values/1/exponents", lambda data: data[:3]), "values/1/unary points beyond the 3 exponents"
    ),
    "no exponents": Row(stream("dense/exponents", lambda _: b""), "dense/unary points beyond the 0 exponents"),
    "padding of spare planes": Row(
        stream("values/1/rest", lambda data: data[:-1] + bytes([data[-1] | 1])), "values/1/rest has padding bits"
    ),
    "exponents of the wrong type": Row(tensor("values/1/exponents", "I32", 9), r"exponents is int32 \(9,\), expected"),
    "exponents in two rows": Row(tensor("dense/exponents", "U8", 3, 3), r"dense/exponents is uint8 \(3, 3\), expected"),
    "a negative variance": Row(negative_values, r"dense: bn1\.running_var holds a negative variance"),
    "a negative counter": Row(counter(-1), "counters is not 20 whole numbers from 0 on"),
    "counters of the wrong type": Row(tensor("counters", "I32", 20), "counters is not 20 whole numbers from 0 on"),
    "a counter too few": Row(tensor("counters", "I64", 19), "counters is not 20 whole numbers from 0 on"),
    "a counter too many": Row(tensor("counters", "I64", 21), "counters is not 20 whole numbers from 0 on"),
    "counters in two rows": Row(tensor("counters", "I64", 20, 1), "counters is not 20 whole numbers from 0 on"),
    "other values than announced": Row(setting(values="bfloat16"), "values/1/rest does not hold"),
    "a tensor missing": Row(without("tensors", "counters"), r"ticket\.safetensors: tensor counters is missing \(1 in"),
    "a group missing": Row(without("tensors", "values/0/rest"), "tensor values/0/rest is missing", LADDER),
    "a tensor too many": Row(tensor("values/0/rest", "U8", 3), r"tensor values/0/rest does not belong here \(1 in all"),
    "a backbone with layers": Row(tensor("layers", "I32", 0, 20, 3), "tensor layers does not belong here", BACKBONE),
    "a name that moves the cursor": Row(tensor("\x1b[2J", "U8", 3), r"tensor \\x1b\[2J does not belong here"),
}
FILES: dict[str, Row] = {
    "results outside": Row(linked_outside(RESULTS), r"results\.json leads out of its folder"),
    "weights outside": Row(linked_outside(WEIGHTS), r"ticket\.safetensors leads out of its folder"),
    "a config outside": Row(linked_outside(CONFIG), r"config\.json leads out of its folder"),
    "a device": Row(
        replaced(RESULTS, lambda path: path.symlink_to("/dev/zero")), r"results\.json leads out of its fol"
    ),
    "a pipe": Row(replaced(RESULTS, os.mkfifo), r"results\.json is missing, or not a file"),
    "a folder": Row(replaced(WEIGHTS, Path.mkdir), r"ticket\.safetensors is missing, or not a file"),
    "no weights": Row(replaced(WEIGHTS, lambda _: None), r"ticket\.safetensors is missing, or not a file"),
    "no config": Row(replaced(CONFIG, lambda _: None), r"no ticket at .*: give a folder with a config\.json, USER"),
    "folders inside": Row(replaced(CONFIG, a_run), r"no ticket at .*, but 1 inside; give one of .*run"),
    "no config of a backbone": Row(replaced(CONFIG, lambda _: None), r"config\.json is missing, or", BACKBONE),
    "a link to itself": Row(replaced(RESULTS, lambda path: path.symlink_to(path.name)), r"cannot read .*results\.json"),
    "a link to a long name": Row(
        replaced(RESULTS, lambda path: path.symlink_to("x" * 300)), r"results\.json is a link"
    ),
    "a path with a zero byte": Row(
        nothing,
        r"cannot read .*folder\\x00/config\.json",
        BACKBONE,
        lambda folder: load_backbone_folder(Path(f"{folder}\0")),
    ),
    "weights over the limit": Row(
        lambda draft: draft.edit(WEIGHTS, lambda data: data + bytes(2**21)),
        r"ticket\.safetensors is larger than \d+ by",
    ),
    "results over the limit": Row(content(RESULTS, b" " * (2**23 + 1)), r"results\.json is larger than 8388608 bytes"),
    "a config over the limit": Row(content(CONFIG, b" " * (2**20 + 1)), r"config\.json is larger than 1048576 bytes"),
    "a hash that differs": Row(
        unhashed(another_value),
        r"ticket\.safetensors is not the file that config\.json describes \(sha256 differs\)",
    ),
    "results of another hash": Row(
        unhashed(results(note="")),
        r"results\.json is not the file that config\.json describes \(sha256 differs\)",
    ),
}
JSON: dict[str, Row] = {
    "no JSON": Row(content(CONFIG, b"{"), r"cannot read .*config\.json: Expecting property name"),
    "no text": Row(content(RESULTS, b'{"a": "\xff"}'), r"cannot read .*results\.json: 'utf-8' codec can't decode"),
    "half a character": Row(results(note="\ud800"), r"cannot read .*results\.json: 'utf-8' codec can't encode"),
    "too deep to be parsed": Row(content(RESULTS, b"[" * 100_000), r"cannot read .*results\.json"),
    "a list": Row(content(RESULTS, b"[]"), r"results\.json does not hold a JSON object"),
    "no object in a config": Row(content(CONFIG, b"null"), r"config\.json does not hold a JSON object"),
    "too deep": Row(results(deep=deep(64)), r"results\.json is nested more than 64 levels deep"),
    "a key twice": Row(_twice("level"), r"cannot read .*config\.json: a key appears twice"),
    "NaN": Row(setting(provenance={"a": float("nan")}), r"cannot read .*config\.json: NaN is not JSON"),
    "infinity": Row(results(a=[float("-inf")]), r"cannot read .*results\.json: -Infinity is not JSON"),
    "too large a number": Row(content(RESULTS, b'{"a": -1e999}'), r"results\.json: -1e999 is too large a number"),
    "too long a number": Row(content(RESULTS, b'{"a": ' + b"9" * 5000 + b"}"), r"cannot read .*results\.json: Exceeds"),
}
CONTAINERS: dict[str, Row] = {
    "no header": Row(content(WEIGHTS, b""), r"ticket\.safetensors has a header of 0 bytes, more than it holds"),
    "half a header's length": Row(content(WEIGHTS, b"\0\0\0"), "has a header of 0 bytes, more than it holds"),
    "a header beyond the end": Row(content(WEIGHTS, b"\xff" * 99), "has a header of 18446744073709551615 bytes, more"),
    "a header over the limit": Row(long_header, "has a header of 1048577 bytes, more than it holds or than is allowed"),
    "a header that is no object": Row(header([]), r"ticket\.safetensors does not hold a JSON object"),
    "an unknown type": Row(one(dtype="F32"), r"ticket\.safetensors: layers is F32, not one of U8, I32, I64"),
    "a type that is a list": Row(one(dtype=["U8"]), r"ticket\.safetensors: layers is \['U8'\], not one of"),
    "a type that is an object": Row(one(dtype={}), r"ticket\.safetensors: layers is {}, not one of U8, I32, I64"),
    "a tensor that is none": Row(header({"layers": 5}), "layers is None, not one of U8, I32, I64"),
    "a tensor beyond the end": Row(one(shape=[9], data_offsets=[0, 9]), r"cannot read .*safetensors: Error while des"),
    "a tensor of many dimensions": Row(one(shape=[0] * 99), r"cannot read .*safetensors: maximum supported dimension"),
    "a tensor too large for numpy": Row(one(shape=[0, 2**63]), r"cannot read .*safetensors: Maximum allowed dimension"),
    "a tensor twice": Row(
        content(WEIGHTS, b'\x12\0\0\0\0\0\0\0{"a": {}, "a": {}}'), r"cannot read .*safetensors: a key appears twice"
    ),
}
CHECKPOINTS: dict[str, Row] = {
    "no checkpoint": Row(replaced(WEIGHTS, lambda _: None), r"cannot read .*safetensors: No such file", load=_tensors),
    "a checkpoint of other bytes": Row(
        content(WEIGHTS, b"PK"), r"cannot read .*safetensors: Error while", load=_tensors
    ),
    "a checkpoint whose name is no text": Row(
        nothing,
        r"cannot read .*\\ud800ticket\.safetensors",
        load=lambda folder: read_tensors(folder / f"\ud800{WEIGHTS}"),
    ),
    "a checkpoint too large for torch": Row(
        one(shape=[0, 2**63]), r"cannot read .*safetensors: reshape", load=_tensors
    ),
}
CONFIGS: dict[str, Row] = {
    "nothing of ours": Row(without(CONFIG, "lottery_hub"), r"config\.json has no lottery_hub object; this is not a"),
    "a later format": Row(setting(format=2), r"config\.json has format 2, this version reads 1; update lottery-hub"),
    "a format that is true": Row(setting(format=True), r"config\.json has format True, this version reads 1; update"),
    "an unknown content": Row(setting(content="model"), r"config\.json announces model, not a ticket, ladder or backb"),
    "classes inside": Row(setting(num_classes=CLASSES), r"config\.json: num_classes stands in the lottery_hub ob"),
    "no classes outside": Row(
        both(setting(num_classes=CLASSES), timm_setting(num_classes=0)),
        r"config\.json: num_classes is 0, not a number from 1 to 100000",
    ),
    "classes outside in words": Row(
        both(setting(num_classes=CLASSES), timm_setting(num_classes=7.0)),
        r"config\.json: num_classes is 7\.0, not",
    ),
    "an unknown key": Row(setting(code="x"), r"config\.json: code: Extra inputs are not permitted"),
    "a missing key": Row(without(CONFIG, "lottery_hub", "kept"), r"config\.json: kept: Field required"),
    "a mean too large for a float": Row(setting(mean=[10**400, 0, 0]), r"config\.json: mean\.0: Input should be a val"),
    "an unknown architecture": Row(
        setting(arch="hf-hub:evil/net"),
        r"config\.json asks for the architecture 'hf-hub:evil/net', which is not allowed",
    ),
    "sparsities of other levels": Row(
        setting(sparsities=[0, 0.5]), r"config\.json: sparsities are not those of 2 levels and the dense one", LADDER
    ),
    "another network of timm's": Row(
        timm_setting(architecture="resnet50"), r"config\.json: architecture is resnet50, resnet18-tiny has resnet18"
    ),
    "other arguments": Row(timm_setting(model_args={"layers": [9**9]}), r"config\.json: model_args is .*387420489"),
    "an unknown key of timm's": Row(
        timm_setting(checkpoint_path="/x"), r"config\.json: the key 'checkpoint_path' does not belong here"
    ),
    "hashes of other files": Row(
        setting(hashes={"../secret": "sha256:" + "0" * 64}), r"hashes does not name exactly ticket\.safetensors and"
    ),
    "a hash missing": Row(
        without(CONFIG, "lottery_hub", "hashes", RESULTS), r"hashes does not name exactly ticket\.safetensors and"
    ),
    "kept": Row(setting(kept=5), r"config\.json and the mask disagree about how many weights are kept"),
    "total": Row(setting(total=10**9), r"config\.json and the mask disagree about how many weights are kept"),
    "sparsity": Row(setting(sparsity=0.5), r"config\.json and the mask disagree about how many weights are kept"),
    "a kept weight more": Row(both(layer(ALL, KEPT, 0), layer(ALL, LISTED, 1)), "values/1/rest does not hold"),
    "the verdict": Row(setting(double_win=False), r"config\.json and results\.json disagree about the verdict"),
    "the records' verdict": Row(results(double_win=1), r"config\.json and results\.json disagree about the verdict"),
    "sparsities": Row(
        setting(sparsities=[0, 0.5, 0.9]), r"config\.json and the masks disagree about the levels' sparsities", LADDER
    ),
    "the fingerprint": Row(
        setting(fingerprint="sha256:" + "0" * 64),
        r"config\.json and the weights disagree about the fingerprint",
        LADDER,
    ),
    "the fingerprint, of a backbone": Row(
        setting(fingerprint="sha256:" + "0" * 64), "disagree about the fingerprint", LADDER, load_backbone_folder
    ),
    "no record of the drawing": Row(
        without(RESULTS, "drawing"), r"drawing is missing from results\.json or not an object", LADDER
    ),
    "a record that is a list": Row(
        results(pretraining=[]), r"pretraining is missing from results\.json or not an object", BACKBONE
    ),
    "a level that there is not": Row(
        nothing, "holds one ticket, of sparsity", load=lambda folder: load_ticket(folder, 0.5)
    ),
    "a level beyond the last": Row(
        nothing,
        r"folder: the sparsest level of this ladder is 0\.\d+, below 0\.99",
        LADDER,
        lambda folder: load_ticket(folder, 0.99),
    ),
    "a ladder as a ticket": Row(nothing, r"holds a ladder; say which sparsity you want", LADDER, load_ticket),
    "a backbone as a ticket": Row(nothing, "holds a backbone, which is dense; draw a ladder", BACKBONE, load_ticket),
    "a backbone as a ladder": Row(nothing, "holds a backbone, not a ladder", BACKBONE, load_ladder),
    "a ticket as a backbone": Row(nothing, "holds a ticket, whose pruned weights are gone", load=load_backbone_folder),
}
ROWS = LISTS | VALUES | FILES | JSON | CONTAINERS | CHECKPOINTS | CONFIGS
