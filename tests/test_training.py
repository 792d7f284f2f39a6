"""Training: schedules by hand, masks that hold, and runs that a kill does not change."""

from __future__ import annotations

import pytest
import torch

from lottery_hub import training
from lottery_hub.config import Attack, Recipe
from lottery_hub.errors import LotteryHubError
from lottery_hub.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.training import learning_rate, train

QUICK = Recipe(epochs=3, batch_size=16, lr=0.05, augment="crop", image_size=8, weight_decay=5e-3)


def half_mask(backbone):
    dense = backbone.dense_mask()
    return keep_highest(magnitudes(backbone.weights, dense), dense, kept_and_total(dense)[1] // 2)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("schedule", "progress", "rate"),
    [
        ("constant", 7.3, 0.4),
        ("cosine", 0.0, 0.4),
        ("cosine", 5.0, 0.2),
        ("cosine", 10.0, 0.0),
        ("one-cycle", 1.5, 0.2),
        ("one-cycle", 3.0, 0.4),
        ("one-cycle", 6.5, 0.2),
        ("one-cycle", 10.0, 0.0),
        ("steps", 4.0, 0.4),
        ("steps", 5.0, 0.04),
        ("steps", 9.0, 0.004),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, progress, rate):
    recipe = Recipe(epochs=10, lr=0.4, schedule=schedule, milestones=(5, 8) if schedule == "steps" else ())
    assert learning_rate(recipe, progress) == pytest.approx(rate)


def test_pruned_weights_are_exactly_zero_after_momentum_and_weight_decay(backbone, tiny_data):
    mask = half_mask(backbone)
    trained = train(backbone.model(3), tiny_data, QUICK, seed=0, mask=mask)
    for name, kept in mask.items():
        assert bool((trained.weights[name][~kept] == 0).all())
        assert bool((trained.weights[name][kept] != backbone.weights[name][kept]).any())


def test_a_mask_holds_under_adversarial_training_too(backbone, tiny_data):
    mask = half_mask(backbone)
    recipe = QUICK.changed(epochs=1, attack=Attack(eps=0.05, step_size=0.03, steps=2))
    trained = train(backbone.model(3), tiny_data, recipe, seed=0, mask=mask)
    assert all(bool((trained.weights[name][~kept] == 0).all()) for name, kept in mask.items())


def test_a_seed_decides_everything(backbone, tiny_data):
    recipe = QUICK.changed(epochs=1, attack=Attack(eps=0.05, step_size=0.03, steps=1))
    first, again, other = (train(backbone.model(3), tiny_data, recipe, seed=seed) for seed in (0, 0, 1))
    assert same(first.weights, again.weights)
    assert not same(first.weights, other.weights)


def test_every_seed_and_epoch_has_its_own_views_and_attack_starts(backbone, tiny_data, monkeypatch):
    streams = []
    real = training.train_batches

    def batches(split, batch_size, augment, image_size, generator, device):
        streams.append(generator.initial_seed())
        return real(split, batch_size, augment, image_size, generator, device)

    def starts(model, images, labels, attack, generator):
        streams.append(generator.initial_seed())
        return images

    monkeypatch.setattr(training, "train_batches", batches)
    monkeypatch.setattr(training, "perturb", starts)
    recipe = QUICK.changed(batch_size=24, attack=Attack(method="fgsm", eps=0.05))
    for seed in (0, 1, 2**32 - 1):
        train(backbone.model(3), tiny_data, recipe, seed=seed)
    assert len(streams) == len(set(streams)) == 3 * 3 * 2  # seeds, epochs, streams


def without_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def test_a_killed_run_goes_on_to_the_very_same_weights(backbone, tiny_data, tmp_path):
    recipe = QUICK.changed(
        attack=Attack(eps=0.05, step_size=0.03, steps=1), selection_attack=Attack(method="fgsm", eps=0.05)
    )
    unkilled = train(backbone.model(3), tiny_data, recipe, seed=0)

    class KilledError(Exception):
        pass

    def die(record):
        if record["epoch"] == 2:
            raise KilledError

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KilledError):
        train(backbone.model(3), tiny_data, recipe, seed=0, checkpoint=checkpoint, on_epoch=die)
    seen = []
    resumed = train(backbone.model(3), tiny_data, recipe, seed=0, checkpoint=checkpoint, on_epoch=seen.append)
    assert [record["epoch"] for record in seen] == [3]
    assert same(unkilled.weights, resumed.weights)
    assert unkilled.epoch == resumed.epoch
    assert without_seconds(unkilled.history) == without_seconds(resumed.history)


def test_the_best_epoch_on_validation_is_kept_or_the_last_where_asked(backbone, tiny_data):
    best = train(backbone.model(3), tiny_data, QUICK, seed=0)
    scores = [record["validation_SA"] for record in best.history]
    assert best.epoch == scores.index(max(scores)) + 1  # the first of equals
    last = train(backbone.model(3), tiny_data, QUICK.changed(select="last"), seed=0)
    assert last.epoch == QUICK.epochs


def test_adversarial_training_chooses_by_validation_ra(backbone, tiny_data):
    attack = Attack(eps=0.03, step_size=0.02, steps=1)
    trained = train(backbone.model(3), tiny_data, QUICK.changed(attack=attack, selection_attack=attack), seed=0)
    scores = [(record["validation_RA"], record["validation_SA"]) for record in trained.history]
    assert trained.epoch == scores.index(max(scores)) + 1


def test_epochs_between_validations_are_not_validated_but_the_last_is(backbone, tiny_data):
    trained = train(backbone.model(3), tiny_data, QUICK.changed(validate_every=2), seed=0)
    assert ["validation_SA" in record for record in trained.history] == [False, True, True]


def test_every_training_image_is_seen_in_an_epoch(backbone, tiny_data):
    trained = train(backbone.model(3), tiny_data, QUICK.changed(epochs=1), seed=0)
    assert trained.history[0]["images"] == len(tiny_data.train)


def test_a_loss_that_is_no_longer_finite_stops_with_advice(backbone, tiny_data):
    with pytest.raises(LotteryHubError, match="lower the learning rate"):
        train(backbone.model(3), tiny_data, QUICK.changed(lr=100.0, epochs=20, momentum=0.99), seed=0)


def test_a_network_learns_what_can_be_learned(backbone, tiny_data):
    trained = train(backbone.model(3), tiny_data, QUICK.changed(epochs=8, augment="none"), seed=0)
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]
