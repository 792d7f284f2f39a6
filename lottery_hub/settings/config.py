"""Every number a run depends on: frozen, validated, and the same in Python, JSON and on the command line.

A plan is the whole truth about a run. It is written into the run directory and into what is published, so
two runs with equal plans (on equal software) give equal tickets. Numbers live in `presets`; this module
only says which numbers there are and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.assigning import Settings as Settings
from lottery_hub.settings.assigning import each, meant, plain, value_of
from lottery_hub.settings.assigning import parse_number as parse_number

Kind = Literal["std", "fast-adv", "adv"]
Regime = Literal["standard", "adversarial"]
Method = Literal["imp", "omp", "random"]
Precision = Literal["float32", "bfloat16"]
Look = Literal["checks", "corruptions", "unseen", "curve"]
Augment = Literal["none", "crop", "crop-flip", "random-resized-crop"]
Schedule = Literal["constant", "cosine", "steps", "one-cycle"]

# Attacks for measuring only: too slow to train on, and through a package of their own.
STRONG = ("apgd-ce", "apgd-dlr", "square", "autoattack")
DLR_CLASSES = 4  # at least: the DLR loss divides by the distance to the third logit, targeted to the fourth

REGIMES: tuple[Regime, ...] = ("standard", "adversarial")
LOOKS: tuple[Look, ...] = ("checks", "corruptions", "unseen", "curve")
MAX_SEEDS = 100  # of one find
SEEDS = 2**32  # training spreads a seed over the generator's 64 bits, which larger ones would overflow


class Frozen(BaseModel):
    """Base of all settings: immutable, no unknown keys, no silent type conversion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as problem:
            raise ConfigError(_first_problem(type(self).__name__, problem)) from problem

    # By this mark pydantic knows that validating a setting inside another need not come through here, where the
    # error would lose its place.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def changed(self, **updates: Any) -> Self:
        """Return a validated copy with some fields replaced; `None` leaves a field as it is.

        Raises:
            ConfigError: a field is unknown or its value is not allowed.
        """
        given = {name: value for name, value in updates.items() if value is not None}
        return type(self).parse(dict(self) | given)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Build from a dict, reporting the first problem as one line.

        Raises:
            ConfigError: naming the field and what is allowed.
        """
        return cls.model_validate(values)

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """Build from a dict as pydantic does; a problem is a ConfigError."""
        try:
            return super().model_validate(obj, **how)
        except ValidationError as problem:
            raise ConfigError(_first_problem(cls.__name__, problem)) from problem

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **how: Any) -> Self:
        """Build from JSON as pydantic does; a problem is a ConfigError."""
        try:
            return super().model_validate_json(json_data, **how)
        except ValidationError as problem:
            raise ConfigError(_first_problem(cls.__name__, problem)) from problem

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: whoever was given a setting may rely on it."""
        raise ConfigError(f"{type(self).__name__}.{printable(name)} is fixed; use .changed({printable(name)}=…)")

    def with_settings(self, settings: Settings, at: str = "") -> Self:
        """Return a copy with some settings changed.

        Args:
            settings: `path.to.field=value` each, a value being JSON, a fraction or a word; or path → value. The end
                of a path is enough where no other setting's path ends so: `test_attack.steps`, `standard.lr`.
            at: where in a FindPlan these settings stand, `draw` or `transfer`: they have the same paths here.

        Raises:
            ConfigError: an assignment has no `=`, names no field or several, or its value is not allowed.
        """
        values = self.record()
        for path, value in each(settings).items():
            *parents, field = meant(path, [*_paths(values)], f"{at}." if at else "").split(".")
            inside = values
            for parent in parents:
                inside = inside[parent]
            inside[field] = value_of(value.strip()) if isinstance(value, str) else plain(value)
        return type(self).model_validate_json(json.dumps(values))

    def settings(self, at: str = "") -> dict[str, Any]:
        """Return path → value of every single setting, as `with_settings` takes them."""
        values = self.record()
        found: dict[str, Any] = {}
        for path in _paths(values):
            value: Any = reduce(lambda inside, name: inside[name], path.split("."), values)
            if not isinstance(value, dict):
                found[f"{at}.{path}" if at else path] = value
        return found

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return self.model_dump(mode="json")


class Seeds(Frozen):
    """The three sources of chance in a transfer, each with a seed of its own.

    Attributes:
        head: of the fresh head's weights.
        order: of the order of the training images and their random views.
        attack: of the attacks' random starts, in training and in measuring.
    """

    head: int = Field(ge=0, lt=SEEDS)
    order: int = Field(ge=0, lt=SEEDS)
    attack: int = Field(ge=0, lt=SEEDS)

    @classmethod
    def of(cls, seed: int | Seeds) -> Seeds:
        """Return seeds as they are, or one number for all three.

        Raises:
            ConfigError: it is negative or too large.
        """
        return seed if isinstance(seed, Seeds) else cls.parse(dict.fromkeys(("head", "order", "attack"), seed))


