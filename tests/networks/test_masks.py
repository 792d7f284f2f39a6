"""Masks keep exactly as many weights as asked for, whatever the ties, and only among those still alive."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lottery_hub.networks.backbones import skeleton
from lottery_hub.networks.masks import (
    apply_,
    bits_of,
    full_mask,
    is_nested,
    keep_count,
    keep_highest,
    kept_and_total,
    magnitudes,
    prunable_names,
    random_scores,
    sparsity,
)


def test_every_convolution_is_prunable_and_nothing_else():
    network = skeleton("resnet18-slim", 10)
    names = prunable_names(network)
    assert names[0] == "conv1.weight"
    assert "layer2.0.downsample.0.weight" in names
    assert len(names) == 20 + 1  # the stem, sixteen 3x3, three 1x1 as timm's resnet18, and one for the narrow stage 1
    assert not any("fc" in name or "bn" in name or name.endswith("downsample.1.weight") for name in names)


@pytest.mark.parametrize(
    ("total", "level", "kept"),
    [(100, 0, 100), (100, 1, 80), (100, 2, 64), (100, 3, 51), (5, 1, 4), (5, 3, 3), (714_688, 14, 31_432)],
)
def test_a_level_keeps_the_rounded_share_of_the_total(total, level, kept):
    # 100 * 0.512 = 51.2; 5 * 0.512 = 2.56; 714688 * 0.8^14 = 31431.6…
    assert keep_count(total, 0.2, level) == kept


def test_a_tie_in_rounding_goes_to_the_even_count():
    assert keep_count(5, 0.5, 1) == 2  # 2.5
    assert keep_count(7, 0.5, 1) == 4  # 3.5


@given(st.integers(1, 10**9), st.integers(0, 19))
def test_counts_never_accumulate_rounding(total, level):
    assert abs(keep_count(total, 0.2, level) - total * Fraction(4, 5) ** level) <= Fraction(1, 2)


@st.composite
def scored(draw):
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    values = [draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) for n in sizes]
    alive = [draw(st.lists(st.booleans(), min_size=n, max_size=n)) for n in sizes]
    scores = {f"w{i}": torch.tensor(v, dtype=torch.float32) for i, v in enumerate(values)}
    within = {f"w{i}": torch.tensor(a) for i, a in enumerate(alive)}
    available = kept_and_total(within)[0]
    return scores, within, draw(st.integers(0, available))


@given(scored())
def test_exactly_the_asked_number_is_kept_under_heavy_ties(case):
    scores, within, count = case
    mask = keep_highest(scores, within, count)
    assert kept_and_total(mask)[0] == count
    assert is_nested(mask, within)
    kept = [float(scores[name][i]) for name in mask for i in mask[name].nonzero().flatten()]
    dropped = [float(scores[name][i]) for name in mask for i in (within[name] & ~mask[name]).nonzero().flatten()]
    if kept and dropped:
        assert min(kept) >= max(dropped)


def test_ties_go_to_the_earlier_position():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([2.0, 1.0, 1.0])}
    mask = keep_highest(scores, full_mask(scores), 3)
    assert mask["a"].tolist() == [True, True]
    assert mask["b"].tolist() == [True, False, False]


def test_layers_compete_in_one_ranking():
    weights = {"a": torch.tensor([[-3.0, 0.1]]), "b": torch.tensor([[0.2, 2.0]])}
    mask = keep_highest(magnitudes(weights, weights), full_mask(weights), 2)
    assert mask["a"].tolist() == [[True, False]]
    assert mask["b"].tolist() == [[False, True]]


def test_more_than_remains_cannot_be_kept():
    scores = {"a": torch.ones(3)}
    with pytest.raises(ValueError, match="cannot keep 3 of 2"):
        keep_highest(scores, {"a": torch.tensor([True, True, False])}, 3)


def test_random_scores_follow_their_seed():
    weights = {"a": torch.zeros(1000)}
    first, again, other = (random_scores(weights, ["a"], seed)["a"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_applying_a_mask_sets_exact_zeros_and_touches_nothing_else():
    layer = nn.Conv2d(2, 3, 3)
    before = layer.weight.detach().clone()
    kept = torch.rand(before.shape) < 0.5
    apply_(layer, {"weight": kept})
    assert torch.equal(layer.weight, torch.where(kept, before, 0.0))
    assert not torch.signbit(layer.weight.detach()[~kept]).any()


def test_sparsity_counts_over_all_tensors_together():
    mask = {"a": torch.tensor([True, False]), "b": torch.tensor([False] * 6)}
    assert kept_and_total(mask) == (1, 8)
    assert sparsity(mask) == 0.875


def test_a_mask_that_keeps_what_its_outer_pruned_is_not_nested():
    outer = {"a": torch.tensor([True, False])}
    assert is_nested({"a": torch.tensor([False, False])}, outer)
    assert not is_nested({"a": torch.tensor([True, True])}, outer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_pruned_weight_is_exactly_zero_whatever_it_was(dtype):
    values = torch.tensor([[-1.5, float("nan")], [float("-inf"), 2.0]], dtype=dtype).view(2, 2, 1, 1)
    weight = values.to(memory_format=torch.channels_last)
    bits = bits_of(torch.tensor([[False, False], [False, True]]).view(2, 2, 1, 1), weight)
    weight.view(bits.dtype).bitwise_and_(bits)
    assert weight.flatten().tolist() == [0, 0, 0, 2]
    assert not weight.signbit().any(), "-0 would be other bytes"
