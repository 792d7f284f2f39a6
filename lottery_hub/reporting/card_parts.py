"""What cards say of a network besides its verdict: what it is, how it was trained, and how to cite it."""

from __future__ import annotations

from typing import Any

from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.inspection import size
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.rendering import Safe, count, number, whole
from lottery_hub.settings.config import REGIMES, Recipe
from lottery_hub.version import __version__

PIPELINE = "image-classification"
PAPER = Safe(
    """@inproceedings{chen2022doublewin,
  title = {Data-Efficient Double-Win Lottery Tickets from Robust Pre-training},
  author = {Chen, Tianlong and Zhang, Zhenyu and Liu, Sijia and Zhang, Yang and Chang, Shiyu and Wang, Zhangyang},
  booktitle = {Proceedings of the 39th International Conference on Machine Learning},
  year = {2022},
  eprint = {2206.04762},
  archivePrefix = {arXiv}
}"""
)
LIBRARY_ENTRY = Safe(
    "@software{lottery_hub,\n"
    "  title = {lottery_hub: double-win lottery tickets of timm ResNets},\n"
    "  author = {{The lottery_hub authors}},\n"
    f"  version = {{{__version__}}}\n"
    "}"
)


def described(ticket: Ticket) -> list[tuple[Safe, Any]]:
    """Return name and value of what the network is: architecture, parameters, what it takes."""
    sized = size(ticket)
    rows: list[tuple[Safe, Any]] = [
        (Safe("architecture"), ticket.arch),
        (
            Safe("parameters"),
            Safe(f"{sized.parameters:,}, {sized.prunable:,} of them prunable, {sized.kept:,} kept"),
        ),
    ]
    if not ticket.records:
        return rows
    recipes = _recipes(ticket.records)
    side = next(iter(recipes.values())).image_size
    rows.append((Safe("takes"), Safe(f"RGB images of {side}x{side} pixels in [0,1]")))
    rows.append((Safe("classes"), count(ticket.records["data"]["classes"])))
    return rows


def hyperparameters(records: dict[str, Any]) -> tuple[list[str], list[tuple[Safe, list[Safe]]]]:
    """Return regimes, and a row of each setting of their recipes that has a value in one of them."""
    recipes = _recipes(records)
    settings = {regime: _settings(recipe) for regime, recipe in recipes.items()}
    names = dict.fromkeys(name for each in settings.values() for name in each)
    rows = [(Safe(name), [settings[regime].get(name, Safe("–")) for regime in recipes]) for name in names]
    return list(recipes), rows


def training_log(records: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each epoch of the ticket's transfers with seed 0; of a fine-tuned one of its own."""
    done = records.get("transfer")
    runs = [done] if done else [run for run in records["transfers"] if _is_first(run, records["level"])]
    return [
        {
            "regime": run["regime"],
            "epoch": whole(epoch["epoch"]),
            "loss": Safe(f"{number(epoch['loss']):.4f}"),
            "SA": epoch.get("validation_SA"),
            "RA": epoch.get("validation_RA"),
            "kept": epoch["epoch"] == run["epoch"],
        }
        for run in runs
        for epoch in run.get("history", [])
    ]


def _is_first(run: dict[str, Any], level: int) -> bool:
    return bool(run["ticket"] == level_name(level) and run["seed"] == 0)


def _recipes(records: dict[str, Any]) -> dict[str, Recipe]:
    """Return regime → recipe; one that parses holds no stranger's words."""
    if "transfer" in records:
        regime = records["transfer"]["regime"]
        return {regime if regime in REGIMES else "transfer": Recipe.parse(records["recipe"])}
    return {regime: Recipe.parse(records["plan"]["transfer"][regime]) for regime in REGIMES}


def _settings(recipe: Recipe) -> dict[str, Safe]:
    """Return name → value of what a recipe says, in the order of its fields, without what it does not use."""
    unused: tuple[object, ...] = (None, 0, [], ())
    return {name: _value(recipe, name, value) for name, value in recipe.record().items() if value not in unused}


def _value(recipe: Recipe, name: str, value: Any) -> Safe:
    if isinstance(value, dict):
        return Safe(getattr(recipe, name).describe())
    if isinstance(value, list | tuple):
        return Safe(", ".join(map(str, value)))
    return Safe(f"{value:g}" if isinstance(value, float) else str(value))


def training(plan: dict[str, Any]) -> Safe:
    """Return a recipe as one line of words; a recipe that parses holds no stranger's."""
    recipe = Recipe.parse(plan)
    words = [
        "standard training" if recipe.attack is None else f"adversarial training by {recipe.attack.describe()}",
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''} in batches of {recipe.batch_size}",
        f"SGD, learning rate {recipe.lr:g} ({recipe.schedule}), momentum {recipe.momentum:g}, "
        f"weight decay {recipe.weight_decay:g}",
        f"augmentation {recipe.augment}",
    ]
    if recipe.label_smoothing:
        words.append(f"label smoothing {recipe.label_smoothing:g}")
    if recipe.average:
        words.append(f"weights averaged with decay {recipe.average:g}")
    if recipe.guard:
        words.append("guarded against catastrophic overfitting")
    if recipe.select == "best":
        chosen = "SA" if recipe.selection_attack is None else f"RA ({recipe.selection_attack.describe()})"
        words.append(f"the epoch of the best validation {chosen}")
    return Safe(", ".join([*words, recipe.precision]))
