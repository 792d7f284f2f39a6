"""The card of a ticket folder: what a stranger reads before trusting it.

Every figure comes from the ticket's records. Names in them may be a stranger's: they are escaped by `rendering`
unless this module made them safe.
"""

from __future__ import annotations

import hashlib
from typing import Any

from lottery_hub.fetching import names
from lottery_hub.images.fitting import sides_of
from lottery_hub.images.opening import NAMED
from lottery_hub.judging.deciding import NOTHING, frontier_of, tells_nothing, verdict_runs, was_asked_for
from lottery_hub.judging.frontier import INSIDE
from lottery_hub.judging.verdict import FIGURES, UNINFORMATIVE
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.card_parts import LIBRARY_ENTRY, PAPER, PIPELINE, described, hyperparameters, training_log
from lottery_hub.reporting.plots import VERDICT
from lottery_hub.reporting.rendering import (
    Safe,
    boolean,
    count,
    escaped,
    front_matter,
    hub_license,
    number,
    percent,
    render,
    whole,
    yes_no,
)
from lottery_hub.reporting.repeating import command_of, preset_of
from lottery_hub.robustness.corruptions import CORRUPTIONS
from lottery_hub.robustness.unseen import mean_share
from lottery_hub.settings.answers import DOUBLE_WIN, NO_DOUBLE_WIN, UNDECIDED
from lottery_hub.settings.config import REGIMES
from lottery_hub.storage.atomic import json_text

METHODS = {
    "imp": "iterative magnitude pruning (imp)",
    "omp": "one-shot magnitude pruning (omp)",
    "random": "random pruning (random), a control",
}

# What search asks the Hub for.
LIBRARY, TICKET_TAG, WINNER_TAG = "lottery-hub", "lottery-ticket", "double-win-lottery-ticket"

SHOWN_CLASSES = 20
# The pictures that the card of a repository shows, and where they are in it.
SHOWN = {"curve": "pictures/curve.png", "differences": "pictures/differences.png"}

# Columns of the tables that set trained networks side by side.
_COMPARED = [(which, regime) for regime in REGIMES for which in ("dense", "ticket")]


def render_card(ticket: Ticket, name: str | None = None, *, timm: bool = False, beside: str = "") -> str:
    """Return the text of a ticket's README.md: YAML front matter, verdict, figures, origin and limits.

    That of a named ticket shows the pictures of a verdict, which are put there with it (`SHOWN`).

    Args:
        ticket: with its records.
        name: by which everybody loads it: "USER/NAME" of a repository, or the name of a packaged ticket; None makes
            the card of a folder.
        timm: whether the dense network for plain timm stands beside it there.
        beside: the way from the card to the folder with the pictures, where it does not lie in there.

    A ticket without records gets a short card that says it was not judged; a fine-tuned one, whose records are
    those of its one transfer, gets that transfer's figures.

    Raises:
        TicketError: the records lack a figure, or hold something else in its place.
    """
    place = {"called": name and Safe(name), "published": name is not None and "/" in name, "beside": Safe(beside)}
    return render("ticket.md.j2", lambda: _context(ticket) | place | {"timm": timm})


def tags(ticket: Ticket) -> list[str]:
    """Return the Hub tags of a ticket; tickets are searched by them.

    `sparsity:80-90` means at least 80 and below 90 percent; `regime:` names the transfers that were measured.
    """
    kept, total = ticket.kept_and_total
    tens = (total - kept) * 10 // total * 10
    verdict = [WINNER_TAG] if ticket.double_win else []
    return [
        *verdict,
        TICKET_TAG,
        "sparse",
        "adversarial-robustness",
        "timm",
        f"arch:{ticket.arch}",
        f"pretrain:{ticket.kind}",
        *(f"regime:{regime}" for regime in _regimes(ticket.records)),
        f"sparsity:{tens}-{tens + 10}",
    ]


def _regimes(records: dict[str, Any]) -> list[str]:
    """Return the regimes of transfer that the records have figures of."""
    if not records:
        return []
    return [escaped(records["transfer"]["regime"])] if "transfer" in records else list(REGIMES)


