"""Pages in a real browser, offline: they load whole, ask for nothing, and everybody can read them.

Needs Chromium, playwright and axe-core; where one of them is missing these tests are skipped, and say so.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lottery_hub.reporting.boards import Listed, render_board
from lottery_hub.reporting.reports import Reported, render_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
HOSTILE = "<img src=http://127.0.0.1/x><script>document.title='broken'</script>\u202e"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install --no-install-recommends chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Opened:
    """A page in a window of some width, and what happened while it was loaded."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda problem: self.said.append(str(problem)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def violations(self) -> list[str]:
        """Return what axe-core finds against WCAG A and AA, at the element where it is."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
        found = axe.Axe().run(self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        return [
            f"{rule['id']}: {node['html'][:200]}" for rule in found.response["violations"] for node in rule["nodes"]
        ]


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a verdict with hostile names in its records."""
    reported = Reported.read(run / "ticket", "hostile")
    records = reported.ticket.records | {"caveats": [HOSTILE], "attack": HOSTILE}
    path = tmp_path_factory.mktemp("pages") / "report.html"
    page = render_report([replace(reported, name=HOSTILE, ticket=replace(reported.ticket, records=records))])
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_a_report_loads_offline_asks_for_nothing_and_everybody_can_read_it(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report, width, scheme)
    assert opened.asked == [report.as_uri()]
    assert opened.said == []
    assert opened.page.title().startswith("resnet18-slim (adv)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for panel in opened.page.locator(".panels svg").all():
        box = panel.bounding_box()
        assert box is not None
        assert 200 < box["width"] <= width
        assert box["height"] > 60
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert opened.violations() == []


def test_words_of_a_picture_lie_inside_it_and_over_no_other(browser: Browser, run: Path, tmp_path: Path) -> None:
    reported = Reported.read(run / "ticket", "wide")
    records = copy.deepcopy(reported.ticket.records)
    rows = records["levels"]
    for level in range(3, 15):  # as many levels as a ladder has, and figures with the most digits
        rows.append(rows[-1] | {"level": level, "sparsity": 1 - 0.8**level})
    for row in [*rows, records["dense"]]:
        row["standard"] = row["standard"] | {"SA": 0.98, "deviation": {"SA": 0.0001, "RA": 0.0}}
    report = tmp_path / "report.html"
    wide = replace(reported, ticket=replace(reported.ticket, records=records))
    report.write_text(render_report([wide]), encoding="utf-8")
    opened = Opened(browser, report, 1280, "light")
    overlaps = opened.page.evaluate(
        """() => [...document.querySelectorAll('.panels svg')].flatMap(svg => {
            const ground = svg.getBoundingClientRect();
            const words = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            const out = words.filter(([, b]) => b.left < ground.left - 1 || b.right > ground.right + 1
                || b.top < ground.top - 1 || b.bottom > ground.bottom + 1).map(([t]) => 'outside: ' + t);
            words.forEach(([t, a], i) => words.slice(i + 1).forEach(([u, b]) => {
                const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (across > 1.5 && down > 3) out.push(`${t} over ${u}`);
            }));
            return out;
        })"""
    )
    assert overlaps == []


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tickets: one that wins, one from the Hub with a hostile name, one that was never judged."""
    figure = "SA after standard transfer"
    rows = [
        Listed("winner", "resnet18 (adv)", "cifar10", "double win", 0.83, {figure: 0.9}, attack="PGD-20"),
        Listed(
            HOSTILE, "resnet50 (std)", HOSTILE, "no double win", 0.9, {figure: 0.8}, link="https://huggingface.co/a/b"
        ),
        Listed("unjudged", "resnet18 (adv)", sparsity=0.5),
    ]
    path = tmp_path_factory.mktemp("boards") / "board.html"
    path.write_text(render_board(rows), encoding="utf-8")
    return path


def names(opened: Opened) -> list[str]:
    """Return the tickets that are seen, in order, by their first letters."""
    return [cell.inner_text()[:5] for cell in opened.page.locator("tbody tr:visible td:first-child").all()]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), pytest.param(400, "light", marks=pytest.mark.slow)])
def test_a_board_loads_offline_and_is_sorted_and_filtered(
    browser: Browser, board: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, board, width, scheme)
    assert names(opened) == ["<img ", "winne", "unjud"]
    opened.page.get_by_role("button", name="SA, standard").click()
    assert names(opened) == ["winne", "<img ", "unjud"], "what is not known comes last"
    opened.page.get_by_role("button", name="SA, standard").click()
    assert names(opened) == ["<img ", "winne", "unjud"]
    opened.page.get_by_role("button", name="ticket").click()
    assert names(opened) == ["winne", "unjud", "<img "]
    opened.page.get_by_label("Words").fill("RESNET18 adv")
    assert names(opened) == ["winne", "unjud"]
    opened.page.get_by_label("Sparsity from").fill("80")
    assert names(opened) == ["winne"]
    opened.page.get_by_label("Answer").select_option("no double win")
    assert names(opened) == []
    assert opened.page.get_by_role("status").inner_text() == "0 of 3 tickets"
    opened.page.get_by_label("Words").fill("")
    assert names(opened) == ["<img "]
    assert opened.said == []
    assert opened.asked == [board.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.violations() == []
