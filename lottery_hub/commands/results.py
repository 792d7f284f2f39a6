"""What the commands give back: what was made, where it is, and how it fares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery_hub.errors import ConfigError, printable
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.networks.backbones import Backbone, Normalised
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting import screen
from lottery_hub.reporting.canvas import Picture
from lottery_hub.reporting.details import security
from lottery_hub.reporting.pictures import plot
from lottery_hub.reporting.reports import Reported, called, render_report
from lottery_hub.robustness.evaluation import Accuracy
from lottery_hub.robustness.masking import Check
from lottery_hub.settings.config import REGIMES, Regime
from lottery_hub.settings.paths import place_of
from lottery_hub.storage.folder import load_backbone_folder, load_ticket
from lottery_hub.storage.ownership import leave

if TYPE_CHECKING:
    import pandas


class Made:
    """What is in a folder of its own: it can be given wherever a folder is asked for."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True, repr=False)
class Found(Made):
    """What a find found.

    Attributes:
        folder: the ticket's.
        summary: everything that the command prints with `--json`, but the folder.
        arch, kind: of the backbone.
        dataset: the downstream dataset's name.
    """

    folder: Path
    summary: Mapping[str, Any]
    arch: str
    kind: str
    dataset: str

    @classmethod
    def of(cls, summary: Mapping[str, Any], backbone: Backbone, data: Dataset) -> Found:
        """Return what a find of this backbone on these images says."""
        rest = {name: value for name, value in summary.items() if name != "ticket"}
        return cls(Path(summary["ticket"]), rest, backbone.arch, backbone.kind, data.name)

    @cached_property
    def ticket(self) -> Ticket:
        """The ticket: its rewind weights and mask, with every record."""
        return load_ticket(self.folder)

    def model(self, regime: Regime = "adversarial", seed: int = 0) -> Normalised:
        """Return the network that was trained from the ticket, on float images [n, 3, h, w] in [0,1].

        Args:
            regime: of its transfer.
            seed: of its transfer, from 0 to seeds - 1.

        Raises:
            TicketError: the folder holds no such network.
        """
        return self.trained(regime, seed).to_normalised(head="pretrained")

    def trained(self, regime: Regime = "adversarial", seed: int = 0) -> Ticket:
        """Return that network as a ticket, with the records of its training."""
        if regime not in REGIMES:
            raise ConfigError(f"unknown regime {printable(repr(regime))}; choose {' or '.join(REGIMES)}")
        return self.ticket.network(regime, seed)

    @property
    def double_win(self) -> bool:
        """Whether the ticket is one."""
        return bool(self.summary["double_win"])

    @property
    def verdict(self) -> str:
        """The answer in words."""
        return str(self.summary["answer"])

    @property
    def sparsity(self) -> float:
        """Of the ticket, in 0..1."""
        return float(self.summary["sparsity"])

    @property
    def levels(self) -> list[dict[str, Any]]:
        """A row for each level that was tried, with its figures on test images, and on `validation` inside."""
        return list(self.summary["levels"])

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The four figures behind the verdict: dense, ticket, their difference with its interval, and the tolerance."""
        return list(verdict_runs(self.summary)[1]["figures"])

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table: a row for dense and for each level that was tried, SA and RA on test images, in 0..1.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as problem:
            raise ConfigError("tables need pandas, which is not installed: pip install pandas") from problem
        dense = {"level": 0, "sparsity": 0.0, **self.summary["dense"]}
        return DataFrame([self._row(row) for row in [dense, *self.levels]])

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"level": row["level"], "sparsity": row["sparsity"]}
        for split, inside in (("validation", row["validation"]), ("test", row)):
            for regime, figure in screen.COLUMNS:
                measured = inside.get(regime)
                told[f"{regime} {figure}, {split}"] = measured and measured[figure]
            # A word where there are three answers: what cannot be told is no "no".
            told[f"double win, {split}"] = inside.get("answer", inside.get("double_win"))
        return told

    def report(self) -> str:
        """Return what the command prints: the levels, the four figures, and the verdict."""
        return screen.as_text(lambda console: screen.print_find(console, self.record(), self.about))

    def plot(self, what: str = "curve") -> Picture:
        """Return a picture of the ticket; see `lottery_hub.plot`."""
        return plot(self.ticket, what)

    def page(self, path: Path | str | None = None, overwrite: bool = False) -> Path:
        """Write the report as one page of HTML, with every picture and figure.

        Args:
            path: of the file; None puts it into the run directory, as `report.html`.
            overwrite: move a page that somebody changed aside, to `NAME.old`, instead of refusing.

        Raises:
            TicketError: something else is there, or the file cannot be written.
        """
        place = self.folder.parent / "report.html" if path is None else place_of(path)
        page = render_report([Reported.read(self.folder, called(str(self.folder)))])
        return leave(place, page.encode(), overwrite)

    @property
    def about(self) -> str:
        """Backbone and dataset in words."""
        return f"{self.arch} ({self.kind}) on {printable(self.dataset)}"

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"ticket": str(self.folder), **self.summary}

    def __repr__(self) -> str:
        shown = f"{self.verdict} at {screen.percent(self.sparsity)} % sparsity (level {self.summary['level']})"
        return f"Found({self.about}: {shown}, {printable(self.folder)})"

    def _repr_html_(self) -> str:
        return screen.as_html(lambda console: screen.print_find(console, self.record(), self.about))


@dataclass(frozen=True)
class Drawn(Made):
    """A ladder that was drawn, and its folder."""

    folder: Path
    ladder: Ladder

    def record(self) -> dict[str, Any]:
        """Return where and what it is, ready for JSON."""
        ladder = self.ladder
        return {"ladder": str(self.folder), "method": ladder.method, "sparsities": list(ladder.sparsities)}


@dataclass(frozen=True, repr=False)
class Pretrained(Made):
    """A backbone that was pre-trained: its folder, and the record of its training."""

    folder: Path
    training: Mapping[str, Any]

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone."""
        return load_backbone_folder(self.folder)

    @property
    def accuracy(self) -> Accuracy:
        """On the test images."""
        return _accuracy(self.training["test"])

    @property
    def attack(self) -> str:
        """By which RA was measured."""
        return str(self.training["test_attack"])

    def record(self) -> dict[str, Any]:
        """Return where it is and how it fares, ready for JSON."""
        return {"backbone": str(self.folder), "test": self.training["test"], "test_attack": self.attack}

    def __repr__(self) -> str:
        return f"Pretrained({_figures(self.accuracy, self.attack)}, {printable(self.folder)})"


