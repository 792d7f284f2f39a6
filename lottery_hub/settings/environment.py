"""What a figure was measured with: versions and hardware, for every record."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast, get_args

import torch

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.config import Precision
from lottery_hub.settings.ranks import Ranks
from lottery_hub.version import __version__

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "pyautoattack")


def describe_environment(device: torch.device | str) -> dict[str, Any]:
    """Return versions of the library and what it computes with, and the kind of machine; JSON-able."""
    device, exact = torch.device(device), torch.are_deterministic_algorithms_enabled()
    return {
        "lottery_hub": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        **(_cuda() if device.type == "cuda" else {}),
        # A CPU adds in one order anyway.
        **({"deterministic": exact} if exact or device.type == "cuda" else {}),
    }


def _cuda() -> dict[str, Any]:
    """Return what else decides the last digits of a GPU's figures."""
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        # It rounds the factors of float32 products to 10 bits, and is off where we compute; see `ambient.computing`.
        "tf32": False,
    }


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, a certain GPU such as `cuda:1`, or `mps`, the GPU of a Mac.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in ("cpu", "cuda", "mps") or (
        colon and not (kind == "cuda" and number.isdecimal() and number.isascii())
    ):
        raise ConfigError(f"unknown device {printable(repr(name))}; choose auto, cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU is available; use --device cpu")
    if kind == "cuda" and Ranks.here().size > 1:
        return _own_gpu(bool(colon))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("no GPU of a Mac is available; use --device cpu")
    if colon and int(number) >= torch.cuda.device_count():
        raise ConfigError(f"there are {torch.cuda.device_count()} GPUs, counted from cuda:0, and no {name}")
    return torch.device(name)


def _own_gpu(certain: bool) -> torch.device:
    """Return the GPU of this process among several."""
    own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if certain or own >= there:
        raise ConfigError(
            f"several processes train together, each on a GPU of its own, and there are {there}: give --device cuda, "
            f"and torchrun --nproc-per-node {there}"
        )
    return torch.device("cuda", own)


def choose(device: str, precision: str) -> tuple[torch.device, Precision]:
    """Return the device and the precision of training that are meant; `auto` is what suits the machine.

    Raises:
        ConfigError: the device is not there, or there is no such precision.
    """
    chosen = choose_device(device)
    if precision == "auto":
        return chosen, fast_precision(chosen)
    if precision not in get_args(Precision):
        raise ConfigError(
            f"unknown precision {printable(repr(precision))}; choose auto, {', '.join(get_args(Precision))}"
        )
    return chosen, cast(Precision, precision)


def fast_precision(device: torch.device) -> Precision:
    """Return bfloat16 where the chip multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capability = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capability:
        return "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a user's path
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
