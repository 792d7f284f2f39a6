"""All that a verdict says and that follows from transfers: computed when it is given, and again by whoever checks it.

Seeds below `FindPlan.fresh` have picked the level. Those from it on had no part in that: where there are any, the
verdict is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lottery_hub.judging.choosing import locate, pick, weigh
from lottery_hub.judging.margins import GUESSES, Margin
from lottery_hub.judging.rules import Rule
from lottery_hub.judging.verdict import (
    UNINFORMATIVE,
    Splits,
    caveats,
    compare,
    control_name,
    few,
    judge,
    level_name,
    rule_of,
    splits_of,
    summarise,
    would_decide,
)
from lottery_hub.networks.reach import reach_told
from lottery_hub.networks.tickets import Ticket
from lottery_hub.settings.answers import UNDECIDED, answer_of
from lottery_hub.settings.config import TransferPlan
from lottery_hub.settings.plans import FindPlan

Measured = Callable[[str], Splits]

NOTHING = f"nothing to judge by: {GUESSES}"


@dataclass(frozen=True)
class Basis:
    """What a verdict rests on.

    Attributes:
        plan: of the find.
        classes: of the dataset.
        samples: images of its test and validation split.
        measured: name of a level or control → its runs.
    """

    plan: FindPlan
    classes: int
    samples: Mapping[str, int]
    measured: Measured

    @property
    def dense(self) -> Splits:
        """The runs of dense that had a part in picking."""
        return self.picking(level_name(0))

    def picking(self, name: str) -> Splits:
        """Return the runs that had a part in picking a level."""
        return _of_seeds(self.measured(name), range(self.plan.fresh))

    def fresh(self, name: str) -> Splits:
        """Return the runs that had none."""
        first = self.plan.fresh
        return _of_seeds(self.measured(name), range(first, first + (self.plan.confirm or 0)))

    @property
    def rule(self) -> Rule:
        """The rule of the verdict. Its margin is chosen by the first dense runs, before any ticket is known."""
        plan = self.plan
        first = _of_seeds(self.dense, range(plan.seeds))["test"]
        # Fresh seeds are looked at once, however often those were that picked the level.
        looks = 1 if plan.confirm else len(plan.looks)
        return rule_of(plan.tolerance, plan.confirm or plan.fresh, first, self.classes, looks=looks)


def basis_of(ticket: Ticket) -> Basis:
    """Return what the verdict in a ticket's records rests on."""
    records = ticket.records
    plan, data = FindPlan.parse(records["plan"]), records["data"]
    samples = {split: data[split] for split in ("test", "validation")}

    def measured(name: str) -> Splits:
        return splits_of(transfer for transfer in records["transfers"] if transfer["ticket"] == name)

    return Basis(plan, data["classes"], samples, measured)


def decide_again(basis: Basis, ticket: Ticket) -> dict[str, Any]:
    """Return what a ticket's records say and that follows from what it rests on.

    Those of before there was a third answer say less, and have fewer caveats.
    """
    records = ticket.records
    sparsities = {row["level"]: row["sparsity"] for row in records["levels"]}
    told = decide(basis, sparsities, {row["method"]: ticket.sparsity for row in records["controls"]})
    told["caveats"] += reach_told(ticket.mask, ticket.arch, basis.plan.transfer.standard.image_size)
    if "answer" in records:
        return told
    shown = {key: value for key, value in told.items() if key in records}
    return shown | {"caveats": caveats(basis.dense["test"], basis.classes)}


