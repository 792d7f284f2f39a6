"""The table of what strangers give: each row makes one case of a kind, from a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from victims import SECRET, Scene

GROUPS = ("folders", "cards", "records", "checkpoints", "runs", "hub")


def anything(_: Any) -> str:
    """Find nothing wrong: what is right is that nothing else happened."""
    return ""


class Case(NamedTuple):
    """What a user does with what a stranger gave.

    Attributes:
        act: what is done.
        right: given what came of it, what is wrong with that.
        far: whether it is done in another process.
    """

    act: Callable[[], Any]
    right: Callable[[Any], str] = anything
    far: bool = False


Generator = Callable[[Scene, random.Random], Case]


class Row(NamedTuple):
    generator: Generator
    often: int


TABLE: dict[str, dict[str, Row]] = {group: {} for group in GROUPS}


def stranger(group: str, often: int = 4) -> Callable[[Generator], Generator]:
    """Put a generator into the table: cases of its group are its own as `often` says, of the sum of all."""

    def enter(generator: Generator) -> Generator:
        TABLE[group][generator.__name__] = Row(generator, often)
        return generator

    return enter


def refuses(_: Any) -> str:
    """Say that something was accepted that never is right."""
    return "accepted"


def no_secret_in(folder: Path) -> str:
    """Say which file below holds what is the victim's."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size < 2**26 and SECRET in path.read_bytes():
            return f"{path.name} holds the victim's secret"
    return ""


def no_secret(content: dict[str, bytes]) -> str:
    """Say which of these files holds what is the victim's."""
    return next((f"{name} holds the victim's secret" for name, data in content.items() if SECRET in data), "")


def replace_by_something(path: Path, scene: Scene, rng: random.Random) -> None:
    """Put something in the place of a file that is not the file it should be."""
    target = rng.choice(
        [scene.home / ".ssh/id_rsa", scene.home / "thesis.tex", scene.victim / "pictures/figure.png", scene.victim]
    )
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        path.rename(path.with_name(f".{path.name}.away"))
    path.parent.mkdir(parents=True, exist_ok=True)

    def link(to: Path | str) -> None:
        path.symlink_to(to)

    def sparse() -> None:
        path.touch()
        os.truncate(path, 2**31)  # within the addresses that a case may have, and beyond its memory

    def chain() -> None:
        path.with_name(f"{path.name}.hop").symlink_to(target)
        path.symlink_to(f"{path.name}.hop")

    rng.choice(
        [
            lambda: link(target),
            lambda: link(os.path.relpath(target, path.parent)),
            lambda: link("/dev/zero"),
            lambda: link("/proc/self/environ"),
            lambda: link(path.name),
            chain,
            lambda: os.mkfifo(path),
            path.mkdir,
            sparse,
            lambda: path.write_bytes(b"\xff\xfe\x00" + rng.randbytes(40)),
            lambda: path.write_bytes(b""),
            lambda: path.write_bytes(b"x" * 20_000_000),
        ]
    )()
