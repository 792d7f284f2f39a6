"""Transfer: a ticket, or the dense backbone, fine-tuned on a downstream dataset behind a fresh dense head."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, Weights, fingerprint
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.evaluation import Accuracy, evaluate
from lottery_hub.robustness.foreign import Call, ForeignAttack, attack_of
from lottery_hub.settings.ambient import gradients
from lottery_hub.settings.config import Attack, Recipe, Seeds
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.ranks import ALONE, Ranks
from lottery_hub.telling import tell
from lottery_hub.training.loop import train
from lottery_hub.values import page_table, percent, same_fields


@dataclass(frozen=True)
class Transferred:
    """The trained weights (timm keys, pruned ones exactly 0), test accuracy and the JSON-able record."""

    weights: Weights
    accuracy: Accuracy
    record: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(self.accuracy)

    def __repr__(self) -> str:
        accuracy, record = self.accuracy, self.record
        robust = "" if accuracy.RA is None else f", RA {percent(accuracy.RA)} % by {record['attack']}"
        measured = f"SA {percent(accuracy.SA)} %{robust}, {accuracy.samples:,} test images"
        return f"Transferred({record['regime']}, seed {record['seed']}: {measured})"

    def _repr_html_(self) -> str:
        rows = [(split, *(percent(of[name]) for name in ("SA", "RA")), of["samples"]) for split, of in self._splits()]
        about = f"Transferred: {self.record['regime']}, seed {self.record['seed']}"
        return page_table(about, ("split", "SA %", "RA %", "images"), rows)

    def _splits(self) -> list[tuple[str, dict[str, Any]]]:
        return [("validation", self.record["validation"]), ("test", self.record)]

    def ticket(self, start: Ticket, data: Dataset, recipe: Recipe) -> Ticket:
        """Return the trained ticket, given what was trained, on which images and how."""
        records = {"transfer": self.record, "data": data.describe(), "recipe": recipe.record()}
        return replace(start, weights=self.weights, records=records, networks={})


@gradients()
def transfer(
    start: Backbone | Ticket,
    data: Dataset,
    recipe: Recipe,
    *,
    test_attack: Attack | ForeignAttack | Call | None,
    seed: int | Seeds = 0,
    mask: Mask | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | str | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    ranks: Ranks = ALONE,
) -> Transferred:
    """Fine-tune, and measure on the validation and on the test split; the epoch is chosen on validation.

    Args:
        start: a ticket, whose mask holds throughout, or a backbone, dense unless `mask` is given.
        data: the downstream dataset.
        recipe: with an attack this is adversarial transfer, without one standard.
        test_attack: how RA is measured on both splits, also any function (model, images, labels) → images; see
            `ForeignAttack`. None measures SA only.
        seed: of the fresh head, data order and attack starts. Dense and ticket runs of one seed share all three.
        mask: for a backbone, what to prune from it.
        device: where to compute.
        checkpoint: file to continue from.
        on_epoch: called with each epoch's record.
        ranks: see `loop.train`.

    Returns:
        Weights, accuracy and a record that holds everything the figures depend on: `test` figures at its top, those
        of `validation` inside it, the outcome of every image, seeds, history, `trained` (the fingerprint of
        weights and mask, as `Ticket.fingerprint` computes it) and `provenance`.
    """
    seeds, classes, test_attack = Seeds.of(seed), len(data.classes), attack_of(test_attack)
    if isinstance(start, Ticket):
        mask, model = start.mask, start.to_normalised(classes, head="fresh", seed=seeds.head)
    else:
        model = start.model(classes, seeds.head, mask)
    how: dict[str, Any] = {"checkpoint": checkpoint, "on_epoch": on_epoch, "ranks": ranks}
    trained = train(model, data, recipe, seed=seeds, mask=mask, device=device, **how)
    model.network.load_state_dict(trained.weights, strict=True)
    began = time.monotonic()
    seen: dict[str, Any] = {"image_size": recipe.image_size, "seed": seeds.attack, "device": device, "ranks": ranks}
    measured = []
    for name, split in (("validation", data.validation), ("test", data.test)):
        tell("stage", what=name)
        measured.append(evaluate(model.to(device), split, attack=test_attack, **seen))
    validation, test = measured
    measuring = time.monotonic() - began
    record = {
        "regime": recipe.regime,
        "seed": seeds.order,
        "seeds": seeds.record(),
        **_measured(test),
        "attack": None if test_attack is None else test_attack.describe(classes),
        "validation": _measured(validation),
        "epoch": trained.epoch,
        "history": trained.history,
        "trained": _fingerprint(trained.weights, start, mask),
        "provenance": {
            "environment": describe_environment(device),
            **labels(start, data),
            "attack": None if test_attack is None else test_attack.record(),
            "batch_norm": "eval",
            "precision": recipe.precision,
            # Of all its processes, where it was stopped and continued.
            "seconds": round(sum(epoch["seconds"] for epoch in trained.history) + measuring, 3),
        },
    }
    return Transferred(trained.weights, test, record)


def labels(start: Backbone | Ticket, data: Dataset) -> dict[str, Any]:
    """Return what a record's provenance calls its images and θ_pre: the same ones may go by several names."""
    about = data.describe()
    return {"data": {key: about[key] for key in ("name", "revision", "fingerprint")}, "backbone": _origin(start)}


def start_of(start: Ticket) -> dict[str, Any]:
    """Return what determines where a transfer begins: weights and mask, and how images are normalised."""
    return {"start": start.fingerprint(), "mean": list(start.mean), "std": list(start.std)}


def _measured(accuracy: Accuracy) -> dict[str, Any]:
    return accuracy.record() | {"outcomes": accuracy.outcomes and accuracy.outcomes.record()}


def _fingerprint(weights: Weights, start: Backbone | Ticket, mask: Mask | None) -> str:
    if mask is None and isinstance(start, Backbone):
        mask = start.dense_mask()
    return fingerprint(weights | {f"mask/{name}": kept for name, kept in (mask or {}).items()})


def _origin(start: Backbone | Ticket) -> dict[str, Any]:
    """Return where θ_pre comes from."""
    if isinstance(start, Ticket):
        known = start.provenance.get("backbone", {})
        return {key: known.get(key) for key in ("source", "revision", "fingerprint")}
    return {key: start.provenance.get(key) for key in ("source", "revision")} | {"fingerprint": start.fingerprint()}
