"""Verify: is a ticket what its card says? Each question is answered with yes, no, or that it cannot be told from here.

files       every file is whole, hashes and counts agree
records     everything in the records that follows from the outcomes of single images does follow
card        the card says what the records say
drawing     mask and weights are those of a level of the named ladder, whose masks are nested
networks    the trained networks beside the ticket are those that the records name
figures     measured again, or trained again, they give the recorded accuracies within chance
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lottery_hub import __version__, workload
from lottery_hub.card_check import compare_card
from lottery_hub.cards import render_card
from lottery_hub.config import REGIMES, Attack, FindPlan
from lottery_hub.consistency import contradictions
from lottery_hub.data import Dataset, Split, sampled_rows
from lottery_hub.errors import ConfigError, LotteryHubError, TicketError, printable
from lottery_hub.evaluation import evaluate
from lottery_hub.origins import check_ladder
from lottery_hub.outcomes import Outcomes
from lottery_hub.pulling import Pulled
from lottery_hub.records import check_ticket
from lottery_hub.rendering import is_untouched
from lottery_hub.scrutiny import images_of
from lottery_hub.sources import packaged_name
from lottery_hub.storage import folder
from lottery_hub.storage.manifest import LadderManifest
from lottery_hub.tickets import Ladder, Ticket
from lottery_hub.transferring import transfer
from lottery_hub.verdict import FIGURES, level_name

Answer = Literal["verified", "not verified", "cannot tell"]
Report = Callable[[str], None]

SAMPLE_SEED = 0
# Measured again, a network may gain or lose this many images, or three standard deviations of what changed sides.
IMAGES, DEVIATIONS = 2, 3.0
# Trained again, a figure of a single seed may move by this besides the chance of the test images.
ONE_POINT = 0.01


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes:
        question: `files`, `records`, `card`, `drawing`, `networks` or `figures`.
        answer: whether it is as it is said to be.
        why: one line.
    """

    question: str
    answer: Answer
    why: str


def verdict_of(findings: list[Finding]) -> Answer:
    """Return the answer to all questions together: the worst, where a no is worse than not knowing."""
    answers = {finding.answer for finding in findings}
    return next(answer for answer in ("not verified", "cannot tell", "verified") if answer in answers)


def verify(
    pulled: Pulled,
    *,
    dataset: str | None = None,
    ladder: Path | None = None,
    sample: int | None = None,
    rerun: bool = False,
    fetch: bool = False,
    long: bool = False,
    device: torch.device | str = "cpu",
    report: Report = lambda line: None,
) -> list[Finding]:
    """Check a ticket or ladder as a stranger would.

    Args:
        pulled: where it is; of a repository with its trained networks.
        dataset: where its images are; None takes the name in its records.
        ladder: folder of the ladder it was taken from; None takes the packaged one, if it is that.
        sample: measure on so many test images, drawn with seed 0, instead of all.
        rerun: train again as the plan says, with the first seed, and compare; minutes to hours.
        fetch: download the dataset that the records name, where it is one of the Hub that has no name here.
        long: compute what the records ask for, however much it is; see `workload`.
        device: where to compute.
        report: told what is at work.

    Returns:
        One finding a question; the later questions are not asked where the files are not whole.
    """
    try:
        about = folder.check_folder(pulled.folder)
    except TicketError as problem:
        return [Finding("files", "not verified", str(problem))]
    findings = [Finding("files", "verified", "every file is whole; hashes, counts and sparsity agree")]
    is_ladder = isinstance(about, LadderManifest)
    loaded = folder.load_ladder(pulled.folder) if is_ladder else folder.load_ticket(pulled.folder)
    try:
        if isinstance(loaded, Ladder):
            check_ladder(loaded)
        else:
            check_ticket(loaded)
    except TicketError as problem:
        return [*findings, Finding("records", "not verified", str(problem))]  # nothing can be read from them
    if isinstance(loaded, Ladder):
        why = f"{loaded.levels} nested levels, at the sparsities and with the fingerprint that config.json names"
        told = "a ladder's accuracies are of its source task; `lottery-hub evaluate` measures them"
        return [*findings, Finding("drawing", "verified", why), Finding("figures", "cannot tell", told)]
    if not loaded.records:
        return [*findings, Finding("figures", "cannot tell", "it claims none: it was never transferred")]
    asked = _Asked(dataset, ladder, sample, rerun, fetch, long, torch.device(device), report)
    return [*findings, *_of_ticket(loaded, pulled, asked)]