def _context(ticket: Ticket) -> dict[str, Any]:
    records = ticket.records
    tuned = "transfer" in records
    judged = bool(records) and not tuned
    kept, total = ticket.kept_and_total
    backbone = ticket.provenance.get("backbone", {})
    drawing = ticket.provenance.get("drawing", {})
    source = drawing.get("data")
    context: dict[str, Any] = {
        "front_matter": _metadata(ticket),
        "title": f"{ticket.arch} ({ticket.kind}) at {percent(ticket.sparsity)} sparsity",
        "verdict": _verdict(ticket),
        "judged": judged,
        "tuned": tuned,
        "records": records,
        "fitted": _fitted(records) if records else None,
        "described": described(ticket),
        "recipes": hyperparameters(records) if records else None,
        "log": training_log(records) if records else [],
        "paper": PAPER,
        "library": LIBRARY_ENTRY,
        "class_names": _class_names(records["data"]) if records else None,
        "classes": whole(records["data"]["classes"]) if records else 10,
        "arch": ticket.arch,
        "kind": Safe(ticket.kind),  # one of three words, printed as code
        "level": ticket.level,
        "method": METHODS[ticket.method],
        "imported": ticket.provenance.get("imported"),
        # A hand-made ticket may not know its origin: what is absent here is left out of the sentence.
        "backbone": {key: backbone.get(key) for key in ("source", "revision", "fingerprint")},
        "prune_fraction": drawing.get("prune_fraction"),
        "source_task": source and {key: source.get(key) for key in ("name", "revision")},
        "kept": kept,
        "total": total,
        "layers": [
            {"name": name, "kept": int(mask.sum()), "total": mask.numel(), "density": int(mask.sum()) / mask.numel()}
            for name, mask in ticket.mask.items()
        ],
    }
    if judged:
        recipe = preset_of(records)
        context |= {
            "figures": _figures(records),
            "pictures": [{"told": VERDICT[what](records).told, "path": Safe(path)} for what, path in SHOWN.items()],
            "by_margin": "margin" in records,
            "seeds": len(_summaries(records)[1]["standard"]["seeds"]),
            "fresh": _fresh(records),
            "asked": was_asked_for(records),
            "added": bool(records["plan"].get("max_seeds")) and not _fresh(records),
            "frontier": frontier_of(records),
            "surely": INSIDE,
            "levels": [_row(row) for row in records["levels"]],
            "controls": [_row(row) for row in records["controls"]],
            "compared": [Safe(f"{which}, {regime} transfer") for which, regime in _COMPARED],
            "corruptions": _corruptions(records["scrutiny"].get("corruptions")),
            "unseen": _unseen(records["scrutiny"].get("unseen")),
            "digest": Safe(hashlib.sha256(json_text(records).encode()).hexdigest()),
            "preset": recipe.get("preset"),
            "command": command_of(records, recipe),
        }
    return context


def _fitted(records: dict[str, Any]) -> str:
    """Say how pictures became what the network saw: `pictures of 80 to 260 pixels a side, …, shown at 32x32`."""
    data = records["data"]
    recipe = records["recipe"] if "recipe" in records else records["plan"]["transfer"]["standard"]
    stored = whole(data["image_size"])
    seen = whole(recipe.get("image_size", stored))
    sides = [whole(side) for side in data.get("original_sides", ())]
    if sides == [stored, stored]:
        made = f"pictures of {stored}x{stored} pixels"
    else:
        came = f"pictures of {sides_of(sides)} pixels a side" if sides else "pictures"
        made = f"{came}, cropped at the centre to squares, resized to {stored}x{stored} (bilinear)"
    shown = "as they are" if seen == stored else f"at {seen}x{seen}, resized (bilinear) and cropped at the centre"
    return f"{made}, shown to the network {shown}"


def _class_names(data: dict[str, Any]) -> str | None:
    """Return the names of the classes by label, the first of them where there are many."""
    names = [str(name) for name in data.get("class_names", ())]
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + more if names else None


