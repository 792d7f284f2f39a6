"""Whatever the width of a terminal, every figure and verdict of a table is whole."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from lottery_hub.reporting.narrow import fitted
from lottery_hub.reporting.screen import fractions_table, levels_table, print_table, verdict_table
from lottery_hub.storage.folder import load_ticket

TABLES: dict[str, Callable[[dict[str, Any]], Table]] = {
    "levels": lambda records: levels_table(records["dense"], records["levels"], records["controls"]),
    "verdict": verdict_table,
    "fractions": lambda records: fractions_table([records]),
}


@pytest.fixture(scope="module")
def records(run: Path) -> dict[str, Any]:
    return load_ticket(run).records


def printed(table: Table, width: int, terminal: bool = True) -> list[str]:
    screen = io.StringIO()
    print_table(Console(file=screen, width=width, force_terminal=terminal, color_system=None), table)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def figures(lines: list[str]) -> list[str]:
    return sorted(re.findall(r"(?<![\w.])-?\d+\.\d+|\byes\b|\bno\b|\bundecided\b", " ".join(lines)))


@pytest.mark.parametrize("width", [100, 80, 60, 40])
@pytest.mark.parametrize("name", TABLES)
def test_no_figure_and_no_verdict_is_cut_and_no_line_runs_on(records: dict[str, Any], name: str, width: int) -> None:
    table = TABLES[name](records)
    lines = printed(table, width)
    assert figures(lines) == figures(printed(table, 400))
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_a_row_is_stacked_below_its_first_cell() -> None:
    table = Table(caption="in %")
    for name in ("level", "std SA", "std RA", "win", ""):
        table.add_column(name)
    table.add_row("dense", "99.16", "0.00", "", "####")
    table.add_row("7", "98.05", "0.28", "yes", "##")
    assert printed(table, 24) == [
        "level dense",
        "  std SA 99.16",
        "  std RA 0.00",
        "level 7",
        "  std SA 98.05",
        "  std RA 0.28  win yes",
        "in %",
    ]


def test_a_file_is_no_terminal_and_has_its_rows_whole(records: dict[str, Any]) -> None:
    assert printed(TABLES["levels"](records), 40, terminal=False) == printed(TABLES["levels"](records), 100)


def test_a_table_that_fits_stays_one(records: dict[str, Any]) -> None:
    table = TABLES["levels"](records)
    assert fitted(Console(width=100), table) is table
