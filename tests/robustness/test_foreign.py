"""Attacks of others: foolbox's and torchattacks' measure as ours do, and what any function returns is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.networks.tickets import Ladder
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.robustness.foreign import ForeignAttack
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.sharing.pulling import Pulled
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.storage.records import check_ticket
from lottery_hub.training.transferring import transfer
from lottery_hub.verifying import verify

EPS = 0.02
OURS = Attack(eps=EPS, step_size=0.006, steps=5, random_start=False)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A small network, with a BatchNorm that would show it if an attack moved it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


@pytest.fixture(scope="module")
def images(model: nn.Module) -> Split:
    """Noise, labelled as the network sees it: all of it is right, and some withstands."""
    noise = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return Split(noise, model.eval()(noise / 255).argmax(1))


def foolbox_pgd(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    attack = foolbox.attacks.LinfPGD(abs_stepsize=OURS.step_size, steps=OURS.steps, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    found: Tensor = attack(wrapped, images, labels, epsilons=EPS)[1]
    return found


def torchattacks_pgd(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    torchattacks = pytest.importorskip(
        "torchattacks", reason="its pins on requests are too old to install it beside us"
    )
    attack = torchattacks.PGD(model, eps=EPS, alpha=OURS.step_size, steps=OURS.steps, random_start=False)
    found: Tensor = attack(images, labels)
    return found


@pytest.mark.parametrize("theirs", [foolbox_pgd, torchattacks_pgd])
def test_the_same_attack_by_others_breaks_the_same_images(
    theirs: Callable[..., Tensor], model: nn.Module, images: Split
) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured = evaluate(model, images, attack=ForeignAttack(theirs, "PGD", eps=EPS))
    expected = evaluate(model, images, attack=OURS)
    assert (measured.correct, measured.robust) == (expected.correct, expected.robust)
    assert 0 < expected.robust < expected.correct  # type: ignore[operator]
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def noise(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return (images + EPS * torch.randn_like(images)).clamp(0, 1)


def test_what_it_draws_follows_from_the_seed_and_nobody_else_notices(model: nn.Module, images: Split) -> None:
    seen: list[Tensor] = []

    def watched(*given: Any) -> Tensor:
        seen.append(noise(*given))
        return seen[-1]

    before = torch.random.get_rng_state()
    for seed in (3, 3, 4):
        evaluate(model, images, attack=watched, seed=seed)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_records_say_that_it_is_foreign_and_figures_cannot_be_verified(
    ladder: Ladder, tiny_data: Dataset, tmp_path: Any
) -> None:
    recipe = Recipe(epochs=1, batch_size=12, lr=0.02, augment="none", image_size=8)
    start = ladder.ticket(2)
    done = transfer(start, tiny_data, recipe, test_attack=noise)
    assert done.record["attack"] == "noise (foreign)"
    assert done.record["provenance"]["attack"] == {"foreign": "noise", "eps": None, "norm": None}
    place = save_ticket(done.ticket(start, tiny_data, recipe), tmp_path / "tuned")
    check_ticket(load_ticket(place))
    (figures,) = (finding for finding in verify(Pulled(place)) if finding.question == "figures")
    assert (figures.answer, figures.why) == ("cannot tell", "RA was measured by noise, an attack that is not ours")


def test_it_is_described_with_its_ball_where_one_is_promised() -> None:
    assert ForeignAttack(noise, "noise", eps=8 / 255).describe() == "noise (foreign) Linf eps 8/255"
    assert ForeignAttack(noise, "noise", eps=0.5, norm="l2").record() == {"foreign": "noise", "eps": 0.5, "norm": "l2"}
    assert ForeignAttack.of(lambda *given: given[1]).describe() == "unnamed (foreign)"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m, x, y: (x, x, y), r"returned a tuple, not images; foolbox returns \(raw, clipped, success\)"),
        (lambda m, x, y: x[:1], r"returned torch.float32 of shape \(1, 3, 8, 8\), not floats of shape"),
        (lambda m, x, y: (x * 255).byte(), "returned torch.uint8 of shape"),
        (lambda m, x, y: x * 255, r"returned pixels from 0 to 2\d\d; they have to lie in \[0,1\]"),
        (lambda m, x, y: x * torch.nan, "returned pixels from nan to nan"),
        (lambda m, x, y: 1 - x, "away in linf, and its eps is 0.02"),
    ],
    ids=["tuple", "shape", "bytes", "range", "nan", "eps"],
)
def test_what_it_returns_is_checked(call: Any, told: str, model: nn.Module, images: Split) -> None:
    with pytest.raises(ConfigError, match=told):
        evaluate(model, images, attack=ForeignAttack(call, "mine", eps=EPS))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((5, "mine"), r"an attack is a function \(model, images, labels\)"),
        ((noise, ""), "an attack needs a name for the records"),
        ((noise, "\x1b[2J"), "an attack needs a name for the records"),
        ((noise, "mine", -1.0), "eps -1.0 in linf is no radius"),
        ((noise, "mine", 1.0, "l7"), "eps 1.0 in l7 is no radius"),
    ],
)
def test_what_is_no_attack_is_refused(given: Any, told: str, model: nn.Module, images: Split) -> None:
    with pytest.raises(ConfigError, match=told):
        ForeignAttack(*given)
    with pytest.raises(ConfigError, match="pgd is no attack; give an Attack, or a function"):
        evaluate(model, images, attack="pgd")  # type: ignore[arg-type]
