"""Folders: written as one, read with every count and hash checked, and refused in one printable line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from lottery_hub.backbones import Backbone, fingerprint
from lottery_hub.errors import TicketError
from lottery_hub.storage import files
from lottery_hub.storage.folder import (
    find_folder,
    load_backbone_folder,
    load_ladder,
    load_ticket,
    packaged_folder,
    packaged_names,
    read_about,
    save_backbone,
    save_ladder,
    save_ticket,
)
from lottery_hub.tickets import Ladder, Ticket

RECORDS = {"double_win": True, "sparsity": 0.5904, "note": "zwölf × θ", "levels": [{"level": 4}]}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def ticket(ladder: Ladder) -> Ticket:
    return ladder.ticket(4, RECORDS)


@pytest.fixture(scope="module")
def saved(ticket: Ticket, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each content; tests that change one copy it first."""
    root = tmp_path_factory.mktemp("saved")
    return {
        "ticket": save_ticket(ticket, root / "a" / "ticket", "# card\n"),
        "ladder": save_ladder(ladder, root / "ladder"),
        "backbone": save_backbone(replace(ladder.backbone, records={"epoch": 3}), root / "backbone"),
    }


def changed(saved: Path, place: Path, change: Change) -> Path:
    """Copy a folder and change its config.json."""
    shutil.copytree(saved, place)
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    change(config)
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return place


def setting(key: str, value: object) -> Change:
    return lambda config: config["lottery_hub"].update({key: value})


# Round trips


def test_a_ticket_comes_back_as_it_was(saved: dict[str, Path], ticket: Ticket) -> None:
    loaded = load_ticket(saved["ticket"])
    assert loaded.fingerprint() == ticket.fingerprint()
    assert list(loaded.weights) == list(ticket.weights)
    assert loaded.records == RECORDS
    for name in ("arch", "kind", "level", "method", "mean", "std", "provenance", "sparsity", "double_win"):
        assert getattr(loaded, name) == getattr(ticket, name), name


def test_a_ladder_comes_back_as_it_was(saved: dict[str, Path], ladder: Ladder) -> None:
    loaded = load_ladder(saved["ladder"])
    assert loaded.backbone.fingerprint() == ladder.backbone.fingerprint()
    assert (loaded.levels, loaded.method, loaded.sparsities) == (6, "omp", ladder.sparsities)
    assert fingerprint(loaded.survived) == fingerprint(ladder.survived)
    assert loaded.drawing == ladder.drawing


def test_a_backbone_comes_back_as_it_was(saved: dict[str, Path], backbone: Backbone) -> None:
    loaded = load_backbone_folder(saved["backbone"])
    assert loaded.fingerprint() == backbone.fingerprint()
    assert (loaded.arch, loaded.kind, loaded.records) == ("resnet18-slim", "adv", {"epoch": 3})
    assert load_backbone_folder(saved["ladder"]).fingerprint() == backbone.fingerprint()


def test_provenance_and_normalisation_come_back(backbone: Backbone, tmp_path: Path) -> None:
    source = replace(backbone, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 1.0), provenance={"source": "here", "SA": 0.5})
    loaded = load_backbone_folder(save_backbone(source, tmp_path / "net"))
    assert (loaded.mean, loaded.std) == (source.mean, source.std)
    assert loaded.provenance == source.provenance


def test_a_folder_holds_these_files_and_no_others(saved: dict[str, Path], ticket: Ticket, tmp_path: Path) -> None:
    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    assert names(saved["ticket"]) == ["README.md", "config.json", "results.json", "ticket.safetensors"]
    assert names(saved["ladder"]) == ["config.json", "ladder.safetensors", "results.json"]
    assert names(saved["backbone"]) == ["backbone.safetensors", "config.json", "results.json"]
    assert names(save_ticket(ticket, tmp_path / "bare")) == ["config.json", "results.json", "ticket.safetensors"]
    assert (saved["ticket"] / "README.md").read_text(encoding="utf-8") == "# card\n"
    # Nothing is left beside the folder.
    assert names(saved["ticket"].parent) == ["ticket"]


def test_timm_builds_the_network_that_config_json_names(saved: dict[str, Path], ticket: Ticket) -> None:
    config = json.loads((saved["ticket"] / "config.json").read_text(encoding="utf-8"))
    network = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    network.load_state_dict(load_ticket(saved["ticket"]).weights, strict=True)
    assert (config["lottery_hub"]["kept"], config["lottery_hub"]["total"]) == ticket.kept_and_total


def test_the_same_ticket_gives_the_same_bytes(saved: dict[str, Path], ticket: Ticket, tmp_path: Path) -> None:
    again = save_ticket(ticket, tmp_path / "again", "# card\n")
    for path in saved["ticket"].iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


# Finding and choosing


@pytest.mark.parametrize("inside", ["ticket", "ladder", "backbone"])
def test_a_run_directory_stands_for_the_folder_inside(saved: dict[str, Path], tmp_path: Path, inside: str) -> None:
    shutil.copytree(saved[inside], tmp_path / "run" / inside)
    assert find_folder(tmp_path / "run") == tmp_path / "run" / inside


