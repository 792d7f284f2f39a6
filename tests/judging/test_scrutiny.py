"""A closer look at the networks behind a verdict: what is found, where it is written, and when it cannot be taken."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lottery_hub.errors import ConfigError, DataError, PublishError, TicketError
from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.judging import scrutiny
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.scrutiny import images_of, look
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.updating import look_at_folder
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings.config import (
    Attack,
    DataPlan,
    DrawPlan,
    Recipe,
    TransferPlan,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.publishing import prepare, push_ticket
from lottery_hub.storage.folder import load_ticket, save_backbone, save_ticket, trained_folders
from lottery_hub.storage.places import DEPLOYED
from lottery_hub.storage.records import check_ticket

STANDARD = Recipe(epochs=1, batch_size=12, lr=0.02, augment="none", image_size=8)
ATTACK = Attack(eps=0.03, step_size=0.02, steps=3)
TRANSFER = TransferPlan(standard=STANDARD, adversarial=STANDARD.changed(attack=ATTACK), test_attack=ATTACK)

# What is looked at, and where it is written, is the matter here, not how strong the attacks are.
pytestmark = pytest.mark.usefixtures("short_autoattack")


def squares(count: int, seed: int) -> Split:
    """Noise with one bright quarter: 4 classes, as many as AutoAttack needs."""
    images = torch.randint(0, 90, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 4
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[:, row : row + 4, column : column + 4] = 220
    return Split(images, labels)


@pytest.fixture(scope="module")
def data() -> Dataset:
    splits = {"train": squares(48, 1), "validation": squares(12, 2), "test": squares(16, 3)}
    return Dataset("squares", None, "sha256:squares", tuple("abcd"), 1.0, notes=(), **splits)


@pytest.fixture(scope="module")
def plan(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> FindPlan:
    return FindPlan(
        pretrain=str(save_backbone(backbone, tmp_path_factory.mktemp("backbone") / "net")),
        arch="resnet18-slim",
        data=DataPlan(dataset="squares", image_size=8),
        draw=DrawPlan(method="omp", rounds=1),
        ladder="draw",
        transfer=TRANSFER,
    )


@pytest.fixture(scope="module")
def judged(plan: FindPlan, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a find without a closer look."""
    directory = tmp_path_factory.mktemp("judged") / "run"
    find(plan, directory, data=data, store=directory.with_name("store"))
    return directory


@pytest.fixture
def place(judged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged / "ticket", tmp_path / "ticket"))


@pytest.fixture(scope="module")
def checks(judged: Path, data: Dataset, short_autoattack: None) -> dict[str, Any]:
    networks = {name: load_ticket(path) for name, path in trained_folders(judged / "ticket").items()}
    return look("checks", networks, data, ATTACK)