@dataclass(frozen=True)
class _Asked:
    """What `verify` was asked for; see there."""

    dataset: str | None
    ladder: Path | None
    sample: int | None
    rerun: bool
    fetch: bool
    long: bool
    device: torch.device
    report: Report


def _of_ticket(ticket: Ticket, pulled: Pulled, asked: _Asked) -> Iterator[Finding]:
    lines = contradictions(ticket)
    if lines:
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        yield Finding("records", "not verified", f"{lines[0]}{more}")
    else:
        yield Finding("records", "verified", "counts, means, intervals, level and verdict follow from the outcomes")
    yield _card(ticket, pulled)
    origin = _ladder(ticket, asked.ladder)
    yield _drawing(ticket, origin)
    if lines:
        return  # there is nothing to compare new figures with
    networks, finding = _networks(ticket, pulled.folder)
    finding = _malformed(networks) or finding
    yield finding
    if finding.answer == "not verified":
        return
    if not networks and not asked.rerun:
        yield Finding("figures", "cannot tell", "the trained networks are not there; --rerun trains them again")
        return
    try:
        data = images_of(ticket, asked.dataset, fetch=asked.fetch)
    except LotteryHubError as problem:
        yield Finding("figures", "cannot tell", f"{problem}; say where the images are with --dataset")
        return
    try:
        if not asked.long:
            _check_amount(ticket, networks, data, asked)
    except ConfigError as problem:
        yield Finding("figures", "cannot tell", str(problem))
        return
    if networks:
        yield _measured_again(ticket, networks, data, asked.sample, asked.device, asked.report)
    if asked.rerun:
        yield _trained_again(ticket, origin, data, asked.device, asked.report)


def _malformed(networks: dict[str, Ticket]) -> Finding | None:
    """Return what is wrong with the records that trained networks carry, which say how they are measured."""
    for name, network in networks.items():
        try:
            check_ticket(network)
        except TicketError as problem:
            return Finding("networks", "not verified", f"{name}: {problem}")
        if "recipe" not in network.records:
            return Finding("networks", "not verified", f"{name} has no record of its own training")
    return None


def _check_amount(ticket: Ticket, networks: dict[str, Ticket], data: Dataset, asked: _Asked) -> None:
    """Raise ConfigError where the records ask for more computing than anybody would start without being asked."""
    images = len(data.test) if asked.sample is None else min(asked.sample, len(data.test))
    measuring = 0
    for name, network in networks.items():
        attack = _record(ticket, name)["provenance"]["attack"]
        known = None if attack is None else Attack.parse(attack)
        measuring += workload.of_measuring(network, known, images, network.records["recipe"]["image_size"])
    workload.check_amount(measuring, "measuring the networks again", "add --long, or less with --sample")
    if asked.rerun and "plan" in ticket.records:
        plan = FindPlan.parse(ticket.records["plan"])
        training = 2 * workload.of_training(ticket, plan, len(data.train))
        workload.check_amount(training, "training again", "add --long")


def _card(ticket: Ticket, pulled: Pulled) -> Finding:
    """Compare the card with what the records would render."""
    try:
        card = folder.read_card(pulled.folder)
        if card is None:
            return Finding("card", "cannot tell", "there is no card")
        repos = [None, *([pulled.repo_id] if pulled.repo_id else [])]
        rendered = [render_card(ticket, repo, timm=timm) for repo in repos for timm in (False, True)]
    except TicketError as problem:
        return Finding("card", "not verified", str(problem))
    answer, why = compare_card(card, rendered)
    other = folder.read_about(pulled.folder).library
    if answer == "not verified" and is_untouched(card) and other != __version__:
        return Finding("card", "cannot tell", f"lottery_hub {printable(other)} rendered it, this is {__version__}")
    return Finding("card", answer, why)


