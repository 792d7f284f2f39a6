"""The whole story: backbone, ladder, transfers of dense and tickets, verdict, ticket folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from lottery_hub.errors import ConfigError, RunError, printable
from lottery_hub.images.datasets import Dataset, load_planned, sample
from lottery_hub.images.opening import dataset_name
from lottery_hub.judging.choosing import pick
from lottery_hub.judging.deciding import decide, standard_attack
from lottery_hub.judging.levels import judge_levels
from lottery_hub.judging.rules import confirming, parse_rule
from lottery_hub.judging.scrutiny import check_possible
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.networks.reach import reach_told
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.keeping import keep_ticket, kept_ladder, kept_ticket
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.engines import Engine, Local, Report
from lottery_hub.running.runs import differences, open_run
from lottery_hub.running.store import Store, open_store
from lottery_hub.settings.config import Attack, Look
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.paths import path_of, place_of
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.ladders import known_ladder
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import save_ladder, trained_seeds
from lottery_hub.storage.origins import check_ladder
from lottery_hub.training.bench import Bench
from lottery_hub.training.drawing import draw, recorded, source_data
from lottery_hub.training.radius import telling_radius
from lottery_hub.training.trying import Trial

RADIUS_IMAGES = 1000  # validation images on which --eps-standard auto looks for its radius


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
    store: Store | PathLike[str] | str | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Find the sparsest double-win level of a backbone's ladder on a downstream dataset, and write its ticket.

    Every transfer is a unit of the store: what anybody has finished there is not trained again, and a killed find goes
    on where it was. A finished find can grow: with more seeds, another scan, another rule or a new look only what is
    missing is done, and the ticket folder says what then follows. Else nothing is written again.

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
        store: where units are kept; None is `store.default_store`.
        engine: what runs the transfers, entered; None is threads of this process, as `jobs` says.

    Returns:
        A JSON-able summary: `ticket` (the folder), whether its level was `asked_for`, `double_win`, `sparsity`,
        `level`, `dense`, `levels`, and what they rest on. Where no level wins, the ticket is the best level tried,
        marked as no double win.

    Raises:
        RunError: the directory holds a find of other figures: of another backbone, ladder, dataset, recipe or device.
    """
    tell = report or _silent
    directory = place_of(directory)
    parse_rule(plan.tolerance, plan.seeds)
    backbone = backbone or load_backbone(plan.pretrain, plan.arch)
    data = data or load_planned(plan.data)
    check_possible(looks, data, plan.transfer.test_attack)
    # Loaded before the run directory is made: a mistyped ladder or source leaves no run with wrong settings.
    known = known_ladder(plan, backbone)
    drawn = None if known else _drawn_before(directory / "ladder", plan, backbone, overwrite)
    source = None if known or drawn else source_data(plan.draw)
    _only(plan, known[0] if known else drawn)
    # What others' records say goes on the card: what cannot be told there is refused before anything is trained.
    render_card(known[0].ticket(0) if known else ticket_of(backbone, backbone.dense_mask(), 0, plan.draw.method, {}))
    settings = {
        "task": "find",
        "format": 2,
        "backbone": backbone.fingerprint(),
        # By contents: what a dataset is called, or where it is, is not what a figure depends on.
        "ladder": fingerprint(known[0].survived) if known else _drawing(recorded(plan.draw), source or drawn),
        "data": data.fingerprint,
        "fraction": data.fraction,
        "transfer": plan.transfer.record(),
        "device": torch.device(device).type,
    }
    kept_ticket(directory / "ticket", overwrite)
    store = store if isinstance(store, Store) else open_store(store)
    with open_run(directory, settings):
        for loaded in (data, *([source] if source else [])):
            tell("data", {"name": loaded.name, "notes": list(loaded.notes)})
        if known:
            ladder, origin = known
            tell("ladder", {"source": origin, "levels": ladder.levels, "method": ladder.method})
        else:
            tell("ladder", {"source": "drawing", "levels": plan.draw.rounds, "method": plan.draw.method})
            ladder = drawn or draw(
                backbone, plan.draw, data=source, store=store, device=device, report=tell, engine=engine
            )
            if not drawn:
                save_ladder(ladder, directory / "ladder", overwrite=overwrite)
        only = _only(plan, ladder)
        plan = plan.changed(confirm=confirming(plan, ladder.levels))
        engine = engine or Local.of(device, jobs)
        bench = Bench.of(plan, data, store, device, engine, tell)
        radius = _telling_radius(bench, ladder) if plan.eps_standard == "auto" else {}
        if radius and radius["eps"] < plan.transfer.test_attack.eps:
            weaker = plan.transfer.changed(standard_attack=plan.transfer.test_attack.at(radius["eps"]))
            plan = plan.changed(transfer=weaker)
            bench = Bench.of(plan, data, store, device, engine, tell)
        trial = Trial.begin(bench, ladder, only)
        # One seed tells little of where the frontier is: then only what may be picked is asked for.
        hear = (trial.weigh, plan.seeds > 1, trial.foretell)
        rows, _ = judge_levels(ladder.levels, plan.scan, trial.levels, bench.together, only, *hear)
        trial.foretell(0)
        trial.add_seeds(rows)
        chosen = pick(rows)
        trial.confirm(chosen["level"])
        controls = trial.controls(chosen["level"]) if plan.controls else []
        summary = _summary(trial, rows, controls) | ({"standard_radius": radius} if radius else {})
        ticket = ladder.ticket(chosen["level"])
        summary["caveats"] += reach_told(ticket.mask, ticket.arch, plan.transfer.standard.image_size)
        with bench.networks({"dense": ladder.ticket(0), "ticket": ticket}, trained_seeds(summary)) as trained:
            summary |= {"scrutiny": {name: bench.look(name, trained) for name in looks}}
            records = summary | {
                "fingerprint": ticket.fingerprint(),
                "plan": _published(plan, data, known[1] if known else "draw").record(),
                "data": data.describe(),
                "environment": describe_environment(device),
                "transfers": bench.transfers(),
            }
            folder = keep_ticket(replace(ticket, records=records), directory / "ticket", trained, overwrite)
    return {"ticket": str(folder), "asked_for": only is not None, **summary}


