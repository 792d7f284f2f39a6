"""scripts/attack_elsewhere.py: the same network by other code, on images that its making never saw."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import lottery_hub as lh
from lottery_hub.errors import DataError

NAME = "cifar10-1pct-resnet18-slim-std"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    return importlib.import_module("attack_elsewhere")


def test_unseen_are_those_that_were_neither_trained_nor_validated_nor_tested_on(script: ModuleType) -> None:
    seen, everything = lh.load_dataset("digits", fraction=0.2), lh.load_dataset("digits")
    images, labels = script.unseen({"data": seen.describe()}, None)
    known = {image.numpy().tobytes() for split in (seen.train, seen.validation, seen.test) for image in split.images}
    assert not known & {image.numpy().tobytes() for image in images}
    # Of 1,797 digits a few are the same picture; no other is left out.
    assert len(everything.train) - len(seen.train) - 20 < len(images) == len(labels)
    assert len(images) <= len(everything.train) - len(seen.train)


def test_other_images_than_the_tickets_are_refused(script: ModuleType) -> None:
    described = lh.load_dataset("digits", fraction=0.2).describe() | {"fingerprint": "sha256:0"}
    with pytest.raises(DataError, match="not the images that the ticket was trained on"):
        script.unseen({"data": described}, None)


def test_a_ticket_that_saw_all_training_images_is_refused(script: ModuleType) -> None:
    with pytest.raises(DataError, match="saw all training images"):
        script.unseen({"data": lh.load_dataset("digits").describe()}, None)


def test_plain_timm_gives_the_logits_that_we_give(script: ModuleType) -> None:
    network = lh.load_ticket(NAME).network("adversarial", seed=0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(script.plain(network)(images), network.to_normalised()(images))


def test_bytes_and_unit_images_count_alike(script: ModuleType) -> None:
    # A model that takes every image for its brightest pixel's class: 0 where dark, 1 where bright.
    def model(images: torch.Tensor) -> torch.Tensor:
        bright = images.amax(dim=(1, 2, 3))
        return torch.stack([1 - bright, bright], dim=1)

    images = torch.tensor([0, 100, 200, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    labels = torch.tensor([0, 0, 1, 0])
    assert script.right(model, images, labels) == script.right(model, images / 255, labels) == 3


def test_a_line_a_ticket_is_kept_and_replaced_when_measured_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AutoAttack:
        """One that finds nothing."""

        def __init__(self, model: object, **options: Any) -> None:
            assert (options["norm"], options["version"], options["eps"]) == ("Linf", "standard", 8 / 255)

        def run_standard_evaluation(self, images: torch.Tensor, labels: torch.Tensor, bs: int) -> torch.Tensor:
            return images

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    monkeypatch.setitem(sys.modules, "autoattack", SimpleNamespace(AutoAttack=AutoAttack))
    monkeypatch.setattr(script, "version", lambda package: "0")
    monkeypatch.setattr(script, "unseen", lambda *_: (images, torch.zeros(6, dtype=torch.int64)))
    kept = tmp_path / "elsewhere.jsonl"
    for count in ("2", "4"):
        monkeypatch.setattr(sys, "argv", ["attack_elsewhere.py", NAME, "--images", count, "--record", str(kept)])
        script.main()
    (row,) = map(json.loads, kept.read_text().splitlines())
    assert (row["ticket"], row["unseen"], row["attacked"]) == (NAME, 6, 4)
    assert row["robust"] == row["attacked_correct"] <= row["correct"]
    assert row["network"] == lh.load_ticket(NAME).network().fingerprint()
