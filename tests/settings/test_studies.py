"""The plan of a study: its grid, its presets and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.settings.studies import PRESETS, CellPlan, StudyPlan


def test_the_grid_is_every_combination_those_of_one_dataset_together() -> None:
    plan = StudyPlan(
        pretrain=("std", "adv"), dataset=("digits", "mnist"), fraction=(1.0, 0.1), method=("imp", "omp"), level=(3, 7)
    )
    cells = plan.cells()
    assert len(cells) == len(set(cells)) == 2**5
    assert cells[0] == CellPlan("std", "digits", 1.0, "imp", 3)
    assert [cell.dataset for cell in cells] == ["digits"] * 16 + ["mnist"] * 16
    assert StudyPlan().cells()[0].level is None


def test_the_papers_grid_is_3240_transfers() -> None:
    plan = StudyPlan.preset("paper")
    levels_and_dense, regimes = 20, 2
    assert isinstance(plan.seeds, int)
    assert len(plan.cells()) * levels_and_dense * regimes * plan.seeds == 3240
    with pytest.raises(ConfigError, match="unknown preset 'huge'; choose quick or paper"):
        StudyPlan.preset("huge")


@pytest.mark.parametrize("name", PRESETS)
def test_a_plan_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    plan = StudyPlan.preset(name).changed(changes=("transfer.standard.lr=0.1",))
    (tmp_path / "study.toml").write_text(plan.toml(), encoding="utf-8")
    assert StudyPlan.read(tmp_path / "study.toml") == plan


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pretrain": ("std", "std")}, "a pretrain is named twice"),
        ({"fraction": (0.1, 0.1)}, "a fraction is named twice"),
        ({"dataset": ()}, "dataset"),
        ({"fraction": (1.5,)}, "fraction"),
        ({"level": (0,)}, "level"),
        ({"seeds": 0}, "seeds"),
        ({"method": ("magic",)}, "method"),
        ({"pretrain": tuple(map(str, range(200))), "dataset": tuple(map(str, range(200)))}, "40000 finds are more"),
    ],
)
def test_what_is_no_grid_is_one_line(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        StudyPlan.parse(wrong)
    assert str(caught.value).isprintable()