def _figures(records: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the four figures of the verdict with their deviations over seeds, null where there is one seed."""
    dense, ticket = _summaries(records)
    return [
        row
        | {
            "told": Safe(row["answer"]) if "answer" in row else yes_no(row["matching"]),
            "dense_deviation": dense[row["regime"]]["deviation"][row["figure"]],
            "ticket_deviation": ticket[row["regime"]]["deviation"][row["figure"]],
        }
        for row in ticket["figures"]
    ]


def _summaries(records: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the verdict is given on, dense and ticket, once it is known to rest on four figures."""
    dense, ticket = verdict_runs(records)
    if len(ticket["figures"]) != len(REGIMES) * len(FIGURES):
        raise LookupError("the verdict does not rest on four figures")
    return dense, ticket


def _fresh(records: dict[str, Any]) -> Safe | None:
    confirmed = records.get("confirmed")
    return Safe(", ".join(count(run["seed"]) for run in confirmed["standard"]["seeds"])) if confirmed else None


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table of levels or controls, whichever rule it is by."""
    held_out = row["validation"]
    inside = percent(held_out["inside"]) if "inside" in held_out else yes_no(held_out["double_win"])
    return row | {
        "least": row["slack"] if "slack" in row else row["margin"],
        "told": Safe(row["answer"]) if "answer" in row else yes_no(row["double_win"]),
        "held_out": inside,
    }


def _corruptions(look: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rows of the table of corruptions: accuracies over severities, of each network that is compared."""
    if look is None:
        return []
    networks = [look["networks"][f"{which}-{regime}-seed-0"] for which, regime in _COMPARED]
    rows = [
        {
            "name": kind.replace("_", " "),
            "shares": [mean_share({kind: one["correct"][kind]}, whole(look["samples"])) for one in networks],
        }
        for kind in CORRUPTIONS
    ]
    return [*rows, {"name": "mean", "shares": [one["mean"] for one in networks]}]


def _unseen(look: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rows of the table of unseen attacks: RA under each, of each network that is compared."""
    if look is None:
        return []
    networks = [look["networks"][f"{which}-{regime}-seed-0"] for which, regime in _COMPARED]
    return [
        {"name": attack, "shares": [rows[place]["RA"] for rows in networks]}
        for place, attack in enumerate(row["attack"] for row in networks[0])
    ]


def _verdict(ticket: Ticket) -> Safe:
    records = ticket.records
    kept, total = ticket.kept_and_total
    where = f"{count(kept)} of {count(total)} prunable weights kept"
    if not records:
        return Safe(f"**Not judged**: this ticket ({where}) was never transferred, so no accuracy is known.")
    dataset = escaped(records["data"]["name"])
    if "transfer" in records:
        done = records["transfer"]
        robust = "" if done["RA"] is None else f", RA {percent(done['RA'])} under {escaped(done['attack'])}"
        return Safe(
            f"**Fine-tuned** ({where}): after {escaped(done['regime'])} transfer to {dataset} with seed "
            f"{count(done['seed'])} it has SA {percent(done['SA'])}{robust}, on {count(done['samples'])} test "
            "images. One transfer is no verdict: nothing here was compared with the dense backbone."
        )
    tolerance = escaped(records["tolerance"])
    if "margin" in records:
        return _by_margin(records, where)
    if boolean(records["double_win"]):
        return Safe(
            f"**Double win**: with {where}, this ticket matches the dense backbone on SA and RA, under standard and "
            f"under adversarial transfer to {dataset}, within {tolerance}."
        )
    return Safe(
        f"{_lost(records)} With {where}, it fails to match the dense backbone on at "
        f"least one of SA and RA under standard and adversarial transfer to {dataset}, within {tolerance}."
    )


def _lost(records: dict[str, Any]) -> str:
    """Return the words for no double win; of several levels that were tried, it is of the best."""
    return f"**NOT a double-win ticket{'' if was_asked_for(records) else ': best level tried'}.**"


def _by_margin(records: dict[str, Any], where: str) -> Safe:
    """Return one of the three answers that there are by a margin."""
    _, verdict = _summaries(records)
    dataset, rule = escaped(records["data"]["name"]), escaped(records["tolerance"])
    if tells_nothing(records):
        return Safe(f"**Undecided**: with {where}, after transfer to {dataset} there is {NOTHING}.")
    guessed = [
        f"{row['figure']} under {row['regime']} transfer"
        for row in verdict["figures"]
        if row["answer"] == UNINFORMATIVE
    ]
    lacking = f" Uninformative, and not counted: {' and '.join(guessed)}; dense only guesses there." if guessed else ""
    on = f"SA and RA, under standard and under adversarial transfer to {dataset}, by the {rule}.{lacking}"
    answers = {
        DOUBLE_WIN: f"**Double win**: with {where}, this ticket is no worse than the dense backbone on {on}",
        NO_DOUBLE_WIN: f"{_lost(records)} With {where}, it is worse than the dense backbone on at least one of {on}",
        UNDECIDED: f"**Undecided**: with {where}, it cannot be told whether this ticket is no worse than the dense "
        f"backbone on {on} What would decide it, if the differences stay where they are: "
        f"{escaped(records['would_decide'])}.",
    }
    return Safe(answers[records["answer"]])


def _metadata(ticket: Ticket) -> Safe:
    """Return the card's metadata as YAML, model-index included."""
    backbone = ticket.provenance.get("backbone", {})
    metadata: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE,
        "license": hub_license(backbone.get("license")),
        "tags": tags(ticket),
    }
    # For search, which reads the metadata of many cards: what no key of the Hub's own holds to the digit.
    metadata["lottery_hub"] = {
        "arch": ticket.arch,
        "pretrain": ticket.kind,
        "level": ticket.level,
        "sparsity": ticket.sparsity,
        "double_win": ticket.double_win,
        "answer": ticket.answer,
    } | ({"fraction": number(ticket.records["data"]["fraction"])} if ticket.records else {})
    # Only a backbone that was fetched from the Hub has a revision there.
    base = _repo_of(str(backbone.get("source"))) if backbone.get("revision") else None
    if base:
        metadata |= {"base_model": base, "base_model_revision": str(backbone["revision"])}
        if ticket.records:  # trained networks are there; a ticket alone is a part of its base
            metadata["base_model_relation"] = "finetune"
    if ticket.records:
        name = str(ticket.records["data"]["name"])
        hub_id = dataset_id(name)
        if hub_id:
            metadata["datasets"] = [hub_id]
        metadata["model-index"] = [{"name": _title(ticket), "results": [_result(ticket.records, hub_id or name)]}]
    return front_matter(metadata)


def _title(ticket: Ticket) -> str:
    return f"{ticket.arch}-{ticket.kind}-level-{ticket.level}"


def _result(records: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Return the one result of the model-index.

    Its metrics carry their settings themselves: the Hub's client keeps the arguments of a metric, and loses
    those of a second result on the same dataset.
    """
    data = records["data"]
    described = {"name": data["name"], "type": dataset, "split": "test"}
    if data["revision"] is not None:
        described["revision"] = data["revision"]
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": described,
        "metrics": metrics(records),
    }


def metrics(records: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures as the Hub's metrics: `name`, `value` in 0..1, and under `args` how each was measured."""
    if "transfer" in records:
        done = records["transfer"]
        about = {"transfer": done["regime"], "seed": done["seed"], "samples": done["samples"]}
        attacks = {"SA": {}, "RA": {"attack": done["attack"]}}
        return [_metric(name, done[name], about | attacks[name]) for name in FIGURES if done[name] is not None]
    how = records["plan"]["transfer"]
    robust = dict.fromkeys(REGIMES, {"attack": records["attack"]} | how["test_attack"])
    if how.get("standard_attack"):
        robust["standard"] = {"attack": records["standard_attack"]} | how["standard_attack"]
    _, verdict = _summaries(records)
    about = {"seeds": len(verdict["standard"]["seeds"]), "samples": whole(records["samples"])}
    return [
        _metric(
            row["figure"],
            row["ticket"],
            {"transfer": row["regime"]} | about | (robust[row["regime"]] if row["figure"] == "RA" else {}),
        )
        for row in verdict["figures"]
    ]


def _metric(figure: str, value: object, settings: dict[str, Any]) -> dict[str, Any]:
    if settings["transfer"] not in REGIMES or figure not in FIGURES:
        raise ValueError(f"{figure} after {settings['transfer']} transfer is not a figure of the verdict")
    name = f"{figure} after {settings['transfer']} transfer"
    return {"type": "accuracy", "name": name, "value": number(value), "args": settings}


def dataset_id(name: str) -> str | None:
    """Return the dataset's Hub id, or None for what is not on the Hub."""
    if name in NAMED:
        return NAMED[name].hub_id
    return _repo_of(name)


def _repo_of(path: str) -> str | None:
    """Return the repository that a path such as org/name/file is in, or None for what is no such path."""
    repo = "/".join(path.split("/")[:2])
    return repo if names.fits(names.path, path) and names.fits(names.repo_id, repo) else None
