"""The whole story: backbone, ladder, transfers of dense and tickets, verdict, ticket folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lottery_hub.images.datasets import Dataset, load_planned
from lottery_hub.judging.levels import judge_levels
from lottery_hub.judging.scrutiny import check_possible
from lottery_hub.judging.verdict import Tolerance, caveats, level_name, summarise
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.keeping import keep_ticket, kept_ladder, kept_ticket
from lottery_hub.running.runs import Run, open_run
from lottery_hub.settings.config import (
    Look,
)
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.paths import path_of
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.ladders import known_ladder
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import load_ladder, save_ladder
from lottery_hub.training.bench import Bench
from lottery_hub.training.drawing import Report, draw, source_data
from lottery_hub.training.trying import Trial


def find(
    plan: FindPlan,
    directory: str | os.PathLike[str],
    *,
    backbone: Backbone | None = None,
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
        backbone: where the caller has loaded what the plan names already, or has it in memory only.
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
    backbone = backbone or load_backbone(plan.pretrain, plan.arch)
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
        bench = Bench.of(plan, data, run, device, jobs, tell)
        trial = Trial.begin(bench, ladder, tolerance)
        rows, chosen = judge_levels(ladder.levels, plan.scan, trial.levels, bench.together)
        controls = trial.controls(chosen["level"]) if plan.controls else []
        trained = bench.trained({"dense": level_name(0), "ticket": level_name(chosen["level"])})
        scrutiny = {name: bench.look(name, trained) for name in looks}
        summary = _summary(trial, rows, chosen, controls, scrutiny)
        records = summary | {
            "fingerprint": ladder.ticket(chosen["level"]).fingerprint(),
            "plan": _published(plan, data, known[1] if known else "draw").record(),
            "data": data.describe(),
            "environment": describe_environment(device),
            "transfers": bench.transfers(),
        }
        ticket = ladder.ticket(chosen["level"], records)
        folder = keep_ticket(ticket, directory / "ticket", trained, overwrite)
        bench.forget_others(trained)
    return {"ticket": str(folder), **summary}


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


def _summary(
    trial: Trial,
    rows: list[dict[str, Any]],
    chosen: dict[str, Any],
    controls: list[dict[str, Any]],
    scrutiny: dict[Look, Any],
) -> dict[str, Any]:
    """Return what a find says: the level that was chosen, and what the choice rests on."""
    plan, data, dense, tolerance = trial.bench.plan, trial.bench.data, trial.dense, trial.tolerance
    return {
        "double_win": chosen["double_win"],
        "sparsity": chosen["sparsity"],
        "level": chosen["level"],
        "tolerance": tolerance.describe(),
        "attack": plan.transfer.test_attack.describe(len(data.classes)),
        "samples": len(data.test),
        "validation_samples": len(data.validation),
        "fraction": data.fraction,
        "seeds": plan.seeds,
        "scan": plan.scan,
        "dense": summarise(dense["test"]) | {"validation": summarise(dense["validation"])},
        "levels": rows,
        "controls": controls,
        "caveats": caveats(dense["test"], len(data.classes)),
        "scrutiny": scrutiny,
    }


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
