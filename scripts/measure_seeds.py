"""How much of a run's luck do dense and ticket of one seed share? Measured on digits, by default with twelve seeds.

    python scripts/measure_seeds.py [--seeds 12] [--level 4] [--output runs/seeds]

Transfers dense and one level of the packaged robust ladder, in both regimes, as `lottery-hub find` does, and prints of
each figure what varies over runs: dense and ticket by themselves, and their difference paired by seed. A killed run
goes on where it was. On two cores of a server CPU it takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lottery_hub.finding import find
from lottery_hub.images.datasets import load_planned
from lottery_hub.judging.deciding import basis_of
from lottery_hub.judging.intervals import difference, of_outcomes
from lottery_hub.judging.margins import spread_of_equal
from lottery_hub.judging.verdict import FIGURES, bits_of, level_name
from lottery_hub.reporting.progress import Progress
from lottery_hub.settings.config import REGIMES
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage.folder import load_ticket
from lottery_hub.training.bench import likely_jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--pretrain", default="adv")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("runs/seeds"))
    options = parser.parse_args()

    device = choose_device("cpu")
    asked = FindPlan.preset(dataset=options.dataset, train_images=1).data
    data = load_planned(asked)
    plan = FindPlan.preset(
        pretrain=options.pretrain,
        dataset=options.dataset,
        name=data.name,
        train_images=len(data.train),
        precision=fast_precision(device),
        seeds=options.seeds,
        level=options.level,
        confirm=0,
    )
    jobs = likely_jobs(options.seeds, device)
    with Progress() as told:
        find(plan, options.output, data=data, device=device, jobs=jobs, report=told.report)
    basis = basis_of(load_ticket(options.output / "ticket"))

    print(describe_environment(device))
    print(
        f"{options.seeds} seeds, level {options.level}, {len(data.test)} test images; deviations in points over seeds"
    )
    print("figure            | dense | ticket | difference, paired | unpaired | correlation | foretold / paired")
    dense, ticket = basis.dense["test"], basis.picking(level_name(options.level))["test"]
    for regime in REGIMES:
        for figure in FIGURES:
            sides = [bits_of(runs[regime], figure) for runs in (dense, ticket)]
            means = np.array([[bits.mean() for bits in side] for side in sides])
            deviations = 100 * means.std(axis=1, ddof=1)
            paired = 100 * (means[1] - means[0]).std(ddof=1)
            unpaired = float(np.hypot(*deviations))
            together = np.corrcoef(means)[0, 1] if deviations.all() else float("nan")
            foretold = 100 * (spread_of_equal(sides[0], options.seeds).by_seeds * options.seeds) ** 0.5
            print(
                f"{regime + ' ' + figure:17} | {deviations[0]:5.2f} | {deviations[1]:6.2f} | {paired:18.2f} | "
                f"{unpaired:8.2f} | {together:11.2f} | {foretold:.2f} / {paired:.2f}"
            )
            alone, seen = of_outcomes(np.stack(sides[0]).astype(np.int8)), difference(sides[1], sides[0])
            luck = 1 - seen.run / (2 * alone.run) if alone.run else float("nan")
            rest = 1 - seen.rest / (2 * alone.rest) if alone.rest else float("nan")
            print(f"{'':17} | shared of a run's luck {luck:.2f}, of the rest of an outcome {rest:.2f}")


if __name__ == "__main__":
    main()
