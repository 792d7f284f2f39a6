"""`lottery-hub backbones`: what can be typed after --pretrain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lottery_hub.networks.published import Source
    from lottery_hub.sharing.sources import Packaged

Fields = tuple[str, ...]

LABELS = {"repo": "repository", "file": "file", "license": "licence", "accuracy_from": "SA from"}


def backbones_command(
    arch: Annotated[str | None, typer.Option(help="Only this architecture's.", show_default=False)] = None,
    kind: Annotated[
        Literal["std", "fast-adv", "adv"] | None,
        typer.Option(help="Only those pre-trained in this way.", show_default=False),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the backbones that ship with the library and the published ones that it knows; nothing is downloaded."""
    from lottery_hub.networks.backbones import check_arch
    from lottery_hub.networks.published import SOURCES
    from lottery_hub.sharing.sources import packaged_backbones

    if arch is not None:
        check_arch(arch)

    def asked(row: Packaged | Source) -> bool:
        return arch in (None, row.arch) and kind in (None, row.kind)

    packaged = [row for row in packaged_backbones() if asked(row)]
    published = [row for row in SOURCES if asked(row)]
    if as_json:
        options.emit(
            {"packaged": [_packaged(row) for row in packaged], "published": [_published(row) for row in published]}
        )
        return
    _print(packaged, published)


def _packaged(row: Packaged) -> dict[str, Any]:
    attack = row.trained_against
    return {
        "pretrain": row.kind,
        "arch": row.arch,
        "kind": row.kind,
        "dataset": row.dataset,
        "norm": attack and attack.norm,
        "eps": attack and attack.eps,
        "trained_against": attack and attack.describe(),
        "SA": row.SA,
        "RA": row.RA,
        "attack": row.attack,
        "samples": row.samples,
        "license": row.license,
    }


def _published(row: Source) -> dict[str, Any]:
    return {
        "pretrain": row.pretrain,
        "arch": row.arch,
        "kind": row.kind,
        "repo": row.repo,
        "file": row.file,
        "dataset": "ImageNet-1k",
        "norm": row.norm,
        "eps": row.eps,
        "SA": row.accuracy,
        "SA_from": row.accuracy_from,
        "license": row.license,
        "sha256": row.sha256,
    }


def _print(packaged: list[Packaged], published: list[Source]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if packaged:
        _print_packaged(console, packaged)
    if standard := [row for row in published if row.norm is None]:
        _print_published(console, "standard training", standard, ("license", "repo"), ("file", "accuracy_from"))
    if robust := [row for row in published if row.norm is not None]:
        below = ("repo", "license", "accuracy_from")
        _print_published(console, "adversarial training", robust, ("file",), below)
    if not packaged and not published:
        console.print("None is packaged, and none is published where it can be fetched.")
    console.print(
        "Others: KIND:FILE or KIND:ORG/NAME for a checkpoint of your own or on the Hub, e.g. fast-adv:weights.pth.tar; "
        "or a folder that `lottery-hub pretrain` wrote.",
        markup=False,
    )


def _print_packaged(console: Console, rows: list[Packaged]) -> None:
    from lottery_hub.reporting.screen import percent, print_table

    console.print("Packaged: nothing to download", style="bold")
    table = _table("--pretrain", "--arch", "trained against", "SA %", "RA %")
    for row in rows:
        against = row.trained_against.describe() if row.trained_against else "–"
        table.add_row(*map(_text, (row.kind, row.arch, against, percent(row.SA), percent(row.RA))))
    print_table(console, table)
    _print_notes(
        console,
        [f"trained and tested on {row.dataset}, {row.samples:,} test images" for row in rows],
        [f"RA by {row.attack}" for row in rows],
        [f"licence {row.license}" for row in rows],
    )


def _print_published(console: Console, how: str, rows: list[Source], columns: Fields, below: Fields) -> None:
    from lottery_hub.reporting.screen import percent, print_table

    console.print(f"On the Hugging Face Hub: {how} on ImageNet-1k", style="bold")
    table = _table("--pretrain", "--arch", "SA %", *(LABELS[name] for name in columns))
    archs = [row.arch for row in rows]
    for row in sorted(rows, key=lambda row: (archs.index(row.arch), row.norm == "l2", row.eps)):
        fields = (str(getattr(row, name)) for name in columns)
        table.add_row(*map(_text, (row.pretrain, row.arch, percent(row.accuracy), *fields)))
    print_table(console, table)
    firsts = {row.arch: row for row in reversed(rows)}.values()
    _print_notes(
        console,
        *([f"{LABELS[name]} {getattr(row, name)}" for row in rows] for name in below),
        [f"{row.kind} alone is {row.pretrain}" for row in firsts if row.pretrain != row.kind],
    )


def _print_notes(console: Console, *notes: list[str]) -> None:
    """Print what most rows of a table share: each note once."""
    from lottery_hub.errors import printable

    told = (note for several in notes for note in sorted(set(several)))
    console.print(printable("; ".join(told), 1000) + "\n", style="dim", markup=False)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    # Without side borders, so that a row stays on one line at 80 columns.
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column.endswith("%") else "left", no_wrap=True)
    return table


def _text(value: str) -> Any:
    from rich.text import Text

    from lottery_hub.errors import printable

    return Text(printable(value))
