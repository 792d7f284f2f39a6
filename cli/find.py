"""`lottery-hub find`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options

if TYPE_CHECKING:
    import torch

    from lottery_hub.settings.config import DrawPlan, Kind, Look, Method, Precision


@options.trains(jobs="batch_size", overwrite="output")
def find_command(
    pretrain: options.Pretrain = "adv",
    arch: options.Arch = None,
    dataset: options.DatasetRef = "digits",
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the training images, stratified and nested; given several times: a verdict for each.",
            metavar="FLOAT",
        ),
    ] = None,
    preset: Annotated[Literal["quick", "paper"], typer.Option(help="Recipes: a laptop's, or the paper's.")] = "quick",
    seeds: Annotated[int, typer.Option(help="Transfers of each regime, with seeds 0, 1, …")] = 1,
    tolerance: Annotated[
        str,
        typer.Option(
            help="auto, std (one deviation of the dense runs), points:X, or noninferiority:X (the 95 % interval of the "
            "difference above -X points). auto: std from 2 seeds, else points:1."
        ),
    ] = "auto",
    scan: Annotated[
        Literal["bisect", "all"], typer.Option(help="Divide the range of levels, or try each wholly.")
    ] = "bisect",
    controls: Annotated[bool, typer.Option("--controls", help="Also transfer OMP and random masks.")] = False,
    checks: Annotated[
        bool,
        typer.Option("--checks", help="Also AutoAttack, and checks that robustness is no masked gradient (minutes)."),
    ] = False,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also accuracy under 15 common corruptions (32x32 images).")
    ] = False,
    unseen: Annotated[bool, typer.Option("--unseen", help="Also RA under attacks in L2 and L1.")] = False,
    ladder: Annotated[str, typer.Option(help="A ladder folder; auto: the packaged one; draw: a new one.")] = "auto",
    method: Annotated[Literal["imp", "omp", "random"] | None, typer.Option(help="Draw by this method.")] = None,
    source: Annotated[str, typer.Option(help="Source task of imp: a dataset, as for --dataset.")] = "cifar100",
    eps: Annotated[str | None, typer.Option(help="Attack radius in [0,1] pixel units, e.g. 8/255.")] = None,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="auto|INT",
            help="Transfers at a time, each on its share of the cores; auto: two a seed, as cores allow; on a GPU one.",
        ),
    ] = "auto",
    overwrite: options.Overwrite = False,
    *,
    how: options.Training,
) -> None:
    """Find the sparsest double-win ticket of a backbone on a dataset, and write its ticket folder."""
    from rich.console import Console

    from lottery_hub.finding import find
    from lottery_hub.images.datasets import load_planned
    from lottery_hub.images.opening import dataset_name
    from lottery_hub.settings.config import DataPlan, FindPlan, parse_number
    from lottery_hub.settings.presets import paper_transfer, quick_transfer, stored_size
    from lottery_hub.sharing.sources import load_backbone

    from .display import Progress, fractions_table, print_next, print_table

    numbers = how.numbers("transfer.standard.", "transfer.adversarial.")
    chosen, exact = how.machine()
    side = _jobs(jobs, seeds, chosen)
    backbone = load_backbone(pretrain, arch)
    options.tell_layout(backbone.provenance)
    drawn = draw_plan(backbone.kind, source, method or "imp", preset, exact)
    radius = parse_number(eps) if eps else None
    shown = paper_transfer(dataset, exact).standard if preset == "paper" else None
    stored = stored_size(dataset_name(dataset), shown) if shown else None
    data_plans = [
        DataPlan.parse({"dataset": dataset, "fraction": share}).changed(image_size=stored)
        for share in fraction or [1.0]
    ]
    asked: dict[Look, bool] = {"checks": checks, "corruptions": corruptions, "unseen": unseen}
    looks = [name for name, wanted in asked.items() if wanted]
    summaries = []
    for data_plan in data_plans:
        data = load_planned(data_plan)
        transfer = (
            quick_transfer(data.name, len(data.train), exact, radius)
            if preset == "quick"
            else paper_transfer(data.name, exact, radius)
        )
        plan = FindPlan.parse(
            {
                "pretrain": pretrain,
                "arch": backbone.arch,
                "data": data_plan,
                "draw": drawn,
                "ladder": "draw" if method and ladder == "auto" else ladder,
                "transfer": transfer,
                "seeds": seeds,
                "tolerance": tolerance,
                "scan": scan,
                "controls": controls,
            }
        ).with_settings(numbers)
        if plan.data != data_plan:
            data = load_planned(plan.data)
        suffix = f"fraction-{data_plan.fraction:g}"
        if how.output is not None:
            directory = how.output / suffix if len(data_plans) > 1 else how.output
        else:
            directory = Path("tickets") / f"{backbone.arch}-{backbone.kind}-{data.name.replace('/', '-')}"
            directory = directory if data_plan.fraction == 1 else directory.with_name(f"{directory.name}-{suffix}")
        with Progress() as progress:
            summaries.append(
                find(
                    plan,
                    directory,
                    data=data,
                    looks=looks,
                    device=chosen,
                    jobs=side,
                    report=progress.report,
                    overwrite=overwrite,
                )
            )
        if not how.as_json:
            _print_summary(summaries[-1], backbone.arch, backbone.kind, data.name)
            print_next(directory, judged=True)
    if how.as_json:
        options.emit(summaries[0] if len(summaries) == 1 else {"fractions": summaries})
    elif len(summaries) > 1:
        print_table(Console(), fractions_table(summaries))


def _jobs(wanted: str, seeds: int, device: torch.device) -> int:
    """Return how many transfers to run at a time."""
    from lottery_hub.errors import printable
    from lottery_hub.training.bench import likely_jobs

    if wanted == "auto":
        return likely_jobs(seeds, device)
    jobs = options.whole_number(wanted)
    if jobs is None or jobs < 1:
        raise typer.BadParameter(f"{printable(wanted)!r} is neither auto nor a number from 1", param_hint="--jobs")
    return jobs


def draw_plan(kind: Kind, source: str, method: Method, preset: str, precision: Precision) -> DrawPlan:
    """Return a preset's drawing; laptop rounds see as many images each, so a subset's rounds have more epochs."""
    from lottery_hub.images.datasets import load_dataset
    from lottery_hub.settings.paths import path_of
    from lottery_hub.settings.presets import paper_draw, quick_draw

    if preset == "paper":
        return paper_draw(kind, source, method, precision)
    name, images = source, 45_000
    if method == "imp" and path_of(source).is_dir():
        images_of = load_dataset(source)
        name, images = images_of.name, len(images_of.train)
    return quick_draw(kind, source, name, method, images, precision)


def _print_summary(summary: dict[str, Any], arch: str, kind: str, dataset: str) -> None:
    from rich.console import Console

    from lottery_hub.errors import printable

    from .display import levels_table, looks_lines, percent, print_table, verdict_table

    console = Console()
    print_table(console, levels_table(summary["dense"], summary["levels"], summary["controls"]))
    print_table(console, verdict_table(summary))
    seeds = f"{summary['seeds']} seed{'s' if summary['seeds'] > 1 else ''}"
    conditions = (
        f"{summary['samples']} test images, {seeds}, RA by {summary['attack']}, tolerance {summary['tolerance']}"
    )
    about = f"{arch} ({kind}) on {printable(dataset)}: {conditions}"
    console.print(about, style="dim", highlight=False, markup=False, soft_wrap=True)
    seen = summary["scrutiny"].get("checks")
    if seen:
        ours, strong = (percent(row["RA"]) for row in seen["attacks"])
        words = "all checks of masked gradients passed" if seen["passed"] else "CHECKS OF MASKED GRADIENTS FAILED"
        about = f"RA {strong} % by AutoAttack where the verdict's attack finds {ours} % ({seen['samples']} test images)"
        console.print(
            f"{about}; {words}", style=None if seen["passed"] else "bold red", highlight=False, soft_wrap=True
        )
    for line in looks_lines(summary["scrutiny"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for caveat in summary["caveats"]:
        console.print(f"caveat: {caveat}", style="yellow", highlight=False, soft_wrap=True)
    (chosen,) = (row for row in summary["levels"] if row["level"] == summary["level"])
    level = f"level {summary['level']}, picked on {summary['validation_samples']} validation images"
    if not chosen["validation"]["double_win"]:
        level += ", where none wins"
    if summary["double_win"]:
        found = f"Double win at {percent(summary['sparsity'])} % sparsity ({level})."
        console.print(found, style="bold green", highlight=False, soft_wrap=True)
    else:
        saved = f"No double win: saved {level}, {percent(summary['sparsity'])} %, marked as such."
        console.print(saved, style="bold red", highlight=False, soft_wrap=True)
    console.print(f"ticket: {summary['ticket']}", highlight=False, markup=False, soft_wrap=True)
