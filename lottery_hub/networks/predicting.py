"""What a network says of pictures: they are made to fit as those it was trained on, and its answers get their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lottery_hub.errors import ConfigError, DataError, TicketError
from lottery_hub.images.fitting import Fit
from lottery_hub.images.pictures import as_pixels, one_by_one
from lottery_hub.images.views import centred
from lottery_hub.networks.backbones import Normalised
from lottery_hub.settings.environment import choose_device


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture.

    Attributes:
        label: the likeliest class.
        name: what that class is called; its number where nobody knows.
        probability: of it, by softmax, in 0..1.
        top: names and probabilities of the likeliest classes, in order.
    """

    label: int
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        top = [{"name": name, "probability": share} for name, share in self.top]
        return {"label": self.label, "name": self.name, "probability": self.probability, "top": top}


def predict(
    model: Normalised,
    fit: Fit,
    pictures: Any,
    *,
    top: int = 5,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Iterator[Prediction]:
    """Yield what a network says of each picture, in order; its training flags are restored.

    Args:
        model: takes [0,1] images.
        fit: what it was trained to see.
        pictures: one or several: files, Pillow images, arrays or tensors; see `pictures.as_pixels`.
        top: so many of the likeliest classes, at most.
        batch_size: pictures in a pass.
        device: where to compute.

    Raises:
        DataError: a picture cannot be read.
        ConfigError: `top` or `batch_size` is none.
        TicketError: the network answers with numbers that are none.
    """
    for _, said in predict_each(model, fit, one_by_one(pictures), top=top, batch_size=batch_size, device=device):
        if isinstance(said, DataError):
            raise said
        yield said


def predict_each(
    model: Normalised,
    fit: Fit,
    pictures: Iterable[Any],
    *,
    top: int = 5,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Any, Prediction | DataError]]:
    """Yield each picture, in order, with what a network says of it, or with why it cannot be read.

    Args:
        model, fit, top, batch_size, device: see `predict`.
        pictures: single ones, as `pictures.as_pixels` takes them; a DataError in place of one that was not found; None
            where the next may be long in coming, so that those before are told at once.

    Raises:
        ConfigError: `top` or `batch_size` is none.
        TicketError: the network answers with numbers that are none.
    """
    if not all(isinstance(number, int) and number >= 1 for number in (top, batch_size)):
        raise ConfigError(f"top and batch_size are numbers, 1 or more, not {top!r} and {batch_size!r}")
    device = choose_device(device) if isinstance(device, str) else device
    training = [module for module in model.modules() if module.training]
    model.to(device).eval()
    try:
        place = 0
        for batch in _batches(pictures, batch_size):
            read = [_pixels(each, fit.stored_size, f"picture {place + row}") for row, each in enumerate(batch)]
            place += len(batch)
            found = [each for each in read if isinstance(each, Tensor)]
            said = iter(_said(model, fit, torch.stack(found).to(device), top) if found else ())
            for given, each in zip(batch, read, strict=True):
                yield given, next(said) if isinstance(each, Tensor) else each
    finally:
        for module in training:
            module.training = True


def _batches(pictures: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield pictures in lists of one size; shorter ones at the end, and where a None stands."""
    batch: list[Any] = []
    for each in pictures:
        if each is not None:
            batch.append(each)
        if batch and (each is None or len(batch) == size):
            yield batch
            batch = []
    if batch:
        yield batch


def _pixels(picture: Any, size: int, where: str) -> Tensor | DataError:
    if isinstance(picture, DataError):
        return picture
    try:
        return as_pixels(picture, size, where)
    except DataError as problem:
        return problem


def _said(model: Normalised, fit: Fit, pixels: Tensor, top: int) -> Iterator[Prediction]:
    """Yield what a network says of pixels from 0 to 255."""
    with torch.no_grad():
        logits = model(centred(pixels, fit.image_size))
    if not bool(logits.isfinite().all()):
        raise TicketError("the network's answers are no numbers; it is damaged")
    shares = logits.double().softmax(1).cpu()
    best = shares.topk(min(top, shares.shape[1]), 1)
    for row, places in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        named = tuple((fit.name(label), share) for label, share in zip(places, row, strict=True))
        yield Prediction(places[0], *named[0], named)
