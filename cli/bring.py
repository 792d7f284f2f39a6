"""`lottery-hub import`: a pruned network of others becomes a ticket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options


def import_command(
    file: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint with the weight_orig and weight_mask of torch.nn.utils.prune; with --masks, of weights.",
            callback=options.place,
        ),
    ],
    arch: options.Arch = None,
    pretrain: Annotated[
        Literal["std", "fast-adv", "adv"] | None,
        typer.Option(help="How its backbone was pre-trained, which no file says; std is assumed unless given."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="A file of masks, where they are not in FILE.", show_default=False, callback=options.place),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The ticket's folder; one under tickets/ unless given.", callback=options.place),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make a ticket folder of a checkpoint that was pruned with torch.nn.utils.prune."""
    from lottery_hub.reporting.cards import render_card
    from lottery_hub.reporting.screen import percent
    from lottery_hub.sharing.importing import import_ticket
    from lottery_hub.storage.folder import save_ticket

    ticket = import_ticket(file, arch, pretrain, masks)
    place = output or Path("tickets") / f"{ticket.arch}-{ticket.kind}-{file.name.partition('.')[0] or 'imported'}"
    folder = save_ticket(ticket, place, render_card(ticket), overwrite=overwrite)
    options.tell_layout(ticket.provenance["backbone"])
    options.tell_notes([f"imported: {ticket.provenance['imported']}"])
    kept, total = ticket.kept_and_total
    if as_json:
        options.emit(
            {
                "ticket": str(folder),
                "level": ticket.level,
                "sparsity": ticket.sparsity,
                "kept": kept,
                "total": total,
                "provenance": ticket.provenance,
            }
        )
    else:
        print(f"{ticket.arch} ({ticket.kind}), {percent(ticket.sparsity)} % sparsity, nearest to level {ticket.level}")
        print(f"ticket: {folder}")
