"""What units there are, what determines each, and how it is made from its description alone.

    transfer   a ticket fine-tuned on a dataset in one regime with one seed, and measured
    round      a mask's weights trained on the source task, so that the next can be cut

A unit's address holds what its figures depend on, and nothing else: neither names nor paths, neither the rule of a
verdict nor how many seeds are asked for. How many threads compute, and which version of torch, changes last digits
only, and does not belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import BusyError, LotteryHubError, StoppedError, TicketError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.consistency import transfer_contradictions
from lottery_hub.networks.backbones import Weights, layout
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.engines import Report
from lottery_hub.running.pieces import CHECKPOINT
from lottery_hub.running.store import Unit
from lottery_hub.settings import passes
from lottery_hub.settings.config import Attack, Recipe, Seeds
from lottery_hub.settings.environment import choose_device
from lottery_hub.settings.ranks import Ranks, together
from lottery_hub.storage import atomic, files
from lottery_hub.storage.folder import TRAINED, save_ticket
from lottery_hub.storage.records import check_look, check_transfer
from lottery_hub.storage.sealed import Sealed
from lottery_hub.telling import working
from lottery_hub.training.inputs import Inputs, key_of
from lottery_hub.training.loop import train
from lottery_hub.training.transferring import labels, start_of, transfer

OnEpoch = Callable[[dict[str, Any]], None]
NUMERICS = 1  # raised where the same description would give other figures than before, beyond rounding
WEIGHTS = "trained.safetensors"


def transfer_unit(
    name: str,
    start: Ticket,
    data: Dataset,
    recipe: Recipe,
    test_attack: Attack | None,
    seed: int | Seeds,
    device: torch.device | str,
    begins: dict[str, Any] | None = None,
) -> Unit:
    """Return the unit of one transfer; arguments as of `transfer`.

    Args:
        name: for people.
        begins: `start_of(start)`, where it is known already.
    """
    begins = begins or start_of(start)
    about = _about("transfer", start, begins, data, recipe, test_attack, Seeds.of(seed), device)
    return Unit(name, about, {"start": key_of(start, begins), "data": key_of(data)})


def round_unit(
    name: str,
    start: Ticket,
    data: Dataset,
    recipe: Recipe,
    test_attack: Attack | None,
    seed: int,
    level: int,
    device: torch.device | str,
) -> Unit:
    """Return the unit of one round of a drawing: level's masked θ_pre trained on the source task.

    Args:
        name: for people.
        start: of the level.
        data: the source task's images.
        recipe: of the round.
        test_attack: how the level is measured; None does not.
        seed: of the drawing; each level has an order of images and attack starts of its own.
        level: of the mask.
        device: where it is trained.
    """
    begins = start_of(start)
    seeds = Seeds(head=seed, order=seed + level, attack=seed + level)
    about = _about("round", start, begins, data, recipe, test_attack, seeds, device) | {"measured": seed}
    return Unit(name, about, {"start": key_of(start, begins), "data": key_of(data)})


def run_unit(
    unit: Unit,
    inputs: Inputs,
    device: torch.device | str,
    report: Report,
    stop: Event,
) -> dict[str, Any]:
    """Return the record of a unit, which is made only if nobody has.

    Args:
        unit: which.
        inputs: have what it begins with, and the store that it is kept in.
        device: where to compute; of the class that the unit names.
        report: told "unit" when it begins or was done before, "epoch" after each, what else `telling` names, and "busy"
            where another is at it.
        stop: where it is set, the unit ends soon.

    Raises:
        BusyError: another process is at work on it.
        StoppedError: it was stopped; the epochs that it has trained are kept.
    """
    store = inputs.store
    found = store.finished(unit, fits)
    if found is None:
        began = Event()

        def work(folder: Path) -> dict[str, Any]:
            began.set()
            if Ranks.here().size > 1:
                inputs.keep()  # the others take it from the store
            shared = together(_take_part, unit, inputs.elsewhere(), torch.device(device).type)
            with shared as ranks, working(unit.name, passes.of_unit(unit.about), report, stop):
                on_epoch = partial(_epoch, unit, report, stop)
                done = _WORK[unit.about["unit"]](unit, inputs, device, on_epoch, folder / CHECKPOINT, ranks)
                done.write(folder)
            return done.record

        try:
            found = store.once(unit, work, fits)
        except BusyError as busy:
            report("busy", {"unit": unit.name, "who": str(busy)})
            raise
        if began.is_set():
            return found.record
    report("unit", {"unit": unit.name, "finished": True, "passes": passes.of_unit(unit.about)})
    return found.record


def fits(unit: Unit, found: Sealed) -> str | None:
    """Say what is wrong with a unit whose seal holds: whoever can write there can write a seal too."""
    about, record = unit.about, found.record
    try:
        if about["unit"] == "look":
            check_look(about["look"], record)
            return None
        if about["unit"] == "round":
            return None if WEIGHTS in found.files else "it has no weights"
        check_transfer(record)
        attack = about["attack"] and Attack.parse(about["attack"])
        said = [record["seeds"], record["attack"], record["provenance"]["attack"]]
        if said != [about["seeds"], attack and attack.describe(about["data"]["classes"]), about["attack"]]:
            return "its record is of another transfer"
        if f"{TRAINED}/config.json" not in found.files:
            return "it has no network"
        return next(iter(transfer_contradictions(record, about["data"])), None)
    except LotteryHubError as problem:
        return str(problem)


def labelled(record: dict[str, Any], start: Ticket, data: Dataset) -> dict[str, Any]:
    """Return a transfer's record under the names that its asker has for backbone and images."""
    return record | {"provenance": record["provenance"] | labels(start, data)}


