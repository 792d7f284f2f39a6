"""`finetune`: a ticket on a downstream dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.commands.options import defaults, taken
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from pathlib import Path

    from lottery_hub.commands.planning import Finetuning
    from lottery_hub.commands.results import Finetuned
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.settings.config import Precision, Regime, Settings, TransferPlan
    from lottery_hub.settings.presets import Preset
    from lottery_hub.settings.ranks import Ranks


@shows("reading ticket and images")
def finetune(
    ticket: str | os.PathLike[str] | Ticket,
    dataset: str | os.PathLike[str] | Dataset = "digits",
    *,
    regime: Regime = "standard",
    fraction: float = 1.0,
    sparsity: float | None = None,
    seed: int = 0,
    preset: Preset = "quick",
    settings: Settings | None = None,
    image_size: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    output: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    deterministic: bool = False,
    progress: bool | None = None,
) -> Finetuned:
    """Fine-tune a ticket on a dataset behind a fresh head, and write the trained network as a ticket's folder.

    A killed one goes on where it was when it is called again with the same options. `lottery-hub finetune` is this
    function; `transfer` does the same without a folder, by a recipe.

    Args:
        ticket: as of `load_ticket`, or a ticket itself.
        dataset: the downstream dataset, as of `load_dataset`, or one itself.
        regime: `standard` or `adversarial`.
        fraction: share of the training images, in (0, 1].
        sparsity: which level of a ladder, in 0..1.
        seed: of head, data order and attack starts.
        preset, settings, image_size, batch_size: as of `find`.
        output: where; None is the run directory `runs/finetune-ARCH-DATASET-REGIME-seed-SEED`.
        device, precision, deterministic, progress: as of `find`.

    Returns:
        The trained network, its folder, and how it fares on the test images.

    Raises:
        LotteryHubError: an option is not allowed, or what it names cannot be had.
    """
    given = dict(locals())  # every option, by its name
    from dataclasses import replace

    from lottery_hub.commands.results import Finetuned
    from lottery_hub.images.fitting import larger_notes
    from lottery_hub.reporting.cards import render_card
    from lottery_hub.running.runs import CHECKPOINT, open_run
    from lottery_hub.settings import passes
    from lottery_hub.settings.ambient import deterministic as exactly
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.settings.paths import place_of
    from lottery_hub.settings.ranks import together
    from lottery_hub.storage.folder import save_ticket
    from lottery_hub.telling import if_stopped, kept_in, tell, working
    from lottery_hub.training.transferring import start_of, transfer

    chosen = choose_device(device)
    planned = _planned(given)
    start = planned.ticket
    recipe, attack, data = planned.plan.recipe(planned.regime), planned.plan.test_attack, planned.data
    # Its records go on the card: what cannot be told there is refused before anything is trained.
    render_card(replace(start, records={}))
    run_settings = {
        "task": "finetune",
        "recipe": recipe.record(),
        "test_attack": attack.record(),
        "ticket": start.fingerprint(),
        "data": data.fingerprint,
        "seed": seed,
    }
    directory = planned.directory() if output is None else place_of(output)
    counts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"recipe": recipe.record(), "attack": attack.record(), "data": counts}
    with exactly(deterministic), open_run(directory, run_settings) as run, if_stopped(kept_in(directory)):
        tell("notes", lines=[*data.notes, *larger_notes(data, recipe.image_size)])

        def work(folder: Path) -> dict[str, Any]:
            shared = together(_take_part, given | {"ticket": start}, chosen.type)
            with shared as ranks, working(f"{regime} transfer", passes.of_unit(about)):
                done = transfer(
                    start,
                    data,
                    recipe,
                    test_attack=attack,
                    seed=seed,
                    device=chosen,
                    checkpoint=folder / CHECKPOINT,
                    on_epoch=lambda epoch: tell("epoch", **epoch),
                    ranks=ranks,
                )
            trained = done.ticket(start, data, recipe)
            save_ticket(trained, folder / "ticket", render_card(trained), overwrite=True)
            return done.record

        record = run.once("finetune", work, start_of(start))
        return Finetuned(run.folder("finetune") / "ticket", directory, start.sparsity, record)


def plan_of(**options: Any) -> TransferPlan:
    """Return the plan by which `finetune` goes with these options; nothing is trained or written."""
    return _planned(defaults(finetune) | options).plan


def _take_part(given: dict[str, Any], kind: str, ranks: Ranks) -> None:
    """Fine-tune with the process that keeps it, on this process's device of a kind."""
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.training.transferring import transfer

    planned = _planned(given)
    recipe, attack = planned.plan.recipe(planned.regime), planned.plan.test_attack
    device = choose_device(kind)
    transfer(planned.ticket, planned.data, recipe, test_attack=attack, seed=planned.seed, device=device, ranks=ranks)


def _planned(given: dict[str, Any]) -> Finetuning:
    from lottery_hub.commands.planning import plan_finetune
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.settings.environment import choose
    from lottery_hub.sharing.pulling import load_ticket
    from lottery_hub.storage.records import check_ticket

    ticket, precision = given["ticket"], choose(given["device"], given["precision"])[1]
    ticket = ticket if isinstance(ticket, Ticket) else load_ticket(ticket, given["sparsity"])
    check_ticket(ticket)
    return plan_finetune(**taken(given, plan_finetune) | {"ticket": ticket, "precision": precision})
