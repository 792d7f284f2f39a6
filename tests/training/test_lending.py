"""What another run has made is taken where everything bears it out, passed over where it does not, and never fatal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.running.runs import Run, open_run
from lottery_hub.settings.config import (
    DataPlan,
    DrawPlan,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage import sealed
from lottery_hub.storage.folder import load_ladder, load_ticket, save_backbone, save_ticket
from lottery_hub.training.lending import Loan, Wanted, borrow, take
from tests.judged import TRANSFER

UNIT = "transfer-level-00-adversarial-seed-0"


@pytest.fixture(scope="module")
def whole(backbone: Backbone, tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a find over one level."""
    place = tmp_path_factory.mktemp("lending")
    plan = FindPlan(
        pretrain=str(save_backbone(backbone, place / "net")),
        arch="resnet18-slim",
        data=DataPlan(dataset=tiny_data.name, image_size=8),
        draw=DrawPlan(method="omp", rounds=1),
        ladder="draw",
        transfer=TRANSFER,
    )
    find(plan, place / "run", data=tiny_data)
    return place / "run"


@pytest.fixture
def other(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return shutil.copytree(whole, tmp_path / "other")


@pytest.fixture
def mine(whole: Path, tmp_path: Path) -> Iterator[Run]:
    """An empty run of the same settings beside it."""
    with open_run(tmp_path / "mine", sealed.parse(whole / "run.json").record) as run:
        yield run


@pytest.fixture
def wanted(whole: Path, tiny_data: Dataset) -> Wanted:
    """Its dense backbone under adversarial transfer."""
    return Wanted(load_ladder(whole / "ladder").ticket(0), tiny_data, TRANSFER, "adversarial", 0, "cpu")


def test_a_sound_transfer_is_taken_and_measured_here(other: Path, mine: Run, wanted: Wanted, tmp_path: Path) -> None:
    loan = borrow(mine, UNIT, wanted)
    assert loan is not None
    assert loan.run == "other"
    record = take(loan, wanted, tmp_path / "unit")
    assert record == sealed.read(other / "units" / UNIT).record
    taken = load_ticket(tmp_path / "unit" / "trained")
    assert taken.fingerprint() == record["trained"]
    assert taken.records == load_ticket(other / "units" / UNIT / "trained").records


def test_figures_that_a_forger_made_consistent_are_not_believed(
    other: Path, mine: Run, wanted: Wanted, tmp_path: Path
) -> None:
    def all_wrong(measured: dict[str, Any]) -> None:
        nothing = torch.zeros(measured["samples"], dtype=torch.bool).numpy()
        measured |= {"SA": 0.0, "RA": 0.0, "correct": 0, "robust": 0, "outcomes": Outcomes(nothing, nothing).record()}

    unit = other / "units" / UNIT
    honest = sealed.read(unit).record
    forged = json.loads(json.dumps(honest))
    all_wrong(forged)
    all_wrong(forged["validation"])
    resealed(unit, lambda record: record.update(forged), both=True)
    loan = borrow(mine, UNIT, wanted)
    assert loan is not None
    assert loan.record["SA"] == 0
    assert take(loan, wanted, tmp_path / "unit") == honest


@pytest.mark.parametrize("name", ["fc.weight", "layer4.0.conv1.weight"])
def test_a_network_that_was_not_trained_from_the_backbone_is_passed_over(
    other: Path, mine: Run, wanted: Wanted, name: str
) -> None:
    unit = other / "units" / UNIT
    found, trained = sealed.read(unit), load_ticket(unit / "trained")
    worse = replace(trained, weights=trained.weights | {name: -trained.weights[name]})
    record = found.record | {"trained": worse.fingerprint()}
    shutil.rmtree(unit / "trained")
    save_ticket(replace(worse, records=trained.records | {"transfer": record}), unit / "trained")
    sealed.seal(unit, record, found.given)
    assert borrow(mine, UNIT, wanted) is None


def resealed(unit: Path, change: Callable[[dict[str, Any]], object], both: bool = False) -> None:
    """Change a unit's record as somebody who knows the format would: also in the network's own records if `both`."""
    found = sealed.read(unit)
    change(found.record)
    if both:
        trained = load_ticket(unit / "trained")
        shutil.rmtree(unit / "trained")
        save_ticket(replace(trained, records=trained.records | {"transfer": found.record}), unit / "trained")
    sealed.seal(unit, found.record, found.given)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an accuracy": lambda record: record.update(SA=0.0),
    "a count": lambda record: record["validation"].update(correct=0),
    "an outcome": lambda record: record["outcomes"].update(SA="AAA="),
    "the network's fingerprint": lambda record: record.update(trained="sha256:" + "0" * 64),
    "the seed": lambda record: record["seeds"].update(order=1),
    "the attack": lambda record: record["provenance"]["attack"].update(steps=2),
    "the data": lambda record: record["provenance"]["data"].update(fingerprint="sha256:other"),
    "the backbone": lambda record: record["provenance"]["backbone"].update(fingerprint="sha256:other"),
    "the machine": lambda record: record["provenance"]["environment"].update(threads=64),
    "a word for a number": lambda record: record.update(SA="x"),
    "a list for an object": lambda record: record.update(provenance=[]),
    "nothing at all": lambda record: record.clear(),
}


