"""Attacks against foolbox as an oracle, and against models whose worst case is known by hand."""

from __future__ import annotations

import foolbox
import pytest
import torch
from foolbox.attacks import (
    L2FastGradientAttack,
    L2ProjectedGradientDescentAttack,
    LinfFastGradientAttack,
    LinfProjectedGradientDescentAttack,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery_hub.robustness.attacks import cross_entropy, margin, perturb
from lottery_hub.settings.config import Attack


def small_network(dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
    return network.to(dtype).eval()


def images_and_labels(count=6, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator, dtype=dtype)
    return images, torch.arange(count) % 4


def run(network, attack, images, labels, seed=0):
    return perturb(network, images, labels, attack, torch.Generator().manual_seed(seed))


def test_without_a_generator_every_call_starts_at_the_same_points():
    network, (images, labels) = small_network(), images_and_labels()
    attack = Attack(eps=0.1, step_size=0.03, steps=2)
    found = perturb(network, images, labels, attack)
    assert torch.equal(found, perturb(network, images, labels, attack))
    assert torch.equal(found, run(network, attack, images, labels, seed=0))
    assert not torch.equal(found, run(network, attack, images, labels, seed=1))


@pytest.mark.parametrize(
    ("attack", "oracle"),
    [
        (
            Attack(eps=0.1, step_size=0.03, steps=10, random_start=False),
            LinfProjectedGradientDescentAttack(abs_stepsize=0.03, steps=10, random_start=False),
        ),
        (
            Attack(norm="l2", eps=0.7, step_size=0.2, steps=10, random_start=False),
            L2ProjectedGradientDescentAttack(abs_stepsize=0.2, steps=10, random_start=False),
        ),
        (Attack(method="fgsm", eps=0.1), LinfFastGradientAttack(random_start=False)),
        (Attack(method="fgsm", norm="l2", eps=0.9), L2FastGradientAttack(random_start=False)),
    ],
    ids=["pgd-linf", "pgd-l2", "fgsm-linf", "fgsm-l2"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_foolbox_finds_the_same_images(attack, oracle, dtype):
    network = small_network(dtype)
    images, labels = images_and_labels(dtype=dtype)
    ours = run(network, attack, images, labels)
    theirs, _, _ = oracle(foolbox.PyTorchModel(network, bounds=(0, 1)), images, labels, epsilons=attack.eps)
    assert (ours - images).abs().max() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-7)


class Linear(nn.Module):
    """Two classes; the logit of class 1 is w·x, so the gradient of the loss for label 0 points along w."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        score = (images * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def test_pgd_reaches_the_corner_that_is_the_worst_of_a_linear_model():
    weight = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1)
    image = torch.full((1, 3, 1, 1), 0.5)
    moved = run(Linear(weight), Attack(eps=0.1, step_size=0.05, steps=5), image, torch.tensor([0]))
    torch.testing.assert_close(moved, torch.tensor([0.6, 0.4, 0.6]).view(1, 3, 1, 1))


def test_l2_pgd_moves_along_the_gradient():
    weight = torch.tensor([3.0, 0.0, 4.0]).view(1, 3, 1, 1)
    image = torch.full((1, 3, 1, 1), 0.5)
    attack = Attack(norm="l2", eps=0.2, step_size=0.2, steps=3, random_start=False)
    moved = run(Linear(weight), attack, image, torch.tensor([0]))
    torch.testing.assert_close(moved, torch.tensor([0.62, 0.5, 0.66]).view(1, 3, 1, 1))


def test_n_fgsm_steps_eps_from_wide_noise_without_projecting_back():
    weight = torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    images = torch.full((400, 3, 1, 1), 0.5)
    moved = run(Linear(weight), Attack(method="n-fgsm", eps=0.1), images, torch.zeros(400, dtype=torch.int64))
    noise = moved - images - 0.1 * weight.sign()
    assert noise.abs().max() <= 0.2 + 1e-6
    assert noise.abs().max() > 0.19  # 2 eps wide, not eps
    assert (moved - images).abs().max() > 0.25  # and beyond the ball
    assert noise.mean().abs() < 0.02


def test_n_fgsm_stays_in_the_pixel_range():
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4).contiguous()
    moved = run(Linear(torch.ones(1, 3, 4, 4)), Attack(method="n-fgsm", eps=0.3), images, torch.tensor([0, 1]))
    assert moved.min() >= 0
    assert moved.max() <= 1


@settings(max_examples=30, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    method=st.sampled_from(["pgd", "fgsm"]),
    eps=st.floats(0.001, 0.9),
    steps=st.integers(1, 4),
    restarts=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_attacked_images_stay_in_the_ball_and_in_the_pixel_range(norm, method, eps, steps, restarts, seed):
    attack = Attack(
        norm=norm, method=method, eps=eps, step_size=eps, steps=steps if method == "pgd" else 1, restarts=restarts
    )
    images, labels = images_and_labels(count=3, seed=seed)
    moved = run(small_network(), attack, images, labels, seed)
    assert moved.min() >= 0
    assert moved.max() <= 1
    delta = (moved - images).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert bool((size <= eps * (1 + 1e-5) + 1e-6).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm):
    attack = Attack(norm=norm, eps=0.2, step_size=1e-9, steps=1)
    images = torch.full((300, 3, 2, 2), 0.5)
    labels = torch.zeros(300, dtype=torch.int64)
    delta = (run(Linear(torch.zeros(1, 3, 2, 2)), attack, images, labels) - images).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert size.max() <= 0.2 + 1e-6
    assert size.max() > 0.19
    assert size.min() < 0.18
    assert delta.mean().abs() < 0.01


def test_parameters_get_no_gradient_and_stay_trainable():
    network = small_network()
    network[0].bias.requires_grad_(False)
    run(network, Attack(eps=0.1, step_size=0.05, steps=2), *images_and_labels())
    assert all(parameter.grad is None for parameter in network.parameters())
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trainable == ["0.weight", "1.weight", "1.bias", "5.weight", "5.bias"]


def test_batch_norm_is_frozen_while_the_attack_runs_and_flags_come_back():
    network = small_network().train()
    network[5].eval()  # a layer that its user keeps in eval mode
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    run(network, Attack(eps=0.1, step_size=0.05, steps=2), *images_and_labels())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training
    assert network[0].training
    assert network[1].training
    assert not network[5].training


def test_flags_come_back_after_a_failure_too():
    network = small_network().train()
    network[1].eval()
    with pytest.raises(RuntimeError):
        run(network, Attack(eps=0.1, step_size=0.05), torch.rand(2, 5, 8, 8), torch.tensor([0, 1]))
    assert [module.training for module in network] == [True, False, True, True, True, True]
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_an_attack_works_inside_an_evaluation_loop_without_gradients():
    network = small_network()
    images, labels = images_and_labels()
    attack = Attack(eps=0.1, step_size=0.05, steps=2)
    with torch.no_grad():
        inside = run(network, attack, images, labels)
        assert not torch.is_grad_enabled()
    assert torch.equal(inside, run(network, attack, images, labels))
    assert not inside.requires_grad


def test_the_papers_batch_norm_mode_moves_the_statistics():
    network = small_network().train()
    before = network[1].running_mean.clone()
    run(network, Attack(eps=0.1, step_size=0.05, steps=2, batch_norm="train"), *images_and_labels())
    assert not torch.equal(before, network[1].running_mean)


def test_more_restarts_never_find_a_lower_loss():
    network = small_network()
    images, labels = images_and_labels(count=12)
    attack = Attack(eps=0.2, step_size=0.1, steps=1)

    def losses(restarts):
        moved = run(network, attack.changed(restarts=restarts), images, labels)
        return nn.functional.cross_entropy(network(moved), labels, reduction="none")

    one, five = losses(1), losses(5)
    assert bool((five >= one - 1e-6).all())
    assert bool((five > one + 1e-6).any())


def test_a_seed_decides_the_random_start():
    network = small_network()
    attack = Attack(eps=0.1, step_size=0.01, steps=1)
    images, labels = images_and_labels()
    first, again, other = (run(network, attack, images, labels, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_is_attacked_alike_alone_and_in_a_batch():
    network = small_network(torch.float64)
    images, labels = images_and_labels(dtype=torch.float64)
    attack = Attack(norm="l2", eps=0.5, step_size=0.1, steps=4, random_start=False)
    together = run(network, attack, images, labels)
    alone = run(network, attack, images[2:3], labels[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-12)


def test_no_radius_is_no_attack():
    images, labels = images_and_labels()
    moved = run(small_network(), Attack(eps=0.0), images, labels)
    assert torch.equal(moved, images)
    assert moved.data_ptr() != images.data_ptr()


def test_a_saturated_model_still_gives_finite_images():
    network = small_network()
    with torch.no_grad():
        network[5].weight.mul_(1e6)
    attack = Attack(norm="l2", eps=0.5, step_size=0.1, steps=2)
    assert run(network, attack, *images_and_labels()).isfinite().all()


def test_the_margin_is_the_lead_of_the_best_other_class_in_units_of_the_range():
    logits = torch.tensor([[3.0, 1.0, -1.0], [0.0, 2.0, 4.0]])
    labels = torch.tensor([0, 1])
    assert margin(logits, labels).tolist() == [-0.5, 0.5]
    for scale in (1e4, 1e-30, 1e30):
        assert torch.allclose(margin(scale * logits, labels), margin(logits, labels))
    assert margin(torch.zeros(1, 3), torch.tensor([0])).tolist() == [0.0]


@pytest.mark.parametrize("scale", [1e4, 1e-20])
def test_no_scale_of_the_logits_blinds_the_margin(scale):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images).argmax(1)
        for parameter in model.parameters():
            parameter.mul_(scale)
    attack = Attack(eps=0.1, step_size=0.025, steps=20)

    def withstood(loss):
        moved = perturb(model, images, labels, attack, torch.Generator().manual_seed(0), loss)
        with torch.no_grad():
            return int((model(moved).argmax(1) == labels).sum())

    assert withstood(margin) == 0
    if scale > 1:
        assert withstood(cross_entropy) > 10, "its gradients are zero"
