"""`lottery-hub finetune` and `evaluate`: what one does with a ticket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options


@options.trains()
def finetune_command(
    ticket: options.Ref,
    dataset: options.DatasetRef = "digits",
    regime: Annotated[Literal["standard", "adversarial"], typer.Option(help="Of the training.")] = "standard",
    fraction: options.Fraction = 1.0,
    sparsity: options.Sparsity = None,
    seed: options.Seed = 0,
    preset: Annotated[Literal["quick", "paper"], typer.Option(help="Recipes: a laptop's, or the paper's.")] = "quick",
    *,
    how: options.Training,
) -> None:
    """Fine-tune a ticket on a dataset behind a fresh head, and write the trained ticket."""
    from dataclasses import replace

    from lottery_hub.images.recorded import load_for, seen_size
    from lottery_hub.reporting.cards import render_card
    from lottery_hub.running.runs import CHECKPOINT, open_run
    from lottery_hub.settings.presets import paper_transfer, quick_transfer, stored_size
    from lottery_hub.sharing.pulling import load_ticket
    from lottery_hub.storage.folder import save_ticket
    from lottery_hub.storage.records import check_ticket
    from lottery_hub.training.transferring import start_of, transfer

    from .display import Progress, percent, print_next

    chosen, exact = how.machine()
    start = load_ticket(ticket, sparsity)
    check_ticket(start)
    data = load_for(start.records, dataset, fraction=fraction)
    seen = seen_size(start.records) if preset == "quick" else None  # what was trained at 64 pixels goes on at 64
    sizes = [f"{each}.image_size={seen}" for each in ("standard", "adversarial")] if seen else []
    plan = (
        quick_transfer(data.name, len(data.train), exact) if preset == "quick" else paper_transfer(data.name, exact)
    ).with_settings([*sizes, *how.numbers("standard.", "adversarial.")])
    stored = stored_size(data.name, plan.recipe(regime))
    if stored != data.train.images.shape[-1]:
        data = load_for(start.records, dataset, fraction=fraction, image_size=stored)
    directory = how.output or Path("runs") / f"finetune-{start.arch}-{data.name.replace('/', '-')}-{regime}-seed-{seed}"
    # Its records go on the card: what cannot be told there is refused before anything is trained.
    render_card(replace(start, records={}))
    run_settings = {
        "task": "finetune",
        "recipe": plan.recipe(regime).record(),
        "test_attack": plan.test_attack.record(),
        "ticket": start.fingerprint(),
        "data": data.fingerprint,
        "seed": seed,
    }
    with open_run(directory, run_settings) as run, Progress() as progress:
        options.tell_notes(data.notes)

        def work(folder: Path) -> dict[str, Any]:
            done = transfer(
                start,
                data,
                plan.recipe(regime),
                test_attack=plan.test_attack,
                seed=seed,
                device=chosen,
                checkpoint=folder / CHECKPOINT,
                on_epoch=lambda epoch: progress.report("epoch", {"unit": f"{regime} transfer"} | epoch),
            )
            trained = done.ticket(start, data, plan.recipe(regime))
            save_ticket(trained, folder / "ticket", render_card(trained), overwrite=True)
            return done.record

        record = run.once("finetune", work, start_of(start))
        folder = run.folder("finetune") / "ticket"
    if how.as_json:
        options.emit({"ticket": str(folder), "sparsity": start.sparsity, **record})
    else:
        measured = f"{record['attack']}, {record['samples']} images"
        print(f"SA {percent(record['SA'])} %, RA {percent(record['RA'])} % ({measured})")
        print(f"trained network: {folder}")
        print_next(directory)


def evaluate_command(
    ref: options.NetworkRef,
    dataset: options.RecordedDataset = None,
    regime: options.WhichRegime = None,
    trained_seed: options.WhichTrainedSeed = None,
    itself: options.TheTicket = False,
    arch: options.Arch = None,
    sparsity: options.Sparsity = None,
    attack: Annotated[
        str,
        typer.Option(
            help="pgd-20 (any number of steps), autoattack, its parts apgd-ce, apgd-dlr, square, or none for SA only."
        ),
    ] = "pgd-20",
    eps: Annotated[str | None, typer.Option(help="Attack radius in [0,1] pixel units, e.g. 8/255.")] = None,
    norm: Annotated[
        Literal["linf", "l2", "l1"], typer.Option(help="Of the attack; l1 for autoattack and its parts.")
    ] = "linf",
    restarts: Annotated[int, typer.Option(help="Random starts; one that breaks an image counts.")] = 1,
    checks: Annotated[
        bool, typer.Option("--checks", help="Also check that robustness is no masked gradient (Linf; minutes).")
    ] = False,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also accuracy under 15 common corruptions (32x32 images).")
    ] = False,
    unseen: Annotated[bool, typer.Option("--unseen", help="Also RA under attacks in L2 and L1.")] = False,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="So many test images, drawn with --seed; all unless given.", show_default=False),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure SA and RA of a network on a dataset's test split: of a judged ticket the one trained from it."""
    from rich.console import Console

    from lottery_hub.errors import ConfigError, TicketError
    from lottery_hub.images.datasets import sample
    from lottery_hub.images.recorded import load_for, seen_size
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.robustness.evaluation import evaluate
    from lottery_hub.robustness.masking import check_masking
    from lottery_hub.robustness.unseen import measure_corruptions, measure_unseen
    from lottery_hub.settings.config import parse_number
    from lottery_hub.settings.presets import habits, named_attack
    from lottery_hub.sharing.references import Which, load_network, named

    from .display import corruptions_table, percent, print_table

    if norm != "linf" and checks:
        raise ConfigError(f"the checks of masked gradients are for Linf; leave out --checks or --norm {norm}")
    if norm != "linf" and attack != "none" and not eps:
        example = {"l2": "0.5", "l1": "12"}[norm]
        raise ConfigError(f"a dataset's default radius is for Linf; give one with --eps, e.g. --eps {example}")
    chosen, _ = options.choose(device, "float32")
    network = load_network(ref, Which(regime, trained_seed, itself), sparsity=sparsity, arch=arch)
    model = network.model() if isinstance(network, Backbone) else network.to_normalised(head="pretrained")
    records = network.records
    data = load_for(records, dataset)
    # Measured as it was trained: at the size it was shown, on images stored at the size its records name.
    image_size = seen_size(records) or data.test.images.shape[-1]
    classes = len(model.network.get_parameter("fc.weight"))
    if classes != len(data.classes):
        raise TicketError(
            f"its head has {classes} classes and {data.name} has {len(data.classes)}; "
            f"fine-tune it first: lottery-hub finetune {ref} --dataset {dataset or data.name}"
        )
    radius = parse_number(eps) if eps else habits(data.name).eps
    test_attack = named_attack(attack, radius, norm, restarts)
    if checks:
        named_attack("pgd-1", radius, norm)  # refuses what is no radius
    options.tell_notes(data.notes)
    split = data.test if samples is None else sample(data.test, samples, seed)
    accuracy = evaluate(model.to(chosen), split, attack=test_attack, image_size=image_size, seed=seed, device=chosen)
    shown = test_attack.describe(classes) if test_attack else None
    how: dict[str, Any] = {"image_size": image_size, "seed": seed, "device": chosen}
    checked = check_masking(model, split, radius, **how) if checks else []
    corrupted = measure_corruptions({"": model}, split, **how)[""] if corruptions else None
    others = measure_unseen({"": model}, split, **how)[""] if unseen else []
    if as_json:
        told = {
            "dataset": data.name,
            "network": named(network),
            "notes": list(data.notes),
            "attack": shown,
            "seed": seed,
            "of": len(data.test),
            **accuracy.record(),
        }
        told |= {"checks": [check.record() for check in checked]} if checks else {}
        told |= {"corruptions": corrupted} if corruptions else {}
        told |= {"unseen": others} if unseen else {}
        options.emit(told)
    else:
        robust = f", RA {percent(accuracy.RA)} % ({shown})" if test_attack else ""
        of = f" of {len(data.test)}, drawn with seed {seed}" if samples is not None else ""
        print(f"{network.arch} ({network.kind}) {named(network)}")
        print(f"{data.name}: SA {percent(accuracy.SA)} %{robust}, {accuracy.samples} test images{of}")
        for check in checked:
            figures = ", ".join(f"{name} {percent(share)}" for name, share in check.figures.items())
            print(f"{'passed' if check.passed else 'FAILED'}: {check.name} (RA %: {figures})")
        for row in others:
            print(f"RA {percent(row['RA'])} % ({row['attack']})")
        if corrupted:
            print_table(Console(), corruptions_table(corrupted["correct"], len(split)))
            print(f"mean over corruptions: {percent(corrupted['mean'])} %; frost is a procedural stand-in")
