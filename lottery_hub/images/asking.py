"""What may be asked of a dataset: sizes, shares and seeds, checked before anything of it is read."""

from __future__ import annotations

from typing import TypeGuard

from lottery_hub.errors import DataError, printable
from lottery_hub.values import whole

SIDES = range(8, 1025)  # of images given in Python, in pixels: what a plan takes


def check_settings(image_size: object, fraction: object, validation: object, split_seed: object) -> None:
    """Raise DataError where one of them is of another kind, or out of range."""
    if not 1 <= (whole(image_size) or 0) < SIDES.stop:
        raise DataError(f"image_size must be a whole number from 1 to {SIDES.stop - 1}, not {_shown(image_size)}")
    if not _is_number(fraction) or not 0 < fraction <= 1:
        raise DataError(f"fraction must be in (0, 1], not {_shown(fraction)}; 0.1 keeps a tenth of the training images")
    if not _is_number(validation) or not 0 < validation < 1:
        raise DataError(f"validation must be a share between 0 and 1, not {_shown(validation)}")
    seed = whole(split_seed)
    if seed is None or seed < 0:
        raise DataError(f"split_seed must be a whole number, 0 or more, not {_shown(split_seed)}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return printable(repr(value), 60)
