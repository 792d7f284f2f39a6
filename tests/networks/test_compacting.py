"""Compacting: fewer filters and channels, the same logits; worked by hand first, then under random masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.layers import BlurPool2d
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from lottery_hub.errors import BackboneError
from lottery_hub.networks import compacting
from lottery_hub.networks.backbones import ARCHITECTURES, Normalised, fingerprint, fresh_weights, skeleton
from lottery_hub.networks.compacting import Cost, _chains, compact, compare_latency, cost
from lottery_hub.networks.tickets import Ladder


def images(count: int = 2, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def logits(network: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = network(given)
    return out


# Worked by hand: one block with a handful of channels. With eps 0, mean 2, variance 4 and weight 3, a BatchNorm
# makes bias - 2 * 3 / 2 = bias - 3 of a filter that puts out 0.


def tiny(block: Any = BasicBlock, **arguments: Any) -> ResNet:
    """A ResNet with one block a stage and three inner channels a block; the first stage is what the tests look at."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResNet(block, (1, 1, 1, 1), num_classes=2, channels=(3, 3, 3, 3), **arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            for tensor, value in ((module.running_mean, 2.0), (module.running_var, 4.0), (module.weight, 3.0)):
                assert tensor is not None
                tensor.data.fill_(value)
    return network.eval()


def first_block(network: nn.Module) -> Any:
    return network.get_submodule("layer1.0")


def empty(conv: nn.Conv2d, norm: nn.BatchNorm2d, **bias_of: float) -> None:
    """Empty filters of a convolution, and set the bias of their BatchNorm."""
    for channel, bias in bias_of.items():
        conv.weight.data[int(channel[1:])] = 0
        norm.bias.data[int(channel[1:])] = bias


@pytest.mark.parametrize("bias", [-1.0, 0.0, 3.0])
def test_a_filter_that_puts_out_nothing_goes_and_its_channel_too(bias: float) -> None:
    network = tiny()
    block = first_block(network)
    empty(block.conv1, block.bn1, c1=bias)
    block.bn1.running_var[2] = 9
    done = compact(network)
    small = first_block(done.model)
    assert done.removed == 1
    assert torch.equal(small.conv1.weight, block.conv1.weight[[0, 2]])
    assert torch.equal(small.conv2.weight, block.conv2.weight[:, [0, 2]])
    assert small.bn1.running_var.tolist() == [4, 9]
    assert (small.conv1.out_channels, small.bn1.num_features, small.conv2.in_channels) == (2, 2, 2)
    assert (small.conv1.in_channels, small.conv2.out_channels) == (64, 3)
    torch.testing.assert_close(logits(done.model, images()), logits(network, images()), rtol=0, atol=1e-5)


def test_a_constant_before_an_unpadded_convolution_moves_into_its_batchnorm() -> None:
    network = tiny(Bottleneck)
    block = first_block(network)
    empty(block.conv2, block.bn2, c0=8.0, c2=4.0)  # after BatchNorm and ReLU: 5 and 1
    done = compact(network)
    small = first_block(done.model)
    weight = block.conv3.weight[:, :, 0, 0]
    assert done.removed == 2
    assert torch.equal(small.conv3.weight, block.conv3.weight[:, [1]])
    torch.testing.assert_close(small.bn3.running_mean, 2 - (5 * weight[:, 0] + weight[:, 2]))
    torch.testing.assert_close(logits(done.model, images()), logits(network, images()), rtol=0, atol=1e-5)


def test_constants_before_a_padded_convolution_become_one_channel_that_puts_out_1() -> None:
    network = tiny()
    block = first_block(network)
    empty(block.conv1, block.bn1, c0=8.0, c1=5.0)  # after BatchNorm and ReLU: 5 and 2
    done = compact(network)
    small = first_block(done.model)
    assert done.removed == 1
    assert not small.conv1.weight[0].any()
    torch.testing.assert_close(small.conv2.weight[:, 0], 5 * block.conv2.weight[:, 0] + 2 * block.conv2.weight[:, 1])
    assert torch.equal(small.conv2.weight[:, 1], block.conv2.weight[:, 2])
    ones = small.act1(small.bn1(small.conv1(torch.rand(1, 64, 4, 4))))[:, 0]
    assert torch.equal(ones, torch.ones(1, 4, 4))
    torch.testing.assert_close(logits(done.model, images()), logits(network, images()), rtol=0, atol=1e-5)


