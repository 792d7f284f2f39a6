"""A study on a screen: its cells, how kinds of pre-training differ, and what failed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from lottery_hub.errors import printable
from lottery_hub.judging.deciding import attack_behind, frontier_of, on_figures
from lottery_hub.reporting.narrow import print_line, print_words
from lottery_hub.reporting.screen import COLUMNS, SHORT, percent, print_table, words_table
from lottery_hub.settings.answers import answer_of


def print_study(console: Console, record: dict[str, Any]) -> None:
    """Print what a study found, by its record: a row a cell, differences between kinds, and what failed."""
    header = ("cell", "sparsity", *(f"{SHORT[regime]} {figure}" for regime, figure in COLUMNS), "verdict")
    rows = []
    for cell in record["cells"]:
        if "failed" in cell:
            rows.append((cell["cell"], *[""] * 5, "failed"))
            continue
        figures = [
            f"{percent(cell['figures'][regime][figure])} ({percent(cell['dense'][regime][figure])})"
            for regime, figure in COLUMNS
        ]
        verdict = answer_of(cell) + on_figures(cell["telling"], len(COLUMNS))
        rows.append((cell["cell"], _frontier(cell), *figures, printable(verdict, 60)))
    print_table(console, words_table(header, rows))
    print_words(console, "in %, on test images; in brackets dense, which only guesses where a figure does not count")
    for condition in dict.fromkeys(map(_measured, (cell for cell in record["cells"] if "failed" not in cell))):
        print_words(console, printable(condition, 1000))
    shown = _worth_showing(record["differences"])
    if shown:
        header = ("pre-training", "on", "level", *(f"{SHORT[regime]} {figure}" for regime, figure in COLUMNS))
        print_table(console, words_table(header, shown))
        print_words(console, "percentage points, paired by seed and image, with the 95 % interval")
    for row in record["differences"]:
        if row["level"] is None:
            low, high = (f"{row[name] * 100:+.2f}" for name in ("low", "high"))
            about = printable(
                f"{row['pretrain']} - {row['against']}, {row['dataset']} {row['fraction']:g} {row['method']}"
            )
            print_line(console, f"frontier, {about}: {row['difference'] * 100:+.2f} points of sparsity ({low}, {high})")
    for cell in record["cells"]:
        if "failed" in cell:
            print_line(console, f"failed: {printable(cell['cell'], 200)}: {printable(cell['failed'], 1000)}")
    print_line(console, f"study: {printable(record['study'], 1000)}, its page: report.html")


def _measured(cell: dict[str, Any]) -> str:
    """Return by what a cell was measured and judged."""
    seeds = "1 seed" if cell["seeds"] == 1 else f"{cell['seeds']} seeds"
    rule = f"margin {cell['margin'] * 100:g} points" if "margin" in cell else f"tolerance {cell['tolerance']}"
    where = f"{cell['pretrain']}, {cell['dataset']} {cell['fraction']:g}"
    return f"{where}: {cell['samples']} test images, {seeds}, RA by {attack_behind(cell)}, {rule}"


def _frontier(cell: dict[str, Any]) -> str:
    """Return the sparsity that was found, with the frontier's interval where there is one."""
    interval = (frontier_of(cell) or {}).get("interval")
    found: str = percent(cell["sparsity"])
    return f"{found} ({percent(interval[0])}, {percent(interval[1])})" if interval else found


def _worth_showing(differences: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows for dense and for the sparsest level that two kinds share; all are in differences.csv."""
    groups: dict[tuple[Any, ...], dict[int, dict[Any, dict[str, Any]]]] = {}
    for row in differences:
        if row["level"] is None:
            continue  # of frontiers
        key = tuple(row[name] for name in ("pretrain", "against", "dataset", "fraction", "method"))
        groups.setdefault(key, {}).setdefault(row["level"], {})[row["regime"], row["figure"]] = row
    rows = []
    for (pretrain, against, dataset, fraction, method), levels in groups.items():
        for level in sorted({min(levels), max(levels)}):
            cells = [
                f"{row['difference'] * 100:+.2f} ({row['low'] * 100:.2f}, {row['high'] * 100:.2f})" if row else ""
                for row in (levels[level].get(column) for column in COLUMNS)
            ]
            about = f"{dataset} {fraction:g} {method}"
            rows.append((f"{pretrain} - {against}", about, "dense" if level == 0 else str(level), *cells))
    return rows
