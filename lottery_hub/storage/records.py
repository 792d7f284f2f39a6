"""Records as a stranger may have written them: their whole structure, with bounds, checked before anything rests on it.

A folder whose hashes fit may still hold records that nobody could have measured: a level twice, ten thousand rows, a
word where a number should be. What is checked here is only the shape. That figures follow from each other is
`consistency`, that they are true is `verifying`.

    a verdict      what `find` writes: every transfer, every level, the rule, the plan
    one transfer   what a fine-tuned ticket carries
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lottery_hub.networks.tickets import MAX_LEVELS, Ticket
from lottery_hub.settings.answers import Answer
from lottery_hub.settings.config import (
    MAX_SEEDS,
    SEEDS,
    Attack,
    Frozen,
    Method,
    Precision,
    Recipe,
    Regime,
    Seeds,
)
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage.origins import (
    ABSENT,
    MAX_ENTRIES,
    MAX_EPOCHS,
    MAX_IMAGES,
    Data,
    Environment,
    Epoch,
    Images,
    Level,
    Measured,
    Right,
    Samples,
    Seconds,
    Share,
    Text,
    Whence,
    Word,
    check,
)

MOST = 20  # of the ends of an interval: that of two seeds may reach far beyond what there can be
MAX_TRANSFERS = 2 * MAX_SEEDS * (MAX_LEVELS + 3)  # both regimes of dense, of every level and of two controls

Slack = Annotated[float, Field(ge=-MOST, le=MOST)]
Signed = Annotated[float, Field(ge=-1, le=1)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Interval = Annotated[list[Annotated[float, Field(ge=-MOST, le=MOST)]], Field(min_length=2, max_length=2)]
Bits = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=MAX_IMAGES // 6 + 4)]
Network = Annotated[str, Field(pattern=r"^(dense|ticket)-(standard|adversarial)-seed-[0-9]{1,2}$")]


class Outcomes(Frozen):
    """Which images were right, as bits; see `outcomes`."""

    SA: Bits
    RA: Bits | None


class Split(Measured):
    """The same with the outcome of every image."""

    outcomes: Outcomes


class Attacked(Split):
    """A split under one attack of a closer look."""

    attack: Word


class Origin(Frozen):
    """Where θ_pre comes from."""

    source: Text | None
    revision: Word | None
    fingerprint: Word | None


class Foreign(Frozen):
    """An attack of others, of which there is a name and perhaps a ball; see `robustness.foreign`."""

    foreign: Word
    eps: Annotated[float, Field(ge=0, le=1000)] | None
    norm: Literal["linf", "l2", "l1"] | None


class Provenance(Frozen):
    """What one transfer was measured with."""

    environment: Environment
    data: Images
    backbone: Origin
    attack: Attack | Foreign | None
    batch_norm: Literal["eval"]
    precision: Precision
    seconds: Seconds


class Transfer(Split):
    """One transfer; see `transferring.transfer`."""

    regime: Regime
    seed: Seed
    seeds: Seeds
    attack: Word | None
    validation: Split
    epoch: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    history: Annotated[list[Epoch], Field(min_length=1, max_length=MAX_EPOCHS)]
    trained: Word
    provenance: Provenance


class OfTicket(Transfer):
    """One transfer among those of a verdict."""

    ticket: Word
    sparsity: Share


class Run(Frozen):
    """The two figures of one seed."""

    seed: Seed
    SA: Share
    RA: Share


class Deviation(Frozen):
    """Sample standard deviations over seeds, null where there is one."""

    SA: Share | None
    RA: Share | None


class Intervals(Frozen):
    """95 % intervals of a mean, null where single images were not kept."""

    SA: Interval | None
    RA: Interval | None


class Summary(Frozen):
    """The runs of one network in one regime; see `verdict.summarise`."""

    SA: Share
    RA: Share
    deviation: Deviation
    interval: Intervals
    seeds: Annotated[list[Run], Field(min_length=1, max_length=MAX_SEEDS)]


class Figure(Frozen):
    """One of the four comparisons of a verdict."""

    regime: Regime
    figure: Literal["SA", "RA"]
    dense: Share
    ticket: Share
    difference: Signed
    interval: Interval | None
    tolerance: Share
    slack: Slack
    matching: bool
    answer: Literal["matching", "worse", "undecided", "uninformative"] = ABSENT


class Judged(Frozen):
    """A network against dense on one split; a regime is absent where the other had settled the matter."""

    standard: Summary = ABSENT
    adversarial: Summary = ABSENT
    double_win: bool
    answer: Answer = ABSENT  # of the rules that have three
    slack: Slack = ABSENT  # the same by its older name: `margin`
    margin: Slack = ABSENT
    figures: Annotated[list[Figure], Field(min_length=2, max_length=4)]


class HeldOut(Judged):
    """The same on the validation split; by a margin, with the share of resamples in which a level lies inside."""

    inside: Share = ABSENT


class Row(Judged):
    """A level that was tried."""

    level: Level
    sparsity: Share
    validation: HeldOut


class Control(Judged):
    """Another mask of the same sparsity."""

    method: Method
    sparsity: Share
    validation: Judged


class DenseSplit(Frozen):
    """The dense backbone under both regimes."""

    standard: Summary
    adversarial: Summary


class Dense(DenseSplit):
    """The same on the test split, with that of the validation split inside."""

    validation: DenseSplit


class Confirmed(Judged):
    """The level that was picked, and dense, with seeds that had no part in picking it."""

    dense: DenseSplit


class Frontier(Frozen):
    """Up to which sparsity tickets are within the margin; see `frontier`."""

    sparsity: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)]
    beyond: bool


class Frontiers(Frontier):
    """The same on the test split, with that of the validation split inside."""

    validation: Frontier


class Tried(Frozen):
    """RA of dense at a radius."""

    eps: Annotated[float, Field(ge=0, le=1000)]
    RA: Share


class Radius(Tried):
    """The radius at which RA after standard transfer is measured, and those that were tried for it; see `radius`."""

    samples: Samples
    tried: Annotated[list[Tried], Field(min_length=1, max_length=MAX_ENTRIES)]


class Look(Frozen):
    """What every closer look says; see `scrutiny.look`."""

    samples: Samples
    seed: Seed
    environment: Environment
    seconds: Seconds


class Check(Frozen):
    """One check of masked gradients."""

    name: Word
    passed: bool
    figures: Annotated[dict[Word, Share], Field(max_length=MAX_ENTRIES)]


class Checks(Look):
    """The checks of masked gradients, and a stronger attack beside the verdict's."""

    network: Word
    attacks: Annotated[list[Attacked], Field(min_length=2, max_length=2)]
    gap: Signed
    gap_interval: Interval
    checks: Annotated[list[Check], Field(min_length=1, max_length=MAX_ENTRIES)]
    passed: bool


