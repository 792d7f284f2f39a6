"""The plan of a whole find, and the two presets of it.

A plan is built by `FindPlan.preset`, changed by `changed` and `with_settings`, and written and read as TOML.
"""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any, Literal, Self, cast, get_args

from pydantic import Field, model_validator

from lottery_hub.errors import ConfigError, first_line, printable
from lottery_hub.settings.config import (
    MAX_SEEDS,
    DataPlan,
    DrawPlan,
    Frozen,
    Kind,
    Method,
    Precision,
    TransferPlan,
    parse_number,
)
from lottery_hub.settings.paths import exists, path_of
from lottery_hub.settings.presets import (
    Preset,
    at_size,
    paper_draw,
    paper_transfer,
    quick_draw,
    quick_transfer,
    stored_size,
)

MAX_BYTES = 2**20  # of a plan's file


class Written(Frozen):
    """A plan that is written and read as a file."""

    def toml(self) -> str:
        """Return the plan as TOML, which `read` takes; a setting that is None is left out."""
        import tomli_w

        return tomli_w.dumps(_without_none(self.record()))

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> Self:
        """Read a plan from a file of TOML or, if its name ends so, of JSON.

        Raises:
            ConfigError: there is no such file, or it is no plan.
        """
        path = path_of(file)
        try:
            if exists(path) and not path.is_file() and not path.is_dir():
                raise ConfigError("it is a pipe or a device; give the file of a plan")  # it may never end, or begin
            with path.open("rb") as opened:
                text = opened.read(MAX_BYTES + 1).decode("utf-8")
            if len(text) > MAX_BYTES:
                raise ConfigError("it is too large for a plan")
            values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
            return cls.model_validate_json(json.dumps(values))
        except (OSError, ValueError, TypeError, RecursionError) as problem:
            raise ConfigError(f"cannot read the plan {printable(path)}: {first_line(problem)}") from problem
        except ConfigError as problem:
            raise ConfigError(f"{printable(path)}: {problem}") from problem


