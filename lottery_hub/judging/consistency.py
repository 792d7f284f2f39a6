"""Do the records of a ticket hold together? Everything that can be computed again from them, is.

A verdict rests on outcomes of single images; counts, accuracies, means, deviations, intervals, tolerances, the level
that was picked and the verdict all follow from those. A figure that was changed by itself contradicts the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from lottery_hub.errors import LotteryHubError, TicketError, printable
from lottery_hub.judging.choosing import is_rejected, is_whole, unsettled
from lottery_hub.judging.deciding import Basis, basis_of, decide_again, standard_attack
from lottery_hub.judging.scrutiny import CHECKED, COMPARED, CURVED, SEED, attacks_of_checks, samples_of
from lottery_hub.judging.verdict import control_name, level_name
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.corruptions import CORRUPTIONS, SEVERITIES
from lottery_hub.robustness.curves import curve_attacks
from lottery_hub.robustness.masking import judge_masking
from lottery_hub.robustness.outcomes import Outcomes, interval
from lottery_hub.robustness.unseen import ATTACKS, mean_share
from lottery_hub.settings.config import (
    LOOKS,
    Attack,
)
from lottery_hub.settings.plans import FindPlan

ROUNDING = 1e-9
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, LotteryHubError)


def contradictions(ticket: Ticket) -> list[str]:
    """Return one line for each thing in a ticket's records that contradicts another; none where all holds together.

    Args:
        ticket: with the records of a verdict, or of one transfer.
    """
    try:
        if "transfer" in ticket.records:
            return _of_transfer(ticket.records["transfer"], ticket.records["data"], "transfer")
        return list(_of_verdict(ticket))
    except _UNREADABLE as problem:
        return [f"the records cannot be read: {printable(problem)}"]


def transfer_contradictions(transfer: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Return one line for each thing in the record of a transfer that contradicts another.

    Args:
        transfer: the record.
        data: how many images the splits have, as `Dataset.describe` says.
    """
    try:
        return _of_transfer(transfer, data, "transfer")
    except _UNREADABLE as problem:
        return [f"the record cannot be read: {printable(problem)}"]


def _of_verdict(ticket: Ticket) -> Iterable[str]:
    records = ticket.records
    plan = FindPlan.parse(records["plan"])
    attack, classes = plan.transfer.test_attack, records["data"]["classes"]
    sparsities = {level_name(0): 0.0} | {level_name(row["level"]): row["sparsity"] for row in records["levels"]}
    sparsities |= {control_name(row["method"], records["level"]): ticket.sparsity for row in records["controls"]}
    for transfer in records["transfers"]:
        name = printable(f"{transfer['ticket']}, {transfer['regime']} transfer, seed {transfer['seed']}")
        yield from _of_transfer(transfer, records["data"], name)
        about, used = transfer["provenance"], plan.transfer.attack(transfer["regime"])
        said = {
            "sparsity": transfer["sparsity"],
            "seeds": transfer["seeds"],
            "attack": [transfer["attack"], about["attack"]],
            "data": about["data"]["fingerprint"],
            "backbone": about["backbone"]["fingerprint"],
        }
        computed = {
            "sparsity": sparsities[transfer["ticket"]],
            "seeds": dict.fromkeys(("head", "order", "attack"), transfer["seed"]),
            "attack": [used.describe(classes), used.record()],
            "data": records["data"]["fingerprint"],
            "backbone": ticket.provenance.get("backbone", {}).get("fingerprint"),
        }
        yield from _compared(said, computed, name)

    basis = basis_of(ticket)
    decided = decide_again(basis, ticket)
    picked = {"level": decided["level"], "sparsity": decided["sparsity"], "fraction": records["data"]["fraction"]}
    computed = decided | {
        "fingerprint": ticket.fingerprint(),
        "sparsity": ticket.sparsity,
        "level": ticket.level,
        "attack": attack.describe(classes),
        **standard_attack(plan.transfer, classes),
        "samples": records["data"]["test"],
        "validation_samples": records["data"]["validation"],
        "fraction": plan.data.fraction,
        "scan": plan.scan,
    }
    yield from _compared({key: records.get(key) for key in computed}, computed, "")
    yield from _compared({key: records[key] for key in picked}, picked, "by its own rule")
    yield from _of_levels(basis, decided)
    yield from _of_networks(records["transfers"])
    yield from _of_looks(records["scrutiny"], records["data"], attack)


