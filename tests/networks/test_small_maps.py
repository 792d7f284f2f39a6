"""Convolutions of small maps as products of matrices: the same values, and the same gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lottery_hub.networks import small_maps
from lottery_hub.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Normalised, build_network, fresh_weights
from lottery_hub.networks.small_maps import arranged, fits, matrix, product, repeated, seen_taps, sees_middle_only


def check_alike(found: Tensor, expected: Tensor, given: list[Tensor]) -> None:
    """The same values, and the same gradients of all that they were computed from."""
    assert torch.allclose(found, expected, atol=1e-12)
    pull = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, given, pull), torch.autograd.grad(expected, given, pull), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-12)


def test_of_two_pixels_each_sees_itself_and_the_other() -> None:
    weight = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]).view(1, 1, 3, 3)
    assert matrix(weight, 1, 2, stride=1, padding=1).view(2, 2).tolist() == [[5, 6], [4, 5]]


def test_of_a_single_pixel_only_the_middle_tap_is_left() -> None:
    weight = torch.randn(4, 3, 3, 3)
    assert torch.equal(matrix(weight, 1, 1, stride=2, padding=1).view(4, 3), weight[:, :, 1, 1])


@pytest.mark.parametrize(
    ("kernel", "height", "width", "stride", "fitting"),
    [
        (3, 2, 2, 1, True),
        (3, 2, 4, 1, True),
        (3, 3, 3, 1, False),
        (1, 2, 2, 1, True),
        (1, 4, 4, 2, True),
        (1, 4, 4, 1, False),
        (7, 32, 32, 2, False),
    ],
)
def test_a_map_is_small_if_it_has_fewer_pixels_than_taps_or_four(
    kernel: int, height: int, width: int, stride: int, fitting: bool
) -> None:
    assert fits(kernel, height, width, stride, kernel // 2) is fitting


def test_taps_that_see_something_are_counted_by_hand() -> None:
    # Over two pixels: the first output sees itself and the right one, the second the left one and itself.
    assert seen_taps(2, kernel=3, stride=1, padding=1) == [(0, 0, 1), (0, 1, 2), (1, 0, 0), (1, 1, 1)]
    # Spread over four pixels, the outer taps of each lie outside.
    assert seen_taps(4, kernel=3, stride=1, padding=4, dilation=4) == [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1)]
    # Over five, the first and the last see each other.
    assert (0, 4, 2) in seen_taps(5, kernel=3, stride=1, padding=4, dilation=4)


@given(
    kernel=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 6),
)
def test_the_middle_tap_is_alone_where_no_other_sees_anything(
    kernel: int, height: int, width: int, stride: int, dilation: int
) -> None:
    padding = dilation * (kernel // 2)
    seen = [{tap for _, _, tap in seen_taps(side, kernel, stride, padding, dilation)} for side in (height, width)]
    alone = kernel > 1 and seen == [{kernel // 2}] * 2
    assert sees_middle_only(kernel, height, width, padding, dilation) is alone
    assert not sees_middle_only(kernel, height, width, padding + 1, dilation)  # its view is not its own pixel


@pytest.mark.parametrize("side", [3, 4, 5])
def test_a_dilated_convolution_gives_the_same_with_gradients_whether_or_not_its_middle_tap_is_alone(side: int) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=4, dilation=4).double()
    view = arranged(nn.Sequential(conv))
    images = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    given = [images, conv.weight, conv.bias]
    expected, found = conv(images), view(images)
    check_alike(found, expected, given)


@settings(max_examples=80, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_all_gradients_are_those_of_the_convolution(
    kernel: int, stride: int, padding: int, height: int, width: int, biased: bool, seed: int
) -> None:
    if min(height, width) + 2 * padding < kernel or (kernel == 1 and padding):
        return
    torch.manual_seed(seed)
    images, weight, bias = torch.randn(2, 3, height, width), torch.randn(4, 3, kernel, kernel), torch.randn(4)
    given = [tensor.double().requires_grad_() for tensor in (images, weight, *([bias] if biased else []))]
    images, weight, *rest = given
    expected = F.conv2d(images, weight, *(rest or [None]), stride=stride, padding=padding)
    laid_out = matrix(weight, height, width, stride, padding)
    found = product(images, laid_out, repeated(rest[0] if rest else None, laid_out), stride)
    assert found.shape == expected.shape
    check_alike(found, expected, given)


@pytest.mark.parametrize(
    ("kernel", "height", "width", "stride", "padding"),
    [(3, 1, 1, 1, 1), (3, 2, 2, 1, 1), (3, 2, 2, 2, 1), (3, 2, 3, 1, 1), (7, 4, 4, 2, 3), (5, 4, 4, 1, 2)],
)
def test_on_a_gpu_the_matrix_is_laid_out_in_few_operations_and_the_same(
    kernel: int, height: int, width: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 4, kernel, kernel, dtype=torch.float64).to(memory_format=torch.channels_last)
    both = [weight.clone().requires_grad_() for _ in range(2)]
    ways = (small_maps._Matrix, small_maps._Gathered)
    found = [way.apply(one, height, width, stride, padding) for way, one in zip(ways, both, strict=True)]
    assert torch.equal(*found)
    assert found[1].is_contiguous()
    pull = torch.randn_like(found[0])
    gradients = [torch.autograd.grad(one, of, pull)[0] for one, of in zip(found, both, strict=True)]
    assert torch.allclose(*gradients, atol=1e-12)


def step(model: nn.Module, view: nn.Module) -> dict[str, Tensor]:
    """Take a pass through a view; return every gradient of the model and what BatchNorm has seen."""
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    F.cross_entropy(view.train()(images), torch.arange(6)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    return gradients | dict(model.named_buffers())  # type: ignore[return-value]


@pytest.mark.parametrize("arch", ["resnet18", "resnet10t", "resnet50"])
def test_a_step_through_the_view_is_a_step_of_the_model(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = (
        Normalised(build_network(arch, fresh_weights(arch, 10, 0)), IMAGENET_MEAN, IMAGENET_STD).double()
        for _ in range(2)
    )
    taken = []
    original = small_maps.product
    monkeypatch.setattr(small_maps, "product", lambda *given, **named: taken.append(1) or original(*given, **named))
    found, expected = step(model, arranged(model)), step(other, other)
    assert taken, "some maps are small"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value.double(), rtol=1e-6, atol=1e-12), name


def test_under_autocast_passes_are_in_bfloat16_and_gradients_in_float32() -> None:
    conv = nn.Conv2d(8, 4, 3, padding=1, bias=False)
    view = arranged(nn.Sequential(conv))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mapped = view(torch.randn(5, 8, 2, 2))
    assert mapped.dtype == torch.bfloat16
    mapped.float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("why", ["switched off", "large", "grouped", "dilated"])
def test_other_convolutions_are_left_to_the_library(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("taken as a matrix")

    monkeypatch.setattr(small_maps, "product", never)
    if why == "switched off":
        monkeypatch.setenv("LOTTERY_HUB_WITHOUT", "small-maps")
    conv = nn.Conv2d(
        4, 4, 3, padding=2, groups=2 if why == "grouped" else 1, dilation=2 if why == "dilated" else 1, bias=True
    )
    side = {"large": 8, "dilated": 3}.get(why, 2)  # over 2x2 pixels a dilated one sees by its middle tap alone
    images = torch.randn(2, 4, side, side)
    assert torch.equal(arranged(nn.Sequential(conv))(images), conv(images))


def test_the_view_holds_no_tensor_of_its_own_and_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    view = arranged(model)
    assert {id(tensor) for tensor in view.state_dict(keep_vars=True).values()} == {
        id(tensor) for tensor in model.state_dict(keep_vars=True).values()
    }
    assert isinstance(model[0], nn.Conv2d)
