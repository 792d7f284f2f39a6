"""What a GPU does over and over is told it once: recorded as a CUDA graph, and played back.

A step of a small network is hundreds of kernels, each of which takes less time than Python takes to ask for it. A
recorded step is asked for in one call. It is the same kernels on the same places in memory: inputs are copied to
where they were when it was recorded, and everything that the step changes (weights, statistics, momentum) stays where
it is.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lottery_hub.errors import first_line
from lottery_hub.settings.speed import on

WARM = 3  # calls that are made as they are, in which libraries choose their kernels and take their memory
_one_at_a_time = threading.Lock()  # CUDA records once a process at a time


class Replay:
    """A function of tensors, recorded on a GPU once it was called `WARM` times, and called as it is elsewhere.

    Args:
        call: takes tensors whose first dimension is the batch, and returns one; it reads nothing back, and draws no
            random numbers. Where `recording` is set, it is being recorded.
        device: where the tensors are.
        size: the batch that is recorded. Calls with another are made as they are.
        calls: how many are expected; few are not worth it.
    """

    def __init__(self, call: Callable[..., Tensor], device: torch.device, size: int, calls: int) -> None:
        self.call, self.size = call, size
        self.wanted = device.type == "cuda" and on("graphs", device) and calls > 2 * WARM
        self.recording = False
        self.problem: str | None = None  # why it could not be recorded
        self._made = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Tensor] = []
        self._result: Tensor | None = None

    def __call__(self, *given: Tensor) -> Tensor:
        """Call the function, in one way or the other."""
        if not self.wanted or len(given[0]) != self.size:
            return self.call(*given)
        if self._graph is None:
            self._made += 1
            if self._made <= WARM or not self._record(given):
                return self.call(*given)
        assert self._graph is not None
        assert self._result is not None
        for place, tensor in zip(self._given, given, strict=True):
            place.copy_(tensor)
        self._graph.replay()
        return self._result.clone()

    def described(self) -> bool | str:
        """Return whether it is played back, or why it could not be."""
        return self.problem or self._graph is not None

    def forget(self) -> None:
        """Record anew at the next call, where something about the function has changed."""
        self._graph, self._result, self._given = None, None, []

    def _record(self, given: tuple[Tensor, ...]) -> bool:
        """Record a call without making it; return whether that could be done."""
        places = [tensor.clone() for tensor in given]
        graph = torch.cuda.CUDAGraph()
        self.recording = True
        try:
            # Other threads may go on meanwhile: only what this one does must be fit to be recorded.
            with (
                _one_at_a_time,
                torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"),
            ):
                result = self.call(*places)
        except RuntimeError as problem:
            self.wanted, self.problem = False, first_line(problem)
            warnings.warn(
                f"steps run kernel by kernel, which is slower: they could not be recorded ({self.problem})",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        finally:
            self.recording = False
        self._graph, self._given, self._result = graph, places, result
        return True