@pytest.mark.parametrize("ref", ["nowhere", "", "x" * 5000, "a\0b", "\x1b[31mred"])
def test_a_reference_to_nothing_is_one_line(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for load in (load_ticket, load_ladder, find_folder):
        with pytest.raises(TicketError, match=r"give a folder with a config\.json, or a packaged name") as caught:
            load(ref)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(("sparsity", "level"), [(0.0, 0), (0.2, 1), (0.59, 4), (0.737, 6), (0.74, 6)])
def test_a_ladder_gives_the_level_nearest_to_a_sparsity(
    saved: dict[str, Path], ladder: Ladder, sparsity: float, level: int
) -> None:
    ticket = load_ticket(saved["ladder"], sparsity)
    assert ticket.level == level
    assert fingerprint(ticket.mask) == fingerprint(ladder.mask(level))
    assert fingerprint(ticket.weights) == fingerprint(ladder.ticket(level).weights)


def test_a_ladder_needs_a_sparsity_within_its_levels(saved: dict[str, Path]) -> None:
    with pytest.raises(TicketError, match=r"holds a ladder; say which sparsity you want, e\.g\. 0\.9"):
        load_ticket(saved["ladder"])
    with pytest.raises(TicketError, match=r"the sparsest level of this ladder is 0\.7379, below 0\.9"):
        load_ticket(saved["ladder"], 0.9)


def test_a_ticket_has_just_one_sparsity(saved: dict[str, Path], ticket: Ticket) -> None:
    assert load_ticket(saved["ticket"], 0.59).fingerprint() == ticket.fingerprint()
    with pytest.raises(TicketError, match=r"holds one ticket, of sparsity 0\.5904, not 0\.7"):
        load_ticket(saved["ticket"], 0.7)


def test_a_ticket_is_no_ladder_and_no_backbone(saved: dict[str, Path]) -> None:
    with pytest.raises(TicketError, match="holds a ticket, not a ladder"):
        load_ladder(saved["ticket"])
    with pytest.raises(TicketError, match="whose pruned weights are gone"):
        load_backbone_folder(saved["ticket"])
    with pytest.raises(TicketError, match="holds a backbone, not a ladder"):
        load_ladder(saved["backbone"])


def test_every_packaged_folder_can_be_read() -> None:
    if not packaged_names():
        pytest.skip("nothing is packaged yet")
    for name in packaged_names():
        folder = packaged_folder(name)
        assert folder is not None
        assert read_about(folder)["content"] in ("ladder", "backbone")
        assert f"{load_backbone_folder(folder).arch}-{load_backbone_folder(folder).kind}" == name
    assert packaged_folder("../storage") is None


# What is refused


@pytest.mark.parametrize("name", ["ticket.safetensors", "results.json"])
def test_one_changed_bit_is_noticed(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(TicketError, match=rf"{name} is not the file that config\.json describes \(sha256 differs\)"):
        load_ticket(folder)


@pytest.mark.parametrize("name", ["ticket.safetensors", "results.json", "config.json"])
def test_a_missing_file_is_named(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(TicketError, match="no ticket at" if name == "config.json" else f"{name} is missing"):
        load_ticket(folder)


REFUSED: dict[str, tuple[Change, str]] = {
    "kept": (setting("kept", 5), "disagree about how many weights are kept"),
    "total": (setting("total", 5), "disagree about how many weights are kept"),
    "no count": (lambda config: config["lottery_hub"].pop("kept"), "disagree about how many weights are kept"),
    "other arch": (setting("arch", "resnet18"), "does not belong here"),
    "unknown arch": (setting("arch", "hf-hub:evil/net"), "asks for the architecture hf-hub:evil/net.*not allowed"),
    "arch no word": (setting("arch", ["resnet50"]), "not allowed"),
    "kind": (setting("pretrain", "none"), "pretrain is none, not one of std, fast-adv, adv"),
    "method": (setting("method", "magic"), "method is magic, not one of imp, omp, random"),
    "level": (setting("level", -1), "level is -1, not a whole number up to 64"),
    "level true": (setting("level", True), "level is True, not a whole number"),
    "level huge": (setting("level", 10**9), "not a whole number up to 64"),
    "classes": (lambda config: config.update(num_classes=6), r"fc\.weight.*expected"),
    "no classes": (lambda config: config.update(num_classes=0), "does not belong here"),
    "a billion classes": (lambda config: config.update(num_classes=10**9), "not a whole number up to 100000"),
    "mean": (setting("mean", [0.5, 0.5]), "mean and std are three numbers each"),
    "std of words": (setting("std", ["a", "b", "c"]), "mean and std are three numbers each"),
    "std zero": (setting("std", [0, 1, 1]), "std is not 0"),
    "mean huge": (setting("mean", [10**400, 0, 0]), r"lie in 0\.\.1"),
    "provenance": (setting("provenance", []), "provenance is .*not an object"),
    "no hashes": (setting("hashes", {}), "sha256 differs"),
    "hashes a list": (setting("hashes", [1]), "hashes is .*not an object"),
    "newer format": (setting("format", 2), "has format 2, this version reads 1; update lottery-hub"),
    "no format": (lambda config: config["lottery_hub"].pop("format"), "has format None"),
    "content": (setting("content", "model"), "holds model, not a ticket or ladder"),
    "content none": (setting("content", None), "holds None, not a ticket or ladder"),
    "plain timm": (lambda config: config.pop("lottery_hub"), "has no lottery_hub object; this is not a ticket folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_lies_is_refused(saved: dict[str, Path], tmp_path: Path, case: str) -> None:
    change, reason = REFUSED[case]
    folder = changed(saved["ticket"], tmp_path / "copy", change)
    with pytest.raises(TicketError, match=reason):
        load_ticket(folder)


LADDERS: dict[str, tuple[Change, str]] = {
    "fewer levels": (setting("levels", 5), "does not hold .* counts of 0 to 5"),
    "more levels": (setting("levels", 7), "disagree about the levels' sparsities"),
    "no level": (setting("levels", 0), "does not belong here"),
    "level of words": (setting("levels", "6"), "levels is 6, not a whole number"),
    "sparsities": (setting("sparsities", [0, 0.9]), "disagree about the levels' sparsities"),
    "no sparsities": (setting("sparsities", None), "disagree about the levels' sparsities"),
}


@pytest.mark.parametrize("case", LADDERS)
def test_a_ladder_that_lies_about_its_levels_is_refused(saved: dict[str, Path], tmp_path: Path, case: str) -> None:
    change, reason = LADDERS[case]
    folder = changed(saved["ladder"], tmp_path / "copy", change)
    with pytest.raises(TicketError, match=reason):
        load_ladder(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot read .*config.json"),
        ("", "cannot read .*config.json"),
        ("[]", "does not hold a JSON object"),
        ('"lottery_hub"', "does not hold a JSON object"),
        ('{"a": 1, "a": 1}', "a key appears twice"),
        ('{"b": {"a": 1, "a": 2}}', "a key appears twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ("[" * 100_000, "cannot read .*config.json"),
        ('{"a": ' + "9" * 10_000 + "}", "cannot read .*config.json"),
        ("\ufeff{}", "cannot read .*config.json"),
    ],
    ids=lambda value: value[:16],
)
def test_malformed_json_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(TicketError, match=reason):
        load_ticket(tmp_path)


def test_json_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(TicketError, match="cannot read"):
        load_ticket(tmp_path)


def test_huge_json_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as handle:
        handle.truncate(files.MAX_JSON_BYTES + 1)
    with pytest.raises(TicketError, match="is larger than 33554432 bytes"):
        load_ticket(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", b"\xff" * 100, b"not a safetensors file"])
def test_a_tensor_file_that_is_none_is_refused(saved: dict[str, Path], tmp_path: Path, content: bytes) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / "ticket.safetensors").write_bytes(content)
    digest = files.sha256(folder / "ticket.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["lottery_hub"]["hashes"]["ticket.safetensors"] = digest
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TicketError, match="cannot read"):
        load_ticket(folder)


def test_a_hashed_tensor_of_a_strange_name_is_refused_and_printed_harmlessly(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    path = folder / "ticket.safetensors"
    files.write_tensors(path, files.read_tensors(path) | {"\x1b[2J../../etc/\u202epasswd": torch.zeros(1)})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["lottery_hub"]["hashes"][path.name] = files.sha256(path)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TicketError, match="does not belong here") as caught:
        load_ticket(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["arch", "format", "content", "pretrain", "method", "level"])
def test_escape_codes_in_settings_are_not_printed_raw(saved: dict[str, Path], tmp_path: Path, key: str) -> None:
    folder = changed(saved["ticket"], tmp_path / "copy", setting(key, "\x1b]0;owned\x07\n\x9b31m"))
    with pytest.raises(TicketError) as caught:
        load_ticket(folder)
    assert str(caught.value).isprintable()
    assert r"\x1b]0;owned\x07\n" in str(caught.value)


# Whole or not at all


def test_an_older_folder_is_replaced_as_a_whole(ladder: Ladder, tmp_path: Path) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket", "# old\n")
    (place / "picture.png").write_bytes(b"old")
    save_ticket(ladder.ticket(5), place)
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "results.json", "ticket.safetensors"]
    assert load_ticket(place).level == 5
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]


@pytest.mark.parametrize("failing", ["write_tensors", "write_json", "write_text", "_sync"])
def test_a_failing_write_leaves_the_old_folder(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket", "# old\n")
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        save_ticket(ladder.ticket(5), place, "# new\n")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]


def test_a_failing_rename_brings_the_old_folder_back(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.suffix == ".new":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_ticket(ladder.ticket(5), place)
    assert load_ticket(place).level == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]


def test_records_that_are_no_json_leave_nothing(ladder: Ladder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        save_ticket(ladder.ticket(1, {"SA": float("nan")}), tmp_path / "ticket")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with files.new_folder(target) as fresh:
        (fresh / "file").write_text("whole", encoding="utf-8")
        assert not target.exists()
        assert fresh.parent == target.parent
    assert (target / "file").read_text(encoding="utf-8") == "whole"
