"""A disk that is full or read-only at every command that writes: one line, and with room the same command goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery_hub import cli
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import save_backbone, save_ladder
from tests.hub.server import Hub
from tests.hub.worker import Worker

SMALL = [
    *("data.image_size=16", "data.fraction=0.1"),
    *("transfer.standard.image_size=16", "transfer.standard.epochs=1"),
    *("transfer.adversarial.image_size=16", "transfer.adversarial.epochs=1", "transfer.adversarial.attack.steps=1"),
    *("transfer.adversarial.selection_attack=null", "transfer.test_attack.steps=1", "draw.rounds=1"),
]
FINETUNE = ["standard.image_size=16", "standard.epochs=1", "test_attack.steps=1"]
PRETRAIN = [*SMALL[:2], "recipe.image_size=16", "recipe.epochs=1", "test_attack.steps=1"]


def settings(assignments: list[str]) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


COMMANDS: dict[str, list[str]] = {
    "find": ["find", "--pretrain", "NET", "--method", "omp", "--dataset", "digits", *settings(SMALL)],
    "draw": ["draw", "--pretrain", "NET", "--method", "omp", "--rounds", "1"],
    "pretrain": ["pretrain", "--recipe", "std", "--dataset", "digits", *settings(PRETRAIN)],
    "finetune": [
        *("finetune", "LADDER", "--sparsity", "0.2", "--dataset", "digits", "--fraction", "0.1"),
        *settings(FINETUNE),
    ],
    "export timm": ["export", "LADDER", "--sparsity", "0.2", "--format", "timm"],
    "export safetensors-dense": ["export", "LADDER", "--sparsity", "0.2", "--format", "safetensors-dense"],
    "pull": ["pull", "LADDER", "--local-dir", "OUTPUT"],
}


@pytest.fixture(scope="module")
def sources(backbone: Backbone, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("sources")
    return {"NET": str(save_backbone(backbone, place / "net")), "LADDER": str(save_ladder(ladder, place / "ladder"))}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which `mounted` fills, closes and opens."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs takes rights that this process lacks")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def remounted(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_or_read_only_disk_is_one_line_and_with_room_the_same_command_goes_on(
    name: str,
    sources: dict[str, str],
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = disk / "out"
    words = [{**sources, "OUTPUT": str(output)}.get(word, word) for word in COMMANDS[name]]
    words += [] if name == "pull" else ["--output", str(output)]

    def call() -> int:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    said = []
    for option in ("ro", "rw,size=8k", "size=1m", "size=2200k", "size=4m", "size=100m"):
        remounted(disk, option)
        code = call()
        err = capsys.readouterr().err
        if code == 0:
            break
        errors = [line for line in err.splitlines() if not re.match(r"note: |\d{4}-\d\d-\d\d ", line)]
        assert len(errors) == 1, err
        assert errors[0].startswith("error: cannot w"), err
        assert str(disk) in errors[0]
        said.append(errors[0])
    assert code == 0
    assert "Read-only file system" in said[0]
    assert all("No space left on device" in line for line in said[1:])
    assert len(said) >= 2
    assert not list(disk.rglob("*.damaged*"))
    assert not list(disk.rglob(".*.partial"))


def test_a_cache_on_a_read_only_disk_serves_what_is_in_it_and_is_one_line_for_the_rest(
    disk: Path, tmp_path: Path
) -> None:
    remounted(disk, "size=8m")
    with Hub(tmp_path / "hub") as hub:
        hub.store.commit("models/org/net", {"weights": b"abc" * 999, "sub/notes.txt": b"notes"})
        with Worker(hub.environment(disk / "home")) as worker:
            everything = {"repo_type": "model", "revision": None, "patterns": ["*"]}
            first = worker("lottery_hub.fetching.downloads:fetch_snapshot", "org/net", **everything)
            shutil.rmtree(next((disk / "home").rglob("refs")))  # so that there is something to note
            remounted(disk, "ro")
            assert worker("lottery_hub.fetching.downloads:fetch_snapshot", "org/net", **everything) == first
            assert worker("lottery_hub.fetching.downloads:fetch_file", "org/net", "weights")[1] == first[1]
            hub.store.commit("models/org/net", {"new": b"new"})
            refused = worker("lottery_hub.fetching.downloads:fetch_file", "org/net", "new")
    assert refused["kind"] == "DownloadError"
    assert "check the connection and the disk ([Errno 30] Read-only file system" in refused["error"]
