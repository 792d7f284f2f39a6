"""Whatever number, name or terminal a command is given: one line and an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lottery_hub.cli import options
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import save_ticket
from tests import warm
from tests.cli.test_cli import Called

LADDER = "resnet18-slim-adv"
HUGE = str(10**25)
NUMBERS = {
    ("evaluate", LADDER): ["--seed", "--samples", "--restarts", "--sparsity", "--eps"],
    ("evaluate", LADDER, "--checks", "--attack", "none"): ["--eps"],
    ("show", LADDER): ["--sparsity"],
    ("finetune", LADDER, "--sparsity", "0.8"): ["--seed", "--fraction", "--batch-size"],
    ("find",): ["--seeds", "--fraction", "--eps", "--jobs", "--batch-size"],
    ("pretrain", "--dataset", "digits"): ["--seed", "--epochs", "--batch-size"],
    ("draw", "--source", "digits"): ["--rounds", "--batch-size"],
    ("export", LADDER, "--sparsity", "0.8", "--format", "onnx"): ["--image-size", "--batch-size"],
    ("pull", LADDER): ["--deadline"],
    ("search",): ["--limit", "--min-ra", "--min-sparsity"],
}
ASKED = [(command, option) for command, options in NUMBERS.items() for option in options]


@pytest.mark.parametrize(("command", "option"), ASKED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_number_out_of_range_is_one_line(
    command: tuple[str, ...],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if command[0] in ("find", "pretrain", "draw", "finetune", "export"):
        command = (*command, "--output", str(tmp_path / "out"))
    for number in (HUGE, "nan", "-inf", "9" * 5000):
        if command[0] == "search" and number in (HUGE, "nan", "-inf"):
            continue  # a bound that nothing reaches, or everything
        called = Called(capsys, *command, f"{option}={number}")
        assert called.code in (1, 2), number
        assert called.out == "", number
        assert called.err, number
        assert not (tmp_path / "out").exists(), number


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x/" * 3000], ids=["300 letters", "null", "a long way"])
@pytest.mark.parametrize(
    "command",
    [
        ("find", "--output"),
        ("pretrain", "--dataset", "digits", "--output"),
        ("draw", "--source", "digits", "--output"),
        ("finetune", LADDER, "--output"),
        ("export", LADDER, "--format", "timm", "--output"),
        ("pull", LADDER, "--local-dir"),
    ],
    ids=lambda command: command[0],
)
def test_what_no_file_can_be_called_is_wrong_usage(
    command: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    called = Called(capsys, *command, name)
    assert called.code == 2
    assert "too long" in called.err or "null byte" in called.err


def test_json_is_printed_without_characters_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"name": "a\u202eb\x9b31m\x7f\u200b é 双 \U000e0041 \U0001f40c", "path": "\udcff"}
    options.emit(told)
    out = capsys.readouterr().out
    assert out.removesuffix("\n").isprintable()
    assert json.loads(out) == told
    assert "\\u202eb\\u009b31m\\u007f\\u200b é 双 \\udb40\\udc41 🐌" in out


def test_a_figure_of_400_digits_is_one_line(ladder: Ladder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = {"double_win": True, "samples": 10**400}
    place = save_ticket(ladder.ticket(2, figure), tmp_path / "ticket")
    for command in ("show", "evaluate"):
        called = Called(capsys, command, str(place))
        assert called.code == 1
        assert called.err.startswith("error: results.json: ")
        assert called.err.count("\n") == 1
    origin = ladder.backbone.provenance | {"source": ["x"], "SA": 10**400}
    odd = replace(ladder.ticket(2), provenance={"backbone": origin})
    assert Called(capsys, "show", str(save_ticket(odd, tmp_path / "odd"))).err.startswith("error: config.json: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("arguments", [["--version"], ["show", LADDER, "--sparsity=0.8", "--json"]], ids=str)
def test_a_full_output_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = warm.run(*warm.CLI, *arguments, stdout=full)
    assert (done.returncode, done.stderr) == (1, "error: cannot write: No space left on device\n")


def test_a_reader_that_went_away_is_no_error_of_anybody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = warm.run(*warm.CLI, "--version", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_output_is_no_traceback() -> None:
    command = f"{sys.executable} -c 'from lottery_hub.cli import main; main()' --version >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
