"""Rebuild the packaged backbones and ladders from the data: pre-train, draw, measure, write, with their cards.

    python scripts/make_packaged.py                       all of it, from CIFAR-100 on the Hub
    python scripts/make_packaged.py --data FOLDER         from a local copy in the Hub's layout
    python scripts/make_packaged.py --kinds adv           one of std, fast-adv, adv
    python scripts/make_packaged.py --smoke               the whole chain on little data, to prove that it works

A run that is stopped goes on where it was when the same command is given again. The packaged ones were made on a GPU,
where all kinds are made side by side, in minutes; on a CPU it takes hours, so there one process for each kind is best.
With `--arch resnet18 --device cuda` it does the same for the full network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, get_args

import torch

from lottery_hub.errors import StoppedError, TicketError
from lottery_hub.images.datasets import Dataset, load_planned
from lottery_hub.networks.backbones import Backbone
from lottery_hub.reporting.ladder_cards import render_ladder_card
from lottery_hub.running.runs import CHECKPOINT, open_run
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.running.store import open_store
from lottery_hub.settings.config import DataPlan, DrawPlan, Kind, PretrainPlan
from lottery_hub.settings.environment import choose_device, fast_precision
from lottery_hub.settings.presets import pgd, quick_draw, quick_pretrain
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage import atomic
from lottery_hub.storage.folder import load_backbone_folder, load_ladder, save_backbone, save_ladder
from lottery_hub.storage.ownership import first_foreign, is_our_card
from lottery_hub.training.drawing import draw
from lottery_hub.training.pretraining import pretrain

ROOT = Path(__file__).parent.parent
EPOCHS = 40
ROUNDS = 14
DRAW_EPOCHS = 6  # passes over all training images in a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=get_args(Kind))
    parser.add_argument("--arch", default="resnet18-slim")
    parser.add_argument("--data", default="cifar100", help="name, or a folder in the Hub's layout")
    parser.add_argument("--runs", type=Path, help="where unfinished work is kept")
    parser.add_argument("--output", type=Path, help="where the ladder folders go; unless given, into the package")
    parser.add_argument("--cards", type=Path, help="where their cards go; unless given, into model_cards/")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, help="kinds at a time, in a thread each; all on a GPU, else one")
    parser.add_argument("--seed", type=int, default=0)
    assignments = {"action": "append", "default": [], "metavar": "PATH=VALUE"}
    parser.add_argument("--set-pretrain", help="of the pre-training, e.g. recipe.epochs=60", **assignments)
    parser.add_argument("--set-draw", help="of the drawing, e.g. recipe.epochs=3", **assignments)
    parser.add_argument("--smoke", action="store_true", help="one epoch, two rounds, few images; all into runs/smoke")
    options = parser.parse_args()
    smoke = Path("runs/smoke")
    runs = options.runs or (smoke if options.smoke else Path("runs/packaged"))
    output = options.output or (smoke / "out" if options.smoke else ROOT / "lottery_hub" / "packaged")
    cards = options.cards or (smoke / "out" if options.smoke else ROOT / "model_cards")

    device = choose_device(options.device)
    data_plan = DataPlan.parse({"dataset": options.data, "fraction": 0.05 if options.smoke else 1.0})
    data = load_planned(data_plan)
    if options.smoke:
        data = replace(data, test=replace(data.test, images=data.test.images[:200], labels=data.test.labels[:200]))
    cards.mkdir(parents=True, exist_ok=True)
    stop = Event()

    def work(kind: Kind) -> None:
        plan = pretrain_plan(kind, options.arch, data_plan, data, device, options.seed, options.smoke)
        plan = plan.with_settings(options.set_pretrain)
        drawn = draw_plan(kind, data_plan, data, device, options.seed, options.smoke).with_settings(options.set_draw)
        name = packaged_name(options.arch, kind)
        check_places(output / name, cards / f"{name}.md")
        folder = make(plan, drawn, data, runs / name, output / name, device, partial(report, kind, stop))
        atomic.write_text(cards / f"{name}.md", render_ladder_card(load_ladder(folder), name))
        print(f"{name}: {folder}", flush=True)

    jobs = options.jobs or (len(options.kinds) if device.type == "cuda" else 1)
    threads = max(1, torch.get_num_threads() // jobs)
    side_by_side([partial(work, kind) for kind in options.kinds], jobs, threads, stop)


def check_places(folder: Path, card: Path) -> None:
    """Refuse to lose what somebody has put where a ladder and its card go, before hours are spent on them."""
    atomic.check_place(folder, foreign=first_foreign)
    if card.exists() and not is_our_card(card):
        raise TicketError(f"{card} was changed by hand; move it away, or give another --cards")


def pretrain_plan(
    kind: Kind, arch: str, data_plan: DataPlan, data: Dataset, device: torch.device, seed: int, smoke: bool
) -> PretrainPlan:
    """Return the settings of a packaged backbone."""
    recipe = quick_pretrain(kind, data.name, 1 if smoke else EPOCHS, fast_precision(device))
    eps = recipe.attack.eps if recipe.attack else 8 / 255
    return PretrainPlan(
        arch=arch,
        kind=kind,
        data=data_plan,
        recipe=recipe,
        test_attack=pgd(20, eps),
        seed=seed,
        # Exact in half the bytes: what is measured and drawn is what is shipped.
        weights="float16",
    )


def draw_plan(kind: Kind, data_plan: DataPlan, data: Dataset, device: torch.device, seed: int, smoke: bool) -> DrawPlan:
    """Return the settings of a packaged ladder: rounds longer than the laptop's preset."""
    quick = quick_draw(kind, data_plan.dataset, data.name, "imp", len(data.train), fast_precision(device))
    assert quick.recipe is not None
    return quick.changed(
        data=data_plan,
        rounds=2 if smoke else ROUNDS,
        recipe=quick.recipe.changed(epochs=1 if smoke else DRAW_EPOCHS),
        seed=seed,
    )