@dataclass(frozen=True, repr=False)
class Finetuned(Made):
    """A ticket that was fine-tuned: the trained network's folder, and the record of its training."""

    folder: Path
    directory: Path
    sparsity: float
    training: Mapping[str, Any]

    @cached_property
    def ticket(self) -> Ticket:
        """The trained network as a ticket: its weights, pruned ones exactly 0, and its mask."""
        return load_ticket(self.folder)

    def model(self) -> Normalised:
        """Return the trained network, on float images [n, 3, h, w] in [0,1]."""
        return self.ticket.to_normalised(head="pretrained")

    @property
    def accuracy(self) -> Accuracy:
        """On the test images."""
        return _accuracy(self.training)

    @property
    def attack(self) -> str | None:
        """By which RA was measured."""
        attack = self.training["attack"]
        return None if attack is None else str(attack)

    def record(self) -> dict[str, Any]:
        """Return where it is and everything that was recorded, ready for JSON."""
        return {"ticket": str(self.folder), "sparsity": self.sparsity, **self.training}

    def __repr__(self) -> str:
        return f"Finetuned({_figures(self.accuracy, self.attack)}, {printable(self.folder)})"


@dataclass(frozen=True, repr=False)
class Evaluated:
    """How a network fares.

    Attributes:
        accuracy: SA and RA.
        backbone: of the network; empty for a model that is none of ours.
        network: which was measured, in words.
        dataset: its name; None for a bare split.
        attack: by which RA was measured; None where none was.
        of: images in the split, of which `accuracy.samples` were looked at.
        seed: of their draw and of the attacks' starts.
        notes: how the images were made to fit.
        checks: that robustness is no masked gradient, where asked for.
        corruptions: images right under each at severities 1 to 5, and the mean accuracy; None where not asked for.
        unseen: RA under attacks in other norms, a row each, where asked for.
        curve: RA over the radius, by the attack and by AutoAttack, a row each, where asked for; `plot` draws it.
        transfer_from: the network that was attacked in this one's place, in words; None where this one was itself.
    """

    accuracy: Accuracy
    backbone: str
    network: str
    dataset: str | None
    attack: str | None
    of: int
    seed: int
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    corruptions: Mapping[str, Any] | None = None
    unseen: tuple[Mapping[str, Any], ...] = ()
    curve: tuple[Mapping[str, Any], ...] = ()
    transfer_from: str | None = None

    @property
    def SA(self) -> float:  # noqa: N802 - the field's word
        """Share of clean images classified correctly."""
        return self.accuracy.SA

    @property
    def RA(self) -> float | None:  # noqa: N802 - the field's word
        """Share of images classified correctly both clean and attacked; None where none was attacked."""
        return self.accuracy.RA

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        told = {
            "dataset": self.dataset,
            "network": self.network,
            "notes": list(self.notes),
            "attack": self.attack,
            "seed": self.seed,
            "of": self.of,
            **self.accuracy.record(),
        }
        told |= {"transfer_from": self.transfer_from} if self.transfer_from else {}
        told |= {"checks": [check.record() for check in self.checks]} if self.checks else {}
        told |= {"corruptions": self.corruptions} if self.corruptions else {}
        told |= {"curve": list(self.curve)} if self.curve else {}
        return told | ({"unseen": list(self.unseen)} if self.unseen else {})

    def plot(self) -> Picture:
        """Return the picture of RA over the radius.

        Raises:
            ConfigError: it was not asked for.
        """
        if not self.curve:
            raise ConfigError("RA was measured at one radius alone; evaluate with curve=True, or --curve")
        return security({"networks": {"": list(self.curve)}, "samples": self.accuracy.samples})

    def __repr__(self) -> str:
        on = f"{printable(self.dataset)}: " if self.dataset else ""
        return f"Evaluated({on}{_figures(self.accuracy, self.attack)})"


def _accuracy(record: Mapping[str, Any]) -> Accuracy:
    return Accuracy(record["samples"], record["correct"], record["robust"])


def _figures(accuracy: Accuracy, attack: str | None) -> str:
    robust = "" if accuracy.RA is None else f", RA {screen.percent(accuracy.RA)} % by {printable(attack)}"
    return f"SA {screen.percent(accuracy.SA)} %{robust}, {accuracy.samples} test images"
