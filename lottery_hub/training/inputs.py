"""What units begin with, by content: tickets and datasets, held in memory by who asks, or kept in the store.

A worker in another process has only the store. What is kept there is a unit too, under the hash of all that it is,
names included. Images that would take much room are not: a worker loads them as they were loaded here, from the file
into which a machine decodes them once, and takes them only if they are the same.

    ticket    a ticket folder
    dataset   images.safetensors, and about.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from torch import Tensor

from lottery_hub.errors import StoreError, TicketError, printable
from lottery_hub.images.datasets import Dataset, Split, load_planned
from lottery_hub.networks.tickets import Ticket
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.running.store import Store, Unit, address
from lottery_hub.settings.config import DataPlan
from lottery_hub.settings.paths import path_of
from lottery_hub.storage import atomic, files, sealed
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.training.transferring import start_of

LARGE = 2 * 2**30  # bytes of images beyond which the store keeps no copy of them
SPLITS = ("train", "validation", "test")


def key_of(thing: Ticket | Dataset, begins: dict[str, Any] | None = None) -> str:
    """Return the hash of a ticket or dataset, with everything that it is called.

    Args:
        thing: which.
        begins: `start_of` a ticket, where that is known.
    """
    return address(_about(thing, begins))


@dataclass
class Inputs:
    """What units begin with: in memory, and what is not there, from the store, or from where it came.

    Attributes:
        store: where it is kept.
        held: by key.
        plans: how images were loaded, by key; those that are large are loaded again.
    """

    store: Store
    held: dict[str, Ticket | Dataset] = field(default_factory=dict)
    plans: dict[str, DataPlan] = field(default_factory=dict)

    def ticket(self, unit: Unit) -> Ticket:
        """Return the ticket that a unit begins with."""
        found = self._of(unit.inputs["start"])
        assert isinstance(found, Ticket)
        return found

    def data(self, unit: Unit) -> Dataset:
        """Return the images of a unit."""
        found = self._of(unit.inputs["data"])
        assert isinstance(found, Dataset)
        return found

    def keep(self) -> None:
        """Write everything that is held into the store, unless it is there."""
        there = self.store.addresses()
        works = []
        for key, thing in self.held.items():
            if key not in there and not (key in self.plans and _bytes(thing) > LARGE):
                unit = Unit("input", _about(thing))
                works.append(partial(self.store.once, unit, partial(_save, thing)))
        if works:
            side_by_side(works, 1, 1, Event())

    def elsewhere(self) -> Inputs:
        """Return the same for another process, which takes all from the store."""
        return Inputs(self.store, plans={key: _wherever(plan) for key, plan in self.plans.items()})

    def _of(self, key: str) -> Ticket | Dataset:
        if key not in self.held:
            place = self.store.folder(key)
            if key in self.plans and not place.exists():
                images = load_planned(self.plans[key])
                if key_of(images) != key:
                    raise StoreError(f"{printable(self.plans[key].dataset)} holds other images on this machine")
                self.held[key] = images
                return images
            try:
                kind = sealed.read(place).given.get("unit")
                found = load_ticket(place / "ticket") if kind == "ticket" else _load_data(place)
                if key_of(found) != key:
                    raise TicketError(f"{printable(place)} is not what its name says")
            except TicketError as problem:
                raise StoreError(f"{problem}; give the command again that needs it") from problem
            self.held[key] = found
        return self.held[key]


def _bytes(thing: Ticket | Dataset) -> int:
    splits = [getattr(thing, name) for name in SPLITS] if isinstance(thing, Dataset) else []
    return sum(split.images.nbytes for split in splits)


def _wherever(plan: DataPlan) -> DataPlan:
    """Return a plan that means the same in another folder."""
    place = path_of(plan.dataset)
    return plan.changed(dataset=str(place.resolve())) if place.exists() else plan


def _about(thing: Ticket | Dataset, begins: dict[str, Any] | None = None) -> dict[str, Any]:
    if isinstance(thing, Dataset):
        return {"unit": "dataset", "data": thing.describe(), "classes": list(thing.classes)}
    said = {name: getattr(thing, name) for name in ("arch", "kind", "level", "method", "provenance")}
    return {"unit": "ticket", "begins": begins or start_of(thing)} | said


def _save(thing: Ticket | Dataset, folder: Path) -> dict[str, Any]:
    if isinstance(thing, Ticket):
        save_ticket(replace(thing, records={}), folder / "ticket", overwrite=True)
    else:
        _save_data(thing, folder)
    return {}


def _save_data(data: Dataset, folder: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        tensors |= {f"{name}.images": split.images, f"{name}.labels": split.labels}
    files.write_tensors(folder / "images.safetensors", tensors)
    # Of what is described, the counts are those of the splits.
    atomic.write_json(folder / "about.json", {"data": data.describe(), "classes": list(data.classes)})


def _load_data(folder: Path) -> Dataset:
    said: Mapping[str, Any] = files.read_json(folder / "about.json")
    tensors = files.read_tensors(folder / "images.safetensors")
    try:
        about = said["data"]
        sides = about.get("original_sides")
        train, validation, test = (Split(tensors[f"{name}.images"], tensors[f"{name}.labels"]) for name in SPLITS)
        return Dataset(
            name=about["name"],
            revision=about["revision"],
            fingerprint=about["fingerprint"],
            classes=tuple(said["classes"]),
            fraction=about["fraction"],
            train=train,
            validation=validation,
            test=test,
            notes=tuple(about["notes"]),
            validation_share=about["validation_share"],
            split_seed=about["split_seed"],
            original_sides=tuple(sides) if sides else None,
        )
    except (LookupError, TypeError) as problem:
        raise TicketError(f"{printable(folder)} holds no dataset") from problem
