"""Levels of a ladder, and controls of them, tried against dense: transferred on the bench and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lottery_hub.judging.choosing import is_rejected
from lottery_hub.judging.levels import spread
from lottery_hub.judging.rules import Tolerance
from lottery_hub.judging.verdict import Splits, compare, control_name, summarise
from lottery_hub.networks.masks import Mask, keep_highest, kept_and_total, magnitudes, random_scores
from lottery_hub.networks.tickets import Ladder, ticket_of
from lottery_hub.settings.config import REGIMES, Method
from lottery_hub.training.bench import Bench


@dataclass(frozen=True)
class Trial:
    """A ladder on the bench, with the figures of dense that its levels are held against."""

    bench: Bench
    ladder: Ladder
    tolerance: Tolerance
    dense: Splits

    @classmethod
    def begin(cls, bench: Bench, ladder: Ladder, tolerance: Tolerance, only: int | None = None) -> Trial:
        """Transfer dense, and beside it what will be asked first.

        Those levels are run wholly, since nothing can be rejected before dense is known.

        Args:
            bench: that runs them.
            ladder: with the levels.
            tolerance: the rule.
            only: the one level that will be asked for; None where any may be.
        """
        beside, scan = bench.together - 1, bench.plan.scan
        levels = range(1, ladder.levels + 1) if only is None else [only]
        first = levels[:beside] if scan == "all" or only is not None else spread(0, ladder.levels, beside)
        dense = bench.each([partial(bench.measure, ladder, level, REGIMES) for level in (0, *first)])[0]
        bench.report("dense", {"level": 0, "sparsity": 0.0, **summarise(dense["test"])})
        return cls(bench, ladder, tolerance, dense)

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
        row = {"level": level, "sparsity": self.ladder.sparsities[level]}
        for regimes in [REGIMES] if whole else [[regime] for regime in REGIMES]:
            row |= compare(self.dense, self.bench.measure(self.ladder, level, regimes, jobs), self.tolerance)
            if is_rejected(row) and not whole:
                break
        self.bench.report("level", row)
        return row

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
            row |= compare(self.dense, transfers, self.tolerance)
            self.bench.report("control", row)
            return row

        return self.bench.each([partial(control, method) for method in scores])
