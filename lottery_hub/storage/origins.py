"""Where things come from, as a stranger may have written it: datasets, machines, epochs, backbones and drawings.

Every number has bounds; see `records`, which is made of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import MAX_LEVELS, Ladder
from lottery_hub.settings.config import DrawPlan, Frozen, Method, PretrainPlan

MAX_IMAGES = 2_000_000  # of a split that was measured image by image
MAX_EPOCHS = 10_000
MAX_ENTRIES = 100  # of what has no number of its own: versions, notes, attacks, checks


Word = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=4000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Samples = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Side = Annotated[int, Field(ge=1, le=2**31)]
Right = Annotated[int, Field(ge=0, le=MAX_IMAGES)]
Level = Annotated[int, Field(ge=1, le=MAX_LEVELS)]
Scalar = bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | Text | None
# A key that may be absent, and may not be null where it is there.
ABSENT: Any = None


class Described(Frozen):
    """Versions, machines, epochs: named values that no figure follows from, and more of them than are known here."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[Word, Scalar]

    @model_validator(mode="after")
    def _few(self) -> Self:
        if len(self.__pydantic_extra__) > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries")
        return self


class Environment(Described):
    """What a figure was measured with; see `environment`."""

    lottery_hub: Word = ABSENT
    torch: Word = ABSENT
    device: Word = ABSENT
    threads: Count = ABSENT


class Epoch(Described):
    """One epoch of a training; see `loop.train`."""

    epoch: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    loss: float
    images: Count
    seconds: Seconds
    validation_SA: Share = ABSENT  # noqa: N815 - the word of the records
    validation_RA: Share | None = None  # noqa: N815


class Measured(Frozen):
    """Accuracies of one network on so many images, with the counts they are ratios of; see `Accuracy.record`."""

    SA: Share
    RA: Share | None
    correct: Right
    robust: Right | None
    samples: Samples


class Images(Frozen):
    """Which images, by name."""

    name: Word
    revision: Word | None
    fingerprint: Word


class Data(Images):
    """A dataset as `Dataset.describe` writes it."""

    fraction: Annotated[float, Field(gt=0, le=1)]
    image_size: Annotated[int, Field(ge=1, le=1024)]
    train: Count
    validation: Samples
    test: Samples
    classes: Annotated[int, Field(ge=1, le=100_000)]
    class_names: Annotated[list[Word], Field(max_length=100_000)] = ABSENT
    original_sides: Annotated[list[Side], Field(min_length=2, max_length=2)] = ABSENT
    validation_share: Annotated[float, Field(gt=0, lt=1)] = ABSENT
    split_seed: Annotated[int, Field(ge=0)] = ABSENT
    notes: Annotated[list[Text], Field(max_length=MAX_ENTRIES)]

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.class_names is not ABSENT and len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} names of {self.classes} classes")
        return self


class Pretraining(Frozen):
    """How a backbone was made; see `pretraining.pretrain`."""

    plan: PretrainPlan
    data: Data
    epoch: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    history: Annotated[list[Epoch], Field(min_length=1, max_length=MAX_EPOCHS)]
    test: Measured
    test_attack: Word
    environment: Environment
    seconds: Seconds = ABSENT


class Round(Frozen):
    """One level as it was drawn; trained by imp alone."""

    level: Level
    kept: Count
    total: Count
    epoch: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = ABSENT
    history: Annotated[list[Epoch], Field(max_length=MAX_EPOCHS)] = ABSENT
    source: Measured = ABSENT
    source_attack: Word = ABSENT


class Drawing(Frozen):
    """How a ladder was drawn; see `drawing.draw`. A ladder that was made by hand need not know."""

    method: Method = ABSENT
    prune_fraction: Annotated[float, Field(gt=0, lt=1)] = ABSENT
    rounds: Annotated[list[Round], Field(max_length=MAX_LEVELS)] = ABSENT
    plan: DrawPlan = ABSENT
    data: Data | None = None
    environment: Environment = ABSENT


class Pulled(Frozen):
    """The repository and commit that a folder was fetched from."""

    repo: Word
    commit: Word | None


class Known(Described):
    """What is known of a backbone: source, revision, licence, fingerprint, what its file was read as, its scores."""

    source: Text | None = None
    revision: Word | None = None
    license: Word | None = None
    fingerprint: Word | None = None
    layout: Word = ABSENT
    pulled: Pulled = ABSENT


class Whence(Described):
    """Where backbone and mask of a ticket come from, as far as it knows."""

    backbone: Known = ABSENT
    drawing: Drawing = ABSENT
    imported: Text = ABSENT
    pulled: Pulled = ABSENT


def check_ladder(ladder: Ladder) -> None:
    """Raise TicketError unless the records of a ladder and of its backbone are such as this library writes."""
    check_backbone(ladder.backbone)
    check(Drawing, ladder.drawing, "results.json: drawing")


def check_backbone(backbone: Backbone) -> None:
    """Raise TicketError unless provenance and records of a backbone are such as this library writes."""
    check(Known, backbone.provenance, "config.json: provenance")
    if backbone.records:
        check(Pretraining, backbone.records, "results.json: pretraining")


def check(kind: type[Frozen], said: Mapping[str, Any], where: str) -> None:
    """Raise TicketError, naming the first field that is not as it should be, unless `said` is of this kind."""
    try:
        kind.parse(dict(said))
    except ConfigError as problem:
        raise TicketError(f"{where}: {str(problem).removeprefix(kind.__name__).lstrip('.: ')}") from problem
