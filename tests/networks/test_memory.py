"""Memory: what counts as too little of it, and how much was taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lottery_hub.networks import memory
from lottery_hub.networks.memory import (
    SHARE,
    available_memory,
    free_memory,
    images_that_fit,
    is_out_of_memory,
    kept_of,
    peak_memory,
)
from lottery_hub.settings import machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("problem", "yes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
    ids=["gpu", "driver", "cudnn", "cudnn without workspace", "other"],
)
def test_out_of_memory_is_told_from_other_errors(problem: RuntimeError, yes: bool) -> None:
    assert is_out_of_memory(problem) is yes


def test_a_tensor_larger_than_any_memory_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_peak_grows_with_what_is_taken() -> None:
    device = torch.device("cpu")
    before = peak_memory(device)
    taken = np.ones(before // 8 + 30_000_000)  # more than was ever there
    assert peak_memory(device) >= before + 200_000_000
    assert taken[0] == 1
    free_memory(device)


def test_what_autograd_keeps_is_counted_once_and_without_the_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    images = torch.rand(5, 3, 16, 16)
    # The images, and the result of the ReLU, which is its own and the input of the second convolution.
    assert kept_of(model, images) == 4 * 5 * 16 * 16 * (3 + 8)


def test_half_of_what_is_free_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).train()
    each = 4 * 3 * 16 * 16 * 2  # the images, and the result of the ReLU
    monkeypatch.setattr(memory, "available_memory", lambda device: 2 * 100 * each)
    seen = model[0].running_mean.clone()
    assert images_that_fit(model, torch.rand(4, 3, 16, 16)) == 100
    assert torch.equal(model[0].running_mean, seen), "measuring teaches nothing"
    assert all(module.training for module in model.modules())
    monkeypatch.setattr(memory, "available_memory", lambda device: 10)
    assert images_that_fit(model, torch.rand(4, 3, 16, 16)) == 1
    monkeypatch.setattr(memory, "available_memory", lambda device: None)
    assert images_that_fit(model, torch.rand(4, 3, 16, 16)) is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not say how much memory is free")
def test_free_memory_is_what_the_system_says_and_no_more_than_the_container_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_GROUPS", ())
    free = available_memory(CPU)
    assert free is not None
    assert 10**8 < free < 10**14
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(machine, "_GROUPS", ((str(limit), str(used)),))
    limit.write_text("5000000\n")
    used.write_text("2000000\n")
    assert available_memory(CPU) == 3_000_000
    limit.write_text("max\n")
    assert available_memory(CPU) >= 10**8  # type: ignore[operator]


TAKES = """
import sys, torch
from lottery_hub.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Normalised, build_network, fresh_weights
from lottery_hub.networks.memory import SHARE, available_memory, images_that_fit, peak_memory
model = Normalised(build_network("resnet18", fresh_weights("resnet18", 10, 0)), IMAGENET_MEAN, IMAGENET_STD)
images = torch.rand(64, 3, 128, 128)
each = available_memory(images.device) * SHARE / images_that_fit(model, images[:4])
before = peak_memory(images.device)
model(images).sum().backward()
print(each * len(images), peak_memory(images.device) - before)
"""


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not say how much memory is free")
@pytest.mark.slow
def test_a_pass_takes_about_as_much_as_was_estimated() -> None:
    done = subprocess.run([sys.executable, "-c", TAKES], capture_output=True, text=True, check=True)
    expected, taken = map(float, done.stdout.split())
    assert expected > 200e6
    assert SHARE * taken < expected < 1.5 * taken, "what is planned with leaves room for what is not estimated"
