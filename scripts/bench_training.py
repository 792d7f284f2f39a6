"""Measure the training loop beside the way it is usually written: images a second, ablation, share of the peak.

    python scripts/bench_training.py --dataset FOLDER                 three architectures, standard and PGD-10 steps
    python scripts/bench_training.py --dataset FOLDER --ablation      also the gain of each part of ours
    python scripts/bench_training.py --dataset FOLDER --accuracy 300  also SA and RA after so many PGD-10 steps
    python scripts/bench_training.py --dataset FOLDER --compile       also ours under torch.compile
    python scripts/bench_training.py --dataset FOLDER --device cuda   on a GPU
    python scripts/bench_training.py --dataset FOLDER --busy          on a machine that others use too

The usual way: torch.nn.utils.prune, whose masks are applied in every forward pass; PGD of torchattacks (Kim 2020),
which computes gradients of images only, with BatchNorm in eval mode; float32, channels first; torchvision transforms
image by image in DataLoader workers. The careful way is the same with images and weights in channels-last, more
workers and pinned memory; on a GPU there is also one under autocast to bfloat16. Ours is the `Loop` of
`lottery_hub.training.loop` as it is.

All take their steps in turn, a few at a time, in one process; what is printed is the median over turns, and the
ratio of each turn's pair with its smallest and largest. With --busy time is what the processor spent on this process:
what others do there is left out, and so is what DataLoader workers take, to the usual way's good. Networks are as
initialised, pruned by magnitude; which weights they have does not matter to the time of a step.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from lottery_hub.networks.replaying import WARM as RECORDED_AFTER
from lottery_hub.networks.small_maps import seen_taps
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.ambient import computing
from lottery_hub.settings.config import Attack, DrawPlan, Recipe
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.settings.presets import pgd
from lottery_hub.settings.speed import OFF, TRICKS, on
from lottery_hub.storage.folder import load_ladder, packaged_folder
from lottery_hub.training.drawing import draw
from lottery_hub.training.loop import Loop

BATCH = 128
WORKERS = (2, max(2, min(12, (os.cpu_count() or 2) - 2)))  # of the usual and the careful way
PGD_10 = pgd(10, 8 / 255)
TEST = pgd(20, 8 / 255)
WARM = 300  # standard steps before a network is pruned whose accuracy is compared
PARTS = ("masks in place", "resident images")  # of ours, which the usual way can take over
Steps = Iterator[Normalised]
Batches = Iterator[tuple[Tensor, Tensor]]
Clock = Callable[[], float]  # in seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="CIFAR-10: its name, or a folder of it")
    parser.add_argument("--arch", nargs="+", default=["resnet18-slim", "resnet18", "resnet50"])
    parser.add_argument("--level", type=int, default=8, help="of one-shot pruning; 8 is 83.22 %%")
    parser.add_argument("--turns", type=int, default=5, help="0 measures no speed")
    parser.add_argument("--steps", type=int, default=2, help="of each way in a turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--busy", action="store_true", help="count the processor's time for this process")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--compile", action="store_true", help="write kernels by torch.compile too")
    parser.add_argument("--accuracy", type=int, default=0, metavar="STEPS")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    data = load_dataset(options.dataset)
    print(describe_environment(device))
    clock = time.process_time if options.busy else time.perf_counter
    peaks = {name: matmul_peak(device, dtype, clock=clock) for name, dtype in PRECISIONS.items()}
    print("matmul peak:", ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items()))
    for arch in options.arch if options.turns else ():
        for regime, attack in (("standard", None), ("PGD-10", PGD_10)):
            case = Case(*pruned(arch, options.level), data, attack, device)
            ways = case.ways(options.ablation, options.compile)
            print(f"\n{arch}, {regime} steps, batch {BATCH}, {options.turns} turns of {options.steps} steps")
            for row in case.rows(in_turns(ways, options.turns, options.steps, device, clock), peaks["bfloat16"]):
                print(
                    f"  {row['way']:26} {row['images_per_second']:8.1f} images/s   {row['ratio']:5.2f}x "
                    f"({row['least']:.2f} to {row['most']:.2f})   {row['share_of_peak']:6.1%} of the bfloat16 peak"
                )
    for arch in options.arch if options.accuracy else ():
        compare_accuracy(arch, options.level, data, options.accuracy, device)


# What is measured


@dataclass(frozen=True)
class Case:
    """A network and its mask, the images it is trained on, how they are attacked, and where."""

    start: Normalised
    mask: Mask
    data: Dataset
    attack: Attack | None
    device: torch.device
    side: int = 32
    batch: int = BATCH

    def ways(self, ablation: bool, compiled: bool) -> dict[str, Callable[[], Steps]]:
        """Return the ways of taking steps that are asked for, by the name that is printed."""
        ours = partial(our_steps, self)
        float32 = partial(ours, fast=False)
        ways: dict[str, Callable[[], Steps]] = {"usual": partial(usual_steps, self)}
        if ablation:
            ways |= {f"  with {part}": partial(usual_steps, self, part=part) for part in PARTS}
        ways["careful"] = partial(usual_steps, self, careful=True)
        if self.device.type == "cuda":
            ways["careful, bfloat16"] = partial(usual_steps, self, careful=True, fast=True)
        ways["ours"] = ours
        tricks = [trick for trick in TRICKS if on(trick, self.device)]
        if self.device.type != "cuda":
            tricks.remove("graphs")
        if ablation:
            ways |= {f"  without {trick}": switched(ours, without=trick) for trick in tricks}
            ways |= {"  in float32": float32, "  in float32, without any": switched(float32, without=",".join(TRICKS))}
            ways |= {f"  with {trick}": switched(ours, use=trick) for trick in OFF.get(self.device.type, ())}
        if compiled:
            ways["  with torch.compile"] = switched(ours, use="compile")
        return ways

    def rows(self, seconds: dict[str, list[float]], peak: float) -> Iterator[dict[str, Any]]:
        """Yield what was measured of each way, beside the usual one and the peak of products of matrices."""
        passes = 3 + (2 * self.attack.steps if self.attack else 0)
        operations = passes * forward_flops(self.start, self.side)
        for way, times in seconds.items():
            ratios = [usual / own for usual, own in zip(seconds["usual"], times, strict=True)]
            rate = self.batch / statistics.median(times)
            yield {
                "way": way,
                "images_per_second": rate,
                "ratio": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
                "share_of_peak": rate * operations / peak,
            }

    def recipe(self, fast: bool = True) -> Recipe:
        """Return the recipe of our steps."""
        return Recipe(
            epochs=10_000,
            batch_size=self.batch,
            lr=0.01,
            schedule="constant",
            attack=self.attack,
            precision=fast_precision(self.device) if fast else "float32",
            image_size=self.side,
            augment="crop-flip" if self.side == self.data.train.images.shape[-1] else "random-resized-crop",
        )


def our_steps(case: Case, fast: bool = True) -> Steps:
    """Take our steps."""
    # In a stream that stays the same from step to step, and is not the one in which others take theirs.
    stream = torch.cuda.Stream(case.device) if case.device.type == "cuda" else None
    with torch.cuda.stream(stream), computing(case.device):
        loop = Loop.over(
            copy.deepcopy(case.start), case.data, case.recipe(fast), seed=0, mask=case.mask, device=case.device
        )
    steps = (step for epoch in itertools.count() for step in loop.steps(epoch))
    while True:
        with torch.cuda.stream(stream), computing(case.device):
            _, images = next(steps)
        if images == case.batch:
            yield loop.model


def usual_steps(case: Case, part: str = "", careful: bool = False, fast: bool = False) -> Steps:
    """Take steps as they are usually written, one of `PARTS` excepted."""
    device, layout = case.device, torch.channels_last if careful else torch.contiguous_format
    model = copy.deepcopy(case.start).to(device, memory_format=layout)  # type: ignore[call-overload]
    convolutions = {f"{name}.weight": module for name, module in model.network.named_modules()}
    masked = [(convolutions[name], kept.to(device)) for name, kept in case.mask.items()]
    if part != "masks in place":
        for convolution, kept in masked:
            prune.custom_from_mask(convolution, "weight", kept)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batches = resident(case) if part == "resident images" else loaded(case, careful)
    craft = None if case.attack is None else usual_attack(model, case.attack)
    model.train()
    for images, labels in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            given = images.contiguous(memory_format=layout)
            shown = given if craft is None else craft(given, labels)
            loss = F.cross_entropy(model(shown), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if part == "masks in place":
            with torch.no_grad():
                for convolution, kept in masked:
                    convolution.weight.masked_fill_(~kept, 0)
        yield model


def loaded(case: Case, careful: bool) -> Batches:
    """Yield batches as DataLoader workers make them."""
    loader = DataLoader(
        Images(case.data, case.side),
        case.batch,
        shuffle=True,
        num_workers=WORKERS[careful],
        drop_last=True,
        persistent_workers=True,
        pin_memory=careful and case.device.type == "cuda",
    )
    while True:
        for images, labels in loader:
            yield images.to(case.device, non_blocking=careful), labels.to(case.device, non_blocking=careful)


def resident(case: Case) -> Batches:
    """Yield batches as we make them."""
    views = torch.Generator()
    recipe = case.recipe()
    while True:
        given = (case.data.train, case.batch, recipe.augment, case.side, views, case.device)
        for images, labels in train_batches(*given):
            if len(labels) == case.batch:
                yield images, labels


def usual_attack(model: nn.Module, attack: Attack) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the PGD of torchattacks; without it, the same in its words."""
    try:
        import torchattacks
    except ImportError:
        return partial(usual_pgd, model, attack=attack)
    return torchattacks.PGD(model, eps=attack.eps, alpha=attack.step_size, steps=attack.steps, random_start=True)


