"""predict on the command line: files, folders and lists, what is told of each picture, and of one that is none."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from lottery_hub import cli
from lottery_hub.cli import predict
from lottery_hub.errors import DataError
from lottery_hub.images.datasets import Dataset


class Called:
    """What a command left: exit code, stdout, stderr."""

    def __init__(self, capture: pytest.CaptureFixture[str], *words: str, typed: str = "") -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["lottery-hub", "predict", *words])
            patch.setattr(sys, "stdin", io.StringIO(typed))
            with pytest.raises(SystemExit) as end:
                cli.main()
        self.code = end.value.code
        self.out, self.err = capture.readouterr()


@pytest.fixture
def pictures(tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three pictures, one of them in a folder inside."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside" / "deep").mkdir(parents=True)
    names = ["a.png", "b.png", "inside/deep/c.png"]
    for name, image in zip(names, tiny_data.test.images, strict=False):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(name)
    (tmp_path / "inside" / "notes.txt").write_text("no picture")
    return names


def test_every_picture_is_told_with_the_likeliest_names(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    done = Called(capsys, str(run), "a.png", "inside", "--top", "2")
    assert (done.code, done.err) == (0, "")
    shown = done.out.splitlines()
    assert [line.partition(": ")[0] for line in shown] == ["a.png", "inside/deep/c.png"]
    name = "(left|middle|right)"
    assert all(re.fullmatch(rf".*: {name} \d+\.\d\d %, {name} \d+\.\d\d %", line) for line in shown)


def test_a_list_on_stdin_is_one_json_object_and_the_ticket_says_other_things_than_its_network(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(Called(capsys, str(run), "-", "--json", typed="a.png\n\nb.png\r\n").out)
    assert told["network"] == "after adversarial transfer to stripes, seed 0: 3 classes"
    assert [said["image"] for said in told["predictions"]] == ["a.png", "b.png"]
    assert all(said["top"][0]["name"] == said["name"] and len(said["top"]) == 3 for said in told["predictions"])
    itself = json.loads(Called(capsys, str(run), "a.png", "--ticket", "--top", "9", "--json").out)
    assert len(itself["predictions"][0]["top"]) == 5


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_not_lost(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.png").write_bytes(b"no picture")
    done = Called(capsys, str(run), "a.png", "nowhere.png", "b.png", "--json")
    told = json.loads(done.out)
    assert done.code == 1
    assert [said["image"] for said in told["predictions"]] == ["b.png"]
    assert [failed["image"] for failed in told["failed"]] == ["a.png", "nowhere.png"]
    assert [line.split(" is ")[0] for line in done.err.splitlines()] == ["error: a.png", "error: nowhere.png"]


def test_an_empty_folder_and_no_picture_at_all_are_errors(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    done = Called(capsys, str(run), "empty")
    assert (done.code, done.out, done.err) == (1, "", "error: empty holds no pictures\n")
    assert Called(capsys, str(run)).code == 2
    assert Called(capsys, "nowhere", "a.png").err.startswith("error: no ticket at nowhere")


def test_whatever_is_named_is_told_in_order_and_ends_nothing(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    os.mkfifo("pipe.png")
    strange = ["a.png", "empty", "pipe.png", "x" * 300, "a\0b", "\x1b[2J\u202e.png", "\udcff", "inside", "b.png"]
    done = Called(capsys, str(run), "-", typed="\n".join(strange))
    assert done.code == 1
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == ["a.png", "inside/deep/c.png", "b.png"]
    assert len(done.err.splitlines()) == 6
    assert (done.out + done.err).replace("\n", "").isprintable()


def test_a_list_is_told_as_it_comes_and_its_lines_are_names_of_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    with os.fdopen(end) as typed, os.fdopen(start, "wb", buffering=0) as typing:
        monkeypatch.setattr(sys, "stdin", typed)
        lines = predict._lines()
        assert next(lines) is None, "what was named before is told meanwhile"
        typing.write(b"a.png\r\n\xff.png\nb.")
        assert [next(lines), next(lines), next(lines)] == ["a.png", "\udcff.png", None]
        typing.write(b"png\n" + b"/" * 65_000)
        assert next(lines) == "b.png"
        typing.write(b"/" * 65_000)
        with pytest.raises(DataError, match="longer than any file's name"):
            list(lines)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="there is no stdin"):
        list(predict._lines())
