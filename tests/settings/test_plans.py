"""Plans of a find: built from a preset, changed by the paths of settings, written and read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.settings.config import DrawPlan
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.presets import paper_draw, paper_transfer, quick_draw, quick_transfer

QUICK = FindPlan.preset("quick", pretrain="adv", dataset="cifar10", train_images=4_500)


def test_the_quick_preset_is_its_drawing_and_its_transfers() -> None:
    assert QUICK.draw == quick_draw("adv", "cifar100", "cifar100", "imp", 45_000, "float32")
    assert QUICK.transfer == quick_transfer("cifar10", 4_500, "float32")
    assert (QUICK.pretrain, QUICK.arch, QUICK.data.dataset, QUICK.data.image_size) == (
        *("adv", "resnet18-slim", "cifar10"),
        32,
    )


def test_the_paper_preset_needs_no_count_of_images_and_stores_them_at_a_size_of_its_own() -> None:
    plan = FindPlan.preset("paper", pretrain="std", arch="resnet50", dataset="imagenet", eps="4/255", seeds=3)
    assert plan.draw == paper_draw("std", "cifar100", "imp", "float32")
    assert plan.transfer == paper_transfer("imagenet", "float32", 4 / 255)
    assert (plan.data.image_size, plan.seeds) == (256, 3)


def test_a_size_is_that_of_both_transfers_and_images_are_stored_for_it() -> None:
    for preset, stored in (("quick", 112), ("paper", 128)):
        plan = FindPlan.preset(preset, dataset="photos", train_images=100, image_size=112)
        recipes = (plan.transfer.standard, plan.transfer.adversarial)
        assert [recipe.image_size for recipe in recipes] == [112, 112]
        assert plan.data.image_size == stored
    assert FindPlan.preset("paper", dataset="cifar10", image_size=112).data.image_size == 32


def test_a_path_goes_by_a_name_and_a_checkpoint_by_its_kind() -> None:
    drawn = DrawPlan(method="omp", rounds=3)
    plan = FindPlan.preset(
        pretrain="adv:my.pth", dataset="a/folder", name="digits", train_images=100, draw=drawn, ladder="draw"
    )
    assert plan.transfer == quick_transfer("digits", 100, "float32")
    assert (plan.draw, plan.ladder, plan.data.dataset) == (drawn, "draw", "a/folder")
    assert FindPlan.preset("paper", pretrain="folder", kind="std").draw == paper_draw(
        "std", "cifar100", "imp", "float32"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"train_images": None}, "give train_images"),
        ({"pretrain": "folder"}, "say with kind how folder was pre-trained: std, fast-adv, adv"),
        ({"preset": "fast"}, "unknown preset 'fast'; choose quick or paper"),
        ({"speed": 3}, "FindPlan.speed: "),
        ({"eps": "much"}, "'much' is not a number"),
    ],
)
def test_what_makes_no_plan_is_one_line(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        FindPlan.preset(**{"train_images": 100} | options)  # type: ignore[arg-type]
    assert reason in str(refused.value)


def test_a_plan_survives_a_file(tmp_path: Path) -> None:
    assert QUICK.transfer.standard.attack is None, "what is None has no word in TOML"
    for name, text in (("plan.toml", QUICK.toml()), ("plan.json", json.dumps(QUICK.record()))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert FindPlan.read(tmp_path / name) == QUICK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seeds = ",
        "seeds = 3",
        QUICK.toml().replace("seeds = 1", "seeds = 0"),
        "a = 1979-05-27",
        "\x00",
        "x" * 2**21,
    ],
    ids=["empty", "no TOML", "few", "none", "date", "null", "long"],
)
def test_what_is_no_plan_is_refused_by_the_name_of_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\\x1b\[31m\.toml: ") as refused:
        FindPlan.read(file)
    assert str(refused.value).isprintable()


def test_there_must_be_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ConfigError, match="is a pipe or a device"):
        FindPlan.read(tmp_path / "pipe.toml")
    for place in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the plan"):
            FindPlan.read(os.fspath(place))


def test_the_end_of_a_path_is_enough_where_it_can_mean_one_setting() -> None:
    plan = QUICK.with_settings(["standard.lr=0.5", "rounds=3", "test_attack.steps=7"])
    assert (plan.transfer.standard.lr, plan.draw.rounds, plan.transfer.test_attack.steps) == (0.5, 3, 7)
    with pytest.raises(ConfigError, match=r"^--set lr: several settings are called so; there is draw\.recipe\.lr, "):
        QUICK.with_settings(["lr=0.5"])
    assert QUICK.with_settings(["data.image_size=40"]).data.image_size == 40, "a whole path goes first"


def test_settings_in_python_are_values(tmp_path: Path) -> None:
    attack = QUICK.transfer.test_attack
    plan = QUICK.with_settings({"standard.lr": 0.5, "adversarial.attack": attack, "scan": "all", "arch": "resnet50"})
    assert (plan.transfer.adversarial.attack, plan.scan, plan.arch) == (attack, "all", "resnet50")
    with pytest.raises(ConfigError, match="is no value that a setting can have"):
        QUICK.with_settings({"standard.lr": tmp_path})


def test_a_part_of_a_plan_has_the_paths_that_it_has_in_the_whole() -> None:
    whole, part = QUICK.settings(), QUICK.draw.settings("draw")
    assert {path: value for path, value in whole.items() if path.startswith("draw.")} == part
    for path in ("draw.recipe.lr", "recipe.lr", "lr"):
        changed = QUICK.draw.with_settings({path: 0.5}, at="draw")
        assert changed.recipe is not None
        assert changed.recipe.lr == 0.5
    with pytest.raises(ConfigError, match=r"there is draw\.recipe\.epochs$"):
        QUICK.draw.with_settings(["recipe.attack.epochs=3"], at="draw")
