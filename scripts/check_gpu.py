"""Check that everything here runs on a GPU, gives what a CPU gives, and how fast: one JSON, written after every stage.

    python scripts/check_gpu.py --output gpu.json --cifar FOLDER --minutes 7
    python scripts/check_gpu.py --output cpu.json --cpu --tiny              the same code where there is no GPU

FOLDER holds `cifar10` and `cifar100` as parquet, in the layout of their Hub repositories; without it the stages that
need real images take the bundled digits. Stages come in the order of what they tell. One that fails is recorded with
its traceback, one for which no time is left is recorded as left out, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench_training import PRECISIONS, Case, in_turns, matmul_rates, our_steps, pruned, switched, switches, timed
from torch.profiler import ProfilerActivity, profile

from lottery_hub.images.datasets import Dataset, Split, load_dataset
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.robustness.attacks import perturb
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.settings.ambient import computing, deterministic
from lottery_hub.settings.config import Recipe
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.presets import pgd, quick_pretrain
from lottery_hub.training.loop import Loop

ROOT = Path(__file__).parent.parent
PGD_10 = pgd(10, 8 / 255)
TOLERANCE = 1e-3  # of float32 figures beside a CPU's, relative: sums are added in another order


@dataclass
class Check:
    """What the stages share."""

    device: torch.device
    tiny: bool
    cifar: Path | None
    found: dict[str, Any] = field(default_factory=dict)

    def images(self, name: str = "cifar10", side: int = 32) -> Dataset:
        """Return a subset of CIFAR, or digits where it is not at hand."""
        data = load_dataset("digits" if self.cifar is None else str(self.cifar / name), image_size=side)
        if not self.tiny:
            return data
        few = [Split(split.images[:96], split.labels[:96]) for split in (data.train, data.validation, data.test)]
        return replace(data, train=few[0], validation=few[1], test=few[2])

    def peak(self) -> float:
        """Return the bfloat16 peak that was measured, or 1 operation a second where it was not."""
        return max(self.found.get("matmul", {}).get("result", {}).get("bfloat16", {"": 1.0}).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--cifar", type=Path, help="a folder with cifar10 and cifar100 in it")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no stage begins, and none goes on")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="few images and steps, for tests")
    options = parser.parse_args()
    device = torch.device("cpu" if options.cpu else "cuda")
    check = Check(device, options.tiny, options.cifar)
    began = time.monotonic()
    for name in options.stages:
        left = 60 * options.minutes - (time.monotonic() - began)
        check.found[name] = attempted(
            partial(STAGES[name][0], check), min(STAGES[name][1] if device.type == "cuda" else 3600, left)
        )
        check.found["seconds"] = round(time.monotonic() - began, 1)
        options.output.write_text(json.dumps(check.found, indent=1), encoding="utf-8")
        print(f"{name}: {json.dumps(check.found[name])[:1500]}", flush=True)
    failed = [name for name, told in check.found.items() if isinstance(told, dict) and "failed" in told]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def attempted(stage: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Return what a stage found, the seconds that it took and what it warned of; or why it found nothing."""
    if seconds < 1:
        return {"left out": "no time was left"}
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as told, limited(seconds):
        warnings.simplefilter("always", RuntimeWarning)
        try:
            found = {"result": stage()}
        except TimeoutError:
            found = {"left out": f"it takes more than {seconds:.0f} seconds"}
        except Exception:  # whatever it is, the other stages have something to tell
            found = {"failed": traceback.format_exc()}
    mentioned = [str(warning.message) for warning in told if issubclass(warning.category, RuntimeWarning)]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found | {"seconds": round(time.monotonic() - began, 2)} | ({"warnings": mentioned} if mentioned else {})


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds."""

    def ring(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# The stages


def machine(check: Check) -> dict[str, Any]:
    """What is computed with."""
    told = {"environment": describe_environment(check.device), "cores": os.cpu_count()}
    if check.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        told |= {"free": free, "memory": total, "capability": torch.cuda.get_device_capability()}
    return told


def parity(check: Check) -> dict[str, Any]:
    """The same weights and images, here and on the CPU, in float32: logits, gradients, attacks and training steps."""
    torch.manual_seed(0)
    arch = "resnet18-slim" if check.tiny else "resnet18"
    model = Backbone(arch, "std", fresh_weights(arch, 10, 0)).model()
    many = 16 if check.tiny else 64
    images, labels = torch.rand(many, 3, 32, 32), torch.arange(many) % 10
    attack = pgd(10, 8 / 255).changed(random_start=False)
    logits, attacked, gradients, steps = [], [], [], []
    for device in (torch.device("cpu"), check.device):
        there, generator = copy.deepcopy(model).to(device).eval(), torch.Generator(device)
        with computing(device):
            given = images.to(device).requires_grad_()
            logits.append(there(given).detach().cpu())
            loss = F.cross_entropy(there(given), labels.to(device))
            gradients.append(torch.autograd.grad(loss, given)[0].cpu())
            attacked.append(perturb(there, images.to(device), labels.to(device), attack, generator).cpu())
        steps.append(trained(check, device, model))
    (loss_cpu, weights_cpu, _), (loss_gpu, weights_gpu, replayed) = steps
    return {
        "logits": distance(*logits),
        "gradients": distance(*gradients),
        "attacked pixels that are the same": float((attacked[0] - attacked[1]).abs().lt(1e-6).float().mean()),
        "losses": distance(torch.tensor(loss_cpu), torch.tensor(loss_gpu)),
        "weights": distance(weights_cpu, weights_gpu),
        "loss of every step": [loss_cpu, loss_gpu],
        "replayed": replayed,
        "tolerance": TOLERANCE,
        "held": distance(*logits) < TOLERANCE and distance(torch.tensor(loss_cpu), torch.tensor(loss_gpu)) < TOLERANCE,
    }


def trained(check: Check, device: torch.device, model: Any, attack: Any = None) -> tuple[list[float], Any, Any]:
    """Return the losses of some steps, the weights after them, and whether steps were played back."""
    data = check.images()
    batch = 16 if check.tiny else 64
    recipe = Recipe(epochs=100, batch_size=batch, lr=0.01, attack=attack, average=0.9, schedule="constant")
    losses: list[float] = []
    with computing(device):
        loop = Loop.over(copy.deepcopy(model), data, recipe, seed=0, device=device)
        steps = (step for epoch in itertools.count() for step in loop.steps(epoch))
        for loss, _ in itertools.islice(steps, 2 if check.tiny else 8):
            losses.append(float(loss))
        return losses, flat(loop.model), loop.replay.described()


def flat(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in model.parameters()])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the length of the difference over that of the first."""
    return float((one - other).norm() / one.norm())


