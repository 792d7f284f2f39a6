"""Files that are whole or absent, and read within bounds. The only user of safetensors."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lottery_hub.errors import TicketError, printable

MAX_JSON_BYTES = 32 * 2**20


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False too for what cannot be a path, such as a name that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target`, at once and synced to disk, if the block succeeds.

    An older `target` gives way only when the new one is complete. A file-by-file save into place would
    leave a mixture behind if it were killed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name}.{secrets.token_hex(4)}.new"
    fresh.mkdir()
    try:
        yield fresh
        for path in [*fresh.rglob("*"), fresh]:
            _sync(path)
        _swap(fresh, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_suffix(".old")
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or absent: to a neighbour, synced, then renamed."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN), indented, whole or absent."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object within `MAX_JSON_BYTES`, refusing duplicate keys, NaN and infinity (1e999 too).

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise TicketError(f"{printable(path)} is larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"), **_STRICT)
    except (OSError, ValueError, RecursionError) as problem:
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem
    if not isinstance(value, dict):
        raise TicketError(f"{printable(path)} does not hold a JSON object")
    return value


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
    path.write_bytes(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into CPU memory.

    Raises:
        TicketError: names the file and the reason.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError, ValueError) as problem:
        raise TicketError(f"cannot read {printable(path)}: {printable(problem)}") from problem


def sha256(path: Path) -> str:
    """Return `sha256:…` of a file's bytes."""
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
