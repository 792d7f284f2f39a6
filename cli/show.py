"""`lottery-hub show`: one ticket, ladder or backbone on one screen, or what several tickets share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.storage.manifest import BackboneManifest

MAX_ROWS = 24  # of layers; beyond that, blocks or stages are shown


def show_command(
    ref: options.Ref,
    other: Annotated[
        list[str] | None,
        typer.Argument(help="A second ticket, to compare the masks layer by layer; or several, each with each."),
    ] = None,
    sparsity: options.Sparsity = None,
    as_json: options.Json = False,
) -> None:
    """Show a ticket on one screen: sparsity, layers, verdict, size and origin; or how much tickets share."""
    from lottery_hub.sharing.pulling import load_ticket, pull, pulled_ticket
    from lottery_hub.storage.folder import read_about
    from lottery_hub.storage.manifest import TicketManifest

    pulled = pull(ref)
    if other:
        tickets = [pulled_ticket(pulled, sparsity), *(load_ticket(each, sparsity) for each in other)]
        compared = _compare if len(tickets) == 2 else _compare_all
        compared(tickets, (ref, *other), as_json)
        return
    about = read_about(pulled.folder)
    if isinstance(about, TicketManifest) or sparsity is not None:
        _show_ticket(ref, pulled_ticket(pulled, sparsity), pulled.folder, about, as_json)
    else:
        _show_dense(ref, pulled.folder, about, as_json)


def _show_dense(ref: str, folder: Path, about: BackboneManifest, as_json: bool) -> None:
    """Show a ladder or a backbone."""
    from rich.console import Console

    from lottery_hub.errors import printable
    from lottery_hub.reporting.screen import percent
    from lottery_hub.storage.folder import load_ladder, weights_path
    from lottery_hub.storage.manifest import LadderManifest
    from lottery_hub.storage.origins import Known, check

    check(Known, about.provenance, "config.json: provenance")
    file_bytes = weights_path(folder, about).stat().st_size
    if as_json:
        told = about.record() | {"file_bytes": file_bytes}
        if isinstance(about, LadderManifest):
            told["rounds"] = load_ladder(folder).drawing.get("rounds")
        options.emit(told)
        return
    console = Console(highlight=False)
    origin = about.provenance
    made = printable(origin.get("source", "unknown source"))
    console.print(
        f"{about.content} {printable(ref)}: {about.arch} ({about.pretrain}), {made}",
        markup=False,
        soft_wrap=not console.is_terminal,
    )
    figures = [origin.get("SA"), origin.get("RA")]
    if all(isinstance(figure, float) for figure in figures):
        measured = f"{printable(origin.get('attack'))}, {printable(origin.get('samples'))} images"
        shown = f"SA {percent(figures[0])} %, RA {percent(figures[1])} %"
        console.print(
            f"dense on {printable(origin.get('dataset'))}: {shown} ({measured})",
            markup=False,
            soft_wrap=not console.is_terminal,
        )
    if isinstance(about, LadderManifest):
        levels = ", ".join(percent(value) for value in about.sparsities[1:])
        console.print(
            f"{about.levels} levels by {about.method}, sparsity %: {levels}", soft_wrap=not console.is_terminal
        )
    console.print(f"file: {file_bytes:,} bytes, values as {about.values}")


def _show_ticket(ref: str, ticket: Ticket, folder: Path, about: BackboneManifest, as_json: bool) -> None:
    from rich.console import Console

    from lottery_hub.errors import printable
    from lottery_hub.networks.inspection import size
    from lottery_hub.networks.masks import kept_and_total
    from lottery_hub.reporting.cards import render_card
    from lottery_hub.reporting.screen import percent
    from lottery_hub.storage.folder import weights_path
    from lottery_hub.storage.records import check_ticket

    check_ticket(ticket)
    layers = {name: kept_and_total({name: mask}) for name, mask in ticket.mask.items()}
    sized = size(ticket, value_bits=32 if about.values == "float32" else 16)
    file_bytes = weights_path(folder, about).stat().st_size
    if as_json:
        options.emit(
            {
                "arch": ticket.arch,
                "pretrain": ticket.kind,
                "level": ticket.level,
                "method": ticket.method,
                "kept": sized.kept,
                "total": sized.prunable,
                "sparsity": ticket.sparsity,
                "sparsity_of_all": sized.sparsity_of_all,
                "double_win": ticket.double_win,
                "answer": ticket.answer,
                "networks": list(ticket.networks) if ticket.judged else [],
                "content": about.content,
                "values": about.values,
                "file_bytes": file_bytes,
                "dense_bytes": sized.dense_bytes,
                "limit_bytes": round(sized.limit_bytes),
                "layers": {name: {"kept": k, "total": n} for name, (k, n) in layers.items()},
                "provenance": ticket.provenance,
                "records": ticket.records,
            }
        )
        return
    render_card(ticket)  # what fits no card fits no screen: a stranger's records are refused before any is printed
    console = Console(highlight=False)
    console.print(
        f"{ticket.arch} ({ticket.kind}), level {ticket.level} {_drawn(ticket)}: "
        f"{percent(ticket.sparsity)} % sparsity, {sized.kept:,} of {sized.prunable:,} prunable weights kept; "
        f"{percent(sized.sparsity_of_all)} % of all {sized.parameters:,} parameters pruned",
        soft_wrap=not console.is_terminal,
    )
    _print_densities(console, layers)
    _print_verdict(console, ticket)
    _print_networks(console, ref, ticket)
    origin = ticket.provenance.get("backbone", {})
    if isinstance(origin, dict):
        source = printable(origin.get("source", "unknown source"))
        licence = printable(origin.get("license", "unknown"))
        console.print(f"backbone: {source}, licence {licence}", markup=False, soft_wrap=not console.is_terminal)
    whole = "" if about.content == "ticket" else " (all levels)"
    console.print(
        f"{about.content} file: {file_bytes:,} bytes{whole}; dense {sized.dense_bytes:,}; "
        f"a mask at its entropy with plain {about.values} values {sized.limit_bytes:,.0f}",
        soft_wrap=not console.is_terminal,
    )


def _drawn(ticket: Ticket) -> str:
    """Say how a ticket's mask was drawn; an imported one does not know."""
    return "(imported)" if "imported" in ticket.provenance else f"by {ticket.method}"


