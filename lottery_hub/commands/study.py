"""`study`: a grid of finds, beside each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.commands.options import Options, batch_sizes, beside_a_plan, check_said_once, defaults, taken
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.settings.config import Method, Precision, Settings
    from lottery_hub.settings.plans import FindPlan
    from lottery_hub.settings.studies import CellPlan, StudyPlan
    from lottery_hub.studying import Cell

OUTPUT = "studies/study"


@dataclass(frozen=True)
class Studied:
    """What a study found.

    Attributes:
        folder: with a folder for each cell, and the tables.
        cells: what each find says: its place in the grid, its ticket, sparsity and figures; or why it `failed`.
        differences: between kinds of pre-training, a row a figure and level, with 95 % intervals.
    """

    folder: Path
    cells: list[dict[str, Any]]
    differences: list[dict[str, Any]]

    def __fspath__(self) -> str:
        return str(self.folder)

    def record(self) -> dict[str, Any]:
        """Return everything, JSON-able: what the command prints with `--json`."""
        return {"study": str(self.folder), "cells": self.cells, "differences": self.differences}

    def report(self) -> str:
        """Return what the command prints: a row a cell, and how kinds of pre-training differ."""
        from lottery_hub.reporting.screen import as_text
        from lottery_hub.reporting.study_screen import print_study

        return as_text(lambda console: print_study(console, self.record()))

    def __repr__(self) -> str:
        from lottery_hub.errors import printable

        failed = sum("failed" in cell for cell in self.cells)
        return f"Studied({len(self.cells)} cells, {failed} failed, {printable(self.folder)})"


@dataclass(frozen=True)
class Outline:
    """What a study would do, a row a cell: units, how many of them are finished, and hours for the others."""

    cells: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """Return everything, JSON-able, with sums."""
        sums = {name: sum(row[name] for row in self.cells) for name in ("units", "finished", "hours")}
        return {"cells": self.cells, **sums}


def _settled(given: Options) -> Options:
    """Return the options to go by where a plan is given: with the plan as the others change it."""
    from lottery_hub.settings.studies import StudyPlan

    check_said_once(given, ["preset"])
    plan = given["plan"]
    changed = _changed(plan if isinstance(plan, StudyPlan) else StudyPlan.read(plan), given)
    return {name: value for name, value in given.items() if name not in (*GRID, "settings")} | {"plan": changed}


@beside_a_plan(_settled)
@shows("reading backbones and images")
def study(
    preset: Literal["quick", "paper"] = "quick",
    *,
    pretrain: Sequence[str] | None = None,
    arch: str | None = None,
    dataset: Sequence[str] | None = None,
    fraction: Sequence[float] | None = None,
    method: Sequence[Method] | None = None,
    level: Sequence[int] | None = None,
    scan: Literal["bisect", "all"] | None = None,
    seeds: int | Literal["auto"] | None = None,
    max_seeds: int | None = None,
    confirm: int | None = None,
    margin: float | str | None = None,
    tolerance: str | None = None,
    controls: bool = False,
    source: str | None = None,
    eps: str | None = None,
    eps_standard: float | str | None = None,
    plan: StudyPlan | str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    image_size: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    jobs: int | Literal["auto"] = "auto",
    engine: Literal["local", "ray"] = "local",
    output: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    deterministic: bool = False,
    progress: bool | None = None,
) -> Studied:
    """Find in every cell of a grid, and compare them; nothing that any run has finished is trained again.

    The grid is that of the preset, but for what is given. A study may be given more kinds, datasets, seeds or levels at
    any time: only what is missing is done. A find that fails is told, and the others go on. `lottery-hub study` is this
    function.

    Args:
        preset: the grid and the recipes: `quick` ends in minutes on digits, `paper` is that of Chen et al. 2022.
        pretrain, arch: backbones, as of `find`.
        dataset: downstream datasets.
        fraction: shares of their training images.
        method: how ladders are drawn.
        level: judge these levels, each by itself; else the frontier is looked for.
        scan, seeds, max_seeds, confirm, margin, tolerance, controls, source, eps, eps_standard: as of `find`, for
            all of them; `eps_standard` is a number, since kinds are compared at one radius.
        plan: the whole grid, or its file; what is given beside it, but no preset, changes it.
        settings: what to change in the plan of every find.
        image_size, batch_size, precision, jobs, engine, store, overwrite: as of `find`.
        output: where; None is `studies/study`.
        device, deterministic, progress: as of `find`.

    Returns:
        What every cell says, and how kinds of pre-training differ.

    Raises:
        LotteryHubError: an option is not allowed, or no cell could be done.
    """
    given = dict(locals())  # every option, by its name
    from lottery_hub.running.named import engine_of
    from lottery_hub.running.store import open_store
    from lottery_hub.settings.ambient import deterministic as exactly
    from lottery_hub.settings.environment import choose
    from lottery_hub.settings.paths import place_of
    from lottery_hub.studying import check_possible
    from lottery_hub.studying import study as study_by
    from lottery_hub.telling import heard, if_stopped, kept_in
    from lottery_hub.training.bench import likely_jobs

    chosen, _ = choose(device, precision)
    grid = _grid(given)
    cells = _cells(grid, given)
    check_possible(cells)
    units = open_store(store)
    at_a_time = likely_jobs(_first(grid), chosen) if jobs == "auto" else jobs
    with exactly(deterministic), if_stopped(kept_in(units.directory)), engine_of(engine, chosen, at_a_time) as ran_by:
        summary = study_by(
            cells,
            place_of(output or OUTPUT),
            store=units,
            engine=ran_by,
            device=chosen,
            report=heard(),
            overwrite=overwrite,
        )
    return Studied(Path(summary["study"]), summary["cells"], summary["differences"])


@shows("reading backbones and images")
def outline_of(**options: Any) -> Outline:
    """Return what `study` would do with these options; nothing is trained or written."""
    from lottery_hub.running.named import engine_of
    from lottery_hub.running.store import open_store
    from lottery_hub.settings.environment import choose
    from lottery_hub.settings.paths import place_of
    from lottery_hub.studying import outline
    from lottery_hub.training.bench import likely_jobs

    settled = _settled(options) if options.get("plan") is not None else options
    given = defaults(study) | settled
    chosen, _ = choose(given["device"], given["precision"])
    grid, jobs = _grid(given), given["jobs"]
    at_a_time = likely_jobs(_first(grid), chosen) if jobs == "auto" else jobs
    place = place_of(given["output"] or OUTPUT)
    units = open_store(given["store"])
    with engine_of(given["engine"], chosen, at_a_time) as ran_by:
        return Outline(list(outline(_cells(grid, given), place, store=units, engine=ran_by, device=chosen)))


def plan_of(**options: Any) -> StudyPlan:
    """Return the grid of `study` with these options; nothing is loaded."""
    settled = _settled(options) if options.get("plan") is not None else options
    return _grid(defaults(study) | settled)


def first_plan_of(**options: Any) -> FindPlan:
    """Return the plan of the first find of `study` with these options: what `settings` can change in each."""
    from lottery_hub.sharing.sources import load_backbone

    grid = plan_of(**options)
    first = grid.cells()[0]
    return _planned(grid, first, load_backbone(first.pretrain, grid.arch), defaults(study) | options)


def _first(grid: StudyPlan) -> int:
    """Return with how many seeds its finds begin."""
    return 3 if grid.seeds == "auto" else grid.seeds


LISTS = ("pretrain", "dataset", "fraction", "method", "level")
# Of every find alike.
ALIKE = (
    *("scan", "seeds", "max_seeds", "confirm", "margin", "tolerance", "controls", "source", "eps", "eps_standard"),
    *("image_size", "batch_size", "precision"),
)
GRID = (*LISTS, "arch", *ALIKE)


def _grid(given: Options) -> StudyPlan:
    from lottery_hub.settings.studies import StudyPlan

    if given["plan"] is not None:
        plan: StudyPlan = given["plan"]  # settled already
        return plan
    return _changed(StudyPlan.preset(given["preset"]), given | {"controls": given["controls"] or None})


def _changed(grid: StudyPlan, given: Options) -> StudyPlan:
    """Return a grid as the options that were given change it."""
    from lottery_hub.settings.assigning import written

    asked = {name: given[name] for name in GRID if given.get(name) is not None}
    asked |= {name: _several(asked[name]) for name in LISTS if name in asked}
    asked |= {name: str(asked[name]) for name in ("margin", "eps", "eps_standard") if name in asked}
    if "scan" in asked and "level" not in asked:
        asked["level"] = ()
    changes = (*grid.changes, *written(given.get("settings") or ()))
    return _sound(grid.changed(**asked, changes=changes))


def _sound(grid: StudyPlan) -> StudyPlan:
    """Return a grid whose changes are such of the plan of a find; to know, no backbone and no image is loaded.

    Raises:
        ConfigError: a path or a value is none.
    """
    from lottery_hub.commands.planning import IMAGES, TRANSFERS
    from lottery_hub.settings.plans import FindPlan

    for method in grid.method if grid.changes else ():
        like = FindPlan.preset(grid.recipes, kind="adv", method=method, train_images=IMAGES)
        like.with_settings(batch_sizes(grid.batch_size, *TRANSFERS)).with_settings(grid.changes)
    return grid


def _several(given: object) -> tuple[Any, ...]:
    """Return a list as it is, and what is given by itself as one of one."""
    return (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)


def _cells(grid: StudyPlan, given: dict[str, Any]) -> list[Cell]:
    """Return the finds of a grid; what several begin with is loaded once, when the first needs it."""
    from lottery_hub.images.datasets import load_planned
    from lottery_hub.settings.config import DataPlan
    from lottery_hub.sharing.sources import load_backbone
    from lottery_hub.studying import Cell

    backbones = lru_cache(maxsize=4)(lambda name: load_backbone(name, grid.arch))
    images: Callable[[DataPlan], Dataset] = lru_cache(maxsize=2)(load_planned)

    def load(place: CellPlan) -> tuple[FindPlan, Backbone, Dataset]:
        backbone = backbones(place.pretrain)
        planned = _planned(grid, place, backbone, given)
        return planned, backbone, images(planned.data)

    names: dict[str, int] = {}
    cells = []
    for place in grid.cells():
        name = _name(place)
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}-{names[name]}"
        cells.append(Cell(name, place, partial(load, place)))
    return cells


def _planned(grid: StudyPlan, place: CellPlan, backbone: Backbone, given: dict[str, Any]) -> FindPlan:
    """Return the plan of one find of a grid."""
    from lottery_hub.commands.find import find
    from lottery_hub.commands.planning import plan_find
    from lottery_hub.settings.environment import choose

    options = defaults(find) | {
        "pretrain": backbone,
        "dataset": place.dataset,
        "fraction": place.fraction,
        "level": place.level,
        # By imp a packaged ladder will do.
        "method": None if place.method == "imp" else place.method,
        "preset": grid.recipes,
        **{name: getattr(grid, name) for name in ALIKE},
        "settings": grid.changes,
        "precision": choose(given["device"], grid.precision)[1],
    }
    return plan_find(**taken(options, plan_find)).plan.changed(pretrain=place.pretrain)


def _name(place: CellPlan) -> str:
    """Return what the folder of a cell is called."""
    from lottery_hub.images.opening import dataset_name
    from lottery_hub.settings.paths import path_of

    kind, colon, rest = place.pretrain.partition(":")
    source = path_of(rest or kind)
    pretrain = kind + (f"-{source.stem}" if colon else "") if not source.exists() or colon else source.name
    words = [pretrain, dataset_name(place.dataset), f"{place.fraction:g}", place.method]
    words += [] if place.level is None else [f"level-{place.level:02d}"]
    return "-".join(word.replace("/", "-").replace(":", "-")[:60] for word in words)
