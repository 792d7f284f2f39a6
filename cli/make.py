"""`lottery-hub pretrain` and `lottery-hub draw`: what a find starts from."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lottery_hub.commands.draw import draw
from lottery_hub.commands.pretrain import pretrain

from . import options


@options.trains(pretrain)
def pretrain_command(
    dataset: options.DatasetRef,
    recipe: Annotated[Literal["std", "fast-adv", "adv"], typer.Option(help="fast-adv is N-FGSM, adv is PGD.")],
    arch: options.Arch,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images; 30 unless given.")],
    seed: options.Seed,
    *,
    how: options.Training,
) -> None:
    """Pre-train a backbone from scratch and write its folder."""
    from lottery_hub.commands.pretrain import plan_of
    from lottery_hub.values import percent

    given = {"dataset": dataset, "recipe": recipe, "arch": arch, "epochs": epochs, "seed": seed, **how.numbers()}
    if how.asks_for_settings:
        options.print_settings(plan_of(**given))
        return
    done = pretrain(**given, output=how.output, progress=True)
    if how.as_json:
        options.emit(done.record())
    else:
        accuracy = done.accuracy
        measured = f"{done.attack}, {accuracy.samples} images"
        print(f"SA {percent(accuracy.SA)} %, RA {percent(accuracy.RA)} % ({measured})")
        print(f"backbone: {done.folder}")


@options.trains(draw, store="output", overwrite="output")
def draw_command(
    pretrain: options.Pretrain,
    arch: options.Arch,
    source: Annotated[str, typer.Option(help="Source task: a dataset, as for find --dataset.")],
    method: Annotated[Literal["imp", "omp", "random"], typer.Option(help="How masks are drawn.")],
    rounds: Annotated[int | None, typer.Option(help="Levels to draw; each takes 20 % of what remains.")],
    preset: options.Preset,
    store: options.StorePlace,
    overwrite: options.Overwrite,
    *,
    how: options.Training,
) -> None:
    """Draw a ladder of nested masks from a backbone; any find can reuse it with --ladder."""
    from lottery_hub.commands.draw import plan_of
    from lottery_hub.values import percent

    given = {
        "pretrain": pretrain,
        "arch": arch,
        "source": source,
        "method": method,
        "rounds": rounds,
        "preset": preset,
        **how.numbers(),
    }
    if how.asks_for_settings:
        options.print_settings(plan_of(**given), at="draw")
        return
    done = draw(**given, output=how.output, store=store, overwrite=overwrite, progress=True)
    if how.as_json:
        options.emit(done.record())
    else:
        print(f"{done.ladder.levels} levels, up to {percent(done.ladder.sparsities[-1])} % sparsity")
        print(f"ladder: {done.folder}")
