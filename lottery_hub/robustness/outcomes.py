"""Which test images a model gets right, one by one: what intervals and paired comparisons are computed from.

In records they are bits, eight images a byte, in base64: 10,000 images take 1.7 kB.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lottery_hub.errors import TicketError

Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One model on one split, image by image, in the split's order.

    Attributes:
        SA: bool [n], right on the clean image.
        RA: bool [n], right on the clean and on the attacked image; None where none was attacked.
    """

    SA: Bits
    RA: Bits | None = None

    def record(self) -> dict[str, Any]:
        """Return both as JSON-able text."""
        return {"SA": _packed(self.SA), "RA": None if self.RA is None else _packed(self.RA)}

    @classmethod
    def parse(cls, record: Any, samples: int) -> Outcomes:
        """Read what `record` wrote.

        Raises:
            TicketError: it is not of so many images.
        """
        if not isinstance(record, dict) or record.keys() != {"SA", "RA"}:
            raise TicketError("the outcomes of a transfer are not its SA and RA")
        robust = record["RA"]
        return cls(_unpacked(record["SA"], samples), None if robust is None else _unpacked(robust, samples))


def interval(ticket: Sequence[Bits], dense: Sequence[Bits] | None = None) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of an accuracy, or of the difference of two, over test images.

    Images are drawn with replacement, 2,000 times, and the 2.5th and 97.5th percentiles are taken. An image is
    drawn with all its outcomes: of every seed, and of ticket and dense alike, so that what is hard for both weighs
    on neither. What another training run would give is not in it; the deviation over seeds tells that.

    Args:
        ticket: bool [n] for each seed.
        dense: the same images under the dense backbone, for each seed; None for the accuracy itself.

    Returns:
        Lower and upper bound, in -1..1.

    Source: Efron & Tibshirani 1993, percentile interval.
    """
    values = _mean(ticket) - (_mean(dense) if dense is not None else 0.0)
    # numpy promises that the numbers of this generator never change, so that anybody computes the same interval again.
    generator = np.random.RandomState(0)
    # Only so many different values occur, so an image is drawn by drawing how often each value does.
    levels, counts = np.unique(values, return_counts=True)
    drawn = generator.multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ levels / len(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _mean(seeds: Sequence[Bits]) -> Floats:
    mean: Floats = np.mean(np.stack(seeds), axis=0, dtype=np.float64)
    return mean


def _packed(bits: Bits) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def _unpacked(text: Any, samples: int) -> Bits:
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (TypeError, ValueError, binascii.Error) as problem:
        raise TicketError("the outcomes of a transfer are not base64") from problem
    bits = np.unpackbits(data)
    if len(data) != -(-samples // 8) or bits[samples:].any():
        raise TicketError(f"the outcomes of a transfer are not of {samples} images")
    return bits[:samples].astype(np.bool_)
