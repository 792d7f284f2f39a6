"""Measure which attack radius bites on a dataset: the rows of docs/budgets.md.

For each eps, the dense backbone is transferred adversarially at that eps; the standard transfer is made once
and attacked at each. A useful radius breaks the standard model and leaves the adversarial one work to do.

    python scripts/measure_budget.py --dataset digits --eps 8/255 0.1 0.15 0.2 0.3
"""

from __future__ import annotations

import argparse

from lottery_hub.images.datasets import load_dataset
from lottery_hub.networks.backbones import Normalised, build_network
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import parse_number, pixel_units
from lottery_hub.settings.environment import choose_device, describe_environment, fast_precision
from lottery_hub.settings.presets import quick_transfer
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.training.transferring import transfer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrain", default="adv")
    parser.add_argument("--arch", default="resnet18-slim")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--eps", nargs="+", default=["8/255", "0.1", "0.15", "0.2", "0.3"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    device = choose_device(options.device)
    precision = fast_precision(device)
    backbone = load_backbone(options.pretrain, options.arch)
    data = load_dataset(options.dataset)
    radii = [parse_number(text) for text in options.eps]

    plan = quick_transfer(data.name, len(data.train), precision)
    standard = transfer(backbone, data, plan.standard, test_attack=None, seed=options.seed, device=device)
    model = Normalised(build_network(backbone.arch, standard.weights), backbone.mean, backbone.std).to(device)
    print(describe_environment(device))
    print(
        f"{options.arch} ({options.pretrain}) on {data.name}, {len(data.test)} test images, seed {options.seed}, PGD-20"
    )
    print("| eps | standard SA % | standard RA % | adversarial SA % | adversarial RA % |")
    print("|---:|---:|---:|---:|---:|")
    for eps in radii:
        plan = quick_transfer(data.name, len(data.train), precision, eps)
        broken = evaluate(model, data.test, attack=plan.test_attack, seed=options.seed, device=device)
        robust = transfer(
            backbone, data, plan.adversarial, test_attack=plan.test_attack, seed=options.seed, device=device
        ).accuracy
        shares = [broken.SA, broken.RA or 0.0, robust.SA, robust.RA or 0.0]
        print(f"| {pixel_units(eps)} | " + " | ".join(f"{share * 100:.2f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
