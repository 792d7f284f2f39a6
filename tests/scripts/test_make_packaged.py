"""scripts/make_packaged.py: the whole chain from data to packaged ladder and card, on the bundled digits."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lottery_hub.errors import LotteryHubError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.settings.config import DataPlan, DrawPlan, PretrainPlan
from lottery_hub.storage.folder import load_ladder
from lottery_hub.training.drawing import draw
from tests import warm

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_packaged.py"
COMMAND = [str(SCRIPT), "--smoke", "--data", "digits", "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a smoke run was made, all three kinds of it."""
    place = tmp_path_factory.mktemp("smoke")
    set_apart = ["--set-pretrain", "recipe.momentum=0.8", "--set-draw", "recipe.momentum=0.7"]
    assert warm.run(*COMMAND, *set_apart, cwd=place).returncode == 0
    return place


@pytest.mark.slow  # what the script puts together has tests of its own
@pytest.mark.parametrize("kind", ["std", "fast-adv", "adv"])
def test_a_smoke_run_makes_a_ladder_with_every_figure_and_a_card(made: Path, kind: str) -> None:
    name = f"resnet18-slim-{kind}"
    ladder = load_ladder(made / "runs" / "smoke" / "out" / name)
    assert (ladder.backbone.kind, ladder.levels, ladder.method) == (kind, 2, "imp")
    assert ladder.backbone.records["test"]["samples"] == 200
    recipe = ladder.drawing["plan"]["recipe"]
    assert (recipe["attack"] or {}).get("method") == {"std": None, "fast-adv": "n-fgsm", "adv": "pgd"}[kind]
    pretraining = ladder.backbone.records["plan"]["recipe"]
    assert (pretraining["momentum"], recipe["momentum"]) == (0.8, 0.7)
    for level, record in enumerate(ladder.drawing["rounds"], start=1):
        assert record["kept"] == int(sum((rounds >= level).sum() for rounds in ladder.survived.values()))
        assert [epoch["epoch"] for epoch in record.get("history", [])] == ([1] if level == 1 else [])
    card = (made / "runs" / "smoke" / "out" / f"{name}.md").read_text(encoding="utf-8")
    assert f"# {name}: backbone and ladder" in card


@pytest.mark.slow
def test_level_one_is_what_one_shot_pruning_gives(made: Path) -> None:
    # Nothing has been trained before the first cut, so iterative and one-shot pruning agree on it.
    ladder = load_ladder(made / "runs" / "smoke" / "out" / "resnet18-slim-adv")
    one_shot = draw(Backbone("resnet18-slim", "adv", ladder.backbone.weights), DrawPlan(method="omp", rounds=1))
    first, same = ladder.mask(1), one_shot.mask(1)
    assert all(torch.equal(first[name], same[name]) for name in same)


@pytest.mark.slow
def test_a_repeated_run_trains_nothing_again(made: Path) -> None:
    finished = {path: path.stat().st_mtime_ns for path in (made / "runs").rglob("result.json")}
    assert len(finished) == 3 * (1 + 1)  # a backbone and a round; the last level is cut and not trained
    config = made / "runs" / "smoke" / "out" / "resnet18-slim-std" / "config.json"
    before = json.loads(config.read_text(encoding="utf-8"))["lottery_hub"]["fingerprint"]
    again = [*COMMAND, "--kinds", "std", "--set-pretrain", "recipe.momentum=0.8", "--set-draw", "recipe.momentum=0.7"]
    assert warm.run(*again, cwd=made).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (made / "runs").rglob("result.json")} == finished
    assert json.loads(config.read_text(encoding="utf-8"))["lottery_hub"]["fingerprint"] == before


@pytest.mark.parametrize("kind", ["std", "fast-adv", "adv"])
def test_its_bare_command_is_what_made_the_packaged_ones(kind: str) -> None:
    script = runpy.run_path(str(SCRIPT))
    ladder = load_ladder(f"resnet18-slim-{kind}")
    data: Any = SimpleNamespace(name="cifar100", train=range(45_000))
    given = (DataPlan(dataset="cifar100"), data, torch.device("cpu"), 0, False)
    bfloat16 = ["recipe.precision=bfloat16"]  # a GPU's; a CPU's follows from what it can do
    pretrained = PretrainPlan.parse(ladder.backbone.records["plan"])
    assert script["pretrain_plan"](kind, "resnet18-slim", *given).with_settings(bfloat16) == pretrained
    drawn = DrawPlan.parse(ladder.drawing["plan"])
    assert script["draw_plan"](kind, *given).with_settings(bfloat16) == drawn


def test_what_somebody_has_put_in_the_way_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    (tmp_path / "ladder").mkdir()
    script["check_places"](tmp_path / "ladder", tmp_path / "card.md")
    (tmp_path / "card.md").write_text("my own card")
    with pytest.raises(LotteryHubError, match=r"card\.md was changed by hand"):
        script["check_places"](tmp_path / "ladder", tmp_path / "card.md")
    (tmp_path / "ladder" / "notes.txt").write_text("mine")
    with pytest.raises(LotteryHubError, match=r"ladder holds notes\.txt, which would be lost"):
        script["check_places"](tmp_path / "ladder", tmp_path / "card.md")
