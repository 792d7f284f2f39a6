"""Checkpoints: torch's own files, read without running anything in them and without more memory than they hold.

Ours carry their hash in a first line, since a few zeroed bytes of a tensor would go unnoticed:

    sha256:HEX\\n
    what torch.save writes
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from lottery_hub.errors import TicketError, printable
from lottery_hub.storage import atomic, files, standins

_LINE = len(files.sha256_of(b"")) + 1

# What torch.load raises over damaged bytes: an unpickler stumbles over whatever comes next.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or absent, with its hash.

    Raises:
        WriteError: the disk does not take it.
    """
    buffer = BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    atomic.write_bytes(path, f"{files.sha256_of(payload)}\n".encode(), payload)


def load(path: Path, limit: int) -> dict[str, Any]:
    """Read what `save` wrote.

    Args:
        path: the file.
        limit: bytes beyond which it is refused unread.

    Raises:
        TicketError: it is not whole, or not ours.
    """
    data = memoryview(files.read_bytes(path, limit))
    if bytes(data[:_LINE]) != f"{files.sha256_of(data[_LINE:])}\n".encode():
        raise TicketError(f"{printable(path)} is damaged (sha256 differs)")
    state = unpickled(BytesIO(data[_LINE:]), path)
    if not isinstance(state, dict):
        raise TicketError(f"{printable(path)} is no checkpoint")
    return state


def unpickled(file: IO[bytes], path: Path) -> Any:
    """Return what torch.save wrote; no code in it is run, and what else people pickle is passed over: see `standins`.

    Args:
        file: open at its beginning.
        path: its name, for messages.

    Raises:
        TicketError: it is damaged, asks for code to be run, or would unfold to more than it holds.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_stored(file, path)
        file.seek(0)
        with standins.passed_over():
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        named = re.search(r"GLOBAL (\S+) (?:was not|whose)", str(problem))
        calls = f" (it asks for {printable(named[1])})" if named else ""
        raise TicketError(
            f"{printable(path)} is damaged, or needs code to be run to be opened{calls}, which is refused; "
            "save its state dict as .safetensors where it comes from"
        ) from problem
    except _UNREADABLE as problem:
        reason = printable(problem) or type(problem).__name__
        raise TicketError(f"cannot read {printable(path)}: {reason}") from problem


def _check_stored(file: IO[bytes], path: Path) -> None:
    """Refuse compressed entries, which torch never writes: a megabyte of them may unfold to a gigabyte."""
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise TicketError(f"{printable(path)} has compressed entries, which torch does not write")
