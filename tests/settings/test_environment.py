"""The record of versions and hardware, and the choice of a device."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import pytest
import torch

import lottery_hub
from lottery_hub.errors import ConfigError
from lottery_hub.settings import environment
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.storage.origins import Environment


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_the_record_names_versions_and_machine():
    record = describe_environment("cpu")
    assert record["lottery_hub"] == lottery_hub.__version__
    assert record["python"] == platform.python_version()
    assert {name: record[name] for name in ("torch", "timm", "numpy", "safetensors")} == {
        name: version(name) for name in ("torch", "timm", "numpy", "safetensors")
    }
    assert record["device"] == "cpu"
    assert record["threads"] == torch.get_num_threads()
    assert isinstance(record["hardware"], str)
    assert json.loads(json.dumps(record)) == record


def test_the_record_is_of_the_machine_and_not_of_its_user():
    text = json.dumps(describe_environment("cpu"))
    assert platform.node() == "" or f'"{platform.node()}"' not in text
    assert "/home" not in text


def test_the_record_of_a_gpu_says_what_decides_its_last_digits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    record = describe_environment("cuda")
    assert record["tf32"] is False
    assert {"cuda", "cudnn", "deterministic"} <= set(record)
    assert Environment.parse(record)
    assert "tf32" not in describe_environment("cpu")


def test_a_package_that_is_not_there_is_recorded_as_absent(monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGES", ("no-package-of-this-name",))
    assert describe_environment(torch.device("cpu"))["no-package-of-this-name"] == "absent"


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu):
    assert choose_device("auto") == torch.device("cpu")


def test_auto_takes_the_gpu_that_is_there(a_gpu):
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_an_error_with_a_way_out(no_gpu):
    with pytest.raises(ConfigError, match="no CUDA GPU is available; use --device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:x", "cuda:", "cpu:0", "meta"])
def test_another_device_is_refused_with_the_choices(name):
    with pytest.raises(ConfigError, match="choose auto, cpu, cuda, cuda:1 or mps"):
        choose_device(name)


def test_a_certain_gpu_is_taken_where_it_is_there(a_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="there are 2 GPUs, counted from cuda:0, and no cuda:2"):
        choose_device("cuda:2")


def test_the_gpu_of_a_mac_is_taken_where_it_is_there(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        if there:
            assert choose_device("mps") == torch.device("mps")
        else:
            with pytest.raises(ConfigError, match="no GPU of a Mac is available; use --device cpu"):
                choose_device("mps")


@pytest.mark.parametrize(
    ("capability", "bf16", "precision"),
    [
        ("AVX512", True, "bfloat16"),
        ("AVX512", False, "float32"),
        ("AVX2", True, "float32"),
        ("DEFAULT", True, "float32"),
    ],
)
def test_bfloat16_is_fast_only_on_a_chip_that_multiplies_it(monkeypatch, capability, bf16, precision):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert fast_precision(torch.device("cpu")) == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_emulated_bfloat16_on_a_gpu_is_not_fast(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert fast_precision(torch.device("cuda")) == precision
