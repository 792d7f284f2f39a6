"""Ladders and tickets as data: rewind weights and masks, never a model with hooks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lottery_hub.errors import TicketError, printable
from lottery_hub.images.fitting import Fit, fit_of
from lottery_hub.networks.backbones import (
    ARCHITECTURES,
    HEAD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    Normalised,
    Weights,
    build_network,
    fingerprint,
    with_fresh_head,
)
from lottery_hub.networks.compacting import Compacted, compact
from lottery_hub.networks.holding import hold_mask, inside
from lottery_hub.networks.masks import Mask, kept_and_total
from lottery_hub.networks.predicting import Prediction, predict
from lottery_hub.settings.answers import answer_of
from lottery_hub.settings.config import Kind, Method, Regime
from lottery_hub.values import page_table, percent, same_fields, whole

MAX_LEVELS = 64


@dataclass(frozen=True)
class Networks(Mapping[str, "Ticket"]):
    """The trained networks beside a judged ticket by name, e.g. `ticket-adversarial-seed-0`, each read when asked for.

    Attributes:
        names: tells which there are.
        load: reads the one of a name; None where there is none.
    """

    names: Callable[[], Iterable[str]]
    load: Callable[[str], Ticket | None]

    def __getitem__(self, name: str) -> Ticket:
        found = self.load(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(list(self.names()))


@dataclass(frozen=True)
class Ticket:
    """One level of a ladder: m ⊙ θ_pre, with its records.

    One that was judged by transfers is two things: the ticket itself, which research transfers, and the networks that
    came of it, which one deploys: `network` gives those.

    Attributes:
        arch: a key of `backbones.ARCHITECTURES`.
        kind: how the backbone was pre-trained.
        weights: timm's state dict with every pruned weight exactly 0; the pre-trained fc included.
        mask: name → bool, True where kept. A kept weight may happen to be zero.
        level: its place in the ladder.
        method: how it was drawn.
        mean, std: per channel, applied to [0,1] pixels.
        provenance: where backbone and mask come from.
        records: every record behind the verdict (the content of results.json); empty before transfer.
        networks: the trained networks behind the verdict by name, where they are at hand.
    """

    arch: str
    kind: Kind
    weights: Weights
    mask: Mask
    level: int
    method: Method
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    provenance: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Ticket] = field(default_factory=dict, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.arch, self.kind, self.level, self.kept_and_total))

    def __repr__(self) -> str:
        return f"Ticket({self._shown()})"

    def _repr_html_(self) -> str:
        kept, total = self.kept_and_total
        size = [("sparsity %", "0.00", percent(self.sparsity)), ("weights kept", f"{total:,}", f"{kept:,}")]
        return page_table(f"Ticket: {self._shown()}", ("", "dense", "ticket"), [*size, *_figures(self.records)])

    def _shown(self) -> str:
        kept, total = self.kept_and_total
        drawn = "imported" if "imported" in self.provenance else f"level {self.level} by {self.method}"
        what = "fine-tuned" if "transfer" in self.records else self.answer
        size = f"{percent(self.sparsity)} % sparsity, {kept:,} of {total:,} weights kept"
        return f"{self.arch} ({self.kind}), {drawn}: {size}; {what}"

    @property
    def masks(self) -> Mask:
        """The mask, name → bool tensor over the prunable weights."""
        return self.mask

    @cached_property
    def sparsity(self) -> float:
        """1 - kept/total over the prunable weights, in 0..1."""
        kept, total = self.kept_and_total
        return 1 - kept / total

    @cached_property
    def kept_and_total(self) -> tuple[int, int]:
        """(kept, total) as integer counts over the prunable weights."""
        return kept_and_total(self.mask)

    @property
    def double_win(self) -> bool | None:
        """Whether its records say so; None where it was never judged."""
        verdict = self.records.get("double_win")
        return verdict if isinstance(verdict, bool) else None

    @property
    def answer(self) -> str:
        """`double win`, `no double win` or `undecided`, as its records say; `not judged` where they have no verdict."""
        return answer_of(self.records)

    @property
    def judged(self) -> bool:
        """Whether it was transferred and compared with dense, so that trained networks belong to it."""
        return isinstance(self.records.get("transfers"), list)

    def network(self, regime: Regime = "adversarial", seed: int = 0) -> Ticket:
        """Return the network that was trained from this ticket, with its head; of one never judged, the ticket itself.

        Args:
            regime: of its transfer.
            seed: of its transfer.

        Raises:
            TicketError: that network is not at hand, or is not the one that the records are of.
        """
        if not self.judged:
            return self
        name = f"ticket-{regime}-seed-{seed}"
        found = self.networks.get(name)
        if found is None:
            there = ", ".join(map(printable, self.networks)) or "none"
            raise TicketError(
                f"the trained network {printable(name)} is not beside the ticket (there: {there}); run find again, "
                "fetch it with `pull --models`, or take the ticket itself, with the pre-trained head (--ticket)"
            )
        runs = [each for each in self.records["transfers"] if isinstance(each, Mapping)]  # it may be a stranger's
        if found.fingerprint() not in [run.get("trained") for run in runs if run.get("regime") == regime]:
            raise TicketError(f"trained/{printable(name)} is none of the networks that the records are of")
        return found

    def fingerprint(self) -> str:
        """Return `sha256:…` over weights and mask."""
        return fingerprint(self.weights | {f"mask/{name}": kept for name, kept in self.mask.items()})

    def to_model(
        self, num_classes: int | None = None, head: Literal["auto", "pretrained", "fresh"] = "auto", seed: int = 0
    ) -> nn.Module:
        """Build a plain timm ResNet: what was trained from the ticket, or the ticket itself to be trained.

        Its `pretrained_cfg` carries mean and std, which timm leaves to the caller; `to_normalised` builds a
        model that takes [0,1] images instead. With a fresh head it is in training mode, as timm gives it; with a head
        that is there already it is in evaluation mode, ready to be used.

        Args:
            num_classes: classes of a fresh dense head over the ticket's weights; None keeps a head that there is.
            head: `fresh` draws a new head from `seed`, `pretrained` keeps the one stored with the ticket, the source
                task's. `auto` draws a new one where `num_classes` is given; else it takes the network that was trained
                adversarially, with its head, where the ticket was judged (see `network` for others), and the stored
                head where it was not.
            seed: of the fresh head.

        Raises:
            TicketError: the stored head has another number of classes than asked for, or there is no trained network.
        """
        if head == "auto" and num_classes is None and self.judged:
            return self.network().to_model()
        weights = self.weights
        classes = len(weights["fc.weight"])
        if head == "pretrained" and num_classes not in (None, classes):
            raise TicketError(f"the pre-trained head has {classes} classes, not {num_classes}; use head='fresh'")
        fresh = head == "fresh" or (head == "auto" and num_classes is not None)
        if fresh:
            weights = with_fresh_head(weights, num_classes or classes, seed)
        network = build_network(self.arch, weights).train(fresh)
        config = getattr(network, "pretrained_cfg", None)
        if isinstance(config, dict):
            config.update(mean=self.mean, std=self.std, num_classes=len(weights["fc.weight"]))
        return network

    def to_normalised(
        self, num_classes: int | None = None, head: Literal["auto", "pretrained", "fresh"] = "auto", seed: int = 0
    ) -> Normalised:
        """Build a model that takes [0,1] images: `to_model` behind its normalisation, and in its mode."""
        return Normalised(self.to_model(num_classes, head, seed), self.mean, self.std)

    def hold_mask(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> RemovableHandle:
        """Keep the ticket sparse in a training loop of your own: after every `optimizer.step()` pruned weights are 0.

        Exactly 0, whatever momentum and weight decay do, and with them in every moving average that begins at the
        ticket. The mask *holds* where "keep" would be ambiguous: the kept weights are those that are not pruned.

        Args:
            optimizer: of the model's parameters; of torch or timm, or what accelerate or Lightning made of one. A new
                optimizer, also one that was copied or read from a file, is to be told again.
            model: that `to_model` or `to_normalised` made, or what holds it: torch.compile, DataParallel,
                DistributedDataParallel, a LightningModule. Its pruned weights are set to 0 at once.

        Returns:
            A handle, whose `remove` lets the mask go.

        Raises:
            TicketError: the model is not the ticket's network, or the optimizer trains another.
        """
        return hold_mask(self.mask, optimizer, model)

    def with_weights(self, model: nn.Module) -> Ticket:
        """Return the ticket with the weights of a model that a loop of your own has trained, to save or measure it.

        It carries no records: what it can do was not measured here.

        Args:
            model: as of `hold_mask`, or a moving average of it.

        Raises:
            TicketError: the model is not the ticket's network, or pruned weights have come back.
        """
        found = inside(model.state_dict(), self.weights)
        weights = {
            name: tensor.detach().to("cpu", self.weights[name].dtype, copy=True).contiguous()
            for name, tensor in found.items()
        }
        for name, tensor in weights.items():
            if tensor.shape != self.weights[name].shape and name not in HEAD:
                raise TicketError(f"the model is another network than the ticket's: {name} has another shape")
        revived = sum(int(weights[name][~kept].count_nonzero()) for name, kept in self.mask.items())
        if revived:
            raise TicketError(
                f"{revived:,} pruned weights are not 0; call ticket.hold_mask(optimizer, model) before training"
            )
        return replace(self, weights=weights, records={}, networks={})

    @property
    def fit(self) -> Fit:
        """What its own weights were trained to see and to answer, by its records."""
        return fit_of(self.records, len(self.weights["fc.weight"]))

    def predict(
        self, pictures: Any, *, top: int = 5, batch_size: int = 64, device: torch.device | str = "cpu"
    ) -> list[Prediction]:
        """Return what the network says of pictures: of a judged ticket the one that was trained from it.

        Args:
            pictures: one, or several in a row: paths of files, Pillow images, arrays or tensors of one picture or a
                batch (channels first or last, uint8 or float in [0,1]). Of any size: they are made to fit as the
                training images were. `network(...).predict` asks another network of a judged ticket.
            top: so many of the likeliest classes, at most.
            batch_size: pictures in a pass.
            device: where to compute.

        Returns:
            One prediction a picture, in order.

        Raises:
            DataError: a picture cannot be read, or is of another kind.
            TicketError: the trained network is not at hand.
        """
        network = self.network()
        model = network.to_normalised(head="pretrained")
        return list(predict(model, network.fit, pictures, top=top, batch_size=batch_size, device=device))

    def compact(self, image_size: int = 32) -> Compacted:
        """Build the network with the stored head, without the filters and channels that the mask has emptied.

        It is for inference only: its logits are those of `to_model` in eval mode, and under training they would part.
        As with `to_model` normalisation is left to the caller.

        Args:
            image_size: side of the image for which multiplications are counted, in pixels.

        Returns:
            The smaller network, and what it costs before and after; see `compacting.compact`.
        """
        return compact(self.to_model(), image_size)


@dataclass(frozen=True)
class Ladder:
    """A backbone's rewind weights and the nested masks of all its levels.

    Nestedness needs no check: a weight is stored as the number of rounds it survived, and level k keeps
    those that survived at least k.

    Attributes:
        backbone: θ_pre.
        survived: name → uint8 tensor over the prunable weights; rounds survived, at most `levels`.
        levels: rounds drawn.
        method: how.
        drawing: the plan and the source task's record of every level.
    """

    backbone: Backbone
    survived: Mapping[str, Tensor]
    levels: int
    method: Method
    drawing: dict[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.backbone, self.method, self.sparsities))

    def __repr__(self) -> str:
        return f"Ladder({self._shown()})"

    def _repr_html_(self) -> str:
        rows = [(level, percent(sparsity)) for level, sparsity in enumerate(self.sparsities)]
        return page_table(f"Ladder: {self._shown()}", ("level", "sparsity %"), rows)

    def _shown(self) -> str:
        backbone, top = self.backbone, percent(self.sparsities[-1])
        return f"{backbone.arch} ({backbone.kind}), {self.levels} levels by {self.method}, up to {top} % sparsity"

    def __len__(self) -> int:
        """How many tickets there are: one a level, and level 0, which is dense."""
        return self.levels + 1

    def __getitem__(self, level: int) -> Ticket:
        """Return a level as a ticket; level 0 is dense, level -1 the sparsest."""
        number = operator.index(level)  # a TypeError for what is none, as of a list
        return self.ticket(number + len(self) if number < 0 else number)

    def __iter__(self) -> Iterator[Ticket]:
        """Yield every level as a ticket, from dense to sparse."""
        known = self.backbone.fingerprint()
        return (self.ticket(level, fingerprint=known) for level in range(len(self)))

    def mask(self, level: int) -> Mask:
        """Return the mask of a level; level 0 is dense.

        Raises:
            TicketError: there is no such level.
        """
        number = whole(level)
        if number is None or not 0 <= number <= self.levels:
            raise TicketError(f"this ladder has levels 0 to {self.levels}, not {printable(repr(level))}")
        return {name: rounds >= level for name, rounds in self.survived.items()}

    @cached_property
    def sparsities(self) -> tuple[float, ...]:
        """Sparsity of every level, from level 0 on."""
        rounds = torch.cat([rounds.flatten() for rounds in self.survived.values()])
        survivors = torch.bincount(rounds.long(), minlength=self.levels + 1).flip(0).cumsum(0).flip(0)
        return tuple(1 - int(count) / rounds.numel() for count in survivors)

    def level_at(self, sparsity: float) -> int:
        """Return the level nearest to `sparsity`; see `level_at`."""
        return level_at(self.sparsities, sparsity)

    def ticket(self, level: int, records: dict[str, Any] | None = None, *, fingerprint: str | None = None) -> Ticket:
        """Return one level as a ticket; `fingerprint` is θ_pre's, where it is known already."""
        return ticket_of(self.backbone, self.mask(level), level, self.method, self.drawing, records, fingerprint)


