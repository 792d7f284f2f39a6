"""Backbones: every allowed network is timm's own, weights fit exactly or not at all, and heads come from seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision

from lottery_hub.errors import BackboneError
from lottery_hub.networks.backbones import (
    ARCHITECTURES,
    DEFAULT_ARCH,
    Backbone,
    Normalised,
    Weights,
    build_network,
    check_arch,
    fingerprint,
    fresh_weights,
    skeleton,
    with_fresh_head,
)
from lottery_hub.networks.masks import kept_and_total

SLIM = "resnet18-slim"


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


# Architectures


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_skeleton_has_timms_names_and_shapes_and_no_memory(arch: str) -> None:
    timm_name, arguments = ARCHITECTURES[arch]
    network = skeleton(arch, 7)
    with torch.device("meta"):
        theirs = timm.create_model(timm_name, pretrained=False, num_classes=7, **arguments)
    assert shapes(network) == shapes(theirs)
    assert list(network.state_dict()) == list(theirs.state_dict())
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert network.state_dict()["fc.weight"].shape[0] == 7


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_prunable_weights_are_exactly_the_four_dimensional_ones(arch: str) -> None:
    # The codec tells them apart by their dimensions when it writes and by their modules when it reads.
    network = skeleton(arch, 2)
    weights = {name: torch.empty(0, 0, 0, 0) if t.dim() == 4 else t for name, t in network.state_dict().items()}
    prunable = Backbone(arch, "std", weights).prunable
    assert set(prunable) == {name for name, tensor in network.state_dict().items() if tensor.dim() == 4}
    assert "conv1.weight" in prunable or "conv1.0.weight" in prunable


def test_the_default_is_the_slim_network_of_0_72_million_parameters() -> None:
    network = skeleton(DEFAULT_ARCH, 10)
    assert DEFAULT_ARCH == SLIM
    assert 710_000 < sum(parameter.numel() for parameter in network.parameters()) < 730_000


def test_the_slim_network_sees_a_4x4_map_at_the_end_of_32_pixels() -> None:
    network = build_network(SLIM, fresh_weights(SLIM, 2, 0)).eval()
    with torch.no_grad():
        assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 4, 4)


@pytest.mark.parametrize("arch", ["resnet51", "", "hf-hub:someone/net", "resnet18.tv_in1k"])
def test_another_architecture_is_refused_with_the_choices(arch: str) -> None:
    for call in (lambda: check_arch(arch), lambda: skeleton(arch, 2), lambda: fresh_weights(arch, 2, 0)):
        with pytest.raises(BackboneError, match=r"unknown architecture .*; choose one of: resnet18-slim, .*resnet50"):
            call()


# Weights fit exactly, or not at all


def test_a_network_holds_copies_of_its_weights_under_timms_keys(backbone: Backbone) -> None:
    network = build_network(SLIM, backbone.weights)
    assert list(network.state_dict()) == list(backbone.weights)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, backbone.weights[name])
        assert tensor.data_ptr() != backbone.weights[name].data_ptr()
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_network_computes_what_timms_computes(backbone: Backbone) -> None:
    name, arguments = ARCHITECTURES[SLIM]
    theirs = timm.create_model(name, pretrained=False, num_classes=5, **arguments)
    theirs.load_state_dict(backbone.weights, strict=True)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(build_network(SLIM, backbone.weights).eval()(images), theirs.eval()(images))


def broken(weights: Weights, change: str) -> Weights:
    weights = dict(weights)
    conv = "layer1.0.conv1.weight"
    if change == "missing":
        del weights[conv], weights["bn1.running_mean"]
    elif change == "unexpected":
        weights["module.conv1.weight"] = weights["conv1.weight"]
    elif change == "misshapen":
        weights[conv] = weights[conv][:, :, :1, :1]
    elif change == "head":
        weights["fc.bias"] = torch.zeros(4)
    else:
        weights[conv] = weights[conv].clone()
        weights[conv][0, 0, 0, 0] = float(change)
    return weights


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("missing", r"2 missing \(bn1\.running_mean, layer1\.0\.conv1\.weight\); every key must match"),
        ("unexpected", r"1 unexpected \(module\.conv1\.weight\); every key must match"),
        (
            "misshapen",
            r"layer1\.0\.conv1\.weight has shape \(16, 64, 1, 1\), resnet18-slim wants \(16, 64, 3, 3\)",
        ),
        ("head", r"fc\.bias has shape \(4,\), resnet18-slim wants \(5,\)"),
        ("nan", r"layer1\.0\.conv1\.weight holds NaN or infinite values"),
        ("-inf", r"layer1\.0\.conv1\.weight holds NaN or infinite values"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(backbone: Backbone, change: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        build_network(SLIM, broken(backbone.weights, change))


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("bn1.running_var", torch.full((64,), -1e-9), r"bn1\.running_var holds a negative variance"),
        ("bn1.num_batches_tracked", torch.tensor(-3), r"bn1\.num_batches_tracked holds a negative count of batches"),
        ("fc.bias", torch.ones(5).half(), r"fc\.bias is torch\.float16, and has to be torch\.float32"),
        ("fc.bias", torch.ones(5).double(), r"fc\.bias is torch\.float64, and has to be torch\.float32"),
    ],
)
def test_weights_that_no_folder_could_hold_make_no_network(
    backbone: Backbone, name: str, tensor: torch.Tensor, reason: str
) -> None:
    with pytest.raises(BackboneError, match=reason):
        build_network(SLIM, backbone.weights | {name: tensor})


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.5, 0.5), (1e-320, 1e-320, 1e-320)),
        ((0.5, 0.5, 0.5), (0.0, 1.0, 1.0)),
        ((0.5, 0.5, 0.5), (math.nan, 1.0, 1.0)),
        ((123.0, 117.0, 104.0), (58.0, 57.0, 57.0)),
        ((0.5,), (0.5,)),
    ],
)
def test_a_normalisation_that_no_folder_could_hold_makes_no_backbone(
    backbone: Backbone, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(BackboneError, match=r"are not of \[0,1\] pixels: three means in 0\.\.1 and three stds"):
        Backbone(SLIM, "adv", backbone.weights, mean, std)


def test_many_missing_keys_are_counted_and_only_four_are_named() -> None:
    with pytest.raises(BackboneError, match=r"128 missing \(conv1\.weight, [^,]+, [^,]+, [^,]+ and 124 more\)"):
        build_network(SLIM, {})


def test_escape_codes_in_key_names_are_not_printed_raw(backbone: Backbone) -> None:
    with pytest.raises(BackboneError) as caught:
        build_network(SLIM, backbone.weights | {"\x1b[31mred": torch.zeros(1)})
    assert "\x1b" not in str(caught.value)
    assert r"\x1b[31mred" in str(caught.value)


# Fresh weights and heads


def test_fresh_weights_come_from_the_seed_alone() -> None:
    first, same, other = (fresh_weights(SLIM, 2, seed) for seed in (3, 3, 4))
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)


def test_fresh_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    fresh_weights(SLIM, 2, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fresh_weights_are_what_timm_draws_after_that_seed() -> None:
    name, arguments = ARCHITECTURES[SLIM]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = timm.create_model(name, pretrained=False, num_classes=3, **arguments).state_dict()
    assert fingerprint(fresh_weights(SLIM, 3, 5)) == fingerprint(theirs)


def test_a_fresh_head_is_seeded_and_within_its_bounds_and_the_rest_is_untouched(backbone: Backbone) -> None:
    first, same, other = (with_fresh_head(backbone.weights, 40, seed) for seed in (0, 0, 1))
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)
    bound = 1 / math.sqrt(128)
    assert first["fc.weight"].shape == (40, 128)
    assert first["fc.bias"].shape == (40,)
    for name in ("fc.weight", "fc.bias"):
        assert first[name].abs().max() <= bound
    # 5,120 uniform numbers come close to both ends.
    assert first["fc.weight"].max() > 0.99 * bound
    assert first["fc.weight"].min() < -0.99 * bound
    assert all(first[name] is tensor for name, tensor in backbone.weights.items() if not name.startswith("fc."))


def test_a_fresh_head_leaves_the_global_generator_and_the_old_head_alone(backbone: Backbone) -> None:
    old, before = backbone.weights["fc.weight"].clone(), torch.random.get_rng_state()
    with_fresh_head(backbone.weights, 5, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(backbone.weights["fc.weight"], old)


# Models on [0,1] images


def test_normalised_subtracts_the_mean_and_divides_by_the_std() -> None:
    class Identity(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    model = Normalised(Identity(), (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    white_black = torch.stack([torch.ones(3, 1, 1), torch.zeros(3, 1, 1)])
    assert model(white_black).flatten(1).tolist() == [[1.0, 3.0, 0.5], [-1.0, -1.0, 0.0]]


def test_normalisation_is_no_part_of_what_is_saved(backbone: Backbone) -> None:
    model = backbone.model()
    assert [name.removeprefix("network.") for name in model.state_dict()] == list(backbone.weights)


def test_a_model_keeps_the_pre_trained_head_unless_classes_are_given(backbone: Backbone) -> None:
    kept = backbone.model().network.state_dict()
    assert torch.equal(kept["fc.weight"], backbone.weights["fc.weight"])
    fresh = backbone.model(num_classes=5, seed=2).network.state_dict()
    assert torch.equal(fresh["fc.weight"], with_fresh_head(backbone.weights, 5, 2)["fc.weight"])
    assert torch.equal(fresh["conv1.weight"], backbone.weights["conv1.weight"])


def test_a_masked_model_is_zero_where_pruned_and_the_backbone_stays_whole(backbone: Backbone) -> None:
    mask = backbone.dense_mask()
    mask["conv1.weight"][3] = False
    before = backbone.fingerprint()
    weight = backbone.model(mask=mask).network.state_dict()["conv1.weight"]
    assert weight[3].abs().max() == 0
    assert torch.equal(weight[:3], backbone.weights["conv1.weight"][:3])
    assert backbone.fingerprint() == before


def test_the_dense_mask_keeps_every_prunable_weight(backbone: Backbone) -> None:
    mask = backbone.dense_mask()
    total = sum(tensor.numel() for tensor in backbone.weights.values() if tensor.dim() == 4)
    assert kept_and_total(mask) == (total, total)
    assert list(mask) == backbone.prunable
    assert backbone.num_classes == 5


# Fingerprints


def test_a_fingerprint_changes_with_one_bit_anywhere(backbone: Backbone) -> None:
    print_ = backbone.fingerprint()
    assert print_ == fingerprint(dict(reversed(backbone.weights.items())))
    for name in ("conv1.weight", "fc.bias", "bn1.num_batches_tracked", "bn1.running_var"):
        changed = backbone.weights[name].clone()
        changed.reshape(-1).view(torch.uint8)[0] ^= 1
        assert fingerprint(backbone.weights | {name: changed}) != print_


def test_a_fingerprint_sees_names_shapes_and_types() -> None:
    zeros = torch.zeros(2, 3)
    prints = {
        fingerprint({"a": zeros}),
        fingerprint({"b": zeros}),
        fingerprint({"a": zeros.view(3, 2)}),
        fingerprint({"a": zeros.to(torch.int32)}),
    }
    assert len(prints) == 4
    assert fingerprint({"a": zeros.T.contiguous().T}) == fingerprint({"a": zeros})


# Networks at hand in Python


def slim(**arguments: object) -> torch.nn.Module:
    timm_name, shape = ARCHITECTURES[SLIM]
    return timm.create_model(timm_name, **({"num_classes": 3} | shape | arguments))


def test_a_network_becomes_a_backbone_that_computes_what_it_computes() -> None:
    network = slim().eval()
    taken = Backbone.of(network, "fast-adv", source="the lab's own", license="mit")
    assert (taken.arch, taken.kind, taken.num_classes) == (SLIM, "fast-adv", 3)
    assert taken.provenance == {"source": "the lab's own", "license": "mit"}
    assert (taken.mean, taken.std) == (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(taken.model().network.eval()(images), network(images))
        network.conv1.weight.zero_()
    assert bool(taken.weights["conv1.weight"].any()), "what is done to the network later is not done to the backbone"


class Compiled(torch.nn.Module):
    """What torch.compile puts around a network, as far as it shows; to import that takes seconds."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._orig_mod = network


