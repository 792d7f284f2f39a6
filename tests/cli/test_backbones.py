"""`lottery-hub backbones`: the tables on a screen and as JSON, without the network."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from lottery_hub import cli
from lottery_hub.networks import published
from lottery_hub.networks.published import SOURCES, Source
from lottery_hub.sharing import sources
from lottery_hub.sharing.sources import load_backbone


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command at a screen width; return exit code, stdout and stderr."""

    def called(*arguments: str, width: int = 80) -> tuple[Any, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["lottery-hub", "backbones", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return called


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*arguments: object, **options: object) -> None:
        raise AssertionError("the list of backbones must not download")

    monkeypatch.setattr(sources.downloads, "fetch_file", fetched)


def rows(shown: str) -> list[list[str]]:
    """The cells of every table row: lines that begin with a kind."""
    return [re.split(r"  +", line.rstrip()) for line in shown.splitlines() if re.match(r"(std|adv|fast-adv)[: ]", line)]


@pytest.mark.parametrize("width", [80, 120])
def test_every_backbone_has_one_line_that_fits_the_screen(call: Any, width: int) -> None:
    code, shown, errors = call(width=width)
    assert (code, errors) == (0, "")
    assert max(map(len, shown.splitlines())) <= width
    cells = rows(shown)
    assert len(cells) == 3 + len(SOURCES)
    assert ["adv", "resnet18-slim", "PGD-3 Linf eps 8/255 step 4/255", "35.74", "17.37"] in cells
    assert ["std", "resnet50", "76.16", "bsd-3-clause", "timm/resnet50.tv_in1k"] in cells
    assert ["adv:l2-3", "resnet50", "62.83", "resnet50_l2_eps3.ckpt"] in cells
    assert ["adv:linf-0.5/255", "wide_resnet50_2", "75.82", "wide_resnet50_2_linf_eps0.5.ckpt"] in cells


def test_what_rows_share_stands_below_their_table(call: Any) -> None:
    _, shown, _ = call(width=200)
    for note in (
        "trained and tested on cifar100, 10,000 test images; RA by PGD-20 Linf eps 8/255 step 2/255; "
        "licence Apache-2.0",
        "file model.safetensors; SA from timm's results-imagenet.csv",
        "repository madrylab/robust-imagenet-models; licence mit; SA from README of microsoft/robust-models-transfer; "
        "adv alone is adv:linf-4/255",
    ):
        assert note in shown.splitlines()


def test_radii_stand_in_order_linf_before_l2(call: Any) -> None:
    _, shown, _ = call("--arch", "wide_resnet50_2", "--kind", "adv")
    assert [line[0] for line in rows(shown)] == [
        "adv:linf-0.5/255",
        "adv:linf-1/255",
        "adv:linf-2/255",
        "adv:linf-4/255",
        "adv:linf-8/255",
        "adv:l2-1",
        "adv:l2-3",
        "adv:l2-5",
    ]


def test_architecture_and_kind_narrow_the_list(call: Any) -> None:
    assert {line[1] for line in rows(call("--arch", "resnet18")[1])} == {"resnet18"}
    assert {line[0] for line in rows(call("--kind", "std")[1])} == {"std"}
    assert [line[:2] for line in rows(call("--kind", "fast-adv")[1])] == [["fast-adv", "resnet18-slim"]]


def test_where_there_is_none_the_list_says_so_and_what_to_do(call: Any) -> None:
    code, shown, _ = call("--arch", "resnet50", "--kind", "fast-adv", width=200)
    assert code == 0
    assert "None is packaged, and none is published" in shown
    assert "fast-adv:weights.pth.tar" in shown


def test_an_unknown_architecture_is_one_line(call: Any) -> None:
    code, shown, errors = call("--arch", "vit\x1b[31m")
    assert (code, shown) == (1, "")
    assert errors.startswith("error: unknown architecture")
    assert errors.count("\n") == 1
    assert "\x1b" not in errors


def test_json_holds_every_field_of_both_tables(call: Any) -> None:
    code, shown, _ = call("--json")
    assert code == 0
    assert shown.count("\n") == 1
    told = json.loads(shown)
    assert [row["pretrain"] for row in told["packaged"]] == ["adv", "fast-adv", "std"]
    assert told["packaged"][0] == {
        "pretrain": "adv",
        "arch": "resnet18-slim",
        "kind": "adv",
        "dataset": "cifar100",
        "norm": "linf",
        "eps": 8 / 255,
        "trained_against": "PGD-3 Linf eps 8/255 step 4/255",
        "SA": 0.3574,
        "RA": 0.1737,
        "attack": "PGD-20 Linf eps 8/255 step 2/255",
        "samples": 10000,
        "license": "Apache-2.0",
    }
    assert told["packaged"][2]["norm"] is told["packaged"][2]["trained_against"] is None
    assert {row["pretrain"]: row for row in told["published"] if row["arch"] == "resnet18"}["adv:linf-4/255"] == {
        "pretrain": "adv:linf-4/255",
        "arch": "resnet18",
        "kind": "adv",
        "repo": "madrylab/robust-imagenet-models",
        "file": "resnet18_linf_eps4.0.ckpt",
        "dataset": "ImageNet-1k",
        "norm": "linf",
        "eps": 4 / 255,
        "SA": 0.5249,
        "SA_from": "README of microsoft/robust-models-transfer",
        "license": "mit",
        "sha256": "6f8ccef1ae4958c381617081e9e0fb5f50e7cccd4965192d1caa452fd6c5cd1e",
    }


def test_what_is_listed_is_what_is_loaded(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class StopError(Exception):
        pass

    def fetch_file(repo: str, file: str, **options: object) -> None:
        asked.append((repo, file))
        raise StopError

    monkeypatch.setattr(sources.downloads, "fetch_file", fetch_file)
    listed = json.loads(call("--json")[1])["published"]
    for row in listed:
        with pytest.raises(StopError):
            load_backbone(row["pretrain"], row["arch"])
    assert asked == [(row["repo"], row["file"]) for row in listed]


def test_nothing_in_a_table_moves_the_cursor(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Source("resnet18", "std", "[bold]x\x1b[2J", "f\x1b[31m", "[red]mit", 0.5, "[/]who\x1b]0;t\x07")
    monkeypatch.setattr(published, "SOURCES", (row,))
    _, shown, _ = call("--kind", "std", width=200)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]x\\x1b[2J" in shown
    assert "[red]mit" in shown
    assert "[/]who" in shown