def verdict_runs(records: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the verdict of such records is given on, dense and ticket: runs of fresh seeds where there are any.

    Raises:
        LookupError: the level that was picked is not recorded once.
    """
    if confirmed := records.get("confirmed"):
        return confirmed["dense"], confirmed
    rows = [row for row in records["levels"] if row["level"] == records["level"]]
    if len(rows) != 1:
        raise LookupError(f"level {records['level']} is recorded {len(rows)} times, not once")
    return records["dense"], rows[0]


def was_asked_for(records: Mapping[str, Any]) -> bool:
    """Whether the find was asked for this one level: then nothing picked it."""
    return any(records["plan"].get(name) is not None for name in ("level", "sparsity"))


def tells_nothing(records: Mapping[str, Any]) -> bool:
    """Whether dense only guesses on all figures that a verdict is given on: then there is nothing to judge by."""
    return counted(records)[0] == 0


def frontier_of(records: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the frontier on test images; older records have none, nor have those where no figure tells of one."""
    found: dict[str, Any] | None = records.get("frontier")
    # Of no figure it is recorded as 0 and beyond: all that was tried would lie inside, and nothing is known to.
    return found if found and not (found.get("beyond") and found["sparsity"] == 0) else None


def _of_seeds(splits: Splits, seeds: Sequence[int]) -> Splits:
    return {
        split: {regime: [run for run in several if run.seed in seeds] for regime, several in runs.items()}
        for split, runs in splits.items()
    }


def standard_attack(transfer: TransferPlan, classes: int) -> dict[str, str]:
    """Return how RA after standard transfer was measured, where that is another attack; else nothing."""
    attack = transfer.standard_attack
    return {} if attack is None else {"standard_attack": attack.describe(classes)}


def attack_behind(records: Mapping[str, Any]) -> str:
    """Return by what RA was measured, in words; after standard transfer that may be an attack of another radius."""
    other = records.get("standard_attack")
    return f"{records['attack']} (after standard transfer {other})" if other else str(records["attack"])


def counted(records: Mapping[str, Any]) -> tuple[int, int]:
    """Return on how many of the verdict's figures it is given, and how many there are; others tell nothing."""
    figures = verdict_runs(records)[1]["figures"]
    return sum(row.get("answer") != UNINFORMATIVE for row in figures), len(figures)


def on_figures(telling: int, of: int) -> str:
    """Return what is said after an answer that is not given on all figures; nothing where it is."""
    return "" if telling == of else f", on {telling} of {of} figures"


def row_of(basis: Basis, level: int, sparsity: float, rule: Rule) -> dict[str, Any]:
    """Return the row of a level that was tried: its figures beside those of dense, and what follows."""
    return {"level": level, "sparsity": sparsity} | compare(basis.dense, basis.picking(level_name(level)), rule)


def weigh_rows(basis: Basis, rows: Sequence[dict[str, Any]], rule: Rule) -> None:
    """Write into the rows of levels what all of them tell of each; see `choosing.weigh`."""
    weigh(rows, locate(basis.dense, *_tried(basis, rows), rule, ["validation"]))


def _tried(basis: Basis, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[int, Splits], dict[int, float]]:
    splits = {row["level"]: basis.picking(level_name(row["level"])) for row in rows}
    return splits, {row["level"]: row["sparsity"] for row in rows}


def decide(basis: Basis, sparsities: Mapping[int, float], controls: Mapping[str, float]) -> dict[str, Any]:
    """Return what a find says.

    Args:
        basis: what it rests on.
        sparsities: of the levels that were tried.
        controls: method → sparsity, of the controls that were run at the level that is picked.
    """
    rule, dense = basis.rule, basis.dense
    rows = [row_of(basis, level, sparsities[level], rule) for level in sorted(sparsities)]
    found = locate(dense, *_tried(basis, rows), rule)
    weigh(rows, found)
    chosen = pick(rows)
    name = level_name(chosen["level"])
    beside, ticket = dense["test"], basis.picking(name)["test"]
    verdict, confirmed = chosen, {}
    if basis.plan.confirm:
        beside, ticket = basis.fresh(level_name(0))["test"], basis.fresh(name)["test"]
        verdict = judge(beside, ticket, rule)
        confirmed = {"confirmed": summarise(ticket) | verdict | {"dense": summarise(beside)}}
    answer = answer_of(verdict)
    by_margin: dict[str, Any] = {}
    if isinstance(rule, Margin):
        by_margin = {
            "margin": rule.points,
            "frontier": found["test"].record() | {"validation": found["validation"].record()},
            "would_decide": would_decide(beside, ticket, rule) if answer == UNDECIDED else "",
        }
    return {
        "double_win": verdict["double_win"],
        "answer": answer,
        "sparsity": chosen["sparsity"],
        "level": chosen["level"],
        "tolerance": rule.describe(),
        **by_margin,
        "seeds": len(basis.picking(name)["test"]["standard"]),
        "dense": summarise(dense["test"]) | {"validation": summarise(dense["validation"])},
        "levels": rows,
        "controls": [
            {"method": method, "sparsity": sparsity}
            | compare(dense, basis.picking(control_name(method, chosen["level"])), rule)
            for method, sparsity in controls.items()
        ],
        **confirmed,
        "caveats": caveats(dense["test"], basis.classes) + few(basis.samples, len(ticket["standard"])),
    }
