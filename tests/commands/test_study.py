"""The grid of a study as its options give it, down to the plan of each find."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lottery_hub.commands.options import defaults
from lottery_hub.commands.study import _cells, first_plan_of, outline_of, plan_of, study
from lottery_hub.errors import ConfigError
from lottery_hub.settings.studies import StudyPlan


def test_what_is_given_for_all_finds_is_in_the_plan_of_each() -> None:
    grid = plan_of(pretrain="adv", level=[2, 5], seeds=2, margin=3, eps="0.2", eps_standard="0.05", controls=True)
    plans = [cell.load()[0] for cell in _cells(grid, defaults(study))]
    assert [plan.level for plan in plans] == [2, 5]
    for plan in plans:
        assert (plan.seeds, plan.tolerance, plan.controls) == (2, "margin:3", True)
        assert plan.transfer.test_attack.eps == 0.2
        assert plan.transfer.attack("standard").eps == 0.05
        assert plan.transfer.attack("adversarial").eps == 0.2


@pytest.mark.parametrize(
    ("radius", "words"),
    [
        ("auto", "eps_standard is a number here, e.g. 1/255: kinds are compared at one radius"),
        ("abc", "'abc' is not a number; write 0.03 or 8/255"),
        ("nan", "eps_standard 'nan' is no radius"),
        ("0", "eps_standard '0' is no radius"),
        ("-1", "eps_standard '-1' is no radius"),
    ],
)
def test_what_is_no_radius_is_refused_with_the_grid(radius: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        plan_of(pretrain="adv", eps_standard=radius)


def test_a_radius_after_standard_transfer_is_no_larger_than_the_other() -> None:
    grid = plan_of(pretrain="adv", eps="0.1", eps_standard=0.5)
    [cell, _] = _cells(grid, defaults(study))
    with pytest.raises(ConfigError, match=r"--eps-standard '0.5' is no smaller radius: give one above 0 and up to 0.1"):
        cell.load()


def test_a_file_may_have_a_radius_as_a_number(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("eps_standard = 0.02\nmargin = 3\n", encoding="utf-8")
    grid = plan_of(plan=tmp_path / "study.toml")
    assert (grid.eps_standard, grid.margin) == ("0.02", "3")


def test_what_changes_every_find_is_in_the_file_of_the_grid_and_comes_back_from_it(tmp_path: Path) -> None:
    given = {"settings": {"standard.lr": 0.125, "transfer.standard.epochs": "3"}, "image_size": 16, "batch_size": 64}
    given["precision"] = "bfloat16"
    file = tmp_path / "study.toml"
    file.write_text(plan_of(**given).toml(), encoding="utf-8")
    grid = StudyPlan.read(file)
    assert grid.changes == ("standard.lr=0.125", "transfer.standard.epochs=3")
    assert first_plan_of(plan=file) == first_plan_of(**given)
    changed = first_plan_of(plan=file, settings=["standard.lr=1/4"], batch_size="auto").transfer.standard
    assert (changed.lr, changed.epochs, changed.image_size, changed.precision) == (0.25, 3, 16, "bfloat16")
    assert first_plan_of(plan=file, precision="float32").transfer.standard.precision == "float32"
    assert changed.batch_size == first_plan_of().transfer.standard.batch_size


@pytest.mark.parametrize("setting", ["standard.lrr=1", "lr=0.1", "standard.lr=-1", "fish"])
def test_a_change_that_no_find_knows_is_refused_before_anything_is_loaded(setting: str) -> None:
    for asked in (plan_of, outline_of):
        with pytest.raises(ConfigError, match=r"lr|several|no setting of that name"):
            asked(pretrain="nowhere", settings=[setting])
