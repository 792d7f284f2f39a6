"""`lottery-hub list`: what is on this machine already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from rich.console import Console

    from lottery_hub.sharing.listing import Listed


def list_command(as_json: options.Json = False) -> None:
    """List the tickets, ladders and backbones that are packaged, or in the cache of what was pulled from the Hub."""
    from rich.console import Console

    from lottery_hub.sharing.listing import list_tickets

    found = list_tickets()
    if as_json:
        options.emit({"tickets": [row.record() for row in found]})
    else:
        print_list(Console(highlight=False), found)


def print_list(console: Console, found: Iterable[Listed]) -> None:
    from lottery_hub.reporting.narrow import print_words
    from lottery_hub.reporting.screen import print_table, words_table
    from lottery_hub.sharing.listing import HEADER, TOLD

    print_table(console, words_table(HEADER, [row.cells() for row in found]))
    print_words(console, TOLD, "dim")
