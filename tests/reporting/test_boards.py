"""The board lists what is known of each ticket, the sparsest first, and a stranger's words stay words."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.boards import TABLE, Listed, render_board
from lottery_hub.reporting.plots import FOUR, figure_name
from lottery_hub.reporting.reports import Reported


def test_a_row_has_the_figures_of_the_records(run: Path) -> None:
    reported = Reported.read(run / "ticket", "mine")
    row = Listed.of(reported)
    figures = verdict_runs(reported.ticket.records)[1]["figures"]
    assert [row.figures[figure_name(*key)] for key in FOUR] == [figure["ticket"] for figure in figures]
    assert (row.dataset, row.backbone, row.autoattack) == ("stripes", "resnet18-slim (adv)", None)
    shown = [cell for cell, _ in row.cells()]
    assert len(shown) == len(TABLE)
    assert shown[4] == f"{reported.ticket.sparsity * 100:.2f} %"
    assert shown[-1] == f"{(run / 'ticket' / 'ticket.safetensors').stat().st_size:,}"


def test_what_is_not_known_is_a_dash(ladder: Ladder) -> None:
    row = Listed.of(Reported("level", ladder.ticket(2)))
    assert [cell for cell, _ in row.cells()][3:] == ["not judged", "36.00 %", *["–"] * 7]


def test_the_page_stands_without_scripts_and_runs_its_own_alone() -> None:
    hostile = "<script>alert(1)</script>"
    page = render_board([Listed("less", sparsity=0.1), Listed(hostile, dataset=hostile, sparsity=0.9, attack='" x="')])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert page.index("&lt;script&gt;") < page.index(">less<")
    assert 'title="RA by &#34; x=&#34;"' in page
