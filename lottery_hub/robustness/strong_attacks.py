"""Attacks for measuring, not for training: AutoAttack and its parts, through pyautoattack.

They need no step size and are hard to fool: APGD adapts its steps, the DLR loss does not vanish where logits are
scaled up, FAB looks for the nearest boundary, and Square asks for logits only and needs no gradient at all.

Source: Croce & Hein 2020 (AutoAttack, APGD), 2020 (FAB); Andriushchenko et al. 2020 (Square).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.settings.ambient import float32
from lottery_hub.settings.config import DLR_CLASSES, Attack
from lottery_hub.telling import tell

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
# The standard version, in the order in which each attacks what the ones before could not break.
STANDARD = ["apgd-ce", "apgd-t", "fab-t", "square"]
TARGETED = ("apgd-t", "fab-t")  # not of fewer classes than `DLR_CLASSES`
TARGETS = 9  # the targeted ones try the classes of the next-largest logits
L1_TARGETS, L1_RESTARTS = 5, 5  # of the standard version's APGD in L1


def perturb_strongly(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, seed: int) -> Tensor:
    """Return images inside the ball on which the model errs, where the attack finds such.

    Args:
        model: maps float images [n, 3, h, w] in [0,1] to logits [n, classes]; parameters frozen, in eval mode.
        images: float [n, 3, h, w] in [0,1], classified correctly.
        labels: int64 [n].
        attack: one of `config.STRONG`.
        seed: of random starts and queries. The generators of the caller are left as they were.

    Returns:
        Float [n, 3, h, w] in [0,1]; an image that withstood is returned as it was.

    Raises:
        ConfigError: there are too few classes for APGD-DLR.
    """
    from pyautoattack import AutoAttack  # not with the module: it takes a second, and few need it

    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    parts = STANDARD if attack.method == "autoattack" else [attack.method]
    targets = min(TARGETS, classes - 1)
    if classes < DLR_CLASSES:
        if attack.method == "apgd-dlr":
            raise ConfigError(
                f"{attack.describe()} needs four classes or more, there are {classes}; use autoattack, pgd or square"
            )
        parts = [part for part in parts if part not in TARGETED]
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), float32():
        suite = AutoAttack(
            model,
            norm=_NORMS[attack.norm],
            eps=attack.eps,
            seed=seed,
            device=images.device,
            version="custom",
            attacks=parts,
        )
        # As its standard version sets them (restarts are 1 there); a part of it alone takes those it is given.
        for part in (suite.apgd, suite.apgd_targeted, suite.fab, suite.square):
            part.n_restarts = attack.restarts
        suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = targets
        if attack.norm == "l1":
            # Croce & Hein 2021: a ball this spiky is approached from larger ones.
            suite.apgd.use_largereps = suite.apgd_targeted.use_largereps = True
            suite.apgd_targeted.n_target_classes = min(L1_TARGETS, targets)
            if attack.method == "autoattack":
                suite.apgd.n_restarts = L1_RESTARTS
        if attack.method in ("apgd-ce", "apgd-dlr"):
            suite.apgd.n_iter = attack.steps
        if attack.method == "square":
            suite.square.n_queries = attack.steps
        for place, (name, part) in enumerate(_parts(suite, parts), 1):
            part.perturb = _told(f"{name}, {place} of {len(parts)}", part.perturb)
        broken, _ = suite.run_standard_evaluation(images.contiguous(), labels, batch_size=len(images))
    found: Tensor = broken.detach()
    return found


def _parts(suite: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what makes each part of the attack; APGD makes both of its losses."""
    makers = {"apgd-t": suite.apgd_targeted, "fab-t": suite.fab, "square": suite.square}
    return ((name, makers.get(name, suite.apgd)) for name in names)


def _told(what: str, perturb: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the same attack, which tells that it has begun."""

    def telling(*given: Any, **named: Any) -> Tensor:
        tell("stage", what=f"{what}, {len(given[0]):,} images")
        return perturb(*given, **named)

    return telling
