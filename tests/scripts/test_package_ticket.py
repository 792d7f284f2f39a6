"""scripts/package_ticket.py, and what every packaged ticket keeps: it is used by its name alone, without a network.

What is asked of every packaged ticket is asked of a toy too, which the script packages here.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import lottery_hub as lh
from lottery_hub import cli, verifying
from lottery_hub.errors import DataError, TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.opening import NAMED
from lottery_hub.judging import remeasuring
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.sharing import publishing
from lottery_hub.sharing.listing import list_tickets
from lottery_hub.sharing.pulling import is_remote, pull
from lottery_hub.sharing.sources import packaged_backbones, packaged_name
from lottery_hub.storage import places
from lottery_hub.storage.folder import (
    load_ticket,
    packaged_as,
    packaged_folder,
    packaged_names,
    read_about,
    save_ticket,
)
from lottery_hub.verifying import verdict_of, verify

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "package_ticket.py"))
TOY = "stripes-resnet18-slim-adv"
TICKETS = [name for name in packaged_names() if read_about(places.PACKAGED / name).content == "ticket"]
# Where datasets are as the Hub lays them out, e.g. uoft-cs/cifar10, to measure what is packaged again.
IMAGES = os.environ.get("LOTTERY_HUB_IMAGES")


def package(*words: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["package_ticket.py", *map(str, words)])
        # The page takes longest, and does not ship.
        patch.setattr(publishing, "render_report", lambda several: "")
        SCRIPT["main"]()


@pytest.fixture(scope="module")
def root(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the toy is packaged, and nothing else; nobody changes it."""
    place = tmp_path_factory.mktemp("checkout")
    package(run, TOY, "--no-checks", "--root", place)
    return place


