"""A study: many finds over one store, and what they say beside each other.

DIRECTORY/
    cells/NAME/        a find's run directory each: its ticket folder, and the ladder that it drew
    study.json         what was found in each cell, and how kinds of pre-training differ
    figures.csv        every figure of every network, a row each; figures.parquet the same
    differences.csv    between kinds of pre-training, at every level that both were judged at, and of frontiers
    report.html        all of this as a page
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from threading import Event
from typing import Any

import torch

from lottery_hub.errors import LotteryHubError, StoppedError, WriteError, printable
from lottery_hub.finding import find, ladder_at_hand
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.between import frontiers_apart
from lottery_hub.judging.deciding import counted, tells_nothing
from lottery_hub.judging.verdict import Runs, differences, level_name, splits_of
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.inspection import Comparisons, compare_all
from lottery_hub.networks.tickets import Ladder, Ticket, ticket_of
from lottery_hub.reporting.studies import FRONTIER, Studied, render_study
from lottery_hub.reporting.tables import FIGURES, Holds, Table, figures_table
from lottery_hub.running.engines import Engine, Local, Report
from lottery_hub.running.runs import open_run
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.running.store import Store
from lottery_hub.settings.config import REGIMES
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.studies import CellPlan
from lottery_hub.storage import atomic
from lottery_hub.storage.folder import load_ticket
from lottery_hub.storage.ownership import leave
from lottery_hub.telling import tell
from lottery_hub.training.foretelling import foretell, rate_of, seconds_of

MOST_MASKS = 24  # in the table of what masks share
AT_ONCE = 8  # finds that a cluster is asked by; each holds its images and its ladder in memory
DIFFERENCES: dict[str, Holds] = {
    "dataset": "string",
    "fraction": "float",
    "method": "string",
    "level": "int",
    "sparsity": "float",
    "pretrain": "string",
    "against": "string",
    "regime": "string",
    "figure": "string",
    "difference": "float",
    "low": "float",
    "high": "float",
    "seeds": "int",
    "samples": "int",
    "attack": "string",
}


@dataclass(frozen=True)
class Cell:
    """One find of a study: what it is called, where it stands in the grid, and how its parts are loaded."""

    name: str
    place: CellPlan
    load: Callable[[], tuple[FindPlan, Backbone, Dataset]]


def study(
    cells: Sequence[Cell],
    directory: Path,
    *,
    store: Store,
    engine: Engine,
    device: torch.device | str,
    report: Report,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Find in every cell, and compare them; given again, only what is missing is done.

    A cell that fails is reported, and the others go on.

    Args:
        cells: of the grid; a study may be given others later.
        directory: see the top of this page.
        store: of all units.
        engine: what runs them, entered.
        device: they compute on.
        report: told what happens, with the name of the cell as `cell` in each record.
        overwrite: as of `find`.

    Returns:
        What study.json holds, JSON-able.

    Raises:
        WriteError: the disk does not take it.
        LotteryHubError: no cell could be done.
    """
    with open_run(directory, {"task": "study", "format": 2}):
        ladders: dict[str, Ladder] = {}
        works = [partial(_found, cell, directory, store, engine, device, report, overwrite, ladders) for cell in cells]
        # Threads of this machine are shared inside a find; a cluster may have room for several.
        wide = 1 if isinstance(engine, Local) else min(AT_ONCE, max(1, engine.jobs // 8))
        found = side_by_side(works, wide, engine.threads, Event())
        done = [(cell, one) for cell, one in zip(cells, found, strict=True) if "failed" not in one]
        if not done:
            raise _no_cell(found[0]["failed"])
        tickets = [(cell, load_ticket(one["ticket"])) for cell, one in done]
        apart = [*compared(tickets), *frontiers(tickets)]
        summary = {"cells": found, "differences": apart}
        atomic.write_json(directory / "study.json", summary)
        figures = _figures(tickets)
        atomic.write_bytes(directory / "figures.csv", figures.encoded("csv"))
        atomic.write_bytes(directory / "figures.parquet", figures.encoded("parquet"))
        columns = {name: [row[name] for row in apart] for name in DIFFERENCES}
        atomic.write_bytes(directory / "differences.csv", Table(DIFFERENCES, columns).encoded("csv"))
        failed = [(one["cell"], one["failed"]) for one in found if "failed" in one]
        studied = [Studied(cell.name, cell.place, ticket.records, ticket.answer) for cell, ticket in tickets]
        page = render_study(studied, failed, apart, _shared(ladders, {ticket.level for _, ticket in tickets}))
        leave(directory / "report.html", page.encode(), overwrite)
    return {"study": str(directory), **summary}


def check_possible(cells: Sequence[Cell]) -> None:
    """Raise LotteryHubError where not one cell can be loaded: then nothing needs to be written."""
    problems = []
    for cell in cells:
        try:
            cell.load()
        except LotteryHubError as problem:
            problems.append(problem)
        else:
            return
    raise _no_cell(problems[0])


def _no_cell(why: object) -> LotteryHubError:
    return LotteryHubError(f"no cell of the study could be done; the first: {why}")


def outline(
    cells: Sequence[Cell], directory: Path, *, store: Store, engine: Engine, device: torch.device | str
) -> Iterator[dict[str, Any]]:
    """Yield for each cell what its find will ask for: units, how many are finished, and hours for the rest.

    Masks that are not drawn yet, and levels that figures will choose, are counted as not finished.
    """
    rates: dict[str, float] = {}
    seen: set[str] = set()
    for cell in cells:
        tell("doing", what=f"counting what {cell.name} takes")
        plan, backbone, data = cell.load()
        ladder = ladder_at_hand(plan, backbone, directory / "cells" / cell.name)
        ahead = foretell(plan, backbone, ladder, data, device)
        if plan.arch not in rates:
            dense = ticket_of(backbone, backbone.dense_mask(), 0, plan.draw.method, {})
            rates[plan.arch] = rate_of(store, dense, data, plan.transfer.standard, device)
        units = [unit for unit in ahead.units if unit.address not in seen]  # what cells share is counted once
        seen |= {unit.address for unit in units}
        missing = store.missing(units)
        seconds = seconds_of(ahead, missing, rates[plan.arch])
        more = sum(ahead.others.values())
        yield {
            "cell": cell.name,
            **cell.place._asdict(),
            "units": len(units) + more,
            "finished": len(units) - len(missing),
            "to_be_chosen": more,
            "hours": seconds / 3600 / engine.jobs,
        }


def _found(
    cell: Cell,
    directory: Path,
    store: Store,
    engine: Engine,
    device: torch.device | str,
    report: Report,
    overwrite: bool,
    ladders: dict[str, Ladder],
) -> dict[str, Any]:
    """Do one find, note its ladder by kind and method, and return what the study says of it."""
    about = {"cell": cell.name, **cell.place._asdict()}

    def of_cell(kind: str, record: dict[str, Any]) -> None:
        report(kind, {"cell": cell.name} | record)

    try:
        plan, backbone, data = cell.load()
        report("cell", about)
        summary = find(
            plan,
            directory / "cells" / cell.name,
            backbone=backbone,
            data=data,
            device=device,
            report=of_cell,
            overwrite=overwrite,
            store=store,
            engine=engine,
        )
        drawn = f"{cell.place.pretrain} {cell.place.method}"
        if drawn not in ladders:
            ladder = ladder_at_hand(plan, backbone, directory / "cells" / cell.name)
            if ladder is not None:
                ladders[drawn] = ladder
    except (WriteError, StoppedError):
        raise
    except LotteryHubError as problem:
        report("failed", about | {"why": str(problem)})
        return about | {"failed": printable(problem, 1000)}
    kept = (
        "answer",
        "double_win",
        "sparsity",
        "level",
        "frontier",
        "seeds",
        "samples",
        "attack",
        "standard_attack",
        "tolerance",
        "margin",
    )
    (row,) = (row for row in summary["levels"] if row["level"] == summary["level"])
    return (
        about
        | {"found_level": summary["level"], "ticket": summary["ticket"]}
        | {name: summary[name] for name in kept if name in summary}
        | {"telling": counted(summary)[0], "dense": _means(summary["dense"]), "figures": _means(row)}
    )


def _means(row: dict[str, Any]) -> dict[str, Any]:
    return {regime: {figure: row[regime][figure] for figure in ("SA", "RA")} for regime in REGIMES}


def _shared(ladders: Mapping[str, Ladder], picked: set[int]) -> Comparisons | None:
    """Return how much masks of kinds and methods share, at the levels that were picked and others in between.

    Of ladders of other architectures those that are like the first.
    """
    alike = [
        name for name, ladder in ladders.items() if ladder.backbone.arch == next(iter(ladders.values())).backbone.arch
    ]
    deepest = min((ladders[name].levels for name in alike), default=0)
    room = max(1, MOST_MASKS // max(1, len(alike)))
    levels = sorted({*sorted(level for level in picked if level <= deepest)[-room:], deepest} - {0})[-room:]
    masks = {f"{name} {level}": ladders[name].mask(level) for name in alike for level in levels}
    return compare_all(masks) if len(masks) > 1 else None


def frontiers(tickets: Iterable[tuple[Cell, Ticket]]) -> Iterator[dict[str, Any]]:
    """Yield how much sparser frontiers are of another kind of pre-training, in rows as of `compared`, of no level.

    Where frontiers were looked for, on the same images; see `judging.between`.
    """
    groups: dict[tuple[Any, ...], list[tuple[Cell, Ticket]]] = {}
    for cell, ticket in tickets:
        if cell.place.level is None and not tells_nothing(ticket.records):
            key = (cell.place.dataset, cell.place.fraction, cell.place.method, ticket.records["data"]["fingerprint"])
            groups.setdefault(key, []).append((cell, ticket))
    for (dataset, fraction, method, _), kinds in groups.items():
        for (one, first), (other, second) in combinations(kinds, 2):
            seen = frontiers_apart(first, second)
            if seen is not None:
                yield dict.fromkeys(DIFFERENCES) | {
                    "dataset": dataset,
                    "fraction": fraction,
                    "method": method,
                    "pretrain": other.place.pretrain,
                    "against": one.place.pretrain,
                    "figure": FRONTIER,
                    "difference": seen.difference,
                    "low": seen.low,
                    "high": seen.high,
                    "seeds": min(ticket.records["seeds"] for ticket in (first, second)),
                    "samples": first.records["samples"],
                }


def compared(tickets: Iterable[tuple[Cell, Ticket]]) -> Iterator[dict[str, Any]]:
    """Yield how figures of two kinds of pre-training differ, a row a figure, at every level that both were run at.

    Differences are of test images, paired by seed and by image, with 95 % intervals; see `judging.intervals`. Level 0
    is dense. RA of two kinds is not compared where it was measured by different attacks.
    """
    groups: dict[tuple[Any, ...], dict[str, list[Ticket]]] = {}
    for cell, ticket in tickets:
        key = (cell.place.dataset, cell.place.fraction, cell.place.method)
        groups.setdefault(key, {}).setdefault(cell.place.pretrain, []).append(ticket)
    for (dataset, fraction, method), kinds in groups.items():
        for one, other in combinations(kinds, 2):
            levels = [_levels(kinds[name]) for name in (one, other)]
            for level in sorted(levels[0].keys() & levels[1].keys()):
                sparsity, runs, images, attacks = levels[0][level]
                their_sparsity, theirs, same_images, their_attacks = levels[1][level]
                if images != same_images or abs(sparsity - their_sparsity) > 0.005:
                    continue
                for regime, figure, seen in differences(*_alike(runs, theirs)):
                    if figure == "RA" and attacks[regime] != their_attacks[regime]:
                        continue
                    low, high = seen.interval()
                    yield {
                        "dataset": dataset,
                        "fraction": fraction,
                        "method": method,
                        "level": level,
                        "sparsity": sparsity,
                        "pretrain": other,
                        "against": one,
                        "regime": regime,
                        "figure": figure,
                        "difference": seen.mean,
                        "low": low,
                        "high": high,
                        "seeds": seen.seeds,
                        "samples": seen.samples,
                        "attack": attacks[regime] if figure == "RA" else None,
                    }


def _levels(tickets: Sequence[Ticket]) -> dict[int, tuple[float, Runs, str, dict[str, str]]]:
    """Return level → its sparsity, its runs on test images, which images those are, and the attack of each regime.

    Dense is level 0.
    """
    found = {}
    for ticket in tickets:
        records = ticket.records
        attacks = {"adversarial": records["attack"], "standard": records.get("standard_attack", records["attack"])}
        sparsities = {0: 0.0} | {row["level"]: row["sparsity"] for row in records["levels"]}
        for level, sparsity in sparsities.items():
            runs = splits_of(run for run in records["transfers"] if run["ticket"] == level_name(level))["test"]
            found[level] = (sparsity, runs, records["data"]["fingerprint"], attacks)
    return found


def _alike(one: Runs, other: Runs) -> tuple[Runs, Runs]:
    """Return the runs that both have, of regimes and seeds that both have."""

    def kept(side: Runs, beside: Runs) -> Runs:
        seeds = {regime: {run.seed for run in beside[regime]} for regime in REGIMES}
        return {regime: [run for run in side[regime] if run.seed in seeds[regime]] for regime in REGIMES}

    return kept(one, other), kept(other, one)


def _figures(tickets: Sequence[tuple[Cell, Ticket]]) -> Table:
    """Return every figure of every cell as one table."""
    kinds: dict[str, Holds] = {"cell": "string", "fraction": "float"}
    columns: dict[str, list[Any]] = {name: [] for name in kinds | FIGURES}
    for cell, ticket in tickets:
        table = figures_table(ticket)
        columns["cell"] += [cell.name] * len(table)
        columns["fraction"] += [cell.place.fraction] * len(table)
        for name, values in table.columns.items():
            columns[name] += values
    return Table(kinds | FIGURES, columns)
