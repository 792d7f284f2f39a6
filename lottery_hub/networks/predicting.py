"""What a network says of pictures: they are made to fit as those it was trained on, and its answers get their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.images.fitting import Fit
from lottery_hub.images.pictures import as_pixels, one_by_one
from lottery_hub.images.views import centred
from lottery_hub.networks.backbones import Normalised


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
    if top < 1 or batch_size < 1:
        raise ConfigError(f"top and batch_size are 1 or more, not {top} and {batch_size}")
    training = [module for module in model.modules() if module.training]
    model.to(device).eval()
    try:
        numbered = enumerate(one_by_one(pictures))
        while batch := list(islice(numbered, batch_size)):
            pixels = torch.stack([as_pixels(each, fit.stored_size, f"picture {place}") for place, each in batch])
            with torch.no_grad():
                logits = model(centred(pixels.to(device), fit.image_size))
            if not bool(logits.isfinite().all()):
                raise TicketError("the network's answers are no numbers; it is damaged")
            shares = logits.double().softmax(1).cpu()
            best = shares.topk(min(top, shares.shape[1]), 1)
            for row, places in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                named = tuple((fit.name(label), share) for label, share in zip(places, row, strict=True))
                yield Prediction(places[0], *named[0], named)
    finally:
        for module in training:
            module.training = True
