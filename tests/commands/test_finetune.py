"""`finetune` in Python: a trained network, its folder and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lottery_hub as lh
from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.tickets import Ladder

# With the paths that they have in a find's plan.
SMALL = {
    "transfer.standard.epochs": 1,
    "transfer.adversarial.epochs": 1,
    "transfer.standard.image_size": 8,
    "transfer.adversarial.image_size": 8,
    "transfer.test_attack.steps": 1,
}


def test_a_ticket_in_memory_is_trained_on_images_in_memory(ladder: Ladder, tiny_data: Dataset, tmp_path: Path) -> None:
    how: dict[str, Any] = {"settings": SMALL, "output": tmp_path / "run", "device": "cpu"}
    done = lh.finetune(ladder.ticket(2), tiny_data, **how)
    assert done.sparsity == ladder.sparsities[2]
    assert lh.evaluate(done, tiny_data, attack=None, device="cpu").SA == done.accuracy.SA
    assert lh.evaluate(done.model(), tiny_data.test, attack=None, device="cpu").SA == done.accuracy.SA
    assert lh.finetune(ladder.ticket(2), tiny_data, **how).record() == done.record()
    assert repr(done).startswith(f"Finetuned(SA {done.accuracy.SA * 100:.2f} %, RA ")


def test_deterministic_gives_the_same_bits_twice_says_so_and_leaves_torch_as_it_was(
    ladder: Ladder, tiny_data: Dataset, tmp_path: Path
) -> None:
    def trained(name: str, **how: Any) -> dict[str, Any]:
        how |= {"settings": SMALL, "output": tmp_path / name, "device": "cpu", "regime": "adversarial"}
        found: dict[str, Any] = lh.finetune(ladder.ticket(2), tiny_data, **how).record()
        assert not torch.are_deterministic_algorithms_enabled()
        return found

    one, other = (trained(name, deterministic=True) for name in ("one", "other"))
    assert one["trained"] == other["trained"]
    assert one["provenance"]["environment"]["deterministic"] is True
    plain = trained("plain")
    assert plain["trained"] == one["trained"], "a CPU adds in one order anyway"
    assert "deterministic" not in plain["provenance"]["environment"]


def test_a_regime_is_one_of_two(ladder: Ladder, tiny_data: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"^unknown regime 'robust'; choose standard, adversarial$"):
        lh.finetune(ladder.ticket(2), tiny_data, regime="robust")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="take a fraction where they are loaded"):
        lh.finetune(ladder.ticket(2), tiny_data, fraction=0.5)
