"""Whose a folder is: wholly ours, and then an older version may make room for a newer one, or somebody's in some part.

Ours is what stands there as this library wrote it: config.json that names a ticket, ladder or backbone, the two files
with the hashes it names, a card that nobody has changed since it was rendered, and the networks in `trained/`, each of
them a folder like that. Anything else is somebody's: notes, pictures, `.git`, an edited card, a damaged file, a link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from lottery_hub.errors import TicketError
from lottery_hub.storage import atomic, files, manifest
from lottery_hub.storage.signing import is_untouched

CONFIG, RESULTS, CARD, TRAINED = "config.json", "results.json", "README.md", "trained"
MAX_CONFIG_BYTES = 2**20
MAX_CARD_BYTES = 4 * 2**20


def first_foreign(folder: Path, trained: Collection[str] = ()) -> str | None:
    """Return the first thing in a folder that is not ours, or None: then the folder is wholly ours, or empty.

    Args:
        folder: a folder that is there.
        trained: names of trained networks that may make room; others are hours of work, and stay.

    Raises:
        OSError: it cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir())
    try:
        about = manifest.parse_manifest(files.read_json(folder / CONFIG, MAX_CONFIG_BYTES))
    except TicketError:
        return CONFIG if CONFIG in names else next(iter(names), None)
    hashed = (RESULTS, f"{about.content}.safetensors")
    for name in names:
        path = folder / name
        if name == TRAINED and path.is_dir() and not path.is_symlink():
            inside = _first_foreign_network(path, trained)
            if inside is not None:
                return f"{TRAINED}/{inside}"
        elif name == CARD:
            if not is_our_card(path):
                return name
        elif not _is_regular(path) or (
            name != CONFIG and (name not in hashed or files.sha256(path) != about.hashes.get(name))
        ):
            return name
    return None


def _first_foreign_network(folder: Path, trained: Collection[str]) -> str | None:
    for path in sorted(folder.iterdir()):
        if path.name not in trained or path.is_symlink() or not path.is_dir():
            return path.name
        inside = first_foreign(path)
        if inside is not None:
            return f"{path.name}/{inside}"
    return None


def is_our_card(path: Path) -> bool:
    """Whether a card is as this library rendered it."""
    try:
        return _is_regular(path) and is_untouched(files.read_bytes(path, MAX_CARD_BYTES).decode("utf-8"))
    except (TicketError, ValueError):
        return False


def leave(path: Path, content: bytes, overwrite: bool = False) -> Path:
    """Write a page or picture where there is none, or in place of one that is as this library rendered it.

    Args:
        path: of the file; missing folders are made.
        content: what becomes of it; one that ends with a signature (see `signing`) makes room for the next.
        overwrite: move what is somebody's aside, to `NAME.old`, instead of refusing.

    Returns:
        The path.

    Raises:
        TicketError: something else is there, or the file cannot be written.
    """
    if is_our_card(path):
        atomic.write_bytes(path, content)
        return path
    with atomic.new_file(path, overwrite=overwrite) as fresh:
        fresh.write_bytes(content)
    return path


def carry_over(older: Path, newer: Path) -> None:
    """Give a folder all that an older one holds besides, as hard links, or copies where the file system has none.

    Raises:
        OSError: something cannot be linked or copied.
    """
    for entry in os.scandir(older):
        place = newer / entry.name
        if entry.is_dir(follow_symlinks=False):
            new = not place.exists()
            place.mkdir(exist_ok=True)
            carry_over(Path(entry.path), place)
            if new:
                shutil.copystat(entry.path, place)
        elif not os.path.lexists(place):
            try:
                os.link(entry.path, place, follow_symlinks=False)
            except OSError:
                shutil.copy2(entry.path, place, follow_symlinks=False)


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
