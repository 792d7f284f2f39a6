"""The bench of a find: it has transfers of tickets run, several at a time, and remembers each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import RunError, TicketError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.scrutiny import look
from lottery_hub.judging.verdict import Splits, level_name, splits_of
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.running.engines import Engine, Report
from lottery_hub.running.side_by_side import Result, side_by_side
from lottery_hub.running.store import Store, Unit, address
from lottery_hub.settings.config import REGIMES, Look, Regime
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.ranks import Ranks
from lottery_hub.storage import sealed
from lottery_hub.storage.folder import TRAINED, load_ticket, save_ticket
from lottery_hub.training.inputs import Inputs
from lottery_hub.training.transferring import start_of
from lottery_hub.training.units import NUMERICS, fits, labelled, run_unit, transfer_unit


def likely_jobs(seeds: int, device: torch.device) -> int:
    """Return how many transfers are worth running at a time: those of two tickets, as far as there is room.

    On a CPU that is cores. A GPU has room for about four trainings of the small network (docs/performance.md). Several
    processes work on one transfer after the other, all together.
    """
    if Ranks.here().size > 1:
        return 1
    return max(1, min(2 * seeds, 4 if device.type == "cuda" else torch.get_num_threads()))


@dataclass
class Bench:
    """Transfers tickets of one backbone to one dataset, every regime and seed a unit of the store."""

    plan: FindPlan
    data: Dataset
    store: Store
    device: torch.device | str
    engine: Engine
    together: int  # how many tickets are run at a time
    jobs: int  # and how many transfers of each
    report: Report
    stop: Event = field(default_factory=Event)
    done: dict[str, tuple[Unit, dict[str, Any]]] = field(default_factory=dict)  # by name, with their records

    @classmethod
    def of(
        cls,
        plan: FindPlan,
        data: Dataset,
        store: Store,
        device: torch.device | str,
        engine: Engine,
        report: Report,
    ) -> Bench:
        """Share an engine's jobs out: to the seeds of a ticket first, then to several tickets."""
        together = max(1, engine.jobs // plan.seeds)
        return cls(plan, data, store, device, engine, together, engine.jobs // together, report)

    def each(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Do pieces of work with a ticket each, as many at a time as there are jobs for."""
        return side_by_side(works, self.together, self.engine.threads, self.stop)

    def measure(
        self,
        ladder: Ladder,
        level: int,
        regimes: Iterable[Regime],
        jobs: int | None = None,
        seeds: Iterable[int] | None = None,
    ) -> Splits:
        """Run a level of the ladder, see `measure_ticket`."""
        return self.measure_ticket(ladder.ticket(level), level_name(level), regimes, jobs, seeds)

    def measure_ticket(
        self,
        ticket: Ticket,
        name: str,
        regimes: Iterable[Regime],
        jobs: int | None = None,
        seeds: Iterable[int] | None = None,
    ) -> Splits:
        """Run these regimes with these seeds; return all runs of the ticket so far, on `validation` and `test`.

        Args:
            ticket: to transfer.
            name: tells it from others, in records too.
            regimes: which.
            jobs: transfers at a time, unless as many as the bench has for a ticket.
            seeds: which; unless given, as many as the plan says.
        """
        wanted = [
            (unit_name(name, regime, seed), regime, seed)
            for regime in regimes
            for seed in (range(self.plan.seeds) if seeds is None else seeds)
        ]
        begins, how = start_of(ticket), self.plan.transfer
        units = [
            transfer_unit(called, ticket, self.data, how.recipe(regime), how.attack(regime), seed, self.device, begins)
            for called, regime, seed in wanted
            if called not in self.done
        ]
        held = {unit.inputs["start"]: ticket for unit in units} | {unit.inputs["data"]: self.data for unit in units}
        inputs = Inputs(self.store, held, {unit.inputs["data"]: self.plan.data for unit in units})
        records = self.engine.run(run_unit, units, inputs, self.report, self.stop, jobs or self.jobs)
        for unit, record in zip(units, records, strict=True):
            said = {"ticket": name, "sparsity": ticket.sparsity} | labelled(record, ticket, self.data)
            self.done[unit.name] = (unit, said)
        return self.measured(name)

    def measured(self, name: str) -> Splits:
        """Return all runs so far of what goes by a name."""
        return splits_of(record for record in self.transfers() if record["ticket"] == name)

    def transfers(self) -> list[dict[str, Any]]:
        """Return the records of all transfers, in an order that does not depend on what was run first."""
        # A list, made at once: another ticket's records may come in meanwhile.
        return sorted((record for _, record in list(self.done.values())), key=_place)

    @contextmanager
    def networks(self, tickets: Mapping[str, Ticket], seeds: Iterable[int]) -> Iterator[dict[str, Path]]:
        """Yield folders of the networks that levels became, e.g. `ticket-adversarial-seed-0`; some end with the block.

        Args:
            tickets: levels of the ladder, by what they are called there.
            seeds: of the transfers.

        Raises:
            RunError: one of them is no longer there, or not what it was.
        """
        with TemporaryDirectory() as place:
            yield {
                f"{shown}-{regime}-seed-{seed}": self._network(ticket, regime, seed, Path(place))
                for shown, ticket in tickets.items()
                for regime in REGIMES
                for seed in seeds
            }

    def _network(self, start: Ticket, regime: Regime, seed: int, place: Path) -> Path:
        """Return a folder with a trained network, named as it is here: the unit's own, unless that names it otherwise.

        Its maker may have found the same mask another way, or the same images elsewhere.
        """
        name = unit_name(level_name(start.level), regime, seed)
        unit, known = self.done[name]
        folder = self.store.folder(unit)
        record = {key: value for key, value in known.items() if key not in ("ticket", "sparsity")}
        try:
            sealed.read(folder)  # hours may have passed since it was read
            found = load_ticket(folder / TRAINED)
            if found.fingerprint() != record["trained"]:
                raise TicketError(f"{printable(folder)} holds another network than its record names")
        except TicketError as problem:
            raise RunError(
                f"the trained network of {name} is gone ({problem}); give the same command again to train it"
            ) from problem
        recipe = self.plan.transfer.recipe(regime).record()
        records = {"transfer": record, "data": self.data.describe(), "recipe": recipe}
        ours = replace(start, weights=found.weights, records=records)
        return folder / TRAINED if _labels(ours) == _labels(found) else save_ticket(ours, place / name)

    def network(self, start: Ticket, regime: Regime, seed: int) -> Ticket:
        """Return the network that a level became."""
        with TemporaryDirectory() as place:
            return load_ticket(self._network(start, regime, seed, Path(place)))

    def look(self, wanted: Look, networks: Mapping[str, Path]) -> dict[str, Any]:
        """Return the record of a closer look at the networks in these folders, once for all."""
        attack = self.plan.transfer.test_attack
        loaded = {name: load_ticket(path) for name, path in networks.items()}
        about = {
            "unit": "look",
            "numerics": NUMERICS,
            "device": torch.device(self.device).type,
            "look": wanted,
            "networks": {name: network.fingerprint() for name, network in loaded.items()},
            "data": self.data.fingerprint,
            "attack": attack.record(),
        }
        unit = Unit(wanted, about)
        found = self.store.finished(unit, fits)
        self.report("look", {"unit": wanted, "finished": found is not None})
        if found is not None:
            return found.record
        work = partial(self.store.once, unit, lambda _: look(wanted, loaded, self.data, attack, self.device), fits)
        return side_by_side([work], 1, self.engine.threads, self.stop)[0].record


def unit_name(name: str, regime: Regime, seed: int) -> str:
    """Return what a transfer is called, e.g. `transfer-level-03-adversarial-seed-0`."""
    return f"transfer-{name}-{regime}-seed-{seed}"


def _labels(network: Ticket) -> str:
    """Return the hash of all that is said about a network beside its weights and mask."""
    said = {name: getattr(network, name) for name in ("arch", "kind", "level", "method", "mean", "std", "provenance")}
    return address(said | {"records": network.records})


def _place(record: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return where a transfer's record stands among others, whatever was run first."""
    return record["ticket"], REGIMES.index(record["regime"]), record["seed"]
