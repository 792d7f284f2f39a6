"""What a caller's process has set for all of torch, and what it is while we compute: nothing here may hang on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def gradients() -> Iterator[None]:
    """Let gradients be computed inside, also where the caller is under `no_grad` or in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def float32() -> Iterator[None]:
    """Let others' code make and draw float32 inside, whatever type is the caller's default.

    The default is the process's, as the generator is that such code draws from: for the few places that have both.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Have every kernel inside add in one order, where it has such a way: a GPU then gives the same bits every time.

    The switches are the process's, and records tell them; see `environment.describe_environment`.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    # Read when cuBLAS is first used: without it products of matrices may be added in any order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


@contextmanager
def computing(device: torch.device | str) -> Iterator[None]:
    """On a GPU, compute in a stream of our own, where float32 is float32.

    Several threads then have the GPU side by side, and a stream of its own is what can be recorded. What was asked for
    before is waited for, and what is asked for afterwards waits.
    """
    device = torch.device(device)
    if device.type != "cuda":
        yield
        return
    outer, own = torch.cuda.current_stream(device), _stream(device)
    if outer != torch.cuda.default_stream(device):  # somebody's already, or ours
        own = outer
    with _without_tf32, torch.cuda.stream(own):
        if own != outer:
            own.wait_stream(outer)
        try:
            yield
        finally:
            if own != outer:
                outer.wait_stream(own)


_of_this_thread = threading.local()


def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return this thread's stream. There are 32, handed out in turn: with more, two threads would have one."""
    streams: dict[torch.device, torch.cuda.Stream] = _of_this_thread.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return streams[device]


class _WithoutTF32:
    """While anybody computes here, no product of float32 rounds its factors to 10 bits.

    The switches are the process's: the first to come in turns them, and the last to leave turns them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = (False, False)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


_without_tf32 = _WithoutTF32()
