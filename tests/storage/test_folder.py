"""Folders: written as one, read with every count and hash checked, and refused in one printable line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from lottery_hub.errors import TicketError
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage import atomic, files
from lottery_hub.storage.folder import (
    MAX_CARD_BYTES,
    find_folder,
    load_backbone_folder,
    load_ladder,
    load_ticket,
    packaged_folder,
    packaged_names,
    read_about,
    read_card,
    save_backbone,
    save_ladder,
    save_ticket,
    trained_folders,
)
from lottery_hub.storage.signing import signed

RECORDS = {"double_win": True, "sparsity": 0.5904, "note": "zwölf × θ", "levels": [{"level": 4}]}
Change = Callable[[dict[str, Any]], object]


def _header(value: object) -> bytes:
    text = json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


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
        with pytest.raises(TicketError, match=r"give a folder with a config\.json, USER/NAME") as caught:
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
        if read_about(folder).content == "ticket":
            assert load_ticket(name).judged
            continue
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
def test_a_pointer_in_place_of_a_file_says_how_to_get_it(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(saved["ticket"], tmp_path / "copy"))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4242\n"
    (folder / name).write_bytes(pointer)
    with pytest.raises(TicketError, match=rf"{name} is a Git LFS pointer, not the file itself; run `git lfs pull`"):
        load_ticket(folder)


def test_a_pointer_in_a_folder_without_config_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "ladder.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    with pytest.raises(TicketError, match=r"ladder.safetensors is a Git LFS pointer"):
        load_ticket(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "ticket.safetensors", "results.json"])
def test_a_missing_file_is_named(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(TicketError, match="no ticket at" if name == "config.json" else f"{name} is missing"):
        load_ticket(folder)


def timm_setting(key: str, value: object) -> Change:
    return lambda config: config.update({key: value})


REFUSED: dict[str, tuple[Change, str]] = {
    "kept": (setting("kept", 5), "disagree about how many weights are kept"),
    "total": (setting("total", 5), "disagree about how many weights are kept"),
    "sparsity": (setting("sparsity", 0.59), "disagree about how many weights are kept"),
    "no count": (lambda config: config["lottery_hub"].pop("kept"), "kept: Field required"),
    "a count of words": (setting("kept", "5"), "kept: Input should be a valid integer"),
    "verdict": (setting("double_win", False), r"config\.json and results\.json disagree about the verdict"),
    "other arch": (setting("arch", "resnet18"), "model_args is .*, resnet18 has {}"),
    "unknown arch": (setting("arch", "hf-hub:evil/net"), "asks for the architecture 'hf-hub:evil/net'.*not allowed"),
    "arch no word": (setting("arch", ["resnet50"]), "arch: Input should be a valid string"),
    "timm arch": (timm_setting("architecture", "resnet50"), "architecture is resnet50, resnet18-slim has resnet18"),
    "timm arguments": (timm_setting("model_args", {"layers": [2000] * 4}), "model_args is .*2000"),
    "unknown timm key": (timm_setting("checkpoint_path", "/etc/passwd"), "key 'checkpoint_path' does not belong"),
    "unknown key": (setting("code", "import os"), "code: Extra inputs are not permitted"),
    "a ladder's key": (setting("levels", 3), "levels: Extra inputs are not permitted"),
    "kind": (setting("pretrain", "none"), "pretrain: Input should be 'std', 'fast-adv' or 'adv'"),
    "method": (setting("method", "magic"), "method: Input should be 'imp', 'omp' or 'random'"),
    "values": (setting("values", "int8"), "values: Input should be 'float32', 'float16' or 'bfloat16'"),
    "other values": (setting("values", "bfloat16"), "values/1/rest does not hold"),
    "level": (setting("level", -1), "level: Input should be greater than or equal to 0"),
    "level true": (setting("level", True), "level: Input should be a valid integer"),
    "level huge": (setting("level", 10**9), "level: Input should be less than or equal to 64"),
    "classes": (timm_setting("num_classes", 6), "dense/rest does not hold"),
    "no classes": (timm_setting("num_classes", 0), "num_classes: Input should be greater than or equal to 1"),
    "a billion classes": (timm_setting("num_classes", 10**9), "num_classes: Input should be less than or equal"),
    "classes inside": (setting("num_classes", 5), "num_classes stands in the lottery_hub object only where"),
    "mean": (setting("mean", [0.5, 0.5]), "mean: List should have at least 3 items"),
    "std of words": (setting("std", ["a", "b", "c"]), r"std\.0: Input should be a valid number"),
    "std zero": (setting("std", [0, 1, 1]), r"std\.0: Input should be greater than or equal to 0\.001"),
    "std too small to divide by": (
        setting("std", [1e-320] * 3),
        r"std\.0: Input should be greater than or equal to 0\.001",
    ),
    "mean huge": (setting("mean", [10**300, 0, 0]), r"mean\.0: Input should be less than or equal to 1"),
    "provenance": (setting("provenance", []), "provenance: Input should be a valid dictionary"),
    "no hashes": (setting("hashes", {}), r"hashes does not name exactly ticket\.safetensors and results\.json"),
    "another file": (
        lambda config: config["lottery_hub"]["hashes"].update({"../../secret": "sha256:" + "0" * 64}),
        "hashes does not name exactly",
    ),
    "hashes a list": (setting("hashes", [1]), "hashes: Input should be a valid dictionary"),
    "a hash of words": (setting("hashes", {"results.json": "sha256:x"}), "hashes.*String should match pattern"),
    "newer format": (setting("format", 2), "has format 2, this version reads 1; update lottery-hub"),
    "format true": (setting("format", True), "has format True"),
    "no format": (lambda config: config["lottery_hub"].pop("format"), "has format None"),
    "content": (setting("content", "model"), "announces model, not a ticket, ladder or backbone"),
    "content none": (setting("content", None), "announces None, not a ticket, ladder or backbone"),
    "plain timm": (lambda config: config.pop("lottery_hub"), "has no lottery_hub object; this is not a ticket folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_lies_is_refused(saved: dict[str, Path], tmp_path: Path, case: str) -> None:
    change, reason = REFUSED[case]
    folder = changed(saved["ticket"], tmp_path / "copy", change)
    with pytest.raises(TicketError, match=reason):
        load_ticket(folder)


SPARSITIES = [0.0, 0.2, 0.36, 0.488, 0.5904, 0.67, 0.74]
LADDERS: dict[str, tuple[Change, str]] = {
    "fewer levels": (setting("levels", 5), "sparsities are not those of 5 levels"),
    "no level": (setting("levels", 0), "levels: Input should be greater than or equal to 1"),
    "level of words": (setting("levels", "6"), "levels: Input should be a valid integer"),
    "sparsities": (setting("sparsities", SPARSITIES), "disagree about the levels' sparsities"),
    "too few sparsities": (setting("sparsities", [0, 0.9]), "sparsities are not those of 6 levels"),
    "no sparsities": (setting("sparsities", None), "sparsities: Input should be a valid list"),
    "fingerprint": (setting("fingerprint", "sha256:" + "0" * 64), "disagree about the fingerprint"),
    "a level more": (
        lambda config: config["lottery_hub"].update(levels=7, sparsities=[*SPARSITIES, 0.8]),
        "tensor round/7/binary is missing",
    ),
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
        handle.truncate(2**20 + 1)
    with pytest.raises(TicketError, match="is larger than 1048576 bytes"):
        load_ticket(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has a header of 0 bytes"),
        (b"\x10\0\0\0\0\0\0\0{}", "has a header of 16 bytes"),
        (b"\xff" * 100, "has a header of"),
        (b"not a safetensors file", "has a header of"),
        (b"\2\0\0\0\0\0\0\0[]", "does not hold a JSON object"),
        (b"\2\0\0\0\0\0\0\0{}", "tensor counters is missing"),
        (_header({"layers": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "layers is F32, not one of"),
        (_header({"layers": 5}), "layers is None, not one of"),
        (_header({"layers": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}), "cannot read"),
        (_header({"__metadata__": {"a": "b"}}), "__metadata__ is None"),
        (b'\x0f\0\0\0\0\0\0\0{"a": 1,"a": 2}', "a key appears twice"),
    ],
    ids=range(11),
)
def test_a_tensor_file_that_is_none_is_refused(
    saved: dict[str, Path], tmp_path: Path, content: bytes, reason: str
) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / "ticket.safetensors").write_bytes(content)
    digest = files.sha256(folder / "ticket.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["lottery_hub"]["hashes"]["ticket.safetensors"] = digest
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TicketError, match=reason) as caught:
        load_ticket(folder)
    assert str(folder) in str(caught.value)


def test_a_hashed_tensor_of_a_strange_name_is_refused_and_printed_harmlessly(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    path = folder / "ticket.safetensors"
    arrays = files.parse_arrays(path.read_bytes(), path)
    files.write_arrays(path, arrays | {"\x1b[2J../../etc/\u202epasswd": np.zeros(1, np.uint8)})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["lottery_hub"]["hashes"][path.name] = files.sha256(path)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TicketError, match="does not belong here") as caught:
        load_ticket(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["arch", "format", "content", "pretrain", "method", "level", "\x1b[2Jkey"])
def test_escape_codes_in_settings_are_not_printed_raw(saved: dict[str, Path], tmp_path: Path, key: str) -> None:
    folder = changed(saved["ticket"], tmp_path / "copy", setting(key, "\x1b]0;owned\x07\n\x9b31m"))
    with pytest.raises(TicketError) as caught:
        load_ticket(folder)
    assert str(caught.value).isprintable()


# Whole or not at all


def test_an_older_folder_is_replaced_as_a_whole(ladder: Ladder, tmp_path: Path) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket", signed("# old"))
    save_ticket(ladder.ticket(5), place)
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "results.json", "ticket.safetensors"]
    assert load_ticket(place).level == 5
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]


@pytest.mark.parametrize(
    "failing", [(files, "write_arrays"), (atomic, "write_json"), (atomic, "write_text"), (atomic, "sync")]
)
def test_a_failing_write_leaves_the_old_folder(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[Any, str]
) -> None:
    place = save_ticket(ladder.ticket(1), tmp_path / "ticket", signed("# old"))
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*failing, fail)
    with pytest.raises(TicketError, match=r"cannot write .*ticket: No space left on device"):
        save_ticket(ladder.ticket(5), place, "# new\n")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["ticket"]


def test_files_are_read_in_their_folder_only(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    weights = folder / "ticket.safetensors"
    weights.rename(tmp_path / "outside")
    weights.symlink_to(tmp_path / "outside")
    with pytest.raises(TicketError, match=r"ticket\.safetensors leads out of its folder"):
        load_ticket(folder)


def test_a_link_inside_the_folder_is_no_file_of_it(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / "results.json").rename(folder / "diary.txt")
    (folder / "results.json").symlink_to("diary.txt")
    with pytest.raises(TicketError, match=r"results\.json is a link; put the file itself in its place"):
        load_ticket(folder)


def test_blobs_that_are_a_link_are_not_those_of_a_hub_cache(saved: dict[str, Path], tmp_path: Path) -> None:
    snapshot = shutil.copytree(saved["ticket"], tmp_path / "models--a--b" / "snapshots" / ("0" * 40))
    (tmp_path / "keys").mkdir()
    (snapshot / "results.json").rename(tmp_path / "keys" / "id")
    (tmp_path / "models--a--b" / "blobs").symlink_to(tmp_path / "keys")
    (snapshot / "results.json").symlink_to("../../blobs/id")
    with pytest.raises(TicketError, match=r"results\.json leads out of its folder"):
        load_ticket(snapshot)


def test_what_becomes_a_pipe_between_the_look_and_the_reading_is_not_waited_for(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    really_open = os.open

    def meanwhile(path: Any, *args: Any, **kwargs: Any) -> int:
        if Path(path).name == "results.json":
            Path(path).unlink()
            os.mkfifo(path)
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", meanwhile)
    with pytest.raises(TicketError, match=r"cannot read .*results\.json: it is not a file"):
        load_ticket(folder)


def test_trained_networks_behind_a_link_that_leads_out_are_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    name = "dense-standard-seed-0"
    shutil.copytree(saved["ticket"], tmp_path / "elsewhere" / name)
    (folder / "trained").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TicketError, match=f"trained/{name} leads out of"):
        trained_folders(folder)
    (folder / "trained").unlink()
    (folder / "trained").mkdir()
    (folder / "trained" / name).symlink_to(tmp_path / "elsewhere" / name)
    with pytest.raises(TicketError, match=f"trained/{name} leads out of"):
        trained_folders(folder)


def test_the_links_of_a_hub_cache_are_followed(saved: dict[str, Path], ticket: Ticket, tmp_path: Path) -> None:
    snapshot = shutil.copytree(saved["ticket"], tmp_path / "models--a--b" / "snapshots" / ("0" * 40))
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(Path("../../blobs") / path.name)
    assert load_ticket(snapshot).fingerprint() == ticket.fingerprint()


def test_a_pipe_is_no_file_and_nobody_waits_for_it(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["ticket"], tmp_path / "copy")
    (folder / "results.json").unlink()
    os.mkfifo(folder / "results.json")
    with pytest.raises(TicketError, match=r"results\.json is missing, or not a file"):
        load_ticket(folder)


def test_json_of_many_levels_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(70):
        deep = {"in": [deep]}
    folder = changed(saved["ticket"], tmp_path / "copy", setting("provenance", deep))
    with pytest.raises(TicketError, match="nested more than 64 levels deep"):
        load_ticket(folder)


def test_rounded_values_are_announced_and_read_back(ladder: Ladder, tmp_path: Path) -> None:
    ticket = ladder.ticket(4)
    place = save_ticket(ticket, tmp_path / "half", values="float16")
    assert read_about(place).values == "float16"
    loaded = load_ticket(place)
    for name, kept in ticket.mask.items():
        assert torch.equal(loaded.weights[name], ticket.weights[name].half().float())
        assert torch.equal(loaded.mask[name], kept)
    assert torch.equal(loaded.weights["fc.weight"], ticket.weights["fc.weight"])


def test_records_that_are_no_json_leave_nothing(ladder: Ladder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        save_ticket(ladder.ticket(1, {"SA": float("nan")}), tmp_path / "ticket")
    assert list(tmp_path.iterdir()) == []


def test_a_card_is_a_text_of_its_folder_within_bounds_or_there_is_none(ladder: Ladder, tmp_path: Path) -> None:
    place = save_ticket(ladder.ticket(2), tmp_path / "ticket", "# Grüße\n")
    assert read_card(place) == "# Grüße\n"
    card = place / "README.md"
    card.write_bytes(b"\xff")
    with pytest.raises(TicketError, match=r"README\.md is not text in UTF-8"):
        read_card(place)
    card.write_bytes(b" " * (MAX_CARD_BYTES + 1))
    with pytest.raises(TicketError, match=r"README\.md is larger than 4194304 bytes"):
        read_card(place)
    card.unlink()
    assert read_card(place) is None
    (tmp_path / "secret").write_text("mine")
    card.symlink_to(tmp_path / "secret")
    with pytest.raises(TicketError, match=r"README\.md leads out of its folder"):
        read_card(place)
    card.unlink()
    card.symlink_to("nowhere")
    with pytest.raises(TicketError, match=r"README\.md is a link"):
        read_card(place)
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(TicketError, match=r"README\.md is missing, or not a file"):
        read_card(place)
    card.unlink()
    card.mkdir()
    with pytest.raises(TicketError, match=r"README\.md is missing, or not a file"):
        read_card(place)
