"""What units begin with, by content: tickets and datasets, held in memory by who asks, or kept in the store.

A worker in another process has only the store. What is kept there lies under the hash of all that it is, names
included, and is believed only where that hash comes out again.

    inputs/ABCD…/   ticket: a ticket folder; dataset: images.safetensors and about.json, under a seal
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lottery_hub.errors import StoreError, TicketError, printable
from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.networks.tickets import Ticket
from lottery_hub.running.store import Store, Unit, address
from lottery_hub.storage import atomic, files, sealed
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.training.transferring import start_of

SPLITS = ("train", "validation", "test")


def key_of(thing: Ticket | Dataset, begins: dict[str, Any] | None = None) -> str:
    """Return the hash of a ticket or dataset, with everything that it is called.

    Args:
        thing: which.
        begins: `start_of` a ticket, where that is known.
    """
    if isinstance(thing, Dataset):
        return address({"data": thing.describe(), "classes": list(thing.classes)})
    said = {name: getattr(thing, name) for name in ("arch", "kind", "level", "method", "provenance")}
    return address({"ticket": begins or start_of(thing)} | said)


@dataclass
class Inputs:
    """What units begin with: in memory, and what is not there, from the store."""

    store: Store
    held: dict[str, Ticket | Dataset] = field(default_factory=dict)

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
        for key, thing in self.held.items():
            place = self._place(key)
            if place.exists():
                continue
            with atomic.new_folder(place, foreign=atomic.nothing) as fresh:
                if isinstance(thing, Ticket):
                    save_ticket(replace(thing, records={}), fresh / "ticket")
                    sealed.seal(fresh, {"input": "ticket"}, {"key": key})
                else:
                    _save_data(thing, fresh)
                    sealed.seal(fresh, {"input": "dataset"}, {"key": key})

    def _place(self, key: str) -> Path:
        return self.store.directory / "inputs" / key

    def _of(self, key: str) -> Ticket | Dataset:
        if key not in self.held:
            place = self._place(key)
            try:
                said = sealed.read(place)
                found = load_ticket(place / "ticket") if said.record == {"input": "ticket"} else _load_data(place)
                if key_of(found) != key:
                    raise TicketError(f"{printable(place)} is not what its name says")
            except TicketError as problem:
                raise StoreError(f"{problem}; give the command again that needs it") from problem
            self.held[key] = found
        return self.held[key]


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
        )
    except (LookupError, TypeError) as problem:
        raise TicketError(f"{printable(folder)} holds no dataset") from problem