def _figures(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the four figures of a verdict in words; none where the records, which may be a stranger's, have none."""
    try:
        (chosen,) = (row for row in records["levels"] if row["level"] == records["level"])
        return [
            (f"{row['regime']} {row['figure']} %", percent(row["dense"]), percent(row["ticket"]))
            for row in chosen["figures"]
        ]
    except (LookupError, TypeError, ValueError):
        return []


def level_at(sparsities: tuple[float, ...], sparsity: float) -> int:
    """Return the level whose sparsity is nearest to `sparsity` (0..1).

    Raises:
        TicketError: `sparsity` is beyond the sparsest level by more than half a percent.
    """
    given: object = sparsity  # by who may not be checked for types
    if not isinstance(given, Real) or not 0 <= sparsity < 1:
        raise TicketError(f"a sparsity lies in 0..1, not {printable(repr(sparsity))}; 89 % is 0.89")
    if sparsity > sparsities[-1] + 0.005:
        raise TicketError(f"the sparsest level of this ladder is {sparsities[-1]:.4f}, below {sparsity}")
    return min(range(len(sparsities)), key=lambda level: abs(sparsities[level] - sparsity))


def ticket_of(
    backbone: Backbone,
    mask: Mask,
    level: int,
    method: Method,
    drawing: dict[str, Any],
    records: dict[str, Any] | None = None,
    fingerprint_: str | None = None,
) -> Ticket:
    """Build the ticket m ⊙ θ_pre from a backbone and a mask."""
    pruned = {name: torch.where(kept, backbone.weights[name], 0.0) for name, kept in mask.items()}
    return Ticket(
        arch=backbone.arch,
        kind=backbone.kind,
        weights=dict(backbone.weights) | pruned,
        mask=mask,
        level=level,
        method=method,
        mean=backbone.mean,
        std=backbone.std,
        provenance={
            "backbone": backbone.provenance | {"fingerprint": fingerprint_ or backbone.fingerprint()},
            "drawing": drawing,
        },
        records=records or {},
    )


def is_known_arch(arch: str) -> bool:
    """Whether a stranger's file may ask for this architecture."""
    return arch in ARCHITECTURES
