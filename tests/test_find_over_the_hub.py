"""Backbones and data over the same road: `find` on CIFAR-10 from timm's and madrylab's weights, all of it over HTTP.

The weights are random and the images few; names, files and structures are those of the real repositories.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

from lottery_hub.networks.backbones import fresh_weights
from lottery_hub.storage.folder import load_ticket
from tests import warm
from tests.hub.server import Hub

ADV, STD, DATA = "models/madrylab/robust-imagenet-models", "models/timm/resnet18.tv_in1k", "datasets/uoft-cs/cifar10"
TINY = ["--method", "omp", "--set", "draw.rounds=1", "--set", "transfer.standard.epochs=1",
        "--set", "transfer.adversarial.epochs=1", "--set", "transfer.adversarial.attack.steps=1",
        "--set", "transfer.test_attack.steps=1", "--device", "cpu", "--precision", "float32",
        "--output", "run", "--json"]  # fmt: skip

# The checksum of the real file is known, so a stand-in is refused unless the table says otherwise.
RUN = """
import sys
from dataclasses import replace
from lottery_hub.sharing import sources
if sys.argv[1]:
    sources.SOURCES = tuple(
        replace(row, sha256=sys.argv[1]) if row.file == "resnet18_linf_eps4.0.ckpt" else row
        for row in sources.SOURCES
    )
from lottery_hub.cli import main
sys.argv = ["lottery-hub", *sys.argv[2:]]
main()
"""


def checkpoint(weights: dict[str, torch.Tensor]) -> bytes:
    """A checkpoint as the robustness library writes it, with its second copy of the network and its constants."""
    model = {f"module.model.{name}": tensor for name, tensor in weights.items()}
    model |= {f"module.attacker.model.{name}": tensor for name, tensor in weights.items()}
    for place in ("module.normalizer", "module.attacker.normalize"):
        model |= {f"{place}.new_mean": torch.full((3, 1, 1), 0.5), f"{place}.new_std": torch.full((3, 1, 1), 0.25)}
    file = io.BytesIO()
    torch.save({"model": model, "optimizer": {}, "schedule": None, "epoch": 90, "amp": None}, file)
    return file.getvalue()


def parquet(rows: int, seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(rows):
        png = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(png, "PNG")
        images.append({"bytes": png.getvalue(), "path": None})
    file = io.BytesIO()
    pq.write_table(pa.table({"img": images, "label": [row % 2 for row in range(rows)]}), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    weights = dict(fresh_weights("resnet18", 1000, seed=0))
    with Hub(tmp_path_factory.mktemp("hub")) as served:
        served.store.commit(ADV, {"resnet18_linf_eps4.0.ckpt": checkpoint(weights)})
        served.store.commit(STD, {"model.safetensors": safetensors.torch.save(weights)})
        names = ("train-00000-of-00001", "test-00000-of-00001")
        served.store.commit(DATA, {f"plain_text/{name}.parquet": parquet(20, seed) for seed, name in enumerate(names)})
        yield served


def find(hub: Hub, place: Path, pretrain: str, sha256: str) -> subprocess.CompletedProcess[str]:
    words = ["find", "--dataset", "cifar10", "--arch", "resnet18", "--pretrain", pretrain, *TINY]
    return warm.run("-c", RUN, sha256, *words, env=hub.environment(place / "home"), cwd=place, timeout=250)


@pytest.mark.parametrize(("pretrain", "repo"), [("adv", ADV), pytest.param("std", STD, marks=pytest.mark.slow)])
def test_find_fetches_backbone_and_data_and_records_their_commits(
    hub: Hub, tmp_path: Path, pretrain: str, repo: str
) -> None:
    (content,) = (content for name, content in hub.store.files(repo).items() if name != ".gitattributes")
    done = find(hub, tmp_path, pretrain, hashlib.sha256(content).hexdigest())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["level"] == 1
    ticket = load_ticket(tmp_path / "run")
    origin = ticket.provenance["backbone"]
    assert origin["source"].startswith(repo.removeprefix("models/"))
    assert origin["revision"] == hub.store.head(repo)
    assert ticket.records["data"]["revision"] == hub.store.head(DATA)
    assert (ticket.mean == (0.5,) * 3) is (pretrain == "adv"), "the constants beside the network are used"


def test_another_file_in_the_place_of_known_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    done = find(hub, tmp_path, "adv", "")
    assert done.returncode == 1
    assert "resnet18_linf_eps4.0.ckpt" in done.stderr
    assert "does not have the expected sha256" in done.stderr
    assert not (tmp_path / "run").exists()
