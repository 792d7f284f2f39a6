"""What the rules of the verdict are worth: simulated finds, judged by the library itself.

    python scripts/simulate_verdict.py [--finds 1000] [--seed 0] [looks coverage rules picks]

A simulated image is right if a number stays below a threshold, a lower one under attack. The number is made of how
hard the image is for every network, how hard for every pruned one, and of what else the run makes of it; a run's luck
moves the thresholds of both. Dense and ticket of one seed share a part of both. So the truth is known: by how many
points a ticket is worse.

    coverage   of the 95 % intervals of a difference: the paired one, and that over images alone
    rules      how often a ticket that is 0 to 3 points worse in all four figures is called what
    picks      which level of a ladder that grows worse a find picks, and what is said of it
    looks      the margin's rule where seeds are added until it is decided
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from lottery_hub.judging.choosing import locate, weigh
from lottery_hub.judging.levels import judge_levels
from lottery_hub.judging.margins import Margin
from lottery_hub.judging.verdict import Measured, Splits, compare, differences, hopeless, judge, rule_of
from lottery_hub.robustness.outcomes import Outcomes, interval
from lottery_hub.settings.answers import answer_of
from lottery_hub.settings.config import REGIMES, Regime
from lottery_hub.settings.plans import FindPlan

CLASSES = 10
ACCURACIES: dict[Regime, tuple[float, float]] = {"standard": (0.90, 0.30), "adversarial": (0.80, 0.50)}
LOOKS = FindPlan.preset(train_images=1000)  # of which nothing but the number of seeds matters here
LADDER = tuple(1 - 0.8**level for level in range(15))  # sparsities; level 0 is dense


@dataclass(frozen=True)
class World:
    """How chance works.

    Attributes:
        images: of the test split; the validation split has half as many.
        luck: standard deviation of a run's accuracy, as a share of 1.
        paired: correlation of the luck of dense and ticket of one seed.
        shared: the same of what a run makes of single images.
        own: 1 less the correlation of how hard images are for dense and for pruned networks.
        common: share of an outcome that is the image's, and not the run's.
    """

    images: int
    luck: float = 0.005
    paired: float = 0.9
    shared: float = 0.6
    own: float = 0.01
    common: float = 0.95


@dataclass
class Find:
    """The images of one find in a world, and the runs that are made of them."""

    world: World
    generator: np.random.Generator
    splits: tuple[str, ...] = ("test",)
    hard: dict[tuple[str, bool], Any] = field(default_factory=dict)  # by split, and whether for pruned networks
    chance: dict[Any, Any] = field(default_factory=dict)  # of dense, by regime and seed: luck and, by split, the rest

    def runs(self, seeds: Sequence[int], worse: float | None = None) -> Splits:
        """Return runs of dense, or of a ticket that is so much worse in all figures, as a share of 1."""
        return {
            split: {regime: [self._run(split, regime, seed, worse) for seed in seeds] for regime in REGIMES}
            for split in self.splits
        }

    def _run(self, split: str, regime: Regime, seed: int, worse: float | None) -> Measured:
        world, pruned = self.world, worse is not None
        image, rest = self._hard(split), self._chance(split, regime, seed)
        luck = self._chance("luck", regime, seed)
        if pruned:
            image = _mixed(image, self._hard(split, pruned=True), 1 - world.own)
            rest = _mixed(rest, self._normal(len(rest)), world.shared)
            own = self.chance.setdefault(("luck", regime, seed, worse), self._normal(1))
            luck = _mixed(luck, own, world.paired)
        clean, attacked = (
            np.float32(ndtri(min(max(accuracy - (worse or 0.0) + world.luck * float(luck[0]), 0.0), 1.0)))
            for accuracy in ACCURACIES[regime]
        )
        number = _mixed(image, rest, world.common**0.5)
        bits = Outcomes(number < clean, number < attacked)
        assert bits.RA is not None
        return Measured(seed, float(bits.SA.mean()), float(bits.RA.mean()), bits)

    def _hard(self, split: str, pruned: bool = False) -> Any:
        if (split, pruned) not in self.hard:
            self.hard[split, pruned] = self._normal(self.world.images // (1 if split == "test" else 2))
        return self.hard[split, pruned]

    def _chance(self, what: str, regime: Regime, seed: int) -> Any:
        key = (what, regime, seed)
        if key not in self.chance:
            self.chance[key] = self._normal(1 if what == "luck" else len(self._hard(what)))
        return self.chance[key]

    def _normal(self, count: int) -> Any:
        return self.generator.standard_normal(count, dtype=np.float32)


def _mixed(one: Any, other: Any, correlation: float) -> Any:
    """Return standard normal numbers that have this correlation with `one`."""
    return np.float32(correlation) * one + np.float32((1 - correlation**2) ** 0.5) * other


def finds(world: World, count: int, seed: int, splits: tuple[str, ...] = ("test",)) -> Iterator[Find]:
    """Yield so many finds, each with chance of its own."""
    for generator in np.random.default_rng(seed).spawn(count):
        yield Find(world, generator, splits)


# Tables


def coverage(world: World, seeds: int, count: int, seed: int, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return of intervals in what share of the figures of equal tickets they cover the truth, and their mean width.

    Of `paired` and `images`, the latter over images alone.
    """
    covered, widths = Counter[str](), Counter[str]()
    for find in finds(world, count, seed):
        dense, ticket = find.runs(range(seeds))["test"], find.runs(range(seeds), 0.0)["test"]
        for regime, figure, seen in differences(dense, ticket):
            for name in names:
                sides = ([run.bits(figure) for run in side[regime]] for side in (ticket, dense))
                low, high = seen.interval() if name == "paired" else interval(*sides)  # type: ignore[arg-type]
                covered[name] += low <= 0 <= high
                widths[name] += high - low
    total = count * len(REGIMES) * 2
    return {name: (covered[name] / total, widths[name] / total) for name in names}


