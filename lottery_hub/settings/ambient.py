"""What a caller's process has set for all of torch, and what it is while we compute: nothing here may hang on it."""

from __future__ import annotations

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
