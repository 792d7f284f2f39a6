"""Verify against forgeries that hold together, and against honest tickets on other machines; prints JSON.

    python tests/faults/forgeries.py --cache FOLDER                       # every forgery
    python tests/faults/forgeries.py --cache FOLDER --honest 200          # and honest re-verifications
    python tests/faults/forgeries.py --cache FOLDER --honest 200 --python OTHER/bin/python

`--python` names another interpreter, with another build of torch, for the honest ones. FOLDER keeps the honest find,
which takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from forging import Forgery, counted
from remembering import remembering

from lottery_hub import verifying
from lottery_hub.errors import TicketError
from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset, Split, load_planned, sampled_rows
from lottery_hub.judging import remeasuring
from lottery_hub.judging.scrutiny import CHECKED, SAMPLES, SEED, attacks_of_checks
from lottery_hub.networks.backbones import fresh_weights
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.robustness.masking import BASE, FIXED, MORE, RADII, SQUARE, judge_masking, scale_free, upscaled
from lottery_hub.robustness.outcomes import interval
from lottery_hub.settings.config import (
    DataPlan,
    DrawPlan,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.presets import pgd, quick_transfer
from lottery_hub.sharing.pulling import Pulled
from lottery_hub.verifying import verdict_of, verify

IMAGES = 180  # test images of the honest find
ADVERSARIAL, STANDARD = "ticket-adversarial-seed-0", "ticket-standard-seed-0"
DENSE = "dense-adversarial-seed-0"
WITHOUT = ("", "folding", "channels-last,small-maps,stem")


def images() -> Dataset:
    data = load_planned(DataPlan(dataset="digits"))
    return replace(data, test=Split(data.test.images[:IMAGES], data.test.labels[:IMAGES]))


def honest(cache: Path, looks: Any = ("unseen", "corruptions")) -> Path:
    """Return the run directory of a find on digits: packaged robust backbone, one level, two seeds, short recipes."""
    quick = quick_transfer("digits", 1295, "float32")
    plan = FindPlan(
        pretrain="adv",
        arch="resnet18-slim",
        data=DataPlan(dataset="digits"),
        draw=DrawPlan(method="omp", rounds=1),
        ladder="draw",
        transfer=quick.changed(
            standard=quick.standard.changed(epochs=2),
            adversarial=quick.adversarial.changed(epochs=4),
            test_attack=pgd(5, 0.1),
        ),
        seeds=2,
        scan="all",
    )
    find(plan, cache / "run", data=images(), looks=looks, store=cache / "store")
    return cache / "run"


# Forgeries


def edited(name: str, figure: str, up: int, down: int = 0, split: str = "test") -> Callable[[Forgery], None]:
    return lambda forgery: forgery.edit(name, figure, up, down, split)


def all_runs(which: str, figure: str, up: int, down: int = 0) -> Callable[[Forgery], None]:
    def change(forgery: Forgery) -> None:
        for name in forgery.networks:
            if name.startswith(which):
                forgery.edit(name, figure, up, down)

    return change


def made_a_win(forgery: Forgery) -> None:
    """A rule by which nothing wins, and the fewest outcomes turned until something does."""
    forgery.records["plan"]["tolerance"] = "noninferiority:0"
    for name in forgery.networks:
        if name.startswith("ticket"):
            dense = forgery.bits(name.replace("ticket", "dense"))
            both = [bits | (np.arange(len(bits)) % 30 == 0) for bits in (dense.SA, dense.RA)]
            forgery.put(name, both[0] | both[1], both[1])


def scaled(factor: float, names: tuple[str, ...] = (ADVERSARIAL, "ticket-adversarial-seed-1")) -> Any:
    """Logits times a factor, measured honestly by the recorded attack."""

    def change(forgery: Forgery) -> None:
        for name in names:
            forgery.change(name, lambda key, tensor: tensor * factor if key.startswith("fc.") else tensor)
            measured(forgery, name)

    return change


def measured(forgery: Forgery, name: str) -> None:
    """Record what the network as it is now scores."""
    network = forgery.networks[name]
    for split, part in (("test", forgery.data.test), ("validation", forgery.data.validation)):
        record = forgery.record(name)
        seen = remeasuring._measure(network, part, torch.arange(len(part)), record, torch.device("cpu"))
        forgery.put(name, seen.SA, seen.RA, split)


def swapped(one: str, other: str, with_outcomes: bool = False) -> Callable[[Forgery], None]:
    def change(forgery: Forgery) -> None:
        networks = forgery.networks
        networks[one], networks[other] = networks[other], networks[one]
        if with_outcomes:
            for split in ("test", "validation"):
                a, b = forgery.bits(one, split), forgery.bits(other, split)
                forgery.put(one, b.SA, b.RA, split)
                forgery.put(other, a.SA, a.RA, split)

    return change


def copied(source: str, target: str, nudge: float = 0.0) -> Callable[[Forgery], None]:
    """One network in the place of two, with its figures; a nudge gives it a fingerprint of its own."""

    def change(forgery: Forgery) -> None:
        forgery.networks[target] = replace(forgery.networks[source], mask=forgery.networks[target].mask)
        forgery.change(target, lambda key, tensor: tensor * (1 + nudge) if key == "fc.weight" else tensor)
        measured(forgery, target)

    return change


def copied_figures(source: str, target: str) -> Callable[[Forgery], None]:
    def change(forgery: Forgery) -> None:
        for split in ("test", "validation"):
            seen = forgery.bits(source, split)
            forgery.put(target, seen.SA, seen.RA, split)

    return change


def dense_is(how: str) -> Callable[[Forgery], None]:
    """A dense network that is not the backbone transferred, measured honestly."""

    def change(forgery: Forgery) -> None:
        for seed, name in enumerate(each for each in list(forgery.networks) if each.startswith("dense")):
            network = forgery.networks[name]
            random = fresh_weights(network.arch, len(network.weights["fc.bias"]), seed=seed)
            if how == "random":
                weights, mask = random, network.mask
            elif how == "random and 99 % pruned":
                generator = torch.Generator().manual_seed(0)
                mask = {key: torch.rand(kept.shape, generator=generator) < 0.01 for key, kept in network.mask.items()}
                weights = random | {key: torch.where(kept, random[key], 0.0) for key, kept in mask.items()}
            elif how == "pruned":
                mask = forgery.ticket.mask
                weights = network.weights | {
                    key: torch.where(kept, network.weights[key], 0.0) for key, kept in mask.items()
                }
            elif how == "pruned behind a full mask":
                mask = network.mask
                lost = {key: torch.where(kept, network.weights[key], 0.0) for key, kept in forgery.ticket.mask.items()}
                weights = network.weights | lost
            else:  # the ticket's network
                weights, mask = forgery.networks[name.replace("dense", "ticket")].weights, network.mask
            forgery.networks[name] = replace(network, weights=weights, mask=mask)
            measured(forgery, name)

    return change


def one_random_layer(forgery: Forgery) -> None:
    key = "layer4.1.conv2.weight"
    fresh = fresh_weights(forgery.ticket.arch, 10, seed=3)[key]
    forgery.change(ADVERSARIAL, lambda name, tensor: fresh if name == key else tensor)
    measured(forgery, ADVERSARIAL)


def other_seed(forgery: Forgery) -> None:
    """The network of another seed under this one's name: the best of several runs shown as the first."""
    names = [f"ticket-adversarial-seed-{seed}" for seed in (0, 1)]
    forgery.networks[names[0]] = forgery.networks[names[1]]
    forgery.networks[names[1]] = replace(
        forgery.networks[names[1]],
        weights=forgery.networks[names[1]].weights | {"fc.bias": forgery.networks[names[1]].weights["fc.bias"] + 1e-6},
    )
    for name in names:
        measured(forgery, name)


