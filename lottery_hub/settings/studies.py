"""The plan of a study: which finds make its grid. Every number of each is in the plan of that find."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.config import MAX_SEEDS, Method, Precision, parse_number
from lottery_hub.settings.plans import Written

MOST_CELLS = 10_000

Word = Annotated[str, Field(min_length=1, max_length=4000)]
# A number as people write it, `8/255` too; a file may have it as a number.
Figure = Annotated[Word, BeforeValidator(lambda given: str(given) if type(given) in (int, float) else given)]
Share = Annotated[float, Field(gt=0, le=1)]
Seeds = Annotated[int, Field(ge=1, le=MAX_SEEDS)]
Level = Annotated[int, Field(ge=1, le=64)]


class CellPlan(NamedTuple):
    """One find of a study."""

    pretrain: str
    dataset: str
    fraction: float
    method: Method
    level: int | None


class StudyPlan(Written):
    """A grid of finds: kinds of pre-training x datasets x fractions x methods, each over levels, regimes and seeds.

    Attributes:
        pretrain, arch: backbones, as of `find`.
        dataset: downstream datasets, as of `find`.
        fraction: shares of their training images.
        method: how ladders are drawn; `imp` takes the one in the folder of `pretrain`, or the packaged one, if
            there is one.
        level: judge these levels, each by itself; none looks for the frontier.
        scan: how levels are tried where none is named.
        seeds, max_seeds, confirm, margin, tolerance, controls, source, eps, eps_standard: of every find.
        recipes: the preset of recipes.
        image_size, batch_size: of every find; None and `auto` are the preset's.
        precision: of every find; `auto` is what the machine is fast at.
        changes: to the plan of every find, `path=value`.
    """

    pretrain: tuple[Word, ...] = Field(default=("std", "adv"), min_length=1, strict=False)
    arch: Word | None = None
    dataset: tuple[Word, ...] = Field(default=("digits",), min_length=1, strict=False)
    fraction: tuple[Share, ...] = Field(default=(1.0,), min_length=1, strict=False)
    method: tuple[Method, ...] = Field(default=("imp",), min_length=1, strict=False)
    level: tuple[Level, ...] = Field(default=(), strict=False)
    scan: Literal["bisect", "all"] = "bisect"
    seeds: Seeds | Literal["auto"] = 1
    max_seeds: int | None = Field(default=None, ge=2, le=MAX_SEEDS)
    confirm: int | None = Field(default=None, ge=0, le=MAX_SEEDS)
    margin: Figure | None = None
    tolerance: Word | None = None
    controls: bool = False
    source: Word = "cifar100"
    eps: Figure | None = None
    eps_standard: Figure | None = None
    recipes: Literal["quick", "paper"] = "quick"
    image_size: int | None = Field(default=None, ge=8, le=1024)
    batch_size: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    changes: tuple[Word, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _a_grid(self) -> Self:
        for name in ("pretrain", "dataset", "fraction", "method", "level"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"a {name} is named twice")
        if self.eps_standard == "auto":
            raise ValueError("eps_standard is a number here, e.g. 1/255: kinds are compared at one radius")
        for name in ("eps", "eps_standard"):
            radius = getattr(self, name)
            if radius is not None and not 0 < parse_number(radius) < inf:
                raise ValueError(f"{name} {printable(repr(radius))} is no radius; write e.g. 0.03 or 8/255")
        if len(self.cells()) > MOST_CELLS:
            raise ValueError(f"{len(self.cells())} finds are more than {MOST_CELLS}")
        return self

    def cells(self) -> list[CellPlan]:
        """Return the finds, those of one dataset together, so that it is loaded once."""
        grid = product(self.dataset, self.fraction, self.pretrain, self.method, self.level or (None,))
        return [CellPlan(pretrain, dataset, share, method, level) for dataset, share, pretrain, method, level in grid]

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a grid by its name: `quick` ends in minutes on digits, `paper` is that of Chen et al. 2022.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {printable(repr(name))}; choose {' or '.join(PRESETS)}")
        return cls.parse(PRESETS[name])


PRESETS: dict[str, dict[str, object]] = {
    "quick": {
        "pretrain": ("std", "adv"),
        "dataset": ("digits",),
        "fraction": (0.1,),
        "level": (4, 8),
    },
    # 3 kinds x 3 datasets x 3 fractions, dense and 19 levels in two regimes with three seeds: 3,240 transfers.
    "paper": {
        "pretrain": ("std", "fast-adv:weights/imagenet_model_weights_4px.pth.tar", "adv:linf-4/255"),
        "arch": "resnet50",
        "dataset": ("cifar10", "cifar100", "svhn"),
        "fraction": (1.0, 0.1, 0.01),
        "scan": "all",
        "seeds": 3,
        "source": "imagenet",
        "recipes": "paper",
    },
}
