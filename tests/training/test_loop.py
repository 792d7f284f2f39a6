"""Training: schedules by hand, masks that hold, and runs that a kill does not change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import prune
from torch.utils._pytree import tree_leaves

from lottery_hub.errors import DamageWarning, LotteryHubError
from lottery_hub.images.views import train_batches
from lottery_hub.networks.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.settings.speed import TRICKS
from lottery_hub.storage import checkpoints
from lottery_hub.training import loop as training
from lottery_hub.training.loop import learning_rate, train
from lottery_hub.training.stepping import as_integers
from tests.taped import tapes

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


def trained_the_usual_way(backbone, data, recipe, mask):
    """Return weights after an epoch: prune's hooks, an attack through all gradients, channels first."""
    model = backbone.model(3)
    for name, kept in mask.items():
        prune.custom_from_mask(model.network.get_submodule(name.removesuffix(".weight")), "weight", kept)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    order = torch.Generator().manual_seed(training._epoch_seed(0, 0))
    for images, labels in train_batches(
        data.train, recipe.batch_size, recipe.augment, recipe.image_size, order, torch.device("cpu")
    ):
        shown = images.clone(memory_format=torch.contiguous_format)
        model.eval()
        for _ in range(recipe.attack.steps if recipe.attack else 0):
            shown.requires_grad_()
            F.cross_entropy(model(shown), labels).backward()
            step = F.normalize(shown.grad.flatten(1)).view_as(shown) * recipe.attack.step_size
            delta = shown.detach() + step - images
            length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            shown = (images + delta * (recipe.attack.eps / length).clamp(max=1)).clamp(0, 1)
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(shown), labels).backward()
        optimizer.step()
    for name in mask:
        prune.remove(model.network.get_submodule(name.removesuffix(".weight")), "weight")
    return model.network.state_dict()


@pytest.mark.parametrize("off", ["", ",".join(TRICKS)], ids=["every trick", "no trick"])
@pytest.mark.parametrize(
    "attack",
    # In L2: with signs, a last digit of a gradient around 0 would move a pixel by a step.
    [None, Attack(norm="l2", eps=0.5, step_size=0.3, steps=3, random_start=False)],
    ids=["standard", "adversarial"],
)
def test_steps_are_those_of_a_loop_as_it_is_usually_written(attack, off, backbone, tiny_data, monkeypatch):
    monkeypatch.setenv("LOTTERY_HUB_WITHOUT", off)
    recipe = QUICK.changed(epochs=1, attack=attack, schedule="constant", select="last")
    mask = half_mask(backbone)
    trained = train(backbone.model(3), tiny_data, recipe, seed=0, mask=mask)
    for name, weight in trained_the_usual_way(backbone, tiny_data, recipe, mask).items():
        torch.testing.assert_close(trained.weights[name], weight, rtol=1e-5, atol=1e-6, msg=name)


def test_a_seed_decides_everything(backbone, tiny_data):
    recipe = QUICK.changed(epochs=1, attack=Attack(eps=0.05, step_size=0.03, steps=1))
    first, again, other = (train(backbone.model(3), tiny_data, recipe, seed=seed) for seed in (0, 0, 1))
    assert same(first.weights, again.weights)
    assert not same(first.weights, other.weights)


def test_every_seed_and_epoch_has_its_own_views_and_attack_starts(backbone, tiny_data, monkeypatch):
    streams = []
    real = training.train_batches

    def batches(split, batch_size, augment, image_size, generator, *more):
        streams.append(generator.initial_seed())
        return real(split, batch_size, augment, image_size, generator, *more)

    def starts(images, attack, generator):
        streams.append(generator.initial_seed())
        return ()

    monkeypatch.setattr(training, "train_batches", batches)
    monkeypatch.setattr(training, "draw_starts", starts)
    recipe = QUICK.changed(batch_size=24, attack=Attack(method="fgsm", eps=0.05))
    for seed in (0, 1, 2**32 - 1):
        train(backbone.model(3), tiny_data, recipe, seed=seed)
    assert len(streams) == len(set(streams)) == 3 * 3 * 2  # seeds, epochs, streams


def without_measures(history):
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "peak_memory")} for record in history
    ]


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
    assert without_measures(unkilled.history) == without_measures(resumed.history)


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


