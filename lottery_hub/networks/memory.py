"""Memory: how much was taken at most, how many images it holds, and what to do where there is not enough."""

from __future__ import annotations

import resource
import sys

import torch
from torch import Tensor, nn

from lottery_hub.settings import machine

SHARE = 0.5  # of free memory that is planned with: gradients and the library's own buffers take the rest
# How libraries say it that do not raise torch's own error; cuDNN, by finding no way to compute what it is asked for.
_SAYS = (
    "can't allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
    "MPS backend out of memory",
)


def is_out_of_memory(problem: RuntimeError) -> bool:
    """Whether an error says that there is no memory left, on a GPU or on the CPU."""
    return isinstance(problem, torch.OutOfMemoryError) or any(words in str(problem) for words in _SAYS)


def peak_memory(device: torch.device) -> int:
    """Return the bytes taken at most so far: by tensors on the GPU, or by the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # getrusage will do elsewhere, but on Linux it begins with what the process that started this one had taken.
    peak = machine.told("/proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def free_memory(device: torch.device) -> None:
    """Give back what the allocator keeps, so that smaller pieces find room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be taken, or None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return machine.available_memory()


def images_that_fit(model: nn.Module, images: Tensor) -> int | None:
    """Estimate how many images a pass forward and back may take; None where the system does not say.

    On a CPU there is no error to recover from: a process that takes too much is killed.

    Args:
        model: its training flags are restored, its statistics not moved.
        images: float [4, 3, h, w]; what autograd keeps of two of them and of all four is measured.
    """
    free = available_memory(images.device)
    if free is None:
        return None
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        few, more = kept_of(model, images[:2].clone()), kept_of(model, images)
    finally:
        for module in training:
            module.training = True
    each = max((more - few) // (len(images) - 2), 1)
    return max(int(free * SHARE) // each, 1)


def kept_of(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass until the one back, parameters not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(images.detach().requires_grad_())
    del logits  # until here it held all that was noted, so that no place in memory was noted twice
    return sum(kept.values())
