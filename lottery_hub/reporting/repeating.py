"""The command that repeats a find, from its records."""

from __future__ import annotations

import shlex
from itertools import product
from typing import Any

from lottery_hub.errors import ConfigError, printable
from lottery_hub.judging.rules import MARGIN
from lottery_hub.reporting.rendering import Safe, boolean, number, whole
from lottery_hub.settings import presets
from lottery_hub.settings.config import LOOKS, DataPlan, TransferPlan, parse_number, pixel_units

USUAL = DataPlan(dataset="any")


def preset_of(records: dict[str, Any]) -> dict[str, str]:
    """Return the options that give these transfers: `preset`, with `eps` where it is not the preset's own, or none."""
    plan = records["plan"]
    dataset, precision = plan["data"]["dataset"], plan["transfer"]["standard"]["precision"]
    radius = number(plan["transfer"]["test_attack"]["eps"])
    try:
        recorded = TransferPlan.parse(plan["transfer"] | {"standard_attack": None})
    except ConfigError:
        return {}
    for eps, images in product((None, radius), _images(records)):
        transfers = {
            "quick": presets.quick_transfer(dataset, images, precision, eps),
            "paper": presets.paper_transfer(dataset, precision, eps, images),
        }
        for name, transfer in transfers.items():
            # Of an older record settings may be missing that are new since, and have their defaults.
            if transfer == recorded:
                return {"preset": Safe(name)} | ({"eps": _exact_text(radius)} if eps else {})
    return {}


def _images(records: dict[str, Any]) -> list[int]:
    """Return how many images a preset may have been told of: those to train on, held out as it does or as was set."""
    data, held_out = records["data"], number(records["plan"]["data"].get("validation", USUAL.validation))
    train, validation = whole(data["train"]), whole(data["validation"])
    if held_out == USUAL.validation:
        return [train]
    fraction = number(data["fraction"])
    return [train, round((train / fraction + validation) * (1 - USUAL.validation) * fraction)]


def _standard_radius(transfer: dict[str, Any]) -> dict[str, str]:
    """Return the option that gives RA after standard transfer a radius of its own, where it has one."""
    attack = transfer.get("standard_attack")
    return {"eps-standard": _exact_text(number(attack["eps"]))} if attack else {}


def _rule(text: str) -> dict[str, str]:
    """Return the option that names a rule; none for the margin that dense tells."""
    name, _, points = text.partition(":")
    return {"tolerance": text} if name != MARGIN else {"margin": points} if points else {}


def _exact_text(eps: float) -> str:
    """Return `8/255` where that is exactly the number, else all its digits."""
    short = pixel_units(eps)
    return short if parse_number(short) == eps else repr(eps)


def find_command(records: dict[str, Any]) -> str:
    """Return the command that repeats a verdict; without the options of its transfers, where no preset gives them."""
    return command_of(records, preset_of(records))


def command_of(records: dict[str, Any], recipe: dict[str, str]) -> Safe:
    """Return the command, with these options of its transfers; see `preset_of`."""
    plan = records["plan"]
    draw = plan["draw"]
    drawn = {"method": draw["method"], "source": draw["data"] and draw["data"]["dataset"]}
    options = {
        "pretrain": plan["pretrain"],
        "arch": plan["arch"],
        "dataset": plan["data"]["dataset"],
        "fraction": plan["data"]["fraction"],
        **recipe,
        **_standard_radius(plan["transfer"]),
        "seeds": plan["seeds"],
        "max-seeds": plan.get("max_seeds"),
        "confirm": plan.get("confirm"),
        **_rule(plan["tolerance"]),
        "scan": plan["scan"],
        "level": plan.get("level"),
        "sparsity": plan.get("sparsity"),
        "ladder": plan["ladder"],
        # --method asks for a new ladder, so it is named only where one was drawn.
        **(drawn if plan["ladder"] == "draw" else {}),
        "precision": plan["transfer"]["standard"]["precision"],
    }
    words = [f"--{name} {shlex.quote(printable(value))}" for name, value in options.items() if value is not None]
    held_out = {name: plan["data"].get(name) for name in ("validation", "split_seed")}
    words += [
        f"--set data.{name}={shlex.quote(printable(value))}"
        for name, value in held_out.items()
        if value not in (None, getattr(USUAL, name))
    ]
    if boolean(plan["controls"]):
        words.append("--controls")
    words += [f"--{look}" for look in LOOKS if look in records["scrutiny"]]
    return Safe(" \\\n    ".join(["lottery-hub find", *words]))
