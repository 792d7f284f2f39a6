"""`lottery-hub find`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lottery_hub.commands.find import find
from lottery_hub.errors import TicketError, printable

from . import options

if TYPE_CHECKING:
    from lottery_hub.commands.results import Found


@options.trains(
    find,
    plan="settings",
    print_plan="settings",
    jobs="batch_size",
    engine="batch_size",
    store="output",
    overwrite="output",
)
def find_command(
    *,
    pretrain: options.Pretrain,
    arch: options.Arch,
    dataset: options.DatasetRef,
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the training images, stratified and nested; given several times: a verdict for each.",
            metavar="FLOAT",
        ),
    ] = None,
    preset: options.Preset,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="auto|INT",
            help="Transfers of each regime, with seeds 0, 1, …; auto: 3, and more where that decides something.",
        ),
    ],
    max_seeds: Annotated[
        int | None, typer.Option(metavar="INT", help="How many --seeds auto may come to; 8 unless given.")
    ],
    confirm: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="INT",
            help="Give the verdict on so many seeds that had no part in picking the level; unless given, where that "
            "costs less than a quarter of the find.",
        ),
    ],
    margin: Annotated[
        str | None,
        typer.Option(
            metavar="auto|FLOAT",
            help="How many points worse than dense still counts as no worse; auto: the smallest of 1, 2, 3 and 5 that "
            "the data can tell. The whole 95 % interval must lie above.",
        ),
    ],
    tolerance: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="An older rule instead, which knows no chance of runs: std (one deviation of the dense runs), "
            "points:X, or noninferiority:X (the interval over images alone).",
        ),
    ],
    scan: Annotated[Literal["bisect", "all"], typer.Option(help="Divide the range of levels, or try each wholly.")],
    level: Annotated[
        int | None, typer.Option(min=1, max=64, metavar="INT", help="Judge this level of the ladder alone.")
    ],
    sparsity: Annotated[
        float | None,
        typer.Option(help="Judge the level nearest to this sparsity alone, in 0..1.", callback=options.finite_or_none),
    ],
    controls: Annotated[bool, typer.Option("--controls", help="Also transfer OMP and random masks.")],
    checks: Annotated[
        bool,
        typer.Option("--checks", help="Also AutoAttack, and checks that robustness is no masked gradient (minutes)."),
    ],
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also accuracy under 15 common corruptions (32x32 images).")
    ],
    unseen: Annotated[bool, typer.Option("--unseen", help="Also RA under attacks in L2 and L1.")],
    curve: Annotated[
        bool, typer.Option("--curve", help="Also RA over the radius, by the attack and by AutoAttack (minutes).")
    ],
    ladder: Annotated[
        str, typer.Option(help="A ladder folder; auto: the one in --pretrain, or packaged; draw: a new one.")
    ],
    method: Annotated[Literal["imp", "omp", "random"] | None, typer.Option(help="Draw by this method.")],
    source: Annotated[str, typer.Option(help="Source task of imp: a dataset, as for --dataset.")],
    eps: Annotated[str | None, typer.Option(help="Attack radius in [0,1] pixel units, e.g. 8/255.")],
    eps_standard: Annotated[
        str | None,
        typer.Option(
            metavar="auto|FLOAT",
            help="Measure RA after standard transfer at this radius, where networks withstand nothing of the larger "
            "one, e.g. 1/255; auto: one at which dense withstands 10 to 60 %.",
        ),
    ],
    jobs: Annotated[
        str,
        typer.Option(
            metavar="auto|INT",
            help="Transfers at a time, sharing the cores; auto: two a seed as cores allow, on a GPU up to 4.",
        ),
    ],
    engine: options.EngineName,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="A file with every number, as --print-plan prints it; --seeds to --ladder above, --eps-standard and "
            "--set change it."
        ),
    ],
    print_plan: Annotated[
        bool, typer.Option("--print-plan", help="Print the plan as TOML, and train nothing.")
    ] = False,
    store: options.StorePlace,
    overwrite: options.Overwrite,
    how: options.Training,
) -> None:
    """Find the sparsest double-win ticket of a backbone on a dataset, and write its ticket folder."""
    from rich.console import Console

    from lottery_hub.commands.find import plan_of
    from lottery_hub.settings.plans import FindPlan

    shares = fraction or [1.0]
    if len(shares) > 1:
        _check(dataset, shares)
    given: dict[str, Any] = {
        "pretrain": pretrain,
        "arch": arch,
        "dataset": dataset,
        "preset": preset,
        "seeds": options.auto_or_number(str(seeds), least=0, hint="--seeds"),
        "max_seeds": max_seeds,
        "confirm": confirm,
        "margin": margin,
        "tolerance": tolerance,
        "scan": scan,
        "level": level,
        "sparsity": sparsity,
        "controls": controls,
        "ladder": ladder,
        "method": method,
        "source": source,
        "eps": eps,
        "eps_standard": eps_standard,
        "plan": plan,
        **how.numbers(),
    }
    if print_plan or how.asks_for_settings:
        for share in shares:
            asked = plan_of(**how.beside(plan, given | {"fraction": share}))
            print(asked.toml(), end="") if print_plan else options.print_settings(asked)
        return
    finds = []
    for share in shares:
        finds.append(
            find(
                **how.beside(plan, given | {"fraction": share}),
                checks=checks,
                corruptions=corruptions,
                unseen=unseen,
                curve=curve,
                jobs=options.auto_or_number(jobs, least=1, hint="--jobs"),
                engine=engine,
                output=how.output / f"fraction-{share:g}" if how.output and len(shares) > 1 else how.output,
                store=store,
                overwrite=overwrite,
                progress=True,
            )
        )
        from lottery_hub.reporting.screen import fractions_table, print_find, print_next, print_table
        from lottery_hub.reporting.showing import showing

        with showing("drawing the report"):
            page = _page(finds[-1])
        if not how.as_json:
            print_find(Console(), finds[-1].record(), finds[-1].about)
            if page is not None:
                print(f"report: {printable(page, 1000)}")
            print_next(finds[-1].folder.parent, FindPlan.read(plan).data.dataset if plan else dataset, judged=True)
    summaries = [found.record() for found in finds]
    if how.as_json:
        options.emit(summaries[0] if len(summaries) == 1 else {"fractions": summaries})
    elif len(summaries) > 1:
        print_table(Console(), fractions_table(summaries))


def _check(dataset: str, shares: list[float]) -> None:
    """Have all shares be sound before the first is begun."""
    from lottery_hub.settings.config import DataPlan

    for share in shares:
        DataPlan.parse({"dataset": dataset, "fraction": share})


def _page(found: Found) -> Path | None:
    """Write the report; after hours of work, one that somebody changed is no error."""
    try:
        return found.page()
    except TicketError as problem:
        print(f"note: no new report: {printable(problem, 2000)}", file=sys.stderr)
        return None
