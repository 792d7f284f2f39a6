"""A copy of a network: equal, and of nothing that the network itself is made of."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery_hub.networks.backbones import build_network, fresh_weights
from lottery_hub.networks.copying import copied


def small() -> nn.Module:
    return build_network("resnet18-slim", fresh_weights("resnet18-slim", 3, seed=0))


def logits_of(network: nn.Module) -> Tensor:
    return network.eval()(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def test_a_copy_computes_the_same_and_shares_no_tensor() -> None:
    network = small()
    twin = copied(network)
    assert torch.equal(logits_of(twin), logits_of(network))
    assert list(twin.state_dict()) == list(network.state_dict())
    for tensor in (*twin.parameters(), *twin.buffers()):
        nn.init.zeros_(tensor)
    assert all(
        torch.equal(tensor, again) for tensor, again in zip(small().parameters(), network.parameters(), strict=True)
    )


def test_modules_of_a_copy_are_those_of_a_deepcopy() -> None:
    network = small().eval()
    network.get_submodule("layer1.0").train()
    network.get_parameter("fc.bias").requires_grad_(False)
    for twin, other in zip(copied(network).modules(), copy.deepcopy(network).modules(), strict=True):
        assert type(twin) is type(other)
        assert twin.training is other.training
        assert list(vars(twin)) == list(vars(other))
        assert {type(value) for value in vars(twin).values()} == {type(value) for value in vars(other).values()}
        frozen = [[not parameter.requires_grad for parameter in each.parameters(False)] for each in (twin, other)]
        assert frozen[0] == frozen[1]


def test_what_a_network_says_of_itself_is_copied_too() -> None:
    network = small()
    twin: Any = copied(network)
    said = copy.deepcopy(network.pretrained_cfg)
    twin.pretrained_cfg["url"] = "elsewhere"
    twin.feature_info.clear()
    assert network.pretrained_cfg == said
    assert network.feature_info


def test_what_is_shared_inside_is_shared_inside_the_copy() -> None:
    layer = nn.Linear(2, 2)
    twin: Any = copied(nn.Sequential(layer, nn.ReLU(), layer))
    assert twin[0] is twin[2]
    assert twin[0] is not layer
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    twin = copied(tied)
    assert twin[0].weight is twin[1].weight


def test_hooks_of_a_copy_are_its_own() -> None:
    network, seen = nn.Linear(2, 2), []
    network.register_forward_hook(lambda module, *_: seen.append(module))
    twin = copied(network)
    twin(torch.zeros(1, 2))
    assert seen == [twin]
    twin._forward_hooks.clear()
    assert network._forward_hooks


def test_what_is_known_takes_the_place_of_what_it_is_known_for() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = copied(network, {id(network[1]): (known := nn.Identity()), id(network[0].weight): network[0].weight})
    assert twin[1] is known
    assert twin[0].weight is network[0].weight
    assert twin[0].bias is not network[0].bias


class Own(nn.Linear):
    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        raise NotImplementedError("asked")


def test_modules_that_say_how_they_are_copied_are_asked() -> None:
    with pytest.raises(NotImplementedError, match="asked"):
        copied(nn.Sequential(Own(2, 2)))
