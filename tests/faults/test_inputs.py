"""Every command with every argument given badly, and damaged inputs by the number: some of the campaigns' cases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import commands
import pytest
from attempts import RIGHT

from tests import warm

HERE = Path(__file__).parent


def counted(script: str, *arguments: object) -> dict[str, Any]:
    """Run a campaign in a process of its own, and return what it prints."""
    done = warm.run("-W", "ignore", HERE / script, *map(str, arguments), timeout=None)
    assert done.stdout, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check(counts: dict[str, Any]) -> None:
    assert counts["failures"] == []
    assert counts["endings"].keys() <= set(commands.GOOD)


@pytest.mark.timeout(300)
def test_whatever_a_command_is_given_it_ends_in_one_of_its_own_ways() -> None:
    counts = counted("commands.py", "--seed", 3, "--cases", 30)
    check(counts)
    assert sum(counts["endings"].values()) == 30
    assert counts["of"] > 4000
    # What is bad in a case is what the case says is bad: without it, all goes well, as far as it goes offline.
    assert counts["calls"].pop("search") == "refused in one line"
    assert counts["calls"].pop("verify") == "cannot tell", "from so few images"
    assert set(counts["calls"].values()) == {"ok", commands.BEGAN}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_campaign_of_commands() -> None:
    counts = counted("commands.py", "--seed", 0)
    check(counts)
    assert all(counts["commands"].values()), "some of each command"


def test_every_command_is_called_with_every_argument_it_takes() -> None:
    assert commands.CALLS.keys() == commands.COMMANDS.keys() >= {"find", "store list", "cache prune"}
    kinds = Counter(parameter.values for command in commands.CALLS for parameter in commands.parameters(command))
    assert kinds.keys() == {"paths", "numbers", "words", "settings", "text"}
    assert [parameter.given for parameter in commands.parameters("export")] == [
        *("ref", "--format", "--output", "--regime", "--trained-seed", "--sparsity", "--image-size", "--batch-size")
    ]


@pytest.mark.timeout(300)
def test_damaged_metadata_checkpoints_runs_and_poor_terminals_are_borne() -> None:
    counts = counted("inputs.py", "--seed", 3, "--pictures", 30, "--flips", 30, "--runs", 1, "--terminals", 4)
    assert counts["failures"] == []
    assert counts["exif"][RIGHT] == 30
    assert counts["checkpoints"]["refused"] == 30
    assert counts["runs"]["cases"] == 1
    assert counts["terminals"][RIGHT] == 4
