"""What records say of a network's pictures, and what is said of sizes before hours go into them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.fitting import Fit, check_resampled_once, fit_of, larger_notes
from lottery_hub.settings.config import Recipe

RECORDS = {"data": {"image_size": 256, "class_names": ["cat", "dog"]}, "recipe": {"image_size": 224}}


def test_records_say_what_a_network_sees_and_answers() -> None:
    fit = fit_of(RECORDS, 2)
    assert fit == Fit(224, 256, ("cat", "dog"))
    assert (fit.crop_pct, fit.name(1), fit.name(2)) == (0.875, "dog", "2")
    assert fit.at(112) == Fit(112, 128, ("cat", "dog"))
    assert fit_of({}, 2) == Fit(32, 32)
    assert Fit(64, 64).crop_pct == 1.0


@pytest.mark.parametrize(
    "data", [3, {}, {"image_size": "big"}, {"class_names": ["cat"]}, {"class_names": [1, 2]}], ids=str
)
def test_odd_records_say_nothing(data: Any) -> None:
    assert fit_of({"data": data, "recipe": {"image_size": 64}}, 2) == Fit(64, 64)


@pytest.mark.parametrize(
    ("sides", "seen", "says"),
    [
        ((80, 260), 32, "are 80 to 260 pixels a side, and the network sees 32x32 of them; --image-size 64 .* 4 times"),
        ((500, 500), 32, "are 500 pixels a side, .*--image-size 224 shows it more, at about 49 times the work"),
        ((64, 64), 32, "--image-size 64"),
        ((32, 48), 32, None),
        ((4000, 4000), 224, None),
        (None, 32, None),
    ],
    ids=str,
)
def test_pictures_much_larger_than_what_is_seen_are_told(
    tiny_data: Dataset, sides: tuple[int, int] | None, seen: int, says: str | None
) -> None:
    notes = larger_notes(replace(tiny_data, original_sides=sides), seen)
    assert notes == [] if says is None else re.search(says, *notes)


def test_images_that_would_be_resampled_twice_are_refused() -> None:
    check_resampled_once(32, Recipe(epochs=1, lr=0.1))
    check_resampled_once(256, Recipe(epochs=1, lr=0.1, augment="random-resized-crop", image_size=224))
    with pytest.raises(ConfigError, match=r"stored at 96x96 pixels, and the recipe shows them at 32x32: .*twice"):
        check_resampled_once(96, Recipe(epochs=1, lr=0.1))