def answers(world: World, seeds: int, rule: str, worse: float, count: int, seed: int) -> Mapping[str, float]:
    """Return how often a ticket that is so much worse is called what, and which margins were chosen."""
    told: Counter[str] = Counter()
    for find in finds(world, count, seed):
        dense, ticket = find.runs(range(seeds))["test"], find.runs(range(seeds), worse)["test"]
        chosen = rule_of(rule, seeds, dense, CLASSES)
        verdict = judge(dense, ticket, chosen)
        told[answer_of(verdict)] += 1
        told[f"margin {100 * (chosen.points or 0):g}"] += 1
    return {name: times / count for name, times in told.items()}


def looked_again(
    world: World, first: int, most: int, points: float, worse: float, count: int, seed: int
) -> dict[str, float]:
    """Return what comes of adding seeds until a verdict is decided or hopeless.

    How often each answer is given and with how many seeds, and in what share of single figures the interval lay above
    minus the margin at some look.
    """
    plan = LOOKS.changed(seeds=first, max_seeds=most)
    told: Counter[str] = Counter()
    for find in finds(world, count, seed):
        dense, ticket = (find.runs(range(most), each)["test"] for each in (None, worse))
        rule = rule_of(f"margin:{100 * points:g}", most, dense, CLASSES, looks=len(plan.looks))
        assert isinstance(rule, Margin)
        above: set[tuple[str, str]] = set()
        ended = False
        for seeds in plan.looks:
            so_far = {regime: several[:seeds] for regime, several in ticket.items()}
            verdict = judge(dense, so_far, rule)
            above |= {(row["regime"], row["figure"]) for row in verdict["figures"] if row["answer"] == "matching"}
            if not ended and (verdict["answer"] != "undecided" or seeds == most or hopeless(dense, so_far, rule, most)):
                told[verdict["answer"]] += 1
                told["seeds"] += seeds
                ended = True
        told["above"] += len(above)
    return {name: times / count / (4 if name == "above" else 1) for name, times in told.items()}


def falling_off(last: int, margin: float, steepness: float) -> list[float]:
    """Return by how much each level is worse: the margin is crossed between `last` and the next level."""
    return [margin * steepness ** (level - last - 0.5) for level in range(len(LADDER))]


def pick_one(find: Find, seeds: int, rule: str, truth: Sequence[float], scan: str) -> dict[str, Any]:
    """Return the level that one find picks, what is said of it, and its frontier.

    Args:
        find: with both splits.
        seeds: of every transfer.
        rule: as plans write it.
        truth: by how much each level is worse; 0 for dense.
        scan: `bisect` or `all`.
    """
    dense = find.runs(range(seeds))
    chosen = rule_of(rule, seeds, dense["test"], CLASSES)
    sparsities = dict(enumerate(LADDER))
    tried: dict[int, Splits] = {}

    def try_levels(levels: Sequence[int], whole: bool) -> list[dict[str, Any]]:
        tried.update({level: find.runs(range(seeds), truth[level]) for level in levels})
        return [{"level": level} | compare(dense, tried[level], chosen) for level in levels]

    def weighed(rows: list[dict[str, Any]]) -> None:
        weigh(rows, locate(dense, tried, sparsities, chosen, ["validation"]))

    rows, row = judge_levels(len(LADDER) - 1, scan, try_levels, weigh=weighed)
    return {
        "level": row["level"],
        "answer": answer_of(row),
        "optimism": float(np.mean([each["difference"] for each in row["figures"]])) + truth[row["level"]],
        "tried": len(rows),
        "frontier": locate(dense, tried, sparsities, chosen, ["test"]).get("test"),
    }


def picks(
    world: World, seeds: int, rule: str, truth: Sequence[float], scan: str, count: int, seed: int
) -> list[dict[str, Any]]:
    """Return what each of so many finds picks; see `pick_one`."""
    return [pick_one(find, seeds, rule, truth, scan) for find in finds(world, count, seed, ("test", "validation"))]


def crossing(truth: Sequence[float], margin: float) -> float:
    """Return the true frontier, a sparsity, as the library would interpolate it."""
    last = max(level for level, worse in enumerate(truth) if worse <= margin)
    step = (margin - truth[last]) / (truth[last + 1] - truth[last])
    return float(1 - 0.8 ** (last + step))