def graphs(check: Check) -> dict[str, Any]:
    """Steps that are played back beside the same kernel by kernel, also where every kernel adds in one order."""
    found: dict[str, Any] = {}
    model = Backbone("resnet18-slim", "std", fresh_weights("resnet18-slim", 10, 0)).model()
    for regime, attack in (("standard", None), ("PGD-3", pgd(3, 8 / 255))):
        for exact in (False, True):
            with deterministic(exact):
                runs = []
                for off in ("", "graphs", "graphs"):
                    with switches(off):
                        runs.append(trained(check, check.device, model, attack))
            found[f"{regime}, deterministic" if exact else regime] = {
                "replayed": runs[0][2],
                "replayed and by kernel": distance(runs[1][1], runs[0][1]),
                "by kernel, twice": distance(runs[1][1], runs[2][1]),
                "losses": [losses for losses, *_ in runs],
            }
    return found


def measuring(check: Check) -> dict[str, Any]:
    """PGD-20 on 10,000 images, as a find measures its networks: in float32, on what is right."""
    split = check.images().test
    times = -(-(96 if check.tiny else 10_000) // len(split))
    split = Split(split.images.repeat(times, 1, 1, 1), split.labels.repeat(times))
    found = {}
    for arch in ("resnet18-slim",) if check.tiny else ("resnet18-slim", "resnet18"):
        model = Backbone(arch, "std", fresh_weights(arch, 10, 0)).model().to(check.device)
        with torch.no_grad(), computing(check.device):
            # As if all were right: the network is what it was initialised to.
            chunks = (split.images[at : at + 500].to(check.device) / 255 for at in range(0, len(split), 500))
            labels = torch.cat([model.eval()(images).argmax(1).cpu() for images in chunks])
        began = time.monotonic()
        measured = evaluate(model, replace(split, labels=labels), attack=pgd(20, 8 / 255), device=check.device)
        found[arch] = measured.record() | {"seconds": round(time.monotonic() - began, 2)}
    return found


def matmul(check: Check) -> dict[str, Any]:
    """Operations a second of products of matrices, by precision and side."""
    sides = (256,) if check.tiny else (4096, 8192, 16384)
    return {name: matmul_rates(check.device, dtype, sides) for name, dtype in PRECISIONS.items()}


def speed(check: Check, arch: str, side: int, attack: Any, ablation: bool = False) -> dict[str, Any]:
    """Our steps beside those of others, and without each part of what makes them fast."""
    batch, data = 16 if check.tiny else 128, check.images()
    arch, side = ("resnet18-slim", 32) if check.tiny else (arch, side)
    case = Case(*pruned(arch, 8), data, attack, check.device, side, batch)
    ways = case.ways(ablation, False)
    if ablation:
        ways = {name: way for name, way in ways.items() if not name.startswith("  with ")}
    elif check.device.type == "cuda":
        ways["  without graphs"] = switched(partial(our_steps, case), without="graphs")
    turns, steps = (1, 1) if check.tiny else (2, 3) if side > 32 else (3, 8)
    seconds = in_turns(ways, turns, steps, check.device)
    return {"batch": batch, "side": side, "ways": list(case.rows(seconds, check.peak()))}


def trace(check: Check) -> dict[str, Any]:
    """Where the time of PGD-10 steps of resnet18 goes: by kernel, and what the GPU waits between them."""
    case = Case(*pruned("resnet18-slim" if check.tiny else "resnet18", 8), check.images(), PGD_10, check.device)
    case = replace(case, batch=16 if check.tiny else case.batch)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if check.device.type == "cuda" else [])
    found = {}
    for name, off in (("replayed", ""), ("by kernel", "graphs")):
        run = switched(partial(our_steps, case), without=off)()
        many = 1 if check.tiny else 3
        for _ in range(2 if check.tiny else 6):
            next(run)
        wall = timed(lambda run=run, many=many: [next(run) for _ in range(many)], check.device) / many
        with profile(activities=kinds) as seen:
            timed(lambda run=run: next(run), check.device)
        rows = [row for row in seen.key_averages() if device_time(row)]
        rows.sort(key=device_time, reverse=True)
        found[name] = {
            "wall_ms": wall * 1e3,
            "kernels_ms": sum(device_time(row) for row in rows) / 1e3,
            "kernels": sum(row.count for row in rows),
            "longest": [
                {"name": row.key[:140], "ms": round(device_time(row) / 1e3, 4), "count": row.count} for row in rows[:25]
            ],
        }
    return found