def brighter(forgery: Forgery) -> None:
    network = forgery.networks[ADVERSARIAL]
    forgery.networks[ADVERSARIAL] = replace(network, mean=(0.5, 0.5, 0.5))
    measured(forgery, ADVERSARIAL)


def looked(change: Callable[[dict[str, Any]], None], look: str) -> Callable[[Forgery], None]:
    return lambda forgery: change(forgery.records["scrutiny"][look])


def corruptions_raised(points: float) -> Callable[[dict[str, Any]], None]:
    def change(look: dict[str, Any]) -> None:
        for name, seen in look["networks"].items():
            if name.startswith("ticket"):
                for kind, counts in seen["correct"].items():
                    more = round(points * look["samples"])
                    seen["correct"][kind] = [min(count + more, look["samples"]) for count in counts]
                every = [count for counts in seen["correct"].values() for count in counts]
                seen["mean"] = sum(every) / (len(every) * look["samples"])

    return change


def unseen_raised(look: dict[str, Any]) -> None:
    everything = np.ones(look["samples"], bool)
    for row in look["networks"][ADVERSARIAL]:
        row.update(counted(everything, everything))


def checks_said(passed: bool = True, dropped: int = 0, share: float = 1.0) -> Callable[[Forgery], None]:
    """AutoAttack and checks of which nothing was measured."""

    def change(forgery: Forgery) -> None:
        attack = FindPlan.parse(forgery.records["plan"]).transfer.test_attack
        seen = forgery.bits(ADVERSARIAL)
        count = len(forgery.data.test)
        rows = sampled_rows(count, min(SAMPLES, count), SEED).numpy()
        ours = (seen.SA[rows], seen.RA[rows])
        strong = ours[1] & (np.arange(len(rows)) % 100 < 100 * share)
        classes = len(forgery.data.classes)
        free = scale_free(classes)
        figures = dict.fromkeys((BASE, MORE, FIXED, free, upscaled(free), SQUARE), float(ours[1].mean()))
        figures |= dict.fromkeys(RADII, 0.0)
        checks = [check.record() for check in judge_masking(figures, len(rows), classes)][: 6 - dropped]
        forgery.records["scrutiny"]["checks"] = {
            "samples": len(rows),
            "seed": SEED,
            "network": CHECKED,
            "attacks": [
                {"attack": each.describe(classes), "samples": len(rows), **counted(ours[0], robust)}
                for each, robust in zip(attacks_of_checks(attack), (ours[1], strong), strict=True)
            ],
            "gap": float(ours[1].mean() - strong.mean()),
            "gap_interval": list(interval([ours[1]], [strong])),
            "checks": checks,
            "passed": passed,
            "environment": forgery.records["environment"],
            "seconds": 1.0,
        }

    return change


