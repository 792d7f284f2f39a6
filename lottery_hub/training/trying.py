"""Levels of a ladder, and controls of them, tried against dense: transferred on the bench and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lottery_hub.judging.choosing import is_rejected, is_whole, near, pick, wins
from lottery_hub.judging.deciding import Basis, row_of, weigh_rows
from lottery_hub.judging.levels import Rows, most_left, spread
from lottery_hub.judging.margins import Margin
from lottery_hub.judging.rules import Rule
from lottery_hub.judging.verdict import compare, control_name, hopeless, level_name, summarise
from lottery_hub.networks.masks import Mask, keep_highest, kept_and_total, magnitudes, random_scores
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.settings import passes
from lottery_hub.settings.answers import UNDECIDED
from lottery_hub.settings.config import REGIMES, Method
from lottery_hub.training.bench import Bench


@dataclass(frozen=True)
class Trial:
    """A ladder on the bench, with what its verdict rests on, and the rule that dense has told."""

    bench: Bench
    ladder: Ladder
    basis: Basis
    rule: Rule

    @classmethod
    def begin(cls, bench: Bench, ladder: Ladder, only: int | None = None) -> Trial:
        """Transfer dense, which tells the rule, and beside it what will be asked first.

        Those levels are run wholly, since nothing can be rejected before dense is known.

        Args:
            bench: that runs them.
            ladder: with the levels.
            only: the one level that will be asked for; None where any may be.
        """
        foretell(bench, 1 + (1 if only is not None else most_levels(bench, ladder.levels)))
        beside, scan = bench.together - 1, bench.plan.scan
        levels = range(1, ladder.levels + 1) if only is None else [only]
        first = levels[:beside] if scan == "all" or only is not None else spread(0, ladder.levels, beside)
        dense = bench.each([partial(bench.measure, ladder, level, REGIMES) for level in (0, *first)])[0]
        bench.report("dense", {"level": 0, "sparsity": 0.0, **summarise(dense["test"])})
        samples = {"test": len(bench.data.test), "validation": len(bench.data.validation)}
        basis = Basis(bench.plan, len(bench.data.classes), samples, bench.measured)
        return cls(bench, ladder, basis, basis.rule)

    def levels(self, levels: Sequence[int], whole: bool) -> list[dict[str, Any]]:
        """Return a row for each level: its figures beside those of dense, and whether it wins.

        Args:
            levels: which.
            whole: run both regimes, also where the standard one alone rejects a level.
        """
        bench = self.bench
        # With room for both regimes of a level at once, its rejection saves no time.
        jobs = bench.jobs * bench.together // min(len(levels), bench.together)
        whole = whole or jobs >= len(REGIMES) * bench.plan.seeds
        return bench.each([partial(self._level, level, whole, jobs) for level in levels])

    def _level(self, level: int, whole: bool, jobs: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for regimes in [REGIMES] if whole else [[regime] for regime in REGIMES]:
            self.bench.measure(self.ladder, level, regimes, jobs)
            row = row_of(self.basis, level, self.ladder.sparsities[level], self.rule)
            self.weigh([row])
            if is_rejected(row) and not whole:
                break
        self.bench.report("level", row)
        return row

    def foretell(self, levels: int, rejected: int = 0, *, seeds: bool = True) -> None:
        """Tell how much there is to do; arguments as of `foretell`, which counts dense too."""
        foretell(self.bench, 1 + levels, rejected, seeds=seeds)

    def weigh(self, rows: Rows) -> None:
        """Write into the rows of levels what all of them tell of each."""
        weigh_rows(self.basis, rows, self.rule)

    def add_seeds(self, rows: Rows) -> None:
        """Add seeds to dense and to the levels that are undecided, until they are decided, or hopeless."""
        for count in self.bench.plan.looks[1:]:
            waiting = self._undecided(rows)
            if not waiting:
                break
            for level in (0, *waiting):
                self.bench.measure(self.ladder, level, REGIMES, self.bench.jobs * self.bench.together, range(count))
            rows[:] = [row_of(self.basis, row["level"], row["sparsity"], self.rule) for row in rows]
            self.weigh(rows)
            for row in rows:
                self.bench.report("level", row)
        self.foretell(0, seeds=False)

    def _undecided(self, rows: Rows) -> list[int]:
        """Return the level that would be reported, where its verdict is open, and sparser ones that may come inside."""
        if not isinstance(self.rule, Margin):
            return []
        chosen = pick(rows)
        dense = self.basis.dense["test"]
        ticket = self.basis.picking(level_name(chosen["level"]))["test"]
        if chosen["answer"] != UNDECIDED or hopeless(dense, ticket, self.rule, self.bench.plan.looks[-1]):
            return []
        beyond = [row for row in rows if row["level"] > chosen["level"] and is_whole(row)]
        return [chosen["level"], *(row["level"] for row in beyond if near(row) and not wins(row))]

    def confirm(self, level: int) -> None:
        """Transfer dense and a level with seeds that had no part in picking it."""
        plan = self.bench.plan
        seeds = range(plan.fresh, plan.fresh + (plan.confirm or 0))
        for each in (0, level) if seeds else ():
            self.bench.measure(self.ladder, each, REGIMES, self.bench.jobs * self.bench.together, seeds)

    def controls(self, level: int) -> list[dict[str, Any]]:
        """Transfer one-shot-magnitude and random masks with as many kept weights as this level."""
        backbone, names = self.ladder.backbone, self.ladder.backbone.prunable
        # Counted on the ladder itself: a given one may have been drawn with another prune fraction than the plan's.
        kept, _ = kept_and_total(self.ladder.mask(level))
        scores: dict[Method, Mask] = {
            "omp": magnitudes(backbone.weights, names),
            "random": random_scores(backbone.weights, names, self.bench.plan.draw.seed),
        }

        def control(method: Method) -> dict[str, Any]:
            mask = keep_highest(scores[method], backbone.dense_mask(), kept)
            ticket = ticket_of(backbone, mask, level, method, {})
            row = {"method": method, "sparsity": ticket.sparsity}
            transfers = self.bench.measure_ticket(ticket, control_name(method, level), REGIMES)
            row |= compare(self.basis.dense, transfers, self.rule)
            self.bench.report("control", row)
            return row

        return self.bench.each([partial(control, method) for method in scores])


def most_levels(bench: Bench, levels: int) -> int:
    """Return how many levels of a ladder are tried, at most."""
    return (
        levels if bench.plan.scan == "all" else most_left({}, levels, max(1, bench.together - 1), bench.plan.seeds > 1)
    )


def foretell(bench: Bench, tickets: int, rejected: int = 0, *, seeds: bool = True) -> None:
    """Tell how many transfers there are in all, at most, and what they cost.

    Args:
        bench: that runs them; it knows what is done.
        tickets: dense and levels in all, at most; those that are done count in any case.
        rejected: levels that were tried in one regime only, and may be asked for the other.
        seeds: whether any may be added to.
    """
    plan, data = bench.plan, bench.data
    counts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    costs = {}
    for regime in REGIMES:
        attack = plan.transfer.attack(regime)
        about = {"recipe": plan.transfer.recipe(regime).record(), "attack": attack and attack.record(), "data": counts}
        costs[regime] = passes.of_unit(about)
    tried = len({record["ticket"] for record in bench.transfers()})
    left = max(tickets - tried, 0)
    more = plan.looks[-1] - plan.seeds if seeds else 0
    pairs = left * plan.seeds + (tried + left) * more + 2 * (plan.confirm or 0)
    pairs += 2 * plan.seeds if plan.controls else 0
    done = [passes.of_unit(unit.about) for unit, _ in bench.done.values()]
    told = {
        "what": "transfer",
        "most": len(done) + pairs * len(REGIMES) + rejected * plan.seeds,
        "at_most": bool(more) or bool(rejected) or (left > 0 and plan.scan == "bisect" and plan.level is None),
        "together": bench.engine.jobs,
        "passes": sum(done) + pairs * sum(costs.values()) + rejected * plan.seeds * costs[REGIMES[-1]],
    }
    bench.report("plan", told)
