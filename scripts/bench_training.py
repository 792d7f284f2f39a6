"""Measure the training loop beside the way it is usually written: images a second, ablation, share of the peak.

    python scripts/bench_training.py --dataset FOLDER                 three architectures, standard and PGD-10 steps
    python scripts/bench_training.py --dataset FOLDER --ablation      also the gain of each part of ours
    python scripts/bench_training.py --dataset FOLDER --accuracy 300  also SA and RA after so many PGD-10 steps
    python scripts/bench_training.py --dataset FOLDER --compile       also ours under torch.compile
    python scripts/bench_training.py --dataset FOLDER --device cuda   on a GPU, timed by its events

The usual way: torch.nn.utils.prune, whose masks are applied in every forward pass; PGD as advertorch does it, by
backward() on the loss, which computes every weight's gradient too, with BatchNorm in training mode; float32, channels
first; torchvision transforms image by image in two DataLoader workers. Ours is the `Loop` of
`lottery_hub.training.loop` as it is.

Both take their steps in turn, a few at a time, in one process; what is printed is the median over turns, and the
ratio of each turn's pair with its smallest and largest. Networks are as initialised, pruned by magnitude; which
weights they have does not matter to the time of a step.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from lottery_hub.images.datasets import Dataset, load_dataset
from lottery_hub.images.views import train_batches
from lottery_hub.networks.backbones import Backbone, Normalised, Weights, fresh_weights
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.small_maps import seen_taps
from lottery_hub.robustness.attacks import perturb
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import Attack, DrawPlan, Recipe
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.settings.presets import pgd
from lottery_hub.settings.speed import TRICKS
from lottery_hub.storage.folder import load_ladder, packaged_folder
from lottery_hub.training.drawing import draw
from lottery_hub.training.loop import Loop

BATCH = 128
PGD_10 = pgd(10, 8 / 255)
TEST = pgd(20, 8 / 255)
WARM = 300  # standard steps before a network is pruned whose accuracy is compared
PARTS = ("masks in place", "PGD on images only", "resident images")  # of ours, which the usual way can take over
Steps = Iterator[Normalised]
Batches = Iterator[tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="CIFAR-10: its name, or a folder of it")
    parser.add_argument("--arch", nargs="+", default=["resnet18-slim", "resnet18", "resnet50"])
    parser.add_argument("--level", type=int, default=8, help="of one-shot pruning; 8 is 83.22 %%")
    parser.add_argument("--turns", type=int, default=5, help="0 measures no speed")
    parser.add_argument("--steps", type=int, default=2, help="of each way in a turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--compile", action="store_true", help="on a GPU with CUDA graphs")
    parser.add_argument("--accuracy", type=int, default=0, metavar="STEPS")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    data = load_dataset(options.dataset)
    print(describe_environment(device))
    peaks = {name: matmul_peak(device, dtype) for name, dtype in PRECISIONS.items()}
    print("matmul peak:", ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items()))
    for arch in options.arch if options.turns else ():
        start, mask = pruned(arch, options.level)
        forward = forward_flops(start)
        for regime, attack in (("standard", None), ("PGD-10", PGD_10)):
            ways = compared(start, mask, data, attack, device, options)
            seconds = in_turns(ways, options.turns, options.steps, device)
            passes = 3 + (2 * attack.steps if attack else 0)
            print(f"\n{arch}, {regime} steps, batch {BATCH}, {options.turns} turns of {options.steps} steps")
            for name, times in seconds.items():
                ratios = [usual / own for usual, own in zip(seconds["usual"], times, strict=True)]
                rate = BATCH / statistics.median(times)
                share = rate * passes * forward / peaks["bfloat16"]
                print(
                    f"  {name:26} {rate:8.1f} images/s   {statistics.median(ratios):5.2f}x "
                    f"({min(ratios):.2f} to {max(ratios):.2f})   {share:6.1%} of the bfloat16 peak"
                )
    for arch in options.arch if options.accuracy else ():
        compare_accuracy(arch, options.level, data, options.accuracy, device)


# What is measured


def compared(
    start: Normalised,
    mask: Mask,
    data: Dataset,
    attack: Attack | None,
    device: torch.device,
    options: argparse.Namespace,
) -> dict[str, Callable[[], Steps]]:
    """Return the ways of taking steps that the options ask for, by the name that is printed."""
    usual = partial(usual_steps, start, mask, data, attack, device)
    ours = partial(our_steps, start, mask, data, attack, device)
    float32 = partial(ours, fast=False)
    ways: dict[str, Callable[[], Steps]] = {"usual": usual}
    if options.ablation:
        parts = [part for part in PARTS if attack or part != "PGD on images only"]
        ways |= {f"  with {part}": partial(usual, part=part) for part in parts}
    ways["ours"] = ours
    if options.ablation:
        ways |= {f"  without {trick}": without(trick, ours) for trick in TRICKS}
        ways |= {"  in float32": float32, "  in float32, without any": without(",".join(TRICKS), float32)}
    if options.compile:
        ways["  with torch.compile"] = partial(ours, compiled=True)
    return ways


def our_steps(
    start: Normalised,
    mask: Mask,
    data: Dataset,
    attack: Attack | None,
    device: torch.device,
    fast: bool = True,
    compiled: bool = False,
) -> Steps:
    """Take our steps."""
    precision = fast_precision(device) if fast else "float32"
    recipe = Recipe(epochs=100, batch_size=BATCH, lr=0.01, schedule="constant", attack=attack, precision=precision)
    loop = Loop.over(copy.deepcopy(start), data, recipe, seed=0, mask=mask, device=device)
    if compiled:
        for view in {loop.learning, loop.attacked}:
            view.compile(mode="reduce-overhead" if device.type == "cuda" else "default")
    for epoch in itertools.count():
        for _, images in loop.steps(epoch):
            if images == BATCH:
                yield loop.model


def usual_steps(
    start: Normalised, mask: Mask, data: Dataset, attack: Attack | None, device: torch.device, part: str = ""
) -> Steps:
    """Take steps as they are usually written, one of `PARTS` excepted."""
    model = copy.deepcopy(start).to(device)
    convolutions = {f"{name}.weight": module for name, module in model.network.named_modules()}
    pruned = [(convolutions[name], kept.to(device)) for name, kept in mask.items()]
    if part != "masks in place":
        for convolution, kept in pruned:
            prune.custom_from_mask(convolution, "weight", kept)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batches = resident(data, device) if part == "resident images" else loaded(data, device)
    craft = partial(perturb, generator=torch.Generator(device)) if part == "PGD on images only" else usual_pgd
    model.train()
    for images, labels in batches:
        shown = images if attack is None else craft(model, images, labels, attack)
        loss = F.cross_entropy(model(shown), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if part == "masks in place":
            with torch.no_grad():
                for convolution, kept in pruned:
                    convolution.weight.masked_fill_(~kept, 0)
        yield model


def loaded(data: Dataset, device: torch.device) -> Batches:
    """Yield batches as DataLoader workers make them."""
    loader = DataLoader(Images(data), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    while True:
        for images, labels in loader:
            yield images.to(device), labels.to(device)


def resident(data: Dataset, device: torch.device) -> Batches:
    """Yield batches as we make them."""
    views = torch.Generator()
    while True:
        for images, labels in train_batches(data.train, BATCH, "crop-flip", 32, views, device):
            if len(labels) == BATCH:
                yield images, labels


def usual_pgd(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """Return attacked images; gradients of weights are computed along the way and thrown away."""
    delta = torch.empty_like(images).uniform_(-attack.eps, attack.eps)
    delta.data = (images + delta).clamp(0, 1) - images
    delta.requires_grad_()
    for _ in range(attack.steps):
        loss = F.cross_entropy(model(images + delta), labels)
        loss.backward()
        assert delta.grad is not None
        moved = (delta.data + attack.step_size * delta.grad.sign()).clamp(-attack.eps, attack.eps)
        delta.data = (images + moved).clamp(0, 1) - images
        delta.grad.zero_()
    model.zero_grad()
    return (images + delta).detach()


class Images(TorchDataset[tuple[Tensor, int]]):
    """Training images one by one, each through its transforms."""

    def __init__(self, data: Dataset, flip: bool = True) -> None:
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in data.train.images]
        self.labels = data.train.labels.tolist()
        mirror = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose([transforms.RandomCrop(32, padding=4), *mirror, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


# How it is measured


def pruned(arch: str, level: int, weights: Weights | None = None) -> tuple[Normalised, Mask]:
    """Return a network with these weights, or as initialised with ten classes, and a one-shot mask of it."""
    backbone = Backbone(arch, "std", weights or fresh_weights(arch, 10, 0))
    return backbone.model(), draw(backbone, DrawPlan(method="omp", rounds=level)).ticket(level).mask


def forward_flops(model: Normalised) -> float:
    """Return the operations of one image's forward pass, a multiplication and an addition being two.

    Taps that lie on padding are left out: nobody needs to compute them, and some do.
    """
    network = copy.deepcopy(model).eval()
    products = [model.network.get_submodule("fc").get_parameter("weight").numel()]

    def count(conv: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        sides = zip(given[0].shape[2:], conv.kernel_size, conv.stride, conv.padding, strict=True)
        taps = math.prod(len(seen_taps(*side)) for side in sides)
        products.append(taps * conv.in_channels * conv.out_channels // conv.groups)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    return 2.0 * sum(products)


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Return operations a second of a large product, the best of many."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2.0 * side**3 / min(timed(lambda: a @ b, device) for _ in range(20))


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a piece of work: by the clock, or by the GPU's events."""
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def in_turns(
    ways: dict[str, Callable[[], Steps]], turns: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds a step of each way, turn by turn; a turn of each comes first that does not count."""
    running = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, run in running.items():
            took = timed(lambda run=run: [next(run) for _ in range(steps)], device) / steps
            if turn:
                seconds[name].append(took)
    return seconds


def without(trick: str, way: Callable[[], Steps]) -> Callable[[], Steps]:
    """Return a way of taking steps with one trick switched off."""

    def steps() -> Steps:
        run = way()
        while True:
            with switched_off(trick):
                done = next(run)
            yield done

    return steps


@contextlib.contextmanager
def switched_off(trick: str) -> Iterator[None]:
    os.environ["LOTTERY_HUB_WITHOUT"] = trick
    try:
        yield
    finally:
        del os.environ["LOTTERY_HUB_WITHOUT"]


def compare_accuracy(arch: str, level: int, data: Dataset, steps: int, device: torch.device) -> None:
    """Print SA and RA after so many PGD-10 steps: ours as it is, and in plain float32 with two seeds."""
    # Pruned at initialisation, so few steps would teach a network little: the figures could not tell loops apart.
    if packaged_folder(f"{arch}-adv"):
        ticket = load_ladder(f"{arch}-adv").ticket(level)
        start, mask, origin = ticket.to_normalised(10, "fresh"), ticket.mask, "from the packaged robust backbone"
    else:
        *_, warm = itertools.islice(our_steps(pruned(arch, level)[0], {}, data, None, device), WARM)
        start, mask = pruned(arch, level, dict(warm.cpu().network.state_dict()))
        origin = f"pruned after {WARM} standard steps"
    tricks = ",".join(TRICKS)
    about = f"{len(data.test)} test images, {TEST.describe()}"
    print(f"\n{arch} at level {level}, {origin}, after {steps} PGD-10 steps; {about}")
    for name, fast, seed, off in (("ours", True, 0, ""), ("plain", False, 0, tricks), ("plain", False, 1, tricks)):
        os.environ["LOTTERY_HUB_WITHOUT"] = off
        precision = fast_precision(device) if fast else "float32"
        recipe = Recipe(epochs=100, batch_size=BATCH, lr=0.02, schedule="constant", attack=PGD_10, precision=precision)
        loop = Loop.over(copy.deepcopy(start), data, recipe, seed=seed, mask=mask, device=device)
        every = (step for epoch in itertools.count() for step in loop.steps(epoch))
        began = time.perf_counter()
        losses = [float(loss) for loss, _ in itertools.islice(every, steps)]
        seconds = time.perf_counter() - began
        del os.environ["LOTTERY_HUB_WITHOUT"]
        seen = evaluate(loop.model, data.test, attack=TEST, device=device)
        assert seen.RA is not None
        print(
            f"  {name}, seed {seed}: loss of the last 20 steps {statistics.mean(losses[-20:]):.3f}, SA {seen.SA:.2%}, "
            f"RA {seen.RA:.2%}, {seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
