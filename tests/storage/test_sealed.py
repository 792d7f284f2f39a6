"""Seals: whatever is under one reads as it was written, or is refused by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lottery_hub.errors import TicketError
from lottery_hub.storage import sealed
from lottery_hub.storage.sealed import SEAL, Sealed

RECORD = {"SA": 0.1 + 0.2, "history": [{"loss": 1.5}], "words": "größer"}
GIVEN = {"settings": "sha256:x", "seed": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder of three files, two of them in a folder inside."""
    place = tmp_path / "unit"
    (place / "trained").mkdir(parents=True)
    (place / "weights").write_bytes(bytes(range(40)))
    (place / "trained" / "a").write_bytes(b"first")
    (place / "trained" / "b").write_bytes(b"second")
    sealed.seal(place, RECORD, GIVEN)
    return place


def test_what_was_sealed_is_read(folder: Path) -> None:
    found = sealed.read(folder)
    assert (found.record, found.given) == (RECORD, GIVEN)
    assert sorted(found.files) == ["trained/a", "trained/b", "weights"]
    # sha256 of b"first", computed by sha256sum
    assert found.files["trained/a"] == "sha256:a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"


@pytest.mark.parametrize("name", [SEAL, "weights", "trained/a", "trained/b"])
def test_a_flipped_bit_is_noticed_wherever_it_is(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 5 if name == SEAL else 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place // 5 % 8 if name == SEAL else place % 8)
        path.write_bytes(flipped)
        with pytest.raises(TicketError, match=path.name) as caught:
            sealed.read(folder)
        assert str(caught.value).isprintable()
    path.write_bytes(whole)
    assert sealed.read(folder).record == RECORD


@pytest.mark.parametrize("name", [SEAL, "weights", "trained/a"])
@pytest.mark.parametrize(
    "damage", ["empty", "truncated", "missing", "zeroed", "longer", "a folder", "a link", "a pipe"]
)
def test_whatever_happened_to_a_file_is_noticed(folder: Path, name: str, damage: str, tmp_path: Path) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a link":
        (tmp_path / "same").write_bytes(whole)
        path.symlink_to(tmp_path / "same")
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage != "missing":
        path.write_bytes(
            {"empty": b"", "truncated": whole[:-1], "zeroed": bytes(len(whole)), "longer": whole + b" "}[damage]
        )
    with pytest.raises(TicketError, match=path.name):
        sealed.read(folder)


def test_a_folder_inside_that_is_gone_is_missed(folder: Path) -> None:
    shutil.rmtree(folder / "trained")
    with pytest.raises(TicketError, match=r"trained/a is missing"):
        sealed.read(folder)


@pytest.mark.parametrize("name", ["extra", ".hidden", "trained/.hidden"])
@pytest.mark.parametrize("kind", ["a file", "a folder"])
def test_a_link_in_it_is_refused_whatever_it_leads_to(folder: Path, name: str, kind: str, tmp_path: Path) -> None:
    (folder / name).symlink_to(tmp_path if kind == "a folder" else folder / "weights")
    with pytest.raises(TicketError, match=f"{name} is a link"):
        sealed.read(folder)


@pytest.mark.parametrize("said", [{}, {"record": {}}, {"given": [], "record": {}, "files": {}}])
def test_what_is_no_seal_is_refused_even_with_a_hash(tmp_path: Path, said: dict[str, object]) -> None:
    said = said | {"sha256": sealed.digest(said)}
    (tmp_path / SEAL).write_text(sealed.atomic.json_text(said), encoding="utf-8")
    with pytest.raises(TicketError, match="damaged, or of another version"):
        sealed.parse(tmp_path / SEAL)


def test_a_seal_stands_by_itself_too(tmp_path: Path) -> None:
    sealed.write(tmp_path / "run.json", Sealed({}, RECORD, {}))
    assert sealed.parse(tmp_path / "run.json").record == RECORD
