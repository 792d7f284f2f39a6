"""What people pickle beside their weights: arguments, best accuracies, paths. It is passed over, not built.

torch's restricted unpickler refuses a file for any class that it does not know, wherever it stands. For the names below
it is given a stand-in that takes whatever it is handed and keeps nothing: neither argparse nor numpy nor pathlib is
called with what a stranger wrote. A state dict that is made of them is none, since they are no tensors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Unread:
    """An object of a file that nobody asked for: it was not built, and holds nothing."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Unread:
        """Take what the original was made from, and forget it."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Forget what the original held."""


# Under every name that a version of Python or numpy gives them. `collections.OrderedDict` torch reads itself.
NAMES = (
    "argparse.Namespace",  # the options of the script: timm's train.py and many that follow it
    # A best accuracy that came out of numpy, and histories of them.
    "numpy.dtype",
    "numpy.ndarray",
    *(f"{core}.multiarray.{made}" for core in ("numpy.core", "numpy._core") for made in ("scalar", "_reconstruct")),
    # Where the data was.
    *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")),
    *(f"{module}.Pure{kind}" for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")),
)
_STANDINS: list[Any] = [(Unread, name) for name in NAMES]
_ONE_AT_A_TIME = threading.Lock()  # torch keeps the list for all threads


@contextmanager
def passed_over() -> Iterator[None]:
    """Let torch.load pass over the objects of `NAMES` within this context."""
    with _ONE_AT_A_TIME, torch.serialization.safe_globals(_STANDINS):
        yield
