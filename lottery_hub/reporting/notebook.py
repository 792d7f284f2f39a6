"""The live view of a run in a notebook: one output of the cell, drawn again as the run goes on."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

WIDTH = 100  # of text that is printed nowhere
HTML = '<pre style="line-height:normal;font-family:Menlo,Consolas,monospace;background:none">{code}</pre>'
SECONDS = 0.25  # between two drawings, at least: every one is a message to a browser


def as_html(printed: Callable[[Console], None]) -> str:
    """Return what is printed as a piece of a page, in colour."""
    console = Console(file=io.StringIO(), record=True, force_terminal=True, force_jupyter=False, width=WIDTH)
    printed(console)
    return console.export_html(inline_styles=True, code_format=HTML)


class CellView:
    """What `rich.live.Live` is on a terminal.

    Args:
        page: returns the view as HTML.
    """

    def __init__(self, page: Callable[[], str]) -> None:
        self.page = page
        self.output: Any = None
        self.drawn = 0.0

    def start(self) -> None:
        """Take an output of the cell."""
        from IPython.display import HTML, display

        self.output = display(HTML(self.page()), display_id=True)

    def refresh(self) -> None:
        """Draw the view again, unless that was done a moment ago."""
        from IPython.display import HTML

        if self.output is not None and time.monotonic() - self.drawn >= SECONDS:
            self.drawn = time.monotonic()
            self.output.update(HTML(self.page()))

    def stop(self) -> None:
        """Clear the output."""
        from IPython.display import HTML

        if self.output is not None:
            self.output.update(HTML(""))
            self.output = None
