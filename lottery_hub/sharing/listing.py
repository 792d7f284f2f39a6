"""The tickets, ladders and backbones that are on this machine already: packaged, or in the Hub client's cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lottery_hub.errors import TicketError, printable
from lottery_hub.fetching import hub_cache
from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.settings.answers import answer_of
from lottery_hub.storage import files
from lottery_hub.storage.folder import CONFIG, RESULTS, packaged_folder, packaged_names, read_about, weights_path
from lottery_hub.storage.manifest import BackboneManifest, Content, LadderManifest, TicketManifest
from lottery_hub.storage.records import check_records
from lottery_hub.values import page_table, percent


@dataclass(frozen=True)
class Listed:
    """What a folder on this machine holds, as its config.json and the records of a ticket say; weights are not read.

    Attributes:
        ref: what `load_ticket` or `load_ladder` finds it by.
        where: `packaged`, or `cached` from the Hub.
        content: `ticket`, `ladder` or `backbone`.
        arch, pretrain: of the backbone.
        sparsity: of a ticket, or of a ladder's last level, in 0..1; None of a backbone.
        levels: of a ladder.
        double_win: the verdict on a ticket; None where it was never judged.
        file_bytes: of the weights file.
        dataset: that a ticket was transferred to, or that a backbone was trained on; None where that is not known.
        SA, RA: there; of a judged ticket after adversarial transfer, the mean over seeds, of a ladder its dense
            backbone's.
        answer: the verdict in words, of those that have three: `double win`, `no double win`, `undecided`.
        fraction: of the training images that a ticket was transferred with, in 0..1.
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
    dataset: str | None = None
    SA: float | None = None
    RA: float | None = None
    answer: str | None = None
    fraction: float | None = None

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """Return a row of words for people."""
        levels = "–" if self.levels is None else str(self.levels)
        share = "" if self.fraction in (None, 1) else f", {self.fraction * 100:.4g} %"
        what = (self.ref, self.content, self.arch, self.pretrain, f"{self.dataset or '–'}{share}", levels)
        return (*what, *map(percent, (self.sparsity, self.SA, self.RA)), self.answer or "–")


TOLD = (
    "SA, RA: of a ticket after adversarial transfer to its dataset, with so many of the training images; of a ladder "
    "its dense backbone's, where it was pre-trained. Sparsity: of a ladder's last level."
)
HEADER = ("reference", "holds", "arch", "pretrain", "dataset", "levels", "sparsity %", "SA %", "RA %", "verdict")


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
                **_measured(folder, about),
            )


def _measured(folder: Path, about: BackboneManifest) -> dict[str, Any]:
    """Return dataset, SA, RA and verdict, as far as a folder says them: of a ticket its records, else its origin."""
    if not isinstance(about, TicketManifest):
        return _known(about.provenance)
    try:
        records = files.read_json(folder / RESULTS)
        if not records:  # never transferred
            return {}
        check_records(records)
    except TicketError:
        return {}
    dataset = {"dataset": records["data"]["name"], "fraction": records["data"]["fraction"]}
    if done := records.get("transfer"):
        return dataset | {"SA": done["SA"], "RA": done["RA"]}
    judged = verdict_runs(records)[1]
    ticket = judged.get("adversarial", {})
    return dataset | {"SA": ticket.get("SA"), "RA": ticket.get("RA"), "answer": answer_of(judged)}


def _known(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a backbone where all three were measured; weights of others name no dataset."""
    dataset, *shares = (origin.get(name) for name in ("dataset", "SA", "RA"))
    fine = isinstance(dataset, str) and all(isinstance(share, float) and 0 <= share <= 1 for share in shares)
    return {"dataset": dataset, "SA": shares[0], "RA": shares[1]} if fine else {}