def make(
    plan: PretrainPlan,
    drawn: DrawPlan,
    data: Dataset,
    runs: Path,
    folder: Path,
    device: torch.device,
    tell: Callable[[dict[str, Any]], None],
) -> Path:
    """Pre-train a backbone, draw its ladder, and write both as one ladder folder; `tell` is given every epoch."""
    settings = {"task": "packaged", "pretrain": plan.record(), "draw": drawn.record(), "data": data.fingerprint}
    with open_run(runs, settings) as run:

        def train(place: Path) -> dict[str, Any]:
            began = time.monotonic()
            backbone = pretrain(plan, data, device=device, checkpoint=place / CHECKPOINT, on_epoch=tell)
            seconds = sum(epoch["seconds"] for epoch in backbone.records["history"])
            backbone = replace(backbone, records=backbone.records | {"seconds": round(seconds, 1)})
            save_backbone(backbone, place / "backbone", overwrite=True)
            print(f"{plan.kind}: {backbone.records['test']} after {time.monotonic() - began:.0f} s", flush=True)
            return {"seconds": seconds}

        run.once("pretrain", train)
        backbone: Backbone = load_backbone_folder(run.folder("pretrain") / "backbone")
        rounds = open_store(runs / "store")

        def epochs(kind: str, record: dict[str, Any]) -> None:
            if kind == "epoch":
                tell(record)

        ladder = draw(backbone, drawn, data=data, store=rounds, device=device, report=epochs)
        return save_ladder(ladder, folder)


def report(kind: Kind, stop: Event, record: dict[str, Any]) -> None:
    """Print one line an epoch: these runs live in logs. End where another kind has failed."""
    print(kind, record, flush=True)
    if stop.is_set():
        raise StoppedError(f"{kind} was stopped; what it has trained is kept")


if __name__ == "__main__":
    main()
