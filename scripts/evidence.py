"""docs/evidence.md out of the records of a study: frontiers, differences between kinds, methods, and what follows.

Nothing is measured here, and nothing is written by hand: every figure and every sentence about figures is computed from
the records, by the library's own judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2

from lottery_hub.judging.between import apart
from lottery_hub.judging.choosing import locate
from lottery_hub.judging.frontier import Frontier
from lottery_hub.judging.intervals import Difference
from lottery_hub.judging.margins import Margin, deciding
from lottery_hub.judging.rules import MARGIN
from lottery_hub.judging.verdict import (
    Splits,
    compare,
    differences,
    level_name,
    rule_of,
    splits_of,
)
from lottery_hub.networks.inspection import compare_all
from lottery_hub.settings.answers import UNDECIDED, answer_of
from lottery_hub.settings.config import REGIMES, pixel_units
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage import atomic
from lottery_hub.storage.folder import load_ladder, load_ticket, packaged_names

KINDS = ("std", "fast-adv", "adv")
ARCH = "resnet18-slim"  # of records that name no other
Table = list[list[object]]
ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "docs" / "evidence" / "page.md.j2"
ELSEWHERE = TEMPLATE.with_name("elsewhere.jsonl")
SHARED = (3, 6, 10)  # levels at which masks are compared


def write(file: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write a file of records, a row each."""
    lines = [json.dumps(row, sort_keys=True, separators=(",", ":")) for row in records]
    atomic.write_text(file, "".join(f"{line}\n" for line in lines))


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of records; none where there is no such file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def kept(place: Path) -> list[dict[str, Any]]:
    """Return the rows of all files of records in a folder."""
    return [row for file in sorted(place.glob("*.jsonl")) for row in rows(file)]


@dataclass(frozen=True)
class Ladder:
    """What was measured of one kind of pre-training at one share of the images, by one method.

    Attributes:
        kind, fraction, method: which.
        dense: every run of the dense network.
        levels: level → its runs, of both regimes.
        sparsities: of these levels.
        of_reached: the share that they prune of the weights that images reach; None where nobody wrote it down.
        rule: the margin that dense, the images and the seeds allow: of the levels, which may have fewer seeds or more,
            the largest.
        seeds: the fewest that dense or a level has, and the most.
    """

    kind: str
    fraction: float
    method: str
    dense: Splits
    levels: Mapping[int, Splits]
    sparsities: Mapping[int, float]
    of_reached: Mapping[int, float | None]
    rule: Margin
    seeds: tuple[int, int]

    def frontier(self, rule: Margin | None = None) -> Frontier:
        """Return where the tickets become worse than the margin, on test images."""
        return locate(self.dense, self.levels, self.sparsities, rule or self.rule, ["test"])["test"]


