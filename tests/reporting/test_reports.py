"""The report page says what the records say, in words, tables and pictures, and a stranger's words stay words."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lottery_hub.networks.inspection import overlaps, total_overlap
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.pictures import plot, possible
from lottery_hub.reporting.reports import ANSWERS, Reported, called, render_report, verdict_of
from lottery_hub.storage.folder import load_ticket
from lottery_hub.storage.signing import is_untouched
from tests.judged import put

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m{{ 7*7 }}"


class Read(HTMLParser):
    """The elements of a page, its words, and where it would ask for something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.ids: list[str] = []
        self.asked: list[str] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.inside.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "action") and not (value or "").startswith("#"):
                self.asked.append(value or "")
            assert not name.startswith("on"), name

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def reported(run: Path) -> Reported:
    return Reported.read(run / "ticket", called(str(run / "ticket")))


@pytest.fixture(scope="module")
def text(reported: Reported) -> str:
    return render_report([reported])


@pytest.fixture(scope="module")
def page(text: str) -> Read:
    return Read(text)


def test_the_verdict_comes_first_with_its_caveats(page: Read, reported: Reported) -> None:
    records = reported.ticket.records
    order = [
        page.text.index(words)
        for words in (
            ANSWERS[reported.ticket.answer][0],
            records["caveats"][0],
            "Accuracy over sparsity",
            "What it cost",
        )
    ]
    assert order == sorted(order)
    assert f"({records['tolerance']})" in page.text
    assert records["attack"] in page.text


def test_every_picture_has_its_figures_as_a_table_and_is_told_in_words(page: Read, reported: Reported) -> None:
    for name in possible(reported.ticket):
        shown = plot(reported.ticket, name)
        assert shown.told in page.text
        assert shown.note in page.text
        for cell in (cell for row in shown.rows for cell in row):
            assert cell in page.text


def test_what_it_took_and_how_large_it_is_stand_there(page: Read, reported: Reported, run: Path) -> None:
    assert f"{(run / 'ticket' / 'ticket.safetensors').stat().st_size:,} bytes" in page.text
    assert "levels tried 8" in page.text
    assert "--controls" in page.text
    assert reported.ticket.fingerprint() in page.text


def test_the_page_asks_for_nothing_and_no_name_is_twice(page: Read) -> None:
    assert page.asked == []
    assert "script" not in page.elements
    assert len(page.ids) == len(set(page.ids))


def test_no_path_of_this_machine_is_on_the_page(page: Read, run: Path) -> None:
    assert str(run.parent) not in page.text


def test_the_page_shows_that_nobody_has_changed_it(text: str) -> None:
    assert is_untouched(text)
    assert not is_untouched(text.replace("<strong>", "<strong>!"))


def test_a_strangers_words_stay_words(reported: Reported) -> None:
    ticket = reported.ticket
    records, provenance = copy.deepcopy(ticket.records), {"backbone": {"source": HOSTILE, "license": HOSTILE}}
    for path in (
        ("data", "name"),
        ("attack",),
        ("tolerance",),
        ("caveats",),
        ("data", "notes"),
        ("environment", "torch"),
    ):
        put(records, path, [HOSTILE] if path[-1] in ("caveats", "notes") else HOSTILE)
    for run in records["transfers"]:
        run["provenance"]["environment"]["hardware"] = HOSTILE
    hostile = replace(reported, name=HOSTILE, ticket=replace(ticket, records=records, provenance=provenance))
    page = render_report([hostile])
    read = Read(page)
    assert not {"script", "img"} & set(read.elements)
    assert not any(letter in page for letter in ("\x1b", "\u202e"))
    assert "{{ 7*7 }}" in read.text


def test_several_tickets_stand_side_by_side_with_what_their_masks_share(ladder: Ladder) -> None:
    several = [Reported(f"{level} <b>", ladder.ticket(level)) for level in (1, 6)]
    page = Read(render_report(several))
    assert "2 tickets side by side" in page.text
    both = total_overlap(overlaps(ladder.mask(1), ladder.mask(6)).values())
    assert f"{both.iou * 100:.2f} % (chance {both.chance * 100:.2f} %)" in page.text
    assert "was never transferred" in page.text
    assert "6 <b>" in page.text
    assert "b" not in page.elements
    assert len(page.ids) == len(set(page.ids))


def test_tickets_of_one_name_are_told_apart(ladder: Ladder) -> None:
    page = Read(render_report([Reported("run", ladder.ticket(level)) for level in (1, 6)]))
    assert "run (1): resnet18-slim (adv), level 1" in page.text
    assert "run (2): resnet18-slim (adv), level 6" in page.text


@pytest.mark.parametrize("said", ["undecided", "double win", "no double win"])
def test_each_answer_of_the_rule_has_words(reported: Reported, said: str) -> None:
    records = copy.deepcopy(reported.ticket.records)
    records |= {"answer": said, "double_win": said == "double win"}
    ticket = replace(reported.ticket, records=records)
    assert ticket.answer == said
    words = {"undecided": "is neither seen", "double win": "matches the dense", "no double win": "fails to match"}
    assert words[said] in verdict_of(ticket)


def test_a_level_that_was_asked_for_is_neither_picked_nor_the_best_of_several(reported: Reported) -> None:
    records = reported.ticket.records | {"answer": "no double win", "double_win": False}
    picked = Read(render_report([replace(reported, ticket=replace(reported.ticket, records=records))])).text
    assert "No double win: the best level that was tried" in picked
    assert "validation images" in picked
    asked = records | {"plan": records["plan"] | {"level": records["level"]}}
    page = Read(render_report([replace(reported, ticket=replace(reported.ticket, records=asked))])).text
    assert "this one was asked for; no other was tried" in page
    assert "the best level that was tried" not in page
    assert "Picked on" not in page


def test_a_level_of_a_ladder_has_a_page_too() -> None:
    folder = "resnet18-slim-adv"
    ticket: Ticket = load_ticket(folder, 0.9)
    page = Read(render_report([Reported(folder, ticket)]))
    assert "Not judged" in page.text
    assert "Kept weights by layer" in page.text
