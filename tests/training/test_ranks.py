"""One training by two processes: what one process gives that takes its batches in two parts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from lottery_hub.training.ranks import Ranks

WORKER = """
import json, os, sys
import torch
torch.set_num_threads(1)
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.networks.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.training import loop
from lottery_hub.training.ranks import Ranks, joined
from tests.conftest import stripes
from lottery_hub.images.datasets import Dataset

place, dies = sys.argv[1:]
data = Dataset(name="stripes", revision=None, fingerprint="sha256:stripes", classes=("a", "b", "c"), fraction=1.0,
               train=stripes(24, 1), validation=stripes(9, 2), test=stripes(12, 3), notes=())
attack = Attack(norm="l2", eps=0.5, step_size=0.3, steps=2, random_start=False)
standard = Recipe(epochs=3, batch_size=12, lr=0.02, augment="crop", image_size=8, average=0.5)
backbone = Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 5, seed=0))
dense = backbone.dense_mask()
mask = keep_highest(magnitudes(backbone.weights, dense), dense, kept_and_total(dense)[1] // 2)

def tell(record):
    if dies and record["epoch"] == 2:
        os._exit(9)

with joined() as ranks:
    if ranks.size == 1:
        loop._parts = lambda *_: 2
    told = {"mask": mask}
    for kind, recipe in ("standard", standard), ("adversarial", standard.changed(attack=attack)):
        trained = loop.train(
            backbone.model(3), data, recipe, seed=0, mask=mask, checkpoint=f"{place}/{kind}", on_epoch=tell
        )
        told[kind] = {"weights": trained.weights, "history": trained.history}
    torch.save(told, f"{place}/{ranks.rank}")
"""


def start(place, size=2, dies=""):
    """Start the processes; each writes what it has trained to a file of its number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place.mkdir(exist_ok=True)
    about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(place)]
    return [
        subprocess.Popen([*command, dies if rank == 0 else ""], env=os.environ | about | {"RANK": str(rank)})
        for rank in range(size)
    ]


def done(running, place):
    assert [run.wait(timeout=250) for run in running] == [0] * len(running)
    return [torch.load(place / str(rank), weights_only=True) for rank in range(len(running))]


def test_two_processes_give_what_one_gives_in_two_parts(tmp_path):
    alone, two = start(tmp_path / "alone", 1), start(tmp_path / "two")
    (one,), both = done(alone, tmp_path / "alone"), done(two, tmp_path / "two")
    for kind in ("standard", "adversarial"):
        first, second, expected = (told[kind] for told in (*both, one))
        for name, weight in expected["weights"].items():
            assert torch.equal(first["weights"][name], second["weights"][name]), name
            # Statistics are told as what a pass has added to them, in which their last digits are lost.
            close = 1e-5 if "running" in name or kind == "adversarial" else 0
            assert torch.allclose(first["weights"][name].double(), weight.double(), atol=close, rtol=0), name
        assert all(bool((second["weights"][name][~kept] == 0).all()) for name, kept in one["mask"].items())
        assert [record["ranks"] for record in second["history"]] == [2, 2, 2]
        assert "ranks" not in expected["history"][0]
        for record, other in zip(first["history"], expected["history"], strict=True):
            assert record["validation_SA"] == pytest.approx(other["validation_SA"])


@pytest.mark.slow
def test_where_one_dies_the_other_ends_and_all_go_on_from_the_last_epoch(tmp_path):
    whole = done(start(tmp_path / "whole"), tmp_path / "whole")
    first, second = start(tmp_path / "killed", dies="dies")
    assert first.wait(timeout=120) == 9
    died = time.monotonic()
    assert second.wait(timeout=60) not in (0, None)
    assert time.monotonic() - died < 10
    gone_on = done(start(tmp_path / "killed"), tmp_path / "killed")
    for kind in ("standard", "adversarial"):
        weights = whole[1][kind]["weights"]
        assert all(torch.equal(weight, gone_on[1][kind]["weights"][name]) for name, weight in weights.items())


@pytest.mark.parametrize(("images", "parts"), [(8, [4, 4]), (7, [4, 3]), (3, [3, 0]), (1, [1, 0])])
def test_a_batch_too_small_for_all_is_the_firsts(images, parts):
    assert [len(Ranks(rank, 2).part(torch.zeros(images))) for rank in range(2)] == parts
    assert len(Ranks().part(torch.zeros(images))) == images
