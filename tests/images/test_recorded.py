"""A network is measured on the images that its records name: the same split, at the same size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lottery_hub import cli
from lottery_hub.errors import DataError
from lottery_hub.images.datasets import load_dataset
from lottery_hub.images.recorded import load_for, recorded_plan, seen_size
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import Recipe
from lottery_hub.sharing.pulling import load_ticket
from lottery_hub.storage.folder import save_ticket
from lottery_hub.training.transferring import transfer


def photos(folder: Path, seed: int = 0, count: int = 12) -> Path:
    noise = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_a_dataset_describes_how_it_was_split_so_that_it_can_be_loaded_again(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pets")
    data = load_dataset(str(folder), image_size=24, split_seed=3, validation=0.25)
    records = {"data": data.describe()}
    plan = recorded_plan(records)
    assert plan is not None
    assert (plan.dataset, plan.image_size, plan.split_seed, plan.validation) == ("pets", 24, 3, 0.25)
    again = load_for(records, f"{folder}/")
    assert again.fingerprint == data.fingerprint
    assert again.notes == data.notes


def test_the_plan_of_a_find_says_what_older_descriptions_leave_out() -> None:
    data = {"name": "digits", "revision": None, "fraction": 0.5, "image_size": 16}
    plan = recorded_plan({"data": data, "plan": {"data": {"split_seed": 4, "validation": 0.2}}})
    assert plan is not None
    assert (plan.split_seed, plan.validation, plan.fraction, plan.image_size) == (4, 0.2, 0.5, 16)


def test_other_images_under_the_recorded_name_are_loaded_and_said_to_be_others(tmp_path: Path) -> None:
    records = {"data": load_dataset(str(photos(tmp_path / "one" / "pets"))).describe()}
    other = load_for(records, str(photos(tmp_path / "two" / "pets", seed=1)))
    assert other.notes[0] == "these are not the images of pets that its records name: fingerprints differ"


def test_another_dataset_is_split_in_its_own_way_and_stored_at_the_recorded_size(tmp_path: Path) -> None:
    records = {"data": load_dataset("digits", image_size=24, split_seed=3).describe()}
    other = load_for(records, str(photos(tmp_path / "pets")))
    assert (other.split_seed, other.train.images.shape[-1]) == (0, 24)


def test_what_only_a_strangers_records_name_is_not_fetched() -> None:
    records = {"data": {"name": "org/name", "revision": None, "fraction": 1.0, "image_size": 32}}
    with pytest.raises(DataError, match="say where it is with --dataset"):
        load_for(records)


def test_without_records_the_digits_are_loaded_at_32_pixels() -> None:
    assert load_for({}).name == "digits"
    assert load_for({}).train.images.shape[-1] == 32


@pytest.mark.parametrize(
    ("records", "size"),
    [
        ({"recipe": {"image_size": 64}}, 64),
        ({"plan": {"recipe": {"image_size": 96}}}, 96),
        ({"recipe": {"image_size": "64"}}, None),
        ({}, None),
    ],
)
def test_the_size_that_a_network_saw_is_read_from_its_recipe(records: dict[str, object], size: int | None) -> None:
    assert seen_size(records) == size


def test_evaluate_measures_a_network_as_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset("digits", image_size=16, split_seed=1, fraction=0.1)
    start = load_ticket("resnet18-slim-std", 0.2)
    recipe = Recipe(epochs=2, lr=0.05, batch_size=16, image_size=16, augment="none")
    done = transfer(start, data, recipe, test_attack=None)
    trained = done.ticket(start, data, recipe)
    save_ticket(trained, tmp_path / "trained")
    command = ["lottery-hub", "evaluate", str(tmp_path / "trained"), "--attack", "none", "--json", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert json.loads(shown.out)["correct"] == done.accuracy.correct
    assert evaluate(trained.to_normalised(), load_dataset("digits").test).correct != done.accuracy.correct
    assert "note: " in shown.err
