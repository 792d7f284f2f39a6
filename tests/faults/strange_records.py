"""Records and cards of strangers: every hash fits, and what they say is meant to harm or to deceive."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import odd
from attempts import cli
from cases import Case, no_secret, replace_by_something, stranger
from folders import sha256
from material import give, material, redraft
from mutations import InapplicableError, places
from victims import Scene

from lottery_hub.reporting.cards import render_card
from lottery_hub.sharing.publishing import prepare
from lottery_hub.sharing.pulling import load_ticket
from lottery_hub.storage.folder import CARD, CONFIG, RESULTS

ANSWERS = (0, 1, 3)
_UNWRITABLE = (OSError, LookupError, ValueError, TypeError, OverflowError)


def edited(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the records of a folder, and let the hash in its config fit; the change may return other records."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        changed = change(results)
        data = json.dumps(results if changed is None else changed).encode("utf-8", "surrogatepass")
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        said = results.get("double_win") if isinstance(results, dict) else None
        if "double_win" in config["lottery_hub"]:
            config["lottery_hub"]["double_win"] = said if isinstance(said, bool) else None
        config["lottery_hub"]["hashes"][RESULTS] = sha256(data)
        (folder / RESULTS).write_bytes(data)
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    except _UNWRITABLE as problem:
        raise InapplicableError from problem


def _command(place: Path, scene: Scene, rng: random.Random) -> Callable[[], Any]:
    """Return one of the ways in which a user meets records."""
    out, data = scene.work / "out", scene.work / "data"
    scene.asked = [out]
    commands: list[list[Any]] = [
        *[["verify", place, "--dataset", data]] * 4,
        *[["verify", place]] * 2,
        ["verify", place, "--dataset", data, "--json"],
        ["verify", place, "--dataset", data, "--sample", "5"],
        *(["show", place], ["show", place, "--json"], ["show", place, place]),
        ["push", place, "alice/net", "--dry-run", "--no-checks", "--models"],
        ["push", place, "alice/net", "--dry-run", "--no-checks", "--dataset", data],
        ["pull", place, "--local-dir", out, "--models"],
        ["evaluate", place / "trained/ticket-standard-seed-0", "--dataset", data, "--attack", "pgd-2"],
        ["evaluate", place / "trained/ticket-standard-seed-0", "--dataset", data, "--attack", "none"],
        ["export", place / "trained/ticket-standard-seed-0", "--format", "timm", "--output", out],
    ]
    command = rng.choice(commands)
    return lambda: cli(*command, answers=ANSWERS)


@stranger("records", often=40)
def records_say_something_odd(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    network = rng.choice(sorted((place / "trained").iterdir()))
    target = rng.choice([place, place, place, network])
    edited(target, lambda results: odd.twist(results, scene, rng))
    return Case(_command(place, scene, rng))


@stranger("records", often=15)
def a_number_of_the_records_is_another(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    network = rng.choice(sorted((place / "trained").iterdir()))

    def change(results: dict[str, Any]) -> None:
        numbers = [one for one in places(results) if isinstance(one.get(), int | float)]
        for one in rng.sample(numbers, rng.choice([1, 1, 3])):
            one.set(rng.choice([odd.number(rng), one.get() + rng.choice([-1, 1, 10**9]), -one.get()]))

    edited(rng.choice([place, place, network]), change)
    return Case(_command(place, scene, rng))


@stranger("records", often=10)
def a_path_stands_where_a_name_should(scene: Scene, rng: random.Random) -> Case:
    """Datasets, ladders, repositories: nothing is looked for where the records say, beyond names that are known."""
    place, _ = give(scene, "run/ticket", "data")
    path = odd.path_to(scene, rng)

    def change(results: dict[str, Any]) -> None:
        for keys in rng.sample(NAMES, rng.choice([1, 2, len(NAMES)])):
            inside: Any = results
            for key in keys[:-1]:
                inside = inside[key]
            inside[keys[-1]] = path

    edited(place, change)
    return Case(_command(place, scene, rng))


NAMES: list[tuple[str, ...]] = [
    ("data", "name"),
    ("data", "revision"),
    ("plan", "data", "dataset"),
    ("plan", "data", "revision"),
    ("plan", "pretrain"),
    ("plan", "ladder"),
    ("plan", "arch"),
    ("attack",),
]


@stranger("records", often=8)
def records_ask_for_a_lot_of_work(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    large = rng.choice([10**4, 10**6, 10**8])

    def rows(results: dict[str, Any]) -> None:
        results["levels"] = results["levels"][:1] * 10_000

    def transfers(results: dict[str, Any]) -> None:
        results["transfers"] = results["transfers"] * 2_000

    def size(results: dict[str, Any]) -> None:
        results["plan"]["data"]["image_size"] = results["data"]["image_size"] = 4096

    def steps(results: dict[str, Any]) -> None:
        for one in places(results):
            if one.key == "steps":
                one.set(large)

    def attack(results: dict[str, Any]) -> None:
        strong = {"method": "pgd", "norm": "linf", "eps": 0.1, "step_size": 0.01, "steps": large, "restarts": large}
        for transfer in results["transfers"]:
            transfer["provenance"]["attack"] = strong

    def seeds(results: dict[str, Any]) -> None:
        results["seeds"] = results["plan"]["seeds"] = large

    def samples(results: dict[str, Any]) -> None:
        for one in places(results):
            if one.key in ("samples", "validation_samples"):
                one.set(large * 100)

    def notes(results: dict[str, Any]) -> None:
        results["data"]["notes"] = ["note"] * 200_000

    def outcomes(results: dict[str, Any]) -> None:
        for one in places(results):
            if one.key == "outcomes" or (isinstance(one.key, str) and one.key in ("SA", "RA") and _is_bits(one.get())):
                one.set(base64.b64encode(bytes(1_000_000)).decode())

    edited(place, rng.choice([rows, transfers, size, steps, attack, seeds, samples, notes, outcomes]))
    if rng.random() < 0.4:
        for network in (place / "trained").iterdir():
            edited(network, lambda results: results["recipe"].update(image_size=rng.choice([4096, 65536, 0, -1])))
    return Case(_command(place, scene, rng))


def _is_bits(value: Any) -> bool:
    return isinstance(value, str)


@stranger("records", often=8)
def a_ladder_tells_an_odd_story(scene: Scene, rng: random.Random) -> Case:
    """What a stranger's ladder says of its drawing is met at the very end of a find, unless it is met before."""
    (place,) = give(scene, "run/ladder")
    out = scene.work / "out"
    scene.asked = [out]
    edited(place, lambda results: odd.twist(results, scene, rng))
    way = rng.choice(
        [
            ["show", place],
            ["show", place, "--json"],
            ["show", place, "--sparsity", "0.5"],
            ["push", place, "alice/ladder", "--dry-run"],
            ["pull", place, "--local-dir", out],
            ["verify", place],
        ]
    )
    return Case(lambda: cli(*way, answers=ANSWERS))


