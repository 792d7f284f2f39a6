"""Whole or not at all: processes killed at every step and at random moments, and a disk that fills up."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lottery_hub.errors import TicketError
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage import atomic
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.storage.signing import signed

KILLS = 150  # at random moments; some 100 more come one at each step
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "ctypes.dlsym"}


@pytest.fixture(scope="module")
def pair(ladder: Ladder) -> tuple[Ticket, Ticket]:
    """An old ticket and a new one."""
    return ladder.ticket(1), ladder.ticket(6)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a thing: kills leave the same there, and syncing takes no time."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=shared) as place:
        yield Path(place)


def killed(work: Callable[[], object], when: Callable[[int], None], at_step: int | None = None) -> bool:
    """Run `work` in a forked process that `when` or its own step `at_step` kills; return whether it was killed."""
    child = os.fork()
    if child == 0:
        if at_step is not None:
            _kill_at(at_step)
        try:
            work()
        finally:
            os._exit(0)
    when(child)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _kill_at(step: int) -> None:
    left = step

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_whole(place: Path, pair: tuple[Ticket, Ticket]) -> bool:
    return load_ticket(place).fingerprint() in {ticket.fingerprint() for ticket in pair}


@pytest.mark.parametrize("older", [True, False], ids=["over an older one", "in a new place"])
def test_a_save_killed_at_any_step_leaves_the_old_ticket_or_the_new_one(
    pair: tuple[Ticket, Ticket], memory: Path, older: bool
) -> None:
    kills = 0
    old = save_ticket(pair[0], memory / "old", signed("# old"))
    for step in range(1, 400):
        place = memory / str(step) / "ticket"
        if older:
            shutil.copytree(old, place)
        if not killed(lambda place=place: save_ticket(pair[1], place, signed("# new")), lambda _: None, at_step=step):
            break
        kills += 1
        if older or place.exists():
            assert is_whole(place, pair), f"step {step}"
            assert names(place) == ["README.md", "config.json", "results.json", "ticket.safetensors"]
    assert kills > 25, "together with the kills at random moments these are more than 200"
    assert load_ticket(place).level == 6  # the one that was not killed


@pytest.mark.slow
def test_saves_killed_at_random_moments_leave_a_folder_of_one_piece(memory: Path) -> None:
    place = memory / "folder"
    moments = random.Random(0)

    def save(stamp: int) -> None:
        with atomic.new_folder(place, foreign=atomic.nothing) as fresh:
            for number in range(4):
                atomic.write_json(fresh / f"{number}.json", {"stamp": stamp, "filler": "x" * 20_000})

    told, tell = os.pipe()

    def save_on_and_on() -> None:
        for stamp in itertools.count(1):
            save(stamp)
            os.write(tell, b".")

    def soon(child: int) -> None:
        os.read(told, 1)  # it has saved once
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.set_blocking(told, False)
        with suppress(BlockingIOError):
            os.read(told, 1000)
        os.set_blocking(told, True)

    save(0)
    seen = set()
    for _ in range(KILLS):
        assert killed(save_on_and_on, soon)
        assert names(place) == ["0.json", "1.json", "2.json", "3.json"]
        stamps = {json.loads(path.read_text(encoding="utf-8"))["stamp"] for path in place.iterdir()}
        assert len(stamps) == 1
        seen |= stamps
    assert len(seen) > 2, "the kills came too early to prove anything"
    save(0)
    assert names(memory) == ["folder"], "the next save removes what the killed ones left"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs takes rights that this process lacks")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_ticket(pair: tuple[Ticket, Ticket], small_disk: Path) -> None:
    old = pair[1]
    place = save_ticket(old, small_disk / "ticket", values="bfloat16")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    filler = small_disk / "filler"
    failures = 0
    # From no room at all to a little less than a second small ticket takes; the large one never fits.
    for free in range(0, 500, 20):
        filler.write_bytes(b"")
        room = os.statvfs(small_disk)
        filler.write_bytes(bytes(room.f_bavail * room.f_frsize - free * 1024))
        with pytest.raises(TicketError, match=r"cannot write .*ticket: No space left on device"):
            save_ticket(pair[0], place)
        failures += 1
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
        assert names(small_disk) == ["filler", "ticket"]
    assert failures == 25


def test_a_folder_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with atomic.new_folder(target) as fresh:
        (fresh / "file").write_text("whole", encoding="utf-8")
        assert not target.exists()
        assert fresh.parent == target.parent
    assert (target / "file").read_text(encoding="utf-8") == "whole"
    assert names(target.parent) == ["folder"]


def test_an_interrupted_block_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic.new_folder(target, foreign=atomic.nothing) as fresh:
        (fresh / "file").write_text("old", encoding="utf-8")

    def interrupted() -> None:
        with atomic.new_folder(target, foreign=atomic.nothing) as fresh:
            (fresh / "file").write_text("new", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "file").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["folder"]


def test_what_a_living_process_is_writing_is_not_removed(tmp_path: Path) -> None:
    target = tmp_path / "fo*der"
    with atomic.new_folder(target, foreign=atomic.nothing) as slow:
        (slow / "file").write_text("slow", encoding="utf-8")
        with atomic.new_folder(target, foreign=atomic.nothing) as quick:
            (quick / "file").write_text("quick", encoding="utf-8")
        assert (slow / "file").exists()
    assert (target / "file").read_text(encoding="utf-8") == "slow"
    assert names(tmp_path) == ["fo*der"]


def test_neighbours_of_similar_names_are_left_alone(tmp_path: Path) -> None:
    digits = "0123abcd"
    others = [f".folder2.{digits}.new", ".folder.new", f"folder.{digits}.new", f".fxlder.{digits}.new"]
    for name in [*others, ".folder.draft.new", ".folder.draft.old", f".folder.{digits}.new"]:
        (tmp_path / name).mkdir()
    with atomic.new_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == sorted([*others, ".folder.draft.new", ".folder.draft.old", "folder"])


def test_without_an_exchange_two_renames_do_and_the_next_save_mends_a_kill_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    target = tmp_path / "folder"
    for text in ("one", "two"):
        with atomic.new_folder(target, foreign=atomic.nothing) as fresh:
            (fresh / "file").write_text(text, encoding="utf-8")
    assert (target / "file").read_text(encoding="utf-8") == "two"
    assert names(tmp_path) == ["folder"]
    target.rename(tmp_path / ".folder.0123abcd.old")  # killed between the two renames
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(target, foreign=atomic.nothing):
        raise KeyboardInterrupt
    assert (target / "file").read_text(encoding="utf-8") == "two"
    assert names(tmp_path) == ["folder"]


def test_a_failing_rename_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    target = tmp_path / "folder"
    with atomic.new_folder(target, foreign=atomic.nothing) as fresh:
        (fresh / "file").write_text("old", encoding="utf-8")
    real = Path.rename

    def rename(path: Path, place: Path) -> Path:
        if path.suffix == ".new":
            raise KeyboardInterrupt
        return real(path, place)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(target, foreign=atomic.nothing):
        pass
    assert (target / "file").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["folder"]


# What is somebody's


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    """A folder of somebody's."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("my own words", encoding="utf-8")
    return tmp_path / "thesis"