def usual_pgd(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> Tensor:
    """Return attacked images, as torchattacks 3.5.1 makes them; gradients are of images only."""
    model.eval()
    moved = images.clone().detach()
    moved = (moved + torch.empty_like(moved).uniform_(-attack.eps, attack.eps)).clamp(0, 1).detach()
    for _ in range(attack.steps):
        moved.requires_grad = True
        cost = F.cross_entropy(model(moved), labels)
        gradient = torch.autograd.grad(cost, moved, retain_graph=False, create_graph=False)[0]
        moved = moved.detach() + attack.step_size * gradient.sign()
        delta = torch.clamp(moved - images, min=-attack.eps, max=attack.eps)
        moved = torch.clamp(images + delta, min=0, max=1).detach()
    model.train()
    return moved


class Images(TorchDataset[tuple[Tensor, int]]):
    """Training images one by one, each through its transforms."""

    def __init__(self, data: Dataset, side: int = 32, flip: bool = True) -> None:
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in data.train.images]
        self.labels = data.train.labels.tolist()
        stored = data.train.images.shape[-1]
        crop = transforms.RandomCrop(stored, 4) if side == stored else transforms.RandomResizedCrop(side)
        mirror = [transforms.RandomHorizontalFlip()] if flip else []
        self.transform = transforms.Compose([crop, *mirror, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


# How it is measured


def pruned(arch: str, level: int, weights: Weights | None = None) -> tuple[Normalised, Mask]:
    """Return a network with these weights, or as initialised with ten classes, and a one-shot mask of it."""
    backbone = Backbone(arch, "std", weights or fresh_weights(arch, 10, 0))
    return backbone.model(), draw(backbone, DrawPlan(method="omp", rounds=level)).ticket(level).mask


def forward_flops(model: Normalised, side: int = 32) -> float:
    """Return the operations of one image's forward pass, a multiplication and an addition being two.

    Taps that lie on padding are left out: nobody needs to compute them, and some do.
    """
    network = copy.deepcopy(model).eval()
    products = [model.network.get_submodule("fc").get_parameter("weight").numel()]

    def count(conv: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        sides = zip(given[0].shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
        taps = math.prod(len(seen_taps(*side)) for side in sides)
        products.append(taps * conv.in_channels * conv.out_channels // conv.groups)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return 2.0 * sum(products)


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def matmul_peak(
    device: torch.device, dtype: torch.dtype, sides: Sequence[int] = (), clock: Clock = time.perf_counter
) -> float:
    """Return operations a second of large products, the best of many of several sizes."""
    return max(matmul_rates(device, dtype, sides, clock).values())


def matmul_rates(
    device: torch.device, dtype: torch.dtype, sides: Sequence[int] = (), clock: Clock = time.perf_counter
) -> dict[int, float]:
    """Return operations a second of products of matrices by their side, each the best of several."""
    many, sides = (20, sides or SIDES[device.type]) if device.type == "cuda" else (5, sides or SIDES["cpu"])
    rates = {}
    for side in sides:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        rates[side] = 2.0 * side**3 / min(timed(lambda a=a, b=b: a @ b, device, clock) for _ in range(many))
    return rates


SIDES = {"cpu": (1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}


def timed(work: Callable[[], object], device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of a piece of work, from nothing being computed to that again."""
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    began = clock()
    work()
    wait()
    return clock() - began


def in_turns(
    ways: dict[str, Callable[[], Steps]], turns: int, steps: int, device: torch.device, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds a step of each way, turn by turn; a turn of each comes first that does not count."""
    running = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, run in running.items():
            # The first time libraries choose their kernels, and a GPU's steps are recorded.
            many = steps if turn else max(steps, RECORDED_AFTER + 2 if device.type == "cuda" else 0)
            took = timed(lambda run=run, many=many: [next(run) for _ in range(many)], device, clock) / many
            if turn:
                seconds[name].append(took)
    return seconds


def switched(way: Callable[[], Steps], without: str = "", use: str = "") -> Callable[[], Steps]:
    """Return a way of taking steps with some tricks switched off, others on."""

    def steps() -> Steps:
        run = way()
        while True:
            with switches(without, use):
                done = next(run)
            yield done

    return steps


@contextlib.contextmanager
def switches(without: str = "", use: str = "") -> Iterator[None]:
    os.environ["LOTTERY_HUB_WITHOUT"], os.environ["LOTTERY_HUB_WITH"] = without, use
    try:
        yield
    finally:
        del os.environ["LOTTERY_HUB_WITHOUT"], os.environ["LOTTERY_HUB_WITH"]


def compare_accuracy(arch: str, level: int, data: Dataset, steps: int, device: torch.device) -> None:
    """Print SA and RA after so many PGD-10 steps: ours as it is, and in plain float32 with two seeds."""
    # Pruned at initialisation, so few steps would teach a network little: the figures could not tell loops apart.
    if packaged_folder(f"{arch}-adv"):
        ticket = load_ladder(f"{arch}-adv").ticket(level)
        start, mask, origin = ticket.to_normalised(10, "fresh"), ticket.mask, "from the packaged robust backbone"
    else:
        cold = Case(pruned(arch, level)[0], {}, data, None, device)
        *_, warm = itertools.islice(our_steps(cold), WARM)
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
