"""A closer look at the networks behind a verdict: what do they withstand besides the verdict's attack?

    checks        AutoAttack beside the verdict's own attack, and the checks of masked gradients (`masking`)
    corruptions   noise, blur, weather and compression, of ticket and dense side by side (`unseen`)
    unseen        attacks in the norms L2 and L1, of ticket and dense side by side (`unseen`)
    curve         the verdict's attack and AutoAttack over radii, of both after adversarial transfer (`curves`)

What is found stands in the records under `scrutiny`, and on the card.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lottery_hub.errors import ConfigError, DataError, TicketError, printable
from lottery_hub.fetching import names
from lottery_hub.images.datasets import Dataset, Split, load_planned, sample
from lottery_hub.images.opening import NAMES
from lottery_hub.images.recorded import recorded_plan
from lottery_hub.networks.tickets import Ticket
from lottery_hub.robustness.corruptions import SIDE
from lottery_hub.robustness.curves import measure_curve
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.robustness.masking import check_masking
from lottery_hub.robustness.outcomes import interval
from lottery_hub.robustness.unseen import Conditions, measure_corruptions, measure_unseen
from lottery_hub.settings import passes
from lottery_hub.settings.config import REGIMES, Attack, Look
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.paths import path_of
from lottery_hub.storage import files
from lottery_hub.telling import tell, working

SAMPLES = 500  # test images of a look; all where there are fewer
CURVE_SAMPLES = 200  # of the curve, which is AutoAttack ten times
SEED = 0
# Which trained networks are set side by side.
COMPARED = tuple(f"{which}-{regime}-seed-0" for regime in REGIMES for which in ("dense", "ticket"))
CURVED = COMPARED[2:]  # after standard transfer there is little to fall

CHECKED = "ticket, adversarial transfer, seed 0"  # whose masked gradients are looked for


def look(
    wanted: Look,
    networks: Mapping[str, Ticket],
    data: Dataset,
    attack: Attack,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Take one look at trained networks.

    Args:
        wanted: which.
        networks: e.g. `ticket-adversarial-seed-0` → trained ticket, as `find` keeps them.
        data: its test split is sampled, with seed 0.
        attack: the verdict's.
        device: where to compute.

    Returns:
        The JSON-able record; it says which network, how many images, and what it was measured with.

    Raises:
        ConfigError: it cannot be taken, see `check_possible`.
    """
    began = time.monotonic()
    split = sample(data.test, samples_of(wanted, len(data.test)), SEED)
    if wanted == "checks":
        found = _checks(networks["ticket-adversarial-seed-0"], split, attack, device)
    elif wanted == "curve":
        curved = {name: networks[name].to_normalised().to(device) for name in CURVED}
        classes = len(networks[CURVED[0]].weights["fc.weight"])
        side = networks[CURVED[0]].records["recipe"]["image_size"]
        conditions: Conditions = {"image_size": side, "seed": SEED, "device": device}
        found = {"networks": measure_curve(curved, split, attack, classes=classes, **conditions)}
    else:
        measure = measure_corruptions if wanted == "corruptions" else measure_unseen
        models = {name: networks[name].to_normalised().to(device) for name in COMPARED}
        image_size = networks[COMPARED[0]].records["recipe"]["image_size"]
        found = {"networks": measure(models, split, image_size=image_size, seed=SEED, device=device)}
    return {
        "samples": len(split),
        "seed": SEED,
        **found,
        "environment": describe_environment(device),
        "seconds": round(time.monotonic() - began, 3),
    }


def samples_of(wanted: str, total: int) -> int:
    """Return how many of so many test images a look is at."""
    return min(SAMPLES, CURVE_SAMPLES, total) if wanted == "curve" else min(SAMPLES, total)


