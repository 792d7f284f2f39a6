"""Pictures of every kind come out as the same pixels, and none is silently misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lottery_hub.errors import DataError
from lottery_hub.images.pictures import as_pixels, one_by_one

RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
FIRST = torch.from_numpy(RGB.transpose(2, 0, 1).copy())


@pytest.mark.parametrize(
    "picture",
    [Image.fromarray(RGB), RGB, RGB.transpose(2, 0, 1), FIRST, FIRST.permute(1, 2, 0), FIRST / 255, RGB / 255.0],
    ids=["Pillow", "array", "channels first", "tensor", "channels last", "floats", "doubles"],
)
def test_a_picture_of_the_right_size_is_its_own_pixels(picture: Any) -> None:
    torch.testing.assert_close(as_pixels(picture, 6), FIRST.float(), rtol=0, atol=2e-5)


def test_a_file_is_the_same_picture(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert torch.equal(as_pixels(path, 6), FIRST.float())


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_another_size_is_its_central_square_resized(kind: str) -> None:
    wide = np.zeros((4, 40, 3), dtype=np.uint8)
    wide[:, 10:30] = 200  # and so is the central square, with what a filter sees beside it
    shown = as_pixels(wide if kind == "uint8" else wide / 255, 2)
    assert torch.equal(shown, torch.full((3, 2, 2), 200.0))


def test_grey_is_repeated() -> None:
    grey = np.full((5, 5), 51, dtype=np.uint8)
    for picture in (grey, grey[:, :, None], torch.from_numpy(grey)[None], grey / 255):
        torch.testing.assert_close(as_pixels(picture, 5), torch.full((3, 5, 5), 51.0))


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (RGB.astype(np.float32), r"has floats from 0 to 2\d\d, not in \[0,1\]"),
        (RGB / 255 - 0.5, r"not in \[0,1\]; give pixels that are not normalised"),
        (np.full((6, 6, 3), np.nan), "not in"),
        (RGB.astype(np.int64), "is of int64; give uint8"),
        (RGB[:, :, :2], r"has shape \(6, 6, 2\), which is no grey or RGB picture"),
        ("nowhere.png", "nowhere.png is no file"),
        (np.zeros((0, 0, 3), np.uint8), r"has shape \(0, 0, 3\), and no pixels"),
        (torch.zeros(3, 6, 6, device="meta"), "cannot be read as an array"),
    ],
    ids=["0 to 255", "normalised", "nan", "int64", "two channels", "no file", "no pixels", "no data"],
)
def test_what_would_be_misread_is_refused(picture: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        as_pixels(picture, 6)


def test_pictures_come_one_by_one_however_they_are_packed() -> None:
    pillow = Image.fromarray(RGB)
    assert len(list(one_by_one(pillow))) == len(list(one_by_one(RGB))) == len(list(one_by_one("a.png"))) == 1
    assert len(list(one_by_one([pillow, RGB, torch.stack([FIRST, FIRST]), ["a.png"]]))) == 5
    assert pillow.getpixel((0, 0)) == tuple(RGB[0, 0])  # and stays open
    with pytest.raises(DataError, match="no picture: a int"):
        list(one_by_one(3))