def _ladder(ticket: Ticket, ladder: Path | None) -> Ladder | None:
    """Return the ladder that a ticket says it is from, where it is at hand."""
    place = ladder or folder.packaged_folder(packaged_name(ticket.arch, ticket.kind))
    if place is None or not isinstance(folder.read_about(place), LadderManifest):
        return None
    known = folder.load_ladder(place)
    fits = known.backbone.fingerprint() == ticket.provenance.get("backbone", {}).get("fingerprint")
    return known if ladder or fits else None


def _drawing(ticket: Ticket, ladder: Ladder | None) -> Finding:
    if ladder is None:
        return Finding("drawing", "cannot tell", "its ladder is not at hand; give it with --ladder")
    if not 0 <= ticket.level <= ladder.levels:
        return Finding("drawing", "not verified", f"the ladder has no level {ticket.level}")
    of_ladder = ladder.ticket(ticket.level)
    same = all(torch.equal(kept, of_ladder.mask[name]) for name, kept in ticket.mask.items())
    if not same:
        return Finding("drawing", "not verified", f"its mask is not that of level {ticket.level} of its ladder")
    # A fine-tuned ticket has other weights: they were trained.
    if "transfer" not in ticket.records and ticket.fingerprint() != of_ladder.fingerprint():
        return Finding("drawing", "not verified", "its weights are not those of the backbone that it names")
    weights = "the mask is" if "transfer" in ticket.records else "mask and weights are"
    return Finding("drawing", "verified", f"{weights} those of level {ticket.level} of its ladder, whose masks nest")


def _networks(ticket: Ticket, place: Path) -> tuple[dict[str, Ticket], Finding]:
    """Return the trained networks by name, and whether they are those of the records."""
    if "transfer" in ticket.records:
        if ticket.fingerprint() != ticket.records["transfer"]["trained"]:
            return {}, Finding("networks", "not verified", "its weights are not those that its record names")
        return {"ticket": ticket}, Finding("networks", "verified", "it is itself the trained network of its record")
    networks = {}
    for name, path in folder.trained_folders(place).items():
        try:
            networks[name] = folder.load_ticket(path)
        except TicketError as problem:
            return {}, Finding("networks", "not verified", f"{name}: {problem}")
        if networks[name].fingerprint() != _record(ticket, name)["trained"]:
            return {}, Finding("networks", "not verified", f"the weights of {name} are not those that the records name")
        if name.startswith("ticket") and any(
            not torch.equal(kept, networks[name].mask[layer]) for layer, kept in ticket.mask.items()
        ):
            return {}, Finding("networks", "not verified", f"the mask of {name} is not that of the ticket")
    wanted = {place.rpartition("/")[2] for place in folder.trained_places(ticket.records["seeds"])}
    missing = sorted(wanted - networks.keys())
    if missing:
        few = f"{len(missing)} of {len(wanted)} trained networks are not there, e.g. {missing[0]}"
        return networks, Finding("networks", "cannot tell", few)
    return networks, Finding("networks", "verified", f"{len(networks)} trained networks are those of the records")


def _record(ticket: Ticket, name: str) -> dict[str, Any]:
    """Return the record of a trained network by its name, e.g. `dense-standard-seed-0`."""
    if "transfer" in ticket.records:
        record: dict[str, Any] = ticket.records["transfer"]
        return record
    which, regime, _, seed = name.split("-")
    unit = level_name(0 if which == "dense" else ticket.level)
    for record in ticket.records["transfers"]:
        if (record["ticket"], record["regime"], record["seed"]) == (unit, regime, int(seed)):
            return record
    raise TicketError(f"the records have no transfer of {printable(name)}")


