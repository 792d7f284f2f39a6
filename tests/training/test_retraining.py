"""Trained again: what may be luck of another run is a few points, whatever deviation a forger records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.training.retraining import FAR, NEAR, _compared


def measured(right: int, count: int = 1000, first: int = 0) -> dict[str, Any]:
    bits = np.roll(np.arange(count) < right, first)
    return {"RA": right / count, "samples": count, "outcomes": Outcomes(bits, bits).record()}


@pytest.mark.parametrize("alike", [True, False])
def test_the_same_outcomes_are_no_difference(alike: bool) -> None:
    assert _compared("RA", measured(600), measured(600), alike) == (0.0, "")


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("now", [490, 710])
def test_eleven_points_are_too_many_in_either_direction(alike: bool, now: int) -> None:
    net, why = _compared("RA", measured(600), measured(now), alike)
    assert net == pytest.approx(0.11)
    assert why == f"60.00% recorded, {now / 10:.2f}% now; 10% may be luck of another run, and no more"


def test_on_the_machine_of_the_records_images_are_counted_and_not_what_they_add_up_to() -> None:
    then, now = measured(600), measured(600, first=90)
    assert _compared("RA", then, now, alike=False) == (0.0, "")
    _, why = _compared("RA", then, now, alike=True)
    assert why.startswith("180 of 1000 images came out otherwise on such a machine as recorded them")


def test_between_luck_and_an_edit_there_is_room_for_not_knowing() -> None:
    net, why = _compared("RA", measured(600), measured(530), alike=False)
    assert NEAR < net < FAR
    assert why == ""
