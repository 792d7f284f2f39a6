"""Names, numbers and texts as somebody gives them who means harm."""

from __future__ import annotations

import os
import random
from typing import Any

from mutations import odd, places
from victims import Scene


def path_to(scene: Scene, rng: random.Random) -> str:
    """Return a path to one of the victim's files or folders, spelled in one of many ways."""
    target = rng.choice(
        [
            scene.home / ".ssh/id_rsa",
            scene.home / "thesis.tex",
            scene.home / ".ssh",
            scene.victim,
            scene.victim / "notes.txt",
            scene.victim / "main",
            scene.victim / "config.json",
            scene.victim / ".git/HEAD",
            scene.victim / "pictures",
            scene.victim / "new-file",
            scene.victim / "empty/new-file",
        ]
    )
    spelled = [str(target), os.path.relpath(target, scene.work), f"x/../{os.path.relpath(target, scene.work)}"]
    spelled += ["../" * 12 + str(target).lstrip("/"), f"//{target}", f"file://{target}", f"./{target}"]
    return rng.choice([*spelled[:2], *spelled])


def name(scene: Scene, rng: random.Random) -> str:
    """Return what is no name of anything, or one that leads elsewhere."""
    if rng.random() < 0.5:
        return path_to(scene, rng)
    return rng.choice(
        [
            *("", ".", "..", "/", "../..", "~", "~/.ssh/id_rsa", "-rf", "--help", "a/b/c/d", "a//b", "main.lock"),
            *("nul\0inside", "x" * 300, "x/" * 2100, "\u202ename", "\x1b[2J\x1b[31m", "two\nlines", "\udcff", "\x9b2J"),
            *("%2e%2e%2f%2e%2e%2fnotes.txt", "..%2fnotes.txt", "refs/heads/main", "HEAD", "@{-1}", "C:\\notes", "con"),
            *("..\\..\\notes.txt", "\uff0e\uff0e/notes.txt", "$(touch notes)", "`id`", "a;b", "{0}", "%s%n", "*", "?*"),
            *(f"file://{scene.victim}/notes.txt", "alice/net@../../x", "main ", " main", "a" * 40, "A" * 39, "0" * 64),
        ]
    )


def number(rng: random.Random) -> Any:
    """Return a number that is too large, too small, or none."""
    large = [4096, 65536, 10**6, 10**8, 2**31, 2**63 - 1, 2**63, 2**64, 10**25, 10**100, 1e308, 1e300]
    small = [0, -0.0, -1, -(2**63), 1e-320, 1e-45, 5e-324, -1e-9, 0.5, 1.5, 2.0]
    return rng.choice(
        [rng.choice(large), rng.choice(small), "x", "1", "1e999", "", None, True, [], {}, [1], "10" * 200]
    )


def text(scene: Scene, rng: random.Random) -> str:
    """Return a text with markup, or with characters that a terminal obeys."""
    pieces = [
        "\x1b[2J",
        "\u202e",
        "\x9b31m",
        "\x85",
        "\u2028",
        "<!-- ",
        " -->",
        "<script>alert(1)</script>",
        "| a | b |",
    ]
    pieces += [
        "[x](javascript:1)",
        "![](file:///etc/passwd)",
        "---\n",
        "\n# h\n",
        "`",
        "[bold red]",
        "[/]",
        "{{ 7*7 }}",
    ]
    pieces += [
        "double win",
        "99.99",
        "θ",
        "\ufeff",
        "\u200b",
        "x" * 3000,
        path_to(scene, rng),
        "$\\input{/etc/passwd}$",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 4)))


def value(scene: Scene, rng: random.Random) -> Any:
    """Return anything that JSON can hold and nobody expects."""
    return rng.choice([odd(rng), odd(rng), number(rng), number(rng), name(scene, rng), text(scene, rng)])


def twist(whole: Any, scene: Scene, rng: random.Random) -> Any:
    """Return a JSON value with one to three of its places changed, added, removed or moved; or quite another value."""
    if rng.random() < 0.1:
        return rng.choice([None, [], {}, "", 0, True, [None], [[]], {"": None}, "x", value(scene, rng)])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        everywhere = places(whole)
        if not everywhere:
            break
        place, other = rng.choice(everywhere), rng.choice(everywhere)
        way = rng.random()
        if way < 0.75:
            place.set(value(scene, rng))
        elif way < 0.9:
            del place.inside[place.key]
        else:
            place.set(other.get() if other.get() is not place.inside else None)
    return whole
