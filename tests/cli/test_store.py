"""`lottery-hub store`: what is there, whether it is what it was, and room."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lottery_hub import cli
from lottery_hub.running.store import Store, Unit, open_store

Call = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command; return exit code, stdout and stderr."""

    def called(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", "store", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return called


@pytest.fixture
def store() -> Store:
    """Three finished units of 1.4 kB, used today, yesterday and the day before, and a half-finished one."""
    store = open_store()
    for days in range(3):
        unit = Unit(f"transfer {days}", {"unit": "transfer", "days": days})

        def work(folder: Path, days: int = days) -> dict[str, Any]:
            (folder / "network").write_bytes(bytes(1000))
            named = {"data": {"name": "di\x1b[31mgits"}}
            return {"regime": "standard", "seed": days, "SA": 0.875, "RA": 0.5, "provenance": named}

        store.once(unit, work)
        os.utime(store.folder(unit), (time.time() - 86_400 * (days + 0.1),) * 2)
    with pytest.raises(ZeroDivisionError):
        store.once(Unit("killed", {"unit": "round"}), lambda folder: {"n": 1 // 0})
    return store


def test_the_list_has_what_was_of_use_last_first(store: Store, call: Call) -> None:
    code, shown, _ = call("list")
    rows = [line.split() for line in shown.splitlines() if " transfer " in line or "half done" in line]
    assert (code, [row[1] for row in rows]) == (0, ["half", "transfer", "transfer", "transfer"])
    assert rows[1][3:] == ["standard", "0", "87.50", "50.00", "1.4", "kB", "0.1", "days", "ago"]
    assert shown.splitlines()[-1] == f"4 units, 4.3 kB, in {store.directory}"
    assert "\x1b" not in shown
    said = json.loads(call("list", "--json")[1])
    assert [row.get("seed") for row in said["units"]] == [None, 0, 1, 2]


def test_a_unit_is_shown_by_how_its_address_begins(store: Store, call: Call) -> None:
    wanted = Unit("", {"unit": "transfer", "days": 1})
    said = json.loads(call("show", wanted.address[:8])[1])
    assert (said["unit"], said["about"], said["record"]["seed"]) == (wanted.address, wanted.about, 1)
    assert said["folder"] == str(store.folder(wanted))
    code, _, told = call("show", "xyz")
    assert (code, told) == (
        1,
        "error: no unit of the store has an address that begins with xyz; `store list` shows them\n",
    )
    assert "3 units of" in call("show", "")[2]


def test_what_is_damaged_is_named_and_makes_the_exit_code_3(store: Store, call: Call) -> None:
    assert call("verify")[:2] == (0, "3 of 3 units are what they were; others are made anew when they are needed\n")
    (store.folder(Unit("", {"unit": "transfer", "days": 1})) / "network").write_bytes(bytes(999))
    code, shown, _ = call("verify")
    assert (code, "network is damaged (sha256 differs)" in shown, "2 of 3 units" in shown) == (3, True, True)
    assert len(json.loads(call("verify", "--json")[1])["damaged"]) == 1


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], {0, 1, 2}),
        (["--days", "2"], {0, 1}),
        (["--days", "0.01"], set()),
        (["--most", "3.2kB"], {0, 1}),
        (["--most", "0 MB"], set()),
        (["--most", "1GB", "--days", "1"], {0}),
    ],
)
def test_what_was_of_use_longest_ago_makes_room(store: Store, call: Call, options: list[str], left: set[int]) -> None:
    units = {number: Unit("", {"unit": "transfer", "days": number}).address for number in range(3)}
    said = json.loads(call("prune", *options, "--dry-run", "--json")[1])
    assert set(said["removed"]) == {units[number] for number in {0, 1, 2} - left}
    assert store.addresses() == set(units.values())
    code, shown, _ = call("prune", *options)
    assert (code, shown.split(" ")[0]) == (0, str(3 - len(left)))
    assert store.addresses() == {units[number] for number in left}
    # One who was at work today may come back.
    assert len(list(store.left())) == 1


def test_what_was_left_yesterday_and_what_was_set_aside_go_first_of_all(store: Store, call: Call) -> None:
    (partial,) = store.left()
    os.utime(partial, (time.time() - 90_000,) * 2)
    (partial.parent / f"{partial.stem}.damaged").write_text("in a unit's place")
    (partial.parent / f"{partial.stem}.damaged-2").symlink_to(partial)
    (partial.parent / "thesis").write_text("mine")
    call("prune")
    assert (list(store.left()), len(store.addresses())) == ([], 3)
    assert (partial.parent / "thesis").read_text() == "mine"


@pytest.mark.parametrize("size", ["", "20", "GB", "-1GB", "1e9GB", "nanGB", "20 gigabytes"])
def test_a_size_that_is_none_is_wrong_usage(call: Call, size: str) -> None:
    code, _, told = call("prune", "--most", size)
    assert (code, "is no size; write 500MB or 20GB" in told.replace("\n", " ")) == (2, True) or code == 2


def test_looking_at_a_store_that_is_none_makes_none_and_days_are_days(call: Call, tmp_path: Path) -> None:
    for words in (["list"], ["verify"], ["prune"]):
        assert call(*words, "--store", str(tmp_path / "new"))[0] == 0
    assert not (tmp_path / "new").exists()
    assert call("prune", "--days", "nan")[0] == 2
