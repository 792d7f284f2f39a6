"""All the numbers, in one place: dataset budgets, and the quick and paper presets.

`quick` is for a laptop and 32x32 images. `paper` carries the numbers of Chen et al. 2022 (arXiv 2206.04762)
and of its reference code, which trains on images upsampled to 224; its robust accuracies cannot be compared
with those of networks that see 32x32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.config import (
    STRONG,
    Attack,
    Augment,
    DataPlan,
    DrawPlan,
    Kind,
    Method,
    Precision,
    Recipe,
    TransferPlan,
)

Norm = Literal["linf", "l2", "l1"]
Preset = Literal["quick", "paper"]

DRAW_IMAGES = 22_500  # images a laptop's round of imp is trained on
CHOICES = 20  # epochs that a laptop's transfer is validated at, about


@dataclass(frozen=True)
class Habits:
    """What a dataset's images bear.

    Attributes:
        eps: radius of the Linf attack, in [0,1] pixel units.
        flip: whether a mirrored image keeps its label.
        images: how many images the quick preset's (standard, adversarial) transfers see, epochs times size.
    """

    eps: float
    flip: bool
    images: tuple[int, int] = (90_000, 60_000)


CIFAR = Habits(eps=8 / 255, flip=True)
HABITS: dict[str, Habits] = {
    # docs/budgets.md: at 8/255 robust digits hardly feel an attack, at 0.2 they are hard to learn.
    "digits": Habits(eps=0.1, flip=False, images=(13_000, 16_000)),
    "mnist": Habits(eps=0.3, flip=False),
    "svhn": Habits(eps=8 / 255, flip=False),
    "tiny-imagenet": Habits(eps=4 / 255, flip=True),
}


def habits(dataset: str) -> Habits:
    """Return a dataset's habits by its name; CIFAR's where it is not known."""
    return HABITS.get(dataset, CIFAR)


# Sides in pixels of the images of datasets that have small ones.
SIDES = {"digits": 32, "mnist": 32, "svhn": 32, "cifar10": 32, "cifar100": 32, "tiny-imagenet": 64}


def stored_size(dataset: str, recipe: Recipe) -> int:
    """Return the side at which a dataset's images are best stored for a recipe, in pixels.

    A random-resized crop, and the central crop that goes with it, are taken from images that are larger than what the
    network sees, by 256/224; small images are stored as they are, and enlarged when they are shown.
    """
    cropped = recipe.augment == "random-resized-crop"
    wanted = round(recipe.image_size * 256 / 224) if cropped else recipe.image_size
    return min(wanted, SIDES.get(dataset, wanted)) if cropped else wanted


def pgd(steps: int, eps: float, norm: Norm = "linf", restarts: int = 1) -> Attack:
    """Return PGD with steps of eps/4 (2/255 at 8/255), or what crosses the ball where steps are few."""
    step_size = max(eps / 4, 2 * eps / max(steps + 1, 2))
    return Attack.parse({"eps": eps, "step_size": step_size, "steps": steps, "norm": norm, "restarts": restarts})


def named_attack(name: str, eps: float, norm: Norm, restarts: int = 1) -> Attack | None:
    """Return the attack of a name: `pgd-20` (any number), `apgd-ce`, `apgd-dlr`, `square`, `autoattack` or `none`.

    Steps are those of AutoAttack's standard version: 100 for APGD, 5,000 queries for Square. Restarts of AutoAttack
    are its own.

    Raises:
        ConfigError: there is no such attack.
    """
    if name == "none":
        return None
    kind, _, steps = name.partition("-")
    if kind == "pgd" and steps.isdecimal() and len(steps) <= 9 and int(steps) > 0:
        return pgd(int(steps), eps, norm, restarts)
    if name in STRONG:
        steps_of = {"apgd-ce": 100, "apgd-dlr": 100, "square": 5000, "autoattack": 1}
        return Attack.parse({"method": name, "norm": norm, "eps": eps, "steps": steps_of[name], "restarts": restarts})
    raise ConfigError(f"unknown attack {printable(repr(name))}; choose pgd-20, {', '.join(STRONG)} or none")


def source_attack(kind: Kind, eps: float) -> Attack | None:
    """Return what a backbone of a kind is pre-trained and drawn against at laptop scale."""
    return {"std": None, "fast-adv": Attack(method="n-fgsm", eps=eps), "adv": pgd(3, eps)}[kind]


def quick_transfer(dataset: str, train_images: int, precision: Precision, eps: float | None = None) -> TransferPlan:
    """Return the laptop recipes; the number of epochs follows the number of images, eps is the dataset's unless given.

    How many images the transfers see is one of the dataset's habits; they take 4 to 60 epochs, and choose among
    about 20 of them at most, on no more images than are trained on: else validation would cost more than training.
    """
    used_to = habits(dataset)
    eps = used_to.eps if eps is None else eps
    augment: Augment = "crop-flip" if used_to.flip else "crop"

    def epochs(images: int) -> int:
        return max(4, min(60, round(images / train_images)))

    def every(count: int) -> int:
        return max(1, count // CHOICES)

    counts = [epochs(images) for images in used_to.images]
    standard = Recipe(
        epochs=counts[0],
        batch_size=64,
        lr=0.02,
        schedule="one-cycle",
        augment=augment,
        validate_every=every(counts[0]),
        validation_images=validation_size(train_images),
        precision=precision,
    )
    adversarial = standard.changed(
        epochs=counts[1], validate_every=every(counts[1]), attack=pgd(3, eps), selection_attack=pgd(5, eps)
    )
    return TransferPlan(standard=standard, adversarial=adversarial, test_attack=pgd(20, eps))


def validation_size(train_images: int) -> int:
    """Return how many images to choose an epoch on: as many as are trained on, else choosing costs more; at least 500.

    An attack for measuring takes about twice the passes of one for training, and there are `CHOICES` validations to a
    hundred epochs: so they take less than a third of the time of a transfer.
    """
    return max(500, train_images)


def paper_transfer(
    dataset: str, precision: Precision, eps: float | None = None, train_images: int | None = None
) -> TransferPlan:
    """Return the paper's downstream recipes: 150 standard epochs; 100 adversarial ones, on SVHN 80 with cosine.

    The epoch is chosen among about 20, on no more images than are trained on where their number is given.
    """
    standard = Recipe(
        epochs=150,
        batch_size=64,
        lr=1e-3,
        schedule="steps",
        milestones=(50, 100),
        weight_decay=5e-4,
        augment="random-resized-crop",
        image_size=224,
        validate_every=150 // CHOICES,
        validation_images=0 if train_images is None else validation_size(train_images),
        precision=precision,
    )
    attack = pgd(10, 8 / 255 if eps is None else eps).changed(batch_norm="train")
    svhn = dataset == "svhn"
    adversarial = standard.changed(
        epochs=80 if svhn else 100,
        validate_every=(80 if svhn else 100) // CHOICES,
        batch_size=128,
        lr=0.01 if svhn else 0.1,
        schedule="cosine" if svhn else "steps",
        milestones=() if svhn else (50, 75),
        attack=attack,
        selection_attack=attack.changed(steps=20, batch_norm="eval"),
    )
    return TransferPlan(
        standard=standard, adversarial=adversarial, test_attack=attack.changed(steps=20, batch_norm="eval")
    )


def at_size(transfer: TransferPlan, image_size: int | None) -> TransferPlan:
    """Return the same recipes for networks that see images of this side, in pixels; None changes nothing."""
    return transfer.changed(
        standard=transfer.standard.changed(image_size=image_size),
        adversarial=transfer.adversarial.changed(image_size=image_size),
    )


def quick_draw(kind: Kind, source: str, name: str, method: Method, train_images: int, precision: Precision) -> DrawPlan:
    """Return the laptop's drawing: 14 rounds (95.6 %) of about 22,500 images each.

    `source` is what to load, `name` the dataset's name, which decides its habits.
    """
    eps = habits(name).eps
    recipe = Recipe(
        epochs=max(1, round(DRAW_IMAGES / train_images)),
        batch_size=128,
        lr=0.01,
        schedule="constant",
        augment="crop-flip" if habits(name).flip else "crop",
        attack=source_attack(kind, eps),
        select="last",
        precision=precision,
    )
    data = DataPlan(dataset=source, fraction=min(1.0, DRAW_IMAGES / train_images))
    return DrawPlan(method=method, rounds=14, data=data, recipe=recipe)


def paper_draw(kind: Kind, source: str, method: Method, precision: Precision) -> DrawPlan:
    """Return the paper's drawing: 19 rounds (98.56 %) of 30 epochs, PGD-3 where the backbone is robust.

    Nobody has 2,048 such images on one GPU: BatchNorm sees 256 of them, as on eight GPUs.
    """
    robust = kind != "std"
    recipe = Recipe(
        epochs=30,
        batch_size=2048,
        lr=5e-4,
        schedule="constant",
        weight_decay=1e-4,
        augment="random-resized-crop",
        image_size=224,
        attack=Attack(eps=8 / 255, step_size=16 / (3 * 255), steps=3, batch_norm="train") if robust else None,
        select="last",
        validate_every=30,  # the last epoch is kept, however it does
        norm_batch=256,
        precision=precision,
    )
    return DrawPlan(
        method=method, rounds=19, data=DataPlan(dataset=source, image_size=256), recipe=recipe, test_attack=None
    )


def quick_pretrain(kind: Kind, dataset: str, epochs: int | None, precision: Precision) -> Recipe:
    """Return the recipe of a backbone for 32x32 images; 30 epochs unless told otherwise."""
    eps = habits(dataset).eps
    attack = source_attack(kind, eps)
    recipe = Recipe(
        epochs=30,
        batch_size=128,
        lr=0.2 if kind == "std" else 0.3,
        schedule="one-cycle",
        label_smoothing=0.1 if kind == "std" else 0.0,
        augment="crop-flip" if habits(dataset).flip else "crop",
        attack=attack,
        selection_attack=None if kind == "std" else pgd(5, eps),
        guard=0.5 if kind == "fast-adv" else 0.0,
        validate_every=1 if kind == "fast-adv" else 2,
        precision=precision,
    )
    return recipe.changed(epochs=epochs)
