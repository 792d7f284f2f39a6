"""Masking checks: an honest network passes, and networks that only hide their gradients are caught."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery_hub.images.datasets import Split
from lottery_hub.robustness.masking import check_masking

EPS = 0.01


class Small(nn.Module):
    """A random network; `scale` multiplies its logits, `quantise` coarsens what it sees."""

    def __init__(self, scale: float = 1.0, quantise: bool = False, classes: int = 10) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))
        self.scale, self.quantise = scale, quantise

    def forward(self, images: Tensor) -> Tensor:
        if self.quantise:  # to 16 grey levels: gradients are 0 almost everywhere
            images = (images * 15).round() / 15
        logits: Tensor = self.inner(images) * self.scale
        return logits


def results(model: nn.Module, eps: float = EPS) -> dict[str, Any]:
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model.eval()(images / 255).argmax(1)
    return {check.name: check for check in check_masking(model, Split(images, labels), eps, image_size=8)}


@pytest.fixture(scope="module")
def honest() -> dict[str, Any]:
    return results(Small())


def test_an_honest_network_passes_all(honest: dict[str, Any]) -> None:
    assert len(honest) == 6
    assert [check.name for check in honest.values() if not check.passed] == []
    base = next(iter(honest.values())).figures["PGD-20"]
    assert 0 < base < 1, "some images withstand and some do not"


def test_a_network_with_logits_scaled_up_is_caught() -> None:
    checks = results(Small(scale=1e4))
    failed = {name for name, check in checks.items() if not check.passed}
    assert "RA falls to 0 as the radius grows" in failed
    assert "a loss that no scale can blind finds no more than the gradient of cross-entropy" in failed


@pytest.mark.parametrize("classes", [2, 3])
def test_of_few_classes_the_margin_takes_the_place_of_the_dlr_loss(classes: int) -> None:
    honest, blind = (results(Small(scale, classes=classes), eps=0.03) for scale in (1.0, 1e4))
    assert [check.name for check in honest.values() if not check.passed] == []
    name = "a loss that no scale can blind finds no more than the gradient of cross-entropy"
    assert honest[name].figures.keys() == {"PGD-20", "PGD-100 on the margin"}
    assert honest["logits times 1000 change nothing for the margin"].passed
    assert not blind[name].passed


def test_a_network_without_gradients_is_caught() -> None:
    failed = {name for name, check in results(Small(quantise=True)).items() if not check.passed}
    assert "RA falls to 0 as the radius grows" in failed
    assert "queries alone break no more than gradients" in failed


def test_a_record_holds_figures_and_result(honest: dict[str, Any]) -> None:
    record = honest["more steps do not help the defender"].record()
    assert record["passed"] is True
    assert set(record["figures"]) == {"PGD-20", "PGD-100"}
