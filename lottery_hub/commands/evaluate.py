"""`evaluate`: SA and RA of a network, with the head it has, on a dataset's test images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

from lottery_hub.commands.options import one_of
from lottery_hub.errors import ConfigError, TicketError, printable
from lottery_hub.reporting.showing import shows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from lottery_hub.commands.results import Evaluated
    from lottery_hub.images.datasets import Dataset, Split
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.robustness.foreign import Call, ForeignAttack
    from lottery_hub.settings.config import Attack, Regime
    from lottery_hub.settings.presets import Norm


@shows("reading network and images")
def evaluate(
    network: str | os.PathLike[str] | Ticket | Backbone | nn.Module,
    dataset: str | os.PathLike[str] | Dataset | Split | None = None,
    *,
    regime: Regime | None = None,
    trained_seed: int | None = None,
    itself: bool = False,
    arch: str | None = None,
    sparsity: float | None = None,
    attack: str | Attack | ForeignAttack | Call | None = "pgd-20",
    eps: float | str | None = None,
    norm: Norm = "linf",
    restarts: int = 1,
    transfer_from: str | os.PathLike[str] | Ticket | Backbone | nn.Module | None = None,
    checks: bool = False,
    corruptions: bool = False,
    unseen: bool = False,
    curve: bool = False,
    samples: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> Evaluated:
    """Measure SA and RA of a network on a dataset's test images: of a judged ticket the one that was trained from it.

    `lottery-hub evaluate` is this function.

    Args:
        network: a ticket, a ladder or a backbone, as of `load_ticket`, or KIND:CHECKPOINT; or a ticket or backbone
            itself; or any model that maps float images [n, 3, h, w] in [0,1] to logits [n, classes].
        dataset: as of `load_dataset`, or one itself, or a split of one; None takes what the network's records name.
        regime: of a judged ticket the network after this transfer; None is adversarial.
        trained_seed: of a judged ticket the network of this transfer; None is 0.
        itself: of a judged ticket its own rewind weights, with the head of its source task.
        arch: of a checkpoint; None takes `resnet18-slim`.
        sparsity: which level of a ladder, in 0..1.
        attack: by which RA is measured: `pgd-20` (any number of steps), `autoattack`, its parts `apgd-ce`, `apgd-dlr`
            and `square`; `none` or None for SA only; an `Attack` with numbers of its own; or any function (model,
            images, labels) → images, as of `ForeignAttack`.
        eps: radius in [0,1] pixel units, a number or "8/255"; None takes the dataset's, which is for Linf. What a
            function returns is held against it only where it is given.
        norm: `linf` or `l2`; `l1` for autoattack and its parts.
        restarts: random starts; one that breaks an image counts.
        transfer_from: another network, as `network` and of the same classes, that is attacked in its place: RA is then
            by adversarial images of that one, the figure of a black box.
        checks: also check that robustness is no masked gradient (Linf; minutes).
        corruptions: also measure accuracy under 15 common corruptions (32x32 images).
        unseen: also measure RA under attacks in L2 and L1.
        curve: also measure RA over the radius, from a quarter of the attack's to twice it, by the attack and by
            AutoAttack (minutes; fewer with `samples`).
        samples: so many test images, drawn with `seed`; None takes all.
        seed: of that draw and of the attacks' starts.
        image_size: side of what the network sees, in pixels; None takes what its records say, or the images' own.
        device: `auto`, `cpu`, `cuda`, a certain GPU as `cuda:1`, or `mps`.
        progress: as of `find`.

    Returns:
        SA, RA and what else was asked for.

    Raises:
        LotteryHubError: an option is not allowed, or what it names cannot be had; or the network has another number
            of classes than the dataset.
    """
    from dataclasses import replace

    from lottery_hub.commands.results import Evaluated
    from lottery_hub.images.datasets import Dataset, sample
    from lottery_hub.images.fitting import fit_of
    from lottery_hub.images.recorded import load_for, seen_size
    from lottery_hub.robustness.black_box import black_box
    from lottery_hub.robustness.curves import measure_curve
    from lottery_hub.robustness.evaluation import evaluate as measure
    from lottery_hub.robustness.foreign import ForeignAttack, attack_of
    from lottery_hub.robustness.masking import check_masking
    from lottery_hub.robustness.unseen import measure_corruptions, measure_unseen
    from lottery_hub.settings import passes
    from lottery_hub.settings.config import Attack, parse_number
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.settings.presets import Norm, habits, named_attack
    from lottery_hub.telling import tell, working

    one_of("norm", norm, get_args(Norm))
    given = parse_number(eps) if isinstance(eps, str) else eps
    own = None if isinstance(attack, str) else attack_of(attack)
    if isinstance(own, ForeignAttack) and own.eps is None and given is not None:
        own = replace(own, eps=given, norm=norm)
    if own is not None:
        norm = own.norm
    if norm != "linf" and checks:
        raise ConfigError(f"the checks of masked gradients are for Linf; leave out --checks or --norm {norm}")
    if norm != "linf" and own is None and attack not in ("none", None) and not eps:
        example = {"l2": "0.5", "l1": "12"}[norm]
        raise ConfigError(f"a dataset's default radius is for Linf; give one with --eps, e.g. --eps {example}")
    chosen = choose_device(device)
    model, records, backbone, about = _model(network, regime, trained_seed, itself, sparsity, arch)
    if isinstance(dataset, str | os.PathLike | None):
        # Pictures are stored in the proportion to what is seen in which the records have them.
        stored = fit_of(records, 0).at(image_size).stored_size if image_size else None
        dataset = load_for(records, None if dataset is None else os.fspath(dataset), image_size=stored)
    whole = dataset.test if isinstance(dataset, Dataset) else dataset
    notes = dataset.notes if isinstance(dataset, Dataset) else ()
    name = dataset.name if isinstance(dataset, Dataset) else None
    classes = _classes(model)
    if isinstance(dataset, Dataset):
        _check_head(network, model, dataset)
    radius = given or (own and own.eps) or habits(name or "").eps
    test_attack = own or named_attack(str(attack or "none"), radius, norm, restarts)
    if curve and not isinstance(test_attack, Attack):
        raise ConfigError("a curve is over the radius of an attack by name, such as pgd-20; choose one, or go without")
    if checks:
        named_attack("pgd-1", radius, norm)  # refuses what is no radius
    split = whole if samples is None else sample(whole, samples, seed)
    # Measured as it was trained: at the size it was shown, on images stored at the size its records name.
    side = image_size or seen_size(records) or split.images.shape[-1]
    source, measured_by = None, test_attack
    if transfer_from is not None:
        if test_attack is None:
            raise ConfigError("images of another network are made by an attack: give one, or leave out --transfer-from")
        other, source = _other(transfer_from, dataset, side, arch)
        measured_by = black_box(other.to(chosen), test_attack, source)
    how: dict[str, Any] = {"image_size": side, "seed": seed, "device": chosen}
    tell("notes", lines=notes)
    called = measured_by.describe(classes) if measured_by else None
    recorded = test_attack.record() if isinstance(test_attack, Attack) else None
    with working(f"RA by {called}" if called else "SA", len(split) * passes.of_image(recorded)):
        accuracy = measure(model.to(chosen), split, attack=measured_by, **how)
    return Evaluated(
        accuracy=accuracy,
        backbone=backbone,
        network=about,
        dataset=name,
        attack=called,
        transfer_from=source,
        of=len(whole),
        seed=seed,
        notes=tuple(notes),
        checks=tuple(check_masking(model, split, radius, **how)) if checks else (),
        corruptions=measure_corruptions({"": model}, split, **how)[""] if corruptions else None,
        curve=tuple(measure_curve({"": model}, split, test_attack, classes=classes, **how)[""])
        if curve and isinstance(test_attack, Attack)
        else (),
        unseen=tuple(measure_unseen({"": model}, split, **how)[""]) if unseen else (),
    )


def _model(
    network: object,
    regime: Regime | None,
    seed: int | None,
    itself: bool,
    sparsity: float | None,
    arch: str | None,
) -> tuple[nn.Module, Mapping[str, Any], str, str]:
    """Return the model that is to be measured, on [0,1] images, its records, its backbone, and which it is in words."""
    from torch import nn

    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.sharing.references import Which, load_network, named
    from lottery_hub.storage.records import check_ticket

    if isinstance(network, nn.Module):
        return network, {}, "", f"{type(network).__name__}, given in Python"
    which = Which(regime, seed, itself)
    if isinstance(network, str | os.PathLike):
        network = load_network(os.fspath(network), which, sparsity=sparsity, arch=arch)
    elif isinstance(network, Ticket):
        network = which.of(network)
        check_ticket(network)
    if not isinstance(network, Ticket | Backbone):
        raise ConfigError(f"a {type(network).__name__} is nothing to evaluate; give a ticket, a backbone or a model")
    model = network.model() if isinstance(network, Backbone) else network.to_normalised(head="pretrained")
    return model, network.records, f"{network.arch} ({network.kind})", named(network)


def _other(other: object, dataset: Dataset | Split, side: int, arch: str | None) -> tuple[nn.Module, str]:
    """Return the model that is attacked in another's place, and which it is in words.

    Raises:
        LotteryHubError: it is none, has another head, or was trained on images of another size.
    """
    from lottery_hub.images.datasets import Dataset
    from lottery_hub.images.recorded import seen_size

    model, records, backbone, about = _model(other, None, None, False, None, arch)
    if isinstance(dataset, Dataset):
        _check_head(other, model, dataset)
    seen = seen_size(records)
    if seen not in (None, side):
        raise ConfigError(f"the network to transfer from sees images of {seen} pixels, and this one of {side}")
    return model, f"{backbone} {about}".strip()


def _check_head(network: object, model: nn.Module, dataset: Dataset) -> None:
    """Refuse a network of ours whose head has other classes than a dataset."""
    classes = _classes(model)
    if classes not in (None, len(dataset.classes)):
        shown = printable(os.fspath(network)) if isinstance(network, str | os.PathLike) else "TICKET"
        raise TicketError(
            f"its head has {classes} classes and {printable(dataset.name)} has {len(dataset.classes)}; "
            f"fine-tune it first: lottery-hub finetune {shown} --dataset {printable(dataset.name)}"
        )


def _classes(model: nn.Module) -> int | None:
    """Return how many classes a network of ours has; None of others, which may keep their head anywhere."""
    from lottery_hub.networks.backbones import Normalised

    return len(model.network.get_parameter("fc.weight")) if isinstance(model, Normalised) else None
