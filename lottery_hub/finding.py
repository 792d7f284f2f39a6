"""The whole story: backbone, ladder, transfers of dense and tickets, verdict, ticket folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import ConfigError, RunError, StoppedError, TicketError, printable
from lottery_hub.images.datasets import Dataset, load_planned
from lottery_hub.judging.scrutiny import check_possible, look
from lottery_hub.judging.verdict import (
    Splits,
    Tolerance,
    caveats,
    compare,
    control_name,
    is_rejected,
    level_name,
    pick,
    splits_of,
    summarise,
    undecided,
)
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.networks.masks import Mask, keep_highest, kept_and_total, magnitudes, random_scores
from lottery_hub.networks.tickets import Ladder, Ticket, ticket_of
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.keeping import keep_ticket, kept_ladder, kept_ticket
from lottery_hub.running.runs import CHECKPOINT, Run, open_run
from lottery_hub.running.side_by_side import Result, side_by_side
from lottery_hub.settings.config import REGIMES, DrawPlan, FindPlan, Look, Method, Regime
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.paths import path_of
from lottery_hub.sharing.pulling import pull
from lottery_hub.sharing.sources import load_backbone, packaged_name
from lottery_hub.storage import atomic, sealed
from lottery_hub.storage.folder import (
    TRAINED,
    load_ladder,
    load_ticket,
    packaged_folder,
    read_about,
    save_ladder,
    save_ticket,
)
from lottery_hub.storage.origins import check_ladder
from lottery_hub.training.drawing import Report, draw
from lottery_hub.training.lending import Wanted, borrow, take
from lottery_hub.training.transferring import start_of, transfer


def find(
    plan: FindPlan,
    directory: Path | str,
    *,
    data: Dataset | None = None,
    looks: Sequence[Look] = (),
    device: torch.device | str = "cpu",
    jobs: int = 1,
    report: Report | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Find the sparsest double-win level of a backbone's ladder on a downstream dataset, and write its ticket.

    A killed find goes on where it was when it is called again with the same plan and directory. A finished one writes
    nothing again; a new look is written into the records, and all else in the ticket folder stays.

    Args:
        plan: every setting.
        directory: the run directory; the ticket folder becomes `directory/ticket`.
        data: the downstream dataset where the caller has loaded `plan.data` already.
        looks: closer looks to take at the networks behind the verdict, see `scrutiny`. They change no figure of
            it, and may be taken later.
        device: where to compute.
        jobs: transfers at a time, of several seeds and then of several levels; each has its share of torch's threads.
        report: told what happens, as report(kind, record); with several jobs, by several threads.
        overwrite: where `ladder` or `ticket` in the directory are none of ours, or damaged, move them aside.

    Returns:
        A JSON-able summary: `ticket` (the folder), `double_win`, `sparsity`, `level`, `dense`, `levels`, and
        what they rest on. Where no level wins, the ticket is the best level tried, marked as no double win.
    """
    tell = report or _silent
    directory = path_of(directory)
    tolerance = Tolerance.parse(plan.tolerance, plan.seeds)
    backbone = load_backbone(plan.pretrain, plan.arch)
    data = data or load_planned(plan.data)
    check_possible(looks, data, plan.transfer.test_attack)
    # Loaded before the run directory is made: a mistyped ladder or source leaves no run with wrong settings.
    known = known_ladder(plan, backbone)
    if not known:
        kept_ladder(directory / "ladder", overwrite)
    source = None if known or (directory / "units" / "ladder").exists() else source_data(plan.draw)
    # What others' records say goes on the card: what cannot be told there is refused before anything is trained.
    render_card(known[0].ticket(0) if known else ticket_of(backbone, backbone.dense_mask(), 0, plan.draw.method, {}))
    settings = {
        "task": "find",
        # By name: where a folder is, or how its path is typed, is not what a run depends on.
        "plan": _published(plan, data, known[1] if known else "draw").record(),
        "backbone": backbone.fingerprint(),
        "ladder": fingerprint(known[0].survived) if known else None,
        "data": data.fingerprint,
        "device": torch.device(device).type,
    }
    kept_ticket(directory / "ticket", overwrite)
    with open_run(directory, settings) as run:
        for loaded in (data, *([source] if source else [])):
            tell("data", {"name": loaded.name, "notes": list(loaded.notes)})
        if known:
            ladder, origin = known
            tell("ladder", {"source": origin, "levels": ladder.levels, "method": ladder.method})
        else:
            tell("ladder", {"source": "drawing", "levels": plan.draw.rounds, "method": plan.draw.method})
            ladder = _drawn_ladder(plan, backbone, source, run, device, tell, overwrite)
        bench = _Bench.of(plan, data, run, device, jobs, tell)
        # What will be asked first runs beside dense: wholly, since nothing can be rejected before dense is known.
        first = range(1, bench.together) if plan.scan == "all" else spread(0, ladder.levels, bench.together - 1)
        dense = bench.each([partial(bench.measure, ladder, level, REGIMES) for level in (0, *first)])[0]
        tell("dense", {"level": 0, "sparsity": 0.0, **summarise(dense["test"])})

        def try_level(level: int, whole: bool, jobs: int) -> dict[str, Any]:
            row = {"level": level, "sparsity": ladder.sparsities[level]}
            for regimes in [REGIMES] if whole else [[regime] for regime in REGIMES]:
                row |= compare(dense, bench.measure(ladder, level, regimes, jobs), tolerance)
                if is_rejected(row) and not whole:
                    break
            tell("level", row)
            return row

        def try_levels(levels: Sequence[int], whole: bool) -> list[dict[str, Any]]:
            # With room for both regimes of a level at once, its rejection saves no time.
            jobs = bench.jobs * bench.together // min(len(levels), bench.together)
            whole = whole or jobs >= len(REGIMES) * plan.seeds
            return bench.each([partial(try_level, level, whole, jobs) for level in levels])

        rows, chosen = judge_levels(ladder.levels, plan.scan, try_levels, bench.together)
        controls = _controls(bench, ladder, chosen["level"], dense, tolerance) if plan.controls else []
        trained = bench.trained({"dense": level_name(0), "ticket": level_name(chosen["level"])})
        summary = {
            "double_win": chosen["double_win"],
            "sparsity": chosen["sparsity"],
            "level": chosen["level"],
            "tolerance": tolerance.describe(),
            "attack": plan.transfer.test_attack.describe(),
            "samples": len(data.test),
            "validation_samples": len(data.validation),
            "fraction": data.fraction,
            "seeds": plan.seeds,
            "scan": plan.scan,
            "dense": summarise(dense["test"]) | {"validation": summarise(dense["validation"])},
            "levels": rows,
            "controls": controls,
            "caveats": caveats(dense["test"], len(data.classes)),
            "scrutiny": {name: bench.look(name, trained) for name in looks},
        }
        records = summary | {
            "fingerprint": ladder.ticket(chosen["level"]).fingerprint(),
            "plan": _published(plan, data, known[1] if known else "draw").record(),
            "data": data.describe(),
            "environment": describe_environment(device),
            "transfers": sorted(bench.records.values(), key=_place),
        }
        ticket = ladder.ticket(chosen["level"], records)
        folder = keep_ticket(ticket, directory / "ticket", trained, overwrite)
        bench.forget_others(trained)
    return {"ticket": str(folder), **summary}


