"""`draw`: a ladder of nested masks from a backbone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.commands.options import defaults, layout_notes, taken
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from lottery_hub.commands.planning import Drawing
    from lottery_hub.commands.results import Drawn
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.settings.config import DrawPlan, Method, Precision, Settings
    from lottery_hub.settings.presets import Preset


@shows("reading backbone and images")
def draw(
    pretrain: str | os.PathLike[str] | Backbone = "adv",
    *,
    arch: str | None = None,
    source: str | os.PathLike[str] | Dataset = "cifar100",
    method: Method = "imp",
    rounds: int | None = None,
    preset: Preset = "quick",
    settings: Settings | None = None,
    image_size: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    output: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    deterministic: bool = False,
    progress: bool | None = None,
) -> Drawn:
    """Draw a ladder of nested masks from a backbone, and write its folder; any `find` can reuse it as its `ladder`.

    A killed draw goes on where it was when it is called again with the same options. `lottery-hub draw` is this
    function.

    Args:
        pretrain, arch: the backbone, as of `find`.
        source: the source task of `imp`: a dataset, as of `load_dataset`, or one itself.
        method: `imp` trains between prunings; `omp` and `random` need no images.
        rounds: levels to draw, each of 80 % of the weights of the one before; None takes the preset's.
        preset, settings, image_size, batch_size, store, overwrite: as of `find`.
        output: where; None is the run directory `runs/ARCH-KIND-METHOD`.
        device, precision, deterministic, progress: as of `find`.

    Returns:
        The ladder and its folder.

    Raises:
        LotteryHubError: an option is not allowed, or what it names cannot be had.

    Source: Chen et al. 2022, section 3; Frankle and Carbin 2019 for iterative magnitude pruning.
    """
    given = dict(locals())  # every option, by its name
    from lottery_hub.commands.results import Drawn
    from lottery_hub.images.fitting import larger_notes
    from lottery_hub.reporting.keeping import kept_ladder
    from lottery_hub.running.runs import open_run
    from lottery_hub.running.store import open_store
    from lottery_hub.settings.ambient import deterministic as exactly
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.settings.paths import place_of
    from lottery_hub.storage.folder import save_ladder
    from lottery_hub.telling import heard, if_stopped, kept_in, tell
    from lottery_hub.training.drawing import draw as draw_by

    chosen = choose_device(device)
    planned = _planned(given)
    plan, backbone, data = planned.plan, planned.backbone, planned.images()
    # By name: where a folder is, or how its path is typed, is not what a run depends on.
    named = plan.changed(data=plan.data.changed(dataset=data.name)) if data and plan.data else plan
    run_settings = {
        "task": "draw",
        "format": 2,
        "plan": named.record(),
        "backbone": backbone.fingerprint(),
        "data": data.fingerprint if data else None,
    }
    directory = planned.directory() if output is None else place_of(output)
    folder = directory / "ladder"
    drawn = kept_ladder(folder, overwrite)
    units = open_store(store)
    with exactly(deterministic), open_run(directory, run_settings), if_stopped(kept_in(units.directory)):
        tell("notes", lines=[*layout_notes(backbone.provenance), *(data.notes if data else ())])
        tell("notes", lines=larger_notes(data, plan.recipe.image_size) if data and plan.recipe else [])
        ladder = drawn or draw_by(backbone, plan, data=data, store=units, device=chosen, report=heard())
        if not drawn:
            save_ladder(ladder, folder, overwrite=overwrite)
    return Drawn(folder, ladder)


def plan_of(**options: Any) -> DrawPlan:
    """Return the plan by which `draw` goes with these options; nothing is trained or written."""
    return _planned(defaults(draw) | options).plan


def _planned(given: dict[str, Any]) -> Drawing:
    from lottery_hub.commands.planning import plan_draw
    from lottery_hub.settings.environment import choose

    precision = choose(given["device"], given["precision"])[1]
    return plan_draw(**taken(given, plan_draw) | {"precision": precision})
