"""CUDA graphs on a CPU: what is recorded is a list of operations on places in memory, and is carried out again on them.

As on a GPU, what is recorded may read no number back, and sees later what lies where its inputs were; other than there
it is carried out while it is recorded as well, so that whoever records puts back what it changed.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero"}


class Tape(TorchDispatchMode):
    """Stands for a `torch.cuda.CUDAGraph`."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.replays = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            for function, args, kwargs, result in self.calls:
                for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tapes(monkeypatch, *changed):
    """Have torch's graphs be tapes, and recording leave these state dictionaries as they were; return the tapes."""
    made = []

    @contextmanager
    def recorded(tape, stream, capture_error_mode):
        held = [tensor for state in changed for tensor in tree_leaves(state()) if isinstance(tensor, torch.Tensor)]
        before = [tensor.clone() for tensor in held]
        with tape:
            yield
        for tensor, value in zip(held, before, strict=True):
            tensor.copy_(value)
        made.append(tape)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", recorded)
    return made
