"""What a find is about to do: which units, what of them is finished, and how long the rest will take.

Time is foretold from measured rates: seconds for a pixel of an image that passes the network once, of units that the
store has of such a network on such a device, or of a few steps that are taken here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from statistics import median
from typing import Any

import torch

from lottery_hub.errors import TicketError
from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.judging.rules import confirming
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder, Ticket, ticket_of
from lottery_hub.running.store import Store, Unit
from lottery_hub.settings import passes
from lottery_hub.settings.config import REGIMES, Recipe
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage import sealed
from lottery_hub.training.bench import unit_name
from lottery_hub.training.loop import Loop
from lottery_hub.training.transferring import start_of
from lottery_hub.training.units import transfer_unit

LOOKED_AT = 500  # units of a store, at most, for their rates
TRIED = 32  # images in a step that is timed


@dataclass(frozen=True)
class Foretold:
    """What is ahead of a find.

    Attributes:
        units: that are known by their address.
        others: how many more there may be, whose masks are not drawn or which depend on figures; by kind of unit.
        work: of one of those others, by kind, see `work_of`.
    """

    units: list[Unit]
    others: dict[str, int]
    work: dict[str, float]


def foretell(
    plan: FindPlan, backbone: Backbone, ladder: Ladder | None, data: Dataset, device: torch.device | str
) -> Foretold:
    """Return what a find will ask for.

    Args:
        plan: of the find.
        backbone: that it begins with.
        ladder: its ladder, where that is known or can be drawn without training.
        data: downstream images.
        device: it computes on.
    """
    dense = ticket_of(backbone, backbone.dense_mask(), 0, plan.draw.method, {})
    levels = plan.draw.rounds if ladder is None else ladder.levels
    only = plan.level if plan.sparsity is None or ladder is None else ladder.level_at(plan.sparsity)
    one = only is not None or plan.sparsity is not None
    # By bisection as many as halve the range; which, figures will tell.
    count = 1 if one else levels if plan.scan == "all" else math.ceil(math.log2(levels + 1))
    named = [] if ladder is None else [only] if only is not None else range(1, levels + 1) if plan.scan == "all" else []
    starts = [dense, *(ladder.ticket(level) for level in named if ladder is not None and level is not None)]
    units = [unit for start in starts for unit in _transfers(plan, start, data, device)]
    each = len(REGIMES) * plan.seeds
    confirmed = 2 * len(REGIMES) * confirming(plan, levels)
    others = {"transfer": (count - len(named) + (2 if plan.controls else 0)) * each + confirmed}
    work = {"transfer": sum(work_of(unit.about) for unit in units) / len(units)}
    if ladder is None and plan.draw.recipe is not None and plan.draw.data is not None:
        others["round"] = plan.draw.rounds - (plan.draw.test_attack is None)
        images = round(plan.draw.data.fraction * IMAGES)
        about = {"unit": "round", "recipe": plan.draw.recipe.record(), "attack": None}
        work["round"] = work_of(about | {"data": {"train": images, "validation": images // 10, "test": 0}})
    return Foretold(units, others, work)


IMAGES = 45_000  # of a source task whose images are not read for this: CIFAR's


def work_of(about: Mapping[str, Any]) -> float:
    """Return pixels that pass the network of a unit, forward once and backward twice, from its description."""
    return float(passes.of_unit(about) * about["recipe"]["image_size"] ** 2)


def rate_of(store: Store, start: Ticket, data: Dataset, recipe: Recipe, device: torch.device | str) -> float:
    """Return seconds for a pixel that passes a network once: measured in the store's units, or here."""
    kind, rates = torch.device(device).type, []
    for name in islice(sorted(store.addresses()), LOOKED_AT):
        try:
            found = sealed.parse(store.folder(name) / sealed.SEAL)
            about = found.given
            if about.get("unit") == "transfer" and (about["arch"], about["device"]) == (start.arch, kind):
                rates.append(found.record["provenance"]["seconds"] / work_of(about))
        except (TicketError, LookupError, TypeError, ValueError, ArithmeticError):
            continue  # of another version, perhaps; whoever needs it will say
    return float(median(rates)) if rates else _timed(start, data, recipe, device)


def seconds_of(foretold: Foretold, missing: Sequence[Unit], rate: float) -> float:
    """Return how long the missing units and all others take, one after the other."""
    named = sum(work_of(unit.about) for unit in missing)
    return rate * (named + sum(foretold.work[kind] * count for kind, count in foretold.others.items()))


def _transfers(plan: FindPlan, start: Ticket, data: Dataset, device: torch.device | str) -> list[Unit]:
    begins, how = start_of(start), plan.transfer
    return [
        transfer_unit(
            unit_name(level_name(start.level), regime, seed),
            start,
            data,
            how.recipe(regime),
            how.test_attack,
            seed,
            device,
            begins,
        )
        for regime in REGIMES
        for seed in range(plan.seeds)
    ]


def _timed(start: Ticket, data: Dataset, recipe: Recipe, device: torch.device | str) -> float:
    """Take a few steps of training on a few images, and return what the fastest took for a pixel."""
    images = min(TRIED, len(data.train))
    some = data.train
    few = replace(data, train=Split(some.images[:images].repeat(4, 1, 1, 1), some.labels[:images].repeat(4)))
    short = recipe.changed(batch_size=max(images, 2))
    model = start.to_normalised(len(data.classes), head="fresh")
    loop = Loop.over(model, few, short, seed=0, mask=start.mask, device=device)
    moments = [time.monotonic()]
    for loss, _ in loop.steps(0):
        float(loss)  # a GPU works behind the caller's back
        moments.append(time.monotonic())
    fastest = min(after - before for before, after in pairwise(moments))
    return fastest / (images * passes.of_step(recipe.record()) * recipe.image_size**2)