def _of_levels(basis: Basis, decided: Mapping[str, Any]) -> Iterable[str]:
    """Were the levels rejected for a reason, and has each as many seeds as the plan allows, each once?"""
    rows, plan = decided["levels"], basis.plan
    if unsettled(rows) is not None:
        yield "a level that was rejected might have been picked"
    fresh = list(range(plan.fresh, plan.fresh + (plan.confirm or 0)))
    allowed = [list(range(count)) for count in plan.looks]
    for row in [{"level": 0}, *rows]:
        name = level_name(row["level"])
        if row["level"] and not is_whole(row) and not (plan.scan == "bisect" and is_rejected(row)):
            yield f"{name}: it was rejected, though it does not fail"
        confirmed = fresh if row["level"] in (0, decided["level"]) else []
        for regime, runs in basis.measured(name)["test"].items():
            left_out = row["level"] and regime not in row
            if not left_out and [run.seed for run in runs] not in [seeds + confirmed for seeds in allowed]:
                yield f"{name}: not every seed of the {regime} transfers is recorded once"


def _of_networks(transfers: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Nobody gets one network out of two transfers of a ticket: they have other heads, or another recipe."""
    of: dict[tuple[str, str], Mapping[str, Any]] = {}
    for transfer in transfers:
        other = of.setdefault((transfer["ticket"], transfer["trained"]), transfer)
        if other is not transfer:
            first, second = (f"{each['regime']} transfer, seed {each['seed']}" for each in (other, transfer))
            yield printable(f"{transfer['ticket']}: {first} and {second} name the same trained network")


def _of_looks(looks: Mapping[str, Any], data: Mapping[str, Any], attack: Attack) -> Iterable[str]:
    """Compare each closer look with its own outcomes and counts, and with what such a look is."""
    for name, seen in looks.items():
        if name not in LOOKS:
            yield f"scrutiny: there is no look of the name {printable(name)}"
            continue
        said = {key: seen[key] for key in ("samples", "seed")}
        yield from _compared(said, {"samples": samples_of(name, data["test"]), "seed": SEED}, f"scrutiny, {name}")
        if name == "checks":
            yield from _of_checks(seen, attack, data["classes"])
            continue
        compared = CURVED if name == "curve" else COMPARED
        yield from _compared(sorted(seen["networks"]), sorted(compared), f"scrutiny, {name}, networks")
        if name == "corruptions":
            yield from _of_corruptions(seen)
        elif name == "unseen":
            yield from _of_unseen(seen)
        else:
            yield from _of_curve(seen, attack, data["classes"])


def _of_transfer(transfer: Mapping[str, Any], data: Mapping[str, Any], name: str) -> list[str]:
    """Compare the counts and accuracies of one transfer with its outcomes, on both splits."""
    found = []
    for split, measured in (("test", transfer), ("validation", transfer["validation"])):
        seen = Outcomes.parse(measured["outcomes"], data[split])
        found += _compared(
            {key: measured[key] for key in ("samples", "correct", "robust", "SA", "RA")},
            _counted(seen),
            f"{name}, {split}",
        )
        if seen.RA is not None and bool((seen.RA & ~seen.SA).any()):
            found.append(f"{name}, {split}: images withstand that were wrong to begin with")
    epochs = [epoch["epoch"] for epoch in transfer["history"]]
    if epochs != list(range(1, len(epochs) + 1)) or transfer["epoch"] not in epochs:
        found.append(f"{name}: the epochs of its history are not those of one training")
    return found


def _of_checks(checks: Mapping[str, Any], attack: Attack, classes: int) -> Iterable[str]:
    said = [checks["network"], *(row["attack"] for row in checks["attacks"])]
    yield from _compared(said, [CHECKED, *(each.describe(classes) for each in attacks_of_checks(attack))], "checks")
    seen = [Outcomes.parse(row["outcomes"], checks["samples"]) for row in checks["attacks"]]
    for row, outcomes in zip(checks["attacks"], seen, strict=True):
        yield from _of_attack(row, outcomes, "checks")
    ours, strong = (outcomes.RA for outcomes in seen)
    if ours is None or strong is None:
        raise TicketError("the closer look has no outcomes under attack")
    figures = {name: share for check in checks["checks"] for name, share in check["figures"].items()}
    computed = {
        "gap": float(ours.mean() - strong.mean()),
        "gap_interval": list(interval([ours], [strong])),
        # Exactly the six, each as its own figures decide it: of none of them, all would have passed.
        "checks": [check.record() for check in judge_masking(figures, checks["samples"], classes)],
        "passed": all(check["passed"] for check in checks["checks"]),
    }
    yield from _compared({key: checks[key] for key in computed}, computed, "checks")
    for name, share in figures.items():
        if abs(share * checks["samples"] - round(share * checks["samples"])) > ROUNDING * checks["samples"]:
            yield f"checks, {printable(name)}: {printable(share)} is no share of {checks['samples']} images"


def _of_corruptions(look: Mapping[str, Any]) -> Iterable[str]:
    samples = look["samples"]
    for name, measured in look["networks"].items():
        where = f"corruptions, {printable(name)}"
        correct = measured["correct"]
        if correct.keys() != CORRUPTIONS.keys() or any(len(counts) != len(SEVERITIES) for counts in correct.values()):
            yield f"{where}: they are not {len(CORRUPTIONS)} corruptions at {len(SEVERITIES)} severities"
        elif not all(type(count) is int and 0 <= count <= samples for counts in correct.values() for count in counts):
            yield f"{where}: a count is not one of {samples} images"
        else:
            yield from _compared(measured["mean"], mean_share(correct, samples), f"{where}, mean")


def _of_unseen(look: Mapping[str, Any]) -> Iterable[str]:
    for name, rows in look["networks"].items():
        where = f"unseen, {printable(name)}"
        yield from _compared([row["attack"] for row in rows], [attack.describe() for attack in ATTACKS], where)
        for row in rows:
            yield from _of_attack(row, Outcomes.parse(row["outcomes"], look["samples"]), where)


def _of_curve(look: Mapping[str, Any], attack: Attack, classes: int) -> Iterable[str]:
    """A curve is at the radii of its attack, and can only fall."""
    expected = curve_attacks(attack)
    for name, rows in look["networks"].items():
        where = f"curve, {printable(name)}"
        said = [[row["attack"], row["eps"]] for row in rows]
        told = [[each.describe(classes), each.eps] for several in expected for each in several]
        yield from _compared(said, told, where)
        seen = [Outcomes.parse(row["outcomes"], look["samples"]) for row in rows]
        for row, outcomes in zip(rows, seen, strict=True):
            yield from _of_attack(row, outcomes, where)
        for place, (smaller, larger) in enumerate(itertools.pairwise(seen), 1):
            if bool((smaller.SA != larger.SA).any()):
                yield f"{where}: other images are right clean in its rows {place} and {place + 1}"
            if smaller.RA is None or larger.RA is None:
                yield f"{where}: a row has no outcomes under attack"
            elif place % len(expected[0]) and bool((larger.RA & ~smaller.RA).any()):
                yield f"{where}: images withstand {printable(rows[place]['attack'])} that a smaller radius had broken"


def _of_attack(row: Mapping[str, Any], seen: Outcomes, where: str) -> list[str]:
    """Compare the counts and accuracies of one attack with its outcomes."""
    computed = _counted(seen)
    return _compared({key: row[key] for key in computed}, computed, f"{where}, {printable(row['attack'])}")


def _counted(seen: Outcomes) -> dict[str, Any]:
    samples, correct = len(seen.SA), int(seen.SA.sum())
    robust = None if seen.RA is None else int(seen.RA.sum())
    return {
        "samples": samples,
        "correct": correct,
        "robust": robust,
        "SA": correct / samples,
        "RA": None if robust is None else robust / samples,
    }


def _compared(recorded: Any, computed: Any, where: str) -> list[str]:
    """Return `path: recorded, not computed` for every leaf in which two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(computed, dict) and recorded.keys() == computed.keys():
        pairs = [(printable(key), recorded[key], computed[key]) for key in computed]
    elif isinstance(recorded, list) and isinstance(computed, list) and len(recorded) == len(computed):
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(recorded, computed, strict=True))]
    else:
        same = recorded == computed and type(recorded) is type(computed)
        numbers = isinstance(recorded, int | float) and isinstance(computed, float)
        if same or (numbers and abs(recorded - computed) <= ROUNDING):
            return []
        return [f"{where}: {printable(recorded, 80)}, not {printable(computed, 80)}"]
    return [line for key, a, b in pairs for line in _compared(a, b, f"{where}.{key}" if where else key)]