def _paths(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the path of every setting, and of those that hold others."""
    for name, value in values.items():
        yield above + name
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{name}.")


def _first_problem(what: str, problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    field = printable(".".join(str(part) for part in first["loc"]))
    return f"{what}{'.' + field if field else ''}: {first['msg'].removeprefix('Value error, ')}"


class Attack(Frozen):
    """One attack on images in [0,1]; eps and step_size are in those pixel units.

    Attributes:
        method: `pgd` (Madry et al. 2018), `fgsm` (Goodfellow et al. 2015), or `n-fgsm` (de Jorge et al. 2022); for
            measuring only, one of `STRONG`: `autoattack` (its standard version), or the parts `apgd-ce`, `apgd-dlr`
            and `square` (Croce & Hein 2020).
        norm: `linf`, `l2`, or `l1` for the attacks of `STRONG`. N-FGSM is defined for Linf only.
        eps: radius of the ball around the clean image.
        step_size: length of a step of PGD. FGSM's and N-FGSM's one step is eps long, APGD finds its own.
        steps: gradient steps, or queries of Square. FGSM and N-FGSM take exactly one; AutoAttack has its own.
        restarts: independent random starts; an image counts as broken if any of them breaks it.
        random_start: begin PGD at a uniform point of the ball instead of the clean image.
        noise: half-width of N-FGSM's start noise, in multiples of eps.
        batch_norm: `eval` freezes BatchNorm while the attack runs. `train` repeats the reference code of the
            double-win paper, where the attack's passes use batch statistics and move the running ones.
    """

    method: Literal["pgd", "fgsm", "n-fgsm", "apgd-ce", "apgd-dlr", "square", "autoattack"] = "pgd"
    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: float = Field(ge=0, le=1000)
    step_size: float = Field(default=0.0, ge=0, le=1000)
    steps: int = Field(default=1, ge=1, le=100_000)
    restarts: int = Field(default=1, ge=1, le=1000)
    random_start: bool = True
    noise: float = Field(default=2.0, ge=0, le=10)
    batch_norm: Literal["eval", "train"] = "eval"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"an Linf eps of {self.eps:g} covers all of [0,1]; eps is in [0,1] pixel units (8/255)")
        if self.method in ("fgsm", "n-fgsm") and self.steps != 1:
            raise ValueError(f"{self.method} takes one step; use pgd for {self.steps}")
        if self.method == "autoattack" and (self.steps, self.restarts) != (1, 1):
            raise ValueError("autoattack has steps and restarts of its own; leave both at 1")
        if self.method == "n-fgsm" and self.norm != "linf":
            raise ValueError("n-fgsm is defined for Linf only; use fgsm or pgd for L2")
        if self.norm == "l1" and self.method not in STRONG:
            raise ValueError(f"{self.method} is not for L1; use one of {', '.join(STRONG)}")
        if self.method == "pgd" and self.step_size == 0 and self.eps > 0:
            raise ValueError("pgd needs a step_size above 0, for instance 2/255")
        return self

    def at(self, eps: float) -> Attack:
        """Return the same attack at another radius, its steps as much smaller or larger.

        Raises:
            ConfigError: there is no such radius.
        """
        return self.changed(eps=eps, step_size=self.step_size * (eps / self.eps if self.eps else 1.0))

    def describe(self, classes: int | None = None) -> str:
        """Return the attack in the field's shorthand, e.g. `PGD-20 Linf eps 8/255 step 2/255`.

        Of so few classes that AutoAttack is without some of its parts, the name says so.
        """
        name = "AutoAttack" if self.method == "autoattack" else self.method.upper()
        if self.method == "autoattack" and classes is not None and classes < DLR_CLASSES:
            name = "AutoAttack without its targeted parts (APGD-CE, Square)"
        if self.method not in ("fgsm", "n-fgsm", "autoattack"):
            name += f"-{self.steps}"
        norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[self.norm]
        step = f" step {pixel_units(self.step_size)}" if self.method == "pgd" else ""
        restarts = f" x{self.restarts} restarts" if self.restarts > 1 else ""
        return f"{name} {norm} eps {pixel_units(self.eps)}{step}{restarts}"


def pixel_units(value: float) -> str:
    """Return `8/255` for values that are whole 255ths between 0 and 1, else the plain number."""
    scaled = value * 255
    if 0 < round(scaled) < 255 and abs(scaled - round(scaled)) < 1e-6:
        return f"{round(scaled)}/255"
    return f"{value:.4g}"


class Recipe(Frozen):
    """How a network is trained; without `attack` it is standard training.

    Attributes:
        epochs: passes over the training split.
        batch_size: images in a step.
        lr: peak learning rate of SGD.
        schedule: `constant`, `cosine` (to 0), `steps` (x0.1 at the milestones) or `one-cycle` (linear up
            over the first 30 %, linear down to 0).
        milestones: epochs at which `steps` divides the rate by ten.
        momentum, weight_decay: of SGD; the decay applies to every parameter.
        label_smoothing: of the cross-entropy.
        augment: random views of the training images.
        image_size: side of what the network sees, in pixels; stored images of another size are resampled.
        attack: the attack whose images are trained on, or None.
        selection_attack: how validation RA is measured to choose the epoch; None chooses by validation SA.
        select: keep the `best` epoch on validation, or the `last`.
        average: decay per step of an exponential moving average of the weights, which is then what is validated
            and kept; 0 keeps the weights themselves.
        guard: stop where validation RA has lost this share of its best, and go back to that epoch; 0 never stops.
            Single-step adversarial training can lose all robustness within an epoch (catastrophic overfitting).
        validate_every: epochs between validations (the last epoch is always validated).
        validation_images: how many validation images they look at, drawn once; 0 looks at all.
        norm_batch: images of which BatchNorm takes the statistics while the network learns, however much memory there
            is; 0 is the whole batch, or what of it fits into memory at a time (the record's `parts`).
        precision: of the convolutions in training and its attack; weights stay float32.
    """

    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(default=128, ge=2, le=65_536)
    lr: float = Field(gt=0, le=100)
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = Field(default=(), strict=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: Augment = "crop-flip"
    image_size: int = Field(default=32, ge=8, le=1024)
    attack: Attack | None = None
    selection_attack: Attack | None = None
    select: Literal["best", "last"] = "best"
    average: float = Field(default=0.0, ge=0, lt=1)
    guard: float = Field(default=0.0, ge=0, lt=1)
    validate_every: int = Field(default=1, ge=1, le=10_000)
    validation_images: int = Field(default=0, ge=0, le=10_000_000)
    norm_batch: int = Field(default=0, ge=0, le=65_536)
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for attack in (self.attack, self.selection_attack):
            if attack is not None and attack.method in STRONG:
                raise ValueError(f"{attack.method} is for measuring; train with pgd, n-fgsm or fgsm")
        if self.guard and self.selection_attack is None:
            raise ValueError("the guard watches validation RA; give a selection_attack")
        if self.norm_batch and (self.norm_batch < 2 or self.batch_size % self.norm_batch):
            raise ValueError(
                f"norm_batch {self.norm_batch} must be 2 or more, and the batch_size {self.batch_size} a multiple of it"
            )
        if self.schedule == "steps" and not self.milestones:
            raise ValueError("the steps schedule needs milestones, for instance (50, 75)")
        if any(not 0 < epoch <= self.epochs for epoch in self.milestones):
            raise ValueError(f"milestones {self.milestones} must lie within the {self.epochs} epochs")
        return self

    @property
    def regime(self) -> Regime:
        """`adversarial` if trained on attacked images, else `standard`."""
        return "standard" if self.attack is None else "adversarial"


class DataPlan(Frozen):
    """Which images, at which stored size, and how they are split; see `datasets.load_dataset`."""

    dataset: str = Field(min_length=1)
    image_size: int = Field(default=32, ge=8, le=1024)
    fraction: float = Field(default=1.0, gt=0, le=1)
    validation: float = Field(default=0.1, gt=0, lt=0.9)
    split_seed: int = Field(default=0, ge=0, lt=SEEDS)
    revision: str | None = None


class PretrainPlan(Frozen):
    """How a backbone is made. `weights` names the precision its convolutions are rounded to at the end."""

    arch: str
    kind: Kind
    data: DataPlan
    recipe: Recipe
    test_attack: Attack
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    weights: Literal["float32", "float16"] = "float32"


class DrawPlan(Frozen):
    """How nested masks are drawn from a backbone on its source task.

    Attributes:
        method: `imp` trains between prunings; `omp` and `random` need neither data nor recipe.
        prune_fraction: share of the remaining weights taken in a round.
        rounds: levels to draw; level k keeps (1 - prune_fraction)^k of the prunable weights.
        data, recipe: the source task, for `imp`. The recipe's attack decides its regime.
        test_attack: measures each level's source-task RA; None skips that measurement.
        seed: of data order, attack starts, random scores and, where needed, a fresh source head.
    """

    method: Method = "imp"
    prune_fraction: float = Field(default=0.2, gt=0, lt=1)
    rounds: int = Field(default=19, ge=1, le=64)
    data: DataPlan | None = None
    recipe: Recipe | None = None
    test_attack: Attack | None = None
    seed: int = Field(default=0, ge=0, lt=SEEDS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method == "imp" and (self.data is None or self.recipe is None):
            raise ValueError("imp trains between prunings and needs a source dataset and a recipe; or use omp")
        return self


class TransferPlan(Frozen):
    """The two downstream recipes and the attack of the test figures.

    Attributes:
        standard, adversarial: the recipes.
        test_attack: how RA is measured.
        standard_attack: how it is measured after standard transfer, where that withstands nothing of `test_attack`;
            None takes that.
    """

    standard: Recipe
    adversarial: Recipe
    test_attack: Attack
    standard_attack: Attack | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.standard.attack is not None or self.adversarial.attack is None:
            raise ValueError("the standard recipe has no attack and the adversarial one must have one")
        return self

    def recipe(self, regime: Regime) -> Recipe:
        """Return the recipe of a regime."""
        return self.standard if regime == "standard" else self.adversarial

    def attack(self, regime: Regime) -> Attack:
        """Return how RA is measured after transfer in a regime."""
        return self.standard_attack or self.test_attack if regime == "standard" else self.test_attack
