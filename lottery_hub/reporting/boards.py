"""The board: many tickets in one table, to be sorted and filtered; one file that asks nothing of any other place.

Its script is its own, named by its hash in the page's policy, so that none of a stranger's could run; without scripts
the table is there all the same, the sparsest ticket first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.reporting.canvas import palette
from lottery_hub.reporting.plots import FOUR, NONE, figure_name, frontier_of
from lottery_hub.reporting.rendering import markup, percent, render_page, source
from lottery_hub.reporting.reports import Reported
from lottery_hub.settings.answers import NOT_JUDGED
from lottery_hub.version import __version__

TABLE = (  # heading, whether it holds numbers
    ("ticket", False),
    ("backbone", False),
    ("dataset", False),
    ("answer", False),
    ("sparsity", True),
    *((f"{figure}, {regime}", True) for regime, figure in FOUR),
    ("AutoAttack", True),
    ("frontier", True),
    ("file, bytes", True),
)


@dataclass(frozen=True)
class Listed:
    """A row of the board.

    Attributes:
        name: of the ticket.
        backbone, dataset: in words.
        answer: `double win`, `no double win`, `undecided` or `not judged`.
        sparsity: in 0..1; None where it is not known, as all that follows.
        figures: "SA after standard transfer" and so on → accuracy in 0..1.
        autoattack: RA by AutoAttack after adversarial transfer.
        frontier: the sparsity at which it lies.
        file_bytes: of the ticket's file.
        link: where it is found; https or http.
        attack: behind RA.
    """

    name: str
    backbone: str = NONE
    dataset: str = NONE
    answer: str = NOT_JUDGED
    sparsity: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    autoattack: float | None = None
    frontier: float | None = None
    file_bytes: int | None = None
    link: str | None = None
    attack: str = ""

    @classmethod
    def of(cls, reported: Reported, link: str | None = None) -> Listed:
        """Return the row of a ticket that was read."""
        ticket, records = reported.ticket, reported.ticket.records
        about: dict[str, Any] = {
            "name": reported.name,
            "backbone": f"{ticket.arch} ({ticket.kind})",
            "answer": ticket.answer,
            "sparsity": ticket.sparsity,
            "file_bytes": reported.file_bytes,
            "link": link,
        }
        if ticket.double_win is None:
            return cls(**about)
        checks, where = records["scrutiny"].get("checks"), frontier_of(records)
        return cls(
            **about,
            dataset=records["data"]["name"],
            figures={figure_name(f["regime"], f["figure"]): f["ticket"] for f in verdict_runs(records)[1]["figures"]},
            autoattack=checks["attacks"][1]["RA"] if checks else None,
            frontier=where["sparsity"] if where else None,
            attack=records["attack"],
        )

    def cells(self) -> list[tuple[str, float | str | None]]:
        """Return what is shown and by what it is sorted, in the order of `TABLE`."""
        numbers = [
            self.sparsity,
            *(self.figures.get(figure_name(*key)) for key in FOUR),
            self.autoattack,
            self.frontier,
        ]
        return [
            *((word, word.casefold()) for word in (self.name, self.backbone, self.dataset, self.answer)),
            *((NONE if share is None else percent(share), share) for share in numbers),
            (NONE if self.file_bytes is None else f"{self.file_bytes:,}", self.file_bytes),
        ]


def render_board(rows: Sequence[Listed]) -> str:
    """Return the page of the board, the sparsest ticket first."""
    ordered = sorted(rows, key=lambda row: (-(row.sparsity or 0.0), row.name))
    script = source("board.js.j2")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = {
        "title": "Lottery tickets",
        "palette": markup(palette()),
        "version": __version__,
        "script": markup(script),
        "digest": digest,
        "table": TABLE,
        "answers": sorted({row.answer for row in ordered}),
        "rows": [
            {"link": row.link, "answer": row.answer, "attack": row.attack, "cells": row.cells()} for row in ordered
        ],
    }
    return render_page("board.html.j2", context)
