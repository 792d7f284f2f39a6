"""Golomb-Rice coding of small whole numbers, in numpy: two bit streams and one parameter a sequence.

A number n with parameter r is split into n >> r, written in unary (that many zeros, then a one), and its r
low bits, written in binary. The two parts go to streams of their own, so that a decoder finds every number
at once: where the ones are in the unary stream says all of the n >> r.

    numbers 0 3 1 5, r = 1      n >> r  0 1 0 2      low bits  0 1 1 1
    unary   1 01 1 001          binary  0111         both padded with zeros to whole bytes

The binary stream holds plane after plane: first the lowest bit of all numbers of a sequence, then the next.
Sequences follow each other bit by bit, without padding in between.

Source: Golomb 1966; Rice and Plaunt 1971.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lottery_hub.errors import TicketError

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

CHUNK = 2**16  # numbers worked on at once, so that what lies between input and output stays in the cache
MAX_PARAMETER = 24  # 2^24 is beyond the gaps of any tensor of the allowed architectures


def encode(sequences: Sequence[Numbers]) -> tuple[list[int], Bytes, Bytes]:
    """Return (a parameter for each sequence, unary stream, binary stream).

    Args:
        sequences: whole numbers from 0 to 2^24 in each.
    """
    parameters = [best_parameter(numbers) for numbers in sequences]
    high = [numbers >> r for numbers, r in zip(sequences, parameters, strict=True)]
    planes = [
        ((numbers >> bit) & 1).astype(np.uint8)
        for numbers, r in zip(sequences, parameters, strict=True)
        for bit in range(r)
    ]
    binary = np.packbits(np.concatenate([*planes, np.zeros(0, np.uint8)]))
    return parameters, unary(np.concatenate([*high, np.zeros(0, np.int64)])), binary


def unary(numbers: npt.NDArray[np.integer]) -> Bytes:
    """Return the unary stream of `numbers`: for each as many zeros, then a one."""
    parts = [np.zeros(0, np.uint8)]
    for start in range(0, len(numbers), CHUNK):
        ends = np.cumsum(numbers[start : start + CHUNK].astype(np.int64) + 1)
        parts.append(np.zeros(int(ends[-1]), np.uint8))
        parts[-1][ends - 1] = 1
    return np.packbits(np.concatenate(parts))


def decode(counts: Sequence[int], parameters: Sequence[int], unary_stream: Bytes, binary: Bytes) -> list[Numbers]:
    """Return the sequences, of `counts` numbers each.

    Raises:
        TicketError: the streams do not hold exactly these numbers, or their padding is not zero.
    """
    if not all(0 <= r <= MAX_PARAMETER for r in parameters):
        raise TicketError(f"a Rice parameter is not in 0..{MAX_PARAMETER}")
    total, low_bits = sum(counts), sum(n * r for n, r in zip(counts, parameters, strict=True))
    if len(unary_stream) * 8 < total or len(binary) != (low_bits + 7) // 8:
        raise TicketError(f"the streams are too short or too long for {total} numbers")
    ones = np.unpackbits(unary_stream).view(bool)
    # Counted before they are listed, at eight bytes each.
    if (found := np.count_nonzero(ones)) != total:
        raise TicketError(f"the unary stream holds {found} numbers, not {total}")
    ends = np.flatnonzero(ones)
    if len(unary_stream) != (int(ends[-1]) // 8 + 1 if total else 0):
        raise TicketError("the unary stream goes on after its last number")
    high = ends.copy()
    high[1:] -= ends[:-1] + 1
    bits = np.unpackbits(binary)
    if bits[low_bits:].any():
        raise TicketError("the padding of the binary stream is not zero")
    sequences = []
    number = bit = 0
    for count, r in zip(counts, parameters, strict=True):
        numbers = high[number : number + count] << r
        for plane in range(r):
            numbers |= bits[bit : bit + count].astype(np.int64) << plane
            bit += count
        sequences.append(numbers)
        number += count
    return sequences


def best_parameter(numbers: Numbers) -> int:
    """Return the parameter that codes `numbers` in the fewest bits."""
    if not len(numbers):
        return 0
    # For positions drawn at random the best parameter is near log2(mean gap * ln 2); real masks differ a little.
    guess = max(0, int(np.log2(max(float(numbers.mean()) * 0.69, 1))))
    candidates = range(max(0, guess - 1), min(MAX_PARAMETER, guess + 2) + 1)
    return min(candidates, key=lambda r: len(numbers) * r + int((numbers >> r).sum()))
