"""`lottery-hub plot` and `report`: pictures of a ticket, and the page that tells all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options

Refs = Annotated[
    list[str],
    typer.Argument(
        help="Tickets: folders, run directories, USER/NAME or USER/NAME@REVISION on the Hub; several are compared."
    ),
]

Images = Annotated[
    str | None,
    typer.Option(help="Where the verdict's images are; unless given, by the name in its records.", show_default=False),
]


def plot_command(
    ref: options.Ref,
    output: Annotated[
        Path,
        typer.Option(help="The file to write: .svg, .png or .pdf.", show_default=False, callback=options.place),
    ],
    what: Annotated[
        Literal["curve", "differences", "density", "training", "security", "corruptions", "unseen", "images"],
        typer.Option(
            help="curve: SA and RA over sparsity; differences: ticket minus dense, with intervals; density: of each "
            "layer; training: loss and validation over epochs; security: RA over eps, corruptions, unseen: where "
            "the verdict was so looked at (find --curve, --corruptions, --unseen); images: eight under attack."
        ),
    ] = "curve",
    sparsity: options.Sparsity = None,
    dataset: Images = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Draw one picture of a ticket."""
    from lottery_hub.errors import printable
    from lottery_hub.reporting.canvas import format_of
    from lottery_hub.reporting.pictures import plot
    from lottery_hub.sharing.pulling import load_ticket
    from lottery_hub.storage.records import check_ticket

    format_of(output)  # before anything is fetched
    ticket = load_ticket(ref, sparsity)
    check_ticket(ticket)
    drawn = plot(ticket, what, dataset)
    drawn.save(output, overwrite)
    if as_json:
        rows = [dict(zip(drawn.columns, row, strict=True)) for row in drawn.rows]
        options.emit({"path": str(output), "what": what, "title": drawn.title, "told": drawn.told, "rows": rows})
        return
    print(f"{printable(drawn.told, 1000)}")
    print(f"{what}: {printable(output, 1000)}")


def report_command(
    refs: Refs,
    output: Annotated[Path, typer.Option(help="The file to write.", callback=options.place)] = Path("report.html"),
    sparsity: options.Sparsity = None,
    images: Annotated[
        bool, typer.Option("--images", help="With eight test images under attack: whoever has the page sees them.")
    ] = False,
    dataset: Images = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write the report of a ticket as one page: verdict, pictures, figures, cost, origin; or several side by side."""
    from lottery_hub.errors import printable
    from lottery_hub.reporting.pictures import plot
    from lottery_hub.reporting.reports import Reported, called, render_report
    from lottery_hub.sharing.pulling import pull
    from lottery_hub.storage.ownership import leave

    several = [Reported.read(pulled.folder, called(ref), sparsity) for ref in refs for pulled in [pull(ref)]]
    if images:
        several = [replace(each, extra=(plot(each.ticket, "images", dataset),)) for each in several]
    page = render_report(several)
    leave(output, page.encode(), overwrite)
    if as_json:
        told = [{"ref": each.name, "double_win": each.ticket.double_win} for each in several]
        options.emit({"path": str(output), "bytes": len(page.encode()), "tickets": told})
    else:
        print(f"report: {printable(output, 1000)}")
    if show:
        typer.launch(output.resolve().as_uri())


def board_command(
    refs: Annotated[
        list[str] | None,
        typer.Argument(help="Tickets: folders, run directories, USER/NAME or USER/NAME@REVISION on the Hub."),
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Also every ticket that a search of the Hub finds.")] = False,
    output: Annotated[Path, typer.Option(help="The file to write.", callback=options.place)] = Path("board.html"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write a board of many tickets as one page, to be sorted and filtered."""
    from lottery_hub.errors import printable
    from lottery_hub.fetching.pasted import page_of
    from lottery_hub.reporting.boards import Listed, render_board
    from lottery_hub.reporting.reports import Reported, called
    from lottery_hub.sharing.pulling import pull
    from lottery_hub.sharing.searching import search_tickets
    from lottery_hub.storage.ownership import leave

    if not refs and not hub:
        raise typer.BadParameter("name tickets, or ask for those of the Hub with --hub")
    rows = []
    for ref in refs or []:
        pulled = pull(ref)
        link = page_of(pulled.repo_id) if pulled.repo_id else None
        rows.append(Listed.of(Reported.read(pulled.folder, called(ref)), link))
    if hub:
        rows += [found.listed() for found in search_tickets() if found.repo_id not in {row.name for row in rows}]
    leave(output, render_board(rows).encode(), overwrite)
    if as_json:
        options.emit({"path": str(output), "tickets": [row.name for row in rows]})
    else:
        print(f"board of {len(rows)} ticket{'' if len(rows) == 1 else 's'}: {printable(output, 1000)}")