def print_coverage(count: int, seed: int) -> None:
    print("\nCoverage of 95 % intervals (%), and in brackets their mean half-width in points")
    print("images seeds luck paired | paired interval | over images alone")
    for images in (359, 1000, 10_000):
        for seeds in (2, 3, 5):
            for luck in (0.0, 0.2, 0.5):
                for paired in (0.0, 0.9) if luck else (0.0,):
                    found = coverage(World(images, luck / 100, paired), seeds, count, seed, ["paired", "images"])
                    shown = [f"{100 * share:.1f} ({50 * width:.2f})" for share, width in found.values()]
                    print(f"{images:6d} {seeds:5d} {luck:4.1f} {paired:6.1f} | {' | '.join(shown)}", flush=True)


def print_rules(count: int, seed: int) -> None:
    print("\nCalled a double win, undecided (%), by how many points the ticket is worse in every figure")
    print("images seeds rule | 0 | 1 | 2 | 3 | margins chosen (%)")
    for images, seeds in ((359, 1), (359, 3), (1000, 3), (10_000, 1), (10_000, 3), (10_000, 5)):
        for rule in ("margin", "margin:1", "std" if seeds > 1 else "points:1", "noninferiority:1"):
            shown, margins = [], {}
            for worse in (0.0, 0.01, 0.02, 0.03):
                found = answers(World(images), seeds, rule, worse, count, seed)
                shown.append(f"{100 * found.get('double win', 0):.0f}, {100 * found.get('undecided', 0):.0f}")
                margins = {name: share for name, share in found.items() if name.startswith("margin")}
            told = ", ".join(f"{name[7:]}: {100 * share:.0f}" for name, share in sorted(margins.items()))
            print(f"{images:6d} {seeds:5d} {rule} | {' | '.join(shown)} | {told * (rule == 'margin')}", flush=True)
    print("\nAt one point below the margin that was chosen, and equal to dense: called a double win (%)")
    for images, seeds in ((1000, 3), (10_000, 3), (10_000, 5)):
        for points in (1, 2, 3, 5):
            found = [
                answers(World(images), seeds, f"margin:{points}", worse, count, seed).get("double win", 0)
                for worse in (points / 100 + 0.01, 0.0)
            ]
            print(f"{images:6d} {seeds:5d} margin {points}: {100 * found[0]:.1f}, {100 * found[1]:.0f}", flush=True)


def print_picks(count: int, seed: int) -> None:
    print(
        "\nPicked of 14 levels, the last within the margin being 10: 5, 50 and 95 % of finds; called a double win (%);"
    )
    print("levels tried; test figures too high by, in points; how often the frontier's interval covers the truth (%)")
    for steepness in (1.5, 2.0, 3.0):
        for rule in ("margin:2", "std"):
            truth = falling_off(10, 0.02, steepness)
            found = picks(World(10_000), 3, rule, truth, "bisect", count, seed)
            levels = np.quantile([each["level"] for each in found], [0.05, 0.5, 0.95])
            told = Counter(each["answer"] for each in found)
            line = f"each level {steepness:g} times as bad, {rule}: {' '.join(f'{level:.0f}' for level in levels)}; "
            line += f"{100 * told['double win'] / count:.0f} ({100 * told['undecided'] / count:.0f} undecided); "
            line += f"{np.mean([each['tried'] for each in found]):.1f}; "
            line += f"{100 * np.mean([each['optimism'] for each in found]):.2f}"
            if rule != "std":
                true = crossing(truth, 0.02)
                covered = [each["frontier"].interval[0] <= true <= each["frontier"].interval[1] for each in found]
                line += f"; {100 * np.mean(covered):.0f}"
            print(line, flush=True)


def print_looks(count: int, seed: int) -> None:
    print(
        "\nSeeds added from 3 up to 8, margin of 1 point, 10,000 images: double win, undecided (%), seeds on average;"
    )
    print("single figures whose interval lay above minus the margin at some look (%): 2.5 are allowed at the margin")
    for paired in (0.9, 0.0):
        for worse in (0.0, 0.005, 0.01, 0.015, 0.02):
            found = looked_again(World(10_000, 0.005, paired), 3, 8, 0.01, worse, count, seed)
            line = f"paired {paired:.1f}, {100 * worse:.1f} points worse: {100 * found.get('double win', 0):.0f}, "
            line += f"{100 * found.get('undecided', 0):.0f}; {found['seeds']:.1f}; {100 * found['above']:.1f}"
            print(line, flush=True)


TABLES = {
    "looks": (print_looks, 1.0),
    "coverage": (print_coverage, 1.0),
    "rules": (print_rules, 1.0),
    "picks": (print_picks, 0.2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; all unless given")
    parser.add_argument(
        "--finds", type=int, default=500, help="of each row; a fifth of them of picks, which take longer"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not set(options.tables) <= TABLES.keys():
        parser.error(f"there is no such table; choose from {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        began = time.monotonic()
        table, share = TABLES[name]
        count = max(1, round(options.finds * share))
        table(count, options.seed)
        print(f"({count} finds a row, seed {options.seed}, {time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
