"""Git LFS pointers: the hundred bytes that a checkout without `git lfs` leaves where a large file should be."""

from __future__ import annotations

from pathlib import Path

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
    except OSError:
        return False
