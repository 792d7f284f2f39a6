"""Measure a whole `find` beside the way it is usually done: every level, each transferred by the usual loop.

    python scripts/bench_find.py                                   digits, all levels: about half an hour on two cores
    python scripts/bench_find.py --dataset FOLDER --levels 0 1 3 7 only these levels the usual way (0 is dense)
    python scripts/bench_find.py --seeds 3                         three seeds, with their spread as tolerance

Both start from the same packaged ladder, with the same recipes and seeds. The usual way transfers dense and every
level under both regimes, as `bench_training.py` describes its steps, validates and measures in float32 without any
trick, and judges by the same rule. Ours is `find` as it is, with transfers side by side. Where only some levels are
run the usual way, the time of all is that of those, by the level: which weights are pruned does not matter to it.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench_training import Images, usual_pgd
from torch.nn.utils import prune
from torch.utils.data import DataLoader

from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset, Split, load_planned
from lottery_hub.judging.choosing import is_whole, pick
from lottery_hub.judging.rules import Tolerance
from lottery_hub.judging.verdict import Splits, compare, splits_of
from lottery_hub.networks.backbones import Normalised
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import (
    REGIMES,
    Attack,
    DataPlan,
    DrawPlan,
    Recipe,
)
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.presets import quick_transfer
from lottery_hub.settings.speed import TRICKS
from lottery_hub.storage.folder import load_ladder
from lottery_hub.training.bench import likely_jobs
from lottery_hub.training.loop import learning_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--pretrain", default="adv")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tolerance", default="auto")
    parser.add_argument("--levels", type=int, nargs="+", help="to run the usual way; all unless given")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--jobs", type=int, help="transfers at a time in ours; as find chooses unless given")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    print(describe_environment(device), flush=True)
    data_plan = DataPlan(dataset=options.dataset, fraction=options.fraction)
    data = load_planned(data_plan)
    ladder = load_ladder(f"resnet18-slim-{options.pretrain}")
    transfer = quick_transfer(data.name, len(data.train), fast_precision(device))
    plan = FindPlan(
        pretrain=options.pretrain,
        arch=ladder.backbone.arch,
        data=data_plan,
        draw=DrawPlan(method="omp"),
        ladder=f"resnet18-slim-{options.pretrain}",
        transfer=transfer,
        seeds=options.seeds,
        tolerance=options.tolerance,
    )
    jobs = options.jobs or likely_jobs(options.seeds, device)

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        # A store of its own: nothing is done yet.
        place = Path(folder)
        ours = find(plan, place / "run", data=data, device=device, jobs=jobs, store=place / "store")
        our_seconds = time.perf_counter() - began
    print(f"ours: {our_seconds:.0f} s", flush=True)
    for row in ours["levels"]:
        show(row)

    levels = list(range(ladder.levels + 1)) if options.levels is None else sorted({0, *options.levels})
    tolerance = Tolerance.parse(plan.tolerance, plan.seeds)
    rows: list[dict[str, Any]] = []
    seconds = []
    dense: Splits = {}
    for level in levels:
        began = time.perf_counter()
        records = [
            usual_transfer(ladder.ticket(level), data, transfer.recipe(regime), transfer.test_attack, seed, device)
            for regime in REGIMES
            for seed in range(options.seeds)
        ]
        seconds.append(time.perf_counter() - began)
        print(f"usual way, level {level}: {seconds[-1]:.0f} s", flush=True)
        if level == 0:
            dense = splits_of(records)
        else:
            rows.append({"level": level, "sparsity": ladder.sparsities[level]})
            rows[-1] |= compare(dense, splits_of(records), tolerance)
            show(rows[-1])
    all_seconds = sum(seconds) / len(seconds) * (ladder.levels + 1)
    how = "measured" if len(seconds) == ladder.levels + 1 else f"from {len(seconds)} of {ladder.levels + 1}"
    print(f"\nusual way, dense and all {ladder.levels} levels: {all_seconds:.0f} s ({how})")
    print(f"ours: {our_seconds:.0f} s, {all_seconds / our_seconds:.1f} times as fast")
    for name, chosen in (("usual way", pick(rows)), ("ours", pick(ours["levels"]))):
        wins = "double win" if chosen["double_win"] else "no double win"
        print(f"{name}: {wins} at {chosen['sparsity']:.2%} (level {chosen['level']})")


def show(row: dict[str, Any]) -> None:
    """Print the figures of a level on test images, and the decision on both splits."""
    figures = ", ".join(
        f"{regime} {figure} {row[regime][figure]:.2%}" for regime in REGIMES if regime in row for figure in ("SA", "RA")
    )
    test = row["double_win"] if is_whole(row) else "not run"
    print(f"  level {row['level']}: {figures}; wins on validation: {row['validation']['double_win']}, test: {test}")


def usual_transfer(
    ticket: Ticket, data: Dataset, recipe: Recipe, test_attack: Attack, seed: int, device: torch.device
) -> dict[str, Any]:
    """Fine-tune and measure as it is usually written; return what a verdict needs."""
    torch.manual_seed(seed)
    model = ticket.to_normalised(len(data.classes), head="fresh", seed=seed).to(device)
    convolutions = {f"{name}.weight": module for name, module in model.network.named_modules()}
    for name, kept in ticket.mask.items():
        prune.custom_from_mask(convolutions[name], "weight", kept.to(device))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    images_of = Images(data, flip=recipe.augment == "crop-flip")
    loader = DataLoader(images_of, recipe.batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    best: tuple[tuple[float, float], dict[str, Any]] | None = None
    for epoch in range(recipe.epochs):
        model.train()
        for step, batch in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, epoch + (step + 0.5) / len(loader))
            images, labels = (part.to(device) for part in batch)
            shown = images if recipe.attack is None else usual_pgd(model, images, labels, recipe.attack)
            loss = F.cross_entropy(model(shown), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            seen = measured(model, data.validation, recipe.selection_attack, device)
            score = (seen["RA"] or 0.0, seen["SA"])
            if best is None or score > best[0]:
                best = score, copy.deepcopy(model.state_dict())
    assert best is not None
    model.load_state_dict(best[1])
    validation, test = (measured(model, split, test_attack, device) for split in (data.validation, data.test))
    return test | {"regime": recipe.regime, "seed": seed, "validation": validation}


def measured(model: Normalised, split: Split, attack: Attack | None, device: torch.device) -> dict[str, Any]:
    """Measure in float32 with every trick switched off."""
    os.environ["LOTTERY_HUB_WITHOUT"] = ",".join(TRICKS)
    seen = evaluate(model, split, attack=attack, device=device)
    del os.environ["LOTTERY_HUB_WITHOUT"]
    return seen.record() | {"outcomes": seen.outcomes and seen.outcomes.record()}


if __name__ == "__main__":
    main()
