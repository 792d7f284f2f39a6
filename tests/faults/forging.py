"""Forgeries of a verdict that hold together: what is changed in one place is computed again in every other.

A forger has the library too. Outcomes are counted again, figures, intervals, levels and verdict follow, networks are
named by their new fingerprints in the verdict's records and in their own, hashes fit, and the card says it all.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.deciding import basis_of, decide_again
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.storage.folder import load_ticket, save_ticket, trained_folders


@dataclass
class Forgery:
    """A ticket with its records and its trained networks, to be changed in place."""

    ticket: Ticket
    records: dict[str, Any]
    networks: dict[str, Ticket]
    data: Dataset
    card: Callable[[str], str] = str

    @classmethod
    def of(cls, place: Path, data: Dataset) -> Forgery:
        """Read an honest ticket, found on these images."""
        ticket = load_ticket(place)
        networks = {name: load_ticket(path) for name, path in trained_folders(place).items()}
        return cls(ticket, copy.deepcopy(ticket.records), networks, data)

    def record(self, name: str) -> dict[str, Any]:
        """The record of a network by its name, e.g. `dense-standard-seed-0`."""
        which, regime, _, seed = name.split("-")
        unit = level_name(0 if which == "dense" else self.ticket.level)
        wanted = (unit, regime, int(seed))
        return next(
            each for each in self.records["transfers"] if (each["ticket"], each["regime"], each["seed"]) == wanted
        )

    def edit(self, name: str, figure: str, up: int, down: int = 0, split: str = "test") -> None:
        """Turn so many outcomes of a network's figure to right and to wrong; what withstands was right before."""
        record = self.record(name)
        measured = record if split == "test" else record["validation"]
        seen = Outcomes.parse(measured["outcomes"], measured["samples"])
        clean, robust = seen.SA.copy(), seen.RA.copy()
        generator = np.random.default_rng(0)
        bits = clean if figure == "SA" else robust
        wrong, right = np.flatnonzero(~bits), np.flatnonzero(bits)
        bits[generator.choice(wrong, min(up, len(wrong)), replace=False)] = True
        bits[generator.choice(right, min(down, len(right)), replace=False)] = False
        if figure == "RA":
            clean |= robust
        else:
            robust &= clean
        self.put(name, clean, robust, split)

    def put(self, name: str, clean: Any, robust: Any, split: str = "test") -> None:
        record = self.record(name)
        measured = record if split == "test" else record["validation"]
        measured |= counted(clean, robust)

    def bits(self, name: str, split: str = "test") -> Outcomes:
        record = self.record(name)
        measured = record if split == "test" else record["validation"]
        return Outcomes.parse(measured["outcomes"], measured["samples"])

    def change(self, name: str, how: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        """Change the weights of a network; its pruned ones stay 0."""
        network = self.networks[name]
        weights = {key: how(key, tensor.clone()) for key, tensor in network.weights.items()}
        weights |= {key: torch.where(kept, weights[key], 0.0) for key, kept in network.mask.items()}
        self.networks[name] = replace(network, weights=weights)

    def save(self, place: Path) -> Path:
        """Compute everything again that follows, and write the folder."""
        for name, network in self.networks.items():
            record = self.record(name)
            record["trained"] = network.fingerprint()
            own = {key: value for key, value in record.items() if key not in ("ticket", "sparsity")}
            recipe = self.records["plan"]["transfer"][record["regime"]]
            about = {"transfer": copy.deepcopy(own), "data": self.records["data"], "recipe": recipe}
            self.networks[name] = replace(network, records=about)
        rejudge(self.records, self.ticket)
        forged = replace(self.ticket, records=json.loads(json.dumps(self.records)))
        with tempfile.TemporaryDirectory() as beside:
            trained = {name: save_ticket(each, Path(beside) / name) for name, each in self.networks.items()}
            return save_ticket(forged, place, self.card(render_card(forged)), trained=trained)


def counted(clean: Any, robust: Any) -> dict[str, Any]:
    """What a record says of outcomes."""
    return {
        "correct": int(clean.sum()),
        "robust": int(robust.sum()),
        "SA": int(clean.sum()) / len(clean),
        "RA": int(robust.sum()) / len(robust),
        "outcomes": Outcomes(clean, robust).record(),
    }


def rejudge(records: dict[str, Any], ticket: Ticket) -> None:
    """Compute from the outcomes all that `finding` does."""
    forged = replace(ticket, records=records)
    records |= decide_again(basis_of(forged), forged) | {"fingerprint": ticket.fingerprint()}