def test_the_constant_channel_is_exact_at_the_borders() -> None:
    network = tiny()
    block = first_block(network)
    empty(block.conv1, block.bn1, c0=8.0, c1=8.0, c2=0.0)  # 5, 5 and 0
    block.conv2.weight.data.fill_(1)
    for norm, scale in ((block.bn2, 1.0), (block.downsample[1], 0.0)):
        norm.running_mean.fill_(0), norm.running_var.fill_(1)
        norm.weight.data.fill_(scale), norm.bias.data.fill_(0)
    small = first_block(compact(network).model)
    assert small.conv1.out_channels == 1
    # Every reader sees 5 + 5 under 4 weights at a corner, 6 at an edge, 9 inside.
    wanted = [[40.0, 60.0, 40.0], [60.0, 90.0, 60.0], [40.0, 60.0, 40.0]]
    given = torch.rand(1, 64, 3, 3)
    assert logits(block, given)[0].tolist() == [wanted] * 3
    assert logits(small, given)[0].tolist() == [wanted] * 3


def test_a_channel_that_nobody_reads_goes_though_it_is_alive() -> None:
    network = tiny()
    block = first_block(network)
    block.conv2.weight.data[:, 0] = 0
    done = compact(network)
    assert done.removed == 1
    assert torch.equal(first_block(done.model).conv1.weight, block.conv1.weight[1:])
    assert torch.equal(logits(done.model, images()), logits(network, images()))


def test_what_goes_may_take_others_with_it() -> None:
    network = tiny(Bottleneck)
    block = first_block(network)
    empty(block.conv1, block.bn1, c0=0.0)
    block.conv2.weight.data[0, 1:] = 0  # its filter 0 reads only the empty channel: it is empty itself
    block.bn2.bias.data[0] = 0.0
    block.conv3.weight.data[:, 1] = 0  # nobody reads channel 1 of conv2 …
    block.conv2.weight.data[2, 2] = 0  # … which alone reads channel 2 of conv1
    done = compact(network)
    small = first_block(done.model)
    assert (small.conv1.out_channels, small.conv2.in_channels, small.conv2.out_channels) == (1, 1, 1)
    assert done.removed == 4
    assert torch.equal(small.conv1.weight[0], block.conv1.weight[1])
    torch.testing.assert_close(logits(done.model, images()), logits(network, images()), rtol=0, atol=1e-5)


