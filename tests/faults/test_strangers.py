"""Strangers' folders, cards, records, checkpoints, runs and a hostile Hub, beside files that nobody may touch."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import strangers
from attempts import GOOD, attempt, cli
from cases import GROUPS
from victims import Peeking, Scene

from lottery_hub.errors import TicketError
from tests import warm

HERE = Path(__file__).parent


def counted(*arguments: object) -> dict[str, Any]:
    """Run the campaign in a process of its own, and return what it prints."""
    done = warm.run("-W", "ignore", HERE / "strangers.py", *map(str, arguments), timeout=None, serve=True)
    assert done.stdout, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check(counts: dict[str, Any], cases: int) -> None:
    assert counts["failures"] == []
    assert counts["endings"].keys() <= set(GOOD)
    assert sum(counts["endings"].values()) == cases


@pytest.mark.timeout(900)
def test_what_strangers_give_harms_nobody() -> None:
    counts = counted("--cases", 80, "--seed", 3)
    check(counts, 80)
    assert all(counts["groups"][group] for group in GROUPS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_what_five_thousand_strangers_give_harms_nobody() -> None:
    counts = counted("--cases", 5000, "--seed", 1)
    check(counts, 5000)
    assert len(counts["kinds"]) == sum(map(len, strangers.TABLE.values()))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path / "scene")
    made.build()
    return made


def test_a_victim_notices_what_is_created_changed_and_deleted(scene: Scene) -> None:
    before = scene.note()
    assert scene.damage(before) == []
    (scene.victim / "new").write_text("", encoding="utf-8")
    (scene.victim / "notes.txt").write_text("other notes", encoding="utf-8")
    (scene.home / ".ssh/id_rsa").chmod(0o644)
    (scene.victim / "link").unlink()
    (scene.victim / "dangling").unlink()
    (scene.victim / "dangling").symlink_to("notes.txt")
    assert scene.damage(before) == [
        "changed home/.ssh/id_rsa",
        "changed victim/dangling",
        "deleted victim/link",
        "created victim/new",
        "changed victim/notes.txt",
    ]


def test_what_was_asked_for_is_no_damage_but_what_is_kept_is(scene: Scene) -> None:
    out = scene.work / "deep/out"
    before = scene.note()
    out.mkdir(parents=True)
    (out / "config.json").touch()
    assert scene.damage(before) == ["created work/deep", "created work/deep/out", "created work/deep/out/config.json"]
    scene.asked = [out]
    assert scene.damage(before) == []
    scene.kept = [out / "config.json"]
    assert scene.damage(before) == ["created work/deep/out/config.json"]


def test_a_victim_notices_who_looks_through_a_link(scene: Scene) -> None:
    peeking = Peeking()
    (scene.work / "card").symlink_to(scene.home / ".ssh/id_rsa")
    peeking.watch(scene)
    (scene.work / "own").write_text("", encoding="utf-8")
    assert peeking.seen == []
    (scene.work / "card").read_bytes()
    assert peeking.seen == [os.path.realpath(scene.home / ".ssh/id_rsa")]
    peeking.watch(None)


# How an attempt ends


def waits() -> None:
    threading.Event().wait(3600)


def takes_a_lot() -> int:
    # Beyond what other tests of this process have taken before.
    return len(b"x" * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10 + 2**28))


def leaves_a_thread() -> None:
    threading.Thread(target=threading.Event().wait, args=(3,), daemon=True).start()


def refuses_in(words: str) -> Callable[[], None]:
    def refuse() -> None:
        raise TicketError(words)

    return refuse


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda: 1, "accepted and right"),
        (refuses_in("one line"), "refused"),
        (refuses_in("two\nlines"), "bad message"),
        (refuses_in("\x1b[2J"), "bad message"),
        (lambda: {}["key"], "traceback"),
        (waits, "too slow"),
        (takes_a_lot, "too large"),
        (leaves_a_thread, "left running"),
        (lambda: cli("show", "nothing-of-that-name"), "refused"),
        (lambda: cli("show"), "refused"),
        (lambda: cli("backbones"), "accepted and right"),
    ],
)
def test_an_attempt_says_how_it_ended(act: Callable[[], Any], name: str) -> None:
    ended = attempt(act, seconds=0.3 if act is waits else 10, mebibytes=128)
    assert ended.name == name, ended


def test_what_is_accepted_is_judged() -> None:
    assert attempt(lambda: 1, lambda _: "it is 1") == ("wrongly accepted", "it is 1")
    assert attempt(lambda: 1, lambda made: made["x"]).detail.startswith("cannot be judged: TypeError")
