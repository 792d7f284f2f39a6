"""Which tricks are on. All are, unless the environment says otherwise: LOTTERY_HUB_WITHOUT=folding,channels-last.

They change how numbers are computed and not which; docs/performance.md says what each gains. Precision is no trick
but a setting of recipes, since it does change numbers.
"""

from __future__ import annotations

import os

import torch

TRICKS = {
    "folding": "BatchNorm becomes part of the convolutions where nothing is learned",
    "stem": "the first convolution runs on blocks of 2x2 pixels (with folding)",
    "small-maps": "convolutions over a few pixels become products of matrices",
    "channels-last": "images and weights lie in memory pixel by pixel",
}


def on(trick: str) -> bool:
    """Whether a trick is used."""
    assert trick in TRICKS
    return trick not in os.environ.get("LOTTERY_HUB_WITHOUT", "").split(",")


def memory_format() -> torch.memory_format:
    """Return how images and weights lie in memory."""
    return torch.channels_last if on("channels-last") else torch.contiguous_format
