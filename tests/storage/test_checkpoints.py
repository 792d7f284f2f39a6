"""Checkpoints: read as they were written or refused in a line, and never more than they hold."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.errors import TicketError, WriteError
from lottery_hub.storage import atomic, checkpoints

LIMIT = 2**20
STATE: dict[str, Any] = {"epoch": 3, "model": {"w": torch.arange(600.0)}, "history": [{"loss": 0.5}], "best": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoints.save(tmp_path / "checkpoint.pt", STATE)
    return tmp_path / "checkpoint.pt"


def test_a_checkpoint_is_read_as_it_was_written(path: Path) -> None:
    state = checkpoints.load(path, LIMIT)
    assert torch.equal(state.pop("model")["w"], STATE["model"]["w"])
    assert state == {"epoch": 3, "history": [{"loss": 0.5}], "best": None}
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def damaged(whole: bytes) -> dict[str, bytes]:
    middle = whole.index(torch.arange(600.0).numpy().tobytes()) + 1000
    flipped = bytearray(whole)
    flipped[middle] ^= 4
    return {
        "empty": b"",
        "truncated": whole[:-1],
        "cut in half": whole[: len(whole) // 2],
        "zeroed": bytes(len(whole)),
        "one bit of a weight": bytes(flipped),
        "64 zeroed bytes": whole[:middle] + bytes(64) + whole[middle + 64 :],
        "its hash alone": whole[:72],
        "without its hash": whole[72:],
        "text": b"half way",
    }


@pytest.mark.parametrize("name", list(damaged(b"x" * 72 + torch.arange(600.0).numpy().tobytes())))
def test_a_damaged_checkpoint_is_refused_in_one_line(path: Path, name: str) -> None:
    path.write_bytes(damaged(path.read_bytes())[name])
    with pytest.raises(TicketError, match=r"checkpoint\.pt is damaged \(sha256 differs\)"):
        checkpoints.load(path, LIMIT)


def test_a_checkpoint_beyond_the_limit_is_not_read(path: Path) -> None:
    with path.open("r+b") as handle:
        handle.truncate(2**40)
    with pytest.raises(TicketError, match=r"larger than 1048576 bytes"):
        checkpoints.load(path, LIMIT)


def sealed_by_hand(path: Path, payload: bytes) -> Path:
    path.write_bytes(f"{checkpoints.files.sha256_of(payload)}\n".encode() + payload)
    return path


def test_code_in_a_checkpoint_with_a_true_hash_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.mkdir, (tmp_path / "was run",)

    buffer = io.BytesIO()
    torch.save({"model": Trap()}, buffer)
    with pytest.raises(TicketError, match="needs code to be run"):
        checkpoints.load(sealed_by_hand(tmp_path / "a.pt", buffer.getvalue()), LIMIT)
    assert not (tmp_path / "was run").exists()


def test_compressed_entries_are_refused_before_they_unfold(tmp_path: Path) -> None:
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(2**20)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert len(packed.getvalue()) < 20_000
    with pytest.raises(TicketError, match="compressed entries, which torch does not write"):
        checkpoints.load(sealed_by_hand(tmp_path / "a.pt", packed.getvalue()), LIMIT)


@pytest.mark.parametrize(
    "payload", [pickle.dumps([1]), b"", b"PK\x03\x04" + bytes(50)], ids=["a list", "none", "a zip's head"]
)
def test_other_contents_with_a_true_hash_are_one_line(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises(TicketError) as caught:
        checkpoints.load(sealed_by_hand(tmp_path / "a.pt", payload), LIMIT)
    assert str(caught.value).isprintable()


def test_a_full_disk_leaves_the_older_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    whole = path.read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(atomic.os, "fsync", full)
        with pytest.raises(WriteError, match=r"cannot write .*checkpoint\.pt: No space left on device"):
            checkpoints.save(path, STATE | {"epoch": 4})
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]
    checkpoints.save(path, STATE | {"epoch": 4})
    assert checkpoints.load(path, LIMIT)["epoch"] == 4
