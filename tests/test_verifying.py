"""Verify: an honest ticket is verified, an edited one is not, and what cannot be told is said to be so."""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lottery_hub import verifying
from lottery_hub.errors import DataError
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging import lineage, remeasuring, scrutiny, workload
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.deciding import basis_of, decide_again
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.compacting import cost
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.sharing.pulling import Pulled
from lottery_hub.storage import files
from lottery_hub.storage.folder import load_ticket, save_ladder, save_ticket, trained_folders
from lottery_hub.training import retraining
from lottery_hub.training.transferring import transfer
from lottery_hub.verifying import Finding, verdict_of, verify
from tests.faults.remembering import remembering
from tests.judged import ATTACK, STANDARD

Answers = dict[str, str]


@pytest.fixture(autouse=True, scope="module")
def measured_once() -> Iterator[None]:
    with remembering():
        yield


@pytest.fixture
def place(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run / "ticket", tmp_path / "ticket"))


@pytest.fixture
def lean(place: Path) -> Path:
    """The same without its trained networks, for questions that they do not answer."""
    shutil.rmtree(place / "trained")
    return place


@pytest.fixture(autouse=True)
def images(tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "images_of", lambda ticket, dataset, **how: tiny_data)
    monkeypatch.setattr(verifying.secrets, "randbelow", lambda below: 7)  # what was measured is measured alike again
    for module in (remeasuring, retraining):
        monkeypatch.setattr(module, "LEAST", 5)  # of twelve images


def findings(place: Path, **settings: Any) -> dict[str, Finding]:
    return {finding.question: finding for finding in verify(Pulled(place), **settings)}


def answers(place: Path, **settings: Any) -> Answers:
    return {question: finding.answer for question, finding in findings(place, **settings).items()}


def why(place: Path, question: str, **settings: Any) -> str:
    return findings(place, **settings)[question].why


SEEN = dict.fromkeys(["files", "records", "card", "drawing", "networks", "figures", "masking"], "verified")
HONEST = SEEN | {"others": "cannot tell"}


# Honest ones


def test_a_find_is_verified_with_its_ladder(run: Path, place: Path) -> None:
    found = findings(place, ladder=run / "ladder")
    assert {question: finding.answer for question, finding in found.items()} == HONEST
    assert "at most 0 came out otherwise" in found["figures"].why


def test_without_its_ladder_the_drawing_cannot_be_told(place: Path) -> None:
    found = findings(place)
    expected = HONEST | {"drawing": "cannot tell", "networks": "cannot tell"}
    assert {question: finding.answer for question, finding in found.items()} == expected
    assert "whether dense was the whole backbone" in found["networks"].why


def test_without_the_trained_networks_the_figures_cannot_be_told_unless_it_is_trained_again(
    run: Path, lean: Path
) -> None:
    figures = findings(lean)["figures"]
    assert figures.answer == "cannot tell"
    assert "--rerun" in figures.why
    again = findings(lean, ladder=run / "ladder", rerun=True)
    assert (again["networks"].answer, again["training"].answer) == ("cannot tell", "verified")
    assert "largest difference is 0.00%" in again["training"].why
    assert answers(lean, rerun=True)["training"] == "cannot tell", "dense cannot be trained without its weights"


def test_some_networks_are_better_than_none(place: Path) -> None:
    shutil.rmtree(place / "trained" / "dense-standard-seed-1")
    found = findings(place)
    assert found["networks"].answer == "cannot tell"
    assert "1 of 8 trained networks are not there" in found["networks"].why
    assert found["figures"].answer == "verified"


def test_a_sample_is_measured_on_the_same_images_as_recorded(place: Path) -> None:
    assert "on 5 of 12 test images and 5 of 9 validation images" in why(place, "figures", sample=5)
    assert "on 12 of 12 test images and 9 of 9 validation images" in why(place, "figures", sample=13)


