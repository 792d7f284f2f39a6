"""Run directories: what is finished is kept, what was killed goes on, and nothing is mixed."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lottery_hub.errors import DamageWarning, LotteryHubError, RunError
from lottery_hub.running.runs import CHECKPOINT, differences, open_run
from lottery_hub.storage import sealed

SETTINGS: dict[str, Any] = {"task": "find", "plan": {"lr": 0.1, "milestones": [50, 75], "attack": None}}


class Unit:
    """Work that counts how often it is done, and notes what it found in its folder."""

    def __init__(self, result: dict[str, Any] | None = None) -> None:
        self.result = result or {"SA": 0.1 + 0.2}
        self.found: list[list[str]] = []

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.found.append(sorted(path.name for path in folder.iterdir()))
        (folder / CHECKPOINT).write_text("half way", encoding="utf-8")
        (folder / "weights").write_text("trained", encoding="utf-8")
        return self.result


# Units


def test_a_unit_is_done_once(tmp_path: Path) -> None:
    work = Unit()
    with open_run(tmp_path / "run", SETTINGS) as run:
        assert run.finished("a") is None
        assert run.once("a", work) == {"SA": 0.1 + 0.2}
        assert run.finished("a") == {"SA": 0.1 + 0.2}
        assert run.once("a", work) == {"SA": 0.1 + 0.2}
    with open_run(tmp_path / "run", SETTINGS) as run:
        assert run.once("a", work) == {"SA": 0.1 + 0.2}
    assert work.found == [[]]


def test_a_finished_unit_keeps_its_files_but_not_its_checkpoint(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit())
        assert sorted(path.name for path in run.folder("a").iterdir()) == ["result.json", "weights"]
        assert run.folder("a") == tmp_path / "units" / "a"
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["a"]


def test_units_do_not_share_a_folder(tmp_path: Path) -> None:
    one, two = Unit({"n": 1}), Unit({"n": 2})
    with open_run(tmp_path, SETTINGS) as run:
        assert (run.once("a", one)["n"], run.once("b", two)["n"]) == (1, 2)
    assert two.found == [[]]


def test_killed_work_finds_what_it_left(tmp_path: Path) -> None:
    def killed(folder: Path) -> dict[str, Any]:
        (folder / CHECKPOINT).write_text("half way", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, SETTINGS) as run:
        run.once("a", killed)
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["a.partial"]
    work = Unit()
    with open_run(tmp_path, SETTINGS) as run:
        assert run.finished("a") is None
        run.once("a", work)
    assert work.found == [[CHECKPOINT]]
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("left", "done_again"),
    [
        ([], True),  # killed before the first epoch
        ([CHECKPOINT], True),  # in the middle of training
        ([CHECKPOINT, "checkpoint.partial"], True),  # while saving a checkpoint
        ([CHECKPOINT, ".result.json.partial"], True),  # while writing the result
        ([CHECKPOINT, "result.json"], False),  # before the checkpoint was deleted
        (["result.json"], False),  # before the folder was renamed
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_a_kill_between_any_two_steps_is_made_good(tmp_path: Path, left: list[str], done_again: bool) -> None:
    with open_run(tmp_path, SETTINGS):
        pass
    partial = tmp_path / "units" / "a.partial"
    partial.mkdir(parents=True)
    for name in left:
        (partial / name).write_text("half way", encoding="utf-8")
    if "result.json" in left:
        (partial / "result.json").unlink()
        given = {"settings": sealed.digest(SETTINGS)}
        sealed.seal(partial, {"SA": "from the killed run"}, given, without=CHECKPOINT)
    work = Unit({"SA": "new"})
    with open_run(tmp_path, SETTINGS) as run:
        result = run.once("a", work)
        assert run.once("a", work) == result
    assert result == {"SA": "new" if done_again else "from the killed run"}
    assert work.found == ([sorted(left)] if done_again else [])
    assert not (tmp_path / "units" / "a" / CHECKPOINT).exists()
    assert not partial.exists()


# Damage


def damages(whole: bytes) -> list[bytes]:
    middle = len(whole) // 2
    return [b"", whole[:-1], bytes(len(whole)), whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]]


@pytest.mark.parametrize("name", ["result.json", "weights"])
def test_a_damaged_unit_is_set_aside_and_done_anew_and_the_others_are_kept(tmp_path: Path, name: str) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit({"n": 1}))
        run.once("b", Unit({"n": 2}))
    path = tmp_path / "units" / "a" / name
    whole = path.read_bytes()
    for count, damage in enumerate(damages(whole), 1):
        path.write_bytes(damage)
        work = Unit({"n": 1})
        with open_run(tmp_path, SETTINGS) as run:
            with pytest.warns(
                DamageWarning, match=rf"units/a/{name} is damaged|units/a/{name}: |{name} .* set aside as"
            ):
                assert run.once("a", work) == {"n": 1}
            assert run.once("b", work) == {"n": 2}
        assert work.found == [[]]
        assert path.read_bytes() == whole
        assert len(list((tmp_path / "units").glob("a.damaged*"))) == count


def test_a_unit_whose_file_is_gone_is_done_anew(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit())
        (run.folder("a") / "weights").unlink()
        with pytest.warns(DamageWarning, match="units/a/weights is missing"):
            assert run.finished("a") is None
        assert run.once("a", Unit()) == {"SA": 0.1 + 0.2}


def test_a_unit_made_of_something_else_is_not_taken(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit({"n": 1}), {"start": "sha256:one"})
        assert run.once("a", Unit({"n": 2}), {"start": "sha256:one"}) == {"n": 1}
        with pytest.warns(DamageWarning, match="units/a was made of something else"):
            assert run.once("a", Unit({"n": 2}), {"start": "sha256:two"}) == {"n": 2}


def test_a_damaged_result_of_a_killed_unit_is_set_aside_and_the_checkpoint_goes_on(tmp_path: Path) -> None:
    partial = tmp_path / "units" / "a.partial"
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit())
        run.folder("a").rename(partial)  # killed before the folder was renamed
        (partial / CHECKPOINT).write_text("half way", encoding="utf-8")
        result = (partial / "result.json").read_text(encoding="utf-8")
        (partial / "result.json").write_text(result.replace("0.3", "0.9", 1), encoding="utf-8")
        work = Unit()
        with pytest.warns(DamageWarning, match=r"result\.json is damaged"):
            assert run.once("a", work) == {"SA": 0.1 + 0.2}
    assert work.found == [[CHECKPOINT, "result.json.damaged", "weights"]]


def test_damaged_settings_are_written_anew_and_what_was_made_under_them_is_kept(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit())
    whole = (tmp_path / "run.json").read_bytes()
    for damage in damages(whole):
        (tmp_path / "run.json").write_bytes(damage)
        with pytest.warns(DamageWarning, match=r"run\.json.* set aside"), open_run(tmp_path, SETTINGS) as run:
            assert run.finished("a") == {"SA": 0.1 + 0.2}
        assert (tmp_path / "run.json").read_bytes() == whole
    # Where the settings are others, the units say so themselves.
    (tmp_path / "run.json").write_bytes(b"")
    with pytest.warns(DamageWarning) as told, open_run(tmp_path, {"task": "other"}) as run:
        assert run.finished("a") is None
    assert "units/a was made of something else" in str(told[-1].message)


def test_a_run_killed_after_its_damaged_settings_were_set_aside_is_still_one(tmp_path: Path) -> None:
    with open_run(tmp_path, SETTINGS) as run:
        run.once("a", Unit())
    (tmp_path / "run.json").rename(tmp_path / "run.json.damaged")
    with open_run(tmp_path, SETTINGS) as run:
        assert run.finished("a") == {"SA": 0.1 + 0.2}


# The disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_nothing_is_one_line_and_with_room_the_same_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Every step that asks the disk for something fails once, the first, then the second, and so on."""
    reason = os.strerror(number)
    calls, failing = 0, 0
    told: list[str] = []

    def watched(real: Any) -> Any:
        def step(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(number, reason, str(given[0]))
            return real(*given, **named)

        return step

    for step in ("fsync", "mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, step, watched(getattr(os, step)))
    while calls >= failing:
        calls, failing = 0, failing + 1
        place = tmp_path / f"{failing}" / "run"

        def go(place: Path = place) -> None:
            with open_run(place, SETTINGS) as run:
                assert run.once("a", Unit()) == {"SA": 0.1 + 0.2}

        try:
            go()
        except LotteryHubError as problem:
            told.append(str(problem))
        go()
        assert [path.name for path in (place / "units").iterdir()] == ["a"]
    assert len(told) > 8
    for line in told:
        assert line.startswith(("cannot write ", "cannot work in "))
        assert reason in line
        assert line.isprintable()


# Settings


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", SETTINGS):
        pass
    other = {"task": "find", "plan": {"lr": 0.2, "milestones": [50], "attack": {"eps": 0.1}}, "seed": 3}
    with pytest.raises(RunError) as caught, open_run(tmp_path / "run", other):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'run'} belongs to a run with other settings (plan.lr: 0.1 → 0.2; "
        "plan.milestones: [50, 75] → [50]; plan.attack: None → {'eps': 0.1}; seed: absent → 3); "
        "use those, or another --output"
    )
    with open_run(tmp_path / "run", SETTINGS):
        pass  # and the refusal changed nothing


def test_differences_go_both_ways_and_into_depth() -> None:
    assert differences({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}) == ["a.b.c: 1 → 2"]
    assert differences({"gone": 1, "kept": 2}, {"kept": 2, "new": 3}) == ["gone: 1 → absent", "new: absent → 3"]
    assert differences({"a": [1, 2]}, {"a": [1, 2]}) == []
    assert differences({"a": 1}, {"a": {"b": 1}}) == ["a: 1 → {'b': 1}"]


def test_escape_codes_in_old_settings_are_not_printed_raw() -> None:
    assert all(line.isprintable() for line in differences({"\x1b[31m": "\x1b[2J"}, {"\x1b[31m": "b"}))


# The directory


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunError, match="is not empty and not a run directory; choose another --output"):
        open_run(tmp_path, SETTINGS).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"file is a file; give a new or existing run directory"):
        open_run(tmp_path / "file", SETTINGS).__enter__()
    with pytest.raises(RunError, match=r"cannot work in .*inside"):
        open_run(tmp_path / "file" / "inside", SETTINGS).__enter__()


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".run.json.partial"]], ids=len)
def test_a_run_killed_as_it_began_can_begin_again(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text("", encoding="utf-8")
    with open_run(tmp_path, SETTINGS) as run:
        assert run.once("a", Unit()) == {"SA": 0.1 + 0.2}
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["record"] == SETTINGS


HOLD = """
import sys
from pathlib import Path
from lottery_hub.running.runs import open_run
with open_run(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=r"another process is working in .*; wait for it to end"):
            open_run(tmp_path, {}).__enter__()
        other.kill()  # a killed process holds nothing: the lock dies with it
    with open_run(tmp_path, {}):
        pass


def test_an_error_inside_lets_the_run_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path, SETTINGS):
        raise ZeroDivisionError
    with open_run(tmp_path, SETTINGS):
        pass


@pytest.mark.parametrize("name", [".lock", "ladder", "ticket", "units", "units/one.partial", "units/one/trained"])
def test_a_run_whose_parts_are_links_is_refused_and_what_they_lead_to_stays(tmp_path: Path, name: str) -> None:
    with open_run(tmp_path / "run", SETTINGS) as run:
        run.once("one", Unit())
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("mine")
    place = tmp_path / "run" / name
    if place.is_dir():
        place.rename(tmp_path / "aside")
    place.unlink(missing_ok=True)
    place.symlink_to(mine / "thesis" if name == ".lock" else mine)
    with pytest.raises(RunError, match=re.escape(f"{name} is a link")), open_run(tmp_path / "run", SETTINGS):
        pass
    assert (mine / "thesis").read_text() == "mine"
    assert [path.name for path in mine.iterdir()] == ["thesis"]


def test_a_settings_file_half_written_into_a_link_is_not_written_through_it(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.partial").symlink_to(thesis)
    with open_run(tmp_path / "run", SETTINGS):
        pass
    assert thesis.read_text() == "mine"
    assert not (tmp_path / "run" / "run.json").is_symlink()
