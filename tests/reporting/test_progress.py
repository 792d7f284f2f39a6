"""The display of work: whole at every width, live where a terminal watches, a line at a time elsewhere."""

from __future__ import annotations

import io
import re
import sys
from threading import Thread
from typing import Any

import pytest

from lottery_hub.reporting.progress import Progress
from lottery_hub.reporting.showing import showing, shows
from lottery_hub.reporting.watched import Watched
from lottery_hub.telling import QUIET, VERBOSE, at_volume, tell

PLAN = {"what": "transfer", "most": 10, "at_most": True, "together": 2, "passes": 1000.0}
UNIT = "transfer-level-14-adversarial-seed-0"
EPOCH = {
    "unit": UNIT,
    "epoch": 3,
    "epochs": 100,
    "images": 45_000,
    "seconds": 30.0,
    "loss": 12.345,
    "validation_SA": 0.9876,
    "validation_RA": 0.6543,
}
FIGURES = ["12.345", "98.76/65.43", "1,500", "3/100", "0:20", "0:30"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.TextIOWrapper):
    """A terminal, or a file, that remembers what was written."""

    def __init__(self, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a screen in the place of stderr."""

    def put(terminal: bool = True, columns: int = 100, lines: int = 40, encoding: str = "utf-8") -> Screen:
        screen = Screen(terminal, encoding)
        monkeypatch.setattr(sys, "stderr", screen)
        for name, value in (("COLUMNS", columns), ("LINES", lines), ("TERM", "xterm"), ("NO_COLOR", "1")):
            monkeypatch.setenv(name, str(value))
        return screen

    return put


def told(progress: Progress, clock: Clock) -> None:
    """Tell of a transfer that is at work."""
    for kind, record in (
        ("plan", PLAN),
        ("unit", {"unit": "transfer-level-00-standard-seed-0", "finished": True, "passes": 100.0}),
        ("unit", {"unit": UNIT, "finished": False, "passes": 500.0}),
        ("begun", {"unit": UNIT, "epoch": 3, "epochs": 100}),
    ):
        progress.report(kind, record)
    clock.now += 20
    progress.report("passes", {"unit": UNIT, "done": 200.0, "images": 0})
    progress.report("epoch", EPOCH)


def figures(regime: str, **more: Any) -> dict[str, Any]:
    return {regime: {"SA": 0.9876, "RA": 0.6543}} | more


DENSE = figures("standard") | figures("adversarial") | {"level": 0, "sparsity": 0.0}


def level(number: int) -> dict[str, Any]:
    checked = [
        {"regime": regime, "figure": figure, "matching": True}
        for regime in ("standard", "adversarial")
        for figure in ("SA", "RA")
    ]
    won = {"double_win": True, "figures": checked}
    return DENSE | {"level": number, "sparsity": 1 - 0.8**number, "validation": won} | won


def drawn(progress: Progress) -> list[str]:
    """Return the lines of the view as it is now."""
    console = progress.console
    return ["".join(part.text for part in line).rstrip() for line in console.render_lines(progress._view(), pad=False)]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
@pytest.mark.parametrize("columns", [100, 80, 60, 40])
def test_no_figure_is_cut_at_any_width(put: Any, columns: int, encoding: str) -> None:
    put(columns=columns, encoding=encoding)
    clock = Clock()
    progress = Progress(True, watched=Watched(clock))
    told(progress, clock)
    progress.report("dense", DENSE)
    progress.report("level", level(7))
    lines = drawn(progress)
    text = " ".join(lines)
    for figure in [*FIGURES, "level 14, adv, seed 0", "79.03"]:
        assert figure in text, lines
    bound = "≤" if encoding == "utf-8" else "at most"
    assert f"transfer 1 of {bound} 10, 2 at a time" in re.sub(r"\s+", " ", text)
    assert f"{bound} 1:10 left" in re.sub(r"\s+", " ", text)
    assert max(map(len, lines)) <= columns
    assert "…" not in text
    assert text.count("98.76") == 5  # two of dense, two of the level, and the network's own


def test_a_low_screen_keeps_the_bar_and_the_latest_levels(put: Any) -> None:
    put(lines=12)
    clock = Clock()
    progress = Progress(True, watched=Watched(clock))
    told(progress, clock)
    progress.report("dense", DENSE)
    for number in range(1, 12):
        progress.report("level", level(number))
    lines = drawn(progress)
    assert len(lines) < 12
    assert any("transfer 1 of" in line for line in lines)
    assert any(line.split()[:1] == ["11"] for line in lines)
    assert not any(line.split()[:1] == ["1"] for line in lines)


def test_a_terminal_has_a_line_and_a_bar_at_once(put: Any) -> None:
    screen = put()
    with showing("reading images"):
        pass
    assert "reading images, 0:00" in screen.text or "starting, 0:00" in screen.text
    assert "━" in screen.text


@pytest.mark.parametrize(("terminal", "dumb"), [(False, False), (True, True)])
def test_what_is_no_terminal_has_plain_lines_with_their_time(
    put: Any, terminal: bool, dumb: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = put(terminal, columns=40)
    if dumb:
        monkeypatch.setenv("TERM", "dumb")
    clock = Clock()
    with Progress(True, watched=Watched(clock)) as progress:
        tell("doing", what="reading \x1b[31mimages")
        tell("notes", lines=["images resized"])
        told(progress, clock)
        progress.report("ended", {"unit": UNIT})
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    expected = [
        stamp + re.escape(r"reading \x1b[31mimages"),
        "note: images resized",
        stamp + "dense, std, seed 0: done before",
        stamp + r"level 14, adv, seed 0: done; transfer 2 of ≤ 10, 2 at a time, 0:20, ≤ 0:16 left",
    ]
    lines = screen.text.splitlines()
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_what_is_worth_knowing_of_images_is_said_once_however_many_finds_take_them(put: Any) -> None:
    screen = put(terminal=False)
    with Progress(True) as progress:
        for cell in ("std", "adv"):
            progress.report("data", {"cell": cell, "name": "digits", "notes": ["grey images", "resized"]})
        progress.report("data", {"cell": "adv", "name": "mnist", "notes": ["grey images"]})
    assert screen.text.splitlines() == ["note: grey images", "note: resized", "note: grey images"]


def test_lines_end_where_they_are_not_wanted(put: Any) -> None:
    for shown, volume in ((None, 0), (False, 0), (True, QUIET)):
        screen = put(terminal=False)
        with at_volume(volume), Progress(shown) as progress:
            told(progress, Clock())
            tell("notes", lines=["images resized"])
        assert screen.text == ""


def test_on_request_every_epoch_is_a_line(put: Any) -> None:
    screen = put(terminal=False)
    with at_volume(VERBOSE), Progress(True) as progress:
        progress.report("epoch", EPOCH)
    assert (
        "level 14, adv, seed 0: epoch 3/100, loss 12.345, validation SA 98.76 RA 65.43, 1,500 images/s" in screen.text
    )


def test_lines_and_drawings_do_not_wait_for_each_other(put: Any) -> None:
    put()
    with Progress(True) as progress:
        drawing = Thread(target=lambda: [progress._live.refresh() for _ in range(50)], daemon=True)
        said = [{"lines": [str(number)]} for number in range(50)]
        telling = Thread(target=lambda: [progress.report("notes", each) for each in said], daemon=True)
        for thread in (drawing, telling):
            thread.start()
        for thread in (drawing, telling):
            thread.join(60)
        assert not drawing.is_alive()
        assert not telling.is_alive()


def test_ctrl_c_says_how_many_units_are_finished(put: Any) -> None:
    put()

    def interrupted() -> None:
        with Progress(True) as progress:
            told(progress, Clock())
            raise KeyboardInterrupt("epochs are kept")

    with pytest.raises(KeyboardInterrupt) as stop:
        interrupted()
    assert str(stop.value) == "1 of at most 10 transfers are finished; epochs are kept"


def test_one_display_is_enough(put: Any) -> None:
    screen = put(terminal=False)

    @shows("fetching")
    def fetch(*, progress: bool | None = None) -> str:
        return "ticket"

    with showing("reading"):
        assert fetch(progress=True) == "ticket"
    assert [line[20:] for line in screen.text.splitlines()] == ["reading", "fetching"]
    assert fetch() == "ticket"
    assert len(screen.text.splitlines()) == 2