def ladder_at_hand(plan: FindPlan, backbone: Backbone, directory: Path) -> Ladder | None:
    """Return the ladder that a find will judge, where no training is needed for it."""
    known = known_ladder(plan, backbone)
    if known:
        return known[0]
    return _drawn_before(directory / "ladder", plan, backbone, False) or (
        draw(backbone, plan.draw) if plan.draw.method != "imp" else None
    )


def _drawn_before(place: Path, plan: FindPlan, backbone: Backbone, overwrite: bool) -> Ladder | None:
    """Return the ladder that a run has drawn before, or None.

    Raises:
        RunError: it is not what the plan would draw.
    """
    ladder = kept_ladder(place, overwrite)
    if ladder is None:
        return None
    check_ladder(ladder)
    said, wanted = ladder.drawing.get("plan"), recorded(plan.draw)
    if plan.draw.data is not None and wanted["data"] is not None:
        wanted["data"]["dataset"] = dataset_name(plan.draw.data.dataset)
    if said != wanted and isinstance(said, dict) and ladder.drawing.get("data"):
        # The same images may go by another name; to know, they must be read.
        wanted, said = _drawing(wanted, source_data(plan.draw)), _drawing(said, ladder)
    if said != wanted or ladder.backbone.fingerprint() != backbone.fingerprint():
        changes = differences(said, wanted) or ["another backbone"]
        raise RunError(f"{printable(place)} was drawn otherwise ({'; '.join(changes[:6])}); choose another --output")
    return ladder


def _drawing(about: dict[str, Any], source: Dataset | Ladder | None) -> dict[str, Any]:
    """Return the record of a drawing's plan with its source task by contents, as images or ladder have them."""
    if isinstance(source, Ladder):
        known = source.drawing.get("data") or {}
        return about | {"data": known.get("fingerprint")}
    return about | {"data": source.fingerprint if source else None}


def _only(plan: FindPlan, ladder: Ladder | None) -> int | None:
    """Return the one level that a plan asks for, or None.

    Raises:
        LotteryHubError: the ladder has no such level.
    """
    if ladder is None or (plan.level is None and plan.sparsity is None):
        return None
    level = ladder.level_at(plan.sparsity) if plan.sparsity is not None else plan.level
    assert level is not None
    if level == 0:
        raise ConfigError(
            f"a sparsity of {plan.sparsity:g} is nearest to dense; level 1 has {ladder.sparsities[1]:.4f}"
        )
    ladder.mask(level)
    return level


def _summary(trial: Trial, rows: list[dict[str, Any]], controls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a find says: the level that was chosen, and what the choice rests on."""
    plan, data = trial.bench.plan, trial.bench.data
    sparsities = {row["level"]: row["sparsity"] for row in rows}
    return decide(trial.basis, sparsities, {row["method"]: row["sparsity"] for row in controls}) | {
        "attack": plan.transfer.test_attack.describe(len(data.classes)),
        **standard_attack(plan.transfer, len(data.classes)),
        "samples": len(data.test),
        "validation_samples": len(data.validation),
        "fraction": data.fraction,
        "scan": plan.scan,
    }


def _telling_radius(bench: Bench, ladder: Ladder) -> dict[str, Any]:
    """Return at which radius RA after standard transfer separates tickets, by dense of seed 0 on validation images."""
    start, how = ladder.ticket(0), bench.plan.transfer
    bench.measure(ladder, 0, ["standard"], seeds=[0])
    network = bench.network(start, "standard", 0).to_normalised().to(bench.device)
    images = sample(bench.data.validation, min(RADIUS_IMAGES, len(bench.data.validation)), seed=0)

    def robust(attack: Attack) -> float:
        size = how.standard.image_size
        measured = evaluate(network, images, attack=attack, image_size=size, device=bench.device).RA
        assert measured is not None
        bench.report("radius", {"eps": attack.eps, "RA": measured})
        return measured

    found = telling_radius(how.test_attack, robust, len(bench.data.classes))
    return found | {"samples": len(images)}


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
