"""The bench of a find: it runs transfers of tickets, several at a time, and remembers each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import RunError, StoppedError, TicketError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.scrutiny import look
from lottery_hub.judging.verdict import Splits, level_name, splits_of
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.running.runs import CHECKPOINT, Run
from lottery_hub.running.side_by_side import Result, side_by_side
from lottery_hub.settings.config import (
    REGIMES,
    Look,
    Regime,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage import atomic, sealed
from lottery_hub.storage.folder import TRAINED, load_ticket, save_ticket
from lottery_hub.training.drawing import Report
from lottery_hub.training.lending import Wanted, borrow, take
from lottery_hub.training.transferring import start_of, transfer


def likely_jobs(seeds: int, device: torch.device) -> int:
    """Return how many transfers are worth running at a time: those of two tickets, as far as there are cores."""
    return 1 if device.type == "cuda" else max(1, min(2 * seeds, torch.get_num_threads()))


@dataclass
class Bench:
    """Transfers tickets of one backbone to one dataset, every regime and seed a unit of the run."""

    plan: FindPlan
    data: Dataset
    run: Run
    device: torch.device | str
    together: int  # how many tickets are run at a time
    jobs: int  # and how many transfers of each
    threads: int  # of torch, for every transfer
    report: Report
    stop: Event = field(default_factory=Event)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # by unit

    @classmethod
    def of(
        cls, plan: FindPlan, data: Dataset, run: Run, device: torch.device | str, jobs: int, report: Report
    ) -> Bench:
        """Share so many jobs out: to the seeds of a ticket first, then to several tickets."""
        together = max(1, jobs // plan.seeds)
        each = jobs // together
        threads = max(1, torch.get_num_threads() // (together * each))
        return cls(plan, data, run, device, together, each, threads, report)

    def each(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Do pieces of work with a ticket each, as many at a time as there are jobs for."""
        return side_by_side(works, self.together, self.threads, self.stop)

    def measure(self, ladder: Ladder, level: int, regimes: Iterable[Regime], jobs: int | None = None) -> Splits:
        """Run a level of the ladder, see `measure_ticket`."""
        return self.measure_ticket(ladder.ticket(level), level_name(level), regimes, jobs)

    def measure_ticket(self, ticket: Ticket, name: str, regimes: Iterable[Regime], jobs: int | None = None) -> Splits:
        """Run these regimes with every seed; return all runs of the ticket so far, on `validation` and `test`.

        `name` tells its units apart.
        """
        units = {_unit(name, regime, seed): (regime, seed) for regime in regimes for seed in range(self.plan.seeds)}
        missing = [unit for unit in units if unit not in self.records]
        works = [partial(self._once, ticket, unit, *units[unit]) for unit in missing]
        for unit, record in zip(missing, side_by_side(works, jobs or self.jobs, self.threads, self.stop), strict=True):
            self.records[unit] = {"ticket": name, "sparsity": ticket.sparsity} | record
        # A list, made at once: another ticket's records may come in meanwhile.
        return splits_of(record for record in list(self.records.values()) if record["ticket"] == name)

    def _once(self, ticket: Ticket, unit: str, regime: Regime, seed: int) -> dict[str, Any]:
        """Return the record of one transfer: of this run, of one beside it, or made now."""
        given = start_of(ticket)
        record = self.run.finished(unit, given)
        wanted = Wanted(ticket, self.data, self.plan.transfer, regime, seed, self.device)
        loan = borrow(self.run, unit, wanted) if record is None and not ticket.level else None
        self.report("unit", {"unit": unit, "finished": record is not None, "taken": loan and loan.run})
        if record is not None:
            return record
        work = partial(take, loan, wanted) if loan else partial(self._transfer, ticket, unit, regime, seed)
        return self.run.once(unit, work, given)

    def trained(self, names: Mapping[str, str]) -> dict[str, Path]:
        """Return the folders of trained networks, e.g. `ticket-adversarial-seed-0`, for {"ticket": its unit name}.

        Raises:
            RunError: one of them is no longer there, or not what it was.
        """
        units = {
            f"{shown}-{regime}-seed-{seed}": self.run.folder(_unit(name, regime, seed))
            for shown, name in names.items()
            for regime in REGIMES
            for seed in range(self.plan.seeds)
        }
        for unit in units.values():
            # Hours may have passed since it was read; and what no verdict needed then was removed.
            try:
                sealed.read(unit)
                why = f"{printable(unit / TRAINED)} is missing" if not (unit / TRAINED).is_dir() else ""
            except TicketError as problem:
                why = str(problem)
            if why:
                atomic.set_aside(unit, why)
                raise RunError(f"the trained network of {unit.name} is gone; give the same command again to train it")
        return {shown: unit / TRAINED for shown, unit in units.items()}

    def transfers(self) -> list[dict[str, Any]]:
        """Return the records of all transfers, in an order that does not depend on what was run first."""
        return sorted(self.records.values(), key=_place)

    def look(self, wanted: Look, trained: Mapping[str, Path]) -> dict[str, Any]:
        """Return the record of a closer look at the networks in these folders, once for all."""
        given = {"networks": {name: self.records[path.parent.name]["trained"] for name, path in trained.items()}}
        record = self.run.finished(wanted, given)
        self.report("look", {"unit": wanted, "finished": record is not None})

        def work(folder: Path) -> dict[str, Any]:
            networks = {name: load_ticket(path) for name, path in trained.items()}
            return look(wanted, networks, self.data, self.plan.transfer.test_attack, self.device)

        return record or self.run.once(wanted, work, given)

    def forget_others(self, wanted: Mapping[str, Path]) -> None:
        """Remove the trained networks that the ticket folder does not hold: with many levels they take much room."""
        for folder in self.run.directory.glob(f"units/*/{TRAINED}"):
            # A dot is in the names of what is not finished, or was set aside.
            if folder not in wanted.values() and "." not in folder.parent.name:
                self.run.forget(folder.parent.name, TRAINED)

    def _transfer(self, ticket: Ticket, unit: str, regime: Regime, seed: int, folder: Path) -> dict[str, Any]:
        recipe = self.plan.transfer.recipe(regime)

        def on_epoch(epoch: dict[str, Any]) -> None:
            if self.stop.is_set():
                raise StoppedError(f"{unit} was stopped; what it has trained is kept")
            self.report("epoch", {"unit": unit} | epoch)

        done = transfer(
            ticket,
            self.data,
            recipe,
            test_attack=self.plan.transfer.test_attack,
            seed=seed,
            device=self.device,
            checkpoint=folder / CHECKPOINT,
            on_epoch=on_epoch,
        )
        save_ticket(done.ticket(ticket, self.data, recipe), folder / TRAINED, overwrite=True)
        return done.record


def _place(record: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return where a transfer's record stands among others, whatever was run first."""
    return record["ticket"], REGIMES.index(record["regime"]), record["seed"]


def _unit(name: str, regime: Regime, seed: int) -> str:
    return f"transfer-{name}-{regime}-seed-{seed}"
