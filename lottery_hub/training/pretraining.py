"""Making a backbone: train an architecture from scratch, standard, fast-adversarial or adversarial."""

from __future__ import annotations

from pathlib import Path

import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, Normalised, build_network, fresh_weights
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.settings.config import PretrainPlan
from lottery_hub.settings.environment import describe_environment
from lottery_hub.settings.ranks import ALONE, Ranks
from lottery_hub.training.loop import OnEpoch, train


def pretrain(
    plan: PretrainPlan,
    data: Dataset,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | str | None = None,
    on_epoch: OnEpoch | None = None,
    ranks: Ranks = ALONE,
) -> Backbone:
    """Train a backbone and measure it on the test split.

    Args:
        plan: architecture, recipe and seed.
        data: what to train on; its classes size the head.
        device: where to compute.
        checkpoint: file to continue from.
        on_epoch: called with each epoch's record.
        ranks: see `loop.train`.

    Returns:
        The backbone; its records hold plan, data, epochs, accuracies and versions.

    Source of the three kinds: standard; N-FGSM (de Jorge et al. 2022) for fast-adv; PGD (Madry et al. 2018) for adv.
    """
    start = Backbone(plan.arch, plan.kind, fresh_weights(plan.arch, len(data.classes), plan.seed))
    trained = train(
        start.model(),
        data,
        plan.recipe,
        seed=plan.seed,
        device=device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        ranks=ranks,
    )
    weights = trained.weights
    if plan.weights == "float16":
        # Rounded before anything is measured or drawn, so that the small file is the backbone and not a copy of it.
        weights = {n: t.half().float() if t.dim() == 4 else t for n, t in weights.items()}
    model = Normalised(build_network(plan.arch, weights), start.mean, start.std).to(device)
    accuracy = evaluate(
        model,
        data.test,
        attack=plan.test_attack,
        image_size=plan.recipe.image_size,
        seed=plan.seed,
        device=device,
        ranks=ranks,
    )
    # A local folder's path is nobody else's business: the record names the dataset.
    named = plan.changed(data=plan.data.changed(dataset=data.name))
    records = {
        "plan": named.record(),
        "data": data.describe(),
        "epoch": trained.epoch,
        "history": trained.history,
        "test": accuracy.record(),
        "test_attack": plan.test_attack.describe(len(data.classes)),
        "environment": describe_environment(device),
    }
    provenance = {
        "source": f"pre-trained on {data.name} by lottery-hub",
        "license": "Apache-2.0",
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "seed": plan.seed,
        "SA": accuracy.SA,
        "RA": accuracy.RA,
        "attack": plan.test_attack.describe(len(data.classes)),
        "samples": accuracy.samples,
    }
    return Backbone(plan.arch, plan.kind, weights, provenance=provenance, records=records)
