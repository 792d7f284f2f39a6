"""A radius at which the robust accuracy after standard transfer says something.

At the radius of the verdict's attack a network from standard transfer often withstands nothing, dense or pruned: then
RA is 0 beside 0, and separates no ticket from any other. At a smaller one it does. It is found on dense alone, on
validation images, so that no ticket and no test image has a part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lottery_hub.settings.config import Attack

LEAST, MOST = 0.10, 0.60  # RA of dense that separates tickets
ABOVE_GUESSING = 1.2  # times its share, at least
HALVINGS, STEPS = 10, 8


def telling_radius(attack: Attack, measure: Callable[[Attack], float], classes: int) -> dict[str, Any]:
    """Return a radius at which dense withstands between 10 and 60 %, and those that were tried, as JSON-able values.

    The radius is halved until dense withstands enough, and sought between the last two where it withstands too much
    there. Where dense withstands enough of the attack itself, it is that of the attack.

    Args:
        attack: of the verdict.
        measure: returns the RA of dense under an attack.
        classes: of the dataset; with few of them, guessing withstands more than 10 %.

    Returns:
        `eps`, `RA` and `tried`; the attack's own radius where dense withstands too little at any.
    """
    least = max(LEAST, ABOVE_GUESSING / classes)
    most = max(MOST, least + 0.2)
    tried: list[dict[str, float]] = []

    def robust(eps: float) -> float:
        tried.append({"eps": eps, "RA": measure(attack.at(eps))})
        return tried[-1]["RA"]

    high = low = attack.eps
    while robust(low) < least:
        if len(tried) > HALVINGS:
            return tried[0] | {"tried": tried}
        high, low = low, low / 2
    while not least <= tried[-1]["RA"] <= most and low < high and len(tried) < HALVINGS + STEPS:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if robust(middle) < least else (middle, high)
    # With few images RA may leap over the whole range: then the nearest above it.
    return min((each for each in tried if each["RA"] >= least), key=lambda each: each["RA"]) | {"tried": tried}
