"""Pre-training: each kind is trained as its name says, and the saved file is the backbone that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, fingerprint, fresh_weights
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import Attack, DataPlan, Kind, PretrainPlan, Recipe
from lottery_hub.settings.presets import quick_pretrain
from lottery_hub.storage.folder import load_backbone_folder, save_backbone
from lottery_hub.training import pretraining
from lottery_hub.training.pretraining import pretrain

TEST_ATTACK = Attack(method="fgsm", eps=0.05)
RECIPE = Recipe(epochs=2, batch_size=12, lr=0.05, augment="none", image_size=8)


def plan(kind: Kind = "std", **changes: Any) -> PretrainPlan:
    started = PretrainPlan(
        arch="resnet18-slim",
        kind=kind,
        data=DataPlan(dataset="/secret/home/stripes"),
        recipe=RECIPE,
        test_attack=TEST_ATTACK,
        weights="float16",
    )
    return started.changed(**changes)


@pytest.fixture(scope="module")
def made(tiny_data: Dataset) -> Backbone:
    return pretrain(plan(), tiny_data)


def is_half(tensor: torch.Tensor) -> bool:
    return torch.equal(tensor.half().float(), tensor)


def test_a_backbone_is_trained_from_the_seeds_fresh_weights(made: Backbone, tiny_data: Dataset) -> None:
    start = fresh_weights("resnet18-slim", 3, 0)
    assert (made.arch, made.kind, made.num_classes) == ("resnet18-slim", "std", 3)
    assert list(made.weights) == list(start)
    assert not torch.equal(made.weights["conv1.weight"], start["conv1.weight"].half().float())
    assert int(made.weights["bn1.num_batches_tracked"]) > 0
    assert pretrain(plan(), tiny_data).fingerprint() == made.fingerprint()
    assert pretrain(plan(seed=1), tiny_data).fingerprint() != made.fingerprint()


def test_float16_rounds_the_convolutions_and_nothing_else(made: Backbone, tiny_data: Dataset) -> None:
    whole = pretrain(plan(weights="float32"), tiny_data)
    for name, tensor in whole.weights.items():
        wanted = tensor.half().float() if tensor.dim() == 4 else tensor
        assert torch.equal(made.weights[name], wanted), name
    assert not is_half(whole.weights["layer1.0.conv1.weight"])
    assert not is_half(made.weights["fc.weight"])
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in made.weights.values())


def test_the_saved_file_reloads_bit_equal_at_half_the_size(made: Backbone, tiny_data: Dataset, tmp_path: Path) -> None:
    folder = save_backbone(made, tmp_path / "half")
    loaded = load_backbone_folder(folder)
    assert loaded.fingerprint() == made.fingerprint()
    assert loaded.records == made.records
    whole = save_backbone(pretrain(plan(weights="float32"), tiny_data), tmp_path / "whole")
    sizes = [(place / "backbone.safetensors").stat().st_size for place in (folder, whole)]
    assert sizes[0] < 0.55 * sizes[1]


def test_the_figures_are_those_of_the_rounded_weights(made: Backbone, tiny_data: Dataset) -> None:
    accuracy = evaluate(made.model(), tiny_data.test, attack=TEST_ATTACK, image_size=8, seed=0)
    assert made.records["test"] == accuracy.record()
    assert (made.provenance["SA"], made.provenance["RA"]) == (accuracy.SA, accuracy.RA)
    assert (made.provenance["samples"], made.provenance["attack"]) == (12, "FGSM Linf eps 0.05")


def test_the_record_tells_everything_but_local_paths(made: Backbone) -> None:
    assert list(made.records) == ["plan", "data", "epoch", "history", "test", "test_attack", "environment"]
    assert made.records["plan"]["data"]["dataset"] == "stripes"
    assert made.provenance["dataset_fingerprint"] == "sha256:stripes"
    assert [record["epoch"] for record in made.records["history"]] == [1, 2]
    text = json.dumps([made.records, made.provenance], allow_nan=False)
    assert "secret" not in text
    assert str(Path.cwd()) not in text


@pytest.mark.parametrize(
    ("kind", "attack"),
    [("std", None), ("fast-adv", "N-FGSM Linf eps 8/255"), ("adv", "PGD-3 Linf eps 8/255 step 4/255")],
)
def test_each_kind_is_trained_on_its_own_images(
    tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch, kind: Kind, attack: str | None
) -> None:
    recipe = quick_pretrain(kind, "cifar10", 1, "float32").changed(batch_size=12, image_size=8)
    assert (recipe.attack.describe() if recipe.attack else None) == attack
    trained: list[Recipe] = []
    real = pretraining.train

    def watched(model: Any, data: Dataset, recipe: Recipe, **kwargs: Any) -> Any:
        trained.append(recipe)
        return real(model, data, recipe, **kwargs)

    monkeypatch.setattr(pretraining, "train", watched)
    made = pretrain(plan(kind, recipe=recipe), tiny_data)
    assert trained == [recipe]
    assert made.kind == kind
    # A robust backbone's epoch is chosen by its robust accuracy.
    assert (made.records["history"][0]["validation_RA"] is None) is (kind == "std")


def test_the_kinds_give_different_weights(tiny_data: Dataset) -> None:
    recipes = {
        "std": RECIPE,
        "fast-adv": RECIPE.changed(attack=Attack(method="n-fgsm", eps=0.1)),
        "adv": RECIPE.changed(attack=Attack(eps=0.1, step_size=0.05, steps=2)),
    }
    prints = {pretrain(plan(kind, recipe=recipe), tiny_data).fingerprint() for kind, recipe in recipes.items()}  # type: ignore[arg-type]
    assert len(prints) == 3


def test_a_stopped_pre_training_goes_on_from_its_checkpoint(made: Backbone, tiny_data: Dataset, tmp_path: Path) -> None:
    epochs: list[int] = []

    def stop_after_one(record: dict[str, Any]) -> None:
        epochs.append(record["epoch"])
        if len(epochs) == 1:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        pretrain(plan(), tiny_data, checkpoint=checkpoint, on_epoch=stop_after_one)
    again = pretrain(plan(), tiny_data, checkpoint=checkpoint, on_epoch=stop_after_one)
    assert epochs == [1, 2]
    assert fingerprint(again.weights) == made.fingerprint()
    assert again.records["test"] == made.records["test"]