@pytest.fixture
def known(checks: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the looks of a test find, without the minute of attacks that it takes."""
    found = {key: value for key, value in checks.items() if key not in ("samples", "seed", "environment", "seconds")}
    monkeypatch.setattr(scrutiny, "_checks", lambda *arguments: found)
    return found


def test_the_checks_stand_beside_autoattack_on_the_same_images(checks: dict[str, Any]) -> None:
    assert [row["attack"] for row in checks["attacks"]] == [ATTACK.describe(), "AutoAttack Linf eps 0.03"]
    assert checks["samples"] == 16
    ours, strong = (Outcomes.parse(row["outcomes"], 16) for row in checks["attacks"])
    assert (ours.SA == strong.SA).all()
    assert ours.RA is not None
    assert strong.RA is not None
    assert checks["gap"] == ours.RA.mean() - strong.RA.mean()
    assert checks["gap"] > 0, "AutoAttack begins with a stronger PGD, and goes on"
    assert len(checks["checks"]) == 6
    assert checks["passed"] is all(check["passed"] for check in checks["checks"])
    assert checks["environment"]["torch"]


def test_a_find_that_is_asked_to_look_records_it_once_and_continues_without(
    plan: FindPlan, data: Dataset, judged: Path, tmp_path: Path, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, store = shutil.copytree(judged, tmp_path / "run"), judged.with_name("store")
    before = json.loads((directory / "ticket" / "results.json").read_text(encoding="utf-8"))
    summary = find(plan, directory, data=data, looks=["checks"], store=store)
    records = load_ticket(directory).records
    assert summary["scrutiny"] == records["scrutiny"]
    # A look changes no figure of the verdict.
    assert {key: value for key, value in records.items() if key != "scrutiny"} == {
        key: value for key, value in before.items() if key != "scrutiny"
    }
    assert records["scrutiny"]["checks"].items() >= known.items()
    assert "## A closer look" in (directory / "ticket" / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(scrutiny, "_checks", None)  # what is finished is not done again
    assert find(plan, directory, data=data, looks=["checks"], store=store) == summary


def test_a_failed_check_marks_record_and_card(data: Dataset, place: Path, known: dict[str, Any]) -> None:
    known |= {"passed": False}
    look_at_folder(place, ["checks"], data)
    assert load_ticket(place).records["scrutiny"]["checks"]["passed"] is False
    assert "**Warning: a check of masked gradients failed" in (place / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("known")
def test_a_folder_is_looked_at_once_and_keeps_a_card_changed_by_hand(
    data: Dataset, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "README.md").write_text("my own words")
    assert look_at_folder(place, ["checks"], data) == ["checks"]
    assert "README.md: changed by hand, and left as it is" in caplog.text
    assert look_at_folder(place, ["checks"], data) == []
    assert (place / "README.md").read_text() == "my own words"
    assert len(trained_folders(place)) == 4


def test_other_images_are_refused(data: Dataset, place: Path) -> None:
    other = replace(data, fingerprint="sha256:other")
    with pytest.raises(TicketError, match="holds other images than those of the records"):
        look_at_folder(place, ["checks"], other)


@pytest.mark.parametrize("said", [{}, {"plan": True}], ids=["by the name of the data", "by the plan"])
def test_records_cannot_name_a_folder(ladder: Ladder, tmp_path: Path, said: dict[str, bool]) -> None:
    # What the data are called decides; a plan that says otherwise is not asked.
    line = "digits holds other images than those of the records" if said else "no dataset"
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for number in range(10):
                Image.new("RGB", (8, 8)).save(tmp_path / "photos" / split / label / f"{number}.png")
    folder = str(tmp_path / "photos")
    named = {"name": "digits" if said else folder, "fraction": 1.0, "image_size": 8, "fingerprint": "sha256:0"}
    records: dict[str, Any] = {"data": named} | ({"plan": {"data": {"dataset": folder}}} if said else {})
    with pytest.raises((DataError, TicketError), match=line):
        images_of(ladder.ticket(1, records))
    with pytest.raises(TicketError, match="photos holds other images than those of the records"):
        images_of(ladder.ticket(1, records), folder)


def test_what_cannot_be_looked_at_is_said_before_anything_is_trained(
    plan: FindPlan, data: Dataset, tmp_path: Path
) -> None:
    transfers = TRANSFER.changed(test_attack=ATTACK.changed(norm="l2"))
    with pytest.raises(ConfigError, match="the checks of masked gradients are for attacks in Linf, not in l2"):
        find(plan.changed(transfer=transfers), tmp_path / "run", data=data, looks=["checks"])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # what AutoAttack is called there, test_strong_attacks.py sees in every run
@pytest.mark.parametrize("classes", [2, 3])
def test_a_verdict_of_few_classes_is_looked_at_published_and_believed(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(split: Split) -> Split:
        taken = split.labels < classes
        return Split(split.images[taken], split.labels[taken])

    splits = {name: few(getattr(tiny_data, name)) for name in ("train", "validation", "test")}
    data = replace(tiny_data, classes=tiny_data.classes[:classes], **splits)
    run, wide = tmp_path / "run", ATTACK.changed(eps=0.3, step_size=0.2)  # which soon leaves nothing to attack
    find(plan.changed(transfer=TRANSFER.changed(test_attack=wide)), run, data=data)
    with monkeypatch.context() as patch:
        patch.setattr(scrutiny, "_checks", None)
        assert push_ticket(run, "alice/net", data=data, dry_run=True).unchecked
    assert look_at_folder(run / "ticket", ["checks"], data) == ["checks"]
    assert not push_ticket(run, "alice/net", data=data, dry_run=True).unchecked
    ticket = load_ticket(run)
    named = [row["attack"] for row in ticket.records["scrutiny"]["checks"]["attacks"]]
    assert named == [wide.describe(), "AutoAttack without its targeted parts (APGD-CE, Square) Linf eps 0.3"]
    assert contradictions(ticket) == []
    check_ticket(ticket)
    assert named[1] in (run / "ticket" / "README.md").read_text(encoding="utf-8")


def test_small_images_are_not_corrupted(plan: FindPlan, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="corruptions are for 32x32 images, not 8x8; leave out --corruptions"):
        find(plan, tmp_path / "run", data=data, looks=["corruptions"])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_corruptions_and_unseen_attacks_set_ticket_and_dense_side_by_side(judged: Path, data: Dataset) -> None:
    networks = {name: load_ticket(path) for name, path in trained_folders(judged / "ticket").items()}
    large = data.test.images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    corrupted = look("corruptions", networks, replace(data, test=replace(data.test, images=large)), ATTACK)
    attacked = look("unseen", networks, data, ATTACK)
    assert list(corrupted["networks"]) == list(attacked["networks"]) == list(scrutiny.COMPARED)
    assert scrutiny.COMPARED[:2] == ("dense-standard-seed-0", "ticket-standard-seed-0")
    for network in corrupted["networks"].values():
        assert len(network["correct"]) == 15
        assert 0 < network["mean"] <= 1
    for rows in attacked["networks"].values():
        assert [row["attack"].split()[1] for row in rows] == ["L2", "L1"]
        assert all(row["RA"] <= row["SA"] for row in rows)
    records = load_ticket(judged).records
    seen = replace(load_ticket(judged), records=records | {"scrutiny": {"corruptions": corrupted, "unseen": attacked}})
    assert contradictions(seen) == []
    card = render_card(seen)
    assert "## Common corruptions" in card
    assert "--corruptions --unseen" in card.replace(" \\\n   ", "")


# At publication


@pytest.mark.usefixtures("known")
def test_a_verdict_is_looked_at_before_it_is_published(data: Dataset, place: Path) -> None:
    with pytest.raises(PublishError):  # the client is offline in this process
        push_ticket(place, "alice/net", data=data)
    assert "checks" in load_ticket(place).records["scrutiny"]


def everything_in(place: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_dry_run_writes_nothing_and_says_what_a_push_would_do_first(
    data: Dataset, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrutiny, "_checks", None)
    before = everything_in(place)
    done = push_ticket(place, "alice/net", data=data, dry_run=True)
    assert done.unchecked
    assert {name.split("/")[1] for name in done.files if name.startswith("trained/")} == set(DEPLOYED)
    assert everything_in(place) == before
    assert not push_ticket(place, "alice/net", checks=False, dry_run=True).unchecked


@pytest.mark.usefixtures("known")
def test_what_is_not_ours_in_a_folder_is_there_after_it_was_looked_at(data: Dataset, place: Path) -> None:
    (place / "notes.txt").write_text("mine")
    (place / "figure.png").write_bytes(b"picture")
    (place / ".git" / "objects").mkdir(parents=True)
    (place / ".git" / "HEAD").write_text("ref")
    (place / "trained" / "mine").mkdir()
    (place / "trained" / "mine" / "ticket.safetensors").write_bytes(b"network")
    (place / "latest").symlink_to("trained")
    before = everything_in(place)
    look_at_folder(place, ["checks"], data)
    after = everything_in(place)
    changed = {name for name, content in before.items() if after[name] != content}
    assert changed - {"ticket.safetensors"} == {"README.md", "config.json", "results.json"}
    assert after["ticket.safetensors"][1] == before["ticket.safetensors"][1]
    assert after.keys() == before.keys()
    assert (place / ".git" / "objects").is_dir()
    assert (place / "latest").readlink() == Path("trained")
    assert [path.name for path in place.parent.iterdir()] == ["ticket"]


def test_a_folder_of_the_hubs_cache_is_not_written_to(data: Dataset, place: Path) -> None:
    blob = place.parent / "blobs" / "a"
    blob.parent.mkdir()
    snapshot = place.parent / "snapshots" / "b"
    snapshot.parent.mkdir()
    place.rename(snapshot)
    (snapshot / "config.json").rename(blob)
    (snapshot / "config.json").symlink_to(blob)
    with pytest.raises(TicketError, match="is part of the Hub's cache; copy it with pull --local-dir"):
        look_at_folder(snapshot, ["checks"], data)


def test_a_verdict_that_cannot_be_looked_at_is_not_published_unless_one_says_so(data: Dataset, place: Path) -> None:
    shutil.rmtree(place / "trained")
    with pytest.raises(PublishError, match=r"does not hold the trained networks .* publish it unchecked with --no-ch"):
        push_ticket(place, "alice/net", data=data, dry_run=True)
    with pytest.raises(TicketError, match="push without the copy for timm"):
        push_ticket(place, "alice/net", checks=False, dry_run=True)
    push_ticket(place, "alice/net", checks=False, timm=False, dry_run=True)
    card = prepare(place, "alice/net", timm=False).files["README.md"].decode()
    assert "Nothing was done to tell real robustness from masked gradients" in card


@pytest.mark.usefixtures("known")
def test_a_look_at_a_card_rendered_for_a_repository_renders_it_again(data: Dataset, place: Path) -> None:
    (place / "README.md").write_text(render_card(load_ticket(place), "bob/other", timm=True))
    look_at_folder(place, ["checks"], data)
    assert "## A closer look" in (place / "README.md").read_text()


def test_trained_networks_are_published_where_they_are_asked_for(place: Path) -> None:
    files = prepare(place, "alice/net", models=True).files
    trained = {name for name in files if name.startswith("trained/")}
    assert len(trained) == 4 * 3
    assert "trained/dense-adversarial-seed-0/ticket.safetensors" in trained


def test_a_network_that_the_records_do_not_name_is_not_published(place: Path) -> None:
    shutil.rmtree(place / "trained" / "ticket-standard-seed-0")
    save_ticket(load_ticket(place), place / "trained" / "ticket-standard-seed-0")
    with pytest.raises(TicketError, match="is none of the networks that the records are of"):
        prepare(place, "alice/net", models=True)
    shutil.rmtree(place / "trained")
    with pytest.raises(TicketError, match="does not hold the trained networks"):
        prepare(place, "alice/net", models=True)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("/etc", "is no dataset to be fetched"),
        ("../digits", "is no dataset to be fetched"),
        ("pictures", "is no dataset to be fetched"),
        ("org/name\x1b", "is no dataset to be fetched"),
        ("org/name", "the images are a dataset of the Hub, org/name; --fetch downloads it"),
    ],
)
def test_what_records_call_their_images_is_neither_walked_nor_downloaded(
    ladder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    def load(plan: DataPlan, local: bool) -> Dataset:
        raise AssertionError(f"{plan.dataset} was loaded")

    monkeypatch.setattr(scrutiny, "load_planned", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    said = {"name": name, "fraction": 1.0, "image_size": 32, "fingerprint": "sha256:0"}
    ticket = ladder.ticket(2, {"data": said})
    with pytest.raises(DataError, match=line):
        images_of(ticket)
    if name != "org/name":
        with pytest.raises(DataError, match=line):
            images_of(ticket, fetch=True)
    else:
        (tmp_path / name).mkdir(parents=True)
        with pytest.raises(DataError, match="is no dataset to be fetched"):
            images_of(ticket, fetch=True)


def test_a_named_dataset_is_loaded_and_so_is_what_the_user_names_or_allows(
    ladder: Any, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(plan: DataPlan, local: bool) -> Dataset:
        asked.append((plan.dataset, plan.revision))
        return data

    monkeypatch.setattr(scrutiny, "load_planned", load)
    said = {"name": "digits", "fraction": 1.0, "image_size": 32, "fingerprint": data.fingerprint}
    images_of(ladder.ticket(2, {"data": said}))
    images_of(ladder.ticket(2, {"data": said | {"name": "/etc"}}), "here")
    images_of(ladder.ticket(2, {"data": said | {"name": "org/name"}}), fetch=True)
    assert asked == [("digits", None), ("here", None), ("org/name", None)]
    with pytest.raises(DataError, match="is not a branch, tag or commit"):
        images_of(ladder.ticket(2, {"data": said | {"revision": "../../thesis"}}))