def device_time(row: Any) -> float:
    """Return the microseconds that a kernel took on the device by itself."""
    return float(row.self_device_time_total) if str(row.device_type).endswith("CUDA") else 0.0


def jobs(check: Check) -> dict[str, Any]:
    """Images a second of several trainings of resnet18-slim at a time, in a thread and a stream each."""
    data = check.images()
    found = {}
    for many in (1, 2) if check.tiny else (1, 2, 4, 8):
        barrier = threading.Barrier(many)
        works = [partial(work_of, check, data, barrier)] * many
        rates = side_by_side(works, many, 1, threading.Event()) if many > 1 else [works[0]()]
        found[many] = {"images_per_second": sum(rates), "each": rates}
    return found


def work_of(check: Check, data: Dataset, barrier: threading.Barrier) -> float:
    """Return the images a second of one training, all of them at once."""
    attack, many = pgd(3, 8 / 255), 2 if check.tiny else 100
    recipe = Recipe(epochs=1000, batch_size=16 if check.tiny else 64, lr=0.01, attack=attack)
    recipe = recipe.changed(precision="bfloat16" if check.device.type == "cuda" else None)
    model = Backbone("resnet18-slim", "std", fresh_weights("resnet18-slim", 10, 0)).model()
    with computing(check.device):
        loop = Loop.over(model, data, recipe, seed=0, device=check.device)
        steps = (step for epoch in itertools.count() for step in loop.steps(epoch))
        for _ in range(1 if check.tiny else 8):
            loss, _ = next(steps)
        float(loss)
        barrier.wait()
        began = time.perf_counter()
        for _ in range(many):
            loss, _ = next(steps)
        float(loss)
        return many * recipe.batch_size / (time.perf_counter() - began)


