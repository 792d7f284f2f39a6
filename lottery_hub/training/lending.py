"""What a run beside this one has trained is not trained again, where everything that it says of itself is borne out.

The folder is another's and may hold anything. Its transfer of the dense backbone is taken only with its network:
whole under its seal, begun from the same weights and mask, of which it bears the traces, trained on the same images by
the same recipe on such a machine, with the fingerprint that its record names and figures that follow from the outcomes
of single images. The figures that count are measured here. Whatever does not hold together is passed over, and never
stops this run.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.lineage import comes_from
from lottery_hub.networks.backbones import fingerprint, layout
from lottery_hub.networks.tickets import Ticket
from lottery_hub.running.runs import STRANGE, Run
from lottery_hub.settings.config import Regime, Seeds, TransferPlan
from lottery_hub.settings.environment import describe_environment
from lottery_hub.storage.folder import TRAINED, load_ticket, save_ticket
from lottery_hub.training.transferring import figures, measure, start_of


@dataclass(frozen=True)
class Loan:
    """A transfer that another run has made: the run's name, the trained network and its record."""

    run: str
    trained: Ticket
    record: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A transfer that a run is about to make: of which ticket, to which images, how, with which seed and where."""

    ticket: Ticket
    data: Dataset
    plan: TransferPlan
    regime: Regime
    seed: int
    device: torch.device | str


def borrow(run: Run, unit: str, wanted: Wanted) -> Loan | None:
    """Return what a run beside `run` has made of the dense backbone, where it is what is wanted, or None."""
    limit = 2**25 + 16 * sum(weight.numel() for weight in wanted.ticket.weights.values())
    given = start_of(wanted.ticket)
    for folder, found in run.elsewhere(unit, partial(_same, run.settings, wanted.regime), limit):
        with suppress(*STRANGE):
            if found.given | given == found.given and _fits(found.record, wanted):
                trained = load_ticket(folder / TRAINED)
                if _bears_out(trained, found.record, wanted):
                    return Loan(folder.parent.parent.name, trained, found.record)
    return None


def take(loan: Loan, wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Save a borrowed network as the run's own; return its record, with figures that are measured here."""
    attack = wanted.plan.test_attack
    model, recipe = loan.trained.to_normalised(), wanted.plan.recipe(wanted.regime)
    measured = measure(model, wanted.data, recipe, attack, wanted.seed, wanted.device)
    record = loan.record | figures(measured, attack, len(wanted.data.classes))
    records = loan.trained.records | {"transfer": record, "data": wanted.data.describe()}
    save_ticket(replace(wanted.ticket, weights=loan.trained.weights, records=records), folder / TRAINED, overwrite=True)
    return record


def _same(ours: dict[str, Any], regime: Regime, theirs: dict[str, Any]) -> bool:
    """Whether a transfer of the dense backbone has the same settings in another run: no ladder matters to it."""

    def matters(settings: dict[str, Any]) -> list[Any]:
        plan = settings["plan"]
        images = {key: value for key, value in plan["data"].items() if key not in ("dataset", "revision")}
        inside = [settings[key] for key in ("task", "backbone", "data", "device")]
        return [*inside, images, plan["transfer"][regime], plan["transfer"]["test_attack"]]

    return matters(theirs) == matters(ours)


def _fits(record: dict[str, Any], wanted: Wanted) -> bool:
    """Whether a record says that it is of what is wanted, made on such a machine."""
    about, attack = record["provenance"], wanted.plan.test_attack
    said = [
        *(record["regime"], record["seeds"], record["attack"], about["attack"]),
        *(about["data"]["fingerprint"], about["backbone"]["fingerprint"], about["environment"]),
    ]
    origin = wanted.ticket.provenance["backbone"]["fingerprint"]
    return said == [
        *(wanted.regime, Seeds.of(wanted.seed).record(), attack.describe(len(wanted.data.classes)), attack.record()),
        *(wanted.data.fingerprint, origin, describe_environment(wanted.device)),
    ]


def _bears_out(trained: Ticket, record: dict[str, Any], wanted: Wanted) -> bool:
    """Whether the network is that of record and mask, comes from where it should, and the record holds together."""
    shapes = layout(wanted.ticket.arch, len(wanted.data.classes)).shapes
    recipe = wanted.plan.recipe(wanted.regime)
    return (
        trained.fingerprint() == record["trained"]
        and {name: tuple(weight.shape) for name, weight in trained.weights.items()} == shapes
        and fingerprint(trained.mask) == fingerprint(wanted.ticket.mask)
        and (trained.arch, trained.mean, trained.std) == (wanted.ticket.arch, wanted.ticket.mean, wanted.ticket.std)
        and trained.records["transfer"] == record
        and trained.records["recipe"] == recipe.record()
        and not contradictions(trained)
        and comes_from(trained, wanted.ticket, record)
    )
