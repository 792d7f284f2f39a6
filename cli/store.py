"""`lottery-hub store`: what is finished, for whoever needs it again."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from . import options

app = typer.Typer(help="Look after the store of finished units.", no_args_is_help=True)

Size = Annotated[
    str | None,
    typer.Option("--most", metavar="SIZE", help="Keep so much at most, e.g. 20GB; what was of use longest ago goes."),
]
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "B": 1}


@app.command("list")
def list_command(store: options.StorePlace = None, as_json: options.Json = False) -> None:
    """List the units, what was of use last coming first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from lottery_hub.errors import TicketError, printable
    from lottery_hub.reporting.screen import print_table
    from lottery_hub.running.store import open_store
    from lottery_hub.running.upkeep import entries
    from lottery_hub.storage import sealed

    opened = open_store(store)
    rows: list[dict[str, Any]] = []
    found = entries(opened)
    for entry in found:
        row: dict[str, Any] = {"unit": entry.path.name, "bytes": entry.bytes, "used": round(entry.used)}
        if entry.finished:
            try:
                row |= _said(sealed.parse(entry.path / "result.json"))
            except TicketError:
                row["kind"] = "damaged"
        else:
            row["kind"] = "half done" if entry.path.name.endswith(".partial") else "set aside"
        rows.append(row)
    if as_json:
        options.emit({"store": str(opened.directory), "units": rows})
        return
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("unit", "kind", "of", "SA", "RA", "size", "used"):
        table.add_column(name, justify="right" if name in ("SA", "RA", "size", "used") else "left", no_wrap=True)
    for row in rows:
        shares = [f"{row[name] * 100:.2f}" if isinstance(row.get(name), float) else "" for name in ("SA", "RA")]
        of = printable(" ".join(str(row.get(name, "")) for name in ("dataset", "regime", "seed")).strip(), 60)
        days = (time.time() - row["used"]) / 86_400
        table.add_row(row["unit"][:12], row["kind"], of, *shares, _shown(row["bytes"]), f"{days:.1f} days ago")
    print_table(Console(), table)
    total = sum(entry.bytes for entry in found)
    print(f"{len(found)} units, {_shown(total)}, in {printable(opened.directory, 1000)}")


@app.command("show")
def show_command(
    unit: Annotated[str, typer.Argument(help="How its address begins.")],
    store: options.StorePlace = None,
) -> None:
    """Print what determines a unit, and its record, as JSON."""
    from lottery_hub.running.store import open_store
    from lottery_hub.running.upkeep import unit_at

    opened = open_store(store)
    address, found = unit_at(opened, unit)
    place = opened.folder(address)
    options.emit({"unit": address, "folder": str(place), "about": found.given, "record": found.record})


@app.command("verify")
def verify_command(store: options.StorePlace = None, as_json: options.Json = False) -> None:
    """Read every unit and compare it with its seal; exit code 3 where one is damaged."""
    from lottery_hub.errors import printable
    from lottery_hub.running.store import open_store
    from lottery_hub.running.upkeep import damaged

    opened = open_store(store)
    units, wrong = len(opened.addresses()), dict(damaged(opened))
    if as_json:
        options.emit({"store": str(opened.directory), "units": units, "damaged": wrong})
    else:
        for line in wrong.values():
            print(f"damaged: {printable(line, 1000)}")
        print(f"{units - len(wrong)} of {units} units are what they were; others are made anew when they are needed")
    if wrong:
        raise typer.Exit(3)


@app.command("prune")
def prune_command(
    days: Annotated[
        float | None,
        typer.Option(min=0, callback=options.finite_or_none, help="Remove units that were of no use for so many days."),
    ] = None,
    most: Size = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    store: options.StorePlace = None,
    as_json: options.Json = False,
) -> None:
    """Make room: old units, beyond a size, and always what was set aside as damaged or left half done a day ago."""
    from lottery_hub.errors import printable
    from lottery_hub.running.store import open_store
    from lottery_hub.running.upkeep import prune

    opened = open_store(store)
    gone = prune(opened, days=days, most=None if most is None else _size(most), dry_run=dry_run)
    room = sum(entry.bytes for entry in gone)
    if as_json:
        units = [entry.path.name for entry in gone]
        options.emit({"store": str(opened.directory), "removed": units, "bytes": room, "dry_run": dry_run})
    else:
        words = "would be removed from" if dry_run else "removed from"
        print(f"{len(gone)} units, {_shown(room)}, {words} {printable(opened.directory, 1000)}")


def _said(seal: Any) -> dict[str, Any]:
    """Return what a list says of a unit: records are the store's own, and still nobody's to believe unseen."""
    about, record = seal.given, seal.record
    row: dict[str, Any] = {"kind": str(about.get("unit"))}
    named = record.get("provenance")
    data = named.get("data") if isinstance(named, dict) else None
    if isinstance(data, dict):
        row["dataset"] = data.get("name")
    return row | {name: record[name] for name in ("regime", "seed", "SA", "RA") if name in record}


def _shown(size: float) -> str:
    name = next((name for name in ("TB", "GB", "MB") if size >= UNITS[name]), "kB")
    return f"{size / UNITS[name]:.1f} {name}"


def _size(text: str) -> int:
    from lottery_hub.errors import printable

    for name, unit in UNITS.items():
        number = text.strip().removesuffix(name).strip()
        if text.strip().endswith(name) and number.replace(".", "", 1).isdecimal() and len(number) < 20:
            return round(float(number) * unit)
    raise typer.BadParameter(f"{printable(repr(text))} is no size; write 500MB or 20GB", param_hint="--most")
