"""Records as tables, for a spreadsheet, pandas or parquet: a row a figure, or a row an image.

A figure is that of one network, after one transfer, on one split, under one attack. Everything in a row stands in the
records, so that a table is as old as they are; but labels and predictions, of which records keep only whether one was
the other, come from images and networks at hand.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from lottery_hub.errors import ConfigError, TicketError, printable
from lottery_hub.images.datasets import sampled_rows
from lottery_hub.judging.scrutiny import SEED
from lottery_hub.judging.verdict import control_name, level_name
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.robustness.corruptions import SEVERITIES
from lottery_hub.robustness.outcomes import Outcomes

if TYPE_CHECKING:
    import pandas

Format = Literal["csv", "parquet", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
Holds = Literal["string", "int", "float", "bool"]

_WHAT: dict[str, Holds] = {
    "dataset": "string",
    "arch": "string",
    "pretrain": "string",
    "network": "string",  # dense, ticket, or control: another mask of the ticket's sparsity
    "method": "string",
    "level": "int",
    "sparsity": "float",
    "regime": "string",
    "seed": "int",
    "split": "string",
    "look": "string",  # checks, corruptions, unseen or curve: on a sample of the split
    "attack": "string",
}
FIGURES: dict[str, Holds] = _WHAT | {
    "corruption": "string",
    "severity": "int",
    "samples": "int",
    "correct": "int",
    "robust": "int",
    "SA": "float",
    "RA": "float",
}
IMAGES: dict[str, Holds] = _WHAT | {
    "image": "int",  # its place in the split
    "label": "int",
    "prediction": "int",  # of the clean image
    "clean": "bool",  # whether it is right
    "attacked": "bool",  # and stays right under the attack
}
MOST_ROWS = 20_000_000  # of a table of images: a hundred transfers of CIFAR-10 are 1.5 million
_PANDAS = {"string": "string", "int": "Int64", "float": "float64", "bool": "boolean"}

Labels = Mapping[str, Sequence[int]]  # by split
Predictions = Mapping[tuple[str, str], Sequence[int | None]]  # by network, `ticket-adversarial-seed-0`, and split


@dataclass(frozen=True)
class Table:
    """Columns by name, each of one kind; what is not known is None."""

    kinds: dict[str, Holds]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row by column."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def to_pandas(self) -> pandas.DataFrame:
        """Return it for pandas; whole numbers stay whole where some are missing.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as problem:
            raise ConfigError("tables need pandas, which is not installed: pip install pandas") from problem
        kinds = {name: _PANDAS[kind] for name, kind in self.kinds.items()}
        return pandas.DataFrame({name: pandas.array(self.columns[name], dtype=kind) for name, kind in kinds.items()})

    def encoded(self, format: Format) -> bytes:
        """Return it as a file: CSV with a header, a JSON array of objects, or parquet; text in UTF-8."""
        if format == "parquet":
            return self._parquet()
        if format == "json":
            return (json.dumps(list(self.rows()), ensure_ascii=False, allow_nan=False) + "\n").encode()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*self.columns.values(), strict=True))
        return text.getvalue().encode()

    def _parquet(self) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
        columns = {name: pa.array(self.columns[name], types[kind]) for name, kind in self.kinds.items()}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        return bytes(sink.getvalue())


@dataclass(frozen=True)
class _Measured:
    """One figure: what it is of, the record of it, and which images were right where that was kept."""

    about: dict[str, Any]
    record: Mapping[str, Any]
    outcomes: Outcomes | None = None
    places: list[int] | None = None  # of its images in the split; None where they are all of it


def figures_table(of: Ticket | Ladder | Backbone) -> Table:
    """Return a row for each figure in the records of a ticket, ladder or backbone.

    Raises:
        TicketError: there is none.
    """
    columns: dict[str, list[Any]] = {name: [] for name in FIGURES}
    for measured in _figures(of):
        row = measured.about | {key: measured.record.get(key) for key in ("samples", "correct", "robust", "SA", "RA")}
        for name, values in columns.items():
            values.append(_shown(row.get(name)))
    if not columns["split"]:
        raise TicketError("its records hold no figures: it was never transferred, or measured")
    return Table(FIGURES, columns)


def images_table(ticket: Ticket, labels: Labels, predictions: Predictions) -> Table:
    """Return a row for each image that was measured, of each network, after each transfer.

    Args:
        ticket: with its records.
        labels: of the images, where they are at hand.
        predictions: of the networks that are at hand.

    Raises:
        TicketError: it was never transferred.
    """
    columns: dict[str, list[Any]] = {name: [] for name in IMAGES}
    for measured in _figures(ticket):
        seen, about = measured.outcomes, measured.about
        if seen is None:
            continue
        split, places = about["split"], measured.places or list(range(len(seen.SA)))
        if len(columns["image"]) + len(places) > MOST_ROWS:
            raise TicketError(f"its records are of more than {MOST_ROWS:,} outcomes of single images")
        for name in _WHAT:
            columns[name] += [_shown(about.get(name))] * len(places)
        columns["image"] += places
        columns["clean"] += seen.SA.tolist()
        columns["attacked"] += [None] * len(places) if seen.RA is None else seen.RA.tolist()
        known = labels.get(split)
        columns["label"] += [None] * len(places) if known is None else [known[place] for place in places]
        name = f"{about['network']}-{about['regime']}-seed-{about['seed']}"
        kept = about["network"] == "dense" or (about["network"] == "ticket" and about["level"] == ticket.level)
        said = predictions.get((name, split)) if kept else None
        columns["prediction"] += [None] * len(places) if said is None else [said[place] for place in places]
    if not columns["image"]:
        raise TicketError("its records hold the outcomes of no images: it was never transferred")
    return Table(IMAGES, columns)


