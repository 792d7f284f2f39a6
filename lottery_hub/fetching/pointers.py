"""Git LFS pointers: the hundred bytes that a checkout without `git lfs` leaves where a large file should be."""

from __future__ import annotations

from pathlib import Path

from lottery_hub.errors import TicketError, printable

_BEGINNING = b"version https://git-lfs.github.com/spec/"

POINTER_ADVICE = "is a Git LFS pointer, not the file itself; run `git lfs pull` where it comes from"


def is_pointer(beginning: bytes) -> bool:
    """Whether a file that begins with these bytes is a pointer to one that was not fetched."""
    return beginning.startswith(_BEGINNING)


def is_pointer_file(path: Path) -> bool:
    """Whether there is a pointer at `path`."""
    try:
        with path.open("rb") as file:
            return is_pointer(file.read(len(_BEGINNING)))
    except (OSError, ValueError):
        return False


def check_fetched(folder: Path) -> None:
    """Raise TicketError where a pointer lies in a folder in place of weights."""
    for name in ("ticket", "ladder", "backbone", "model"):
        if is_pointer_file(path := folder / f"{name}.safetensors"):
            raise TicketError(f"{printable(path)} {POINTER_ADVICE}")
