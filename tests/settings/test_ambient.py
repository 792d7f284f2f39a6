"""What is torch's own to set, and how it is left."""

from __future__ import annotations

import pytest
import torch

from lottery_hub.settings.ambient import deterministic


def switches() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return *algorithms, cudnn.deterministic, cudnn.benchmark


def stopped_inside() -> None:
    with deterministic():
        assert switches() == (True, True, True, False)
        with deterministic(False):
            assert torch.are_deterministic_algorithms_enabled()
        raise KeyboardInterrupt


@pytest.mark.parametrize("strict", [False, True], ids=["as torch comes", "where the caller forbids what has no order"])
def test_kernels_add_in_one_order_inside_and_as_before_afterwards(strict: bool) -> None:
    torch.use_deterministic_algorithms(strict)
    try:
        before = switches()
        with pytest.raises(KeyboardInterrupt):
            stopped_inside()
        assert switches() == before
    finally:
        torch.use_deterministic_algorithms(False)