def ladders(records: Iterable[dict[str, Any]]) -> list[Ladder]:
    """Return what was measured, of each kind, share and method that have dense and a level under both regimes."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in records:
        groups.setdefault((row["kind"], row["fraction"]), []).append(row)
    found = []
    for (kind, fraction), group in sorted(groups.items(), key=lambda item: (-item[0][1], KINDS.index(item[0][0]))):
        dense = _splits(group, "dense", 0)
        for method in ("imp", "omp", "random"):
            sparsities = {row["level"]: row["sparsity"] for row in group if row["method"] == method}
            runs = {level: _splits(group, method, level) for level in sorted(sparsities)}
            levels = {level: some for level, some in runs.items() if all(some["test"][regime] for regime in REGIMES)}
            if not levels or not all(dense["test"][regime] for regime in REGIMES):
                continue
            counts = sorted({_count(some) for some in (dense, *levels.values())})
            seeds = (counts[0], counts[-1])
            rule = max((_rule(dense, count, group[0]["classes"]) for count in counts), key=lambda each: each.points)
            of_reached = {row["level"]: row["of_reached"] for row in group if row["method"] == method}
            found.append(Ladder(kind, fraction, method, dense, levels, sparsities, of_reached, rule, seeds))
    return found


def _rule(dense: Splits, seeds: int, classes: int) -> Margin:
    rule = rule_of(MARGIN, seeds, dense["test"], classes)
    assert isinstance(rule, Margin)
    return rule


def _splits(group: Iterable[dict[str, Any]], method: str, level: int) -> Splits:
    return splits_of(row["record"] for row in group if (row["method"], row["level"]) == (method, level))


def page(place: Path) -> str:
    """Return the page of the records in a folder, and of what other code measured of tickets, in the file beside it."""
    records, elsewhere = kept(place), rows(place.with_name(ELSEWHERE.name))
    if not records:
        return (
            "# Evidence: does robust pre-training give sparser double wins?\n\n"
            "Not known yet: the study has not been run. `python scripts/reproduce_evidence.py` runs it on CIFAR-10 "
            "from the Hub, or with `--data FOLDER` from a local copy, keeps the records of every transfer, and writes "
            "this page from them; `--dry-run` says what that takes.\n"
        )
    found = ladders(records)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    rendered = environment.get_template(TEMPLATE.name).render(
        about=_about(records) | {"records": f"{place.parent.name}/{place.name}"},
        answers=[
            (_share(fraction), [_verdict(one, other) for one, other in _pairs(found, fraction)])
            for fraction in _fractions(found)
        ],
        figures=_FIGURE_NAMES,
        frontiers=_frontiers(found),
        kinds=_between(found),
        levels=_levels(found),
        methods=_methods(found),
        radius=", ".join(sorted({pixel_units(row["eps"]) for row in elsewhere})),
        elsewhere=[_elsewhere(row, load_ticket(row["ticket"]).records) for row in elsewhere],
        pairs=list(combinations(KINDS, 2)),
        masks=_masks(_arch(records)),
    )
    return str(rendered)


def status(place: Path) -> str:
    """Return what is known of the claim by the records in a folder, in the words that the README has."""
    found, told = ladders(kept(place)), []
    for fraction in _fractions(found):
        pairs = [(pair, _verdict(*pair)) for pair in _pairs(found, fraction)]
        for says in dict.fromkeys(verdict["says"] for _, verdict in pairs):
            alike = [pair for pair, verdict in pairs if verdict["says"] == says]
            by = _seeds([count for pair in alike for ladder in pair for count in ladder.seeds])
            against = ", ".join(f"{other.kind} against {one.kind}" for one, other in alike)
            if says == "undecided" and len(alike) == len(pairs) > 1:
                against = ", ".join(dict.fromkeys(ladder.kind for pair in alike for ladder in pair))
            told.append(f"{says} with {_share(fraction)} of the training images ({against}; {by})")
    return "; ".join(told)


def _arch(records: Sequence[dict[str, Any]]) -> str:
    return str(records[0].get("arch", ARCH))


def _about(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what all records have in common, and how much there is of them."""
    first = records[0]
    environments = [row["record"]["provenance"]["environment"] for row in records]
    attacks = {
        regime: ", ".join(sorted({row["record"]["attack"] for row in records if row["record"]["regime"] == regime}))
        for regime in REGIMES
    }
    return {
        "arch": _arch(records),
        "dataset": first["dataset"],
        "samples": f"{first['record']['samples']:,}",
        "attacks": "; ".join(f"after {regime} transfer by {attack}" for regime, attack in attacks.items()),
        "transfers": len(records),
        "seeds": _seeds([len({row["record"]["seed"] for row in records})]),
        "hours": f"{sum(row['record']['provenance']['seconds'] for row in records) / 3600:.1f}",
        "versions": ", ".join(sorted({f"torch {each['torch']} on {each['device']}" for each in environments})),
    }


def _verdict(one: Ladder, other: Ladder) -> dict[str, Any]:
    """Return what is known of two kinds: whose frontier is sparser, and how sure that is."""
    seen = apart(*_at_one_margin(one, other))
    known = seen.low > 0 or seen.high < 0
    return {
        "says": "undecided" if not known else "shown" if seen.difference > 0 else "refuted",
        "kinds": (one.kind, other.kind),
        "apart": f"{_points(seen.difference)} ({_points(seen.low)} to {_points(seen.high)})",
        "by": _seeds([*one.seeds, *other.seeds]),
    }