def round_weights(folder: Path, arch: str, classes: int) -> Weights:
    """Return the weights that a finished round has trained.

    Raises:
        TicketError: they are not those of such a network.
    """
    weights = files.read_tensors(folder / WEIGHTS)
    shapes = layout(arch, classes).shapes
    if {name: tuple(weight.shape) for name, weight in weights.items()} != shapes:
        raise TicketError(f"{printable(folder)} has the weights of another network; remove it")
    return weights


def _about(
    kind: str,
    start: Ticket,
    begins: dict[str, Any],
    data: Dataset,
    recipe: Recipe,
    test_attack: Attack | None,
    seeds: Seeds,
    device: torch.device | str,
) -> dict[str, Any]:
    about = data.describe()
    return {
        "unit": kind,
        "numerics": NUMERICS,
        "device": torch.device(device).type,
        "arch": start.arch,
        **begins,
        "data": {key: about[key] for key in ("fingerprint", "fraction", "train", "validation", "test", "classes")},
        "recipe": recipe.record(),
        "attack": test_attack and test_attack.record(),
        "seeds": seeds.record(),
    }


def _epoch(unit: Unit, report: Report, stop: Event, epoch: dict[str, Any]) -> None:
    if stop.is_set():
        raise StoppedError(f"{unit.name} was stopped; what it has trained is kept")
    report("epoch", {"unit": unit.name} | epoch)


def _settings(unit: Unit) -> tuple[Recipe, Attack | None, Seeds]:
    """Return what a unit's description says as settings; it has been through JSON, perhaps."""
    about = unit.about
    attack = about["attack"]
    return Recipe.parse(about["recipe"]), attack and Attack.parse(attack), Seeds.parse(about["seeds"])


@dataclass(frozen=True)
class _Done:
    """What comes of a unit: its record, and its files, which are written into a folder."""

    record: dict[str, Any]
    write: Callable[[Path], object]


def _take_part(unit: Unit, inputs: Inputs, kind: str, ranks: Ranks) -> None:
    """Make a unit with the process that keeps it, on this process's device of a kind."""
    _WORK[unit.about["unit"]](unit, inputs, choose_device(kind), None, None, ranks)


def _transfer(
    unit: Unit,
    inputs: Inputs,
    device: torch.device | str,
    on_epoch: OnEpoch | None,
    checkpoint: Path | None,
    ranks: Ranks,
) -> _Done:
    start, data = inputs.ticket(unit), inputs.data(unit)
    recipe, attack, seeds = _settings(unit)
    done = transfer(
        start,
        data,
        recipe,
        test_attack=attack,
        seed=seeds,
        device=device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        ranks=ranks,
    )
    trained = done.ticket(start, data, recipe)
    return _Done(done.record, lambda folder: save_ticket(trained, folder / TRAINED, overwrite=True))


def _round(
    unit: Unit,
    inputs: Inputs,
    device: torch.device | str,
    on_epoch: OnEpoch | None,
    checkpoint: Path | None,
    ranks: Ranks,
) -> _Done:
    start, data = inputs.ticket(unit), inputs.data(unit)
    recipe, attack, seeds = _settings(unit)
    classes = len(data.classes)
    # The source task is the one of θ_pre, mostly; then its head goes on.
    own = len(start.weights["fc.bias"]) == classes
    model = start.to_normalised(None if own else classes, seed=seeds.head)
    trained = train(
        model,
        data,
        recipe,
        seed=seeds,
        mask=start.mask,
        device=device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        ranks=ranks,
    )
    record: dict[str, Any] = {"epoch": trained.epoch, "history": trained.history}
    if attack is not None:
        model.network.load_state_dict(trained.weights, strict=True)
        accuracy = evaluate(
            model,
            data.test,
            attack=attack,
            image_size=recipe.image_size,
            seed=unit.about["measured"],
            device=device,
            ranks=ranks,
        )
        record |= {"source": accuracy.record(), "source_attack": attack.describe(classes)}
    weights = files.tensor_bytes(trained.weights)
    return _Done(record, lambda folder: atomic.write_bytes(folder / WEIGHTS, weights))


_WORK: Mapping[str, Callable[..., _Done]] = {"transfer": _transfer, "round": _round}