def find(check: Check, dataset: str) -> dict[str, Any]:
    """A whole find, as the command line makes it."""
    where = "digits" if dataset == "digits" or check.cifar is None else str(check.cifar / dataset)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lottery_hub", "find", "--pretrain", "adv", "--dataset", where, "--json"]
        command += ["--device", check.device.type, "--output", folder + "/run"]
        if check.tiny:
            command += ["--set", "transfer.standard.epochs=1", "--set", "transfer.adversarial.epochs=1"]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            told = [f"{time.monotonic() - began:5.1f} s  {line.rstrip()}"[:200] for line in run.stderr]
            answer = run.stdout.read()
        seconds = time.monotonic() - began
        if run.returncode:
            raise RuntimeError("\n".join(told[-40:]))
        records = json.loads((Path(folder) / "run" / "ticket" / "results.json").read_text(encoding="utf-8"))
    transfers = [
        {key: record[key] for key in ("ticket", "regime", "SA", "RA")}
        | {"seconds": record["provenance"]["seconds"], "last": record["history"][-1]}
        for record in records["transfers"]
    ]
    summary = json.loads(answer)
    figures = {key: summary[key] for key in ("double_win", "sparsity", "level")}
    return {"seconds": round(seconds, 1), **figures, "told": told, "transfers": transfers}


def pretraining(check: Check, kind: Any, seconds: float) -> dict[str, Any]:
    """Pre-training of resnet18 for so many seconds, and what it has learned by then."""
    data = check.images("cifar100")
    arch = "resnet18-slim" if check.tiny else "resnet18"
    model = Backbone(arch, kind, fresh_weights(arch, len(data.classes), 0)).model()
    epochs = 1 if check.tiny else 200
    precision = "bfloat16" if check.device.type == "cuda" else "float32"
    recipe = quick_pretrain(kind, "cifar100", epochs, precision)
    began, epoch, rates = time.monotonic(), 0, []
    with computing(check.device):
        loop = Loop.over(model, data, recipe, seed=0, device=check.device)
        while epoch < epochs and time.monotonic() - began < seconds:
            now = time.monotonic()
            loss, images = loop.epoch(epoch)
            rates.append(images / (time.monotonic() - now))
            epoch += 1
        told = {"epochs": epoch, "loss": loss, "images_per_second": statistics.median(rates)}
        told |= {"replayed": loop.replay.described()}
        began = time.monotonic()
        measured = evaluate(loop.model, data.test, attack=pgd(20, 8 / 255), device=check.device)
    return told | measured.record() | {"measuring": round(time.monotonic() - began, 2)}


def suite(check: Check) -> dict[str, Any]:
    """The suite's own tests of a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/test_on_a_gpu.py"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode not in (0, 5):
        raise RuntimeError(done.stdout[-6000:] + done.stderr[-2000:])
    return {"told": done.stdout[-600:]}


# In the order of what they tell, with the seconds that each may take at most.
STAGES: dict[str, tuple[Callable[[Check], Any], float]] = {
    "machine": (machine, 20),
    "parity": (parity, 30),
    "graphs": (graphs, 40),
    "matmul": (matmul, 20),
    "resnet18 PGD-10": (partial(speed, arch="resnet18", side=32, attack=PGD_10, ablation=True), 60),
    "trace": (trace, 30),
    "find digits": (partial(find, dataset="digits"), 60),
    "measuring": (measuring, 30),
    "suite": (suite, 90),
    "slim PGD-10": (partial(speed, arch="resnet18-slim", side=32, attack=PGD_10), 60),
    "resnet50 PGD-10": (partial(speed, arch="resnet50", side=224, attack=PGD_10), 60),
    "jobs": (jobs, 40),
    "resnet18 standard": (partial(speed, arch="resnet18", side=32, attack=None), 30),
    "slim standard": (partial(speed, arch="resnet18-slim", side=32, attack=None), 30),
    "resnet50 standard": (partial(speed, arch="resnet50", side=224, attack=None), 60),
    "find cifar": (partial(find, dataset="cifar10"), 90),
    "pretraining fast-adv": (partial(pretraining, kind="fast-adv", seconds=60), 75),
    "pretraining adv": (partial(pretraining, kind="adv", seconds=60), 75),
}

if __name__ == "__main__":
    main()