def check_possible(wanted: Sequence[Look], data: Dataset, attack: Attack) -> None:
    """Raise ConfigError where a look cannot be taken, before hours are spent on what it would look at."""
    if "checks" in wanted and attack.norm != "linf":
        raise ConfigError(
            f"the checks of masked gradients are for attacks in Linf, not in {attack.norm}; go without them"
        )
    height, width = data.test.images.shape[2:]
    if "corruptions" in wanted and (height, width) != (SIDE, SIDE):
        raise ConfigError(f"corruptions are for {SIDE}x{SIDE} images, not {height}x{width}; leave out --corruptions")


def images_of(ticket: Ticket, dataset: str | Dataset | None = None, *, fetch: bool = False) -> Dataset:
    """Load the images on which a ticket's figures were measured, from elsewhere where `dataset` says so, or is them.

    Without `dataset` nothing but a dataset that has a name here is loaded on the word of the records, and with
    `fetch` one that they name on the Hub; never a folder.

    Raises:
        DataError: they are not to be had, or not on the word of the records.
        TicketError: what is there are other images.
    """
    plan = recorded_plan(ticket.records)
    if plan is None:
        raise TicketError("its records name no images")
    if isinstance(dataset, Dataset):
        check_images(ticket, dataset)
        return dataset
    if plan.revision is not None:
        names.revision(plan.revision, DataError)
    if dataset is None and plan.dataset not in NAMES:
        _check_origin(plan.dataset, fetch)
    if dataset is not None and path_of(dataset).is_dir():  # a folder has no revisions
        plan = plan.model_copy(update={"revision": None})
    loaded = load_planned(plan.changed(dataset=dataset), local=dataset is not None)
    check_images(ticket, loaded)
    return loaded


def _check_origin(name: str, fetch: bool) -> None:
    """Raise DataError unless records may have this dataset fetched."""
    if not names.fits(names.dataset_id, name) or files.is_there(Path(name)):
        raise DataError(f"the records name their images {printable(name, 80)}, which is no dataset to be fetched")
    if not fetch:
        raise DataError(f"the images are a dataset of the Hub, {name}; --fetch downloads it")


def check_images(ticket: Ticket, data: Dataset) -> None:
    """Raise TicketError unless these are the images on which a ticket's figures were measured."""
    recorded = ticket.records["data"]["fingerprint"]
    if data.fingerprint != recorded:
        raise TicketError(
            f"{printable(data.name)} holds other images than those of the records (fingerprint {data.fingerprint}, "
            f"not {printable(recorded)}); give the right ones with --dataset"
        )


def attacks_of_checks(attack: Attack) -> tuple[Attack, Attack]:
    """Return the verdict's attack, and AutoAttack in its ball: of few classes, those of its parts that there are."""
    return attack, Attack(method="autoattack", norm=attack.norm, eps=attack.eps)


def _checks(network: Ticket, split: Split, attack: Attack, device: torch.device | str) -> dict[str, Any]:
    """Measure by the verdict's attack and by AutoAttack, on the same images, and check for masked gradients."""
    image_size = network.records["recipe"]["image_size"]
    model = network.to_normalised().to(device)
    classes = len(network.weights["fc.weight"])
    rows, bits = [], []
    tell("plan", what="attack", most=2)
    for each in attacks_of_checks(attack):
        with working(each.describe(classes), len(split) * passes.of_image(each.record())):
            measured = evaluate(model, split, attack=each, image_size=image_size, seed=SEED, device=device)
        assert measured.outcomes is not None
        assert measured.outcomes.RA is not None
        bits.append(measured.outcomes.RA)
        rows.append({"attack": each.describe(classes), **measured.record(), "outcomes": measured.outcomes.record()})
    checks = check_masking(model, split, attack.eps, image_size=image_size, seed=SEED, device=device)
    return {
        "network": CHECKED,
        "attacks": rows,
        "gap": rows[0]["RA"] - rows[1]["RA"],
        "gap_interval": list(interval([bits[0]], [bits[1]])),
        "checks": [check.record() for check in checks],
        "passed": all(check.passed for check in checks),
    }