def test_which_images_are_sampled_is_not_known_beforehand(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([1, 2, 3])
    monkeypatch.setattr(verifying.secrets, "randbelow", lambda below: next(drawn))
    seen = []
    monkeypatch.setattr(
        remeasuring, "sampled_rows", lambda total, count, seed: seen.append(seed) or torch.arange(count)
    )
    verify(Pulled(place), sample=5)
    assert set(seen) == {1}
    verify(Pulled(place), sample=5, seed=7)
    assert set(seen) == {1, 7}


def test_a_verdict_that_hangs_by_the_images_that_may_move_is_decided_by_what_was_measured(run: Path) -> None:
    ticket = load_ticket(run)
    assert remeasuring.judged_again(ticket, {}) == ""
    other = {"double_win": not ticket.records["double_win"]}
    other["answer"] = "double win" if other["double_win"] else "no double win"
    turned = replace(ticket, records=ticket.records | other)
    assert "by what was measured here the verdict is" in remeasuring.judged_again(turned, {})
    right = Outcomes(np.ones(12, bool), np.ones(12, bool))
    held = Outcomes(np.ones(9, bool), np.ones(9, bool))
    seen = {
        f"dense-{regime}-seed-{seed}": {"test": right, "validation": held}
        for regime in ("standard", "adversarial")
        for seed in (0, 1)
    }
    assert remeasuring.judged_again(replace(ticket, records=ticket.records | {"double_win": True}), seen)


@pytest.mark.slow
def test_a_few_images_cannot_tell(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remeasuring, "LEAST", 6)
    assert answers(place, sample=5)["figures"] == "cannot tell"
    assert answers(place, sample=6)["figures"] == "verified"
    monkeypatch.setattr(remeasuring, "LEAST", 13)
    assert (answers(place)["figures"], answers(place)["masking"]) == ("cannot tell", "cannot tell")


def test_a_ticket_without_records_and_a_ladder_have_no_figures_to_verify(ladder: Ladder, tmp_path: Path) -> None:
    bare = save_ticket(ladder.ticket(2), tmp_path / "bare")
    assert answers(bare) == {"files": "verified", "figures": "cannot tell"}
    whole = save_ladder(ladder, tmp_path / "ladder")
    assert answers(whole) == {"files": "verified", "drawing": "verified", "figures": "cannot tell"}


def test_a_fine_tuned_ticket_is_measured_itself(ladder: Ladder, tiny_data: Dataset, tmp_path: Path) -> None:
    start = ladder.ticket(2)
    tuned = transfer(start, tiny_data, STANDARD, test_attack=ATTACK, seed=4).ticket(start, tiny_data, STANDARD)
    place = save_ticket(tuned, tmp_path / "tuned", render_card(tuned))
    ladder_folder = save_ladder(ladder, tmp_path / "ladder")
    assert answers(place, ladder=ladder_folder) == SEEN
    assert answers(place)["networks"] == "cannot tell", "nobody knows what it was trained from"
    forged = copy.deepcopy(tuned.records)
    bits = np.ones(12, bool)
    forged["transfer"] |= counted(bits, bits)
    save_ticket(replace(tuned, records=forged), place, render_card(replace(tuned, records=forged)))
    assert answers(place, ladder=ladder_folder)["figures"] == "not verified"


def test_ones_own_images_lead_nowhere_and_can_be_given(
    ladder: Ladder, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "images_of", scrutiny.images_of)
    splits = {name: getattr(tiny_data, name) for name in ("train", "validation", "test")}
    own = Dataset.of({name: (split.images, split.labels) for name, split in splits.items()})
    ticket = ladder.ticket(2)
    done = transfer(ticket, own, STANDARD, test_attack=None)
    place = save_ticket(done.ticket(ticket, own, STANDARD), tmp_path / "tuned")
    figures = findings(place)["figures"]
    assert "own-images, which is no dataset to be fetched" in figures.why
    assert figures.answer == "cannot tell"
    assert answers(place, dataset=own)["figures"] == "verified"
    other = Dataset.of(own.train.images, own.train.labels)
    assert "own-images holds other images" in why(place, "figures", dataset=other)


# One bit or one figure, and the hashes left as they were


@pytest.mark.parametrize("name", ["results.json", "ticket.safetensors", "trained/ticket-standard-seed-0/results.json"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_one_bit_of_a_file_is_noticed(run: Path, place: Path, name: str, share: float) -> None:
    data = bytearray((place / name).read_bytes())
    data[int(share * len(data))] ^= 1
    (place / name).write_bytes(data)
    assert verdict_of(verify(Pulled(place), ladder=run / "ladder")) == "not verified"


# The same, with hashes that fit again


def forge(place: Path, change: Callable[[Ticket], Ticket], card: str | None = None) -> None:
    """Save a changed ticket in place of the old one: all hashes fit, the card and the networks are the old ones."""
    ticket = change(load_ticket(place))
    old = (place / "README.md").read_text(encoding="utf-8")
    save_ticket(ticket, place, card or old, trained=trained_folders(place), overwrite=True)


def with_figure(path: tuple[Any, ...], new: Any) -> Callable[[Ticket], Ticket]:
    def change(ticket: Ticket) -> Ticket:
        records = copy.deepcopy(ticket.records)
        inside = records
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = new
        return replace(ticket, records=records)

    return change


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("levels", 0, "adversarial", "RA"), 0.99),
        (("levels", 0, "figures", 3, "ticket"), 0.99),
        (("dense", "adversarial", "RA"), 0.01),
        (("transfers", 2, "RA"), 0.25),
        (("transfers", 2, "robust"), 3),
        (("samples",), 10_000),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_one_figure_of_the_records_is_noticed_though_the_hashes_fit(
    place: Path, path: tuple[Any, ...], new: Any
) -> None:
    forge(place, with_figure(path, new))
    found = answers(place)
    assert found["files"] == "verified"
    assert found["records"] == "not verified"
    assert "figures" not in found, "there is nothing left to compare with"


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("transfers", 0, "history", 0, "loss"), 0.001),
        (("environment", "hardware"), "a bigger machine"),
        (("transfers", 1, "provenance", "seconds"), 1.0),
    ],
    ids=str,
)
def test_what_no_figure_follows_from_is_noticed_by_the_card(lean: Path, path: tuple[Any, ...], new: Any) -> None:
    forge(lean, with_figure(path, new))
    found = answers(lean)
    assert (found["records"], found["card"]) == ("verified", "not verified")


