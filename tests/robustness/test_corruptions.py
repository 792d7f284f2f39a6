"""Common corruptions: hand-worked pixels, the published strengths, and draws that are seeded image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lottery_hub.errors import ConfigError
from lottery_hub.robustness import corruptions
from lottery_hub.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt

KINDS = list(CORRUPTIONS)


def grey(value: int, count: int = 1) -> Tensor:
    return torch.full((count, 3, 32, 32), value, dtype=torch.uint8)


def dot(row: int = 16, column: int = 16) -> Tensor:
    """One white pixel on black."""
    image = grey(0)
    image[:, :, row, column] = 255
    return image


def photographs(count: int = 64) -> Tensor:
    """Smooth random images with edges, as photographs have."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    smooth[:, :, 8:20, 10:22] = coarse[:, :, :1, :1]
    return (smooth * 255).to(torch.uint8)


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square, in 255ths."""
    return float((a.float() - b.float()).square().mean().sqrt())


def test_there_are_the_fifteen_of_the_benchmark() -> None:
    assert KINDS == [
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    ]  # fmt: skip
    assert all(len(parameters) == 5 for _, parameters in CORRUPTIONS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_changed_more_by_the_last_severity_than_by_the_first(kind: str) -> None:
    images = photographs()
    first, last = (distance(corrupt(images, kind, severity), images) for severity in (1, 5))
    if kind == "elastic_transform":
        # Its severities trade one distortion for another: the affine part is largest in the first.
        assert min(first, last) > 5
    else:
        assert 0.5 < first < last


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_and_every_image_its_own(kind: str) -> None:
    images = photographs(4)
    once, again = corrupt(images, kind, 3, seed=1), corrupt(images, kind, 3, seed=1)
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    drawn = kind not in {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert torch.equal(once, corrupt(images, kind, 3, seed=2)) is not drawn
    same = images[:1].repeat(4, 1, 1, 1)
    first, second = corrupt(same, kind, 3)[:2]
    assert torch.equal(first, second) is not drawn


@pytest.mark.parametrize("kind", KINDS)
def test_many_images_go_through_in_chunks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(5)
    monkeypatch.setattr(corruptions, "CHUNK", 2)
    assert corrupt(images, kind, 1).shape == images.shape


# Strengths, worked by hand from the published parameters


def test_gaussian_noise_has_the_published_deviation() -> None:
    noisy = corrupt(grey(128, 20), "gaussian_noise", 3).float()
    assert float(noisy.std()) == pytest.approx(0.08 * 255, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(127.5, abs=0.5)


def test_shot_noise_has_the_variance_of_counted_photons() -> None:
    noisy = corrupt(grey(102, 20), "shot_noise", 5).float() / 255  # 0.4 of 50 photons: 20 of them
    assert float(noisy.std()) == pytest.approx(20**0.5 / 50, rel=0.03)


def test_impulse_noise_blackens_and_whitens_its_share_of_values() -> None:
    noisy = corrupt(grey(128, 40), "impulse_noise", 5)
    assert float((noisy == 0).float().mean()) == pytest.approx(0.035, abs=0.003)
    assert float((noisy == 255).float().mean()) == pytest.approx(0.035, abs=0.003)
    assert set(noisy.unique().tolist()) == {0, 128, 255}


def test_brightness_adds_to_the_largest_channel_and_keeps_the_ratios() -> None:
    image = grey(0)
    image[:, 0], image[:, 1], image[:, 2] = 102, 51, 0
    bright = corrupt(image, "brightness", 5)[0, :, 0, 0]  # value 0.4 + 0.3: every channel times 1.75
    assert bright.tolist() == [178, 89, 0]
    assert corrupt(grey(0), "brightness", 5).unique().tolist() == [76], "black becomes grey: 0.3 * 255"
    assert corrupt(grey(250), "brightness", 5).unique().tolist() == [255]


def test_contrast_draws_values_to_the_mean_of_their_channel() -> None:
    image = grey(100)
    image[:, :, :16] = 200
    low = corrupt(image, "contrast", 3)  # mean 150, 0.4 of the distance kept
    assert low[0, 0, 0, 0] == 170
    assert low[0, 0, 31, 0] == 130


def test_the_widest_lens_spreads_a_dot_over_nine_pixels() -> None:
    spread = corrupt(dot(), "defocus_blur", 5)[0, 0]
    # A disk of radius 1.5 has the nine pixels within 1.42 of its middle, 255 / 9 = 28.3 each.
    assert spread[15:18, 15:18].unique().tolist() == [28]
    assert int(spread.sum()) == 9 * 28


def test_glass_moves_no_pixel_further_than_it_is_stirred() -> None:
    stirred = corrupt(dot().repeat(50, 1, 1, 1), "glass_blur", 1)  # too little blur to spread the dot at 32x32
    rows, columns = (stirred[:, 0] > 0).any(0).nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 17, 16, 17)
    assert set(stirred.unique().tolist()) == {0, 255}


def test_motion_draws_a_dot_into_a_line() -> None:
    lines = corrupt(dot().repeat(30, 1, 1, 1), "motion_blur", 5)[:, 0].float()
    # Weights exp(-i^2 / 12.5), the first of them 0.27 of all: (0.5 + sqrt(pi * 12.5) / 2) = 3.63 in sum.
    assert lines[:, 16, 16].unique().tolist() == [70.0]
    # Steps 0 to 7 leave a 255th (70 exp(-49 / 12.5) = 1.4, then 0.4); near 45 degrees two pairs of them coincide.
    assert set((lines > 0).sum((1, 2)).tolist()) <= {6, 7, 8}
    spread = (lines > 0).any(0)
    assert not spread[:, 17:].any(), "what is blurred is taken from one side"
    assert bool(spread[:16].any())
    assert bool(spread[17:].any()), "at angles of either sign"


def test_zoom_keeps_the_middle_and_smears_the_border() -> None:
    image = grey(0)
    image[:, :, 12:20, 12:20] = 255
    zoomed = corrupt(image, "zoom_blur", 5)[0, 0]
    assert zoomed[14:18, 14:18].unique().tolist() == [255]
    assert 0 < zoomed[11, 11] < 255
    assert zoomed[8, 8] == 0
    frame = grey(255)
    frame[:, :, 2:30, 2:30] = 0
    assert int(corrupt(frame, "zoom_blur", 5)[0, 0, 0, 16]) < 255


def test_fog_thickens_and_never_outshines_the_image() -> None:
    thin, thick = (corrupt(grey(100, 16), "fog", severity).float() for severity in (1, 5))
    assert float(thick.std()) > 2 * float(thin.std())
    assert thick.max() <= 100
    # The least of the fractal is 0: there brightness falls to 100 * 100 / (100 + 1.5 * 255).
    assert thick.amin((1, 2, 3)).unique().tolist() == [20.0]


def test_snow_whitens_and_frost_lies_in_ridges() -> None:
    assert float(corrupt(photographs(), "snow", 5).float().mean()) > float(photographs().float().mean()) + 20
    frosted = corrupt(grey(0, 8), "frost", 5).float() / 255
    assert 0.4 < float(frosted.max()) <= 0.45, "its share of the mix"
    assert bool((frosted[:, 2] >= frosted[:, 0]).all()), "bluish"


def test_elastic_severity_one_is_affine_alone() -> None:
    image = grey(0)
    image[:] = (torch.arange(32) * 8).to(torch.uint8)
    moved = corrupt(image, "elastic_transform", 1)[0, 0, 10:22, 10:22].float()
    # A ramp stays a plane under an affine map: its steps are the same everywhere, up to truncation.
    assert float(moved.diff(dim=0).std()) < 0.6
    assert float(moved.diff(dim=1).std()) < 0.6
    assert float(corrupt(image, "elastic_transform", 5)[0, 0, 10:22, 10:22].float().diff(dim=1).std()) > 2


def test_pixelate_leaves_blocks_and_jpeg_loses_colour() -> None:
    assert len(corrupt(photographs(1), "pixelate", 5)[0, 0].float().diff(dim=1).abs().sum(0).nonzero()) <= 20
    checks = grey(0)
    checks[:, 0, ::2, ::2] = 255
    assert distance(corrupt(checks, "jpeg_compression", 5)[:, 0], checks[:, 0]) > 40, "single red pixels are averaged"
    assert corrupt(grey(77), "jpeg_compression", 1).unique().tolist() == [77]


@pytest.mark.parametrize(("kind", "severity"), [("rain", 1), ("fog", 0), ("fog", 6)])
def test_unknown_corruptions_are_refused(kind: str, severity: int) -> None:
    with pytest.raises(ConfigError, match="no corruption"):
        corrupt(grey(0), kind, severity)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="defined for 32x32 images, these are 8x8"):
        corrupt(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "fog", SEVERITIES[0])
