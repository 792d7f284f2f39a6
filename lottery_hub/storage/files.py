"""Reading and writing single files within bounds. The only user of safetensors."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lottery_hub.errors import TicketError, printable
from lottery_hub.fetching.pointers import POINTER_ADVICE, is_pointer

MAX_JSON_BYTES = 8 * 2**20  # parsed, the worst takes thirty times as much memory
MAX_JSON_DEPTH = 64
MAX_HEADER_BYTES = 2**20
ARRAY_TYPES = ("U8", "I32", "I64")  # what the compact encoding is made of


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False too for what cannot be a path, such as a name that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    try:
        return path.is_symlink() or path.exists()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes that lies in its own folder.

    A symlink is followed to the `blobs` of a Hub cache alone, which is made of such links: any other would show what
    it leads to under a name that says something else.

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        target = path.resolve()
        home = path.parent.resolve()
        caches = [path.parent.parent for path in (home, *home.parents) if path.parent.name == "snapshots"]
        if target.parent not in (home, *(cache / "blobs" for cache in caches)):
            raise TicketError(f"{printable(path)} leads out of its folder")
        if path.is_symlink() and target.parent == home:
            raise TicketError(f"{printable(path)} is a link; put the file itself in its place")
        if not target.is_file():
            raise TicketError(f"{printable(path)} is missing, or not a file")
        with _open_regular(target) as handle:
            data = handle.read(limit + 1)
    except (OSError, ValueError, RuntimeError) as problem:  # pathlib's word for links in a circle is RuntimeError
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem
    except MemoryError as problem:
        raise TicketError(f"cannot read {printable(path)}: there is not enough memory for it") from problem
    if len(data) > limit:
        raise TicketError(f"{printable(path)} is larger than {limit} bytes")
    if is_pointer(data):
        raise TicketError(f"{printable(path)} {POINTER_ADVICE}")
    return data


# Somebody may put something else there meanwhile: a link is not followed, and a pipe not waited for.
_OPEN = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def _open_regular(path: Path) -> BinaryIO:
    handle = os.fdopen(os.open(path, _OPEN), "rb")
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError("it is not a file")
    return handle


def read_text(path: Path, limit: int) -> str:
    """Read a text of at most `limit` bytes in UTF-8, see `read_bytes`.

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise TicketError(f"{printable(path)} is not text in UTF-8") from problem


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes; see `parse_json`.

    Raises:
        TicketError: names the file and the reason.
    """
    return parse_json(read_bytes(path, limit), path)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object; duplicate keys, NaN, infinity (1e999 too), half characters, over 64 levels are refused.

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text, **_STRICT)
        if "\\u" in text:  # may be half of a surrogate pair, which could be neither printed nor written again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as problem:
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem
    if not isinstance(value, dict):
        raise TicketError(f"{printable(path)} does not hold a JSON object")
    _check_depth(value, path)
    return value


def _check_depth(value: Any, path: Path) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise TicketError(f"{printable(path)} is nested more than {MAX_JSON_DEPTH} levels deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value


def _no_constants(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large a number")
    return value


_STRICT: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_constants, "parse_float": _finite}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, with the permissions of any other file (`save_file` hides it from others)."""
    path.write_bytes(tensor_bytes(tensors))


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into CPU memory.

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError) as problem:  # TypeError: torch of sizes beyond 2^63
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write the arrays of `codec` as a safetensors file."""
    path.write_bytes(safetensors.numpy.save(dict(arrays)))


def parse_arrays(data: bytes, path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a safetensors file's bytes.

    safetensors checks offsets and sizes; before that, the header's length, its keys (the last of two equal ones
    would win) and its types are checked here.

    Raises:
        TicketError: names the file and the reason.
    """
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise TicketError(f"{printable(path)} has a header of {length} bytes, more than it holds or than is allowed")
    for name, about in parse_json(data[8 : 8 + length], path).items():
        kind = about.get("dtype") if isinstance(about, dict) else None
        if kind not in ARRAY_TYPES:
            raise TicketError(f"{printable(path)}: {printable(name)} is {printable(kind)}, not one of U8, I32, I64")
    try:
        return safetensors.numpy.load(data)
    except (SafetensorError, ValueError) as problem:
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem


def sha256(path: Path) -> str:
    """Return `sha256:…` of a file's bytes."""
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"


def sha256_of(data: bytes | memoryview) -> str:
    """Return `sha256:…` of bytes that were read already."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
