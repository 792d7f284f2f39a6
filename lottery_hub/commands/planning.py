"""From options to plans: the one place where it is decided which numbers a command goes by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from lottery_hub.commands.options import batch_sizes, one_of
from lottery_hub.errors import ConfigError, printable
from lottery_hub.images.datasets import Dataset, load_planned, peek
from lottery_hub.images.opening import dataset_name
from lottery_hub.images.recorded import load_for, seen_size
from lottery_hub.judging.rules import MARGIN, parse_rule
from lottery_hub.networks.backbones import DEFAULT_ARCH, Backbone, check_arch
from lottery_hub.networks.tickets import Ticket
from lottery_hub.settings.config import (
    REGIMES,
    DataPlan,
    DrawPlan,
    Kind,
    Method,
    Precision,
    PretrainPlan,
    Regime,
    Settings,
    TransferPlan,
    parse_number,
)
from lottery_hub.settings.paths import path_of
from lottery_hub.settings.plans import FindPlan, preset_draw
from lottery_hub.settings.presets import (
    Preset,
    at_size,
    habits,
    paper_transfer,
    pgd,
    quick_pretrain,
    quick_transfer,
    stored_size,
)
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.training.drawing import source_data

Place = str | os.PathLike[str]
FIRST_SEEDS, MOST_SEEDS = 3, 8  # of `--seeds auto`
IMAGES = 45_000  # of CIFAR's training split, validation left out: what a laptop's drawing is made for


class Finding(NamedTuple):
    """What a find goes by."""

    plan: FindPlan
    backbone: Backbone
    given: Dataset | None

    def images(self) -> Dataset:
        """Return the downstream dataset; see `load_dataset`."""
        return self.given or load_planned(self.plan.data)

    def directory(self, data: Dataset) -> Path:
        """Return where it works unless told."""
        name = f"{self.backbone.arch}-{self.backbone.kind}-{_in_a_path(data)}"
        share = self.plan.data.fraction
        return Path("tickets") / (name if share == 1 else f"{name}-fraction-{share:g}")


def plan_find(
    *,
    pretrain: Place | Backbone,
    arch: str | None,
    dataset: Place | Dataset,
    fraction: float,
    preset: Preset,
    seeds: int | Literal["auto"],
    max_seeds: int | None,
    confirm: int | None,
    margin: float | str | None,
    tolerance: str | None,
    scan: str,
    level: int | None,
    sparsity: float | None,
    controls: bool,
    ladder: Place,
    method: Method | None,
    source: Place,
    eps: float | str | None,
    eps_standard: float | str | None,
    precision: Precision,
    image_size: int | None,
    batch_size: object,
    settings: Settings | None,
) -> Finding:
    """Return the plan of a find by its options, with its backbone, and with its images where they were given."""
    backbone = pretrain if isinstance(pretrain, Backbone) else load_backbone(pretrain, arch)
    draw = _drawing(backbone.kind, os.fspath(source), method or "imp", preset, precision)
    image_size = _shown(image_size, dataset, preset)
    asked = _asked(dataset, fraction, image_size)
    name, images = _about(dataset, asked)
    first, most = _seeds(seeds, max_seeds)
    plan = FindPlan.preset(
        preset,
        pretrain=_named(backbone) if isinstance(pretrain, Backbone) else os.fspath(pretrain),
        arch=backbone.arch,
        kind=backbone.kind,
        dataset=asked.dataset,
        name=name,
        train_images=images,
        fraction=asked.fraction,
        image_size=image_size,
        eps=eps,
        precision=precision,
        draw=draw,
        ladder="draw" if method and ladder == "auto" else os.fspath(ladder),
        seeds=first,
        max_seeds=most,
        confirm=confirm,
        tolerance=_rule(margin, tolerance),
        eps_standard="auto" if eps_standard == "auto" else None,
        scan=scan,
        level=level,
        sparsity=sparsity,
        controls=controls,
    )
    if isinstance(dataset, Dataset):
        plan = plan.changed(data=asked)
    plan = plan.with_settings(batch_sizes(batch_size, *TRANSFERS)).with_settings(settings or ())
    if eps_standard not in (None, "auto"):
        plan = _weaker(plan, eps_standard)
    parse_rule(plan.tolerance, plan.seeds)
    return Finding(plan, backbone, _given(dataset, plan.data, asked))


# Options that are one number of a plan, or two, and nothing follows from: given beside a plan, they change it.
CHANGES = (
    *("seeds", "max_seeds", "confirm", "margin", "tolerance", "scan", "level", "sparsity", "controls", "ladder"),
    "eps_standard",
)


def changed_plan(plan: FindPlan | Place, given: dict[str, Any]) -> FindPlan:
    """Return a plan, or that of a file, as the options that were given beside it change it; those are of `CHANGES`.

    Raises:
        ConfigError: there is no such plan, or an option is not allowed.
    """
    plan = plan if isinstance(plan, FindPlan) else FindPlan.read(plan)
    changes: dict[str, Any] = {name: given[name] for name in ("confirm", "scan", "controls") if name in given}
    if "seeds" in given:
        changes["seeds"], changes["max_seeds"] = _seeds(given["seeds"], given.get("max_seeds"))
    elif "max_seeds" in given:
        changes["max_seeds"] = given["max_seeds"]
    if "margin" in given or "tolerance" in given:
        changes["tolerance"] = _rule(given.get("margin"), given.get("tolerance"))
    if "level" in given or "sparsity" in given:
        changes |= {name: given.get(name) for name in ("level", "sparsity")}
    if "ladder" in given:
        changes["ladder"] = os.fspath(given["ladder"])
    weaker = given.get("eps_standard")
    if "eps_standard" in given:
        changes["eps_standard"] = "auto" if weaker == "auto" else None
    plan = FindPlan.parse(dict(plan) | changes)
    parse_rule(plan.tolerance, plan.seeds)
    return plan if weaker in (None, "auto") else _weaker(plan, weaker)


def _weaker(plan: FindPlan, eps: float | str) -> FindPlan:
    """Return a plan by which RA after standard transfer is measured at another radius."""
    radius, largest = parse_number(eps), plan.transfer.test_attack.eps
    if not 0 < radius <= largest:
        raise ConfigError(
            f"--eps-standard {printable(repr(eps))} is no smaller radius: give one above 0 and up to {largest:.6g}, "
            "at which RA is measured after adversarial transfer"
        )
    weaker = plan.transfer.test_attack.at(radius)
    return plan.changed(transfer=plan.transfer.changed(standard_attack=weaker))


def planned_find(
    plan: FindPlan | Place, pretrain: object, dataset: object, batch_size: object, settings: Settings | None
) -> Finding:
    """Return a find by a plan, or by the file of one; of a backbone or a dataset that is in memory where one is."""
    plan = plan if isinstance(plan, FindPlan) else FindPlan.read(plan)
    plan = plan.with_settings(batch_sizes(batch_size, *TRANSFERS)).with_settings(settings or ())
    backbone = pretrain if isinstance(pretrain, Backbone) else load_backbone(plan.pretrain, plan.arch)
    return Finding(plan, backbone, dataset if isinstance(dataset, Dataset) else None)


def _seeds(seeds: int | str, most: int | None) -> tuple[int, int | None]:
    """Return with how many seeds a find begins, and how many it may come to."""
    if isinstance(seeds, int):
        if most is not None:
            raise ConfigError("max_seeds bounds the seeds that are added by themselves: give seeds auto with it")
        return seeds, None
    if seeds != "auto":
        raise ConfigError(f"{printable(repr(seeds))} is no number of seeds, and not auto")
    return FIRST_SEEDS, MOST_SEEDS if most is None else most


def _rule(margin: float | str | None, tolerance: str | None) -> str:
    """Return the rule of the verdict, as plans write it."""
    if tolerance is not None:
        if margin is not None:
            raise ConfigError("a margin is one rule and a tolerance another: give one of them")
        return tolerance
    if margin is None or margin == "auto":
        return MARGIN
    return f"{MARGIN}:{margin}"


TRANSFERS = ("transfer.standard", "transfer.adversarial")


class Drawing(NamedTuple):
    """What a draw goes by."""

    plan: DrawPlan
    backbone: Backbone
    given: Dataset | None

    def images(self) -> Dataset | None:
        """Return the images of the source task, where the method needs any; see `load_dataset`."""
        return self.given if self.given and self.plan.method == "imp" else source_data(self.plan)

    def directory(self) -> Path:
        """Return where it works unless told."""
        return Path("runs") / f"{self.backbone.arch}-{self.backbone.kind}-{self.plan.method}"


def plan_draw(
    *,
    pretrain: Place | Backbone,
    arch: str | None,
    source: Place | Dataset,
    method: Method,
    rounds: int | None,
    preset: Preset,
    precision: Precision,
    image_size: int | None,
    batch_size: object,
    settings: Settings | None,
) -> Drawing:
    """Return the plan of a draw by its options, with its backbone."""
    backbone = pretrain if isinstance(pretrain, Backbone) else load_backbone(pretrain, arch)
    given = source if isinstance(source, Dataset) else None
    ref = source.name if isinstance(source, Dataset) else os.fspath(source)
    plan = _drawing(backbone.kind, ref, method, preset, precision, given).changed(rounds=rounds)
    if plan.recipe and plan.data and (shown := _shown(image_size, source, preset)):
        recipe = plan.recipe.changed(image_size=shown)
        stored = stored_size(given.name if given else dataset_name(ref), recipe)
        plan = plan.changed(recipe=recipe, data=plan.data.changed(image_size=stored))
    sizes = batch_sizes(batch_size, *(["draw.recipe"] if plan.recipe else []))
    plan = plan.with_settings(sizes, at="draw").with_settings(settings or (), at="draw")
    return Drawing(plan, backbone, given)


class Pretraining(NamedTuple):
    """What a pre-training goes by."""

    plan: PretrainPlan
    given: Dataset | None

    def images(self) -> Dataset:
        """Return what to train on; see `load_dataset`."""
        return self.given or load_planned(self.plan.data)

    def directory(self) -> Path:
        """Return where it works unless told."""
        return Path("runs") / f"{self.plan.arch}-{self.plan.kind}"


def plan_pretrain(
    *,
    dataset: Place | Dataset,
    recipe: Kind,
    arch: str | None,
    epochs: int | None,
    seed: int,
    precision: Precision,
    image_size: int | None,
    batch_size: object,
    settings: Settings | None,
) -> Pretraining:
    """Return the plan of a pre-training by its options, with the images where they were given."""
    one_of("recipe", recipe, get_args(Kind))
    check_arch(arch or DEFAULT_ARCH)
    image_size = _shown(image_size, dataset, "quick")
    asked = _asked(dataset, 1.0, image_size)
    name, _ = _about(dataset, asked)
    plan = PretrainPlan.parse(
        {
            "arch": arch or DEFAULT_ARCH,
            "kind": recipe,
            "data": asked,
            "recipe": quick_pretrain(recipe, name, epochs, precision).changed(image_size=image_size),
            "test_attack": pgd(20, habits(name).eps),
            "seed": seed,
        }
    )
    plan = plan.with_settings(batch_sizes(batch_size, "recipe")).with_settings(settings or ())
    check_arch(plan.arch)  # which a setting may have changed
    return Pretraining(plan, _given(dataset, plan.data, asked))


class Finetuning(NamedTuple):
    """What a fine-tuning goes by."""

    plan: TransferPlan
    regime: Regime
    seed: int
    ticket: Ticket
    data: Dataset

    def directory(self) -> Path:
        """Return where it works unless told."""
        about = f"{self.ticket.arch}-{_in_a_path(self.data)}-{self.regime}-seed-{self.seed}"
        return Path("runs") / f"finetune-{about}"


def plan_finetune(
    *,
    ticket: Ticket,
    dataset: Place | Dataset,
    regime: Regime,
    fraction: float,
    seed: int,
    preset: Preset,
    precision: Precision,
    image_size: int | None,
    batch_size: object,
    settings: Settings | None,
) -> Finetuning:
    """Return the plan of a fine-tuning by its options, with the images that it is of."""
    one_of("preset", preset, get_args(Preset))
    one_of("regime", regime, REGIMES)
    given = dataset if isinstance(dataset, Dataset) else None
    if given:
        _asked(given, fraction)  # which is refused beside images
    ref = None if isinstance(dataset, Dataset) else os.fspath(dataset)
    data = given or load_for(ticket.records, ref, fraction=fraction)
    quick = preset == "quick"
    plan = (
        quick_transfer(data.name, len(data.train), precision)
        if quick
        else paper_transfer(data.name, precision, train_images=len(data.train))
    )
    seen = seen_size(ticket.records) if quick else None  # what was trained at 64 pixels goes on at 64
    plan = at_size(plan, _shown(image_size, dataset, preset) or seen)
    for more in (batch_sizes(batch_size, *TRANSFERS), settings or ()):
        plan = plan.with_settings(more, at="transfer")
    stored = stored_size(data.name, plan.recipe(regime))
    if not given and stored != data.train.images.shape[-1]:
        data = load_for(ticket.records, ref, fraction=fraction, image_size=stored)
    return Finetuning(plan, regime, seed, ticket, data)


def _shown(image_size: int | None, dataset: Place | Dataset, preset: Preset) -> int | None:
    """Return the side of what a network is to see, in pixels; of images in memory their own, where none is asked for.

    The paper's views are cut from images of any size.
    """
    if image_size is None and isinstance(dataset, Dataset) and preset == "quick":
        return dataset.train.images.shape[-1]
    return image_size


def _asked(dataset: Place | Dataset, fraction: float, image_size: int | None = None) -> DataPlan:
    """Return which images are asked for, stored at what size; of those in memory what they say of themselves."""
    if not isinstance(dataset, Dataset):
        return DataPlan.parse({"dataset": os.fspath(dataset), "fraction": fraction}).changed(image_size=image_size)
    if fraction != 1:
        raise ConfigError("the images are given as they are; take a fraction where they are loaded")
    said = {
        "dataset": dataset.name,
        "image_size": dataset.train.images.shape[-1],
        "fraction": dataset.fraction,
        "validation": dataset.validation_share,
        "split_seed": dataset.split_seed,
        "revision": dataset.revision,
    }
    return DataPlan.parse({name: value for name, value in said.items() if value is not None})


def _about(dataset: Place | Dataset, asked: DataPlan) -> tuple[str, int]:
    """Return the name of what is asked for and the number of images to train on, on which epochs depend."""
    return (dataset.name, len(dataset.train)) if isinstance(dataset, Dataset) else peek(asked)


def _given(dataset: Place | Dataset, plan: DataPlan, asked: DataPlan) -> Dataset | None:
    """Return the images that were given, if some were."""
    if not isinstance(dataset, Dataset):
        return None
    if plan != asked:
        raise ConfigError("the images are given as they are; no setting of data can change them")
    return dataset


def _drawing(
    kind: Kind, source: str, method: Method, preset: Preset, precision: Precision, given: Dataset | None = None
) -> DrawPlan:
    """Return a preset's drawing; the name and the number of the source's images decide its recipe."""
    one_of("preset", preset, get_args(Preset))
    one_of("method", method, get_args(Method))
    name, images = (given.name, len(given.train)) if given else (source, IMAGES)
    if not given and preset == "quick" and method == "imp" and path_of(source).is_dir():
        name, images = peek(DataPlan(dataset=source))
    return preset_draw(preset, kind, source, name, method, images, precision)


def _named(backbone: Backbone) -> str:
    """Return what a plan says of a backbone that was given as it is."""
    return f"{backbone.kind}:{backbone.provenance.get('source', 'given in Python')}"


def _in_a_path(data: Dataset) -> str:
    return data.name.replace("/", "-")
