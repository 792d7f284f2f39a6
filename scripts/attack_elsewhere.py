"""Measure packaged tickets with the code of others, on images that their making never saw; docs/evidence.md shows it.

    pip install git+https://github.com/fra31/auto-attack
    python scripts/attack_elsewhere.py cifar10-10pct-resnet18-slim-adv --data FOLDER

The network, that after adversarial transfer with seed 0, is what `lottery-hub export --format timm` writes and plain
timm builds; the attack is the original AutoAttack, its standard version. The images are those of the training split
that were neither trained nor validated on: all of them clean, a sample attacked. What comes out is kept in
docs/evidence/elsewhere.jsonl, a line for each ticket.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from evidence import ELSEWHERE, rows, write

import lottery_hub as lh
from lottery_hub.errors import DataError, LotteryHubError
from lottery_hub.images.recorded import load_for
from lottery_hub.settings.environment import describe_environment
from lottery_hub.sharing.exporting import export

Model = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tickets", nargs="+", help="packaged tickets, by name")
    parser.add_argument("--data", help="their images: a name, or a folder in the Hub's layout; unless as recorded")
    parser.add_argument("--images", type=int, default=500, help="how many are attacked")
    parser.add_argument("--record", type=Path, default=ELSEWHERE)
    options = parser.parse_args()
    for name in options.tickets:
        row = measured(name, options.data, options.images)
        known = {each["ticket"]: each for each in rows(options.record)} | {name: row}
        write(options.record, [known[key] for key in sorted(known)])
        print(json.dumps(row, indent=1), flush=True)


def measured(name: str, data: str | None, count: int) -> dict[str, Any]:
    """Return what other code makes of a ticket's network on images that its making never saw."""
    try:
        from autoattack import AutoAttack
    except ModuleNotFoundError:
        raise LotteryHubError("it takes pip install git+https://github.com/fra31/auto-attack") from None
    begun = time.monotonic()
    ticket = lh.load_ticket(name)
    eps = ticket.records["plan"]["transfer"]["test_attack"]["eps"]
    network = ticket.network("adversarial", seed=0)
    images, labels = unseen(ticket.records, data)
    model = plain(network)
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    clean, truth = images[drawn].float() / 255, labels[drawn]
    attack = AutoAttack(model, norm="Linf", eps=eps, version="standard", seed=0, device="cpu")
    attacked = attack.run_standard_evaluation(clean, truth, bs=count)
    far = float((attacked - clean).abs().max())
    assert far <= eps + 1e-6, f"an attack left the ball: {far}"
    return {
        "ticket": name,
        "network": network.fingerprint(),
        "unseen": len(images),
        "correct": right(model, images, labels),
        "attacked": len(clean),
        "attacked_correct": right(model, images[drawn], truth),
        "robust": right(model, attacked, truth),
        "eps": eps,
        "environment": describe_environment(torch.device("cpu")) | {"autoattack": version("autoattack")},
        "seconds": round(time.monotonic() - begun, 1),
    }


def unseen(records: Mapping[str, Any], data: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return those training images, (N, 3, H, W) bytes, and labels that a ticket was neither trained nor chosen on.

    Raises:
        DataError: these are other images than the ticket's, or all were used.
    """
    seen = load_for(records, data)
    if seen.fingerprint != records["data"]["fingerprint"]:
        raise DataError(f"these are not the images that the ticket was trained on: {seen}; give those with --data")
    known = {image.numpy().tobytes() for split in (seen.train, seen.validation, seen.test) for image in split.images}
    everything = load_for(records, data, fraction=1.0).train
    new = torch.tensor([image.numpy().tobytes() not in known for image in everything.images])
    if not new.any():
        raise DataError("its making saw all training images: take a ticket of a share of them")
    return everything.images[new], everything.labels[new]


def plain(network: lh.Ticket) -> Model:
    """Return a trained network as plain timm builds it from an export, behind its normalisation, for [0,1] images."""
    with TemporaryDirectory() as place:
        export(network, "timm", Path(place, "timm"), progress=False)
        built = timm.create_model(f"local-dir:{place}/timm", pretrained=True).eval()
    mean, std = (torch.tensor(built.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return lambda images: built((images - mean) / std)


@torch.no_grad()
def right(model: Model, images: torch.Tensor, labels: torch.Tensor) -> int:
    """Return how many images, bytes or in [0,1], a model gets right."""
    count = 0
    for some, truth in zip(images.split(500), labels.split(500), strict=True):
        unit = some.float() / 255 if some.dtype == torch.uint8 else some
        count += int((model(unit).argmax(1) == truth).sum())
    return count


if __name__ == "__main__":
    try:
        main()
    except LotteryHubError as problem:
        sys.exit(f"error: {problem}")