@pytest.fixture
def toy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the toy, which is packaged, in a folder where nothing of that name is."""
    monkeypatch.setattr(places, "PACKAGED", root / "lottery_hub" / "packaged")
    monkeypatch.chdir(tmp_path)
    return TOY


@pytest.fixture(params=[TOY, *TICKETS])
def name(request: pytest.FixtureRequest) -> str:
    """A packaged ticket."""
    if request.param == TOY:
        request.getfixturevalue("toy")
    return str(request.param)


@pytest.fixture
def cards(name: str, root: Path) -> Path:
    """Where the cards of what is packaged are."""
    return (root if name == TOY else ROOT) / "model_cards"


# Every packaged ticket


def test_it_is_loaded_by_its_name_and_names_classes_at_once(name: str, tiny_data: Dataset) -> None:
    assert not is_remote(name)
    ticket = lh.load_ticket(name)
    assert ticket.judged
    assert list(ticket.networks) == ["ticket-standard-seed-0", "ticket-adversarial-seed-0"]
    [said] = ticket.predict(tiny_data.test.images[0])
    assert {called for called, _ in said.top} <= set(ticket.records["data"]["class_names"])


def test_it_is_listed_with_dataset_sparsity_figures_and_verdict(name: str) -> None:
    row, ticket = next(row for row in list_tickets() if row.ref == name), lh.load_ticket(name)
    assert (row.where, row.content, row.sparsity) == ("packaged", "ticket", ticket.sparsity)
    assert row.dataset == ticket.records["data"]["name"]
    assert None not in (row.SA, row.RA, row.answer)
    assert name not in {packaged_name(row.arch, row.kind) for row in packaged_backbones()}


def test_without_images_all_but_its_figures_is_verified(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = lh.load_ticket(name)
    monkeypatch.setattr(verifying, "images_of", mock.Mock(side_effect=DataError("no images")))
    found = verify(pull(name))
    told = {finding.question: finding.answer for finding in found}
    at_hand = packaged_folder(packaged_name(ticket.arch, ticket.kind)) is not None
    whole = {"files": "verified", "records": "verified", "card": "verified"}
    # Of the networks behind the verdict those of dense and of other seeds do not ship.
    rest = {"drawing": "verified" if at_hand else "cannot tell", "networks": "cannot tell", "figures": "cannot tell"}
    assert told == whole | rest, found


def test_on_a_sample_of_its_images_its_figures_are_measured_again(
    name: str, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == TOY:
        monkeypatch.setattr(remeasuring, "LEAST", 5)  # of twelve images
        images: Any = tiny_data
    else:
        dataset = lh.load_ticket(name).records["data"]["name"]
        where = Path(IMAGES or "nowhere", NAMED[dataset].hub_id if dataset in NAMED else dataset)
        if dataset != "digits" and not where.is_dir():
            pytest.skip(f"its images are not here: LOTTERY_HUB_IMAGES names no folder with a copy of {dataset}")
        images = None if dataset == "digits" else str(where)
    found = verify(pull(name), dataset=images, sample=150)
    told = {finding.question: (finding.answer, finding.why) for finding in found}
    if "other images" in told["figures"][1]:
        pytest.skip(told["figures"][1])
    assert {told[question][0] for question in ("figures", "masking")} == {"verified"}, told
    assert verdict_of(found) == "cannot tell", told


def test_its_cards_are_what_its_records_give(name: str, cards: Path) -> None:
    ticket, folder = lh.load_ticket(name), places.PACKAGED / name
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == render_card(ticket, name)
    assert f'load_ticket("{name}")  # packaged\n' in card
    shown = (cards / f"{name}.md").read_text(encoding="utf-8")
    for picture in ("pictures/curve.png", "pictures/differences.png"):
        assert f"]({picture})" in card
        assert f"](../lottery_hub/packaged/{name}/{picture})" in shown
        assert (cards / f"../lottery_hub/packaged/{name}/{picture}").read_bytes().startswith(b"\x89PNG")
    assert shown == SCRIPT["card_beside"](ticket, name)


def test_the_robustness_of_all_that_ship_was_measured_by_autoattack_too() -> None:
    assert all(lh.load_ticket(each).records["scrutiny"]["checks"]["passed"] for each in TICKETS)


# By name on the command line, and beside what is on the disk


def called(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lottery-hub", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(str(end.value.code))


def test_commands_take_the_name(toy: str, tiny_data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(tiny_data.test.images[0].permute(1, 2, 0).numpy()).save("photo.png")
    assert called("predict", toy, "photo.png", "--json") == 0
    [said] = json.loads(capsys.readouterr().out)["predictions"]
    assert said["image"] == "photo.png"
    assert called("show", toy) == 0
    assert "transfer" in capsys.readouterr().out
    assert called("list") == 0
    assert toy in capsys.readouterr().out
    assert called("export", toy, "--format", "safetensors-dense", "--output", "dense") == 0
    assert Path("dense").exists()


def test_a_folder_of_that_name_goes_first(toy: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / toy).mkdir()
    assert load_ticket(toy).judged, "there is no ticket in it"
    own = replace(load_ticket(run / "ticket"), records={})
    shutil.rmtree(tmp_path / toy)
    save_ticket(own, tmp_path / toy)
    assert not load_ticket(toy).judged


def test_a_copy_goes_by_the_name_too_and_by_no_other(toy: str, tmp_path: Path) -> None:
    copy = pull(toy, local_dir=tmp_path / "copy")
    assert packaged_as(copy.folder) == toy
    card = copy.folder / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace(f'"{toy}"', '"mallory/other"'), encoding="utf-8")
    assert {finding.question: finding.answer for finding in verify(copy)}["card"] == "not verified"


# What the script takes, and what it leaves


def test_networks_of_dense_and_of_other_seeds_stay_out(root: Path, run: Path) -> None:
    place = root / "lottery_hub" / "packaged" / TOY
    assert sorted(path.name for path in place.iterdir()) == [
        *("README.md", "config.json", "pictures", "results.json", "ticket.safetensors", "trained"),
    ]
    for path in place.rglob("*.safetensors"):
        assert path.read_bytes() == (run / "ticket" / path.relative_to(place)).read_bytes()
    assert len(list(place.rglob("*.safetensors"))) == 3
    assert not list(place.parent.glob(".*"))


def test_given_again_it_writes_nothing_and_something_else_is_not_lost(root: Path, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    place, card = copy / "lottery_hub" / "packaged" / TOY, copy / "model_cards" / f"{TOY}.md"
    before = {path: path.stat().st_ino for path in place.rglob("*")}
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    SCRIPT["write"](files, copy, TOY)
    assert {path: path.stat().st_ino for path in place.rglob("*")} == before
    (place / "notes.txt").write_text("mine")
    with pytest.raises(TicketError, match="is there already and holds something else"):
        SCRIPT["write"](files, copy, TOY)
    (place / "notes.txt").unlink()
    card.write_text("my own card")
    with pytest.raises(TicketError, match=r"\.md was changed by hand"):
        SCRIPT["write"](files, copy, TOY)
    assert card.read_text() == "my own card"


def test_cards_are_rendered_again_from_the_records(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    cards = [copy / "lottery_hub" / "packaged" / TOY / "README.md", copy / "model_cards" / f"{TOY}.md"]
    before = [card.read_bytes() for card in cards]
    monkeypatch.setitem(SCRIPT["main"].__globals__, "render_card", lambda ticket, name, beside="": f"new {beside}")
    cards[1].unlink()
    package("--render", "--root", copy)
    assert [card.read_text() for card in cards] == ["new ", f"new ../lottery_hub/packaged/{TOY}/"]
    assert before[0] != before[1]


@pytest.fixture
def place(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run / "ticket", tmp_path / "ticket"))


def refused(place: Path, name: str = TOY, **how: Any) -> str:
    with pytest.raises(TicketError) as problem:
        SCRIPT["contents"](place, name, **how)
    return str(problem.value)


@pytest.mark.parametrize("name", ["resnet18-slim-adv", "wide_resnet50_2-std", "../x", "a/b", "", "Mine", ".x"])
def test_a_name_that_means_something_else_is_refused(name: str, place: Path) -> None:
    assert "is no name for a ticket" in refused(place, name)


def test_what_is_not_ready_to_be_used_is_refused(place: Path, tmp_path: Path) -> None:
    bare: Ticket = replace(load_ticket(place), records={})
    assert "was never judged" in refused(save_ticket(bare, tmp_path / "bare"))
    assert "no figures by AutoAttack: find again with --checks" in refused(place)
    shutil.rmtree(place / "trained" / "ticket-standard-seed-0")
    assert "lacks the trained network ticket-standard-seed-0" in refused(place, checks=False)
    (place / "README.md").write_text("my own card")
    assert "was changed by hand" in refused(place, checks=False)