class Corrupted(Frozen):
    """Images right under each corruption, at each severity."""

    correct: Annotated[dict[Word, Annotated[list[Right], Field(max_length=10)]], Field(max_length=MAX_ENTRIES)]
    mean: Share


class Corruptions(Look):
    """Accuracy under corruptions, by network."""

    networks: Annotated[dict[Network, Corrupted], Field(max_length=4)]


class Unseen(Look):
    """RA under attacks of other norms, by network."""

    networks: Annotated[dict[Network, Annotated[list[Attacked], Field(max_length=MAX_ENTRIES)]], Field(max_length=4)]


class Curved(Attacked):
    """A split under one attack at one radius of a curve."""

    eps: Annotated[float, Field(ge=0, le=1000)]


class Curve(Look):
    """RA over the radius, by network."""

    networks: Annotated[dict[Network, Annotated[list[Curved], Field(max_length=MAX_ENTRIES)]], Field(max_length=4)]


class Scrutiny(Frozen):
    """The closer looks that were taken."""

    checks: Checks = ABSENT
    corruptions: Corruptions = ABSENT
    unseen: Unseen = ABSENT
    curve: Curve = ABSENT


class VerdictRecords(Frozen):
    """What `find` writes."""

    double_win: bool
    answer: Answer = ABSENT
    sparsity: Share
    level: Level
    tolerance: Word
    margin: Share = ABSENT
    frontier: Frontiers = ABSENT
    would_decide: Text = ABSENT
    confirmed: Confirmed = ABSENT
    attack: Word
    standard_attack: Word = ABSENT
    standard_radius: Radius = ABSENT
    samples: Samples
    validation_samples: Samples
    fraction: Annotated[float, Field(gt=0, le=1)]
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)]
    scan: Literal["bisect", "all"]
    dense: Dense
    levels: Annotated[list[Row], Field(min_length=1, max_length=MAX_LEVELS)]
    controls: Annotated[list[Control], Field(max_length=2)]
    caveats: Annotated[list[Text], Field(max_length=MAX_ENTRIES)]
    scrutiny: Scrutiny
    fingerprint: Word
    plan: FindPlan
    data: Data
    environment: Environment
    transfers: Annotated[list[OfTicket], Field(min_length=1, max_length=MAX_TRANSFERS)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        levels = [row.level for row in self.levels]
        if levels != sorted(set(levels)):
            raise ValueError("the levels are not in order, each once")
        if len({(run.ticket, run.regime, run.seed) for run in self.transfers}) != len(self.transfers):
            raise ValueError("a transfer is recorded twice")
        if self.level not in levels:
            raise ValueError("the level of the verdict is not among the levels")
        return self


class TransferRecords(Frozen):
    """What a fine-tuned ticket carries."""

    transfer: Transfer
    data: Data
    recipe: Recipe


def check_transfer(record: dict[str, Any]) -> None:
    """Raise TicketError unless the record of one transfer is such as this library writes."""
    check(Transfer, record, "its record")


def check_look(name: str, record: dict[str, Any]) -> None:
    """Raise TicketError unless the record of a closer look is such as this library writes."""
    check(Scrutiny, {name: record}, "its record")


def check_ticket(ticket: Ticket) -> None:
    """Raise TicketError unless records and provenance of a ticket are such as this library writes.

    One without records has nothing in them to check.
    """
    check(Whence, ticket.provenance, "config.json: provenance")
    if ticket.records:
        check_records(ticket.records)


def check_records(records: dict[str, Any]) -> None:
    """Raise TicketError unless these are records of a verdict or of one transfer such as this library writes."""
    check(TransferRecords if "transfer" in records else VerdictRecords, records, "results.json")