def judge_levels(
    levels: int, scan: str, try_levels: Callable[[Sequence[int], bool], list[dict[str, Any]]], together: int = 1
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Try levels and return (rows in order of level, the row that `verdict.pick` takes).

    `all` tries each, under both regimes. `bisect` does what the answer needs: it assumes that below a level that wins
    on validation every level does, and divides the range of candidates by the levels it tries; and it rejects a
    level that fails under standard transfer without its adversarial one, unless it might be picked all the same.

    Args:
        levels: how many there are.
        scan: `all` or `bisect`.
        try_levels: given levels and whether their rows must be whole, returns the rows.
        together: how many levels are tried at a time; one fewer at first, beside dense.
    """
    if scan == "all":
        rows = try_levels(range(1, levels + 1), True)
        return rows, pick(rows)
    tried: dict[int, dict[str, Any]] = {}
    low, high = 0, levels
    width = max(1, together - 1)
    while low < high:
        probes = spread(low, high, width)
        tried |= zip(probes, try_levels(probes, False), strict=True)
        low = max((level for level in probes if tried[level]["validation"]["double_win"]), default=low)
        high = min((level for level in probes if level > low), default=high + 1) - 1
        width = together
    rows = [tried[level] for level in sorted(tried)]
    while (row := undecided(rows)) is not None:
        rows[rows.index(row)] = try_levels([row["level"]], True)[0]
    return rows, pick(rows)


def spread(low: int, high: int, count: int) -> list[int]:
    """Return levels above `low`, up to `high`, that divide what the last win can be into parts as equal as can be."""
    count = min(count, high - low)
    return [low + place * (high - low + 1) // (count + 1) for place in range(1, count + 1)]


def likely_jobs(seeds: int, device: torch.device) -> int:
    """Return how many transfers are worth running at a time: those of two tickets, as far as there are cores."""
    return 1 if device.type == "cuda" else max(1, min(2 * seeds, torch.get_num_threads()))


def known_ladder(plan: FindPlan, backbone: Backbone) -> tuple[Ladder, str] | None:
    """Return the ladder that a plan gives, or the packaged one where it allows that, and where it comes from.

    Raises:
        ConfigError: a given ladder was drawn from another backbone.
    """
    if plan.ladder not in ("auto", "draw"):
        pulled = pull(plan.ladder)
        ladder = load_ladder(pulled.folder)
        check_ladder(ladder)
        if ladder.backbone.fingerprint() != backbone.fingerprint():
            raise ConfigError(
                f"the ladder {plan.ladder} was drawn from another backbone than --pretrain and --arch name"
            )
        return ladder, f"{pulled.repo_id}@{pulled.commit}" if pulled.repo_id else plan.ladder
    inside = packaged_folder(packaged_name(backbone.arch, backbone.kind))
    if plan.ladder == "auto" and plan.draw.method == "imp" and inside and read_about(inside).content == "ladder":
        ladder = load_ladder(inside)
        if ladder.backbone.fingerprint() == backbone.fingerprint():
            return ladder, f"packaged {inside.name}"
    return None


def _drawn_ladder(
    plan: FindPlan,
    backbone: Backbone,
    source: Dataset | None,
    run: Run,
    device: torch.device | str,
    report: Report,
    overwrite: bool,
) -> Ladder:
    """Draw a ladder inside the run, unless that is done; a copy is saved there as `ladder`."""

    def work(folder: Path) -> dict[str, Any]:
        images = source or source_data(plan.draw)
        drawn = draw(backbone, plan.draw, data=images, run=run, device=device, report=report)
        save_ladder(drawn, folder / "ladder", overwrite=True)
        return {"levels": drawn.levels, "sparsities": list(drawn.sparsities)}

    run.once("ladder", work)
    ladder = load_ladder(run.folder("ladder") / "ladder")
    if kept_ladder(run.directory / "ladder", overwrite) is None:
        save_ladder(ladder, run.directory / "ladder", overwrite=overwrite)
    return ladder


def source_data(plan: DrawPlan) -> Dataset | None:
    """Load the source task's images where the method needs them."""
    if plan.method != "imp" or plan.data is None:
        return None
    return load_planned(plan.data)


@dataclass
class _Bench:
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
    ) -> _Bench:
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


