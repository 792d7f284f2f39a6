"""Transfer: a fresh dense head, the same for dense and ticket, and a mask that holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Split
from lottery_hub.robustness.evaluation import Accuracy
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings.config import Attack, Recipe, Seeds
from lottery_hub.training import transferring
from lottery_hub.training.loop import train
from lottery_hub.training.transferring import transfer

SOURCES = ("head", "order", "attack")
ATTACK = Attack(eps=0.03, step_size=0.02, steps=2)
STANDARD = Recipe(epochs=1, batch_size=16, lr=0.02, augment="none", image_size=8)


def test_a_ticket_and_its_backbone_with_the_mask_transfer_alike(ladder, tiny_data):
    ticket = ladder.ticket(3)
    as_ticket = transfer(ticket, tiny_data, STANDARD, test_attack=ATTACK, seed=1)
    as_mask = transfer(ladder.backbone, tiny_data, STANDARD, test_attack=ATTACK, seed=1, mask=ladder.mask(3))
    assert all(torch.equal(as_ticket.weights[name], tensor) for name, tensor in as_mask.weights.items())
    assert as_ticket.accuracy == as_mask.accuracy


def test_the_ticket_stays_a_ticket_and_gets_a_head_for_the_classes(ladder, tiny_data):
    ticket = ladder.ticket(3)
    done = transfer(ticket, tiny_data, STANDARD, test_attack=None, seed=0)
    assert len(done.weights["fc.weight"]) == len(tiny_data.classes)
    assert all(bool((done.weights[name][~kept] == 0).all()) for name, kept in ticket.mask.items())


def test_dense_and_ticket_start_from_one_head_a_seed(ladder, tiny_data, monkeypatch):
    heads = []
    real = transferring.train

    def spy(model, *arguments, **named):
        heads.append(model.network.fc.weight.detach().clone())
        return real(model, *arguments, **named)

    monkeypatch.setattr(transferring, "train", spy)
    for start, seed in [(ladder.backbone, 1), (ladder.ticket(2), 1), (ladder.ticket(5), 1), (ladder.backbone, 2)]:
        transfer(start, tiny_data, STANDARD, test_attack=None, seed=seed)
    dense, ticket, sparser, other = heads
    assert torch.equal(dense, ticket)
    assert torch.equal(dense, sparser)
    assert not torch.equal(dense, other)
    assert bool((dense != 0).all())  # no mask on the head


def test_a_dense_transfer_keeps_every_weight_alive(ladder, tiny_data):
    done = transfer(ladder.backbone, tiny_data, STANDARD, test_attack=None)
    assert all(bool((done.weights[name] != 0).all()) for name in ladder.backbone.prunable)


@pytest.mark.parametrize(("answer", "right"), [(0, 0), (1, 12), (2, 0)])
def test_the_test_figures_are_those_of_the_chosen_epoch_and_not_of_the_last(
    ladder, tiny_data, monkeypatch, answer, right
):
    real = transferring.train

    def choose_one_that_always_says(model, *arguments, **named):
        trained = real(model, *arguments, **named)
        always = torch.nn.functional.one_hot(torch.tensor(answer), 3).float()
        head = {"fc.weight": torch.zeros_like(trained.weights["fc.weight"]), "fc.bias": always}
        return replace(trained, weights=trained.weights | head, epoch=7)

    monkeypatch.setattr(transferring, "train", choose_one_that_always_says)
    ones = replace(tiny_data, test=replace(tiny_data.test, labels=torch.ones_like(tiny_data.test.labels)))
    done = transfer(ladder.backbone, ones, STANDARD, test_attack=ATTACK)
    assert done.accuracy == Accuracy(samples=12, correct=right, robust=right)
    assert done.record["epoch"] == 7


def test_the_record_says_what_was_measured(ladder, tiny_data):
    adversarial = STANDARD.changed(attack=ATTACK)
    record = transfer(ladder.backbone, tiny_data, adversarial, test_attack=ATTACK, seed=5).record
    assert record["regime"] == "adversarial"
    assert record["seed"] == 5
    assert record["samples"] == len(tiny_data.test)
    assert record["attack"] == ATTACK.describe()
    assert record["SA"] == record["correct"] / record["samples"]
    assert 0 <= record["RA"] <= record["SA"]
    assert transfer(ladder.backbone, tiny_data, STANDARD, test_attack=None).record["RA"] is None


def test_the_record_holds_the_validation_split_measured_alike(ladder, tiny_data):
    record = transfer(ladder.backbone, tiny_data, STANDARD, test_attack=ATTACK).record
    held_out = record["validation"]
    assert held_out["samples"] == 9
    assert held_out["SA"] == held_out["correct"] / 9
    assert Outcomes.parse(held_out["outcomes"], 9).RA.sum() == held_out["robust"]


def test_head_order_and_attack_have_seeds_of_their_own(ladder, tiny_data, monkeypatch):
    adversarial = STANDARD.changed(attack=ATTACK, augment="crop")
    real, seen = transferring.train, []

    def spy(model, *arguments, **named):
        trained = real(model, *arguments, **named)
        seen.append((model.network.fc.weight.detach().clone(), trained.history[0]["loss"]))
        return trained

    monkeypatch.setattr(transferring, "train", spy)
    records = [
        transfer(ladder.backbone, tiny_data, adversarial, test_attack=None, seed=seeds).record
        for seeds in (0, Seeds(head=0, order=0, attack=0), *(Seeds.of(0).changed(**{name: 1}) for name in SOURCES))
    ]
    assert [record["seeds"] for record in records[1:]] == [
        {"head": 0, "order": 0, "attack": 0},
        {"head": 1, "order": 0, "attack": 0},
        {"head": 0, "order": 1, "attack": 0},
        {"head": 0, "order": 0, "attack": 1},
    ]
    plain, same, *others = seen
    assert torch.equal(plain[0], same[0])
    assert all(not torch.equal(plain[0], other[0]) for other in others)
    assert len({loss for _, loss in others}) == 3


def test_the_record_says_what_the_figures_depend_on(ladder, tiny_data):
    ticket = ladder.ticket(2)
    done = transfer(ticket, tiny_data, STANDARD, test_attack=ATTACK)
    about = done.record["provenance"]
    assert about["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert about["data"] == {"name": "stripes", "revision": None, "fingerprint": "sha256:stripes"}
    assert about["backbone"]["fingerprint"] == ladder.backbone.fingerprint()
    assert about["attack"] == ATTACK.record()
    assert about["batch_norm"] == "eval"
    assert about["seconds"] >= done.record["history"][0]["seconds"] > 0
    assert done.record["trained"] == done.ticket(ticket, tiny_data, STANDARD).fingerprint()
    dense = transfer(ladder.backbone, tiny_data, STANDARD, test_attack=None).record
    as_ticket = transfer(ladder.ticket(0), tiny_data, STANDARD, test_attack=None).record
    assert dense["trained"] == as_ticket["trained"]
    assert dense["provenance"]["backbone"] == as_ticket["provenance"]["backbone"]


def test_the_start_is_left_as_it_was(ladder, tiny_data):
    before = ladder.backbone.fingerprint()
    transfer(ladder.backbone, tiny_data, STANDARD, test_attack=None, mask=ladder.mask(2))
    assert ladder.backbone.fingerprint() == before


# What the caller's process has set


@contextmanager
def default_of(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "setting",
    [torch.no_grad, torch.inference_mode, lambda: default_of(torch.float64)],
    ids=["no_grad", "inference mode", "float64 as the default"],
)
@pytest.mark.parametrize(
    "augment", ["random-resized-crop", *(pytest.param(each, marks=pytest.mark.slow) for each in ("none", "crop-flip"))]
)
def test_a_transfer_is_the_same_whatever_the_caller_has_set(ladder, tiny_data, setting, augment):
    recipe = STANDARD.changed(attack=ATTACK, selection_attack=ATTACK, augment=augment, average=0.9)
    plain = transfer(ladder.ticket(3), tiny_data, recipe, test_attack=ATTACK)
    with setting():
        done = transfer(ladder.ticket(3), tiny_data, recipe, test_attack=ATTACK)
    assert all(torch.equal(plain.weights[name], tensor) for name, tensor in done.weights.items())
    assert done.accuracy == plain.accuracy


def test_tickets_and_images_that_were_made_in_inference_mode_can_be_transferred(ladder, tiny_data):
    recipe = STANDARD.changed(attack=ATTACK)
    with torch.inference_mode():
        splits = {
            name: Split(getattr(tiny_data, name).images.clone(), getattr(tiny_data, name).labels.clone())
            for name in ("train", "validation", "test")
        }
        ticket = ladder.ticket(3)
        ticket = replace(ticket, weights={name: tensor.clone() for name, tensor in ticket.weights.items()})
        done = transfer(ticket, replace(tiny_data, **splits), recipe, test_attack=ATTACK)
    assert done.accuracy == transfer(ladder.ticket(3), tiny_data, recipe, test_attack=ATTACK).accuracy


def test_a_model_that_was_made_in_inference_mode_cannot_learn_and_is_one_line(backbone, tiny_data):
    with torch.inference_mode():
        model = backbone.model(3)
    with pytest.raises(ConfigError, match="made in inference mode, and cannot be trained: build it outside"):
        train(model, tiny_data, STANDARD, seed=0)