@stranger("records", often=6)
def a_provenance_tells_an_odd_story(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")

    def change(config: dict[str, Any], _: Any) -> None:
        about = config["lottery_hub"]
        about["provenance"] = odd.twist(about["provenance"], scene, rng)

    try:
        redraft(place, change)
    except _UNWRITABLE as problem:
        raise InapplicableError from problem
    return Case(_command(place, scene, rng))


@stranger("records", often=6)
def records_are_rendered(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    edited(place, lambda results: odd.twist(results, scene, rng))
    return Case(lambda: render_card(load_ticket(place), "alice/net"), _is_one_card)


def _is_one_card(card: str) -> str:
    """Say what of a card a reader would obey: a second block of metadata, a control character, a script."""
    obeyed = [c for c in card if not c.isprintable() and c not in "\n\t"]
    if obeyed:
        return f"the card holds {obeyed[0]!r}"
    return "the card holds a script" if re.search(r"(?<!\\)<script", card) else ""


# Cards


@stranger("cards", often=20)
def a_card_is_not_a_text(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    replace_by_something(place / CARD, scene, rng)
    if rng.random() < 0.3:
        return Case(lambda: dict(prepare(place, "alice/net").files), no_secret)
    return Case(_command(place, scene, rng))


@stranger("cards", often=20)
def a_card_holds_anything(scene: Scene, rng: random.Random) -> Case:
    place, _ = give(scene, "run/ticket", "data")
    card = (place / CARD).read_text(encoding="utf-8")
    for _ in range(rng.choice([1, 2, 5])):
        at = rng.randrange(len(card))
        card = card[:at] + rng.choice([odd.text(scene, rng), rng.choice(METADATA)]) + card[at + rng.choice([0, 0, 9]) :]
    (place / CARD).write_bytes(card.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        return Case(lambda: dict(prepare(place, "alice/net").files), no_secret)
    return Case(_command(place, scene, rng))


_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
METADATA = [
    f"---\n{_LAUGHS}---\n",
    "---\n" + "[" * 5000 + "]" * 5000 + "\n---\n",
    "---\nmodel-index: 3\n---\n",
    "---\nself: 1\nignore_metadata_errors: true\n---\n",
    "---\n!!python/object/apply:os.system [touch notes]\n---\n",
    "---\n? [1, 2]\n: {}\n---\n",
    "\n" * 100_000,
    "| x " * 50_000,
    "`" * 50_000,
    "<!--" * 30_000,
    "x" * 3_000_000,
]


@stranger("cards", often=20)
def a_card_says_otherwise(scene: Scene, rng: random.Random) -> Case:
    """A figure or the verdict is another where it is seen, and what is true is hidden; the ticket is honest."""
    place, data = give(scene, "run/ticket", "data")
    true = (place / CARD).read_text(encoding="utf-8")
    figures = [found for found in re.finditer(r"\d+\.\d\d", true) if found[0] not in ("0.00", "100.00")]
    words = list(re.finditer(r"\b(no double win|double win|yes|matching)\b", true, re.IGNORECASE))
    found = rng.choice(rng.choice([figures, words]))
    other = f"{99.99 - float(found[0]):.2f}" if found in figures else rng.choice(["no double win", "no", "**yes**"])
    if other == found[0] or other.strip("*") == found[0].lower():
        raise InapplicableError
    forged = true[: found.start()] + other + true[found.end() :]
    line = next(line for line in true.splitlines() if found[0] in line)
    hidden = rng.choice(
        [
            "",
            f"\n<!-- {line} -->\n",
            f"\n<!--\n{true}\n-->\n",
            f'\n<div style="display:none">\n\n{true}\n\n</div>\n',
            f"\n<details hidden><summary></summary>\n\n{true}\n\n</details>\n",
            f"\n[//]: # ({line})\n",
            f"\n```\n{true}\n```\n",
            f"\n<span hidden>{line}</span>\n",
            f"\n<template>\n{true}\n</template>\n",
            f"\n<!-- {true.replace('-->', '')}",
        ]
    )
    (place / CARD).write_text(forged + hidden, encoding="utf-8")
    return Case(lambda: cli("verify", place, "--dataset", data, "--json", answers=ANSWERS), _card_is_not_verified)


def _card_is_not_verified(printed: Any) -> str:
    findings = json.loads(printed.out)["findings"]
    answers = {finding["question"]: finding["answer"] for finding in findings}
    return "its card is verified" if answers.get("card", "verified") == "verified" else ""


@stranger("cards", often=6)
def pictures_of_any_kind(scene: Scene, rng: random.Random) -> Case:
    (place,) = give(scene, "run/ticket")
    for number in range(rng.choice([1, 2, 50])):
        replace_by_something(place / f"{number}.png", scene, rng)
    return Case(lambda: dict(prepare(place, "alice/net").files), lambda made: no_secret(made) or _modest(made))


def _modest(made: dict[str, bytes]) -> str:
    return "" if sum(map(len, made.values())) < 2**28 else "it would publish more than 256 MiB"


@stranger("cards", often=2)
def nobody_has_changed_it(scene: Scene, rng: random.Random) -> Case:
    """An honest ticket is never said to be false."""
    place, data = give(scene, "run/ticket", "data")
    ladder = material().place / "run/ladder"
    return Case(lambda: cli("verify", place, "--dataset", data, "--ladder", ladder, "--json", answers=(0, 3)))
