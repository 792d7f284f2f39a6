"""How a picture becomes what a network sees, and what the network's answers are called: the words of its records.

a picture   of any size and mode
stored      its central square, resized (bilinear) to `stored_size` pixels a side: what a dataset holds
seen        the same where `image_size` is that; else resized again and cropped, see `views.centred`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.recorded import seen_size
from lottery_hub.images.views import EVALUATION_CROP
from lottery_hub.settings.config import Recipe

DEFAULT_SIZE = 32
SIZES = (64, 96, 128, 160, 224)  # that are worth trying where pictures are large


@dataclass(frozen=True)
class Fit:
    """What a network was trained to see.

    Attributes:
        image_size: side of what it sees, in pixels.
        stored_size: side at which pictures are stored before that, in pixels.
        names: of its classes, by label; empty where nobody knows.
    """

    image_size: int = DEFAULT_SIZE
    stored_size: int = DEFAULT_SIZE
    names: tuple[str, ...] = ()

    @property
    def crop_pct(self) -> float:
        """Share of the side that is left when a picture is shown, as timm says it."""
        return 1.0 if self.stored_size == self.image_size else EVALUATION_CROP

    def name(self, label: int) -> str:
        """Return what a class is called; its number where it has no name."""
        return self.names[label] if label < len(self.names) else str(label)

    def at(self, image_size: int | None) -> Fit:
        """Return the same for another size, with pictures stored in the same proportion."""
        if image_size is None or image_size == self.image_size:
            return self
        return Fit(image_size, round(self.stored_size * image_size / self.image_size), self.names)

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able values, with the fixed part of what is done."""
        return {
            "image_size": self.image_size,
            "stored_size": self.stored_size,
            "crop_mode": "center",
            "crop_pct": self.crop_pct,
            "interpolation": "bilinear",
            "class_names": list(self.names),
        }


def fit_of(records: Mapping[str, Any], classes: int) -> Fit:
    """Return what a network of so many classes was trained to see, by records that may be a stranger's or empty."""
    data = records.get("data")
    said = data if isinstance(data, Mapping) else {}
    seen, stored, names = seen_size(records), said.get("image_size"), said.get("class_names")
    seen = seen or DEFAULT_SIZE
    if not (isinstance(names, list) and len(names) == classes and all(isinstance(name, str) for name in names)):
        names = []
    return Fit(seen, stored if type(stored) is int and 1 <= stored <= 1024 else seen, tuple(names))


def sides_of(sides: Sequence[int]) -> str:
    """Return how large pictures were before they were made to fit: `80 to 260`."""
    least, most = sides
    return str(least) if least == most else f"{least} to {most}"


def larger_notes(data: Dataset, image_size: int) -> list[str]:
    """Return what to say before training where pictures are much larger than what the network will see of them."""
    if data.original_sides is None or data.original_sides[1] < 2 * image_size:
        return []
    worth = [size for size in SIZES if image_size < size <= max(data.original_sides[0], 2 * image_size)]
    if not worth:
        return []
    more, sides = worth[-1], sides_of(data.original_sides)
    return [
        f"the pictures are {sides} pixels a side, and the network sees {image_size}x{image_size} of them; "
        f"--image-size {more} shows it more, at about {round((more / image_size) ** 2)} times the work"
    ]


def check_resampled_once(stored: int, recipe: Recipe) -> None:
    """Raise ConfigError where images that were made to fit one size would be made to fit another when they are shown.

    A random-resized crop is a view of an image of any size; every other recipe shows images as they are stored.
    """
    if recipe.augment != "random-resized-crop" and stored != recipe.image_size:
        raise ConfigError(
            f"images are stored at {stored}x{stored} pixels, and the recipe shows them at {recipe.image_size}x"
            f"{recipe.image_size}: they would be resampled twice; give both one size, e.g. "
            f"load_dataset(image_size={recipe.image_size}) or Recipe(image_size={stored}), or --image-size"
        )