def _at_one_margin(one: Ladder, other: Ladder) -> tuple[Frontier, Frontier]:
    points = max(one.rule.points, other.rule.points)
    first, second = (side.frontier(replace(side.rule, points=points)) for side in (one, other))
    return first, second


def _frontiers(found: Sequence[Ladder]) -> Table:
    table: Table = []
    for ladder in (each for each in found if each.method == "imp"):
        where = ladder.frontier()
        low, high = (f"{end * 100:.1f}" for end in where.interval)
        frontier = ("≥ " if where.beyond else "") + f"{where.sparsity * 100:.1f}"
        tried = ", ".join(f"{ladder.sparsities[level] * 100:.1f}" for level in ladder.levels)
        margin = f"{ladder.rule.points * 100:g}"
        table.append(
            [_share(ladder.fraction), ladder.kind, margin, _range(ladder.seeds), tried, frontier, f"{low} to {high}"]
        )
    return table


def _between(found: Sequence[Ladder]) -> Table:
    table: Table = []
    for fraction in _fractions(found):
        for one, other in _pairs(found, fraction):
            for level in (0, *sorted(one.levels.keys() & other.levels.keys())):
                first, second = (side.levels[level] if level else side.dense for side in (one, other))
                sparsity = f"{one.sparsities.get(level, 0.0) * 100:.1f}"
                table.append([_share(fraction), f"{other.kind} - {one.kind}", sparsity, *_differences(first, second)])
    return table


def _levels(found: Sequence[Ladder]) -> Table:
    table: Table = []
    for ladder in (each for each in found if each.method == "imp"):
        place = [_share(ladder.fraction), ladder.kind]
        dense = [_mean(ladder.dense, *key) for key in _FIGURES]
        table.append([*place, "0.0", "0.0", _count(ladder.dense), *dense, "dense"])
        table += [[*place, *_judged(ladder, level, runs)] for level, runs in ladder.levels.items()]
    return table


def _judged(ladder: Ladder, level: int, runs: Splits) -> list[object]:
    row = compare(ladder.dense, runs, ladder.rule)
    seen = {(regime, figure): one for regime, figure, one in differences(ladder.dense["test"], runs["test"])}
    figures = [f"{_mean(runs, *key)} ({_seen(seen[key])})" for key in _FIGURES]
    answer: str = answer_of(row)
    if answer == UNDECIDED:
        unknown = [seen[one["regime"], one["figure"]] for one in row["figures"] if one["answer"] == "undecided"]
        answer += f": {deciding(unknown, ladder.rule)}" if unknown else ""
    within = ladder.of_reached[level]
    shares = [f"{ladder.sparsities[level] * 100:.1f}", "–" if within is None else f"{within * 100:.1f}"]
    return [*shares, _count(runs), *figures, answer]


def _methods(found: Sequence[Ladder]) -> Table:
    table: Table = []
    drawn = {(each.kind, each.fraction): each for each in found if each.method == "imp"}
    for each in (one for one in found if one.method != "imp"):
        imp = drawn.get((each.kind, each.fraction))
        for level in sorted(imp.levels.keys() & each.levels.keys()) if imp else []:
            assert imp is not None
            figures = _differences(each.levels[level], imp.levels[level])
            sparsity = f"{each.sparsities[level] * 100:.1f}"
            table.append([_share(each.fraction), each.kind, f"imp - {each.method}", sparsity, *figures])
    return table