def _figures(of: Ticket | Ladder | Backbone) -> Iterator[_Measured]:
    if isinstance(of, Backbone):
        return _of_backbone(of)
    if isinstance(of, Ladder):
        return _of_ladder(of)
    return _of_transfer(of) if "transfer" in of.records else _of_verdict(of) if of.records else iter(())


def _of_backbone(backbone: Backbone) -> Iterator[_Measured]:
    records = backbone.records
    if records:
        about = {"arch": backbone.arch, "pretrain": backbone.kind, "network": "dense", "level": 0, "sparsity": 0.0}
        about |= {"dataset": records["data"]["name"], "seed": records["plan"]["seed"]}
        yield _Measured(about | {"split": "test", "attack": records["test_attack"]}, records["test"])


def _of_ladder(ladder: Ladder) -> Iterator[_Measured]:
    """Yield the backbone, and each level as it was trained on the source task while it was drawn."""
    backbone, drawing = ladder.backbone, ladder.drawing
    yield from _of_backbone(backbone)
    about: dict[str, Any] = {"arch": backbone.arch, "pretrain": backbone.kind}
    about |= {"network": "ticket", "method": ladder.method}
    about |= {"dataset": (drawing.get("data") or {}).get("name"), "seed": (drawing.get("plan") or {}).get("seed")}
    for row in drawing.get("rounds", ()):
        if "source" in row:
            level = {"level": row["level"], "sparsity": 1 - row["kept"] / row["total"]}
            yield _Measured(about | level | {"split": "test", "attack": row.get("source_attack")}, row["source"])


def _of_transfer(ticket: Ticket) -> Iterator[_Measured]:
    records = ticket.records
    yield from _of_run(records["transfer"], _about(ticket, "ticket" if ticket.sparsity else "dense"))


def _of_verdict(ticket: Ticket) -> Iterator[_Measured]:
    records = ticket.records
    networks = {level_name(0): _about(ticket, "dense")}
    for row in records["levels"]:
        about = _about(ticket, "ticket")
        networks[level_name(row["level"])] = about | {"level": row["level"], "sparsity": row["sparsity"]}
    for row in records["controls"]:
        name = control_name(row["method"], records["level"])
        networks[name] = _about(ticket, "ticket") | {"network": "control", "method": row["method"]}
    for run in records["transfers"]:
        if run["ticket"] not in networks:
            raise TicketError(f"a transfer is of {printable(run['ticket'])}, of which the records know nothing else")
        yield from _of_run(run, networks[run["ticket"]])
    for name, look in records["scrutiny"].items():
        yield from _of_look(ticket, name, look)


def _about(ticket: Ticket, network: Literal["ticket", "dense"]) -> dict[str, Any]:
    """Return what a row says of the ticket, or of the dense backbone beside it."""
    about = {"dataset": ticket.records["data"]["name"], "arch": ticket.arch, "pretrain": ticket.kind}
    size: dict[str, Any] = {"level": 0, "sparsity": 0.0}
    if network == "ticket":
        size = {"method": ticket.method, "level": ticket.level, "sparsity": ticket.sparsity}
    return about | {"network": network} | size


def _of_run(run: Mapping[str, Any], network: dict[str, Any]) -> Iterator[_Measured]:
    about = network | {"regime": run["regime"], "seed": run["seed"], "attack": run["attack"]}
    for split, record in (("test", run), ("validation", run["validation"])):
        yield _Measured(about | {"split": split}, record, Outcomes.parse(record["outcomes"], record["samples"]))


def _of_look(ticket: Ticket, name: str, look: Mapping[str, Any]) -> Iterator[_Measured]:
    """Yield the figures of a closer look, which is at some of the test images."""
    rows = sampled_rows(ticket.records["data"]["test"], look["samples"], SEED).tolist()
    if name == "checks":
        yield from _attacked(_looked(ticket, "ticket-adversarial-seed-0", name), look["attacks"], rows)
        return
    for network, seen in look["networks"].items():
        about = _looked(ticket, network, name)
        if name in ("unseen", "curve"):
            yield from _attacked(about, seen, rows)
            continue
        for corruption, counts in seen["correct"].items():
            for severity, correct in zip(SEVERITIES, counts, strict=False):
                record = {"samples": look["samples"], "correct": correct, "SA": correct / look["samples"]}
                yield _Measured(about | {"corruption": corruption, "severity": severity}, record)


def _attacked(about: dict[str, Any], attacks: Iterable[Mapping[str, Any]], rows: list[int]) -> Iterator[_Measured]:
    for record in attacks:
        seen = Outcomes.parse(record["outcomes"], len(rows))
        yield _Measured(about | {"attack": record["attack"]}, record, seen, rows)


def _looked(ticket: Ticket, name: str, look: str) -> dict[str, Any]:
    """Return what a row says of a network that was looked at, `ticket-adversarial-seed-0`."""
    network, regime, _, seed = name.split("-")
    about = _about(ticket, "dense" if network == "dense" else "ticket")
    return about | {"regime": regime, "seed": int(seed), "split": "test", "look": look}


def _shown(value: Any) -> Any:
    return printable(value, 300) if isinstance(value, str) else value
