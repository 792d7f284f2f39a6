"""The card of a ladder and the backbone in it: how both were made, and what every level scores on the source task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lottery_hub.networks.reach import reach_of
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.card_parts import PIPELINE, training
from lottery_hub.reporting.cards import LIBRARY, METHODS, dataset_id
from lottery_hub.reporting.rendering import Safe, front_matter, hub_license, number, render, whole
from lottery_hub.settings.config import Attack

PAPER_SIDE = 224  # pixels


def render_ladder_card(ladder: Ladder, name: str) -> str:
    """Return the text of a card: YAML front matter, backbone, levels, data and limits.

    Args:
        ladder: of a backbone that `pretrain` made, drawn by `draw`.
        name: what `load_ticket` finds it by.

    Raises:
        TicketError: the records lack a figure, or hold something else in its place.
    """
    return render("ladder.md.j2", lambda: _context(ladder, name))


def _context(ladder: Ladder, name: str) -> dict[str, Any]:
    backbone, drawing = ladder.backbone, ladder.drawing
    records = backbone.records
    side = _side(records, drawing)
    rows = [_row(ladder, level, side) for level in range(1, ladder.levels + 1)]
    reach = reach_of(ladder.mask(0), backbone.arch, side)
    return {
        "front_matter": _metadata(ladder, name),
        "name": name,
        "arch": backbone.arch,
        "kind": Safe(backbone.kind),
        "parameters": sum(t.numel() for n, t in backbone.weights.items() if n.endswith((".weight", ".bias"))),
        "prunable": sum(rounds.numel() for rounds in ladder.survived.values()),
        "levels": ladder.levels,
        "sparsities": ladder.sparsities,
        "fingerprint": backbone.fingerprint(),
        "method": METHODS[ladder.method],
        # Weights that somebody else published come without records of their training.
        "training": records and training(records["plan"]["recipe"]),
        "seconds": sum(number(epoch["seconds"]) for epoch in records.get("history", [])),
        "records": records,
        "origin": {key: backbone.provenance.get(key) for key in ("source", "revision", "license")},
        "drawing": drawing,
        "round_training": drawing["data"] and training(drawing["plan"]["recipe"]),
        "round_seconds": sum(number(e["seconds"]) for row in drawing["rounds"] for e in row.get("history", [])),
        "side": side,
        "reached": reach.reached / reach.total,
        "rows": rows,
        "measured": any(row["source"] for row in rows),
        "validated": any(row["validated"] is not None for row in rows),
    }


def _row(ladder: Ladder, level: int, side: int) -> dict[str, Any]:
    record = ladder.drawing["rounds"][level - 1]
    if whole(record["level"]) != level:
        raise LookupError(f"the record in the place of level {level} is of level {record['level']}")
    return {
        "level": level,
        "sparsity": ladder.sparsities[level],
        "of_reached": reach_of(ladder.mask(level), ladder.backbone.arch, side).sparsity,
        "kept": record["kept"],
        "source": record.get("source"),
        "validated": history[-1].get("validation_SA") if (history := record.get("history")) else None,
    }


def _side(records: Mapping[str, Any], drawing: Mapping[str, Any]) -> int:
    """Return the side of what the backbone has seen, in pixels; what the paper shows where nobody says."""
    for plan in (records.get("plan"), drawing.get("plan")):
        recipe = plan.get("recipe") if isinstance(plan, Mapping) else None
        if recipe:
            side = whole(recipe["image_size"])
            if not 8 <= side <= 1024:
                raise LookupError(f"images of {side} pixels a side are none that a recipe allows")
            return side
    return PAPER_SIDE


def _metadata(ladder: Ladder, name: str) -> Safe:
    """Return the card's metadata as YAML; the model-index is the dense backbone's."""
    backbone = ladder.backbone
    metadata: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE,
        "license": hub_license(backbone.provenance.get("license")),
        "tags": [
            "lottery-ticket-ladder",
            "sparse",
            "adversarial-robustness",
            "timm",
            f"arch:{backbone.arch}",
            f"pretrain:{backbone.kind}",
        ],
    }
    return front_matter(metadata | (_measured(backbone.records, name) if backbone.records else {}))


def _measured(records: dict[str, Any], name: str) -> dict[str, Any]:
    data, test = records["data"], records["test"]
    about = {"samples": whole(test["samples"])}
    attack = {"attack": records["test_attack"]} | Attack.parse(records["plan"]["test_attack"]).record()
    hub_id = dataset_id(data["name"])
    described = {"name": data["name"], "type": hub_id or data["name"], "split": "test"}
    if data["revision"] is not None:
        described["revision"] = data["revision"]
    return ({"datasets": [hub_id]} if hub_id else {}) | {
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": described,
                        "metrics": [
                            {"type": "accuracy", "name": "SA", "value": number(test["SA"]), "args": about},
                            {"type": "accuracy", "name": "RA", "value": number(test["RA"]), "args": about | attack},
                        ],
                    }
                ],
            }
        ],
    }
