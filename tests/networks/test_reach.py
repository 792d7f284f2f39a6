"""networks/reach.py: which weights no image reaches, by what a network computes and by counting taps."""

from __future__ import annotations

import pytest
import torch

from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.networks.reach import reach_of, reach_told, reached


@pytest.mark.parametrize(("arch", "side"), [("resnet18-slim", 32), ("resnet18-slim", 16), ("resnet18", 32)])
def test_what_no_image_reaches_can_be_anything_and_what_one_reaches_cannot(arch: str, side: int) -> None:
    backbone = Backbone(arch, "adv", fresh_weights(arch, 5, 0))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, 3, side, side), generator=generator)

    def logits(changed: bool) -> torch.Tensor:
        weights = dict(backbone.weights)
        for name, taps in reached(arch, side).items():
            noise = torch.randn(weights[name].shape, generator=generator)
            weights[name] = weights[name] + noise * (taps == changed)
        with torch.no_grad():
            seen: torch.Tensor = Backbone(arch, "adv", weights).model(5, 0).eval()(images)
        return seen

    with torch.no_grad():
        before = backbone.model(5, 0).eval()(images)
    assert torch.equal(logits(changed=False), before)
    assert not torch.allclose(logits(changed=True), before, rtol=0.1)


def test_dilated_taps_of_the_last_stage_meet_padding_only() -> None:
    """Of 32 pixels `output_stride=8` leaves 4x4, over which a tap four pixels away is always outside."""
    middle = torch.zeros(3, 3, dtype=torch.bool)
    middle[1, 1] = True
    taps = reached("resnet18-slim", 32)
    outside = [name for name, each in taps.items() if not each.all()]
    assert outside == ["layer4.0.conv2.weight", "layer4.1.conv1.weight", "layer4.1.conv2.weight"]
    assert all(torch.equal(taps[name], middle) for name in outside)


def test_the_share_of_what_is_reached_is_counted_by_hand() -> None:
    backbone = Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 5, 0))
    mask = backbone.dense_mask()
    # Three convolutions of 128 x 128 x 9 weights lose eight taps of nine.
    assert reach_of(mask, "resnet18-slim", 32) == (714_688 - 3 * 128 * 128 * 8,) * 2 + (714_688,)
    mask["layer4.1.conv2.weight"] = torch.zeros_like(mask["layer4.1.conv2.weight"])
    reach = reach_of(mask, "resnet18-slim", 32)
    assert reach.sparsity == pytest.approx(128 * 128 / reach.reached)
    assert reach_told(mask, "resnet18-slim", 32) == [
        "32x32 images reach 44.98 % of the prunable weights; the others only ever meet padding, and to prune them "
        "costs nothing. Of those that are reached 5.10 % are pruned"
    ]
    assert reach_told(mask, "resnet18-slim", 64) == []