def card_of(change: Callable[[str], str]) -> Callable[[Forgery], None]:
    """What would leave a card as it is would be no forgery."""

    def changed(card: str) -> str:
        forged = change(card)
        assert forged != card
        return forged

    def put(forgery: Forgery) -> None:
        forgery.card = changed

    return put


def weaker_plan(forgery: Forgery) -> None:
    """The attack of the plan and of every record is said to be a stronger one than was run."""
    forgery.records["plan"]["transfer"]["test_attack"] |= {"eps": 0.2, "step_size": 0.05}
    attack = FindPlan.parse(forgery.records["plan"]).transfer.test_attack
    forgery.records["attack"] = attack.describe()
    for record in forgery.records["transfers"]:
        record["attack"] = attack.describe()
        record["provenance"]["attack"] = attack.record()


FORGERIES: dict[str, Callable[[Forgery], None]] = {
    "110 up, 70 down in RA": edited(ADVERSARIAL, "RA", 60, 35),
    "RA up by 11 points": edited(ADVERSARIAL, "RA", 20),
    "RA up by 11 points, all seeds": all_runs("ticket-adversarial", "RA", 20),
    "SA up by 5 points": all_runs("ticket", "SA", 9),
    "SA down and up alike": edited(STANDARD, "SA", 4, 20),
    "dense RA down by 5 points": all_runs("dense-adversarial", "RA", 0, 9),
    "dense SA down by 5 points": all_runs("dense", "SA", 0, 9),
    "everything right": all_runs("ticket", "RA", IMAGES),
    "no double win made one": made_a_win,
    "validation RA up": edited(ADVERSARIAL, "RA", 15, split="validation"),
    "validation SA of dense down": edited(DENSE, "SA", 0, 12, split="validation"),
    "dense's standard figures under adversarial transfer": copied_figures("dense-standard-seed-0", ADVERSARIAL),
    "seed 1's figures copied to seed 0": copied_figures("ticket-adversarial-seed-1", ADVERSARIAL),
    "standard's figures under adversarial transfer": copied_figures(STANDARD, ADVERSARIAL),
    "logits times 1e4": scaled(1e4),
    "logits times 1e8": scaled(1e8),
    "logits times 1e4, all networks": scaled(1e4, (ADVERSARIAL, "ticket-adversarial-seed-1", STANDARD)),
    "logits times 300": scaled(300),
    "regimes swapped": swapped(STANDARD, ADVERSARIAL),
    "regimes swapped with outcomes": swapped(STANDARD, ADVERSARIAL, with_outcomes=True),
    "seeds swapped with outcomes": swapped(ADVERSARIAL, "ticket-adversarial-seed-1", with_outcomes=True),
    "seeds of dense swapped with outcomes": swapped(DENSE, "dense-adversarial-seed-1", with_outcomes=True),
    "one network for two seeds": copied(ADVERSARIAL, "ticket-adversarial-seed-1"),
    "one network for two seeds, nudged": copied(ADVERSARIAL, "ticket-adversarial-seed-1", 1e-4),
    "the better seed shown as the first": other_seed,
    "dense is random": dense_is("random"),
    "dense is random and 99 % pruned": dense_is("random and 99 % pruned"),
    "dense is pruned": dense_is("pruned"),
    "dense is pruned behind a full mask": dense_is("pruned behind a full mask"),
    "dense is the ticket's network": dense_is("ticket"),
    "one random layer": one_random_layer,
    "another normalisation": brighter,
    "a stronger attack than was run": weaker_plan,
    "corruptions up by 5 points": looked(corruptions_raised(0.05), "corruptions"),
    "corruptions up by 20 points": looked(corruptions_raised(0.2), "corruptions"),
    "other norms withstood wholly": looked(unseen_raised, "unseen"),
    "AutoAttack invented as strong as PGD": checks_said(),
    "checks left out": checks_said(dropped=6),
    "one check left out": checks_said(dropped=1),
    "checks failed and said to pass": checks_said(passed=False),
    "card turned round": card_of(
        lambda card: re.sub(
            r"\*\*(Undecided|NOT a double-win ticket)", "**Double win", card.replace("**Double win", "**No win")
        )
    ),
    "card's table raised": card_of(lambda card: card.replace("| adversarial | RA |", "| adversarial | RA | 99.00 % |")),
    "card's metadata raised": card_of(lambda card: card.replace("    value: ", "    value: 9", 1)),
}
# Those that are told apart on a dozen images of a network that has hardly learned anything.
FAST = (
    "everything right",
    "dense is random",
    "dense is pruned behind a full mask",
    "card's table raised",
)


