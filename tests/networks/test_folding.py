"""The view of a network for passes in which nothing is learned: the same function, and the same gradient of images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lottery_hub.networks.backbones import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalised,
    build_network,
    fresh_weights,
)
from lottery_hub.networks.folding import Folded, _Conv, _Stem, folded
from lottery_hub.settings.speed import TRICKS

FOLDABLE = [name for name in TRICKS if name != "channels-last"]


def model_of(arch: str, seed: int = 0) -> Normalised:
    """A network whose BatchNorm has statistics, scales and shifts like a trained one's."""
    model = Normalised(build_network(arch, fresh_weights(arch, 10, seed)), IMAGENET_MEAN, IMAGENET_STD).eval()
    generator = torch.Generator().manual_seed(seed)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor, low, high in [
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 2.0),
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
        ]:
            assert tensor is not None
            with torch.no_grad():
                tensor.uniform_(low, high, generator=generator)
    return model


def images_of(count: int = 2, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def gradient(model: nn.Module, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    logits = model(images)
    return torch.autograd.grad(F.cross_entropy(logits, torch.arange(len(images)), reduction="sum"), images)[0]


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return float((a - b).detach().norm()) <= tolerance * float(b.detach().norm())


FAMILIES = ["resnet18-slim", "resnet18", "resnet18d", "resnet10t", "resnet50", "resnet50c", "resnet50s"]


@pytest.mark.parametrize(
    "arch", [arch if arch in FAMILIES else pytest.param(arch, marks=pytest.mark.slow) for arch in ARCHITECTURES]
)
def test_in_double_precision_logits_and_gradients_of_every_architecture_are_equal(arch: str) -> None:
    model, images = model_of(arch).double(), images_of().double()
    view = Folded(model, "float32")
    assert close(view(images), model(images), 1e-12)
    assert close(gradient(view, images), gradient(model, images), 1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in view.modules())


@pytest.mark.parametrize("side", [8, 16, 31, 48])
def test_every_size_of_image_does(side: int) -> None:
    model = model_of("resnet18")
    with torch.no_grad():
        assert close(Folded(model, "float32")(images_of(side=side)), model(images_of(side=side)), 1e-5)


def test_bfloat16_is_as_close_as_its_eight_bits() -> None:
    model = model_of("resnet18-slim")
    logits = Folded(model, "bfloat16")(images_of(8))
    assert logits.dtype == torch.float32
    with torch.no_grad():
        assert close(logits, model(images_of(8)), 0.05)


def test_it_is_as_the_model_was_when_it_was_last_refreshed() -> None:
    model, other = model_of("resnet18"), model_of("resnet18", seed=7)
    view = Folded(model, "float32")
    images = images_of()
    before = view(images)
    model.load_state_dict(other.state_dict())
    assert torch.equal(view(images), before)
    view.refresh()
    with torch.no_grad():
        assert close(view(images), other(images), 1e-5)


def test_the_model_itself_is_left_alone() -> None:
    model = model_of("resnet18-slim").train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    view = Folded(model, "bfloat16")
    gradient(view, images_of())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not any(parameter.requires_grad for parameter in view.parameters())


@pytest.mark.parametrize("trick", TRICKS)
def test_each_trick_can_be_switched_off(trick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = model_of("resnet18"), images_of()
    monkeypatch.setenv("LOTTERY_HUB_WITHOUT", trick)
    view = folded(model, "float32")
    assert (view is model) is (trick == "folding")
    with torch.no_grad():
        assert close(view(images), model(images), 1e-5)


def test_other_models_are_taken_as_they_are() -> None:
    other = nn.Flatten()
    assert folded(other, "float32") is other


def test_a_batchnorm_that_follows_no_convolution_is_an_error() -> None:
    network = nn.Sequential()
    network.add_module("bn", nn.BatchNorm2d(3))
    network.add_module("fc", nn.Linear(3, 2))
    with pytest.raises(TypeError, match="bn follows no convolution"):
        Folded(Normalised(network, IMAGENET_MEAN, IMAGENET_STD), "float32")


def arranged(kind: Callable[[nn.Conv2d], _Conv], conv: nn.Conv2d) -> _Conv:
    view = kind(conv)
    assert conv.bias is not None
    with torch.no_grad():
        view.take(conv.weight, conv.bias)
    return view


@settings(max_examples=30, deadline=None)
@given(height=st.integers(7, 20), width=st.integers(7, 20))
def test_the_stem_on_blocks_is_the_stem(height: int, width: int) -> None:
    conv = nn.Conv2d(3, 5, 7, 2, 3)
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        found, expected = arranged(_Stem, conv)(images), conv(images)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)