def _elsewhere(row: Mapping[str, Any], records: Mapping[str, Any]) -> list[object]:
    """Return SA and RA by AutoAttack of a ticket's network, as its card and as other code has them, side by side."""
    (ours,) = (
        each
        for each in records["transfers"]
        if (each["ticket"], each["regime"], each["seed"]) == (level_name(records["level"]), "adversarial", 0)
    )
    (strong,) = (each for each in records["scrutiny"]["checks"]["attacks"] if each["attack"].startswith("AutoAttack"))
    cells: list[object] = [f"`{row['ticket']}`"]
    for known, seen in (
        ((ours["correct"], ours["samples"]), (row["correct"], row["unseen"])),
        ((strong["robust"], strong["samples"]), (row["robust"], row["attacked"])),
    ):
        (one, images), (other, others) = known, seen
        before, after = one / images, other / others
        # Of two samples that share no image.
        chance = 1.96 * (before * (1 - before) / images + after * (1 - after) / others) ** 0.5
        cells += [f"{before * 100:.2f} ({images:,})", f"{after * 100:.2f} ({others:,})"]
        cells.append(
            f"{_points(after - before)}, {_points(after - before - chance)} to {_points(after - before + chance)}"
        )
    return cells


def _masks(arch: str) -> Table:
    """Return how much the packaged masks of two kinds share; nothing of a network whose ladders are not packaged."""
    names = {kind: packaged_name(arch, kind) for kind in KINDS}
    if not set(names.values()) <= set(packaged_names()):
        return []
    drawn = {kind: load_ladder(name) for kind, name in names.items()}
    table: Table = []
    for level in SHARED:
        shared = compare_all({kind: ladder.mask(level) for kind, ladder in drawn.items()})
        cells = [
            f"{shared.iou[one][other] * 100:.1f} ({shared.chance[one][other] * 100:.1f})"
            for one, other in combinations(range(len(KINDS)), 2)
        ]
        table.append([f"{drawn['std'].sparsities[level] * 100:.1f}", *cells])
    return table


_FIGURES = tuple((regime, figure) for regime in REGIMES for figure in ("SA", "RA"))
_FIGURE_NAMES = tuple(f"{figure} after {regime} transfer" for regime, figure in _FIGURES)


def _pairs(found: Sequence[Ladder], fraction: float) -> list[tuple[Ladder, Ladder]]:
    """Return the ladders of two kinds each, at one share of the images: std first, then the robust ones."""
    of_kind = {each.kind: each for each in found if each.fraction == fraction and each.method == "imp"}
    return [
        (of_kind[one], of_kind[other]) for one, other in combinations(KINDS, 2) if one in of_kind and other in of_kind
    ]


def _fractions(found: Sequence[Ladder]) -> list[float]:
    return sorted({each.fraction for each in found}, reverse=True)


def _alike(one: Splits, other: Splits) -> tuple[Any, Any]:
    """Return the runs on test images with the seeds that both have."""
    seeds = {
        regime: {run.seed for run in one["test"][regime]} & {run.seed for run in other["test"][regime]}
        for regime in REGIMES
    }
    sides = [
        {regime: [run for run in side["test"][regime] if run.seed in seeds[regime]] for regime in REGIMES}
        for side in (one, other)
    ]
    return sides[0], sides[1]


def _mean(runs: Splits, regime: Any, figure: str) -> str:
    return f"{fmean(getattr(run, figure) for run in runs['test'][regime]) * 100:.2f}"


def _count(runs: Splits) -> int:
    return min(len(runs["test"][regime]) for regime in REGIMES)


def _differences(one: Splits, other: Splits) -> list[object]:
    """Return how many seeds both have, and by how much each figure of `other` is above that of `one` on these."""
    alike = _alike(one, other)
    seeds = min(len(runs) for runs in alike[0].values())
    return [seeds, *(_seen(seen) for _, _, seen in differences(*alike))]


def _seen(seen: Difference) -> str:
    low, high = seen.interval()
    return f"{_points(seen.mean)}, {_points(low)} to {_points(high)}"


def _range(counts: Sequence[int]) -> str:
    fewest, most = min(counts), max(counts)
    return str(most) if fewest == most else f"{fewest} to {most}"


def _seeds(counts: Sequence[int]) -> str:
    return "one seed" if max(counts) == 1 else f"{_range(counts)} seeds"


def _points(share: float) -> str:
    return f"{share * 100:+.2f}"


def _share(fraction: float) -> str:
    return "all" if fraction == 1 else f"{fraction * 100:g} %"
