"""Drawing a ladder of nested masks from a backbone: imp, omp and random.

IMP in four lines: prune 20 % of what remains by magnitude, rewind to θ_pre, train on the source task,
repeat. The first prune acts on θ_pre itself, so level 1 of IMP and of one-shot pruning are the same mask.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset, load_planned
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.networks.masks import Mask, keep_count, keep_highest, kept_and_total, magnitudes, random_scores
from lottery_hub.networks.tickets import Ladder
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.runs import CHECKPOINT, Run, open_run
from lottery_hub.settings.config import DrawPlan
from lottery_hub.settings.environment import describe_environment
from lottery_hub.storage import atomic, files
from lottery_hub.training.loop import train

Report = Callable[[str, dict[str, Any]], None]


def draw(
    backbone: Backbone,
    plan: DrawPlan,
    *,
    data: Dataset | None = None,
    run: Run | None = None,
    device: torch.device | str = "cpu",
    report: Report | None = None,
) -> Ladder:
    """Draw a ladder.

    Args:
        backbone: θ_pre, which every round rewinds to: BatchNorm statistics and head included.
        plan: method, rounds and, for imp, the source task.
        data: the source task's images, for imp.
        run: where finished rounds are kept; without it they are forgotten at the end, or at a kill.
        device: where to train.
        report: called as report("draw", record) after every epoch.

    Raises:
        ConfigError: imp without data.

    Source: Chen et al. 2022, section 3; Frankle and Carbin 2019 for iterative magnitude pruning.
    """
    if run is None:
        with TemporaryDirectory() as scratch, open_run(Path(scratch), {}) as temporary:
            return draw(backbone, plan, data=data, run=temporary, device=device, report=report)
    names = backbone.prunable
    total = kept_and_total(backbone.dense_mask())[1]
    mask = backbone.dense_mask()
    survived = {name: torch.zeros_like(kept, dtype=torch.uint8) for name, kept in mask.items()}
    weights = backbone.weights
    rounds: list[dict[str, Any]] = []
    for level in range(1, plan.rounds + 1):
        if plan.method == "random":
            scores = random_scores(backbone.weights, names, plan.seed)
        else:
            scores = magnitudes(weights, names)
        mask = keep_highest(scores, mask, keep_count(total, plan.prune_fraction, level))
        survived = {name: survived[name] + mask[name] for name in names}
        record = {"level": level, "kept": kept_and_total(mask)[0], "total": total}
        if plan.method == "imp":
            last = level == plan.rounds
            # Nothing is pruned after the last level, so it is trained only where its accuracy was asked for.
            if not last or plan.test_attack is not None:
                trained, measured = _round(backbone, mask, plan, level, data, run, device, report)
                weights, record = trained, record | measured
        rounds.append(record)
    drawing = {
        "method": plan.method,
        "prune_fraction": plan.prune_fraction,
        "rounds": rounds,
        "plan": _recorded(plan, data),
        "data": None if data is None or plan.method != "imp" else data.describe(),
        "environment": describe_environment(device),
    }
    return Ladder(backbone, survived, plan.rounds, plan.method, drawing)


def _round(
    backbone: Backbone,
    mask: Mask,
    plan: DrawPlan,
    level: int,
    data: Dataset | None,
    run: Run,
    device: torch.device | str,
    report: Report | None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Rewind, train one round with a new optimizer, and return (trained weights, record)."""
    if data is None or plan.recipe is None:
        raise ConfigError("imp trains on a source task; give its dataset, or draw by omp")
    recipe = plan.recipe

    def work(folder: Path) -> dict[str, Any]:
        fits = backbone.num_classes == len(data.classes)
        model = backbone.model(None if fits else len(data.classes), plan.seed, mask)
        trained = train(
            model,
            data,
            recipe,
            seed=plan.seed + level,
            mask=mask,
            device=device,
            checkpoint=folder / CHECKPOINT,
            on_epoch=lambda epoch: report("draw", {"level": level, "of": plan.rounds} | epoch) if report else None,
        )
        atomic.write_bytes(folder / "trained.safetensors", files.tensor_bytes(trained.weights))
        result = {"epoch": trained.epoch, "history": trained.history}
        if plan.test_attack is not None:
            model.network.load_state_dict(trained.weights, strict=True)
            accuracy = evaluate(
                model, data.test, attack=plan.test_attack, image_size=recipe.image_size, seed=plan.seed, device=device
            )
            result |= {"source": accuracy.record(), "source_attack": plan.test_attack.describe(len(data.classes))}
        return result

    name = f"draw-level-{level:02d}"
    given: dict[str, Any] = {"weights": backbone.fingerprint(), "mask": fingerprint(mask)}
    given |= {"mean": list(backbone.mean), "std": list(backbone.std)}
    record = run.once(name, work, given)
    return files.read_tensors(run.folder(name) / "trained.safetensors"), record


def _recorded(plan: DrawPlan, data: Dataset | None) -> dict[str, Any]:
    """Return the plan's record with its dataset by name: a local folder's path is nobody else's business."""
    if plan.method != "imp" or plan.data is None or data is None:
        return plan.record() | {"data": None, "recipe": None}  # given perhaps, but not used
    return plan.changed(data=plan.data.changed(dataset=data.name)).record()


def source_data(plan: DrawPlan) -> Dataset | None:
    """Load the source task's images where the method needs them."""
    if plan.method != "imp" or plan.data is None:
        return None
    return load_planned(plan.data)
