"""The commands of the paper's scale: each parses, and names only settings, weights and folders that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from lottery_hub import cli
from lottery_hub.networks.published import SOURCES
from lottery_hub.settings.presets import paper_draw, paper_transfer

USAGE_ERROR: Any = typer.BadParameter.__base__  # of click, which some versions of typer carry inside themselves
PAGE = Path(__file__).parents[2] / "scripts" / "paper_scale.md"


def commands() -> list[list[str]]:
    """The words of every command in the page, without the GPU or torchrun before it and the & behind."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        gpu, *words = shlex.split(re.sub(r"^(?!CUDA)", "CUDA_VISIBLE_DEVICES=0 ", line))
        assert re.fullmatch(r"CUDA_VISIBLE_DEVICES=\d", gpu)
        if words[:2] == ["torchrun", "--nproc-per-node"]:
            assert int(words[2]) > 1
            assert words[3:5] == ["-m", "lottery_hub"]
            assert words[5] in ("draw", "pretrain", "finetune", "find"), "the others do not train"
            words = ["lottery-hub", *words[5:]]
        if words != ["wait"]:
            assert words[0] == "lottery-hub"
            found.append([word for word in words[1:] if word != "&"])
    return found


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Parse as the command line does, and return the command's name and what it would be called with."""
    group: Any = typer.main.get_command(cli.app)
    name, *arguments = words
    outer = group.make_context("lottery-hub", [name])
    command = group.get_command(outer, name)
    assert command is not None, f"there is no command {name}"
    return name, command.make_context(name, arguments, parent=outer).params


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_every_command_parses_and_sets_what_can_be_set(words: list[str]) -> None:
    name, given = parsed(words)
    if name == "draw":
        paper_draw("adv", given["source"], given["method"], "bfloat16").with_settings(given["settings"] or [])
    elif name in ("find", "finetune"):
        paper_transfer(given["dataset"], "bfloat16").with_settings(given["settings"] or [])


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for words in (["fnid"], ["draw", "--gpus", "8"], ["find", "--level", "many"], ["finetune"]):
        with pytest.raises((AssertionError, USAGE_ERROR)):
            parsed(words)


def test_weights_are_of_the_table_or_a_file() -> None:
    for name, given in map(parsed, commands()):
        if "pretrain" in given:
            kind, _, place = given["pretrain"].partition(":")
            in_table = any(
                row.arch == given["arch"] and given["pretrain"] in (row.pretrain, row.kind) for row in SOURCES
            )
            assert in_table or (kind == "fast-adv" and place.endswith(".pth.tar")), name


def test_a_ladder_that_is_used_was_drawn_from_the_same_backbone_before() -> None:
    drawn: dict[str, str] = {}
    for name, given in map(parsed, commands()):
        if name == "draw":
            drawn[str(given["output"])] = given["pretrain"]
        elif name == "find":
            assert drawn[given["ladder"]] == given["pretrain"]
        elif name == "finetune":
            assert given["ticket"] in drawn


def test_all_three_kinds_are_drawn_and_found_and_no_two_runs_share_a_folder() -> None:
    told = [parsed(words) for words in commands()]
    for wanted in ("draw", "find"):
        kinds = {given["pretrain"].partition(":")[0] for name, given in told if name == wanted}
        assert kinds == {"std", "fast-adv", "adv"}
    outputs = [given["output"] for name, given in told if "output" in given]
    assert len(outputs) == len(set(outputs))


def test_the_numbers_beside_the_commands_are_the_presets() -> None:
    text = PAGE.read_text(encoding="utf-8")
    drawn = paper_draw("adv", "imagenet", "imp", "bfloat16")
    recipe = drawn.recipe
    assert recipe is not None
    assert recipe.attack is not None
    assert recipe.attack.describe().startswith("PGD-3 Linf eps 8/255")
    shown = f"{drawn.rounds} rounds of {drawn.prune_fraction:.0%}".replace("%", " %")
    assert f"{shown}, {recipe.epochs} epochs each, SGD at a constant 5e-4" in text
    assert (recipe.lr, recipe.weight_decay, recipe.batch_size, recipe.image_size) == (5e-4, 1e-4, 2048, 224)
    images = round(1_281_167 * 0.98)
    assert f"{(drawn.rounds - 1) * recipe.epochs * images / 1e6:.0f} million images" in text
    transfers = paper_transfer("cifar10", "bfloat16")
    assert f"{transfers.standard.epochs} standard epochs, and {transfers.adversarial.epochs} adversarial" in text
