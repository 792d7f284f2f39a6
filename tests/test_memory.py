"""Memory: what counts as too little of it, and how much was taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lottery_hub.memory import free_memory, is_out_of_memory, peak_memory


@pytest.mark.parametrize(
    ("problem", "yes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
    ids=["gpu", "other"],
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
