"""Whatever a terminal can show, a command ends well and says the same."""

from __future__ import annotations

import io
import json
import re
import sys
import warnings

import pytest
from rich.console import Console

from lottery_hub import cli
from lottery_hub.cli.hub import _table
from lottery_hub.reporting.screen import SHORT, print_table
from lottery_hub.sharing.searching import Found


def shown(encoding: str, columns: int, *arguments: str) -> str:
    """Return what a command prints where the terminal has this encoding and width."""
    screen, errors = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lottery-hub", *arguments])
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", errors)
        patch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end:
            cli.main()
    screen.flush()
    assert isinstance(screen.buffer, io.BytesIO)
    assert end.value.code == 0
    return screen.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "arguments", [["show", "resnet18-slim-adv", "--sparsity", "0.5"], ["backbones"]], ids=lambda given: given[0]
)
def test_a_command_ends_well_in_any_encoding_and_says_the_same(encoding: str, arguments: list[str]) -> None:
    whole, plain = shown("utf-8", 100, *arguments), shown(encoding, 100, *arguments)
    numbers = re.compile(r"\d+[.,]?\d*")
    assert numbers.findall(plain) == numbers.findall(whole)
    assert len(numbers.findall(plain)) > 50


def test_bars_and_dashes_have_stand_ins_in_ascii() -> None:
    assert "####" in shown("ascii", 80, "show", "resnet18-slim-adv", "--sparsity", "0.5")
    assert "████" in shown("utf-8", 80, "show", "resnet18-slim-adv", "--sparsity", "0.5")


def test_json_is_the_same_in_every_encoding() -> None:
    command = ["show", "resnet18-slim-adv", "--sparsity", "0.5", "--json"]
    assert json.loads(shown("ascii", 80, *command)) == json.loads(shown("utf-8", 80, *command))


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_narrow_ascii_terminals_are_no_trouble(columns: int) -> None:
    assert shown("ascii", columns, "backbones", "--kind", "adv")


@pytest.mark.parametrize("columns", [20, 40, 60])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_layer_and_no_figure_is_cut_on_a_narrow_terminal(encoding: str, columns: int) -> None:
    command = ["show", "resnet18-slim-adv", "--sparsity", "0.5"]
    cells = re.compile(r"[\w.]*\d[\w.,]*")
    wide, narrow = (cells.findall(shown(encoding, width, *command)) for width in (200, columns))
    assert narrow == wide
    assert {"layer4.1.conv2", "147,456"} <= set(narrow)


@pytest.mark.parametrize("columns", [30, 60, 80])
def test_every_column_of_a_search_is_whole(columns: int) -> None:
    figures = {f"{kind} after {regime} transfer": 0.9 for kind in ("SA", "RA") for regime in SHORT}
    found = Found("alice/digits", None, "resnet18-slim", "adv", "digits", 0.2, True, figures, answer="double win")
    screen = io.StringIO()
    print_table(Console(file=screen, width=columns), _table([found]))
    (row,) = (line.split() for line in screen.getvalue().splitlines() if "alice" in line)
    assert row == ["alice/digits", "digits", "20.00", "90.00/90.00", "90.00/90.00", "yes"]
    assert max(map(len, screen.getvalue().splitlines())) <= 80


def test_rows_of_a_narrow_ascii_table_are_of_one_width() -> None:
    rows = shown("ascii", 60, "show", "resnet18-slim-adv", "--sparsity", "0.5").splitlines()
    assert len({len(row) for row in rows if row.startswith("|")}) == 1


def test_what_pillow_says_of_metadata_is_not_shown_and_what_others_say_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn() -> None:
        for module in ("PIL.TiffImagePlugin", "torch.nn"):
            warnings.warn_explicit(f"from {module}", UserWarning, "file.py", 1, module=module)

    monkeypatch.setattr(cli, "app", warn)
    cli.main()
    assert capsys.readouterr().err == "file.py:1: UserWarning: from torch.nn\n"