@pytest.mark.parametrize("wrap", [Compiled, torch.nn.DataParallel], ids=["compiled", "parallel"])
def test_what_others_put_around_a_network_is_taken_off(wrap: Callable[..., torch.nn.Module]) -> None:
    inside = Normalised(slim(), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)).half()
    taken = Backbone.of(wrap(inside), "std")
    assert taken.weights.keys() == inside.network.state_dict().keys()
    assert taken.weights["fc.bias"].dtype == torch.float32
    assert Backbone.of(inside.float(), "std", mean=(0.5, 0.5, 0.5)).mean == (0.5, 0.5, 0.5)
    assert taken.std == pytest.approx((0.3, 0.2, 0.1), abs=1e-4)  # halves, here
    assert Backbone.of(Normalised(slim(), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)), "std").mean == (0.1, 0.2, 0.3)


def test_a_network_of_torchvision_is_asked_for_mean_and_std() -> None:
    network = torchvision.models.resnet18(num_classes=4)
    with pytest.raises(BackboneError, match=r"does not say how its images were normalised; give mean and std"):
        Backbone.of(network, "std")
    taken = Backbone.of(network, "std", mean=[0.5] * 3, std=[0.25] * 3)
    assert (taken.arch, taken.mean) == ("resnet18", (0.5, 0.5, 0.5))
    with pytest.raises(BackboneError, match=r"unknown kind 'robust'; choose one of: std, fast-adv, adv"):
        Backbone.of(network, "robust")  # type: ignore[arg-type]
    with pytest.raises(BackboneError, match="are not of"):
        Backbone.of(network, "std", mean=[127.5] * 3, std=[64.0] * 3)
    arrays: dict[str, Any] = {"mean": torch.full((3,), 0.5), "std": np.full(3, 0.25)}
    assert Backbone.of(network, "std", **arrays) == taken
    with pytest.raises(BackboneError, match="are not of"):
        Backbone.of(network, "std", **arrays | {"mean": 0.5})
    with pytest.raises(BackboneError, match="a str is no network; load_backbone takes names"):
        Backbone.of("resnet18", "std")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (lambda: slim(output_stride=32), "has the weights of resnet18-slim and computes something else with them"),
        (
            lambda: slim(act_layer=torch.nn.SiLU),
            r"0.\d of the largest apart; another stem, stride or activation cannot be kept",
        ),
        (lambda: slim(num_classes=0), "has no head of classes"),
        (lambda: slim(channels=(8, 16, 32, 64)), "a ResNet of 128 tensors is none of: resnet18-slim, resnet10t"),
        (lambda: torch.nn.Linear(2, 2), "give mean and std"),
    ],
    ids=["stride", "activation", "head", "shape", "linear"],
)
def test_a_network_that_no_backbone_can_hold_is_refused(network: Callable[[], torch.nn.Module], told: str) -> None:
    with pytest.raises(BackboneError, match=told):
        Backbone.of(network(), "std")
