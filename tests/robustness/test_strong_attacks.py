"""Attacks for measuring: what the original algorithm finds, inside the ball, and blind to no masked gradient."""

from __future__ import annotations

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.robustness.attacks import perturb
from lottery_hub.settings.config import Attack
from lottery_hub.settings.presets import named_attack, pgd

EPS = 0.1


def network(classes: int = 10, scale: float = 1.0) -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                self.inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(images) * scale
            return logits

    return Scaled().eval()


def images_of(model: nn.Module, count: int = 6) -> tuple[Tensor, Tensor]:
    """Random images, labelled as the model sees them."""
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return images, model(images).argmax(1)


def withstood(model: nn.Module, attack: Attack) -> Tensor:
    images, labels = images_of(model)
    moved = perturb(model, images, labels, attack, torch.Generator().manual_seed(0))
    if attack.norm == "linf":
        assert (moved - images).abs().max() <= attack.eps + 1e-6
    else:
        order = {"l2": 2, "l1": 1}[attack.norm]
        assert (moved - images).flatten(1).norm(order, dim=1).max() <= attack.eps + 1e-4
    assert 0 <= moved.min() <= moved.max() <= 1
    with torch.no_grad():
        return model(moved).argmax(1) == labels


@pytest.mark.parametrize(
    ("norm", "eps"),
    [("linf", 0.02), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("l2", 0.12), ("l1", 0.75)))],
)
def test_autoattack_breaks_what_the_standard_version_breaks(norm: str, eps: float) -> None:
    model = network()
    images, labels = images_of(model)
    ours = withstood(model, Attack.parse({"method": "autoattack", "norm": norm, "eps": eps}))
    original = AutoAttack(
        model, norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], eps=eps, seed=1, version="standard"
    )
    broken, _ = original.run_standard_evaluation(images, labels, batch_size=len(images))
    with torch.no_grad():
        theirs = model(broken).argmax(1) == labels
    assert ours.tolist() == theirs.tolist()
    assert 0 < int(ours.sum()) < len(ours), "some withstand and some do not"
    if norm != "l1":
        weaker = withstood(model, pgd(20, eps).changed(norm=norm))
        assert int(weaker.sum()) >= int(ours.sum()), "PGD's RA is never the lower one"


@pytest.mark.slow
def test_a_part_alone_is_no_stronger_than_the_whole() -> None:
    model = network()
    together = withstood(model, Attack(method="autoattack", eps=0.02))
    for name, steps in {"apgd-ce": 100, "apgd-dlr": 100, "square": 500}.items():
        alone = withstood(model, Attack.parse({"method": name, "eps": 0.02, "steps": steps}))
        assert bool((alone | ~together).all()), name
        assert not bool(alone.all()), name


def test_scaled_logits_fool_pgd_and_not_apgd_with_its_scale_free_loss() -> None:
    honest, masked = network(), network(scale=1e4)
    dlr = Attack(method="apgd-dlr", eps=EPS, steps=20)
    assert not withstood(honest, pgd(20, EPS)).any()
    assert withstood(masked, pgd(20, EPS)).sum() > 4, "its gradients are zero"
    assert not withstood(masked, dlr).any()


def test_the_random_numbers_of_the_caller_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    withstood(network(), Attack(method="square", eps=EPS, steps=5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_same_generator_gives_the_same_images() -> None:
    model = network()
    images, labels = images_of(model)
    attack = Attack(method="square", eps=0.02, steps=20)
    one, same, other = (
        perturb(model, images, labels, attack, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_of_few_classes_autoattack_is_its_parts_that_there_are_and_says_so(classes: int) -> None:
    model = network(classes)
    images, labels = images_of(model)
    attack = Attack(method="autoattack", eps=0.02)
    ours = withstood(model, attack)
    original = AutoAttack(model, norm="Linf", eps=0.02, seed=1, version="custom", attacks=["apgd-ce", "square"])
    broken, _ = original.run_standard_evaluation(images, labels, batch_size=len(images))
    with torch.no_grad():
        theirs = model(broken).argmax(1) == labels
    assert ours.tolist() == theirs.tolist()
    assert 0 < int(ours.sum()) < len(ours), "some withstand and some do not"
    assert attack.describe(classes) == "AutoAttack without its targeted parts (APGD-CE, Square) Linf eps 0.02"
    assert attack.describe(4) == attack.describe() == "AutoAttack Linf eps 0.02"


def test_too_few_classes_for_the_dlr_loss_are_told() -> None:
    with pytest.raises(ConfigError, match="needs four classes or more, there are 3; use autoattack, pgd or square"):
        withstood(network(3), Attack(method="apgd-dlr", eps=EPS))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pgd-20", "PGD-20 Linf eps 8/255 step 2/255"),
        ("apgd-ce", "APGD-CE-100 Linf eps 8/255"),
        ("square", "SQUARE-5000 Linf eps 8/255"),
        ("autoattack", "AutoAttack Linf eps 8/255"),
    ],
)
def test_an_attack_has_a_name(name: str, words: str) -> None:
    attack = named_attack(name, 8 / 255, "linf")
    assert attack is not None
    assert attack.describe() == words


@pytest.mark.parametrize("name", ["pgd", "pgd-0", "pgd-x", "cw", "\x1b[31m"])
def test_an_attack_without_a_name_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="choose pgd-20, apgd-ce, apgd-dlr, square, autoattack or none"):
        named_attack(name, 8 / 255, "linf")
