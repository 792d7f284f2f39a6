"""Whose a folder is: ours, to the byte and in every part, or somebody's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lottery_hub.errors import TicketError
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import load_ticket, save_backbone, save_ladder, save_ticket
from lottery_hub.storage.ownership import carry_over, first_foreign
from lottery_hub.storage.signing import signed

NETWORK = "dense-standard-seed-0"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket folder with a card and a trained network."""
    home = tmp_path_factory.mktemp("saved")
    network = save_ticket(ladder.ticket(0), home / "network")
    return save_ticket(ladder.ticket(1), home / "ticket", signed("# card"), trained={NETWORK: network})


@pytest.fixture
def place(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "ticket"))


def test_what_we_have_written_is_ours(saved: Path, ladder: Ladder, tmp_path: Path) -> None:
    assert first_foreign(saved, [NETWORK]) is None
    assert first_foreign(save_ladder(ladder, tmp_path / "ladder")) is None
    assert first_foreign(save_backbone(ladder.backbone, tmp_path / "backbone")) is None
    (tmp_path / "empty").mkdir()
    assert first_foreign(tmp_path / "empty") is None


def add(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("mine")

    return change


def in_a_link(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).rename(place.parent / "elsewhere")
        (place / name).symlink_to(place.parent / "elsewhere")

    return change


SOMEBODYS: dict[str, tuple[Change, str]] = {
    "notes": (add("notes.txt"), "notes.txt"),
    "a hidden folder": (add(".git/HEAD"), ".git"),
    "an empty folder": (lambda place: (place / "pictures").mkdir(), "pictures"),
    "a picture": (add("figure.png"), "figure.png"),
    "an edited card": (add("README.md"), "README.md"),
    "a card that is no text": (lambda place: (place / "README.md").write_bytes(b"\xff"), "README.md"),
    "other records": (add("results.json"), "results.json"),
    "a damaged file of weights": (add("ticket.safetensors"), "ticket.safetensors"),
    "a pipe": (lambda place: os.mkfifo(place / "z"), "z"),
    "weights of another content": (add("ladder.safetensors"), "ladder.safetensors"),
    "a linked file": (in_a_link("ticket.safetensors"), "ticket.safetensors"),
    "linked networks": (in_a_link("trained"), "trained"),
    "a linked card": (in_a_link("README.md"), "README.md"),
    "notes beside networks": (add("trained/notes.txt"), "trained/notes.txt"),
    "notes in a network": (add(f"trained/{NETWORK}/notes.txt"), f"trained/{NETWORK}/notes.txt"),
    "another network": (add("trained/mine/config.json"), "trained/mine"),
    "a config of one's own": (add("config.json"), "config.json"),
    "no config": (lambda place: (place / "config.json").unlink(), "README.md"),
    "a linked config": (in_a_link("config.json"), "config.json"),
}


@pytest.mark.parametrize("name", SOMEBODYS)
def test_what_is_somebodys_is_named_and_kept_by_a_save(ladder: Ladder, place: Path, name: str) -> None:
    change, foreign = SOMEBODYS[name]
    change(place)
    before = sorted(str(path) for path in place.parent.rglob("*"))
    assert first_foreign(place, [NETWORK]) == foreign
    network = place.parent / "network"
    with pytest.raises(TicketError) as refused:
        save_ticket(ladder.ticket(3), place, trained={NETWORK: network})
    assert f"ticket holds {foreign}, which would be lost; give another name, or --overwrite" in str(refused.value)
    assert sorted(str(path) for path in place.parent.rglob("*")) == before


def test_trained_networks_are_not_lost_to_a_save_without_them(ladder: Ladder, place: Path) -> None:
    for save in (lambda: save_ticket(ladder.ticket(3), place), lambda: save_ladder(ladder, place)):
        with pytest.raises(TicketError, match=f"ticket holds trained/{NETWORK}, which would be lost"):
            save()
    assert load_ticket(place).level == 1


def test_a_save_over_ours_says_so_and_one_in_a_new_place_says_nothing(
    ladder: Ladder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket")
    assert caplog.text == ""
    save_ladder(ladder, place)
    assert [record.getMessage() for record in caplog.records] == [
        f"{place}: replaced what lottery-hub had written there before"
    ]


def test_a_save_that_is_meant_moves_somebodys_folder_aside(ladder: Ladder, place: Path) -> None:
    (place / "notes.txt").write_text("mine")
    save_ticket(ladder.ticket(3), place, overwrite=True)
    assert load_ticket(place).level == 3
    assert load_ticket(place.with_name("ticket.old")).level == 1
    assert (place.with_name("ticket.old") / "notes.txt").read_text() == "mine"
    assert (place.with_name("ticket.old") / "trained" / NETWORK).is_dir()
    save_backbone(ladder.backbone, place, overwrite=True)  # which is ours, and simply replaced
    assert sorted(path.name for path in place.parent.iterdir()) == ["ticket", "ticket.old"]


def test_a_folder_is_carried_over_whole_except_for_what_is_new(tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    for path, text in {"a": "old", "b": "kept", "sub/a": "old", "sub/b": "kept", "only/deep/c": "kept"}.items():
        (older / path).parent.mkdir(parents=True, exist_ok=True)
        (older / path).write_text(text)
    (older / "link").symlink_to("b")
    os.mkfifo(older / "pipe")
    (older / "only").chmod(0o750)
    (newer / "sub").mkdir(parents=True)
    for path in ("a", "sub/a"):
        (newer / path).write_text("new")
    carry_over(older, newer)
    files = {str(path.relative_to(newer)): path.read_text() for path in newer.rglob("*") if path.is_file()}
    kept = {"b": "kept", "sub/b": "kept", "only/deep/c": "kept", "link": "kept"}
    assert files == {"a": "new", "sub/a": "new"} | kept
    assert (newer / "link").readlink() == Path("b")
    assert (newer / "pipe").is_fifo()
    assert (newer / "only").stat().st_mode & 0o777 == 0o750


def test_where_there_are_no_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "older").mkdir()
    (tmp_path / "newer").mkdir()
    (tmp_path / "older" / "notes").write_text("mine")
    (tmp_path / "older" / "link").symlink_to("nowhere")
    carry_over(tmp_path / "older", tmp_path / "newer")
    assert (tmp_path / "newer" / "notes").read_text() == "mine"
    assert (tmp_path / "newer" / "link").readlink() == Path("nowhere")


def test_a_save_can_keep_what_is_there_besides(ladder: Ladder, place: Path) -> None:
    (place / "notes.txt").write_text("mine")
    ticket = replace(load_ticket(place), records={"SA": 0.5})
    save_ticket(ticket, place, carry=True)
    assert load_ticket(place).records == {"SA": 0.5}
    assert (place / "notes.txt").read_text() == "mine"
    assert load_ticket(place / "trained" / NETWORK).level == 0
    assert (place / "README.md").read_text() == signed("# card")
