"""The tickets, ladders and backbones that are on this machine already: packaged, or in the Hub client's cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lottery_hub.errors import TicketError, printable
from lottery_hub.fetching import hub_cache
from lottery_hub.storage import files
from lottery_hub.storage.folder import CONFIG, packaged_folder, packaged_names, read_about, weights_path
from lottery_hub.storage.manifest import Content, LadderManifest, TicketManifest
from lottery_hub.values import page_table, percent


@dataclass(frozen=True)
class Listed:
    """What a folder on this machine holds, as its config.json says; nothing else of it was read or checked.

    Attributes:
        ref: what `load_ticket` or `load_ladder` finds it by.
        where: `packaged`, or `cached` from the Hub.
        content: `ticket`, `ladder` or `backbone`.
        arch, pretrain: of the backbone.
        sparsity: of a ticket, or of a ladder's last level, in 0..1; None of a backbone.
        levels: of a ladder.
        double_win: the verdict on a ticket; None where it was never judged.
        file_bytes: of the weights file.
    """

    ref: str
    where: Literal["packaged", "cached"]
    content: Content
    arch: str
    pretrain: str
    sparsity: float | None
    levels: int | None
    double_win: bool | None
    file_bytes: int

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """Return a row of words for people."""
        size = "–" if self.sparsity is None else percent(self.sparsity)
        judged = {None: "–", True: "double win", False: "no double win"}[self.double_win]
        levels = "–" if self.levels is None else str(self.levels)
        return (self.ref, self.content, self.arch, self.pretrain, levels, size, judged)


HEADER = ("reference", "holds", "arch", "pretrain", "levels", "sparsity %", "verdict")


class Listing(list[Listed]):
    """What there is, packaged ones first."""

    def _repr_html_(self) -> str:
        return page_table("On this machine", HEADER, [row.cells() for row in self])


def list_tickets() -> Listing:
    """Return the tickets, ladders and backbones that are packaged or in the Hub client's cache.

    No network is asked. Of a repository every commit that was fetched is a row; a folder in the cache that is none of
    ours, or not whole, is none.
    """
    return Listing([*_rows(_packaged(), "packaged"), *_rows(hub_cache.snapshots(CONFIG), "cached")])


def _packaged() -> Iterator[tuple[str, Path]]:
    for name in packaged_names():
        if (folder := packaged_folder(name)) is not None:
            yield name, folder


def _rows(found: Iterable[tuple[str, Path]], where: Literal["packaged", "cached"]) -> Iterator[Listed]:
    for ref, folder in found:
        with suppress(TicketError, OSError):  # not ours, or not fetched to its end
            about = read_about(folder)
            weights = weights_path(folder, about)
            if not files.is_file(weights):
                continue
            ladder = about if isinstance(about, LadderManifest) else None
            ticket = about if isinstance(about, TicketManifest) else None
            yield Listed(
                ref=printable(ref),
                where=where,
                content=about.content,
                arch=about.arch,
                pretrain=about.pretrain,
                sparsity=ladder.sparsities[-1] if ladder else ticket.sparsity if ticket else None,
                levels=ladder.levels if ladder else None,
                double_win=ticket.double_win if ticket else None,
                file_bytes=weights.stat().st_size,
            )