@pytest.mark.parametrize("select", ["best", "last"])
def test_weights_that_the_very_last_step_spoils_are_not_returned(backbone, tiny_data, monkeypatch, select):
    def spoil(optimizer):
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].fill_(torch.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    recipe = QUICK.changed(epochs=1, batch_size=24, select=select)  # one step: the loss it reports is finite
    with pytest.raises(LotteryHubError) as caught:
        train(backbone.model(3), tiny_data, recipe, seed=0)
    assert str(caught.value) == (
        "training diverged in epoch 1 (conv1.weight is no longer finite); lower the learning rate"
    )


# The moving average


ONE_STEP = QUICK.changed(batch_size=24, select="last", average=0.5)  # 24 images: an epoch is one step


def test_the_average_is_the_first_step_moved_towards_each_later_one(backbone, tiny_data):
    model = backbone.model(3)
    steps = []
    trained = train(model, tiny_data, ONE_STEP, seed=0, on_epoch=lambda _: steps.append(training._snapshot(model, 0)))
    # 1 → (1 + 2) / 2 → ((1 + 2) / 2 + 3) / 2 of the three steps' weights
    for name, tensor in trained.weights.items():
        if tensor.is_floating_point():
            by_hand = 0.25 * steps[0][name] + 0.25 * steps[1][name] + 0.5 * steps[2][name]
            torch.testing.assert_close(tensor, by_hand, msg=name)
    assert not torch.equal(trained.weights["conv1.weight"], steps[2]["conv1.weight"])
    assert not torch.equal(trained.weights["bn1.running_var"], steps[2]["bn1.running_var"])


def test_the_average_counts_batches_in_whole_numbers(backbone, tiny_data):
    trained = train(backbone.model(3), tiny_data, ONE_STEP, seed=0)
    counts = {tensor for name, tensor in trained.weights.items() if name.endswith("num_batches_tracked")}
    assert {count.dtype for count in counts} == {torch.int64}
    assert {int(count) for count in counts} == {2}  # of 1, 2, 3: 1, then int(1.5) = 1, then int(2.0) = 2
    assert trained.weights.keys() == backbone.weights.keys()


def test_it_is_the_average_that_is_validated(backbone, tiny_data, monkeypatch):
    model, judged = backbone.model(3), []
    real = training.evaluate

    def evaluate(network, *arguments, **options):
        judged.append(training._snapshot(network, 0))
        return real(network, *arguments, **options)

    monkeypatch.setattr(training, "evaluate", evaluate)
    trained = train(model, tiny_data, ONE_STEP, seed=0)
    assert same(judged[-1], trained.weights)
    assert not same(judged[-1], training._snapshot(model, 0))


def test_a_mask_holds_in_the_average(backbone, tiny_data):
    mask = half_mask(backbone)
    trained = train(backbone.model(3), tiny_data, ONE_STEP, seed=0, mask=mask)
    assert all(bool((trained.weights[name][~kept] == 0).all()) for name, kept in mask.items())


def test_a_killed_run_goes_on_with_its_average(backbone, tiny_data, tmp_path):
    unkilled = train(backbone.model(3), tiny_data, ONE_STEP, seed=0)

    class KilledError(Exception):
        pass

    def die(record):
        raise KilledError

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KilledError):
        train(backbone.model(3), tiny_data, ONE_STEP, seed=0, checkpoint=checkpoint, on_epoch=die)
    assert same(train(backbone.model(3), tiny_data, ONE_STEP, seed=0, checkpoint=checkpoint).weights, unkilled.weights)


def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(backbone, tiny_data, tmp_path):
    unkilled = train(backbone.model(3), tiny_data, ONE_STEP, seed=0, checkpoint=tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    middle = len(whole) // 2
    for damage in (b"", whole[:-1], bytes(len(whole)), whole[:middle] + bytes(64) + whole[middle + 64 :]):
        checkpoint = tmp_path / "checkpoint.pt"
        checkpoint.write_bytes(damage)
        seen = []
        with pytest.warns(DamageWarning, match=r"checkpoint\.pt is damaged .* set aside as checkpoint\.pt\.damaged"):
            again = train(backbone.model(3), tiny_data, ONE_STEP, seed=0, checkpoint=checkpoint, on_epoch=seen.append)
        assert [record["epoch"] for record in seen] == list(range(1, ONE_STEP.epochs + 1))
        assert same(again.weights, unkilled.weights)
        assert checkpoint.read_bytes()[:7] == b"sha256:"
    assert len(list(tmp_path.glob("checkpoint.pt.damaged*"))) == 4


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"recipe": ONE_STEP.changed(lr=0.01)}, {"mask": True}, {"classes": 4}],
    ids=["seed", "recipe", "mask", "weights"],
)
def test_a_checkpoint_of_another_training_is_not_gone_on_from(backbone, tiny_data, ladder, tmp_path, other):
    def go(checkpoint, classes=3, seed=0, recipe=ONE_STEP, mask=None):
        mask = mask and ladder.mask(2)
        return train(backbone.model(classes), tiny_data, recipe, seed=seed, mask=mask, checkpoint=checkpoint)

    go(tmp_path / "checkpoint.pt")
    with pytest.warns(DamageWarning, match="checkpoint.pt is of another training; it is set aside"):
        taken = go(tmp_path / "checkpoint.pt", **other)
    assert same(taken.weights, go(None, **other).weights)