def forge(run: Path, data: Dataset, name: str, seed: int, **settings: Any) -> dict[str, Any]:
    """Return what verify says of a forgery."""
    with tempfile.TemporaryDirectory() as beside:
        forgery = Forgery.of(run / "ticket", data)
        FORGERIES[name](forgery)
        try:
            place = forgery.save(Path(beside) / "ticket")
        except TicketError as problem:  # by its own figures another level had been tried: there is no such card
            return {"answer": "not verified", "by": [str(problem)]}
        findings = verify(Pulled(place), ladder=run / "ladder", seed=seed, **settings)
    wrong = [f"{each.question}: {each.why}" for each in findings if each.answer == "not verified"]
    return {"answer": verdict_of(findings), "by": wrong[:1]}


def forged(run: Path, data: Dataset, seed: int, names: Any = tuple(FORGERIES), **settings: Any) -> dict[str, Any]:
    """Return what verify says of each forgery of an honest find on these images."""
    with remembering(), mock.patch.object(verifying, "images_of", return_value=data):
        return {name: forge(run, data, name, seed, **settings) for name in names}


# Honest ones


def reverified(run: Path, count: int, seed: int) -> dict[str, Any]:
    """Verify trained networks by themselves, which is all that depends on the machine, and the whole now and then."""
    data, answers, refused, parts = images(), Counter[str](), [], Counter[str]()
    places = sorted((run / "ticket" / "trained").iterdir())
    settings = list(itertools.product((1, 2), ("float32", "bfloat16"), WITHOUT, (None, 150)))
    for number in range(count):
        # Other settings for every network in turn: 8 networks and 24 settings share no long rhythm so.
        threads, precision, without, few = settings[(number + number // len(settings)) % len(settings)]
        place = places[number % len(places)]
        whole = run / "ticket" if number % 50 == 49 else place
        torch.set_num_threads(threads)
        os.environ["LOTTERY_HUB_WITHOUT"] = without
        measure = partial(evaluate, precision=precision)
        with (
            mock.patch.object(remeasuring, "evaluate", measure),
            mock.patch.object(verifying, "images_of", return_value=data),
        ):
            findings = verify(Pulled(whole), ladder=run / "ladder", sample=few, seed=seed + number)
        answers[verdict_of(findings)] += 1
        parts.update(f"{each.question}: {each.answer}" for each in findings if each.question in ("figures", "masking"))
        refused += [
            {"number": number, "place": whole.name, "setting": [threads, precision, without, few], "why": each.why}
            for each in findings
            if each.answer == "not verified"
        ]
        print(number + 1, dict(answers), dict(parts), refused, file=sys.stderr, flush=True)
    return {"torch": torch.__version__, "verified": count, "answers": answers, "parts": parts, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--honest", type=int, default=0)
    parser.add_argument("--only-honest", action="store_true")
    parser.add_argument("--python")
    given = parser.parse_args()
    run = honest(given.cache)
    told: dict[str, Any] = {"seed": given.seed}
    if not given.only_honest:
        found = forged(run, images(), given.seed)
        told["forgeries"] = {"answers": Counter(each["answer"] for each in found.values()), "each": found}
    if given.honest and given.python and given.python != sys.executable:
        command = [given.python, __file__, "--cache", given.cache, "--seed", given.seed, "--honest", given.honest]
        done = subprocess.run([*map(str, command), "--only-honest"], check=True, capture_output=True, text=True)
        told["honest"] = json.loads(done.stdout)["honest"]
    elif given.honest:
        told["honest"] = reverified(run, given.honest, given.seed)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
