"""Verify: is a ticket what its card says? Each question is answered with yes, no, or that it cannot be told from here.

files       every file is whole, hashes and counts agree
records     everything in the records that follows from the outcomes of single images does follow
card        the card says what the records say
drawing     mask and weights are those of a level of the named ladder, whose masks are nested
networks    the trained networks beside the ticket are those that the records name, and come from where they say
figures     measured again, they give the recorded outcomes, on test and on validation images
masking     an attack on a loss that no scale can blind leaves them the recorded RA
looks       AutoAttack, checks, corruptions and other norms, taken again
others      what has no network here, and so was not measured
training    trained again, they give the recorded accuracies within the chance of a run (--rerun)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lottery_hub.errors import ConfigError, LotteryHubError, TicketError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging import workload
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.findings import Finding, verdict_of
from lottery_hub.judging.lineage import record_of, trained_networks
from lottery_hub.judging.remeasuring import attacked_without_scale, looked_again, measured_again, not_measured
from lottery_hub.judging.scrutiny import images_of
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.card_check import compare_card
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.showing import shows
from lottery_hub.settings.config import (
    Attack,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.pulling import Pulled
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage import folder
from lottery_hub.storage.manifest import LadderManifest
from lottery_hub.storage.origins import check_ladder
from lottery_hub.storage.records import check_ticket
from lottery_hub.storage.signing import is_untouched
from lottery_hub.telling import tell
from lottery_hub.training.retraining import trained_again
from lottery_hub.version import __version__

__all__ = ["Finding", "verdict_of", "verify"]


@shows("checking files")
def verify(
    pulled: Pulled,
    *,
    dataset: str | Dataset | None = None,
    ladder: Path | None = None,
    sample: int | None = None,
    rerun: bool = False,
    fetch: bool = False,
    long: bool = False,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
) -> list[Finding]:
    """Check a ticket or ladder as a stranger would.

    Args:
        pulled: where it is; of a repository with its trained networks.
        dataset: where its images are, or they themselves, of `Dataset.of`; None takes the name in its records.
        ladder: folder of the ladder it was taken from; None takes the packaged one, if it is that.
        sample: measure on so many test and validation images instead of all.
        rerun: train again as the plan says, with the first seed, and compare; minutes to hours.
        fetch: download the dataset that the records name, where it is one of the Hub that has no name here.
        long: compute what the records ask for, however much it is; see `workload`.
        seed: of the choice of images. None draws one that nobody can have known: what was edited elsewhere than on
            images known beforehand would never be seen.
        device: where to compute.
        progress: as of `find`.

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
    seed = secrets.randbelow(2**31) if seed is None else seed
    asked = _Asked(dataset, ladder, sample, rerun, fetch, long, seed, torch.device(device))
    return [*findings, *_of_ticket(loaded, pulled, asked)]


@dataclass(frozen=True)
class _Asked:
    """What `verify` was asked for; see there."""

    dataset: str | Dataset | None
    ladder: Path | None
    sample: int | None
    rerun: bool
    fetch: bool
    long: bool
    seed: int
    device: torch.device


def _of_ticket(ticket: Ticket, pulled: Pulled, asked: _Asked) -> Iterator[Finding]:
    lines = contradictions(ticket)
    if lines:
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        yield Finding("records", "not verified", f"{lines[0]}{more}")
    else:
        yield Finding("records", "verified", "counts, means, intervals, level and verdict follow from the outcomes")
    tell("doing", what="comparing the card")
    yield _card(ticket, pulled)
    origin = _ladder(ticket, asked.ladder)
    yield _drawing(ticket, origin)
    if lines:
        return  # there is nothing to compare new figures with
    malformed = _malformed(pulled.folder)
    if malformed:
        yield malformed
        return
    networks, finding = trained_networks(ticket, pulled.folder, origin)
    yield finding
    if finding.answer == "not verified":
        return
    if not networks and not asked.rerun:
        yield Finding("figures", "cannot tell", "the trained networks are not there; --rerun trains them again")
        return
    if foreign := _foreign(ticket):
        yield Finding("figures", "cannot tell", f"RA was measured by {printable(foreign)}, an attack that is not ours")
        return
    try:
        if not asked.long:
            workload.check_pixels(ticket.records["data"])
    except ConfigError as problem:
        yield Finding("figures", "cannot tell", str(problem))
        return
    try:
        tell("doing", what="reading images")
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
    about = (asked.seed, asked.device)
    if networks:
        yield measured_again(ticket, networks, data, asked.sample, *about)
        yield attacked_without_scale(ticket, networks, data, *about)
    yield from filter(None, [looked_again(ticket, networks, data, asked.sample, *about), not_measured(ticket)])
    if asked.rerun:
        yield trained_again(ticket, origin, data, asked.device)


def _foreign(ticket: Ticket) -> str | None:
    """Return the name of the foreign attack by which a transfer was measured, or None."""
    attack = ticket.records.get("transfer", {}).get("provenance", {}).get("attack") or {}
    return attack.get("foreign")


def _malformed(place: Path) -> Finding | None:
    """Return what is wrong with the records that trained networks carry, which say how they are measured."""
    for name, path in folder.trained_folders(place).items():
        try:
            network = folder.load_ticket(path)
            check_ticket(network)
        except TicketError as problem:
            return Finding("networks", "not verified", f"{name}: {problem}")
        if "recipe" not in network.records:
            return Finding("networks", "not verified", f"{name} has no record of its own training")
    return None


def _check_amount(ticket: Ticket, networks: dict[str, Ticket], data: Dataset, asked: _Asked) -> None:
    """Raise ConfigError where the records ask for more computing than anybody would start without being asked."""
    images = sum(min(len(split), asked.sample or len(split)) for split in (data.test, data.validation))
    measuring = 0
    for name, network in networks.items():
        attack = record_of(ticket, name)["provenance"]["attack"]
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
        names = {None, pulled.repo_id, folder.packaged_as(pulled.folder)}
        rendered = [render_card(ticket, name, timm=timm) for name in names for timm in (False, True)]
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
    if "imported" in ticket.provenance:
        return Finding("drawing", "cannot tell", "it was imported, and does not know how it was drawn")
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
