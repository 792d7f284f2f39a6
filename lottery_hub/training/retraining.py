"""Transfers trained again as a ticket's plan says, and compared with its records: what `verify --rerun` does.

The same seed on the same machine trains the same network. On another one rounding grows into another training run,
whose figures are as far off as another seed's; but the deviation over seeds is in the records, and whoever forges
those would set how far off is allowed. So the bound is in points, whatever the records say.
"""

from __future__ import annotations

from typing import Any

import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.findings import Finding
from lottery_hub.judging.lineage import record_of
from lottery_hub.judging.remeasuring import LEAST, allowed, judged_again
from lottery_hub.judging.verdict import FIGURES
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings import passes
from lottery_hub.settings.config import REGIMES
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.plans import FindPlan
from lottery_hub.telling import tell, working
from lottery_hub.training.transferring import transfer

# Net points that a figure of another machine's run may move and be verified; beyond the second, it is not what the
# plan gives. Between them it cannot be told from luck.
NEAR, FAR = 0.05, 0.10


def trained_again(ticket: Ticket, ladder: Ladder | None, data: Dataset, device: torch.device) -> Finding:
    """Repeat the transfers of the first seed as the plan says, and compare every image's outcome with the records.

    Args:
        ticket: with the records of a verdict.
        ladder: whose level 0 is dense; without it the ticket's transfers alone are repeated.
        data: the images.
        device: where to train.
    """
    if "transfer" in ticket.records:
        return Finding("training", "cannot tell", "what it was trained from is not here; repeat `lottery-hub finetune`")
    plan = FindPlan.parse(ticket.records["plan"])
    starts = {"ticket": ticket} | ({"dense": ladder.ticket(0)} if ladder else {})
    found: dict[str, dict[str, Outcomes]] = {}
    moved, same_machine = [], True
    about = {"data": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}}
    costs = {}
    for regime in REGIMES:
        attack = plan.transfer.attack(regime)
        costs[regime] = {"recipe": plan.transfer.recipe(regime).record(), "attack": attack and attack.record()}
    each = sum(passes.of_unit(about | cost) for cost in costs.values())
    tell("plan", what="transfer", most=len(starts) * len(REGIMES), passes=len(starts) * each)
    for which, start in starts.items():
        for regime in REGIMES:
            name = f"{which}-{regime}-seed-0"
            record = record_of(ticket, name)
            with working(name, passes.of_unit(about | costs[regime])):
                done = transfer(
                    start,
                    data,
                    plan.transfer.recipe(regime),
                    test_attack=plan.transfer.attack(regime),
                    seed=0,
                    device=device,
                    on_epoch=lambda epoch: tell("epoch", **epoch),
                ).record
            # A GPU adds in another order every time.
            alike = device.type == "cpu" and record["provenance"]["environment"] == describe_environment(device)
            same_machine = same_machine and alike
            found[name] = {}
            for split in ("test", "validation"):
                then, now = (each if split == "test" else each["validation"] for each in (record, done))
                for figure in FIGURES:
                    net, why = _compared(figure, then, now, alike)
                    if why:
                        where = f"{figure} of {which}, {regime} transfer, on {split} images"
                        return Finding("training", "not verified", f"{where}: {why}")
                    moved.append(net)
                found[name][split] = Outcomes.parse(now["outcomes"], now["samples"])
    machine = "as on the machine of the records" if same_machine else "on another machine than that of the records"
    why = f"{len(moved)} figures of seed 0 trained again, {machine}; the largest difference is {max(moved):.2%}"
    if max(moved) > NEAR:
        return Finding("training", "cannot tell", f"{why}: luck of another run moves so much, or an edit")
    if len(data.test) < LEAST:
        return Finding("training", "cannot tell", f"{why}; {len(data.test)} test images are too few to tell")
    doubt = judged_again(ticket, found)
    if doubt:
        return Finding("training", "cannot tell", f"{why}; {doubt}")
    if "dense" not in starts:
        return Finding("training", "cannot tell", f"{why}; dense was not: its ladder is not at hand (--ladder)")
    return Finding("training", "verified", why)


def _compared(figure: str, then: dict[str, Any], now: dict[str, Any], alike: bool) -> tuple[float, str]:
    """Return by how much a figure moved, in 0..1, and why that is too much, or nothing."""
    shares = f"{then[figure]:.2%} recorded, {now[figure]:.2%} now"
    net = abs(then[figure] - now[figure])
    if net > FAR:
        return net, f"{shares}; {FAR:.0%} may be luck of another run, and no more"
    before, after = (getattr(Outcomes.parse(each["outcomes"], each["samples"]), figure) for each in (then, now))
    changed = int((before != after).sum())
    if alike and changed > allowed(len(after), figure, whole=True):
        return net, f"{changed} of {len(after)} images came out otherwise on such a machine as recorded them; {shares}"
    return net, ""
