"""`pretrain`: a backbone from scratch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.commands.options import defaults, taken
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from pathlib import Path

    from lottery_hub.commands.planning import Pretraining
    from lottery_hub.commands.results import Pretrained
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.settings.config import Kind, Precision, PretrainPlan, Settings
    from lottery_hub.settings.ranks import Ranks


@shows("reading images")
def pretrain(
    dataset: str | os.PathLike[str] | Dataset,
    *,
    recipe: Kind = "adv",
    arch: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    image_size: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    output: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    deterministic: bool = False,
    progress: bool | None = None,
) -> Pretrained:
    """Pre-train a backbone from scratch, and write its folder; `find` and `draw` take it as their `pretrain`.

    A killed one goes on where it was when it is called again with the same options. `lottery-hub pretrain` is this
    function.

    Args:
        dataset: what to train on, as of `load_dataset`, or a dataset itself.
        recipe: `std`, `fast-adv` (N-FGSM) or `adv` (PGD).
        arch: one of `backbones.ARCHITECTURES`; None takes `resnet18-slim`.
        epochs: passes over the training images; None makes 30.
        seed: of weights, data order and attack starts.
        settings, image_size, batch_size: as of `find`.
        output: where; None is the run directory `runs/ARCH-KIND`.
        device, precision, deterministic, progress: as of `find`.

    Returns:
        The backbone, its folder, and how it fares on the test images.

    Raises:
        LotteryHubError: an option is not allowed, or what it names cannot be had.
    """
    given = dict(locals())  # every option, by its name
    from lottery_hub.commands.results import Pretrained
    from lottery_hub.images.fitting import larger_notes
    from lottery_hub.running.runs import CHECKPOINT, open_run
    from lottery_hub.settings import passes
    from lottery_hub.settings.ambient import deterministic as exactly
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.settings.paths import place_of
    from lottery_hub.settings.ranks import together
    from lottery_hub.storage.folder import save_backbone
    from lottery_hub.telling import if_stopped, kept_in, tell, working
    from lottery_hub.training.pretraining import pretrain as pretrain_by

    chosen = choose_device(device)
    planned = _planned(given)
    plan, data = planned.plan, planned.images()
    # By name: where a folder is, or how its path is typed, is not what a run depends on.
    named = plan.changed(data=plan.data.changed(dataset=data.name))
    run_settings = {"task": "pretrain", "plan": named.record(), "data": data.fingerprint}
    directory = planned.directory() if output is None else place_of(output)
    counts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"unit": "round", "recipe": plan.recipe.record(), "attack": plan.test_attack.record(), "data": counts}
    with exactly(deterministic), open_run(directory, run_settings) as run, if_stopped(kept_in(directory)):
        tell("notes", lines=[*data.notes, *larger_notes(data, plan.recipe.image_size)])

        def work(folder: Path) -> dict[str, Any]:
            shared = together(_take_part, planned, chosen.type)
            with shared as ranks, working(f"pretrain {plan.kind}", passes.of_unit(about)):
                backbone = pretrain_by(
                    plan,
                    data,
                    device=chosen,
                    checkpoint=folder / CHECKPOINT,
                    on_epoch=lambda epoch: tell("epoch", **epoch),
                    ranks=ranks,
                )
            save_backbone(backbone, folder / "backbone", overwrite=True)
            return backbone.records

        return Pretrained(run.folder("pretrain") / "backbone", run.once("pretrain", work))


def plan_of(**options: Any) -> PretrainPlan:
    """Return the plan by which `pretrain` goes with these options; nothing is trained or written."""
    return _planned(defaults(pretrain) | options).plan


def _take_part(planned: Pretraining, kind: str, ranks: Ranks) -> None:
    """Pre-train with the process that keeps it, on this process's device of a kind."""
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.training.pretraining import pretrain as pretrain_by

    pretrain_by(planned.plan, planned.images(), device=choose_device(kind), ranks=ranks)


def _planned(given: dict[str, Any]) -> Pretraining:
    from lottery_hub.commands.planning import plan_pretrain
    from lottery_hub.settings.environment import choose

    precision = choose(given["device"], given["precision"])[1]
    return plan_pretrain(**taken(given, plan_pretrain) | {"precision": precision})