def _measured_again(
    ticket: Ticket, networks: dict[str, Ticket], data: Dataset, sample: int | None, device: torch.device, report: Report
) -> Finding:
    """Measure every network again, and count the images on which it did better or worse than its record says."""
    rows = np.arange(len(data.test)) if sample is None else sampled_rows(len(data.test), sample, SAMPLE_SEED).numpy()
    split = Split(data.test.images[rows], data.test.labels[rows])
    worst = 0
    for name, network in networks.items():
        report(f"measuring {name}")
        record = _record(ticket, name)
        attack = record["provenance"]["attack"]
        measured = evaluate(
            network.to_normalised().to(device),
            split,
            attack=None if attack is None else Attack.parse(attack),
            image_size=network.records["recipe"]["image_size"],
            seed=record["seeds"]["attack"],
            device=device,
        ).outcomes
        recorded = Outcomes.parse(record["outcomes"], record["samples"])
        assert measured is not None
        for figure in FIGURES:
            now, then = getattr(measured, figure), getattr(recorded, figure)
            if now is None or then is None:
                continue
            changed, net = int((now != then[rows]).sum()), int(now.sum()) - int(then[rows].sum())
            if abs(net) > max(IMAGES, DEVIATIONS * changed**0.5):
                shares = f"{then[rows].mean():.2%} recorded, {now.mean():.2%} measured"
                why = f"{figure} of {name} on {len(rows)} test images: {shares}, on the same images"
                return Finding("figures", "not verified", why)
            worst = max(worst, changed)
    images = f"all {len(rows)} test images" if sample is None else f"{len(rows)} of {len(data.test)} test images"
    why = f"{len(networks)} networks measured again on {images}; at most {worst} images came out otherwise"
    return Finding("figures", "verified", why)


def _trained_again(
    ticket: Ticket, ladder: Ladder | None, data: Dataset, device: torch.device, report: Report
) -> Finding:
    """Repeat the transfers of the first seed as the plan says, and compare their figures with the records."""
    if "transfer" in ticket.records:
        return Finding("figures", "cannot tell", "what it was trained from is not here; repeat `lottery-hub finetune`")
    plan = FindPlan.parse(ticket.records["plan"])
    starts = {"ticket": ticket} | ({"dense": ladder.ticket(0)} if ladder else {})
    shown = []
    for which, start in starts.items():
        for regime in REGIMES:
            report(f"training {which} again, {regime} transfer")
            done = transfer(
                start,
                data,
                plan.transfer.recipe(regime),
                test_attack=plan.transfer.test_attack,
                seed=0,
                device=device,
                on_epoch=lambda epoch: report(f"epoch {epoch['epoch']}/{epoch['epochs']}"),
            ).record
            record = _record(ticket, f"{which}-{regime}-seed-0")
            summary = _summary(ticket, which)[regime]
            for figure in FIGURES:
                moved = abs(done[figure] - record[figure])
                spread = summary["deviation"][figure]
                share = (done[figure] + record[figure]) / 2
                error = (2 * share * (1 - share) / record["samples"]) ** 0.5
                allowed = DEVIATIONS * ((ONE_POINT if spread is None else spread) ** 2 + error**2) ** 0.5
                if moved > allowed:
                    shares = f"{record[figure]:.2%} recorded, {done[figure]:.2%} now, {allowed:.2%} allowed"
                    return Finding("figures", "not verified", f"{figure} of {which}, {regime} transfer: {shares}")
                shown.append(moved)
    why = f"{len(shown)} figures of seed 0 trained again; the largest difference is {max(shown):.2%}"
    if "dense" not in starts:
        return Finding("figures", "cannot tell", f"{why}; dense was not: its ladder is not at hand (--ladder)")
    return Finding("figures", "verified", why)


def _summary(ticket: Ticket, which: str) -> dict[str, Any]:
    if which == "dense":
        dense: dict[str, Any] = ticket.records["dense"]
        return dense
    (row,) = (row for row in ticket.records["levels"] if row["level"] == ticket.level)
    found: dict[str, Any] = row
    return found
