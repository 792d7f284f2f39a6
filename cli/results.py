"""`lottery-hub results`: the figures in the records of a ticket, as a table for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options


def results_command(
    ref: options.Ref,
    chosen: Annotated[
        Literal["csv", "parquet", "json"], typer.Option("--format", help="json: an array of objects, one a row.")
    ] = "csv",
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="A row for each image: label, prediction, and whether right, clean and attacked."
        ),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="For --images, where they are, if not under the recorded name; for labels and predictions.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The file to write; the screen unless given.", show_default=False, callback=options.place),
    ] = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Print every figure in the records: a row for each network, regime, seed, split and attack."""
    from lottery_hub.commands.tables import table_of
    from lottery_hub.errors import printable
    from lottery_hub.storage import atomic

    if chosen == "parquet" and output is None:
        raise typer.BadParameter("parquet is no text; give the file to write with --output", param_hint="--format")
    table, missing = table_of(ref, images=images, dataset=dataset, device=device)
    options.tell_notes(missing)
    data = table.encoded(chosen)
    if output is None:
        sys.stdout.write(data.decode())
        return
    with atomic.new_file(output, overwrite=overwrite) as fresh:
        fresh.write_bytes(data)
    print(f"{len(table):,} rows: {printable(output)}", file=sys.stderr)