# The guard


GUARDED = QUICK.changed(epochs=5, batch_size=24, selection_attack=Attack(method="fgsm", eps=0.05), guard=0.5)


def validated_as(monkeypatch, robust_shares):
    """Let validation measure these RA, one an epoch, at an SA of 80 %."""
    shares = iter(robust_shares)
    monkeypatch.setattr(training, "_validate", lambda *_: {"validation_SA": 0.8, "validation_RA": next(shares)})


def test_the_guard_goes_back_to_the_best_epoch_and_stops(backbone, tiny_data, monkeypatch):
    validated_as(monkeypatch, [0.3, 0.4, 0.19])
    model, after = backbone.model(3), []
    trained = train(model, tiny_data, GUARDED, seed=0, on_epoch=lambda _: after.append(training._snapshot(model, 0)))
    assert trained.epoch == 2
    assert [record.get("stopped") for record in trained.history] == [
        None,
        None,
        "validation RA fell below 0.5 of epoch 2's",
    ]
    assert same(trained.weights, after[1])
    assert same(training._snapshot(model, 0), after[1])  # the model itself went back too


def test_the_guard_bears_a_loss_of_just_its_share(backbone, tiny_data, monkeypatch):
    validated_as(monkeypatch, [0.4, 0.2, 0.2, 0.2, 0.2])
    trained = train(backbone.model(3), tiny_data, GUARDED, seed=0)
    assert (trained.epoch, len(trained.history)) == (1, 5)
    assert not any("stopped" in record for record in trained.history)


def test_without_a_guard_a_collapse_does_not_stop_training(backbone, tiny_data, monkeypatch):
    validated_as(monkeypatch, [0.4, 0.0, 0.0, 0.0, 0.0])
    trained = train(backbone.model(3), tiny_data, GUARDED.changed(guard=0.0), seed=0)
    assert (trained.epoch, len(trained.history)) == (1, 5)


def test_the_guard_strikes_where_the_last_epoch_is_asked_for_too(backbone, tiny_data, monkeypatch):
    validated_as(monkeypatch, [0.4, 0.5, 0.1])
    assert train(backbone.model(3), tiny_data, GUARDED.changed(select="last"), seed=0).epoch == 2


def test_the_guard_goes_back_to_the_average(backbone, tiny_data, monkeypatch):
    validated_as(monkeypatch, [0.4, 0.1])
    model = backbone.model(3)
    trained = train(model, tiny_data, GUARDED.changed(average=0.5), seed=0)
    assert (trained.epoch, len(trained.history)) == (1, 2)
    assert same(training._snapshot(model, 0), trained.weights)


