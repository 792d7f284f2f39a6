"""`find`: the sparsest double-win ticket of a backbone on a dataset."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.commands.options import Options, beside_a_plan, check_said_once, defaults, layout_notes, taken
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from lottery_hub.commands.planning import Finding
    from lottery_hub.commands.results import Found
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.settings.config import Look, Method, Precision, Settings
    from lottery_hub.settings.plans import FindPlan
    from lottery_hub.settings.presets import Preset


def _settled(given: Options) -> Options:
    """Return the options to go by where a plan is given: with the plan as the others change it."""
    from lottery_hub.commands.planning import CHANGES, changed_plan, plan_find

    in_memory = [name for name in ("pretrain", "dataset") if not isinstance(given.get(name, ""), str | os.PathLike)]
    beside = {"settings", "batch_size", *in_memory, *CHANGES}
    check_said_once(given, inspect.signature(plan_find).parameters.keys() - beside)
    changes = {name: value for name, value in given.items() if name in CHANGES}
    rest = {name: value for name, value in given.items() if name not in CHANGES}
    return rest | {"plan": changed_plan(given["plan"], changes)}


@beside_a_plan(_settled)
@shows("reading backbone and images")
def find(
    pretrain: str | os.PathLike[str] | Backbone = "adv",
    *,
    arch: str | None = None,
    dataset: str | os.PathLike[str] | Dataset = "digits",
    fraction: float = 1.0,
    preset: Preset = "quick",
    seeds: int | Literal["auto"] = 1,
    max_seeds: int | None = None,
    confirm: int | None = None,
    margin: float | Literal["auto"] | None = None,
    tolerance: str | None = None,
    scan: Literal["bisect", "all"] = "bisect",
    level: int | None = None,
    sparsity: float | None = None,
    controls: bool = False,
    checks: bool = False,
    corruptions: bool = False,
    unseen: bool = False,
    curve: bool = False,
    ladder: str | os.PathLike[str] = "auto",
    method: Method | None = None,
    source: str | os.PathLike[str] = "cifar100",
    eps: float | str | None = None,
    eps_standard: float | str | None = None,
    plan: FindPlan | str | os.PathLike[str] | None = None,
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
) -> Found:
    """Find the sparsest double-win ticket of a backbone on a dataset, and write its ticket folder.

    What any run has finished is not trained again, see `store`: a killed find goes on where it was, a finished one
    grows by what other options ask for, and given again it writes nothing. `lottery-hub find` is this function.

    Args:
        pretrain: `std`, `fast-adv` or `adv`, a checkpoint, a folder or a repository, as of `load_backbone`; or a
            backbone itself.
        arch: one of `backbones.ARCHITECTURES`; None takes the backbone's own, else `resnet18-slim`.
        dataset: the downstream dataset, as of `load_dataset`, or one itself.
        fraction: share of the training images, in (0, 1].
        preset: `quick` for a laptop and 32x32 images, or `paper`.
        seeds: transfers of each regime, with seeds 0 to seeds - 1; `auto` begins with three, and adds some to what is
            undecided.
        max_seeds: how many `auto` may come to; 8 unless given.
        confirm: give the verdict on so many seeds that had no part in picking the level; None does where that costs
            less than a quarter of the find.
        margin: how many points worse than dense still counts as no worse; `auto` is the smallest of 1, 2, 3 and 5 that
            the data can tell.
        tolerance: an older rule instead: `std`, `points:X` or `noninferiority:X`, X in percentage points.
        scan: `bisect` the levels, or run `all`.
        level, sparsity: judge one level alone, by its number or as the one nearest to a sparsity, in 0..1.
        controls: also transfer OMP and random masks.
        checks, corruptions, unseen, curve: closer looks at the networks behind the verdict.
        ladder: a ladder's folder or repository; `auto` is the one in the folder that `pretrain` names, or the packaged
            one, or a new one; `draw` is a new one.
        method: draw by this method.
        source: the source task of `imp`, a dataset.
        eps: radius of the attacks in [0,1] pixel units, a number or "8/255"; None takes the dataset's.
        eps_standard: radius at which RA is measured after standard transfer, where networks withstand nothing of the
            larger one; `auto` finds one at which dense withstands 10 to 60 %.
        plan: every number, or its file. Of the options above, those that are one number of it (`seeds`, `max_seeds`,
            `confirm`, `margin`, `tolerance`, `scan`, `level`, `sparsity`, `controls`, `ladder`, `eps_standard`) change
            it where they are given beside it, and a backbone or dataset may be one in memory; the others are refused.
        settings: what to change in the plan, as `with_settings` takes it.
        image_size: side of what the networks see, in pixels; None takes the preset's, or that of images in memory.
        batch_size: images a step of transfers; `auto` is the preset's.
        jobs: transfers at a time; `auto` is two a seed as cores allow, on a GPU up to four.
        engine: what runs the transfers: `local`, threads of this process; or `ray`, a cluster at `RAY_ADDRESS` or one
            that is started here.
        output: the run directory; None takes `tickets/ARCH-KIND-DATASET`.
        store: the folder of finished units; None is `LOTTERY_HUB_STORE`, or one beside the Hub's cache.
        overwrite: where something of others' is in the way there, move it aside.
        device: `auto`, `cpu`, `cuda`, a certain GPU as `cuda:1`, or `mps`.
        precision: of convolutions in training; `auto` is bfloat16 where the chip is fast in it.
        deterministic: have every kernel add in one order, so that a GPU gives the same bits every time; slower there.
        progress: whether to show it; None does where a terminal or a notebook watches.

    Returns:
        The ticket, the verdict and every figure it rests on.

    Raises:
        LotteryHubError: an option is not allowed, or what it names cannot be had.
    """
    given = dict(locals())  # every option, by its name
    from lottery_hub.commands.results import Found
    from lottery_hub.finding import find as find_by
    from lottery_hub.images.fitting import larger_notes
    from lottery_hub.running.named import engine_of
    from lottery_hub.running.store import open_store
    from lottery_hub.settings.ambient import deterministic as exactly
    from lottery_hub.settings.environment import choose
    from lottery_hub.telling import heard, if_stopped, kept_in, tell
    from lottery_hub.training.bench import likely_jobs

    chosen, _ = choose(device, precision)
    planned = _planned(given)
    backbone, data = planned.backbone, planned.images()
    looks: dict[Look, bool] = {"checks": checks, "corruptions": corruptions, "unseen": unseen, "curve": curve}
    at_a_time = likely_jobs(planned.plan.seeds, chosen) if jobs == "auto" else jobs
    units = open_store(store)
    with exactly(deterministic), if_stopped(kept_in(units.directory)), engine_of(engine, chosen, at_a_time) as ran_by:
        larger = larger_notes(data, planned.plan.transfer.standard.image_size)
        tell("notes", lines=[*layout_notes(backbone.provenance), *larger])
        summary = find_by(
            planned.plan,
            planned.directory(data) if output is None else output,
            backbone=backbone,
            data=data,
            looks=[name for name, wanted in looks.items() if wanted],
            device=chosen,
            engine=ran_by,
            report=heard(),
            overwrite=overwrite,
            store=units,
        )
    return Found.of(summary, backbone, data)


def plan_of(**options: Any) -> FindPlan:
    """Return the plan by which `find` goes with these options; nothing is trained or written."""
    settled = _settled(options) if options.get("plan") is not None else options
    return _planned(defaults(find) | settled).plan


def _planned(given: dict[str, Any]) -> Finding:
    from lottery_hub.commands.planning import plan_find, planned_find
    from lottery_hub.settings.environment import choose

    if given["plan"] is None:
        precision = choose(given["device"], given["precision"])[1]
        return plan_find(**taken(given, plan_find) | {"precision": precision})
    return planned_find(**taken(given, planned_find))
