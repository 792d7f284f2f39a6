"""Options: the commands have those of the library's functions, by the same names and with the same defaults."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lottery_hub as lh
from lottery_hub import cli
from lottery_hub.cli import find, make, use
from lottery_hub.commands.find import plan_of
from lottery_hub.images.datasets import load_planned
from lottery_hub.reporting.repeating import find_command
from lottery_hub.settings.plans import FindPlan

COMMANDS: list[tuple[Callable[..., None], Callable[..., Any]]] = [
    (find.find_command, lh.find),
    (make.draw_command, lh.draw),
    (make.pretrain_command, lh.pretrain),
    (use.finetune_command, lh.finetune),
    (use.evaluate_command, lh.evaluate),
]
ONLY_TYPED = {"as_json", "print_plan", "context"}
ONLY_IN_PYTHON = {"progress"}
OTHERWISE = {"ref", "network", "fraction"}  # other names, or several values


@pytest.mark.parametrize(("command", "function"), COMMANDS, ids=lambda each: each.__name__)
def test_a_command_has_the_options_of_its_function(command: Callable[..., None], function: Callable[..., Any]) -> None:
    typed, called = (
        {name: each.default for name, each in inspect.signature(one).parameters.items() if name not in without}
        for one, without in ((command, ONLY_TYPED | OTHERWISE), (function, ONLY_IN_PYTHON | OTHERWISE))
    )
    assert typed == called


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call a command; return what it prints."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", *arguments, "--device", "cpu"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    return call


def test_a_printed_plan_is_the_plan_of_the_options_and_can_be_given(called: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(called("find", "--print-plan", "--seeds", "3", "--set", "standard.lr=1/8"), encoding="utf-8")
    plan = FindPlan.read(file)
    assert (plan.seeds, plan.transfer.standard.lr, plan.transfer.adversarial.lr) == (3, 0.125, 0.02)
    assert FindPlan.parse(dict(plan)) == plan
    again = called("find", "--print-plan", "--plan", str(file), "--set", "transfer.standard.lr=0.5")
    assert again == file.read_text(encoding="utf-8").replace("lr = 0.125", "lr = 0.5")
    fewer = called("find", "--print-plan", "--plan", str(file), "--seeds", "1")
    assert fewer == file.read_text(encoding="utf-8").replace("seeds = 3", "seeds = 1")
    grid = called("study", "--print-plan", "--level", "3")
    file.write_text(grid, encoding="utf-8")
    assert called("study", "--print-plan", "--plan", str(file), "--seeds", "1") == grid
    assert "fraction = [\n    1.0,\n]" in called("study", "--print-plan", "--plan", str(file), "--fraction", "1.0")
    file.write_text(called("study", "--print-plan", "--set", "standard.lr=1/8", "--image-size", "16"), encoding="utf-8")
    assert 'changes = [\n    "standard.lr=1/8",\n]\n' in file.read_text(encoding="utf-8")
    assert called("study", "--print-plan", "--plan", str(file)) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 2, "level": 7},
        {"settings": ("data.validation=0.02", "data.split_seed=3"), "fraction": 0.5, "eps_standard": "1/255"},
    ],
    ids=["usual", "split otherwise"],
)
def test_the_command_of_a_verdict_gives_its_plan_again(
    called: Callable[..., str], tmp_path: Path, options: dict[str, Any]
) -> None:
    plan = plan_of(pretrain="adv", dataset="digits", **options)
    records = {"plan": plan.record(), "data": load_planned(plan.data).describe(), "scrutiny": {}}
    program, command, *words = shlex.split(find_command(records).replace("\\\n", ""))
    assert (program, command, words[words.index("--preset") + 1]) == ("lottery-hub", "find", "quick")
    file = tmp_path / "plan.toml"
    file.write_text(called("find", *words, "--print-plan"), encoding="utf-8")
    assert FindPlan.read(file) == plan


def test_a_setting_that_no_find_has_is_no_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lottery-hub", "study", "--print-plan", "--set", "standard.lrr=1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    assert (end.value.code, told.out) == (1, "")
    assert told.err.startswith("error: --set standard.lrr: there is no setting of that name")
    assert told.err.count("\n") == 1


def test_settings_are_listed_by_the_paths_by_which_they_are_set(called: Callable[..., str]) -> None:
    lines = called("find", "--set", "help", "--set", "seeds=2").splitlines()
    assert "seeds=2" in lines
    assert "transfer.adversarial.attack.steps=3" in lines
    assert (
        "transfer.adversarial.attack.steps=3"
        in called("finetune", "resnet18-slim-adv", "--sparsity", "0.5", "--set", "help").splitlines()
    )
    assert "draw.rounds=14" in lines
    of_a_cell = called("study", "--set", "help", "--set", "standard.lr=1/8", "--level", "3").splitlines()
    assert {'pretrain="std"', "transfer.standard.lr=0.125", "level=3", "transfer.adversarial.attack.steps=3"} <= {
        *of_a_cell
    }
    assert "draw.rounds=2" in called("draw", "--rounds", "2", "--set", "help").splitlines()
