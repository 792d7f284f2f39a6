"""`lottery-hub study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lottery_hub.commands.study import study

from . import options


@options.trains(
    study,
    plan="settings",
    print_plan="settings",
    dry_run="settings",
    jobs="batch_size",
    engine="batch_size",
    store="output",
    overwrite="output",
)
def study_command(
    *,
    preset: Annotated[Literal["quick", "paper"], typer.Option(help="The grid and its recipes, but for what is given.")],
    pretrain: Annotated[list[str] | None, typer.Option(help="As for find; may be given several times.")],
    arch: options.Arch,
    dataset: Annotated[list[str] | None, typer.Option(help="As for find; several times.")],
    fraction: Annotated[list[float] | None, typer.Option(help="Share of the training images; several times.")],
    method: Annotated[
        list[str] | None, typer.Option(metavar="imp|omp|random", help="How ladders are drawn; several times.")
    ],
    level: Annotated[
        list[int] | None,
        typer.Option(min=1, max=64, help="Judge this level by itself; several times.", metavar="INT"),
    ],
    scan: Annotated[Literal["bisect", "all"] | None, typer.Option(help="Look for the frontier, or try all levels.")],
    seeds: Annotated[
        str | None, typer.Option(metavar="auto|INT", help="Transfers of each regime, with seeds 0, 1, …, as for find.")
    ],
    max_seeds: Annotated[int | None, typer.Option(metavar="INT", help="As for find.")],
    confirm: Annotated[int | None, typer.Option(min=0, metavar="INT", help="As for find.")],
    margin: Annotated[str | None, typer.Option(metavar="auto|FLOAT", help="The rule of the verdicts, as for find.")],
    tolerance: Annotated[str | None, typer.Option(metavar="TEXT", help="An older rule, as for find.")],
    controls: Annotated[bool, typer.Option("--controls", help="Also transfer OMP and random masks.")],
    source: Annotated[str | None, typer.Option(help="Source task of imp, where a ladder is drawn.")],
    eps: Annotated[str | None, typer.Option(help="Attack radius in [0,1] pixel units, e.g. 8/255.")],
    eps_standard: Annotated[
        str | None, typer.Option(help="Radius at which RA is measured after standard transfer, e.g. 1/255.")
    ],
    jobs: Annotated[str, typer.Option(metavar="auto|INT", help="Transfers at a time on a machine, as for find.")],
    engine: options.EngineName,
    plan: Annotated[Path | None, typer.Option(help="A file with the grid, as --print-plan prints it.")],
    print_plan: Annotated[bool, typer.Option("--print-plan", help="Print the grid as TOML, and do nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the units, which are finished, and the hours for the others.")
    ] = False,
    store: options.StorePlace,
    overwrite: options.Overwrite,
    how: options.Training,
) -> None:
    """Find in every cell of a grid: kinds of pre-training x datasets x fractions x methods, and compare them."""
    from rich.console import Console

    from lottery_hub.commands.study import first_plan_of, outline_of, plan_of
    from lottery_hub.reporting.study_screen import print_study

    given: dict[str, Any] = {
        "preset": preset,
        "pretrain": pretrain,
        "arch": arch,
        "dataset": dataset,
        "fraction": fraction,
        "method": method,
        "level": level,
        "scan": scan,
        "seeds": None if seeds is None else options.auto_or_number(seeds, least=1, hint="--seeds"),
        "max_seeds": max_seeds,
        "confirm": confirm,
        "margin": margin,
        "tolerance": tolerance,
        "controls": controls,
        "source": source,
        "eps": eps,
        "eps_standard": eps_standard,
        "plan": plan,
        "jobs": options.auto_or_number(jobs, least=1, hint="--jobs"),
        "engine": engine,
        "store": store,
        "output": how.output,
        **how.numbers(),
    }
    asked = how.beside(plan, given)
    if print_plan:
        print(plan_of(**asked).toml(), end="")
        return
    if how.asks_for_settings:
        options.print_settings(first_plan_of(**asked))
        return
    if dry_run:
        ahead = outline_of(**asked).record()
        if how.as_json:
            options.emit(ahead)
        else:
            from lottery_hub.reporting.screen import print_table, words_table

            header = ("cell", "units", "finished", "to be chosen", "hours")
            rows = [
                (row["cell"], str(row["units"]), str(row["finished"]), str(row["to_be_chosen"]), f"{row['hours']:.2f}")
                for row in ahead["cells"]
            ]
            print_table(Console(), words_table(header, rows))
            print(
                f"{ahead['units']} units, {ahead['finished']} of them finished; {ahead['hours']:.2f} hours for the rest"
            )
        return
    done = study(**asked, overwrite=overwrite, progress=True)
    failed = [cell for cell in done.cells if "failed" in cell]
    if how.as_json:
        options.emit(done.record())
    else:
        print_study(Console(), done.record())
    if failed:
        raise typer.Exit(1)
