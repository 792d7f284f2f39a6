"""Finished work under a seal: its record and the hash of every file, in one file that is written last.

    result.json   {"given": what determines it, "record": …, "files": {name: sha256}, "sha256": of those three}

A seal is canonical JSON and carries its own hash, so that one flipped bit shows, there or in any file it names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lottery_hub.errors import TicketError, printable
from lottery_hub.storage import atomic, files

SEAL = "result.json"


class Sealed(NamedTuple):
    """What a seal says: what determined the work (name → value), its record, and file → `sha256:…`."""

    given: dict[str, Any]
    record: dict[str, Any]
    files: dict[str, str]


def seal(folder: Path, record: Mapping[str, Any], given: Mapping[str, Any], without: str = "") -> None:
    """Seal what is in a folder; everything is on the disk before the seal is, which is whole or absent.

    Args:
        folder: which to seal.
        record: of the work, JSON-able.
        given: what determined it, JSON-able.
        without: a file that is about to go.

    Raises:
        TicketError: the disk does not take it, or something in the folder is no regular file.
    """
    hashes = {}
    with atomic.writing(folder):
        for name, path in sorted(_found(folder).items()):
            if name == without:
                continue
            atomic.sync(path)
            hashes[name] = files.sha256(path)
    write(folder / SEAL, Sealed(dict(given), dict(record), hashes))


def read(folder: Path) -> Sealed:
    """Return what the seal of a folder says, when every file it names is what it was.

    Raises:
        TicketError: names the file that is missing or differs.
    """
    sealed = parse(folder / SEAL)
    try:
        found = _found(folder)
        for name, wanted in sealed.files.items():
            if name not in found:
                raise TicketError(f"{printable(folder / name)} is missing")
            if files.sha256(found[name]) != wanted:
                raise TicketError(f"{printable(found[name])} is damaged (sha256 differs)")
    except OSError as problem:
        raise TicketError(f"cannot read {printable(folder)}: {printable(problem)}") from problem
    return sealed


def write(path: Path, sealed: Sealed) -> None:
    """Write a seal by itself, whole or absent."""
    said = sealed._asdict()
    atomic.write_text(path, atomic.json_text(said | {"sha256": digest(said)}))


def parse(path: Path) -> Sealed:
    """Read a seal by itself.

    Raises:
        TicketError: it is damaged, or was never one.
    """
    text = files.read_bytes(path, files.MAX_JSON_BYTES)
    said = files.parse_json(text, path)
    claimed = said.pop("sha256", None)
    shapes = dict.fromkeys(Sealed._fields, dict)
    if {name: type(value) for name, value in said.items()} != shapes or claimed != digest(said):
        raise TicketError(f"{printable(path)} is damaged, or of another version (its own sha256 differs)")
    if atomic.json_text(said | {"sha256": claimed}).encode() != text:
        raise TicketError(f"{printable(path)} is damaged (it is not written as it was)")
    return Sealed(**said)


def digest(value: Mapping[str, Any]) -> str:
    """Return `sha256:…` of a JSON value."""
    return files.sha256_of(atomic.json_text(value).encode())


def _found(folder: Path) -> dict[str, Path]:
    """Return name → path of every file below a folder but the seal, as `a/b`; where there is a link, it is refused."""
    found = {}
    for place, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            path = Path(place, name)
            kind = path.lstat().st_mode
            if stat.S_ISLNK(kind):
                raise TicketError(f"{printable(path)} is a link, not a regular file")
            if stat.S_ISDIR(kind) or path == folder / SEAL or name.startswith("."):  # hidden: what a killed write left
                continue
            if not stat.S_ISREG(kind):
                raise TicketError(f"{printable(path)} is not a regular file")
            found[path.relative_to(folder).as_posix()] = path
    return found


def _raise(problem: OSError) -> None:
    raise problem
