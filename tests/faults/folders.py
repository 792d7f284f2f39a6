"""Valid folders in memory, of a network that is as small as can be, and how one is written with its faults."""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lottery_hub.networks.backbones import ARCHITECTURES, Backbone, layout
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import save_backbone, save_ladder, save_ticket

CONFIG, RESULTS = "config.json", "results.json"
LEVELS, CLASSES = 2, 3
RECORDS = {"double_win": True, "note": "zwölf × θ", "levels": [{"level": 2, "SA": 0.5}]}
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# 12 thousand weights in 21 convolutions. Ten thousand folders are read in the time that one of a real network's takes.
TINY = "resnet18-tiny"
ARCHITECTURES[TINY] = ("resnet18", {"channels": (2, 2, 4, 4), "output_stride": 8})


@dataclass
class Stored:
    """A tensor of a safetensors file: what its header says, and the bytes."""

    dtype: str
    shape: Any
    data: bytearray


@dataclass
class Draft:
    """A folder that can still be changed; what is not lied about is right when it is written.

    Attributes:
        weights: the name of the weights file.
        config, results: of the JSON files.
        tensors: of the weights file.
        edit_header: changes of the safetensors header, made when its offsets are known.
        edits: file name → changes of the file's bytes.
        rehash: whether config.json gets the hashes of the files as they are.
        after: changes of the written folder: links, pipes, missing files.
    """

    weights: str
    config: dict[str, Any]
    results: dict[str, Any]
    tensors: dict[str, Stored]
    edit_header: list[Callable[[dict[str, Any]], object]] = field(default_factory=list)
    edits: dict[str, list[Callable[[bytes], bytes]]] = field(default_factory=dict)
    rehash: bool = True
    after: list[Callable[[Path], object]] = field(default_factory=list)

    @property
    def about(self) -> dict[str, Any]:
        return self.config["lottery_hub"]

    def copy(self) -> Draft:
        """Return a copy of a draft that has no edits yet."""
        tensors = {name: replace(one, data=bytearray(one.data)) for name, one in self.tensors.items()}
        return Draft(self.weights, copy.deepcopy(self.config), copy.deepcopy(self.results), tensors)

    def edit(self, name: str, change: Callable[[bytes], bytes]) -> None:
        self.edits.setdefault(name, []).append(change)

    def write(self, place: Path) -> Path:
        place.mkdir()
        files = self._hashed_files()
        if self.rehash and isinstance(self.config.get("lottery_hub"), dict):
            hashes = self.about.get("hashes")
            if isinstance(hashes, dict):
                hashes |= {name: sha256(data) for name, data in files.items() if name in hashes}
        files[CONFIG] = self._edited(CONFIG, _json(self.config))
        for name, data in files.items():
            (place / name).write_bytes(data)
        for change in self.after:
            change(place)
        return place

    def _hashed_files(self) -> dict[str, bytes]:
        return {
            self.weights: self._edited(self.weights, self._safetensors()),
            RESULTS: self._edited(RESULTS, _json(self.results)),
        }

    def _edited(self, name: str, data: bytes) -> bytes:
        for change in self.edits.get(name, []):
            data = change(data)
        return data

    def _safetensors(self) -> bytes:
        header: dict[str, Any] = {}
        data = bytearray()
        for name, one in self.tensors.items():
            offsets = [len(data), len(data) + len(one.data)]
            header[name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": offsets}
            data += one.data
        for change in self.edit_header:
            change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    # Lone surrogates and NaN are written as Python writes them.
    return json.dumps(value).encode()


@cache
def valid() -> dict[str, Draft]:
    """Return a folder of every content and type of values, such as "ladder float16"."""
    drafts = {}
    with tempfile.TemporaryDirectory() as place:
        for values, dtype in TYPES.items():
            ladder = _ladder(dtype)
            save_ticket(ladder.ticket(LEVELS, RECORDS), Path(place, values, "ticket"))
            save_ladder(ladder, Path(place, values, "ladder"))
            save_backbone(replace(ladder.backbone, records={"epoch": 3}), Path(place, values, "backbone"))
            for content in ("ticket", "ladder", "backbone"):
                draft = read(Path(place, values, content))
                assert draft.about["values"] == values
                drafts[f"{content} {values}"] = draft
    return drafts


def read(folder: Path) -> Draft:
    """Return a folder as a draft."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    weights = folder / f"{config['lottery_hub']['content']}.safetensors"
    data = weights.read_bytes()
    start, tensors = 8 + int.from_bytes(data[:8], "little"), {}
    for name, one in json.loads(data[8:start]).items():
        begin, end = one["data_offsets"]
        tensors[name] = Stored(one["dtype"], one["shape"], bytearray(data[start + begin : start + end]))
    draft = Draft(weights.name, config, results, dict(sorted(tensors.items())))
    draft.about["hashes"] = {name: sha256(data) for name, data in draft._hashed_files().items()}
    return draft


def _ladder(dtype: torch.dtype) -> Ladder:
    """Random weights that `dtype` holds exactly, and two rounds of pruning that also empty and spare whole tensors."""
    generator = torch.Generator().manual_seed(1)
    shapes, prunable = layout(TINY, CLASSES)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
        elif name in prunable:
            weights[name] = (noise * 0.05).to(dtype).float()
        else:
            weights[name] = noise.abs() if name.endswith("running_var") else noise
    survived = {}
    for place, name in enumerate(prunable):
        rounds = torch.tensor([0, 0, 0, 0, 1, 2])[torch.randint(0, 6, shapes[name], generator=generator)]
        survived[name] = (rounds if place > 2 else torch.full_like(rounds, place)).to(torch.uint8)
    survived[prunable[0]][::7] = 2
    return Ladder(Backbone(TINY, "adv", weights), survived, LEVELS, "imp", {"plan": {"rounds": LEVELS}})
