"""On a pretended GPU: what trains, attacks and measures has its tensors on one device, and gives what a CPU gives."""

from __future__ import annotations

import pytest
import torch

from lottery_hub.networks.masks import keep_highest, kept_and_total, magnitudes
from lottery_hub.robustness.attacks import margin, perturb
from lottery_hub.robustness.black_box import black_box
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.robustness.examples import examples
from lottery_hub.settings.config import Attack, Recipe
from lottery_hub.settings.environment import choose
from lottery_hub.settings.presets import paper_transfer, pgd
from lottery_hub.training import loop as training
from lottery_hub.training.loop import train
from lottery_hub.training.transferring import transfer
from tests.conftest import stripes
from tests.pretended import GPU, a_gpu

QUICK = Recipe(epochs=1, batch_size=12, lr=0.01, augment="crop-flip", image_size=8, weight_decay=5e-3, average=0.9)
PGD = pgd(2, 0.05)
L2 = Attack(norm="l2", eps=0.5, step_size=0.3, steps=1, restarts=2)


@pytest.fixture(scope="module")
def half(backbone):
    """A mask that keeps half of the weights."""
    dense = backbone.dense_mask()
    return keep_highest(magnitudes(backbone.weights, dense), dense, kept_and_total(dense)[1] // 2)


def close(first, second, tolerance=1e-5):
    return all(
        torch.allclose(first[name].double(), second[name].double(), rtol=tolerance, atol=tolerance) for name in first
    )


def here(count=6):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


MIXED = {
    "a sum": lambda: here() + here().to(GPU),
    "a list": lambda: torch.cat([here(), here().to(GPU)]),
    "rows of the CPU": lambda: here().to(GPU).index_select(0, torch.tensor([1])),
    "rows of the GPU in brackets": lambda: here()[torch.tensor([1], device=GPU)],
    "many at once": lambda: torch._foreach_mul_([here().to(GPU)], [here()]),
    "written to the CPU": lambda: torch.zeros(()).add_(here().to(GPU).sum()),
    "a generator of the CPU": lambda: torch.rand(3, device=GPU, generator=torch.Generator()),
    "a generator of the GPU": lambda: torch.rand(3, generator=torch.Generator(GPU)),
    "a network of the CPU": lambda: torch.nn.Linear(3, 2)(here().to(GPU)),
    "pinned on the GPU": lambda: here().to(GPU).pin_memory(),
}


@pytest.mark.parametrize("mixed", MIXED.values(), ids=MIXED)
def test_what_mixes_devices_is_refused(mixed):
    with a_gpu(), pytest.raises(RuntimeError, match=r"same device|device type for generator|cannot pin"):
        mixed()


def test_numpy_is_given_nothing_of_the_gpu():
    with a_gpu(), pytest.raises(TypeError, match="can't convert cuda:0"):
        here().to(GPU).numpy()


def test_what_a_gpu_takes_is_taken_and_gradients_are_those_of_a_cpu():
    with a_gpu():
        there, plain = here().to("cuda").requires_grad_(), here().requires_grad_()
        for images in (there, plain):
            chosen = (images * torch.tensor(2.0))[torch.tensor([0, 2])]
            (chosen.square().sum() + images.new_zeros(3).sum()).backward()
        assert (there.device, there.grad.device, plain.grad.device) == (GPU, GPU, torch.device("cpu"))
        assert torch.equal(there.grad.cpu(), plain.grad)
        assert torch.equal(torch.zeros(6, 3).copy_(there.detach()), here())


def test_a_killed_training_goes_on_to_where_a_cpu_comes(backbone, tiny_data, half, tmp_path):
    recipe = QUICK.changed(epochs=2, norm_batch=6, label_smoothing=0.1)

    def trained(**how):
        return train(backbone.model(3), tiny_data, recipe, seed=0, mask=half, **how)

    def stop(record):
        raise KeyboardInterrupt

    with a_gpu():
        assert choose("auto", "auto") == (torch.device("cuda"), "bfloat16")
        with pytest.raises(KeyboardInterrupt):
            trained(device="cuda", checkpoint=tmp_path / "file", on_epoch=stop)
        there = trained(device="cuda", checkpoint=tmp_path / "file")
    assert [record["epoch"] for record in there.history] == [1, 2]
    assert {tensor.device.type for tensor in there.weights.values()} == {"cpu"}
    assert close(trained().weights, there.weights)
    assert all(bool((there.weights[name][~kept] == 0).all()) for name, kept in half.items())


PAPER = paper_transfer("cifar10", "bfloat16").adversarial
RECIPES = {
    "as the paper": PAPER.changed(
        epochs=1,
        batch_size=12,
        image_size=16,
        milestones=(),
        schedule="cosine",
        attack=PAPER.attack.changed(steps=1),
        selection_attack=PAPER.selection_attack.changed(steps=1),
        validate_every=1,
    ),
    "the fast way": QUICK.changed(attack=Attack(method="n-fgsm", eps=0.05), precision="bfloat16"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_transfer_is_that_of_a_cpu(name, backbone, tiny_data, half):
    recipe, free = RECIPES[name], 1000 if name == "as the paper" else 2**30

    def transferred(device):
        return transfer(backbone, tiny_data, recipe, mask=half, test_attack=pgd(1, 0.05), device=device)

    with a_gpu(free):  # with little, images are read ahead
        there = transferred(GPU)
    alone = transferred("cpu")
    # In bfloat16 a last digit is a hundredth.
    assert close(alone.weights, there.weights, 1e-2 if recipe.precision == "bfloat16" else 1e-5)
    assert there.accuracy == alone.accuracy
    assert there.record["provenance"]["environment"]["device"] == "cuda"


# Each as a slip would have it.
WRONG = {
    "pruned_entries": lambda real: lambda *given: [(weight, kept.cpu()) for weight, kept in real(*given)],
    "average_of": lambda real: lambda *given: real(*given).cpu(),
    "draw_starts": lambda real: lambda *given: (start.cpu() for start in real(*given)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_on_the_wrong_device_is_found(name, backbone, tiny_data, half, monkeypatch):
    monkeypatch.setattr(training, name, WRONG[name](getattr(training, name)))
    with a_gpu(), pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
        train(backbone.model(3), tiny_data, QUICK.changed(attack=L2), seed=0, mask=half, device=GPU)


@pytest.mark.parametrize("attack", [Attack(method="fgsm", eps=0.05), PGD, L2], ids=["FGSM", "PGD", "restarts in L2"])
def test_an_attack_moves_images_as_on_a_cpu(attack, backbone):
    model, split = backbone.model(3).eval(), stripes(6, 5)
    images = split.images / 255
    moved = perturb(model, images, split.labels, attack, loss=margin)
    with a_gpu():
        there = perturb(model.to(GPU), images.to(GPU), split.labels.to(GPU), attack, loss=margin)
        assert there.device == GPU
        assert torch.allclose(there.cpu(), moved, atol=1e-5)


def known(model, count):
    """Images with the labels that a network gives them."""
    split = stripes(count, 5)
    with torch.no_grad():
        return type(split)(split.images, model.eval()(split.images / 255).argmax(1))


MEASURING = {"clean": None, "attacked": L2, "AutoAttack": Attack(method="autoattack", eps=0.05)}


@pytest.mark.parametrize("attack", MEASURING.values(), ids=MEASURING)
def test_a_network_measures_as_on_a_cpu(attack, backbone, short_autoattack):
    model = backbone.model(5)
    split = known(model, 12)
    alone = evaluate(model, split, attack=attack, batch_size=8)
    with a_gpu():
        assert evaluate(model.to(GPU), split, attack=attack, batch_size=8, device=GPU) == alone


def test_images_of_another_network_and_what_is_said_of_them(backbone):
    model = backbone.model(3)
    split = known(model, 4)
    with a_gpu():
        model.to(GPU)
        assert evaluate(model, split, attack=black_box(model, PGD, "itself"), device=GPU).SA == 1
        shown = examples(model, split, PGD, image_size=8, device=GPU)
    assert all(one.said.label == one.label for one in shown)
    assert {tensor.device.type for one in shown for tensor in (one.clean, one.attacked)} == {"cpu"}


def test_a_mask_holds_in_a_loop_of_others(ladder):
    ticket = ladder.ticket(2)
    with a_gpu():
        model = ticket.to_model(num_classes=3).to(GPU)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ticket.hold_mask(optimizer, model)
        model(torch.rand(4, 3, 8, 8, device=GPU)).sum().backward()
        optimizer.step()
        weights = {name: weight.detach().cpu() for name, weight in model.named_parameters()}
    assert all(bool((weights[name][~kept] == 0).all()) for name, kept in ticket.mask.items())
