"""`lottery-hub pretrain` and `lottery-hub draw`: what a find starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options


@options.trains()
def pretrain_command(
    dataset: options.DatasetRef,
    recipe: Annotated[Literal["std", "fast-adv", "adv"], typer.Option(help="fast-adv is N-FGSM, adv is PGD.")] = "adv",
    arch: options.Arch = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images; 30 unless given.")] = None,
    seed: options.Seed = 0,
    *,
    how: options.Training,
) -> None:
    """Pre-train a backbone from scratch and write its folder."""
    from lottery_hub.images.datasets import load_planned
    from lottery_hub.networks.backbones import DEFAULT_ARCH, check_arch
    from lottery_hub.running.runs import CHECKPOINT, open_run
    from lottery_hub.settings.config import DataPlan, PretrainPlan
    from lottery_hub.settings.presets import habits, pgd, quick_pretrain
    from lottery_hub.storage.folder import save_backbone
    from lottery_hub.training.pretraining import pretrain

    from .display import Progress, percent

    check_arch(arch or DEFAULT_ARCH)
    chosen, exact = how.machine()
    data_plan = DataPlan.parse({"dataset": dataset})
    data = load_planned(data_plan)
    plan = PretrainPlan.parse(
        {
            "arch": arch or DEFAULT_ARCH,
            "kind": recipe,
            "data": data_plan,
            "recipe": quick_pretrain(recipe, data.name, epochs, exact),
            "test_attack": pgd(20, habits(data.name).eps),
            "seed": seed,
        }
    ).with_settings(how.numbers("recipe."))
    check_arch(plan.arch)  # which a setting may have changed
    if plan.data != data_plan:
        data = load_planned(plan.data)
    directory = how.output or Path("runs") / f"{plan.arch}-{plan.kind}"
    # By name: where a folder is, or how its path is typed, is not what a run depends on.
    named = plan.changed(data=plan.data.changed(dataset=data.name))
    run_settings = {"task": "pretrain", "plan": named.record(), "data": data.fingerprint}
    with open_run(directory, run_settings) as run, Progress() as progress:
        options.tell_notes(data.notes)

        def work(folder: Path) -> dict[str, object]:
            backbone = pretrain(
                plan,
                data,
                device=chosen,
                checkpoint=folder / CHECKPOINT,
                on_epoch=lambda epoch: progress.report("epoch", {"unit": f"pretrain {recipe}"} | epoch),
            )
            save_backbone(backbone, folder / "backbone", overwrite=True)
            return backbone.records

        record = run.once("pretrain", work)
        folder = run.folder("pretrain") / "backbone"
    if how.as_json:
        options.emit({"backbone": str(folder), "test": record["test"], "test_attack": record["test_attack"]})
    else:
        test = record["test"]
        measured = f"{record['test_attack']}, {test['samples']} images"
        print(f"SA {percent(test['SA'])} %, RA {percent(test['RA'])} % ({measured})")
        print(f"backbone: {folder}")


@options.trains(overwrite="output")
def draw_command(
    pretrain: options.Pretrain = "adv",
    arch: options.Arch = None,
    source: Annotated[str, typer.Option(help="Source task: a dataset, as for find --dataset.")] = "cifar100",
    method: Annotated[Literal["imp", "omp", "random"], typer.Option(help="How masks are drawn.")] = "imp",
    rounds: Annotated[int | None, typer.Option(help="Levels to draw; each takes 20 % of what remains.")] = None,
    preset: Annotated[Literal["quick", "paper"], typer.Option(help="Recipes: a laptop's, or the paper's.")] = "quick",
    overwrite: options.Overwrite = False,
    *,
    how: options.Training,
) -> None:
    """Draw a ladder of nested masks from a backbone; any find can reuse it with --ladder."""
    from lottery_hub.reporting.keeping import kept_ladder
    from lottery_hub.running.runs import open_run
    from lottery_hub.sharing.sources import load_backbone
    from lottery_hub.storage.folder import save_ladder
    from lottery_hub.training.drawing import draw, source_data

    from .display import Progress, percent
    from .find import draw_plan

    chosen, exact = how.machine()
    backbone = load_backbone(pretrain, arch)
    options.tell_layout(backbone.provenance)
    plan = draw_plan(backbone.kind, source, method, preset, exact).changed(rounds=rounds)
    plan = plan.with_settings(how.numbers(*(["recipe."] if plan.recipe else [])))
    data = source_data(plan)
    directory = how.output or Path("runs") / f"{backbone.arch}-{backbone.kind}-{method}"
    named = plan.changed(data=plan.data.changed(dataset=data.name)) if data and plan.data else plan
    run_settings = {
        "task": "draw",
        "plan": named.record(),
        "backbone": backbone.fingerprint(),
        "data": data.fingerprint if data else None,
    }
    folder = directory / "ladder"
    drawn = kept_ladder(folder, overwrite)
    with open_run(directory, run_settings) as run, Progress() as progress:
        options.tell_notes(data.notes if data else ())
        ladder = drawn or draw(backbone, plan, data=data, run=run, device=chosen, report=progress.report)
        if not drawn:
            save_ladder(ladder, folder, overwrite=overwrite)
    if how.as_json:
        options.emit({"ladder": str(folder), "method": method, "sparsities": list(ladder.sparsities)})
    else:
        print(f"{ladder.levels} levels, up to {percent(ladder.sparsities[-1])} % sparsity")
        print(f"ladder: {folder}")
