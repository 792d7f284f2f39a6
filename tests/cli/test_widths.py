"""What the main tables look like at 100, 80, 60 and 40 columns: golden files, and no figure or verdict cut at any.

`python -m tests.cli.test_widths` writes the files anew; look at them before they are kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lottery_hub.cli import backbones, hub, listing, show
from lottery_hub.reporting.screen import corruptions_table, print_find, print_table, print_verdict
from lottery_hub.reporting.study_screen import print_study
from lottery_hub.settings.config import Attack
from lottery_hub.sharing.listing import Listed
from lottery_hub.sharing.searching import Found
from lottery_hub.sharing.sources import Packaged

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (100, 80, 60, 40)
REGIMES = ("standard", "adversarial")


def figures(sa: float, ra: float, seeds: int = 3) -> dict[str, Any]:
    runs = [{"seed": seed, "SA": sa, "RA": ra} for seed in range(seeds)]
    return {"SA": sa, "RA": ra, "seeds": runs, "deviation": {"SA": 0.0053, "RA": 0.0126}}


def row(level: int, sparsity: float, drop: float, answer: str, inside: float) -> dict[str, Any]:
    compared = [
        {
            "regime": regime,
            "figure": figure,
            "dense": dense,
            "ticket": dense - drop,
            "interval": [-drop - 0.0112, -drop + 0.0112],
            "tolerance": 0.02,
            "matching": answer == "double win",
            "answer": {"double win": "matching", "no double win": "worse"}.get(answer, answer),
        }
        for regime, figure, dense in (
            ("standard", "SA", 0.9916),
            ("standard", "RA", 0.1007),
            ("adversarial", "SA", 0.9771),
            ("adversarial", "RA", 0.6543),
        )
    ]
    verdict = {"double_win": answer == "double win", "answer": answer, "figures": compared}
    return {
        "level": level,
        "sparsity": sparsity,
        "standard": figures(0.9916 - drop, 0.1007 - drop),
        "adversarial": figures(0.9771 - drop, 0.6543 - drop),
        "validation": verdict | {"inside": inside},
        **verdict,
    }


FOUND: dict[str, Any] = {
    "dense": {"level": 0, "standard": figures(0.9916, 0.1007), "adversarial": figures(0.9771, 0.6543)},
    "levels": [
        row(4, 0.5904, 0.001, "double win", 1.0),
        row(7, 0.7903, 0.0044, "double win", 0.98),
        row(9, 0.8658, 0.0171, "undecided", 0.55),
        row(14, 0.9560, 0.1171, "no double win", 0.0),
    ],
    "controls": [row(7, 0.7903, 0.0981, "no double win", 0.01) | {"method": "random"}],
    "level": 7,
    "sparsity": 0.7903,
    "tolerance": "margin 2 points",
    "margin": 0.02,
    "samples": 359,
    "fraction": 1.0,
    "validation_samples": 144,
    "attack": "PGD-20 Linf eps 8/255 step 2/255",
    "scrutiny": {
        "checks": {"attacks": [{"RA": 0.65}, {"RA": 0.6342}], "samples": 359, "passed": True},
    },
    "caveats": ["359 test images tell differences of 3 points at best"],
    "frontier": {"sparsity": 0.8123, "interval": [0.7434, 0.8658], "beyond": False},
    "double_win": True,
    "answer": "double win",
    "ticket": "tickets/resnet18-slim-adv-digits/ticket",
}
del FOUND["controls"][0]["level"]
SHOWN = FOUND | {"fraction": 0.1, "plan": {"level": 7}, "data": {"name": "digits"}}
CELL = {
    "cell": "adv-cifar10-0.1-imp",
    "sparsity": 0.7903,
    "frontier": {"interval": [0.7434, 0.8658]},
    "dense": {regime: {"SA": 0.9916, "RA": 0.6543} for regime in REGIMES},
    "figures": {regime: {"SA": 0.9871, "RA": 0.6509} for regime in REGIMES},
    "double_win": True,
    "answer": "double win",
    "telling": 3,
    "seeds": 3,
    "margin": 0.02,
    "samples": 10_000,
    "attack": "PGD-20 Linf eps 8/255 step 2/255",
    "standard_attack": "PGD-20 Linf eps 1/255 step 0.00098",
    **{"pretrain": "adv", "dataset": "cifar10", "fraction": 0.1},
}
DIFFERENCE = {
    "pretrain": "adv",
    "against": "std",
    "dataset": "cifar10",
    "fraction": 0.1,
    "method": "imp",
    "difference": 0.0123,
    "low": -0.0011,
    "high": 0.0257,
}
STUDY: dict[str, Any] = {
    "study": "studies/study",
    "cells": [CELL, {"cell": "std-cifar10-0.1-imp", "failed": "the disk is full"}],
    "differences": [
        DIFFERENCE | {"level": level, "regime": regime, "figure": figure}
        for level in (0, 7)
        for regime in REGIMES
        for figure in ("SA", "RA")
    ],
}
SEARCHED = [
    Found(
        "alice-and-friends/resnet18-slim-adv-cifar10-level-7",
        None,
        "resnet18-slim",
        "adv",
        "uoft-cs/cifar10",
        0.7903,
        True,
        {f"{kind} after {regime} transfer": 0.9876 for kind in ("SA", "RA") for regime in REGIMES},
        answer="double win",
    ),
    Found("bob/digits", None, None, None, None, 0.2, None, {}),
]
LISTED = [
    Listed(
        *("resnet18-slim-adv", "packaged", "ladder", "resnet18-slim", "adv", 0.956, 14, None, 1_234_567),
        *("cifar100", 0.3438, 0.1724),
    ),
    Listed(
        *("alice/resnet18-slim-adv-digits", "cached", "ticket", "resnet18-slim", "adv", 0.7903, None, False, 99),
        *("digits", 0.9876, 0.5432, "undecided", 0.1),
    ),
]
LAYERS = {"conv1": (1_728, 1_728)} | {
    f"layer{block}.1.conv2.weight": (12_345 * block, 147_456) for block in range(1, 5)
}
PACKAGED = [
    Packaged(
        arch="resnet18-slim",
        kind="adv",
        dataset="cifar100",
        trained_against=Attack(method="pgd", eps=8 / 255, step_size=2 / 255, steps=10),
        SA=0.4512,
        RA=0.2345,
        attack="PGD-20 Linf eps 8/255 step 2/255",
        samples=10_000,
        license="Apache-2.0",
    )
]


def print_show(console: Console) -> None:
    show._print_densities(console, LAYERS)
    ticket: Any = SimpleNamespace(double_win=True, records=SHOWN, level=7, arch="resnet18-slim", kind="adv")
    show._print_verdict(console, ticket)


TABLES: dict[str, Callable[[Console], None]] = {
    "find": lambda console: print_find(console, FOUND, "resnet18-slim (adv) on digits"),
    "show": print_show,
    "search": lambda console: print_table(console, hub._table(SEARCHED)),
    "list": lambda console: listing.print_list(console, LISTED),
    "study": lambda console: print_study(console, STUDY),
    "evaluate": lambda console: print_table(console, corruptions_table({"gaussian_noise": [300, 200, 100, 9, 0]}, 359)),
    "backbones": lambda console: backbones._print_packaged(console, PACKAGED),
}


def printed(name: str, width: int) -> str:
    screen = io.StringIO()
    TABLES[name](Console(file=screen, width=width, force_terminal=True, color_system=None, highlight=False))
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines()) + "\n"


def at_all_widths(name: str) -> str:
    return "".join(f"{f' {width} columns ':=^{width}}\n{printed(name, width)}" for width in WIDTHS)


@pytest.mark.parametrize("name", TABLES)
def test_tables_look_as_they_were_looked_at(name: str) -> None:
    assert at_all_widths(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


WHOLE = re.compile(r"(?<![\w.])[+-]?\d[\d,]*\.\d+(?!\w)|\b\d{1,3}(?:,\d{3})+\b|\b(?:yes|no|undecided|failed)\b")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_and_no_verdict_is_cut(name: str, width: int) -> None:
    narrow = printed(name, width)
    assert "…" not in narrow
    assert sorted(WHOLE.findall(narrow)) == sorted(WHOLE.findall(printed(name, 400)))


def test_no_word_of_a_strangers_records_moves_the_cursor() -> None:
    strange = dict.fromkeys(("attack", "standard_attack", "tolerance", "would_decide"), "\x1b[2J\x1b]0;owned\x07")
    records = SHOWN | strange | {"double_win": False, "answer": "undecided", "caveats": ["\x1b[1A"]}
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=True, color_system=None, highlight=False)
    print_verdict(console, records, "\x1b[31m on digits", asked=True)
    assert "\x1b" not in screen.getvalue()
    assert screen.getvalue().count("owned") == 4


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in TABLES:
        (GOLDEN / f"{each}.txt").write_text(at_all_widths(each), encoding="utf-8")