def last_bit(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose first kept value has another last bit."""
    bits = tensor.clone().view(torch.int32).flatten()
    place = int(bits.nonzero()[0])
    bits[place] ^= 1
    return bits.view(torch.float32).view(tensor.shape)


def test_one_bit_of_a_weight_is_noticed_though_the_hashes_fit(run: Path, place: Path) -> None:
    name = "layer2.0.conv1.weight"
    forge(place, lambda ticket: replace(ticket, weights=ticket.weights | {name: last_bit(ticket.weights[name])}))
    found = answers(place, ladder=run / "ladder")
    assert (found["files"], found["records"], found["drawing"]) == ("verified", "not verified", "not verified")


def test_an_imported_ticket_does_not_know_how_it_was_drawn(run: Path, lean: Path) -> None:
    forge(lean, lambda ticket: replace(ticket, provenance=ticket.provenance | {"imported": "the masks of a file"}))
    assert answers(lean, ladder=run / "ladder")["drawing"] == "cannot tell"


def test_a_mask_that_was_moved_by_one_weight_is_noticed_though_the_hashes_fit(run: Path, lean: Path) -> None:
    def change(ticket: Ticket) -> Ticket:
        name = "layer2.0.conv1.weight"
        kept, values = ticket.mask[name].clone().flatten(), ticket.weights[name].clone().flatten()
        here, there = int(kept.nonzero()[0]), int((~kept).nonzero()[0])
        kept[here], kept[there] = False, True
        values[there], values[here] = values[here].clone(), 0.0
        shape = ticket.mask[name].shape
        return replace(
            ticket,
            mask=ticket.mask | {name: kept.view(shape)},
            weights=ticket.weights | {name: values.view(shape)},
        )

    forge(lean, change)
    assert answers(lean, ladder=run / "ladder")["drawing"] == "not verified"
    assert answers(lean)["records"] == "not verified"


def test_one_bit_of_a_trained_network_is_noticed_though_the_hashes_fit(place: Path) -> None:
    folder = place / "trained" / "ticket-adversarial-seed-0"
    network = load_ticket(folder)
    save_ticket(
        replace(network, weights=network.weights | {"fc.weight": last_bit(network.weights["fc.weight"])}), folder
    )
    networks = findings(place)["networks"]
    assert networks.answer == "not verified"
    assert "ticket-adversarial-seed-0" in networks.why


def test_networks_in_each_others_place_are_noticed(place: Path) -> None:
    one, other = (place / "trained" / f"ticket-standard-seed-{seed}" for seed in (0, 1))
    one.rename(place / "passing")
    other.rename(one)
    (place / "passing").rename(other)
    assert answers(place)["networks"] == "not verified"


def test_a_network_under_another_mask_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = trained_folders(place)["dense-standard-seed-0"]
    shutil.rmtree(place / "trained" / "ticket-standard-seed-0")
    shutil.copytree(dense, place / "trained" / "ticket-standard-seed-0")
    named = load_ticket(dense).fingerprint()
    records = copy.deepcopy(load_ticket(place).records)
    for record in records["transfers"]:
        if (record["regime"], record["seed"]) == ("standard", 0):
            record["trained"] = named
    forge(place, lambda ticket: replace(ticket, records=records))
    told_alike(place, load_ticket(place))
    assert "the mask of ticket-standard-seed-0 is not that of the ticket" in why(place, "networks")


# What is asked of whoever verifies


def with_records(place: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    records = copy.deepcopy(load_ticket(place).records)
    change(records)
    forge(place, lambda ticket: replace(ticket, records=records))


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records.update(levels=records["levels"][:1] * 100),
        lambda records: records.update(transfers={}),
        lambda records: records["plan"]["transfer"]["test_attack"].update(steps=10**8),
        lambda records: records["data"].update(classes=0),
        lambda records: records.update(dense=None),
    ],
    ids=["one level 100 times", "no list", "10^8 steps", "no classes", "no figures"],
)
def test_records_that_nobody_writes_are_not_verified_and_nothing_else_is_asked(
    place: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    with_records(place, change)
    found = findings(place)
    answered = {question: finding.answer for question, finding in found.items()}
    assert answered == {"files": "verified", "records": "not verified"}
    assert found["records"].why.startswith("results.json: ")


def test_a_ladder_whose_records_are_malformed_is_not_verified(ladder: Ladder, tmp_path: Path) -> None:
    odd = save_ladder(replace(ladder, drawing=ladder.drawing | {"prune_fraction": "x"}), tmp_path / "ladder")
    assert answers(odd) == {"files": "verified", "records": "not verified"}
    bare = save_ticket(replace(ladder.ticket(2), provenance={"backbone": []}), tmp_path / "ticket")
    assert answers(bare) == {"files": "verified", "records": "not verified"}


def test_a_network_whose_own_records_are_malformed_is_not_measured(place: Path) -> None:
    folder = place / "trained" / "ticket-standard-seed-0"
    network = load_ticket(folder)
    recipe = network.records["recipe"] | {"image_size": 4096}
    save_ticket(replace(network, records=network.records | {"recipe": recipe}), folder)
    found = findings(place)
    assert (found["networks"].answer, found.get("figures")) == ("not verified", None)
    assert "recipe.image_size" in found["networks"].why


def test_more_work_than_anybody_would_start_is_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_image = 8 * 4 * cost(load_ticket(place).to_model(), 8).macs  # networks; clean, and a step there and back
    monkeypatch.setattr(workload, "LIMIT", 11 * one_image)
    figures = findings(place)["figures"]
    assert figures.answer == "cannot tell"
    assert "add --long, or less with --sample" in figures.why
    assert answers(place, long=True)["figures"] == "verified"
    assert answers(place, sample=5)["figures"] == "verified", "less is asked of fewer images"


def test_images_that_take_more_memory_than_anybody_would_give_are_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = load_ticket(place).records["data"]
    size = 3 * about["image_size"] ** 2 * (about["train"] + about["validation"] + about["test"])
    monkeypatch.setattr(workload, "MOST_PIXELS", size - 1)
    figures = findings(place)["figures"]
    assert figures.answer == "cannot tell"
    assert f"its images take {size:,} bytes of memory" in figures.why
    monkeypatch.setattr(workload, "MOST_PIXELS", size)
    assert answers(place)["figures"] == "verified"


@pytest.mark.parametrize(
    "card", [b"\xff\xfe", b"# x" * 2**21, None], ids=["not UTF-8", "larger than a card may be", "a folder"]
)
def test_what_is_no_card_is_not_verified(lean: Path, card: bytes | None) -> None:
    (lean / "README.md").unlink()
    if card is None:
        (lean / "README.md").mkdir()
    else:
        (lean / "README.md").write_bytes(card)
    assert answers(lean)["card"] == "not verified"


def test_a_pipe_in_the_place_of_a_card_is_not_waited_for(lean: Path) -> None:
    (lean / "README.md").unlink()
    os.mkfifo(lean / "README.md")
    assert answers(lean)["card"] == "not verified"


# A lie that is told everywhere


def counted(right: Any, withstood: Any) -> dict[str, Any]:
    count, robust = int(right.sum()), int(withstood.sum())
    return {
        "correct": count,
        "robust": robust,
        "SA": count / len(right),
        "RA": robust / len(right),
        "outcomes": Outcomes(right, withstood).record(),
    }


def raised(ticket: Ticket) -> Ticket:
    """Return a ticket whose adversarial RA is 1 in every place where that can be said."""
    records = copy.deepcopy(ticket.records)
    everything = np.ones(records["samples"], bool)
    for record in records["transfers"]:
        if record["ticket"] == level_name(ticket.level) and record["regime"] == "adversarial":
            record.update(counted(everything, everything))

    edited = replace(ticket, records=records)
    records |= decide_again(basis_of(edited), edited)
    return replace(ticket, records=records)


def test_figures_that_are_forged_consistently_are_caught_by_measuring_again(place: Path, run: Path) -> None:
    lie = raised(load_ticket(place))
    assert contradictions(lie) == []
    forge(place, lambda ticket: lie, render_card(lie))
    networks = findings(place, ladder=run / "ladder")["networks"]
    assert networks.answer == "not verified"
    assert "the records of ticket-adversarial-seed-0 by itself are not those" in networks.why
    told_alike(place, lie)
    found = findings(place, ladder=run / "ladder")
    assert (found["networks"].answer, found["figures"].answer) == ("verified", "not verified")
    assert "100.00% recorded" in found["figures"].why


def told_alike(place: Path, lie: Ticket) -> None:
    """Write the records of the trained networks by themselves as those of the verdict."""
    for name, folder in trained_folders(place).items():
        network = load_ticket(folder)
        record = {
            key: value for key, value in lineage.record_of(lie, name).items() if key not in ("ticket", "sparsity")
        }
        save_ticket(replace(network, records=network.records | {"transfer": record}), folder)


def test_figures_that_are_forged_consistently_are_caught_by_training_again(place: Path, run: Path) -> None:
    lie = raised(load_ticket(place))
    forge(place, lambda ticket: lie, render_card(lie))
    shutil.rmtree(place / "trained")
    found = verify(Pulled(place), ladder=run / "ladder", rerun=True)[-1]
    assert found.answer == "not verified"
    assert found.question == "training"
    assert found.why.startswith("SA of ticket, adversarial transfer, on test images: 100.00% recorded")


# Cards


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("| adversarial | RA |", "| adversarial | RA | 99.00 % |", "not verified"),
        ("    value: ", "    value: 1", "not verified"),
        ("`results.json`, sha256 ", "`results.json`, sha256 0", "not verified"),
        ("## Limits", "## Limits\n\nNone, trust us.", "verified"),
    ],
    ids=["a table", "the metadata", "the digest", "words"],
)
def test_a_card_may_say_more_than_the_records_and_not_otherwise(lean: Path, old: str, new: str, answer: str) -> None:
    card = (lean / "README.md").read_text(encoding="utf-8")
    assert old in card
    (lean / "README.md").write_text(card.replace(old, new, 1), encoding="utf-8")
    assert answers(lean)["card"] == answer


def test_without_a_card_there_is_nothing_to_compare(lean: Path) -> None:
    (lean / "README.md").unlink()
    assert answers(lean)["card"] == "cannot tell"


def test_the_card_of_a_repository_is_that_of_its_records(lean: Path) -> None:
    card = render_card(load_ticket(lean), "alice/net", timm=True)
    (lean / "README.md").write_text(card, encoding="utf-8")
    found = verify(Pulled(lean, "alice/net", "0" * 40))
    assert next(each.why for each in found if each.question == "card") == "it says what the records say, to the letter"


# What cannot be told


def test_other_images_cannot_tell_anything(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(ticket: Ticket, dataset: str | None, **how: Any) -> Dataset:
        raise DataError("stripes is not a dataset")

    monkeypatch.setattr(verifying, "images_of", gone)
    figures = findings(place)["figures"]
    assert figures.answer == "cannot tell"
    assert "say where the images are with --dataset" in figures.why


def test_the_worst_answer_is_the_verdict() -> None:
    def of(*given: Any) -> str:
        return verdict_of([Finding("files", answer, "") for answer in given])

    assert of("verified", "verified") == "verified"
    assert of("verified", "cannot tell") == "cannot tell"
    assert of("cannot tell", "not verified", "verified") == "not verified"


def test_names_of_strangers_do_not_reach_the_terminal(place: Path) -> None:
    config = files.read_json(place / "config.json")
    config["lottery_hub"]["library"] = "0.0.1\x1b[31m"
    (place / "config.json").write_text(json.dumps(config))
    for finding in verify(Pulled(place)):
        assert "\x1b" not in finding.why


def test_outcomes_of_another_length_are_one_line(place: Path) -> None:
    text = base64.b64encode(b"\xff" * 40).decode()
    forge(place, with_figure(("transfers", 0, "outcomes", "SA"), text))
    assert "the outcomes of a transfer are not of 12 images" in why(place, "records")
