"""Paths as people type them: one function takes every path of every command and public function."""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path

from lottery_hub.errors import ConfigError, printable


def path_of(typed: str | os.PathLike[str]) -> Path:
    """Return the path that is meant.

    `~` is somebody's home. A name that is on the disk in another Unicode normal form only (é is one character or two,
    which look the same) is that name. The working folder goes by its whole path: it may be replaced by a folder that
    is written beside it, and then `.` is nowhere.
    """
    path = Path(typed)
    if path == Path():
        with suppress(OSError):  # it is nowhere already
            return Path.cwd()
    with suppress(RuntimeError):  # nobody's home: a name that begins with ~
        path = path.expanduser()
    if str(path).isascii() or exists(path):
        return path
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((other for other in forms if exists(other)), path)


def place_of(typed: str | os.PathLike[str]) -> Path:
    """Return the path that is meant where something is to be written.

    Raises:
        ConfigError: it is an address, which would become a folder called `s3:`.
    """
    if typed == "":
        raise ConfigError("the name of a file or folder is empty")
    path = path_of(typed)
    first = path.parts[0] if path.parts else ""
    if len(path.parts) > 1 and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", first) and not exists(Path(first)):
        raise ConfigError(f"{printable(typed)} is an address; give a file or folder of this machine here")
    return path


def exists(path: Path) -> bool:
    """Whether there is anything at a path; False too for what cannot be one, such as a name that is too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