@pytest.mark.parametrize(
    "changed",
    [
        *({"epoch": 1.5}, {"epoch": 7}, {"history": "x"}, {"best": 3}, {"model": {}}, {"optimizer": []}),
        *("other shapes", "other momentum"),
    ],
)
def test_a_checkpoint_that_somebody_made_is_set_aside_and_training_begins_anew(backbone, tiny_data, tmp_path, changed):
    whole = train(backbone.model(3), tiny_data, QUICK, seed=0)
    train(backbone.model(3), tiny_data, QUICK, seed=0, checkpoint=tmp_path / "checkpoint.pt")
    state = checkpoints.load(tmp_path / "checkpoint.pt", 2**30)
    if changed == "other shapes":
        name = next(iter(state["best"]["weights"]))
        changed = {"best": state["best"] | {"weights": state["best"]["weights"] | {name: torch.zeros(1)}}}
    if changed == "other momentum":
        state["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(2)
        changed = {}
    checkpoints.save(tmp_path / "checkpoint.pt", state | changed)
    with pytest.warns(DamageWarning, match="no checkpoint of this training"):
        again = train(backbone.model(3), tiny_data, QUICK, seed=0, checkpoint=tmp_path / "checkpoint.pt")
    assert same(again.weights, whole.weights)
    assert (tmp_path / "checkpoint.pt.damaged").exists()


def test_a_run_that_the_guard_stopped_stays_stopped(backbone, tiny_data, monkeypatch, tmp_path):
    validated_as(monkeypatch, [0.4, 0.1])
    checkpoint = tmp_path / "checkpoint.pt"
    stopped = train(backbone.model(3), tiny_data, GUARDED, seed=0, checkpoint=checkpoint)
    again = train(backbone.model(3), tiny_data, GUARDED, seed=0, checkpoint=checkpoint)  # a third RA would be missing
    assert same(again.weights, stopped.weights)
    assert again.history == stopped.history


# Memory


def out_of_memory_above(model, limit):
    """Make a model fail, as a full GPU does, where it gets more images than `limit`; return the sizes it saw."""
    sizes = []

    def count(module, arguments):
        sizes.append(len(arguments[0]))
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(count)
    return sizes


def test_a_batch_that_does_not_fit_is_taken_in_parts_and_so_are_those_after_it(backbone, tiny_data):
    model = backbone.model(3)
    sizes = out_of_memory_above(model, 4)
    loop = training.Loop.over(model, tiny_data, QUICK, seed=0)
    counts = [images for _, images in loop.steps(0)]
    assert loop.parts == 4
    assert sizes[:2] == [2, 4], "what they take is measured first"
    assert sizes[2:5] == [16, 8, 4], "halved until it fits"
    assert max(sizes[5:]) <= 4
    assert sum(counts) == len(tiny_data.train)


@pytest.mark.parametrize(("fit", "parts"), [(None, 1), (16, 1), (15, 2), (8, 2), (7, 4), (1, 8)])
def test_a_batch_that_memory_is_unlikely_to_hold_is_taken_in_parts_from_the_beginning(
    backbone, tiny_data, monkeypatch, fit, parts
):
    monkeypatch.setattr(training, "images_that_fit", lambda *_: fit)
    loop = training.Loop.over(backbone.model(3), tiny_data, QUICK.changed(batch_size=16), seed=0)
    assert loop.parts == parts


def test_batch_norm_sees_the_stated_images_whatever_memory_there_is(backbone, tiny_data, monkeypatch):
    recipe, weights = QUICK.changed(epochs=1, batch_size=16, norm_batch=4), []
    for fit in (None, 4, 1000):
        monkeypatch.setattr(training, "images_that_fit", lambda *_, fit=fit: fit)
        trained = train(backbone.model(3), tiny_data, recipe, seed=0)
        assert trained.history[0]["parts"] == 4
        weights.append(trained.weights)
    assert same(weights[0], weights[1])
    assert same(weights[0], weights[2])
    monkeypatch.setattr(training, "images_that_fit", lambda *_: 3)
    with pytest.raises(LotteryHubError, match=r"4 images at once \(recipe.norm_batch\), which memory does not hold"):
        train(backbone.model(3), tiny_data, recipe, seed=0)


def test_a_training_that_goes_on_takes_as_many_parts_as_before(backbone, tiny_data, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "images_that_fit", lambda *_: 8)

    def stop(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(backbone.model(3), tiny_data, QUICK, seed=0, checkpoint=tmp_path / "file", on_epoch=stop)
    monkeypatch.setattr(training, "images_that_fit", lambda *_: None)
    gone_on = train(backbone.model(3), tiny_data, QUICK, seed=0, checkpoint=tmp_path / "file")
    assert [record["parts"] for record in gone_on.history] == [2, 2, 2]


def test_validation_looks_at_as_many_images_as_the_recipe_says(backbone, tiny_data):
    recipe = QUICK.changed(epochs=1, validation_images=5)
    (record,) = train(backbone.model(3), tiny_data, recipe, seed=0).history
    assert record["validation_SA"] * 5 == pytest.approx(round(record["validation_SA"] * 5))


def test_gradients_of_parts_add_up_to_those_of_the_batch(backbone, tiny_data):
    images, labels = tiny_data.train.images[:10].float() / 255, tiny_data.train.labels[:10]
    found = []
    for limit in (10, 3):
        model = backbone.model(3)
        loop = training.Loop.over(model, tiny_data, QUICK.changed(label_smoothing=0.1), seed=0)
        loop.learning.eval()  # with batch statistics parts would differ from the whole
        out_of_memory_above(loop.learning, limit)
        loss = loop._gradients_that_fit(images, labels, ())
        found.append((loss, [parameter.grad for parameter in model.parameters()]))
    (loss, whole), (same_loss, parts) = found
    assert torch.allclose(loss, same_loss)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))


