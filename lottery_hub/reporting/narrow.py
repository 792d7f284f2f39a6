"""Tables on screens that are too narrow for them: each row becomes lines of names and figures, and none is cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

INDENT = "  "


def fitted(console: Console, table: Table) -> RenderableType:
    """Return a table as it fits a console: as it is, or stacked.

    A column is as wide as what is in it, unless it says itself that it folds (down to its min_width) or crops.
    """
    if not fits(console, table):
        return stacked(table, console.width)
    _share_out(console, table)
    return table


def fits(console: Console, table: Table) -> bool:
    """Whether a table fits a console with every figure whole."""
    return least_width(console, table) <= console.width


def least_width(console: Console, table: Table) -> int:
    """Return how many columns a table takes when no figure is cut, and have it take no fewer."""
    unbounded = console.options.update(max_width=sys.maxsize)
    for column in table.columns:
        if column.overflow == "ellipsis":
            cells = (column.header, *column.cells)
            column.min_width = max(Measurement.get(console, unbounded, cell).maximum for cell in cells)
    _, right, _, left = table.padding
    between = (right + left) * (len(table.columns) - (0 if table.pad_edge else 1))
    if table.box is not None:
        between += len(table.columns) - 1 + (2 if table.show_edge else 0)
    return sum(column.width or column.min_width or 0 for column in table.columns) + between


def _share_out(console: Console, table: Table) -> None:
    """Give columns that fold what is left beside those that do not: rich would drop the last ones instead."""
    unbounded = console.options.update(max_width=sys.maxsize)
    spare = console.width - least_width(console, table)
    for column in table.columns:
        if column.overflow == "fold" and column.min_width is not None:
            cells = (column.header, *column.cells)
            wished = max(Measurement.get(console, unbounded, cell).maximum for cell in cells)
            column.width = min(wished, column.min_width + spare)
            spare -= max(column.width - column.min_width, 0)


def stacked(table: Table, width: int) -> Group:
    """Return each row as its first cell, and below it the others behind their headings, as many a line as fit."""
    named = [column for column in table.columns if str(column.header)]  # what has no name is a picture
    lines: list[RenderableType] = []
    for first, *rest in zip(*(list(column.cells) for column in named), strict=True):
        lines.append(Text(f"{named[0].header} ", style="bold") + _text(first))
        pairs = [
            Text(f"{column.header} ", style="dim") + _text(cell)
            for column, cell in zip(named[1:], rest, strict=True)
            if _text(cell).plain
        ]
        lines += _packed(pairs, width)
    caption = [Text(str(table.caption), style="italic")] if table.caption else []
    return Group(*lines, *caption)


def print_words(console: Console, words: str, style: str | None = None) -> None:
    """Print a sentence: on a terminal no word or figure of it is cut, and elsewhere it is one line."""
    console.print(words, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def print_line(console: Console, words: str) -> None:
    """Print a line whose words are to be copied: a terminal may break it, but nothing is put into it."""
    console.print(words, highlight=False, markup=False, soft_wrap=True)


def _text(cell: RenderableType) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell))


def _packed(parts: Sequence[Text], width: int) -> Iterator[Text]:
    """Yield lines of as many parts as fit; one that fits on no line has one of its own, which runs on."""
    line = Text(INDENT)
    for part in parts:
        between = "" if line.plain == INDENT else "  "
        if line.cell_len + len(between) + part.cell_len > width and line.plain != INDENT:
            yield line
            line, between = Text(INDENT), ""
        line = line + Text(between) + part
    if line.plain != INDENT:
        yield line