def inner(network: nn.Module) -> set[str]:
    """Names of the convolutions that only the next one reads: all but stem, downsample and the last of a block."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    last = "conv3" if "layer1.0.conv3" in names else "conv2"
    return {name for name in names if "downsample" not in name and not name.endswith(last)} - {"conv1", "conv1.6"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_has_its_chains_found(arch: str) -> None:
    network = skeleton(arch, 2)
    names = {module: name for name, module in network.named_modules()}
    chains = list(_chains(network))
    assert {names[chain.conv] for chain in chains} == inner(network)
    for chain in chains:
        assert chain.conv.out_channels == chain.norm.num_features == chain.next_conv.in_channels
        assert chain.next_conv.out_channels == chain.next_norm.num_features


@pytest.mark.parametrize("arch", ["resnet18-slim", "resnet10t", "resnet26", "resnet50s", "resnet50d"])
def test_where_everything_is_dead_one_channel_stays(arch: str) -> None:
    network = skeleton(arch, 2).to_empty(device="cpu").eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            for value, tensor in enumerate((module.running_mean, module.running_var, module.weight, module.bias)):
                assert tensor is not None
                tensor.data.fill_(0.5 + value)
    nn.init.constant_(network.get_parameter("fc.weight"), 0.01)
    nn.init.zeros_(network.get_parameter("fc.bias"))
    small = compact(network, image_size=16).model
    for name, module in small.named_modules():
        if isinstance(module, nn.Conv2d):
            assert (module.out_channels == 1) is (name in inner(network)), name
    torch.testing.assert_close(logits(small, images()), logits(network, images()), rtol=0, atol=1e-5)


# Costs


def test_costs_are_those_counted_by_hand(ladder: Ladder) -> None:
    network = ladder.ticket(0).to_model()
    # Weights of the convolutions of each stage, as block 0's two, its downsample, and block 1's two.
    stages = [
        64 * 16 * 9 + 16 * 16 * 9 + 64 * 16 + 2 * 16 * 16 * 9,
        16 * 32 * 9 + 32 * 32 * 9 + 16 * 32 + 2 * 32 * 32 * 9,
        32 * 64 * 9 + 64 * 64 * 9 + 32 * 64 + 2 * 64 * 64 * 9,
        64 * 128 * 9 + 128 * 128 * 9 + 64 * 128 + 2 * 128 * 128 * 9,
    ]
    stem, head = 3 * 64 * 49, 128 * 5
    norms = 2 * (64 + 5 * (16 + 32 + 64 + 128))
    # 32 pixels: 16 behind the stem, 8 behind its pool, 4 from stage 2 on.
    macs = stem * 16**2 + stages[0] * 8**2 + sum(stages[1:]) * 4**2 + head
    assert cost(network, 32) == Cost(stem + sum(stages) + norms + head + 5, macs, 32) == Cost(717861, 14516864, 32)
    assert cost(network, 64).macs == (macs - head) * 4 + head


def test_a_channel_less_saves_its_filter_its_batchnorm_and_its_readers(ladder: Ladder) -> None:
    network = ladder.ticket(0).to_model()
    network.get_parameter("layer1.0.conv2.weight").data[:, 7] = 0
    done = compact(network)
    assert done.before == cost(network)
    assert done.before.parameters - done.after.parameters == 64 * 9 + 2 + 16 * 9
    assert done.before.macs - done.after.macs == (64 * 9 + 16 * 9) * 8**2


def test_counting_leaves_a_network_as_it_was(ladder: Ladder) -> None:
    network = ladder.ticket(1).to_model()
    network.get_submodule("bn1").eval()
    before, modes = fingerprint(network.state_dict()), [module.training for module in network.modules()]
    cost(network)
    compare_latency(network, network, runs=1)
    assert fingerprint(network.state_dict()) == before
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())


def test_latency_says_how_it_was_measured(ladder: Ladder) -> None:
    network = ladder.ticket(1).to_model()
    latency = compare_latency(network, compact(network).model, image_size=16, batch_size=2, runs=3)
    assert min(latency.before, latency.after) > 0
    assert (latency.runs, latency.batch_size, latency.image_size, latency.device) == (3, 2, 16, "cpu")
    assert latency.threads == torch.get_num_threads()


def test_latency_is_that_of_the_fastest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up = [1.0] * 6
    times = iter([*warm_up, 4.0, 8.0, 2.0, 6.0, 5.0, 9.0])  # medians would be 5 and 8
    monkeypatch.setattr(compacting, "_milliseconds", lambda model, images: next(times))
    latency = compare_latency(nn.Linear(16, 1), nn.Linear(16, 1), image_size=16, runs=3)
    assert (latency.before, latency.after) == (4, 2)
    assert next(times, None) is None


def test_latency_is_measured_in_turns() -> None:
    calls: list[str] = []

    class Told(nn.Linear):
        def forward(self, given: Tensor) -> Tensor:
            calls.append(self.name)
            return given

    first, second = Told(1, 1), Told(1, 1)
    first.name, second.name = "before", "after"
    compare_latency(first, second, runs=4)
    warm_up = ["before", "after"] * 3
    assert calls == [*warm_up, *["before", "after", "after", "before"] * 2]


# Networks as they come


def test_at_moderate_sparsity_there_is_nothing_to_remove(ladder: Ladder) -> None:
    done = compact(ladder.ticket(4).to_model())
    assert done.removed == 0
    assert done.before == done.after


def test_the_original_stays_what_it_is(ladder: Ladder) -> None:
    network = ladder.ticket(6).to_model().train()
    damage(network, seed=3, filters=0.5, readers=0.3, density=0.5)
    before, shown = fingerprint(network.state_dict()), repr(network)
    done = compact(network)
    assert done.removed > 0
    assert fingerprint(network.state_dict()) == before
    assert repr(network) == shown
    assert network.training
    assert not any(module.training for module in done.model.modules())
    ours = {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
    assert ours.isdisjoint(id(tensor) for tensor in done.model.state_dict(keep_vars=True).values())


def test_a_compacted_network_is_as_compact_as_it_gets(ladder: Ladder) -> None:
    network = ladder.ticket(6).to_model()
    damage(network, seed=4, filters=0.5, readers=0.3, density=0.5)
    once = compact(network)
    twice = compact(once.model)
    assert twice.removed == 0
    assert fingerprint(twice.model.state_dict()) == fingerprint(once.model.state_dict())


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: nn.Linear(2, 2), "not Linear"),
        (lambda: Normalised(tiny(), (0, 0, 0), (1, 1, 1)), "not Normalised"),
        (lambda: tiny(Bottleneck, cardinality=2), r"layer1\.0\.conv2 is Conv2d\(.*groups=2"),
        (lambda: tiny(act_layer="silu"), r"layer1\.0\.act1 is SiLU"),
        (lambda: tiny(stem_type="deep", act_layer="silu"), r"conv1\.2 is SiLU"),
        (lambda: tiny(aa_layer=BlurPool2d), r"layer2\.0\.aa is BlurPool2d"),
        (lambda: tiny(drop_block_rate=0.1), r"layer3\.0\.drop_block is DropBlock2d"),
        (lambda: tiny(norm_layer="groupnorm1"), r"layer1\.0\.bn1 is GroupNorm1"),
    ],
    ids=["linear", "normalised", "groups", "silu", "deep-stem", "blur", "drop-block", "group-norm"],
)
def test_other_networks_are_refused_in_one_line(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(BackboneError, match=f"only plain timm ResNets can be compacted.*{reason}") as refused:
        compact(build())
    assert "\n" not in str(refused.value)


# Random masks


def damage(network: nn.Module, *, seed: int, filters: float, readers: float, density: float) -> None:
    """Randomise every BatchNorm, and prune: whole filters, whole input channels, and weights here and there."""
    generator = torch.Generator().manual_seed(seed)

    def chance(share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) < share

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, *_ = module.weight.shape
            module.weight.data[chance(filters, outputs)] = 0
            if name not in ("conv1", "conv1.0"):
                module.weight.data[:, chance(readers, inputs)] = 0
            module.weight.data[~chance(density, *module.weight.shape)] = 0
        elif isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                *((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0)),
                *((module.weight, -0.6, 0.6), (module.bias, -0.5, 0.5)),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)


def assert_exact(network: nn.Module, given: Tensor) -> int:
    """Compact in float32 and in float64: the latter leaves rounding no room to hide a mistake in."""
    network.eval()
    done = compact(network, image_size=given.shape[-1])
    torch.testing.assert_close(logits(done.model, given), logits(network, given), rtol=0, atol=1e-5)
    network.double()
    precise = compact(network, image_size=given.shape[-1]).model
    torch.testing.assert_close(logits(precise, given.double()), logits(network, given.double()), rtol=1e-9, atol=1e-9)
    assert done.after.parameters == sum(parameter.numel() for parameter in precise.parameters())
    assert done.after.parameters <= done.before.parameters
    assert done.after.macs <= done.before.macs
    return done.removed


SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**16), filters=SHARES, readers=SHARES, density=st.sampled_from([1.0, 0.5, 0.1, 0.01]),
    side=st.sampled_from([8, 15, 32]),
)  # fmt: skip
def test_logits_stay_the_same_under_any_mask(
    ladder: Ladder, seed: int, filters: float, readers: float, density: float, side: int
) -> None:
    network = ladder.ticket(0).to_model()
    damage(network, seed=seed, filters=filters, readers=readers, density=density)
    assert_exact(network, images(side=side, seed=seed))


@pytest.mark.parametrize(("arch", "seed"), [("resnet14t", 0), ("resnet14t", 1), ("resnet10t", 2)])
def test_logits_stay_the_same_with_bottlenecks_and_deep_stems(arch: str, seed: int) -> None:
    network = skeleton(arch, 3)
    network.load_state_dict(fresh_weights(arch, 3, seed), assign=True)
    damage(network, seed=seed, filters=0.5, readers=0.3, density=0.3)
    assert assert_exact(network, images(side=33, seed=seed)) > 100
