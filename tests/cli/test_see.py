"""`lottery-hub plot` and `report`: what they write and say, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lottery_hub import cli


class Called(NamedTuple):
    code: object
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Call `lottery-hub` inside this process, from an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Called(end.value.code, *capsys.readouterr())

    return command


def test_a_picture_is_told_and_written(call: Call, run: Path, tmp_path: Path) -> None:
    done = call("plot", str(run), "--what", "differences", "--output", "x.svg")
    assert (done.code, done.err) == (0, "")
    said, where = done.out.splitlines()
    assert said.startswith("SA after standard transfer differs from dense by ")
    assert where == "differences: x.svg"
    assert (tmp_path / "x.svg").read_bytes().startswith(b"<?xml")


def test_a_picture_has_its_rows_as_json(call: Call) -> None:
    arguments = ["resnet18-slim-adv", "--sparsity", "0.9", "--what", "density", "--output", "x.png"]
    told = json.loads(call("plot", *arguments, "--json").out)
    assert (told["path"], told["what"]) == ("x.png", "density")
    assert told["rows"][-1]["layer"] == "all"


def test_a_name_that_is_no_pictures_is_refused_before_anything_is_read(call: Call, tmp_path: Path) -> None:
    done = call("plot", "no-such-ticket", "--output", "x.gif")
    assert (done.code, done.err) == (
        1,
        "error: x.gif ends in none of .svg, .png and .pdf, by which a picture is written\n",
    )
    assert not any(tmp_path.iterdir())


def test_a_report_is_one_page_and_made_again_in_its_place(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("report", str(run)).out == "report: report.html\n"
    page = tmp_path / "report.html"
    first = page.read_bytes()
    told = json.loads(call("report", str(run), "--json").out)
    assert told["bytes"] == len(first) < 2_000_000
    assert told["tickets"][0]["double_win"] in (True, False)
    assert page.read_bytes() == first


def test_somebodys_page_stays(call: Call, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine", encoding="utf-8")
    arguments = ["report", "resnet18-slim-adv", "--sparsity", "0.9"]
    done = call(*arguments)
    assert done.code == 1
    assert done.err.startswith("error: report.html is there already; give another name, or --overwrite")
    assert call(*arguments, "--overwrite").code == 0
    assert (tmp_path / "report.html.old").read_text(encoding="utf-8") == "mine"


def test_a_ladder_is_told_to_name_a_level(call: Call) -> None:
    done = call("report", "resnet18-slim-adv")
    assert done.code == 1
    assert "holds a ladder; say which sparsity you want" in done.err
