"""Which tricks are on: LOTTERY_HUB_WITHOUT=folding,channels-last switches some off, LOTTERY_HUB_WITH=compile others on.

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
    "graphs": "a GPU is told a whole step at once, as it was recorded, and not kernel by kernel",
    "compile": "torch.compile writes kernels of its own; that takes a minute at the beginning",
}
# What is off unless it is asked for: on any device, and by the kind of device where it was measured to lose there.
OFF: dict[str, set[str]] = {"": {"compile"}}


def on(trick: str, device: torch.device | str = "cpu") -> bool:
    """Whether a trick is used, on such a device."""
    assert trick in TRICKS
    if trick in os.environ.get("LOTTERY_HUB_WITHOUT", "").split(","):
        return False
    if trick in os.environ.get("LOTTERY_HUB_WITH", "").split(","):
        return True
    return trick not in OFF[""] | OFF.get(torch.device(device).type, set())


def memory_format() -> torch.memory_format:
    """Return how images and weights lie in memory."""
    return torch.channels_last if on("channels-last") else torch.contiguous_format