def test_somebodys_folder_is_refused_by_name_and_left_as_it_is(thesis: Path) -> None:
    with (
        pytest.raises(
            TicketError, match=r"thesis holds chapter-1\.tex, which would be lost; .* or --overwrite \(in Pyth"
        ),
        atomic.new_folder(thesis),
    ):
        pytest.fail("nothing is written before that is clear")
    assert names(thesis.parent) == ["thesis"]
    assert (thesis / "chapter-1.tex").read_text(encoding="utf-8") == "my own words"


def test_what_turns_up_while_the_new_folder_is_made_is_not_lost_either(tmp_path: Path) -> None:
    def slow() -> None:
        with atomic.new_folder(tmp_path / "late"):
            (tmp_path / "late").mkdir()
            (tmp_path / "late" / "notes").touch()

    with pytest.raises(TicketError, match="late holds notes, which would be lost"):
        slow()
    assert names(tmp_path) == ["late"]
    assert names(tmp_path / "late") == ["notes"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_empty_folder_is_nobodys(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "empty").mkdir()
    with atomic.new_folder(tmp_path / "empty", overwrite=overwrite) as fresh:
        (fresh / "file").touch()
    assert names(tmp_path) == ["empty"]
    assert names(tmp_path / "empty") == ["file"]


def test_what_is_overwritten_moves_to_a_neighbour_of_its_own_and_the_screen_says_which(
    thesis: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (thesis.parent / "thesis.old").mkdir()
    for version in ("one", "two"):
        with atomic.new_folder(thesis, overwrite=True) as fresh:
            (fresh / version).touch()
    assert names(thesis.parent) == ["thesis", "thesis.old", "thesis.old-2", "thesis.old-3"]
    assert names(thesis.parent / "thesis.old") == []
    assert (thesis.parent / "thesis.old-2" / "chapter-1.tex").read_text(encoding="utf-8") == "my own words"
    assert names(thesis.parent / "thesis.old-3") == ["one"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{thesis}: what was there is now {thesis}.old-{number}" for number in (2, 3)
    ]


def test_a_failing_rename_brings_somebodys_folder_back(thesis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def rename(path: Path, place: Path) -> Path:
        if path.suffix == ".new":
            raise KeyboardInterrupt
        return real(path, place)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(thesis, overwrite=True):
        pass
    assert names(thesis.parent) == ["thesis"]
    assert names(thesis) == ["chapter-1.tex"]


def test_somebodys_folder_survives_a_kill_at_any_step(memory: Path) -> None:
    kills = 0
    for step in range(1, 100):
        place = memory / str(step) / "thesis"
        place.mkdir(parents=True)
        (place / "chapter-1.tex").write_text("my own words", encoding="utf-8")

        def save(place: Path = place) -> None:
            with atomic.new_folder(place, overwrite=True) as fresh:
                (fresh / "file").touch()

        if not killed(save, lambda _: None, at_step=step):
            break
        kills += 1
        for _ in range(2):  # as the kill left it, and after the next save there
            found = [path.parent.name for path in place.parent.glob("thesis*/chapter-1.tex")]
            assert len(found) == 1, f"step {step}"
            save()
    assert kills > 5


def test_a_file_where_a_folder_goes_is_refused_and_nothing_hidden_is_left(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("my own words", encoding="utf-8")
    with pytest.raises(TicketError, match="thesis is a file, and a folder goes there"):
        atomic.check_place(tmp_path / "thesis")
    with pytest.raises(TicketError, match="thesis is a file"), atomic.new_folder(tmp_path / "thesis"):
        pass
    assert names(tmp_path) == ["thesis"]
    with atomic.new_folder(tmp_path / "thesis", overwrite=True):
        pass
    assert (tmp_path / "thesis.old").read_text(encoding="utf-8") == "my own words"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, target in (("link", "elsewhere/net"), ("again", "link")):
        (tmp_path / name).symlink_to(target)
        with atomic.new_folder(tmp_path / name, foreign=atomic.nothing) as fresh:
            (fresh / name).touch()
        assert (tmp_path / name).is_symlink()
        assert names(tmp_path / "elsewhere" / "net") == [name]
    with atomic.new_file(tmp_path / "link" / "file") as fresh:
        fresh.touch()
    (tmp_path / "pointer").symlink_to("elsewhere/file")
    with atomic.new_file(tmp_path / "pointer") as fresh:
        fresh.write_bytes(b"whole")
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"whole"
    assert names(tmp_path) == ["again", "elsewhere", "link", "pointer"]


def test_places_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    bad = [tmp_path / "file" / "below", tmp_path / "a\0b", tmp_path / ("x" * 300), tmp_path / "round" / "x"]
    for place in bad:
        with pytest.raises(TicketError, match=r"^cannot write [^\n]*$"):
            atomic.check_place(place)
        with pytest.raises(TicketError, match=r"^cannot write [^\n]*$"), atomic.new_file(place):
            pass
    assert names(tmp_path) == ["file", "round"]


# Single files


def test_a_file_that_is_there_stays_unless_it_is_moved_aside(tmp_path: Path) -> None:
    place = tmp_path / "net.onnx"
    place.write_bytes(b"mine")
    with pytest.raises(TicketError, match=r"net\.onnx is there already; .* or --overwrite"), atomic.new_file(place):
        pass
    assert place.read_bytes() == b"mine"
    with atomic.new_file(place, overwrite=True) as fresh:
        fresh.write_bytes(b"ours")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "net.onnx": b"ours",
        "net.onnx.old": b"mine",
    }


def test_what_a_kill_leaves_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".net.0123abcd.partial").touch()
    (tmp_path / ".net.partial").touch()  # of somebody else's
    with atomic.new_file(tmp_path / "net") as slow:
        slow.write_bytes(b"slow")
        with atomic.new_file(tmp_path / "net") as quick:
            quick.write_bytes(b"quick")
        (tmp_path / "net").unlink()
    assert (tmp_path / "net").read_bytes() == b"slow"
    assert names(tmp_path) == [".net.partial", "net"]


def test_a_link_where_a_killed_write_would_have_left_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / ".record.json.partial").symlink_to("thesis")
    atomic.write_text(tmp_path / "record.json", "new")
    assert (tmp_path / "thesis").read_text() == "mine"
    assert (tmp_path / "record.json").read_text() == "new"
    assert not (tmp_path / "record.json").is_symlink()
    assert names(tmp_path) == ["record.json", "thesis"]
