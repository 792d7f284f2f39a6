"""Drawing a ladder of nested masks from a backbone: imp, omp and random.

IMP in four lines: prune 20 % of what remains by magnitude, rewind to θ_pre, train on the source task,
repeat. The first prune acts on θ_pre itself, so level 1 of IMP and of one-shot pruning are the same mask.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset, load_planned
from lottery_hub.networks.backbones import Backbone, Weights
from lottery_hub.networks.masks import Mask, keep_count, keep_highest, kept_and_total, magnitudes, random_scores
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.running.engines import Engine, Local, Report
from lottery_hub.running.store import Store, open_store
from lottery_hub.settings import passes
from lottery_hub.settings.config import DrawPlan, Recipe
from lottery_hub.settings.environment import describe_environment
from lottery_hub.training.inputs import Inputs
from lottery_hub.training.units import round_unit, round_weights, run_unit


def draw(
    backbone: Backbone,
    plan: DrawPlan,
    *,
    data: Dataset | None = None,
    store: Store | None = None,
    device: torch.device | str = "cpu",
    report: Report | None = None,
    engine: Engine | None = None,
) -> Ladder:
    """Draw a ladder.

    Args:
        backbone: θ_pre, which every round rewinds to: BatchNorm statistics and head included.
        plan: method, rounds and, for imp, the source task.
        data: the source task's images, for imp.
        store: where finished rounds are kept; without it they are forgotten at the end, or at a kill.
        device: where to train.
        report: told what happens, see `telling`.
        engine: what trains the rounds, entered; None is this thread.

    Raises:
        ConfigError: imp without data.

    Source: Chen et al. 2022, section 3; Frankle and Carbin 2019 for iterative magnitude pruning.
    """
    if store is None:
        with TemporaryDirectory() as scratch:
            store = open_store(scratch)
            return draw(backbone, plan, data=data, store=store, device=device, report=report, engine=engine)
    alone = (engine or Local(device, torch.get_num_threads())).whole()
    names = backbone.prunable
    total = kept_and_total(backbone.dense_mask())[1]
    mask = backbone.dense_mask()
    survived = {name: torch.zeros_like(kept, dtype=torch.uint8) for name, kept in mask.items()}
    weights = backbone.weights
    rounds: list[dict[str, Any]] = []
    if report is not None and data is not None and plan.recipe is not None:
        report("plan", _ahead(plan, plan.recipe, data))
    for level in range(1, plan.rounds + 1):
        if plan.method == "random":
            scores = random_scores(backbone.weights, names, plan.seed)
        else:
            scores = magnitudes(weights, names)
        mask = keep_highest(scores, mask, keep_count(total, plan.prune_fraction, level))
        survived = {name: survived[name] + mask[name] for name in names}
        record = {"level": level, "kept": kept_and_total(mask)[0], "total": total}
        if plan.method == "imp":
            last = level == plan.rounds
            # Nothing is pruned after the last level, so it is trained only where its accuracy was asked for.
            if not last or plan.test_attack is not None:
                weights, measured = _round(backbone, mask, plan, level, data, store, device, report, alone)
                record |= measured
        rounds.append(record)
    drawing = {
        "method": plan.method,
        "prune_fraction": plan.prune_fraction,
        "rounds": rounds,
        "plan": recorded(plan, data),
        "data": None if data is None or plan.method != "imp" else data.describe(),
        "environment": describe_environment(device),
    }
    return Ladder(backbone, survived, plan.rounds, plan.method, drawing)


def _round(
    backbone: Backbone,
    mask: Mask,
    plan: DrawPlan,
    level: int,
    data: Dataset | None,
    store: Store,
    device: torch.device | str,
    report: Report | None,
    engine: Engine,
) -> tuple[Weights, dict[str, Any]]:
    """Rewind, train one round with a new optimizer, and return (trained weights, record)."""
    if data is None or plan.recipe is None:
        raise ConfigError("imp trains on a source task; give its dataset, or draw by omp")
    start = ticket_of(backbone, mask, level, plan.method, {})
    unit = round_unit(f"draw-level-{level:02d}", start, data, plan.recipe, plan.test_attack, plan.seed, level, device)

    plans = {} if plan.data is None else {unit.inputs["data"]: plan.data}
    inputs = Inputs(store, {unit.inputs["start"]: start, unit.inputs["data"]: data}, plans)
    record = engine.run(run_unit, [unit], inputs, report or _silent, Event(), 1)[0]
    return round_weights(store.folder(unit), backbone.arch, len(data.classes)), record


def _ahead(plan: DrawPlan, recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """Return what there is to do, as `telling` names it: a training for each mask but perhaps the last."""
    attack = plan.test_attack and plan.test_attack.record()
    counts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    each = passes.of_unit({"unit": "round", "recipe": recipe.record(), "attack": attack, "data": counts})
    rounds = plan.rounds - (plan.test_attack is None)
    return {"what": "round", "most": rounds, "passes": rounds * each}


def _silent(kind: str, record: dict[str, Any]) -> None:
    """Report to nobody."""


def recorded(plan: DrawPlan, data: Dataset | None = None) -> dict[str, Any]:
    """Return the plan's record; given the dataset, under its name: a local path is nobody else's business."""
    if plan.method != "imp" or plan.data is None:
        return plan.record() | {"data": None, "recipe": None}  # given perhaps, but not used
    named = plan.data if data is None else plan.data.changed(dataset=data.name)
    return plan.changed(data=named).record()


def source_data(plan: DrawPlan) -> Dataset | None:
    """Load the source task's images where the method needs them; see `load_dataset`."""
    if plan.method != "imp" or plan.data is None:
        return None
    return load_planned(plan.data)
