"""Figures measured again, on the trained networks that a ticket's folder holds.

    figures     the outcomes of single images, on test and on validation images, and the verdict that follows
    masking     the recorded attack again, on a loss that no scale of the logits can blind
    looks       AutoAttack, the checks of masked gradients, corruptions and other norms
    others      what has no network here, and so was not measured

Rounding moves a few images on another machine, another start of the attack some more; `allowed` says how many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset, Split, sample, sampled_rows
from lottery_hub.judging.deciding import basis_of, decide_again
from lottery_hub.judging.findings import Answer, Finding, worst
from lottery_hub.judging.lineage import record_of
from lottery_hub.judging.scrutiny import COMPARED, CURVED, SAMPLES, SEED, attacks_of_checks
from lottery_hub.judging.verdict import FIGURES, Measured, Splits, level_name
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.attacks import margin
from lottery_hub.robustness.corruptions import CORRUPTIONS
from lottery_hub.robustness.curves import measure_curve
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.robustness.masking import check_masking
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.robustness.unseen import ATTACKS, Conditions, measure_corruptions
from lottery_hub.settings import passes
from lottery_hub.settings.answers import answer_of
from lottery_hub.settings.config import (
    DLR_CLASSES,
    Attack,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.telling import tell, working

# How many images in a thousand come out otherwise on another machine (docs/trust.md): SA and RA move by rounding; on
# a sample, RA by other random starts too, since those follow from which images are attacked together.
RATES, SAMPLED = {"SA": 0.001, "RA": 0.002}, {"SA": 0.001, "RA": 0.01}
ALARM = 1e-4  # how often an honest network has more of them than are allowed, on one split
LEAST = 150  # images: of so many, an edit of 11 points is found in more than 98 of 100 samples

ATTACKED = 300  # test images of the attack on the scale-free loss
STEPS = 20
GAP = (
    0.05  # share of images that the scale-free loss alone may break, besides three standard deviations of their number
)
DEVIATIONS = 3.0

CHECKED_NETWORK = "ticket-adversarial-seed-0"
LOOKED, LOOKED_STRONGLY, KINDS = 100, 25, 5  # images of a look, those of AutoAttack, corruptions where all are too many


def allowed(samples: int, figure: str, whole: bool) -> int:
    """Return on how many images two honest measurements of `SA` or `RA` may disagree.

    It is the smallest number that binomial chance at the rate measured exceeds at most once in 1 / `ALARM`.

    Args:
        samples: how many images were measured again.
        figure: of what.
        whole: whether they are all images of the record.
    """
    rate, total = (RATES if whole else SAMPLED)[figure], 0.0
    for count in range(samples):
        ways = math.lgamma(samples + 1) - math.lgamma(count + 1) - math.lgamma(samples - count + 1)
        total += math.exp(ways + count * math.log(rate) + (samples - count) * math.log1p(-rate))
        if total >= 1 - ALARM:
            return count
    return samples


def rows_of(total: int, wanted: int | None, seed: int) -> torch.Tensor:
    """Return which images are measured, int64 [n]; all where none or more are wanted."""
    return torch.arange(total) if wanted is None or wanted >= total else sampled_rows(total, wanted, seed)


def measured_again(
    ticket: Ticket,
    networks: Mapping[str, Ticket],
    data: Dataset,
    wanted: int | None,
    seed: int,
    device: torch.device,
) -> Finding:
    """Measure every network again on test and validation images, and count those that come out otherwise.

    Args:
        ticket: with its records.
        networks: name → trained network.
        data: the images that the records are of.
        wanted: so many images of each split; None measures all, and judges the verdict again.
        seed: of their choice.
        device: where to compute.
    """
    worst_count, shown = 0, []
    tell("plan", what="measurement", most=2 * len(networks))
    found: dict[str, dict[str, Outcomes]] = {}
    for name, network in networks.items():
        record = record_of(ticket, name)
        found[name] = {}
        for split, images in (("test", data.test), ("validation", data.validation)):
            rows = rows_of(len(images), wanted, seed)
            said = record if split == "test" else record["validation"]
            with working(f"{name}, {split}", len(rows) * passes.of_image(record["provenance"]["attack"])):
                now = _measure(network, images, rows, record, device)
            then = Outcomes.parse(said["outcomes"], said["samples"])
            changed, why = _changed(then, now, rows)
            if why:
                return Finding("figures", "not verified", f"{name}, {split} images, {why}")
            worst_count = max(worst_count, changed)
            found[name][split] = now
            if name == next(iter(networks)):
                shown.append(f"{len(rows)} of {len(images)} {split} images")
    why = f"{len(networks)} networks measured again on {' and '.join(shown)}; at most {worst_count} came out otherwise"
    if wanted is not None:
        why += f", drawn with seed {seed}"
    measured = len(rows_of(len(data.test), wanted, seed))
    if measured < LEAST:
        return Finding("figures", "cannot tell", f"{why}; that is too few to tell ({LEAST} or more would)")
    if wanted is None and "transfer" not in ticket.records:
        doubt = judged_again(ticket, found)
        if doubt:
            return Finding("figures", "cannot tell", f"{why}; {doubt}")
    return Finding("figures", "verified", why)


def _measure(
    network: Ticket, images: Split, rows: torch.Tensor, record: Mapping[str, Any], device: torch.device
) -> Outcomes:
    attack = record["provenance"]["attack"]
    outcomes = evaluate(
        network.to_normalised().to(device),
        _taken(images, rows),
        attack=None if attack is None else Attack.parse(attack),
        image_size=network.records["recipe"]["image_size"],
        seed=record["seeds"]["attack"],
        device=device,
    ).outcomes
    assert outcomes is not None
    return outcomes


def _taken(split: Split, rows: torch.Tensor) -> Split:
    return Split(split.images[rows], split.labels[rows])


def _changed(then: Outcomes, now: Outcomes, rows: torch.Tensor) -> tuple[int, str]:
    """Return on how many of these images the two disagree, by the worse figure, and why that is too many or nothing."""
    places, most = rows.numpy(), 0
    for figure in FIGURES:
        before, after = getattr(then, figure), getattr(now, figure)
        if before is None or after is None:
            continue
        changed, may = int((before[places] != after).sum()), allowed(len(after), figure, len(after) == len(before))
        if changed > may:
            shares = f"{before[places].mean():.2%} recorded, {after.mean():.2%} measured"
            return changed, f"{figure}: {changed} of {len(after)} images came out otherwise, {may} may; {shares}"
        most = max(most, changed)
    return most, ""


def judged_again(ticket: Ticket, found: Mapping[str, Mapping[str, Outcomes]]) -> str:
    """Return in which way the verdict is another by the outcomes that were measured, or nothing.

    What rounding may move is more than some verdicts hang by; an edit of so few images must not pass for rounding.
    """
    basis = basis_of(ticket)
    names = {level_name(0): "dense", level_name(ticket.level): "ticket"}

    def measured(name: str) -> Splits:
        return {
            split: {
                regime: [
                    _with(run, found.get(f"{names.get(name)}-{regime}-seed-{run.seed}", {}).get(split))
                    for run in several
                ]
                for regime, several in runs.items()
            }
            for split, runs in basis.measured(name).items()
        }

    told = decide_again(replace(basis, measured=measured), ticket)
    if told["level"] != ticket.level:
        return f"by what was measured here level {told['level']} is picked, not level {ticket.level}"
    said = answer_of(ticket.records)
    if answer_of(told) != said:
        return f"by what was measured here the verdict is: {answer_of(told)}, not: {said}"
    return ""


def _with(run: Measured, seen: Outcomes | None) -> Measured:
    if seen is None or seen.RA is None:
        return run
    return replace(run, SA=float(seen.SA.mean()), RA=float(seen.RA.mean()), outcomes=seen)


def not_measured(ticket: Ticket) -> Finding | None:
    """Name the levels and controls in the records of which no network is kept, or None where there is no such."""
    if "transfer" in ticket.records:
        return None
    levels = [row["level"] for row in ticket.records["levels"] if row["level"] != ticket.level]
    shown = [f"level{'s' if len(levels) > 1 else ''} {', '.join(map(str, levels))}"] if levels else []
    shown += [f"{row['method']} control" for row in ticket.records["controls"]]
    if not shown:
        return None
    return Finding("others", "cannot tell", f"{', '.join(shown)}: no network of theirs is kept, so none was measured")


# On a loss that no scale can blind


def scale_free(attack: Attack) -> Attack | None:
    """Return the attack that an RA is held against, on the margin; None where there is none in its norm.

    It is the recorded one, so that nothing but the loss is another; but PGD that cannot cross its own ball, or takes
    more than `STEPS`, is PGD with `STEPS` steps of a quarter of the radius.
    """
    if attack.norm == "l1":
        return None
    crosses = attack.method == "pgd" and attack.steps <= STEPS and attack.steps * attack.step_size >= attack.eps
    if crosses or attack.method in ("fgsm", "n-fgsm"):
        return attack.changed(batch_norm="eval", restarts=1, random_start=True)
    return Attack(norm=attack.norm, eps=attack.eps, step_size=attack.eps / 4 or 1.0, steps=STEPS)


def attacked_without_scale(
    ticket: Ticket, networks: Mapping[str, Ticket], data: Dataset, seed: int, device: torch.device
) -> Finding:
    """Attack a sample of test images by the margin: it breaks few of those that are recorded to withstand."""
    rows = rows_of(len(data.test), ATTACKED, seed)
    widest = 0.0
    tell("plan", what="attack", most=len(networks))
    for name, network in networks.items():
        record = record_of(ticket, name)
        if record["provenance"]["attack"] is None:
            return Finding("masking", "cannot tell", "no attack is recorded")
        attack = scale_free(Attack.parse(record["provenance"]["attack"]))
        if attack is None:
            return Finding("masking", "cannot tell", "there is no scale-free attack in L1")
        with working(f"{name}, scale-free loss", len(rows) * passes.of_image(attack.record())):
            withstood = evaluate(
                network.to_normalised().to(device),
                _taken(data.test, rows),
                attack=attack,
                image_size=network.records["recipe"]["image_size"],
                seed=seed,
                device=device,
                loss=margin,
            ).outcomes
        recorded = Outcomes.parse(record["outcomes"], record["samples"]).RA
        assert withstood is not None
        assert withstood.RA is not None
        assert recorded is not None
        broken = int((recorded[rows.numpy()] & ~withstood.RA).sum())
        gap, most = broken / len(rows), GAP + DEVIATIONS * broken**0.5 / len(rows)
        if gap > most:
            shares = f"{broken} of {len(rows)} images are recorded to withstand and fall to {attack.describe()}"
            why = f"RA of {name}: {shares} on a loss that no scale can blind; {int(most * len(rows))} may"
            return Finding("masking", "not verified", why)
        widest = max(widest, gap)
    if len(rows) < LEAST:
        return Finding("masking", "cannot tell", f"{len(rows)} images are too few to tell ({LEAST} or more would)")
    why = f"of {len(rows)} test images a scale-free attack breaks at most {widest:.2%} that are recorded to withstand"
    return Finding("masking", "verified", why)


# Closer looks


def looked_again(
    ticket: Ticket,
    networks: Mapping[str, Ticket],
    data: Dataset,
    wanted: int | None,
    seed: int,
    device: torch.device,
) -> Finding | None:
    """Take the closer looks of the records again, on some of their images; None where there are none."""
    looks = ticket.records.get("scrutiny", {})
    if not looks:
        return None
    missing = sorted(set(COMPARED) - networks.keys())
    if missing:
        return Finding("looks", "cannot tell", f"{', '.join(looks)}: {missing[0]} is not there")
    images = sample(data.test, min(SAMPLES, len(data.test)), SEED)
    attack = Attack.parse(FindPlan.parse(ticket.records["plan"]).transfer.test_attack.record())
    answers: list[tuple[Answer, str]] = []
    for name, seen in looks.items():
        tell("plan")
        tell("doing", what=f"looking again: {name}")
        try:
            if name == "checks":
                lines = _checks_again(seen, networks[CHECKED_NETWORK], images, attack, seed, device)
            elif name == "unseen":
                lines = _unseen_again(seen, networks, images, seed, device)
            elif name == "curve":
                lines = _curve_again(seen, networks, data.test, attack, seed, device)
            else:
                lines = _corruptions_again(seen, networks, images, wanted, seed, device)
            wrong = next(lines, "")
        except ConfigError as problem:
            answers.append(("cannot tell", f"{name}: {problem}"))
            continue
        answers.append(("not verified", f"{name}, {wrong}") if wrong else ("verified", name))
    answer = worst({each for each, _ in answers})
    if answer != "verified":
        return Finding("looks", answer, next(why for each, why in answers if each == answer))
    if len(images) < LEAST:
        return Finding("looks", "cannot tell", f"{len(images)} images are too few to tell ({LEAST} or more would)")
    return Finding("looks", "verified", f"{', '.join(looks)}: taken again, on a sample where they are slow")


def _robust(
    network: Ticket, images: Split, attack: Attack, device: torch.device, size: int, seed: int = SEED
) -> Outcomes:
    model = network.to_normalised().to(device)
    outcomes = evaluate(model, images, attack=attack, image_size=size, seed=seed, device=device).outcomes
    assert outcomes is not None
    return outcomes


def _checks_again(
    seen: Mapping[str, Any], network: Ticket, images: Split, attack: Attack, seed: int, device: torch.device
) -> Iterator[str]:
    """Yield what is otherwise under AutoAttack and in the six checks."""
    size = network.records["recipe"]["image_size"]
    ours, strong = (Outcomes.parse(row["outcomes"], seen["samples"]) for row in seen["attacks"])
    everything, few, rows = (rows_of(len(images), count, seed) for count in (None, LOOKED_STRONGLY, LOOKED))
    _, why = _changed(ours, _robust(network, images, attack, device, size), everything)
    if why:
        yield f"{attack.describe()}, {why}"
    # What a part of AutoAttack breaks, the whole would have broken; the part is cheap.
    few_classes = len(network.weights["fc.weight"]) < DLR_CLASSES
    method = "apgd-ce" if few_classes else "apgd-dlr"
    part = Attack.parse({"method": method, "norm": attack.norm, "eps": attack.eps, "steps": 100})
    left = _robust(network, images, part, device, size).RA
    assert left is not None
    assert strong.RA is not None
    broken = int((strong.RA & ~left).sum())
    if broken > allowed(len(images), "RA", whole=False):
        yield f"AutoAttack: {broken} images are recorded to withstand it that its part {method.upper()} breaks"
    autoattack = attacks_of_checks(attack)[1]
    _, why = _changed(strong, _robust(network, _taken(images, few), autoattack, device, size), few)
    if why:
        yield f"AutoAttack, {why}"
    model = network.to_normalised().to(device)
    again = check_masking(model, _taken(images, rows), attack.eps, image_size=size, seed=SEED, device=device)
    for check, recorded in zip(again, seen["checks"], strict=True):
        for name, share in check.figures.items():
            then = recorded["figures"][name]
            error = (max(then * (1 - then), 0.01) / len(rows) * (1 - len(rows) / len(images))) ** 0.5
            if abs(share - then) > 4 * error + allowed(len(rows), "RA", whole=False) / len(rows):
                yield f"{check.name}: {name} {then:.2%} recorded, {share:.2%} measured on {len(rows)} images"


def _unseen_again(
    seen: Mapping[str, Any], networks: Mapping[str, Ticket], images: Split, seed: int, device: torch.device
) -> Iterator[str]:
    """Yield what is otherwise under attacks in other norms."""
    rows = rows_of(len(images), LOOKED, seed)
    for name in COMPARED:
        size = networks[COMPARED[0]].records["recipe"]["image_size"]
        for attack, row in zip(ATTACKS, seen["networks"][name], strict=True):
            then = Outcomes.parse(row["outcomes"], seen["samples"])
            _, why = _changed(then, _robust(networks[name], _taken(images, rows), attack, device, size), rows)
            if why:
                yield f"{attack.describe()}, {name}, {why}"


def _curve_again(
    seen: Mapping[str, Any],
    networks: Mapping[str, Ticket],
    images: Split,
    attack: Attack,
    seed: int,
    device: torch.device,
) -> Iterator[str]:
    """Yield what is otherwise along the curve, on few of its images."""
    split = sample(images, seen["samples"], SEED)
    rows = rows_of(len(split), LOOKED_STRONGLY, seed)
    models = {name: networks[name].to_normalised().to(device) for name in CURVED}
    size = networks[CURVED[0]].records["recipe"]["image_size"]
    how: Conditions = {"image_size": size, "seed": SEED, "device": device}
    again = measure_curve(models, _taken(split, rows), attack, **how)
    for name, measured in again.items():
        for now, then in zip(measured, seen["networks"][name], strict=True):
            before, after = Outcomes.parse(then["outcomes"], len(split)), Outcomes.parse(now["outcomes"], len(rows))
            assert before is not None
            assert after is not None
            _, why = _changed(before, after, rows)
            if why:
                yield f"{now['attack']}, {name}, {why}"


def _corruptions_again(
    seen: Mapping[str, Any],
    networks: Mapping[str, Ticket],
    images: Split,
    wanted: int | None,
    seed: int,
    device: torch.device,
) -> Iterator[str]:
    """Yield what is otherwise under corruptions: all of them, or some where not all images are wanted."""
    chosen = torch.randperm(len(CORRUPTIONS), generator=torch.Generator().manual_seed(seed))
    kinds = [list(CORRUPTIONS)[place] for place in chosen[: None if wanted is None else KINDS].tolist()]
    models = {name: networks[name].to_normalised().to(device) for name in COMPARED}
    size = networks[COMPARED[0]].records["recipe"]["image_size"]
    again = measure_corruptions(models, images, image_size=size, seed=SEED, device=device, kinds=kinds)
    for name, measured in again.items():
        for kind in kinds:
            then, now = seen["networks"][name]["correct"][kind], measured["correct"][kind]
            if any(abs(a - b) > allowed(len(images), "SA", whole=True) for a, b in zip(then, now, strict=True)):
                yield f"{kind} of {name}: {then} images right recorded, {now} measured"