def _print_verdict(console: Console, ticket: Ticket) -> None:
    from lottery_hub.judging.deciding import was_asked_for
    from lottery_hub.reporting.screen import print_verdict

    if ticket.double_win is None:
        console.print("not judged: no transfer is recorded")
        return
    about = f"{ticket.arch} ({ticket.kind}) on {ticket.records['data']['name']}"
    print_verdict(console, ticket.records, about, was_asked_for(ticket.records))


def _print_networks(console: Console, ref: str, ticket: Ticket) -> None:
    """Say which network the commands use, and how to name the others."""
    import shlex

    from lottery_hub.errors import printable
    from lottery_hub.sharing.references import named

    if not ticket.judged:
        console.print(f"network: {named(ticket)}", markup=False, soft_wrap=not console.is_terminal)
        return
    there = list(ticket.networks)
    if not there:
        console.print(
            "trained networks: none is here; run find again, or `pull --models`", soft_wrap=not console.is_terminal
        )
        return
    place = shlex.quote(printable(ref, 1000))
    dense = "dense ones as its folder trained/NAME, " if any(name.startswith("dense") for name in there) else ""
    console.print(
        f"trained networks: {', '.join(map(printable, there))}", markup=False, soft_wrap=not console.is_terminal
    )
    console.print(
        f"predict, evaluate, export and push take ticket-adversarial-seed-0 of {place}; others by --regime and "
        f"--trained-seed, {dense}the ticket itself by --ticket",
        markup=False,
        soft_wrap=not console.is_terminal,
    )


def _print_densities(console: Console, layers: dict[str, tuple[int, int]]) -> None:
    """Print how much of each layer is kept, with bars as long as there is room for, all to one scale."""
    from lottery_hub.reporting.narrow import fits
    from lottery_hub.reporting.screen import print_table

    for longest in (16, 8, 0):
        table = _density_table(layers, longest)
        if not console.is_terminal or fits(console, table):
            break
    print_table(console, table)


