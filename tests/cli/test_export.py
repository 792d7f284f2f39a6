"""`lottery-hub export`: what it prints for people and for scripts, and how it ends."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lottery_hub import cli
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.storage.folder import load_ticket, save_ticket

PACKAGED = ["resnet18-slim-adv", "--sparsity", "0.8"]


class Called(NamedTuple):
    code: object
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Call `lottery-hub export` inside this process, from an empty folder."""
    monkeypatch.chdir(tmp_path)

    def export(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", "export", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return Called(end.value.code, out, re.sub(r"(?m)^\d{4}-\d\d-\d\d .*\n", "", err))

    return export


@pytest.fixture(scope="module")
def emptied(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ticket folder with 5 classes, one of whose layers has lost 7 of its 128 filters of 128 x 3 x 3."""
    mask = ladder.mask(4)
    mask["layer4.1.conv1.weight"][:7] = False
    return str(save_ticket(ticket_of(ladder.backbone, mask, 4, "omp", {}), tmp_path_factory.mktemp("emptied") / "net"))


# For people


def test_a_file_is_told_in_two_lines(call: Call, tmp_path: Path) -> None:
    done = call(*PACKAGED, "--format", "safetensors-dense", "--output", "net.safetensors")
    size = (tmp_path / "net.safetensors").stat().st_size
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "resnet18-slim (adv), level 7: 79.03 % sparsity, with the head of its source task: 100 classes",
        f"safetensors-dense, its weights bit for bit, {size:,} bytes: net.safetensors",
    ]


def test_the_size_of_timms_folder_is_that_of_its_files(call: Call, tmp_path: Path) -> None:
    done = call(*PACKAGED, "--format", "timm", "--output", "new/net")
    size = sum(file.stat().st_size for file in (tmp_path / "new" / "net").iterdir())
    assert done.code == 0
    assert done.out.endswith(f"\ntimm, its weights bit for bit, {size:,} bytes: new/net\n")


def test_a_network_to_run_is_told_with_how_far_it_is_off(call: Call) -> None:
    pytest.importorskip("onnxruntime", reason="an ONNX export needs pip install 'lottery-hub[export]'")
    done = call(*PACKAGED, "--format", "onnx", "--output", "net.onnx", "--image-size", "16")
    assert (done.code, done.err) == (0, "")
    _, told = done.out.splitlines()
    assert re.fullmatch(
        r"onnx, \[0,1\] images of 16x16 pixels to logits, (\d\.\de-\d\d|no difference) from its own "
        r"on random images, [\d,]+ bytes: net\.onnx",
        told,
    )


def test_compacting_tells_what_it_saved_and_what_it_did_not(call: Call, emptied: str) -> None:
    done = call(emptied, "--format", "torch-export", "--output", "net.pt2", "--compact", "--batch-size", "2")
    assert (done.code, done.err) == (0, "")
    _, removed, parameters, macs, latency, why, _ = done.out.splitlines()
    # Each filter takes its 128 x 9 weights, its BatchNorm's 2, and the 9 weights that 128 others read it by.
    assert removed == "compacted: 7 channels removed"
    assert parameters == f"parameters: 717,861 → {717_861 - 7 * (2 * 128 * 9 + 2):,} (-2.2 %)"
    assert macs == f"MACs of a 32x32 image: 14,516,864 → {14_516_864 - 7 * 2 * 128 * 9 * 16:,} (-1.8 %)"
    assert re.fullmatch(
        r"latency in torch: \d+\.\d\d → \d+\.\d\d ms \([+-]\d+\.\d %\), fastest of 30 batches of 2, cpu, 1 thread",
        latency,
    )
    assert why.endswith("every other pruned weight is a 0 that a dense kernel multiplies like any number")


# For scripts


def test_one_json_object_tells_what_was_written(call: Call, tmp_path: Path) -> None:
    done = call(*PACKAGED, "--format", "timm", "--output", "net", "--image-size", "16", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    assert json.loads(done.out) == {
        "path": "net",
        "format": "timm",
        "arch": "resnet18-slim",
        "level": 7,
        "sparsity": load_ticket("resnet18-slim-adv", 0.8).sparsity,
        "network": "with the head of its source task: 100 classes",
        "num_classes": 100,
        "image_size": 16,
        "bytes": sum(file.stat().st_size for file in (tmp_path / "net").iterdir()),
        "largest_difference": None,
        "compact": None,
    }


def test_json_carries_costs_and_how_they_were_measured(call: Call, emptied: str) -> None:
    done = call(emptied, "--format", "torch-export", "--output", "net.pt2", "--compact", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    costs = told["compact"]
    assert 0 <= told["largest_difference"] <= 1e-5
    assert costs["removed_channels"] == 7
    before, after = costs["before"], costs["after"]
    assert min(before.pop("milliseconds"), after.pop("milliseconds")) > 0
    assert before == {"parameters": 717_861, "macs": 14_516_864, "image_size": 32}
    assert after == {"parameters": 701_719, "macs": 14_258_816, "image_size": 32}
    wanted = {"runs": 30, "batch_size": 1, "image_size": 32, "device": "cpu", "threads": torch.get_num_threads()}
    assert costs["latency"] == wanted


# Errors and usage


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere", "--format", "timm", "--output", "net"], "no ticket at nowhere"),
        (["resnet18-slim-adv", "--format", "timm", "--output", "net"], "say which sparsity you want"),
        ([*PACKAGED, "--format", "timm", "--output", "net", "--compact"], "timm keeps timm's shapes"),
        (
            [*PACKAGED, "--format", "onnx", "--output", "net", "--image-size", "0"],
            "1..2048 pixels, not 0; give it with",
        ),
        ([*PACKAGED, "--format", "onnx", "--output", "."], "is a folder; give the name of a file"),
        ([*PACKAGED, "--format", "timm", "--output", ".."], "which would be lost; give another name, or --overwrite"),
        ([*PACKAGED, "--format", "timm", "--output", "/proc/\x1b[31m"], r"cannot write /proc/\x1b[31m"),
    ],
    ids=["no ticket", "no level", "timm's shapes", "size", "folder", "not an export", "escape codes"],
)
def test_an_error_is_one_line_on_stderr_and_ends_with_1(
    call: Call, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert reason in done.err
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        PACKAGED,
        [*PACKAGED, "--format", "onnx"],
        [*PACKAGED, "--output", "net"],
        [*PACKAGED, "--format", "tflite", "--output", "net"],
        [*PACKAGED, "--format", "onnx", "--output", "net", "--image-size", "big"],
        [*PACKAGED, "--format", "onnx", "--output", "net", "--batch-size", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_so_on_stderr(call: Call, tmp_path: Path, arguments: list[str]) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err
    assert list(tmp_path.iterdir()) == []
