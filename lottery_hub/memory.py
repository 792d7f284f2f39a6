"""Memory: how much was taken at most, and what to do where there is not enough."""

from __future__ import annotations

import resource
import sys

import torch

_CPU_SAYS = ("can't allocate memory", "not enough memory")


def is_out_of_memory(problem: RuntimeError) -> bool:
    """Whether an error says that there is no memory left, on a GPU or on the CPU."""
    return isinstance(problem, torch.OutOfMemoryError) or any(words in str(problem) for words in _CPU_SAYS)


def peak_memory(device: torch.device) -> int:
    """Return the bytes taken at most so far: by tensors on the GPU, or by the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory(device: torch.device) -> None:
    """Give back what the allocator keeps, so that smaller pieces find room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
