"""Searching the Hugging Face Hub for tickets: by tags there, by the figures of their cards here.

Cards are strangers' words. A figure that a card lacks, or holds something else in its place, is None, and a ticket
without the figure that is asked for is not found. A row of the list that names no repository is skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from lottery_hub.errors import ConfigError, printable
from lottery_hub.fetching import names
from lottery_hub.fetching.answers import models
from lottery_hub.fetching.connection import Conversation, Patience
from lottery_hub.fetching.pasted import page_of
from lottery_hub.judging.verdict import FIGURES
from lottery_hub.reporting.boards import Listed
from lottery_hub.reporting.cards import LIBRARY, TICKET_TAG, WINNER_TAG, dataset_id
from lottery_hub.reporting.plots import NONE
from lottery_hub.settings.answers import NOT_JUDGED, answer_of
from lottery_hub.settings.config import REGIMES, Kind

EXPAND = ["cardData", "model-index", "sha", "downloads"]


@dataclass(frozen=True)
class Found:
    """A ticket on the Hub, as its card describes it; nothing of it was fetched or checked.

    Attributes:
        repo_id: what `load_ticket` finds it by.
        commit: newest commit of "main".
        arch, pretrain: of the backbone.
        dataset: that it was transferred to.
        sparsity: over the prunable weights, in 0..1.
        double_win: the verdict; None where it was never judged.
        figures: "SA after standard transfer" and so on → accuracy in 0..1.
        attack: by which RA was measured.
        samples: test images.
        downloads: in the last month.
        answer: `double win`, `no double win`, `undecided` or `not judged`.
    """

    repo_id: str
    commit: str | None
    arch: str | None = None
    pretrain: str | None = None
    dataset: str | None = None
    sparsity: float | None = None
    double_win: bool | None = None
    figures: dict[str, float] = field(default_factory=dict)
    attack: str | None = None
    samples: int | None = None
    downloads: int | None = None
    answer: str = NOT_JUDGED

    @property
    def robust(self) -> float | None:
        """RA after adversarial transfer, in 0..1."""
        return self.figures.get("RA after adversarial transfer")

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)

    def listed(self) -> Listed:
        """Return its row of a board: what the card says."""
        return Listed(
            name=self.repo_id,
            backbone=f"{self.arch or NONE} ({self.pretrain or NONE})",
            dataset=self.dataset or NONE,
            answer=self.answer,
            sparsity=self.sparsity,
            figures=self.figures,
            link=page_of(self.repo_id),
            attack=self.attack or "",
        )


class SearchResult(list[Found]):
    """The tickets that were found, sparsest first.

    Attributes:
        skipped: rows of the Hub's list that could not be read, and so may have been tickets.
    """

    def __init__(self, found: Iterable[Found] = (), skipped: int = 0) -> None:
        super().__init__(found)
        self.skipped = skipped


def search_tickets(
    *,
    dataset: str | None = None,
    pretrain: str | None = None,
    arch: str | None = None,
    min_sparsity: float | None = None,
    min_ra: float | None = None,
    double_win: bool = False,
    limit: int | None = None,
    patience: Patience | None = None,
) -> SearchResult:
    """Search the Hub for tickets.

    Args:
        dataset: that they were transferred to: a short name such as `cifar10`, or a Hub id.
        pretrain: `std`, `fast-adv` or `adv`.
        arch: e.g. `resnet18-slim`.
        min_sparsity: over the prunable weights, in 0..1.
        min_ra: RA after adversarial transfer, in 0..1, by whatever attack the card names.
        double_win: only those whose verdict is a double win.
        limit: at most so many, the sparsest; None means all.
        patience: how long to try.

    Returns:
        What was found, sparsest first: a list, which also says how many rows could not be read.

    Raises:
        ConfigError: an argument is out of range.
        DownloadError: the Hub cannot be asked.
    """
    for name, share in (("min_sparsity", min_sparsity), ("min_ra", min_ra)):
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"{name} lies in 0..1, not {share}; 89 % is 0.89")
    if pretrain is not None and pretrain not in get_args(Kind):
        raise ConfigError(f"pretrain is one of {', '.join(get_args(Kind))}, not {printable(repr(pretrain))}")
    hub_id = dataset_id(dataset) if dataset else None
    tags = [
        LIBRARY,
        TICKET_TAG,
        *([WINNER_TAG] if double_win else []),
        *([f"pretrain:{pretrain}"] if pretrain else []),
        *([f"arch:{arch}"] if arch else []),
        *([f"dataset:{hub_id}"] if hub_id else []),
    ]
    query = [("filter", tag) for tag in tags] + [("expand", name) for name in EXPAND]
    found, skipped = [], 0
    for row in models(Conversation(patience or Patience(deadline=60.0)), query):
        ticket = _found(row)
        if ticket is None:
            skipped += 1
        elif (
            (min_sparsity is None or (ticket.sparsity is not None and ticket.sparsity >= min_sparsity))
            and (min_ra is None or (ticket.robust is not None and ticket.robust >= min_ra))
            and (dataset is None or hub_id is not None or ticket.dataset == dataset)
            and (not double_win or ticket.double_win is True)
        ):
            found.append(ticket)
    found.sort(key=lambda ticket: (-(ticket.sparsity or 0.0), ticket.repo_id))
    return SearchResult(found[:limit], skipped)


def _found(row: Any) -> Found | None:
    """Return the ticket that a row of the Hub's list is about, None where it is about no repository."""
    model = _mapping(row)
    if not names.fits(names.repo_id, model.get("id")):
        return None
    card = _mapping(model.get("cardData"))
    own = _mapping(card.get("lottery_hub"))
    results = _first(_first(card.get("model-index") or model.get("model-index")).get("results"))
    figures, attack, samples = _figures(results.get("metrics"))
    return Found(
        repo_id=str(model["id"]),
        commit=model["sha"] if names.fits(names.commit, model.get("sha")) else None,
        arch=_text(own.get("arch")),
        pretrain=_text(own.get("pretrain")),
        dataset=_text(_mapping(results.get("dataset")).get("name")),
        sparsity=_share(own.get("sparsity")),
        double_win=own.get("double_win") if isinstance(own.get("double_win"), bool) else None,
        answer=answer_of(own),
        figures=figures,
        attack=attack,
        samples=samples,
        downloads=_count(model.get("downloads")),
    )


def _figures(metrics: Any) -> tuple[dict[str, float], str | None, int | None]:
    """Return the figures of a card's metrics by name, the attack of RA, and the number of test images."""
    known = {f"{figure} after {regime} transfer" for figure in FIGURES for regime in REGIMES}
    figures: dict[str, float] = {}
    attack, samples = None, None
    for metric in map(_mapping, metrics if isinstance(metrics, list) else []):
        name, value, settings = metric.get("name"), _share(metric.get("value")), _mapping(metric.get("args"))
        if isinstance(name, str) and name in known and value is not None:
            figures[name] = value
            attack = _text(settings.get("attack")) or attack
            samples = _count(settings.get("samples"))
    return figures, attack, samples


def _first(value: Any) -> Mapping[str, Any]:
    """Return the first of a list of objects; cards of this library have one."""
    return _mapping(value[0]) if isinstance(value, list) and value else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _share(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 1 else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