class FindPlan(Written):
    """One whole `find`: backbone, ladder, downstream transfers and the rule of the verdict.

    Attributes:
        pretrain: `std`, `fast-adv`, `adv`, a local checkpoint, or a Hub repo.
        arch: one of `backbones.ARCHITECTURES`.
        data: the downstream dataset.
        draw: how to draw a ladder where none is packaged or given.
        ladder: a ladder folder to reuse; `auto` takes the one in the folder of `pretrain`, or the packaged one, or
            draws; `draw` always draws.
        transfer: the downstream recipes.
        seeds: transfers per regime, with seeds 0 to seeds-1.
        max_seeds: so many are added, at most, to what is undecided; None adds none.
        confirm: transfers of dense and of the level that is picked, per regime, with seeds that had no part in picking,
            on which the verdict is given then; None has as many as cost less than a quarter of the find.
        tolerance: the rule of the verdict: `margin`, `margin:X`, `std`, `points:X` or `noninferiority:X`; see `rules`.
        eps_standard: `auto` measures RA after standard transfer at a smaller radius, at which dense withstands some
            attacks and not all; None as `transfer` says.
        scan: `bisect` assumes that a level below a double-win level wins too, and rejects a level once it fails; `all`
            runs every level wholly.
        controls: also transfer one-shot-magnitude and random masks at the winning sparsity.
        level, sparsity: the one level to judge, by its number or as the one nearest to a sparsity; None looks for the
            sparsest that wins.
    """

    pretrain: str
    arch: str
    data: DataPlan
    draw: DrawPlan
    ladder: str = "auto"
    transfer: TransferPlan
    seeds: int = Field(default=1, ge=1, le=MAX_SEEDS)
    max_seeds: int | None = Field(default=None, ge=2, le=MAX_SEEDS // 2)
    confirm: int | None = Field(default=None, ge=0, le=MAX_SEEDS // 2)
    tolerance: str = "margin"
    eps_standard: Literal["auto"] | None = None
    scan: Literal["bisect", "all"] = "bisect"
    controls: bool = False
    level: int | None = Field(default=None, ge=1, le=64)
    sparsity: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        if self.level is not None and self.sparsity is not None:
            raise ValueError("give the level to judge by its number or by its sparsity, not both")
        return self

    @model_validator(mode="after")
    def _several_seeds(self) -> Self:
        if self.max_seeds is not None and self.max_seeds <= self.seeds:
            raise ValueError(
                f"max_seeds are more than the {self.seeds} seeds that a find begins with; {self.max_seeds} are not"
            )
        if self.fresh + (self.confirm or 0) > MAX_SEEDS:
            raise ValueError(f"a find has {MAX_SEEDS} seeds at most, those that confirm its verdict included")
        return self

    @property
    def looks(self) -> list[int]:
        """After how many seeds a verdict is looked at: each time there are about 1.6 times as many."""
        counts = [self.seeds]
        while counts[-1] < (self.max_seeds or 0):
            counts.append(min(-(-counts[-1] * 8 // 5), self.max_seeds or 0))
        return counts

    @property
    def fresh(self) -> int:
        """The first seed that has no part in picking a level."""
        return self.looks[-1]

    @classmethod
    def preset(
        cls,
        preset: Preset = "quick",
        *,
        pretrain: str = "adv",
        dataset: str = "digits",
        train_images: int | None = None,
        arch: str = "resnet18-slim",
        kind: Kind | None = None,
        name: str | None = None,
        fraction: float = 1.0,
        image_size: int | None = None,
        eps: float | str | None = None,
        draw: DrawPlan | None = None,
        source: str = "cifar100",
        method: Method = "imp",
        precision: Precision = "float32",
        **others: Any,
    ) -> Self:
        """Return the plan that `find` goes by, with every number of a preset.

        Args:
            preset: `quick` for a laptop and 32x32 images, or `paper`.
            pretrain, arch: the backbone, see `load_backbone`.
            dataset: the downstream dataset, see `load_dataset`.
            train_images: how many it has to train on, validation images left out. The quick preset's epochs follow it,
                and the paper's chooses epochs on no more.
            kind: how the backbone was pre-trained, where `pretrain` does not begin with that.
            name: the dataset's name, which decides its habits, where `dataset` is a path.
            fraction: share of the training images; `train_images` are those of it.
            image_size: side of what the networks see, in pixels; None takes the preset's.
            eps: radius of the attacks in [0,1] pixel units, 0.1 or "8/255"; None takes the dataset's.
            draw: how to draw a ladder; None takes the preset's from `source`, by `method`.
            source: the source task of a drawing by imp, a dataset.
            method: how to draw.
            precision: of the convolutions in training.
            others: further fields: `ladder`, `seeds`, `max_seeds`, `confirm`, `tolerance`, `scan`, `controls`, `level`,
                `sparsity`.

        Raises:
            ConfigError: something is missing, unknown, or not allowed.
        """
        kind = kind or _kind(pretrain)
        name = name or dataset
        radius = None if eps is None else parse_number(eps)
        data = DataPlan.parse({"dataset": dataset, "fraction": fraction}).changed(image_size=image_size)
        if preset == "paper":
            transfer = at_size(paper_transfer(name, precision, radius, train_images), image_size)
            data = data.changed(image_size=stored_size(name, transfer.standard))
        elif preset == "quick":
            if train_images is None or train_images < 1:
                raise ConfigError("the quick preset's epochs follow the number of training images; give train_images")
            transfer = at_size(quick_transfer(name, train_images, precision, radius), image_size)
        else:
            raise ConfigError(f"unknown preset {printable(repr(preset))}; choose quick or paper")
        draw = draw or preset_draw(preset, kind, source, source, method, 45_000, precision)
        return cls.parse(
            {"pretrain": pretrain, "arch": arch, "data": data, "draw": draw, "transfer": transfer} | others
        )


def preset_draw(
    preset: str, kind: Kind, source: str, name: str, method: Method, train_images: int, precision: Precision
) -> DrawPlan:
    """Return a preset's drawing; laptop rounds see as many images each, so a subset's rounds have more epochs."""
    if preset == "paper":
        return paper_draw(kind, source, method, precision)
    return quick_draw(kind, source, name, method, train_images, precision)


def _kind(pretrain: str) -> Kind:
    word = pretrain.partition(":")[0]
    if word not in get_args(Kind):
        raise ConfigError(f"say with kind how {printable(pretrain)} was pre-trained: {', '.join(get_args(Kind))}")
    return cast(Kind, word)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }
