"""`lottery-hub push`, `pull` and `search`: tickets on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from lottery_hub.sharing.searching import Found

WEEK = 604_800.0
Deadline = Annotated[
    float,
    typer.Option(
        min=0.1, max=WEEK, metavar="FLOAT", callback=options.finite, help="Seconds after which it is given up."
    ),
]


def push_command(
    folder: Annotated[str, typer.Argument(help="A ticket or ladder folder, or the run directory with one.")],
    repo: Annotated[str, typer.Argument(help="USER/NAME on the Hub; made where there is none.", metavar="USER/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, e.g. v1.", show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; made where there is none.", show_default=False)] = None,
    no_timm: Annotated[bool, typer.Option("--no-timm", help="Leave out the dense copy for plain timm.")] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Add the trained networks behind the verdict, for `verify`.")
    ] = False,
    eval_results: Annotated[
        bool, typer.Option("--eval-results", help="Also file the figures under their dataset (.eval_results/).")
    ] = False,
    no_checks: Annotated[
        bool, typer.Option("--no-checks", help="Publish a verdict without AutoAttack and checks of masked gradients.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="The verdict's images, where its records name a folder.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all here, and send nothing.")] = False,
    deadline: Deadline = 900.0,
    as_json: options.Json = False,
) -> None:
    """Publish a ticket or ladder on the Hugging Face Hub, in one commit."""
    from dataclasses import asdict

    from lottery_hub.errors import printable
    from lottery_hub.reporting.showing import showing

    with showing("reading the folder"):
        from lottery_hub.fetching.connection import Patience
        from lottery_hub.judging.scrutiny import images_of
        from lottery_hub.sharing.publishing import push_ticket
        from lottery_hub.storage.folder import find_folder, load_ticket

        data = images_of(load_ticket(find_folder(folder)), dataset) if dataset else None
        done = push_ticket(
            folder,
            repo,
            private=private,
            tag=tag,
            revision=revision,
            timm=not no_timm,
            models=models,
            eval_results=eval_results,
            checks=not no_checks,
            data=data,
            dry_run=dry_run,
            patience=Patience(deadline),
        )
    if as_json:
        options.emit(asdict(done))
        return
    if done.edited:
        print("README.md is not as lottery-hub rendered it: it is published as it is")
    for name, size in done.files.items():
        print(f"{size:>13,}  {printable(name)}")
    if done.commit is None:
        if done.unchecked:
            print("a push first checks the verdict's networks, which takes minutes, and writes what it finds in there")
        print(f"dry run, nothing was sent: {done.url}")
    else:
        tagged = f", tag {printable(done.tag)}" if done.tag else ""
        news = "published" if done.changed else "unchanged, the files are there already"
        print(f"{news}: {done.url} (commit {done.commit}{tagged})")


def pull_command(
    ref: options.Ref,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the Hub; main unless given.", show_default=False)
    ] = None,
    local_dir: Annotated[
        Path | None,
        typer.Option(
            help="Copy the files to this folder; unless given, they stay in the cache.",
            show_default=False,
            callback=options.place,
        ),
    ] = None,
    models: Annotated[bool, typer.Option("--models", help="Also the trained networks behind the verdict.")] = False,
    overwrite: options.Overwrite = False,
    deadline: Deadline = 300.0,
    as_json: options.Json = False,
) -> None:
    """Fetch a ticket or ladder, check it whole, and say where it is."""
    from lottery_hub.errors import printable
    from lottery_hub.reporting.showing import showing
    from lottery_hub.telling import tell

    with showing("opening the ticket"):
        from lottery_hub.fetching.connection import Patience
        from lottery_hub.sharing.pulling import pull
        from lottery_hub.storage.folder import check_folder

        patience = Patience(deadline)
        pulled = pull(
            ref, revision=revision, local_dir=local_dir, models=models, overwrite=overwrite, patience=patience
        )
        tell("doing", what="checking files")
        content = check_folder(pulled.folder).content
    if as_json:
        told = {"folder": str(pulled.folder), "repo": pulled.repo_id, "commit": pulled.commit, "content": content}
        options.emit(told)
        return
    origin = f" {printable(pulled.repo_id)}, commit {pulled.commit}" if pulled.commit else ""
    print(f"{content}{origin}: {printable(pulled.folder, 1000)}")


def search_command(
    dataset: Annotated[
        str | None, typer.Option(help="Transferred to this dataset: a name or a Hub id.", show_default=False)
    ] = None,
    pretrain: Annotated[
        Literal["std", "fast-adv", "adv"] | None, typer.Option(help="Of the backbone.", show_default=False)
    ] = None,
    arch: Annotated[str | None, typer.Option(help="e.g. resnet18-slim.", show_default=False)] = None,
    min_sparsity: Annotated[float | None, typer.Option(help="In 0..1.", show_default=False)] = None,
    min_ra: Annotated[
        float | None, typer.Option(help="RA after adversarial transfer, in 0..1.", show_default=False)
    ] = None,
    double_win: Annotated[bool, typer.Option("--double-win", help="Only double-win tickets.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the sparsest.")] = 50,
    as_json: options.Json = False,
) -> None:
    """Search the Hugging Face Hub for tickets, by what their cards say."""
    from rich.console import Console

    from lottery_hub.reporting.screen import print_table
    from lottery_hub.sharing.searching import search_tickets

    found = search_tickets(
        dataset=dataset,
        pretrain=pretrain,
        arch=arch,
        min_sparsity=min_sparsity,
        min_ra=min_ra,
        double_win=double_win,
        limit=limit,
    )
    if as_json:
        options.emit({"tickets": [ticket.record() for ticket in found], "skipped": found.skipped})
        return
    console = Console(highlight=False)
    if found:
        print_table(console, _table(found))
        console.print("figures are those of the cards, measured by whoever wrote them, each under an attack of its own")
    else:
        console.print("no ticket on the Hub fits; ask for less")
    if found.skipped:
        rows = "1 row" if found.skipped == 1 else f"{found.skipped} rows"
        console.print(f"{rows} of the Hub's list could not be read and left out")


def _table(found: list[Found]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lottery_hub.reporting.screen import SHORT, percent, short

    caption = "SA/RA in %, after standard (std) and adversarial (adv) transfer; win: double win"
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("ticket", overflow="fold", min_width=20)
    table.add_column("dataset", overflow="fold", min_width=8)
    for column in ("sparsity %", *(f"{SHORT[regime]} SA/RA" for regime in SHORT)):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("win", no_wrap=True)
    for ticket in found:
        named = Text(ticket.repo_id)
        named.append(f"\n{ticket.arch or '–'} ({ticket.pretrain or '–'})", style="dim")
        pairs = (
            "/".join(percent(ticket.figures.get(f"{figure} after {regime} transfer")) for figure in ("SA", "RA"))
            for regime in SHORT
        )
        table.add_row(named, Text(ticket.dataset or "–"), percent(ticket.sparsity), *pairs, short(ticket.answer))
    return table
