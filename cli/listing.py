"""`lottery-hub list`: what is on this machine already."""

from __future__ import annotations

from . import options


def list_command(as_json: options.Json = False) -> None:
    """List the tickets, ladders and backbones that are packaged, or in the cache of what was pulled from the Hub."""
    from rich.console import Console

    from lottery_hub.reporting.screen import print_table, words_table
    from lottery_hub.sharing.listing import HEADER, list_tickets

    found = list_tickets()
    if as_json:
        options.emit({"tickets": [row.record() for row in found]})
    else:
        print_table(Console(highlight=False), words_table(HEADER, [row.cells() for row in found]))
