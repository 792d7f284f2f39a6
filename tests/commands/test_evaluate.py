"""`evaluate` in Python: whatever the network is, and whatever the images are."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import lottery_hub as lh
from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder


class Columns(nn.Module):
    """Knows the stripes: the brightest of three columns is the class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, :, [1, 3, 5]].mean(dim=(1, 2))


def test_any_model_of_pixels_is_measured_on_a_dataset_or_a_split(tiny_data: Dataset) -> None:
    for images in (tiny_data, tiny_data.test):
        done = lh.evaluate(Columns(), images, attack="pgd-2", eps="8/255", device="cpu")
        assert (done.SA, done.RA, done.of) == (1.0, 1.0, 12)
        assert done.attack == "PGD-2 Linf eps 8/255 step 0.02092"
    blinded = lh.evaluate(Columns(), tiny_data, attack=lh.Attack(eps=1.0, step_size=1.0), device="cpu")
    assert blinded.RA == 0.0
    assert repr(blinded) == ("Evaluated(stripes: SA 100.00 %, RA 0.00 % by PGD-1 Linf eps 1 step 1, 12 test images)")


def grey(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.full_like(images, 0.5)


def test_an_attack_may_be_any_function_and_is_held_to_a_radius_that_is_given(tiny_data: Dataset) -> None:
    done = lh.evaluate(Columns(), tiny_data, attack=grey, device="cpu")
    assert (done.SA, done.RA, done.attack) == (1.0, 4 / 12, "grey (foreign)")  # grey is class 0, as a third of them are
    named = lh.evaluate(Columns(), tiny_data, attack=lh.ForeignAttack(grey, "Grey", eps=1.0), device="cpu")
    assert named.attack == "Grey (foreign) Linf eps 1"
    with pytest.raises(
        ConfigError, match=r"the attack grey returned an image 0.5 away in linf, and its eps is 0.03137"
    ):
        lh.evaluate(Columns(), tiny_data, attack=grey, eps="8/255", device="cpu")


class Blind(nn.Module):
    """Sees the last column only: what misleads `Columns` elsewhere, it does not notice."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        last = images[:, :, :, 5].mean(dim=(1, 2))
        return torch.stack([0.5 - last, torch.full_like(last, -9), last - 0.5], 1)


def test_adversarial_images_of_another_network_are_the_figure_of_a_black_box(tiny_data: Dataset) -> None:
    attack = lh.Attack(method="fgsm", eps=1.0)
    own = lh.evaluate(Columns(), tiny_data, attack=attack, device="cpu")
    again = lh.evaluate(Columns(), tiny_data, attack=attack, transfer_from=Columns(), device="cpu")
    assert (own.RA, again.RA, again.SA) == (0.0, 0.0, 1.0)
    # Blind tells right from left by one column: its images have all or nothing there, and mislead only about those two.
    other = lh.evaluate(Columns(), tiny_data, attack=attack, transfer_from=Blind(), device="cpu")
    assert other.RA == 4 / 12
    assert other.attack == "FGSM Linf eps 1 on Blind, given in Python (black box)"
    assert other.record()["transfer_from"] == "Blind, given in Python"
    assert "transfer_from" not in own.record()


def test_what_cannot_be_attacked_in_anothers_place_is_one_line(backbone: Backbone, tiny_data: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"^images of another network are made by an attack: give one"):
        lh.evaluate(Columns(), tiny_data, attack=None, transfer_from=Blind(), device="cpu")
    with pytest.raises(TicketError, match=r"^its head has 5 classes and stripes has 3"):
        lh.evaluate(Columns(), tiny_data, transfer_from=backbone, device="cpu")


def test_some_images_will_do(tiny_data: Dataset) -> None:
    done = lh.evaluate(Columns(), tiny_data, attack=None, samples=5, seed=3, device="cpu")
    assert (done.accuracy.samples, done.of, done.RA, done.attack) == (5, 12, None, None)
    assert json.loads(json.dumps(done.record())) == {
        "dataset": "stripes", "network": "Columns, given in Python", "notes": [], "attack": None, "seed": 3, "of": 12,
        "SA": 1.0, "RA": None, "correct": 5, "robust": None, "samples": 5,
    }  # fmt: skip


def test_what_cannot_be_measured_is_one_line(backbone: Backbone, ladder: Ladder, tiny_data: Dataset) -> None:
    with pytest.raises(TicketError, match=r"^its head has 5 classes and stripes has 3; fine-tune it first: "):
        lh.evaluate(ladder.ticket(1), tiny_data, device="cpu")
    with pytest.raises(TicketError, match=r"^its head has 5 classes and stripes has 3"):
        lh.evaluate(backbone, tiny_data, device="cpu")
    with pytest.raises(ConfigError, match=r"^a int is nothing to evaluate; give a ticket, a backbone or a model$"):
        lh.evaluate(5, tiny_data, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^unknown norm 'l3'; choose linf, l2, l1$"):
        lh.evaluate(Columns(), tiny_data, norm="l3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="default radius is for Linf"):
        lh.evaluate(Columns(), tiny_data, norm="l2")
