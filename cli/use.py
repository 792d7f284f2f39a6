"""`lottery-hub finetune` and `evaluate`: what one does with a ticket."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lottery_hub.commands.evaluate import evaluate
from lottery_hub.commands.finetune import finetune

from . import options


@options.trains(finetune)
def finetune_command(
    ticket: options.Ref,
    dataset: options.DatasetRef,
    regime: Annotated[Literal["standard", "adversarial"], typer.Option(help="Of the training.")],
    fraction: options.Fraction,
    sparsity: options.Sparsity,
    seed: options.Seed,
    preset: options.Preset,
    *,
    how: options.Training,
) -> None:
    """Fine-tune a ticket on a dataset behind a fresh head, and write the trained ticket."""
    from lottery_hub.commands.finetune import plan_of

    given = {
        "ticket": ticket,
        "dataset": dataset,
        "regime": regime,
        "fraction": fraction,
        "sparsity": sparsity,
        "seed": seed,
        "preset": preset,
        **how.numbers(),
    }
    if how.asks_for_settings:
        options.print_settings(plan_of(**given), at="transfer")
        return
    done = finetune(**given, output=how.output, progress=True)
    if how.as_json:
        options.emit(done.record())
    else:
        from lottery_hub.reporting.screen import percent, print_next

        accuracy = done.accuracy
        measured = f"{done.attack}, {accuracy.samples} images"
        print(f"SA {percent(accuracy.SA)} %, RA {percent(accuracy.RA)} % ({measured})")
        print(f"trained network: {done.folder}")
        print_next(done.directory, dataset)


@options.defaults_of(evaluate)
def evaluate_command(
    ref: options.NetworkRef,
    dataset: options.RecordedDataset,
    regime: options.WhichRegime,
    trained_seed: options.WhichTrainedSeed,
    itself: options.TheTicket,
    arch: options.Arch,
    sparsity: options.Sparsity,
    attack: Annotated[
        str,
        typer.Option(
            help="pgd-20 (any number of steps), autoattack, its parts apgd-ce, apgd-dlr, square, or none for SA only."
        ),
    ],
    eps: Annotated[str | None, typer.Option(help="Attack radius in [0,1] pixel units, e.g. 8/255.")],
    norm: Annotated[Literal["linf", "l2", "l1"], typer.Option(help="Of the attack; l1 for autoattack and its parts.")],
    restarts: Annotated[int, typer.Option(help="Random starts; one that breaks an image counts.")],
    transfer_from: Annotated[
        str | None,
        typer.Option(
            help="Another network, as REF and of the same classes, that is attacked in its place: a black box.",
            metavar="REF",
            show_default=False,
        ),
    ],
    checks: Annotated[
        bool, typer.Option("--checks", help="Also check that robustness is no masked gradient (Linf; minutes).")
    ],
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also accuracy under 15 common corruptions (32x32 images).")
    ],
    unseen: Annotated[bool, typer.Option("--unseen", help="Also RA under attacks in L2 and L1.")],
    curve: Annotated[
        bool, typer.Option("--curve", help="Also RA over the radius, by the attack and by AutoAttack (minutes).")
    ],
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="So many test images, drawn with --seed; all unless given.", show_default=False),
    ],
    seed: options.Seed,
    image_size: options.ImageSize,
    device: options.Device,
    as_json: options.Json = False,
) -> None:
    """Measure SA and RA of a network on a dataset's test split: of a judged ticket the one trained from it."""
    from rich.console import Console

    done = evaluate(
        ref,
        dataset,
        regime=regime,
        trained_seed=trained_seed,
        itself=itself,
        arch=arch,
        sparsity=sparsity,
        attack=attack,
        eps=eps,
        norm=norm,
        restarts=restarts,
        transfer_from=transfer_from,
        checks=checks,
        corruptions=corruptions,
        unseen=unseen,
        curve=curve,
        samples=samples,
        seed=seed,
        image_size=image_size,
        device=device,
        progress=True,
    )
    if as_json:
        options.emit(done.record())
        return
    from lottery_hub.reporting.details import curve_rows
    from lottery_hub.reporting.screen import corruptions_table, percent, print_table, words_table

    robust = "" if done.attack is None else f", RA {percent(done.RA)} % ({done.attack})"
    of = f" of {done.of}, drawn with seed {seed}" if samples is not None else ""
    print(f"{done.backbone} {done.network}")
    print(f"{done.dataset}: SA {percent(done.SA)} %{robust}, {done.accuracy.samples} test images{of}")
    for check in done.checks:
        figures = ", ".join(f"{name} {percent(share)}" for name, share in check.figures.items())
        print(f"{'passed' if check.passed else 'FAILED'}: {check.name} (RA %: {figures})")
    for row in done.unseen:
        print(f"RA {percent(row['RA'])} % ({row['attack']})")
    if done.curve:
        print_table(Console(), words_table(*curve_rows(done.curve)))
    if done.corruptions:
        print_table(Console(), corruptions_table(done.corruptions["correct"], done.accuracy.samples))
        print(f"mean over corruptions: {percent(done.corruptions['mean'])} %; frost is a procedural stand-in")
