"""One training by two processes: what one process gives that takes its batches in two parts, from commands too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tests import warm

ROOT = Path(__file__).parents[2]
# Imports once, and forks the processes: each is one of those that torchrun would start.
PROGRAM = """
import json, os, sys, time, traceback
from pathlib import Path
import sklearn.datasets
import torch
torch.set_num_threads(1)
from lottery_hub import cli
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.networks.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.settings.ranks import joined
from lottery_hub.training import loop
from tests.conftest import stripes

place, ports = Path(sys.argv[1]), iter(sys.argv[2:])
data = Dataset(name="stripes", revision=None, fingerprint="sha256:stripes", classes=("a", "b", "c"), fraction=1.0,
               train=stripes(24, 1), validation=stripes(9, 2), test=stripes(12, 3), notes=())
attack = Attack(norm="l2", eps=0.5, step_size=0.3, steps=2)
standard = Recipe(epochs=2, batch_size=12, lr=0.02, augment="crop", image_size=8, average=0.5)
backbone = Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 5, seed=0))
dense = backbone.dense_mask()
mask = keep_highest(magnitudes(backbone.weights, dense), dense, kept_and_total(dense)[1] // 2)
RECIPES = {"standard": standard, "adversarial": standard.changed(attack=attack, selection_attack=attack)}

def trainings(folder, checkpoints, dies):
    def tell(record):
        if dies and record["epoch"] == 1:
            os._exit(9)

    with joined() as ranks:
        if ranks.size == 1:
            loop._parts = lambda *_: 2
        told = {"mask": mask}
        for kind, recipe in RECIPES.items():
            file = checkpoints / kind
            trained = loop.train(backbone.model(3), data, recipe, seed=0, mask=mask, checkpoint=file, on_epoch=tell,
                                 ranks=ranks)
            told[kind] = {"weights": trained.weights, "history": trained.history}
        torch.save(told, folder / str(ranks.rank))

def command(folder, *words):
    sys.argv = ["lottery-hub", *words]
    cli.main()

def start(size, folder, work, *given):
    "Fork the processes; return how each ended, and how long the last one outlived the first that did not end well."
    folder.mkdir(exist_ok=True)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": next(ports), "WORLD_SIZE": str(size)}
    running = {}
    for rank in range(size):
        if not (child := os.fork()):
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            for stream, name in (1, "out"), (2, "err"):
                os.dup2(os.open(folder / f"{rank}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
            code = 1
            try:
                work(folder, *given)
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        running[child] = rank
    ended, died = {}, None
    while running:
        child, status = os.wait()
        ended[running.pop(child)] = os.waitstatus_to_exitcode(status)
        died = died or (time.monotonic() if status else None)
    return [ended[rank] for rank in range(size)], time.monotonic() - (died or time.monotonic())

pretrain, draw = json.loads(os.environ["COMMANDS"])
say = {
    "alone": start(1, place / "alone", trainings, place / "alone", False),
    "two": start(2, place / "two", trainings, place / "two", False),
    "killed": start(2, place / "killed", trainings, place / "killed", True),
    "gone on": start(2, place / "gone on", trainings, place / "killed", False),
}
say["pretrain"] = start(2, place / "pretrain", command, *pretrain)
say["draw"] = start(2, place / "draw", command, *draw)
say["again"] = start(2, place / "again", command, *pretrain)
print(json.dumps(say))
"""


def free_ports(count):
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in taken]


QUICK = ["--device", "cpu", "--precision", "float32", "--json", "--set", "epochs=1", "--set", "data.fraction=0.05"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders in which processes have worked together, one for each story."""
    place = tmp_path_factory.mktemp("together")
    run = str(place / "pretrain" / "run")
    pretrain = ["pretrain", "--dataset", "digits", "--recipe", "std", "--set", "test_attack.steps=1", "--output", run]
    draw = ["draw", "--pretrain", run, "--source", "digits", "--rounds", "2", "--store", str(place / "store")]
    draw += ["--output", str(place / "draw" / "run")]
    about = os.environ | {"COMMANDS": json.dumps([[*pretrain, *QUICK], [*draw, *QUICK]])}
    done = warm.run("-c", PROGRAM, place, *free_ports(7), cwd=ROOT, env=about)
    assert done.returncode == 0, done.stderr
    (place / "told.json").write_text(done.stdout)
    return place


def ended(place, story):
    """How the processes of a story ended."""
    return json.loads((place / "told.json").read_text())[story][0]


def left(place, story, rank=0):
    return torch.load(place / story / str(rank), weights_only=True)


def printed(place, story, rank=0):
    return (place / story / f"{rank}.out").read_text()


@pytest.mark.parametrize("kind", ["standard", "adversarial"])
def test_two_processes_give_what_one_gives_in_two_parts(kind, place):
    assert ended(place, "two") == [0, 0], (place / "two" / "1.err").read_text()
    first, second, alone = (left(place, story, rank)[kind] for story, rank in (("two", 0), ("two", 1), ("alone", 0)))
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        # Statistics are told as what a pass has added to them, in which their last digits are lost.
        close = 1e-5 if "running" in name or kind == "adversarial" else 0
        assert torch.allclose(first["weights"][name].double(), weight.double(), atol=close, rtol=0), name
    for record, other in zip(first["history"], alone["history"], strict=True):
        assert [record[key] for key in ("validation_SA", "validation_RA")] == [
            other[key] for key in ("validation_SA", "validation_RA")
        ]


def test_a_mask_holds_and_records_say_how_many_they_were(place):
    told = left(place, "two", 1)
    assert all(bool((told["adversarial"]["weights"][name][~kept] == 0).all()) for name, kept in told["mask"].items())
    assert [record["ranks"] for record in told["standard"]["history"]] == [2, 2]
    assert "ranks" not in left(place, "alone")["standard"]["history"][0]


def test_where_one_dies_the_other_ends_and_all_go_on_from_the_last_epoch(place):
    ends, seconds = json.loads((place / "told.json").read_text())["killed"]
    assert ends[0] == 9
    assert ends[1] not in (0, None)
    assert seconds < 10
    assert "another process of this training has ended" in (place / "killed" / "1.err").read_text()
    whole, gone_on = left(place, "two", 1), left(place, "gone on", 1)
    for kind in ("standard", "adversarial"):
        weights = whole[kind]["weights"]
        assert all(torch.equal(weight, gone_on[kind]["weights"][name]) for name, weight in weights.items())


def test_two_processes_pre_train_and_the_first_one_prints_and_writes(place):
    assert ended(place, "pretrain") == [0, 0], (place / "pretrain" / "1.err").read_text()
    assert printed(place, "pretrain", 1) == ""
    (answer,) = printed(place, "pretrain").splitlines()
    assert json.loads(answer)["test"]["samples"] == 359
    kept = json.loads((place / "pretrain" / "run" / "units" / "pretrain" / "result.json").read_text())
    assert [record["ranks"] for record in kept["record"]["history"]] == [2]


def test_a_ladder_is_drawn_together_by_units_of_the_store(place):
    assert ended(place, "draw") == [0, 0], (place / "draw" / "1.err").read_text()
    assert len(json.loads(printed(place, "draw"))["sparsities"]) == 3
    (record,) = (
        record
        for file in (place / "store" / "units").glob("*/*/result.json")
        if "history" in (record := json.loads(file.read_text())["record"])
    )
    assert [epoch["ranks"] for epoch in record["history"]] == [2]


def test_the_first_process_alone_tells_how_far_they_are(place):
    assert "level 1: done" in (place / "draw" / "0.err").read_text()
    assert (place / "draw" / "1.err").read_text() == ""


def test_what_is_finished_needs_nobody(place):
    assert ended(place, "again") == [0, 0]
    assert json.loads(printed(place, "again")) == json.loads(printed(place, "pretrain"))


@pytest.mark.slow
def test_torchrun_ends_with_an_error_of_the_user_that_is_said_once(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "lottery_hub", "pretrain", "--dataset", "nowhere", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "error: no dataset 'nowhere'" in done.stderr