@pytest.mark.parametrize("both", [False, True], ids=["in the unit", "in the network's records too"])
@pytest.mark.parametrize("name", CHANGES)
def test_records_that_do_not_hold_together_are_passed_over(
    other: Path, mine: Run, wanted: Wanted, name: str, both: bool
) -> None:
    resealed(other / "units" / UNIT, CHANGES[name], both)
    assert borrow(mine, UNIT, wanted) is None


def negated(trained: Ticket) -> Ticket:
    return replace(trained, weights=trained.weights | {"fc.bias": -trained.weights["fc.bias"]})


def half_pruned(trained: Ticket) -> Ticket:
    name = next(iter(trained.mask))
    kept = trained.mask[name].clone()
    kept.view(-1)[::2] = False
    weights = trained.weights | {name: torch.where(kept, trained.weights[name], 0.0)}
    return replace(trained, weights=weights, mask=trained.mask | {name: kept})


def other_colours(trained: Ticket) -> Ticket:
    return replace(trained, mean=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("change", [negated, half_pruned, other_colours])
@pytest.mark.parametrize("named", [False, True], ids=["under its old fingerprint", "under its own"])
def test_another_network_is_passed_over(
    other: Path, mine: Run, wanted: Wanted, change: Callable[[Ticket], Ticket], named: bool
) -> None:
    unit = other / "units" / UNIT
    trained = change(load_ticket(unit / "trained"))
    shutil.rmtree(unit / "trained")
    save_ticket(trained, unit / "trained")
    sealed.seal(unit, sealed.parse(unit / "result.json").record, sealed.parse(unit / "result.json").given)
    if named:
        resealed(unit, lambda record: record.update(trained=trained.fingerprint()), both=True)
    loan = borrow(mine, UNIT, wanted)
    # A network of the same kind is taken for what it is: it is measured here.
    assert (loan is None) == (not named or change is not negated)


@pytest.mark.parametrize("name", ["config.json", "results.json", "ticket.safetensors"])
def test_a_damaged_network_is_passed_over(other: Path, mine: Run, wanted: Wanted, name: str) -> None:
    path = other / "units" / UNIT / "trained" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert borrow(mine, UNIT, wanted) is None


def test_a_transfer_begun_from_something_else_is_passed_over(other: Path, mine: Run, wanted: Wanted) -> None:
    started = replace(wanted.ticket, std=(0.2, 0.2, 0.2))
    assert borrow(mine, UNIT, replace(wanted, ticket=started)) is None
    assert isinstance(borrow(mine, UNIT, wanted), Loan)
