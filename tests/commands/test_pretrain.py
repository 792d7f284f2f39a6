"""`pretrain` in Python: a backbone, its folder and its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

import lottery_hub as lh
from lottery_hub.commands.pretrain import plan_of
from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset


def test_a_backbone_is_trained_on_images_in_memory_and_found_again(tiny_data: Dataset, tmp_path: Path) -> None:
    small = {"test_attack.steps": 1}
    done = lh.pretrain(
        tiny_data, recipe="std", epochs=1, batch_size=12, settings=small, output=tmp_path / "run", device="cpu"
    )
    assert lh.load_backbone(done).fingerprint() == done.backbone.fingerprint()
    assert done.backbone.records["plan"]["recipe"]["batch_size"] == 12
    assert done.record()["test"]["SA"] == done.accuracy.SA
    assert repr(done).startswith(f"Pretrained(SA {done.accuracy.SA * 100:.2f} %, RA ")


def test_what_is_seen_follows_images_in_memory_and_what_is_asked_for_elsewhere(
    tiny_data: Dataset, tmp_path: Path
) -> None:
    assert plan_of(dataset=tiny_data).recipe.image_size == 8
    plan = plan_of(dataset="digits", image_size=16)
    assert (plan.recipe.image_size, plan.data.image_size) == (16, 16)
    with pytest.raises(ConfigError, match="stored at 8x8 pixels, and the recipe shows them at 16x16"):
        lh.pretrain(tiny_data, image_size=16, epochs=1, output=tmp_path / "run", device="cpu")


def test_what_is_given_as_it_is_is_not_changed_by_settings(tiny_data: Dataset) -> None:
    with pytest.raises(ConfigError, match="the images are given as they are"):
        lh.pretrain(tiny_data, settings=["data.fraction=0.5"])
    with pytest.raises(ConfigError, match=r"^unknown recipe 'robust'; choose std, fast-adv, adv$"):
        lh.pretrain(tiny_data, recipe="robust")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^batch_size is 'all', neither auto nor a number from 2$"):
        lh.pretrain(tiny_data, batch_size="all")  # type: ignore[arg-type]
