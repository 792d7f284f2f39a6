"""On a GPU: what is played back is what kernel by kernel would be, and what a CPU gives."""

from __future__ import annotations

import copy
import itertools
import threading
import warnings

import pytest
import torch

from lottery_hub.images import views
from lottery_hub.networks.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.settings.ambient import computing
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.settings.presets import pgd
from lottery_hub.training.loop import Loop, train
from tests.conftest import stripes

pytestmark = pytest.mark.gpu
QUICK = Recipe(epochs=8, batch_size=8, lr=0.05, augment="crop", image_size=8, weight_decay=5e-3)
PGD = Attack(eps=0.05, step_size=0.03, steps=2)
GPU = torch.device("cuda")


def half_mask(backbone):
    dense = backbone.dense_mask()
    return keep_highest(magnitudes(backbone.weights, dense), dense, kept_and_total(dense)[1] // 2)


def trained(backbone, data, recipe, device=GPU, mask=None, **how):
    return train(backbone.model(3), data, recipe, seed=0, mask=mask, device=device, **how)


def close(first, second, tolerance=1e-4):
    return all(
        torch.allclose(first[name].double(), second[name].double(), rtol=tolerance, atol=tolerance) for name in first
    )


RECIPES = {
    "standard": QUICK,
    "averaged": QUICK.changed(average=0.9),
    "adversarial": QUICK.changed(attack=PGD, selection_attack=PGD),
    "as the paper": QUICK.changed(attack=PGD.changed(batch_norm="train")),
    "n-fgsm": QUICK.changed(attack=Attack(method="n-fgsm", eps=0.05)),
    "restarts": QUICK.changed(attack=PGD.changed(restarts=2)),
    "in bfloat16": QUICK.changed(precision="bfloat16", attack=PGD),
    "views of another size": QUICK.changed(augment="random-resized-crop", image_size=16),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_steps_that_are_played_back_are_those_taken_kernel_by_kernel(recipe, backbone, tiny_data, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        replayed = trained(backbone, tiny_data, recipe, mask=half_mask(backbone))
    assert replayed.history[-1]["replayed"] is True
    monkeypatch.setenv("LOTTERY_HUB_WITHOUT", "graphs")
    eager = trained(backbone, tiny_data, recipe, mask=half_mask(backbone))
    assert eager.history[-1]["replayed"] is False
    # In bfloat16 a last digit is a hundredth.
    assert close(replayed.weights, eager.weights, 3e-2 if recipe.precision == "bfloat16" else 1e-3)


def test_steps_are_those_of_a_cpu(backbone, tiny_data):
    recipe = QUICK.changed(epochs=2, select="last", augment="crop-flip")
    assert close(
        trained(backbone, tiny_data, recipe).weights, trained(backbone, tiny_data, recipe, "cpu").weights, 1e-3
    )


def test_a_mask_holds_in_steps_that_are_played_back(backbone, tiny_data):
    mask = half_mask(backbone)
    weights = trained(backbone, tiny_data, RECIPES["adversarial"].changed(average=0.9), mask=mask).weights
    assert all(bool((weights[name][~kept] == 0).all()) for name, kept in mask.items())


def test_a_killed_run_goes_on(backbone, tiny_data, tmp_path):
    whole = trained(backbone, tiny_data, RECIPES["averaged"])

    def stop(record):
        if record["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(backbone, tiny_data, RECIPES["averaged"], checkpoint=tmp_path / "file", on_epoch=stop)
    gone_on = trained(backbone, tiny_data, RECIPES["averaged"], checkpoint=tmp_path / "file")
    assert len(gone_on.history) == 8
    assert close(whole.weights, gone_on.weights, 1e-3)


def test_a_batch_that_does_not_fit_is_taken_in_parts(backbone, tiny_data):
    model, whole = backbone.model(3), []

    def count(module, given):
        if len(given[0]) > 4:
            whole.append(len(given[0]))
            raise torch.OutOfMemoryError("CUDA out of memory")

    with computing(GPU):
        loop = Loop.over(model, tiny_data, QUICK, seed=0, device=GPU)
        loop.learning.register_forward_pre_hook(count)
        list(itertools.chain(*(loop.steps(epoch) for epoch in range(4))))
    assert loop.parts == 2
    assert whole == [8]
    assert loop.replay.described() is True


def test_a_thread_has_one_stream_of_its_own():
    def streams():
        found = []
        for _ in range(2):
            with computing(GPU):
                found.append(torch.cuda.current_stream().stream_id)
        return found

    ours = [streams(), *side_by_side([streams] * 3, 3, 1, threading.Event())]
    assert all(first == second for first, second in ours)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_images_on_the_gpu_are_read_in_the_thread_that_computes(tiny_data, monkeypatch):
    monkeypatch.setattr(views, "ThreadPoolExecutor", None)
    here, cpu = tiny_data.train, torch.device("cpu")
    there = type(here)(here.images.to(GPU), here.labels.to(GPU))
    both = [
        list(views.train_batches(split, 8, "crop", 8, torch.Generator().manual_seed(0), device))
        for split, device in ((here, cpu), (there, GPU))
    ]
    assert all(torch.allclose(one, other.cpu()) for (one, _), (other, _) in zip(*both, strict=True))


def test_several_trainings_at_a_time_give_what_each_gives_alone(backbone, tiny_data):
    alone = trained(backbone, tiny_data, RECIPES["adversarial"])
    works = [lambda: trained(backbone, tiny_data, RECIPES["adversarial"])] * 4
    for one in side_by_side(works, 4, 1, threading.Event()):
        assert one.history[-1]["replayed"] is True
        assert close(alone.weights, one.weights, 1e-3)


@pytest.mark.parametrize("attack", [None, pgd(3, 8 / 255).changed(random_start=False)], ids=["clean", "attacked"])
def test_a_network_measures_as_on_a_cpu(attack, backbone, tiny_data):
    model, split = backbone.model(3).eval(), stripes(240, 5)
    with torch.no_grad():
        split = type(split)(split.images, model(split.images.float() / 255).argmax(1))
    there = evaluate(copy.deepcopy(model).to(GPU), split, attack=attack, batch_size=16, device=GPU)
    here = evaluate(model, split, attack=attack, batch_size=16)
    assert abs(there.correct - here.correct) <= 1
    assert abs((there.robust or 0) - (here.robust or 0)) <= 2


def test_no_float32_product_is_rounded_while_we_compute():
    with computing(GPU):
        assert not torch.backends.cudnn.allow_tf32
        a, b = (torch.randn(512, 512, device=GPU) for _ in range(2))
        assert (a @ b - (a.double() @ b.double())).abs().max() < 1e-3


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is_and_said_so(backbone, tiny_data):
    with computing(GPU):
        loop = Loop.over(backbone.model(3), tiny_data, QUICK, seed=0, device=GPU)
        real = loop.replay.call
        loop.replay.call = lambda *given: real(*given) * float(given[0].sum().sign())
        with pytest.warns(RuntimeWarning, match="could not be recorded"):
            losses = [float(loss) for epoch in range(3) for loss, _ in loop.steps(epoch)]
    assert len(losses) == 9
    assert loop.replay.described()
