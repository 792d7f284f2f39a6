"""Somebody's files beside everything that a stranger is given: whatever happens there, each stays what it was.

A scene has a HOME with a key in it, a folder of private things, an empty folder to work in, and one for temporary
files. What is in it is noted before and after: names, modes, contents, links.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY----- this is nobody else's business"

Note = dict[str, tuple[str, int, str]]  # path → kind, mode, digest or target


@dataclass
class Scene:
    """A place for one case.

    Attributes:
        root: of all of it.
        asked: what the case may create or change, and everything below; nothing else may.
        kept: what is below `asked` and must stay all the same: the user's own files there.
        look_away: whether the case reads the victim's files because its user says so.
    """

    root: Path
    asked: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    look_away: bool = False

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def victim(self) -> Path:
        return self.root / "victim"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    def build(self) -> None:
        """Make everything; whatever was there before is gone."""
        remove(self.root)
        for folder in (self.home / ".ssh", self.victim / ".git/refs/heads", self.victim / "pictures", self.work):
            folder.mkdir(parents=True)
        for folder in (self.temporary, self.victim / "empty", self.victim / "trained"):
            folder.mkdir()
        private = {
            self.home / ".ssh/id_rsa": SECRET,
            self.home / ".gitconfig": b"[user]\n\tname = victim\n",
            self.home / "thesis.tex": b"\\documentclass{book} three years of work " + SECRET,
            self.victim / "notes.txt": b"notes " + SECRET,
            self.victim / "main": b"a file called as a branch is",
            self.victim / ".hidden": b"hidden " + SECRET,
            self.victim / ".git/HEAD": b"ref: refs/heads/main\n",
            self.victim / ".git/refs/heads/main": b"1" * 40,
            self.victim / "pictures/figure.png": b"\x89PNG " + SECRET,
            self.victim / "config.json": b'{"somebody": "else\'s settings"}',
            self.victim / "README.md": b"# somebody's project\n" + SECRET,
            self.victim / "results.json": b'{"mine": 1}',
            self.victim / "trained/mine.txt": b"mine",
            self.victim / "read-only": b"read only",
        }
        for path, content in private.items():
            path.write_bytes(content)
        (self.home / ".ssh/id_rsa").chmod(0o600)
        (self.victim / "read-only").chmod(0o400)
        (self.victim / "link").symlink_to("notes.txt")
        (self.victim / "outward").symlink_to(self.home / "thesis.tex")
        (self.victim / "dangling").symlink_to("nothing")

    def note(self) -> Note:
        """Return everything that there is, without following a link."""
        found: Note = {}
        for path in _below(self.root):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                said = ("link", 0, str(path.readlink()))
            elif stat.S_ISDIR(mode):
                said = ("folder", stat.S_IMODE(mode), "")
            elif stat.S_ISREG(mode):
                said = ("file", stat.S_IMODE(mode), _digest(path))
            else:
                said = ("other", stat.S_IMODE(mode), "")
            found[str(path)] = said
        return found

    def damage(self, before: Note) -> list[str]:
        """Return what was done that nobody asked for since `before` was noted, a line each."""
        after = self.note()
        lines = []
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) == after.get(name) or self._was_asked(Path(name), after.get(name)):
                continue
            verb = "created" if name not in before else "deleted" if name not in after else "changed"
            lines.append(f"{verb} {Path(name).relative_to(self.root)}")
        return lines

    def _was_asked(self, path: Path, now: tuple[str, int, str] | None) -> bool:
        if any(path == mine or mine in path.parents for mine in self.kept):
            return False
        if any(path == place or place in path.parents for place in self.asked):
            return True
        # A folder on the way to what was asked for.
        return now is not None and now[0] == "folder" and any(path in place.parents for place in self.asked)


def _below(root: Path) -> Iterable[Path]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            yield Path(folder, name)


def _digest(path: Path) -> str:
    if path.stat().st_size > 2**26:  # made by a case, and mostly holes
        return f"{path.stat().st_size} bytes"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(root: Path) -> None:
    """Remove a scene, read-only parts too."""
    if root.is_dir() and not root.is_symlink():
        for path in _below(root):
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):
                    path.chmod(0o700)
        shutil.rmtree(root)


class Peeking:
    """Notes which of the victim's files this process opens or lists, through whatever link it comes to them."""

    EVENTS = frozenset({"open", "os.listdir", "os.scandir"})

    def __init__(self) -> None:
        self.private: tuple[str, ...] = ()
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def watch(self, scene: Scene | None) -> None:
        self.seen = []
        self.private = () if scene is None else (f"{scene.home}/", f"{scene.victim}/")

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.private or event not in self.EVENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        private, self.private = self.private, ()  # what follows opens nothing, but asks
        with suppress(OSError, ValueError):
            place = os.path.realpath(os.fsdecode(arguments[0])) + "/"
            if place.startswith(private):
                self.seen.append(place.rstrip("/"))
        self.private = private


class Opening:
    """Tells of each file that is about to be opened by its name, so that something may happen to it first."""

    def __init__(self) -> None:
        self._told: Callable[[str], object] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def tell(self, told: Callable[[str], object]) -> Iterator[None]:
        self._told = told
        try:
            yield
        finally:
            self._told = None

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        told = self._told
        if told is None or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        self._told = None  # what it does itself is not told
        try:
            told(os.fsdecode(arguments[0]))
        finally:
            self._told = told