def _controls(bench: _Bench, ladder: Ladder, level: int, dense: Splits, tolerance: Tolerance) -> list[dict[str, Any]]:
    """Transfer one-shot-magnitude and random masks with as many kept weights as the chosen level."""
    backbone, names = ladder.backbone, ladder.backbone.prunable
    # Counted on the ladder itself: one that was given may have been drawn with another prune fraction than the plan's.
    kept, _ = kept_and_total(ladder.mask(level))
    scores: dict[Method, Mask] = {
        "omp": magnitudes(backbone.weights, names),
        "random": random_scores(backbone.weights, names, bench.plan.draw.seed),
    }

    def control(method: Method) -> dict[str, Any]:
        mask = keep_highest(scores[method], backbone.dense_mask(), kept)
        ticket = ticket_of(backbone, mask, level, method, {})
        row = {"method": method, "sparsity": ticket.sparsity}
        row |= compare(dense, bench.measure_ticket(ticket, control_name(method, level), REGIMES), tolerance)
        bench.report("control", row)
        return row

    return bench.each([partial(control, method) for method in scores])


def _published(plan: FindPlan, data: Dataset, origin: str) -> FindPlan:
    """Return the plan as others may read it: datasets, checkpoints and ladders by name, not by local path.

    A ladder from the Hub is named with the commit that it came from.
    """
    shown: dict[str, Any] = {"data": plan.data.changed(dataset=data.name)}
    draw_data = plan.draw.data
    if draw_data is not None:
        shown["draw"] = plan.draw.changed(data=draw_data.changed(dataset=_name_only(draw_data.dataset)))
    kind, colon, place = plan.pretrain.rpartition(":")
    shown["pretrain"] = kind + colon + _name_only(place)
    if plan.ladder not in ("auto", "draw"):
        shown["ladder"] = _name_only(origin)
    return plan.changed(**shown)


def _name_only(ref: str) -> str:
    """Return the last part of a local path; a name or a Hub id as it is."""
    return path_of(ref).resolve().name if path_of(ref).exists() else ref


def _silent(kind: str, record: dict[str, Any]) -> None:
    """Report to nobody."""