def _density_table(layers: dict[str, tuple[int, int]], longest: int) -> Table:
    from rich.table import Table

    from lottery_hub.errors import printable
    from lottery_hub.reporting.screen import percent

    groups = grouped(layers)
    table = Table(header_style="bold")
    for column in ("layer" if len(groups) == len(layers) else "layers", "kept", "total", "density %"):
        table.add_column(column, justify="left" if column.startswith("layer") else "right")
    if longest:
        table.add_column("", no_wrap=True)
    for name, group in groups.items():
        some, every = (sum(counts) for counts in zip(*(layers[layer] for layer in group), strict=True))
        bar = ["█" * round(some / every * longest)] if longest else []
        table.add_row(printable(name), f"{some:,}", f"{every:,}", percent(some / every), *bar)
    return table


def grouped(layers: Iterable[str]) -> dict[str, list[str]]:
    """Return row → its layers: one a row, or those of a block or stage where that takes more rows than a screen has."""
    for depth in (4, 2, 1):
        groups: dict[str, list[str]] = {}
        for name in layers:
            groups.setdefault(".".join(name.removesuffix(".weight").split(".")[:depth]), []).append(name)
        if len(groups) <= MAX_ROWS:
            break
    return groups


def _compare(tickets: list[Ticket], refs: tuple[str, ...], as_json: bool) -> None:
    """Show what two tickets share, layer by layer."""
    from rich.console import Console
    from rich.table import Table

    from lottery_hub.errors import printable
    from lottery_hub.networks.inspection import compare, total_overlap
    from lottery_hub.reporting.screen import print_table

    found = compare(*tickets)
    layers, total = found.layers, found.total
    if as_json:
        options.emit(found.record())
        return
    console = Console(highlight=False)
    _name_all(console, tickets, refs)
    table = Table(header_style="bold", caption="IoU: weights kept by both / by either", caption_justify="left")
    rows = {name: total_overlap(layers[layer] for layer in group) for name, group in grouped(layers).items()}
    for column in ("layer" if len(rows) == len(layers) else "layers", "A density %", "B density %", "IoU", "by chance"):
        table.add_column(column, justify="left" if column.startswith("layer") else "right")
    for name, overlap in (rows | {"total": total}).items():
        table.add_row(printable(name), *overlap.cells(), style="bold" if name == "total" else "")
    print_table(console, table)


def _compare_all(tickets: list[Ticket], refs: tuple[str, ...], as_json: bool) -> None:
    """Show what each of several tickets shares with each."""
    from rich.console import Console

    from lottery_hub.commands.overlap import told_apart
    from lottery_hub.networks.inspection import compare_all
    from lottery_hub.reporting.screen import print_table, words_table

    if as_json:
        masks = [ticket.mask for ticket in tickets]
        options.emit(compare_all(dict(zip(told_apart(list(refs)), masks, strict=True))).record())
        return
    found = compare_all({_letter(place): ticket.mask for place, ticket in enumerate(tickets)})
    console = Console(highlight=False)
    _name_all(console, tickets, refs)
    print_table(console, words_table(("", "density %", *found.names), found.cells()))
    print("IoU: weights kept by both / by either; in brackets by chance")


def _name_all(console: Console, tickets: list[Ticket], refs: tuple[str, ...]) -> None:
    from lottery_hub.errors import printable
    from lottery_hub.reporting.screen import percent

    for place, (ref, ticket) in enumerate(zip(refs, tickets, strict=True)):
        about = f"{ticket.arch} ({ticket.kind}), level {ticket.level} {_drawn(ticket)}"
        told = f"{_letter(place)}: {printable(ref)}, {about}, {percent(ticket.sparsity)} % sparsity"
        console.print(told, markup=False, soft_wrap=not console.is_terminal)


def _letter(place: int) -> str:
    """Return A to Z, and then A2 to Z2."""
    return chr(ord("A") + place % 26) + ("" if place < 26 else str(place // 26 + 1))
