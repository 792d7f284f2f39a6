"""Locks: one worker a unit on one machine and over a network, and what a dead one held is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lottery_hub.errors import BusyError
from lottery_hub.running import locks
from lottery_hub.running.locks import here, locked


def owned(path: Path, host: str, silent: float = 0.0) -> None:
    """Leave what an owner on another host, or one that is dead, leaves."""
    owner = path.with_name(f"{path.name}.owner")
    owner.write_text(json.dumps({"host": host, "process": 17}), encoding="utf-8")
    os.utime(owner, (time.time() - silent,) * 2)


def test_a_lock_is_held_by_one_at_a_time_and_its_holder_is_named(tmp_path: Path) -> None:
    with locked(tmp_path / "unit"):
        with (
            pytest.raises(BusyError, match=rf"process {os.getpid()} on {here().split(' ')[0]} is at it"),
            locked(tmp_path / "unit"),
        ):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "unit"):
        pass


def test_a_finished_units_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with locked(tmp_path / "unit") as held:
        held.finished = True
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_lets_it_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "unit"):
        raise ZeroDivisionError
    with locked(tmp_path / "unit"):
        pass


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    ready, alive = os.pipe()
    child = os.fork()
    if not child:
        with locked(tmp_path / "unit"):
            os.write(alive, b".")
            time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    with pytest.raises(BusyError, match=f"process {child} "), locked(tmp_path / "unit"):
        pass
    os.kill(child, 9)
    os.waitpid(child, 0)
    with locked(tmp_path / "unit"):
        pass


def test_one_who_comes_while_its_holder_finishes_is_told_so_and_does_not_hold_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fcntl.flock

    def late(handle: int, how: int) -> None:
        (tmp_path / "unit.lock").unlink()  # between opening and locking, the holder finishes
        original(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BusyError), locked(tmp_path / "unit"):
        pass


# Over a network


def test_an_owner_on_another_host_is_alive_while_it_gives_signs_and_dead_after(tmp_path: Path) -> None:
    owned(tmp_path / "unit", "elsewhere 1234", silent=locks.DEAD / 2)
    with pytest.raises(BusyError, match="process 17 on elsewhere is at it"), locked(tmp_path / "unit"):
        pass
    owned(tmp_path / "unit", "elsewhere 1234", silent=2 * locks.DEAD)
    with locked(tmp_path / "unit"):
        assert json.loads((tmp_path / "unit.owner").read_text())["process"] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == ["unit.lock"]


def test_a_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with locked(tmp_path / "unit"):
        os.utime(tmp_path / "unit.owner", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "unit.owner").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not any(thread.name.endswith("(_beat)") for thread in threading.enumerate())


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_the_file_system_has_no_locks_the_owners_file_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "unit"), pytest.raises(BusyError, match="is at it"), locked(tmp_path / "unit"):
        pass
    owned(tmp_path / "unit", here(), silent=2 * locks.DEAD)
    with locked(tmp_path / "unit"):
        pass


@pytest.mark.parametrize("said", ["", "[]", "{", "\x1b[31m", '{"host": 3}'])
def test_whatever_stands_in_an_owners_file_it_is_told_in_one_line(tmp_path: Path, said: str) -> None:
    (tmp_path / "unit.owner").write_text(said, encoding="utf-8")
    with pytest.raises(BusyError) as caught, locked(tmp_path / "unit"):
        pass
    assert str(caught.value).isprintable()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "unit.lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(Exception, match=r"cannot write .*unit\.lock"), locked(tmp_path / "unit"):
        pass
    (tmp_path / "unit.lock").unlink()
    (tmp_path / "unit.owner").symlink_to(tmp_path / "thesis")
    os.utime(tmp_path / "thesis", (0, 0))
    with locked(tmp_path / "unit"):
        pass
    assert (tmp_path / "thesis").read_text() == "mine"