def test_a_step_that_failed_leaves_no_trace(backbone, tiny_data):
    attacked = QUICK.changed(epochs=1, attack=Attack(eps=0.05, step_size=0.03, steps=1))
    weights = []
    for fails in (False, True):
        model = backbone.model(3)
        loop = training.Loop.over(model, tiny_data, attacked, seed=0)
        if fails:
            original, failed = loop.learning.forward, []

            def once(images, original=original, failed=failed):
                logits = original(images)  # BatchNorm has seen the batch by now
                if not failed:
                    failed.append(len(images))
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return logits

            loop.learning.forward = once
        else:
            loop.parts = 2
        next(loop.steps(0))
        weights.append({name: value.clone() for name, value in model.network.state_dict().items()})
    assert same(*weights)


def test_memory_that_one_image_exceeds_and_other_errors_are_told(backbone, tiny_data):
    model = backbone.model(3)
    out_of_memory_above(model, 0)
    with pytest.raises(torch.OutOfMemoryError):
        train(model, tiny_data, QUICK, seed=0)
    broken = backbone.model(3)
    broken.network.fc = torch.nn.Linear(7, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(broken, tiny_data, QUICK, seed=0)


def test_every_epoch_records_the_memory_it_took(backbone, tiny_data):
    (record, *_) = train(backbone.model(3), tiny_data, QUICK.changed(epochs=1), seed=0).history
    assert record["parts"] == 1
    assert record["peak_memory"] > 50_000_000, "torch alone takes more"


def test_a_network_learns_what_can_be_learned(backbone, tiny_data):
    trained = train(backbone.model(3), tiny_data, QUICK.changed(epochs=8, augment="none"), seed=0)
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_pruned_weight_is_exactly_zero_whatever_it_was(dtype):
    values = torch.tensor([[-1.5, float("nan")], [float("-inf"), 2.0]], dtype=dtype).view(2, 2, 1, 1)
    weight = values.to(memory_format=torch.channels_last)
    bits, kept = as_integers(weight, torch.tensor([[False, False], [False, True]]).view(2, 2, 1, 1))
    bits.mul_(kept)
    assert weight.flatten().tolist() == [0, 0, 0, 2]
    assert not weight.signbit().any(), "-0 would be other bytes"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"average": 0.9, "attack": Attack(eps=0.05, step_size=0.03, steps=2)},
        {"attack": Attack(eps=0.05, step_size=0.03, steps=1, batch_norm="train")},
    ],
    ids=["standard", "adversarial, averaged", "as the paper"],
)
def test_a_step_can_be_recorded_and_played_back(changes, backbone, tiny_data, monkeypatch):
    recipe, mask = QUICK.changed(epochs=6, batch_size=8, momentum=0.9, **changes), half_mask(backbone)
    found = []
    for recorded in (False, True):
        loop = training.Loop.over(backbone.model(3), tiny_data, recipe, seed=0, mask=mask)
        # As on a GPU: the rate is a tensor, and one kernel takes the step.
        loop.optimizer.param_groups[0].update(lr=torch.tensor(recipe.lr), fused=True)
        loop.replay.wanted = recorded
        held = [loop.model.state_dict, loop.optimizer.state_dict, (loop.averaged or loop.model).state_dict]
        made = tapes(monkeypatch, *held)
        losses = [float(loss) for epoch in range(3) for loss, _ in loop.steps(epoch)]
        assert [tape.replays for tape in made] == ([6] if recorded else [])
        found.append((losses, [value for state in held for value in tree_leaves(state())]))
    (losses, eager), (losses_again, replayed) = found
    assert losses == losses_again
    pairs = [pair for pair in zip(eager, replayed, strict=True) if isinstance(pair[0], torch.Tensor)]
    assert len(pairs) > 200
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.slow
def test_what_is_compiled_is_one_graph(backbone, tiny_data):
    recipe = QUICK.changed(attack=Attack(eps=0.05, step_size=0.03, steps=2))
    loop = training.Loop.over(backbone.model(3), tiny_data, recipe, seed=0)
    assert loop.learning is not loop.attacked
    for view in (loop.learning, loop.attacked):
        told = torch._dynamo.explain(view)(torch.rand(8, 3, 8, 8))
        assert (told.graph_count, told.graph_break_count) == (1, 0), told.break_reasons
