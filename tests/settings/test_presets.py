"""The presets: the paper's numbers are the paper's, and the quick ones follow the dataset."""

from __future__ import annotations

import pytest

from lottery_hub.settings.config import Attack
from lottery_hub.settings.presets import (
    habits,
    named_attack,
    paper_draw,
    paper_transfer,
    pgd,
    quick_draw,
    quick_pretrain,
    quick_transfer,
    source_attack,
    stored_size,
)


def test_the_papers_drawing_has_its_numbers():
    plan = paper_draw("adv", "imagenet", "imp", "float32")
    assert (plan.rounds, plan.prune_fraction) == (19, 0.2)
    recipe = plan.recipe
    assert recipe is not None
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.schedule) == (30, 2048, 5e-4, "constant")
    assert (recipe.momentum, recipe.weight_decay, recipe.image_size) == (0.9, 1e-4, 224)
    assert recipe.select == "last"
    assert recipe.attack == Attack(eps=8 / 255, step_size=16 / (3 * 255), steps=3, batch_norm="train")
    assert recipe.attack.random_start


def test_the_paper_draws_standard_backbones_by_standard_training():
    recipe = paper_draw("std", "imagenet", "imp", "float32").recipe
    assert recipe is not None
    assert recipe.attack is None


def test_the_papers_transfers_have_their_numbers():
    plan = paper_transfer("cifar10", "float32")
    standard, adversarial = plan.standard, plan.adversarial
    assert (standard.epochs, standard.lr, standard.milestones, standard.batch_size) == (150, 1e-3, (50, 100), 64)
    assert (adversarial.epochs, adversarial.lr, adversarial.milestones) == (100, 0.1, (50, 75))
    assert adversarial.batch_size == 128
    for recipe in (standard, adversarial):
        assert (recipe.schedule, recipe.momentum, recipe.weight_decay) == ("steps", 0.9, 5e-4)
        assert (recipe.image_size, recipe.augment) == (224, "random-resized-crop")
    attack = adversarial.attack
    assert attack is not None
    assert (attack.eps, attack.step_size, attack.steps, attack.batch_norm) == (8 / 255, 2 / 255, 10, "train")
    test = plan.test_attack
    assert (test.eps, test.step_size, test.steps, test.restarts, test.batch_norm) == (8 / 255, 2 / 255, 20, 1, "eval")
    assert test.random_start


def test_the_papers_svhn_has_its_own_schedule():
    recipe = paper_transfer("svhn", "float32").adversarial
    assert (recipe.epochs, recipe.lr, recipe.schedule, recipe.milestones) == (80, 0.01, "cosine", ())


@pytest.mark.parametrize(
    ("steps", "step_size"), [(1, 8 / 255), (3, 4 / 255), (7, 2 / 255), (20, 2 / 255), (100, 2 / 255)]
)
def test_few_steps_are_long_enough_to_cross_the_ball(steps, step_size):
    assert pgd(steps, 8 / 255).step_size == pytest.approx(step_size)


def test_a_quick_transfer_sees_about_as_many_images_whatever_the_dataset():
    subset, full = quick_transfer("cifar10", 5_400, "float32"), quick_transfer("cifar10", 45_000, "float32")
    assert (subset.standard.epochs, subset.adversarial.epochs) == (17, 11)
    assert (full.standard.epochs, full.adversarial.epochs) == (4, 4)
    assert quick_transfer("cifar10", 54, "float32").standard.epochs == 60


def test_a_quick_transfer_of_few_images_is_not_validated_at_every_epoch():
    few, subset = quick_transfer("cifar10", 54, "float32"), quick_transfer("cifar10", 5_400, "float32")
    assert (few.standard.validate_every, few.adversarial.validate_every) == (3, 3)
    assert (subset.standard.validate_every, subset.adversarial.validate_every) == (1, 1)


def test_digits_are_neither_mirrored_nor_attacked_like_photographs():
    plan = quick_transfer("digits", 1_295, "float32")
    assert plan.standard.augment == "crop"
    assert plan.test_attack.eps == 0.1
    assert quick_transfer("cifar10", 5_400, "float32").standard.augment == "crop-flip"
    assert habits("org/unknown").eps == 8 / 255


def test_a_given_radius_reaches_training_selection_and_test():
    plan = quick_transfer("digits", 1_295, "float32", eps=0.25)
    attacks = (plan.adversarial.attack, plan.adversarial.selection_attack, plan.test_attack)
    assert [attack.eps for attack in attacks if attack] == [0.25] * 3
    assert paper_transfer("cifar10", "float32", eps=4 / 255).test_attack.step_size == 1 / 255


def test_a_backbone_is_drawn_against_what_it_was_pre_trained_against():
    assert source_attack("std", 0.1) is None
    fast, slow = source_attack("fast-adv", 0.1), source_attack("adv", 0.1)
    assert fast is not None
    assert slow is not None
    assert (fast.method, slow.method, slow.steps) == ("n-fgsm", "pgd", 3)
    for kind in ("std", "fast-adv", "adv"):
        drawn = quick_draw(kind, "cifar100", "cifar100", "imp", 45_000, "float32").recipe
        assert drawn is not None
        assert drawn.attack == source_attack(kind, 8 / 255) == quick_pretrain(kind, "cifar100", 5, "float32").attack


def test_a_quick_round_sees_as_many_images_of_a_subset_as_of_the_whole():
    whole = quick_draw("std", "cifar100", "cifar100", "imp", 45_000, "float32")
    part = quick_draw("std", "folder", "cifar100", "imp", 5_400, "float32")
    assert whole.recipe is not None
    assert whole.data is not None
    assert part.recipe is not None
    assert part.data is not None
    assert (whole.recipe.epochs, whole.data.fraction) == (1, 0.5)
    assert (part.recipe.epochs, part.data.fraction) == (4, 1.0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 3.0)])
def test_pgd_has_any_radius_that_its_norm_allows(norm, eps):
    attack = named_attack("pgd-20", eps, norm)
    assert attack is not None
    assert (attack.norm, attack.eps, attack.step_size) == (norm, eps, eps / 4)


@pytest.mark.parametrize(
    ("dataset", "stored"), [("cifar10", 32), ("tiny-imagenet", 64), ("imagenet-1k", 256), ("photos", 256)]
)
def test_the_papers_views_are_cropped_from_images_stored_large_enough(dataset, stored):
    assert stored_size(dataset, paper_transfer(dataset, "float32").standard) == stored
    assert stored_size(dataset, quick_transfer(dataset, 1000, "float32").standard) == 32


@pytest.mark.parametrize(("train", "looked_at"), [(45_000, 45_000), (4_500, 4_500), (450, 500)])
def test_an_epoch_is_chosen_on_no_more_images_than_are_trained_on(train, looked_at):
    quick = quick_transfer("cifar10", train, "float32")
    assert {quick.recipe(regime).validation_images for regime in ("standard", "adversarial")} == {looked_at}
    plan = paper_transfer("cifar10", "float32", train_images=train)
    assert {plan.recipe(regime).validation_images for regime in ("standard", "adversarial")} == {looked_at}
    assert (plan.standard.validate_every, plan.adversarial.validate_every) == (7, 5)
    adversarial = plan.adversarial
    training = train * adversarial.epochs * (2 * adversarial.attack.steps + 3)
    choosing = 20 * min(looked_at, 5_000) * (2 * adversarial.selection_attack.steps + 2)
    assert choosing < (choosing + training) / 3
