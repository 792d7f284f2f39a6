"""The picture of single images: clean, what the attack adds, attacked, and what the network says of both.

It is of images, not of records, so it is made where the images are at hand, and only where somebody asks for it: a page
with it shows them to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lottery_hub.errors import ConfigError, printable
from lottery_hub.images.datasets import Dataset, sample
from lottery_hub.judging.scrutiny import SEED, images_of
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.canvas import Picture
from lottery_hub.reporting.plots import NONE
from lottery_hub.reporting.rendering import percent
from lottery_hub.robustness.examples import Example, Said, examples
from lottery_hub.settings.config import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from lottery_hub.reporting.canvas import Axes

COUNT = 8
GAP = 0.12  # between images, of their side
LONGEST = 14  # letters of a class name under an image


def gallery(ticket: Ticket, dataset: str | Dataset | None = None) -> Picture:
    """Return eight test images under the verdict's attack, and what the network after adversarial transfer says.

    Args:
        ticket: a judged one, with its trained networks.
        dataset: where its images are; None loads those that have a name here.

    Raises:
        LotteryHubError: the images or the network are not at hand, or are not those of the records.
    """
    if ticket.double_win is None:
        raise ConfigError("images are shown to the networks of a verdict, and this ticket was never judged")
    data = images_of(ticket, dataset)
    network = ticket.network("adversarial", 0)
    split = sample(data.test, min(COUNT, len(data.test)), SEED)
    attack = Attack.parse(ticket.records["plan"]["transfer"]["test_attack"])
    model = network.to_normalised(head="pretrained")
    shown = examples(model, split, attack, image_size=network.records["recipe"]["image_size"], seed=SEED)
    return drawn(shown, data.classes, attack)


def drawn(shown: Sequence[Example], classes: Sequence[str], attack: Attack) -> Picture:
    """Return the picture of some examples."""
    names = [printable(name, LONGEST) for name in classes]
    counts = {outcome: sum(each.outcome == outcome for each in shown) for outcome in ("withstands", "broken")}
    wrong = len(shown) - sum(counts.values())
    return Picture(
        name="images",
        title="Images under attack",
        told=(
            f"Of {len(shown)} test images the network is wrong about {wrong} already, {counts['broken']} are broken "
            f"by {attack.describe(len(classes))}, and {counts['withstands']} withstand it."
        ),
        note=(
            f"Drawn at random with seed {SEED}, failures and all; the network after adversarial transfer, seed 0. In "
            f"the middle: what {attack.describe(len(classes))} adds; grey is nothing, black and white are eps. In "
            "brackets: the share that the softmax gives the class."
        ),
        columns=("image", "label", "says of it", "says of it attacked", "outcome"),
        rows=tuple(
            (str(place), names[each.label], _says(each.said, names), _says(each.said_attacked, names), each.outcome)
            for place, each in enumerate(shown, 1)
        ),
        panels=tuple(partial(_panel, each, names, attack.eps) for each in shown),
        size=(4.5, 1.95),
        margins=(0.1, 0.1, 0.34, 0.3),
    )


def _says(said: Said | None, names: Sequence[str]) -> str:
    return NONE if said is None else f"{names[said.label]} ({percent(said.sure)})"


def _panel(shown: Example, names: Sequence[str], eps: float, axes: Axes) -> None:
    axes.set_title(f"{names[shown.label]}: {shown.outcome}")
    tiles: list[tuple[Tensor, str]] = [(shown.clean, _says(shown.said, names))]
    if shown.attacked is not None:
        added = (shown.attacked - shown.clean) / (2 * eps or 1.0) + 0.5
        tiles += [(added.clamp(0, 1), "added"), (shown.attacked, _says(shown.said_attacked, names))]
    for place, (image, said) in enumerate(tiles):
        left = place * (1 + GAP)
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=(left, left + 1, 0, 1), interpolation="nearest")
        axes.annotate(said, (left + 0.5, 0), (0, -4), textcoords="offset points", ha="center", va="top", fontsize=8)
    axes.set_xlim(-0.05, 3 + 2 * GAP + 0.05)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_axis_off()
