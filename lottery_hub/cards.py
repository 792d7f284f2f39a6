"""The card of a ticket folder: what a stranger reads before trusting it. The only user of Jinja.

Every figure comes from the ticket's records; one that is missing is an error, never a blank. Names in the
records may be a stranger's, so the template escapes every string it prints unless this module made it safe.
"""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from typing import Any

import jinja2
import yaml

from lottery_hub import presets
from lottery_hub.config import REGIMES, parse_number, pixel_units
from lottery_hub.data import NAMED
from lottery_hub.errors import TicketError, printable
from lottery_hub.tickets import Ticket
from lottery_hub.verdict import FIGURES

METHODS = {
    "imp": "iterative magnitude pruning (imp)",
    "omp": "one-shot magnitude pruning (omp)",
    "random": "random pruning (random), a control",
}

# The Hub refuses a card whose licence is not on its list; these are on it, and anything else is "other".
_LICENSES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "gpl-3.0"}
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/[\w./-]+)?", re.ASCII)
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")


class _Safe(str):
    """Text that the template prints as it is."""


def render_card(ticket: Ticket) -> str:
    """Return the text of a ticket's README.md: YAML front matter, verdict, figures, origin and limits.

    A ticket without records gets a short card that says it was not judged; a fine-tuned one, whose records are
    those of its one transfer, gets that transfer's figures.

    Raises:
        TicketError: the records lack a figure, or hold something else in its place.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # of HTML; `finalize` escapes for Markdown
    )
    environment.filters |= {"percent": _percent, "points": _points, "count": _count, "yes_no": _yes_no}
    template = files("lottery_hub.model_cards").joinpath("ticket.md.j2").read_text(encoding="utf-8")
    try:
        return environment.from_string(template).render(_context(ticket))
    except (jinja2.UndefinedError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        raise TicketError(f"the ticket's records do not make a card: {printable(problem)}") from problem


def tags(ticket: Ticket) -> list[str]:
    """Return the Hub tags of a ticket; tickets are searched by them.

    `sparsity:80-90` means at least 80 and below 90 percent.
    """
    kept, total = ticket.kept_and_total
    tens = (total - kept) * 10 // total * 10
    verdict = ["double-win-lottery-ticket"] if ticket.double_win else []
    return [
        *verdict,
        "lottery-ticket",
        "sparse",
        "adversarial-robustness",
        "timm",
        f"pretrain:{ticket.kind}",
        f"sparsity:{tens}-{tens + 10}",
    ]


def _context(ticket: Ticket) -> dict[str, Any]:
    records = ticket.records
    tuned = "transfer" in records
    judged = bool(records) and not tuned
    kept, total = ticket.kept_and_total
    backbone = ticket.provenance.get("backbone", {})
    drawing = ticket.provenance.get("drawing", {})
    source = drawing.get("data")
    context: dict[str, Any] = {
        "front_matter": _front_matter(ticket),
        "title": f"{ticket.arch} ({ticket.kind}) at {_percent(ticket.sparsity)} sparsity",
        "verdict": _verdict(ticket),
        "judged": judged,
        "tuned": tuned,
        "records": records,
        "classes": _whole(records["data"]["classes"]) if records else 10,
        "arch": ticket.arch,
        "kind": _Safe(ticket.kind),  # one of three words, printed as code
        "level": ticket.level,
        "method": METHODS[ticket.method],
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
        recipe = _preset(records)
        context |= {"chosen": _chosen(records), "preset": recipe.get("preset"), "command": _command(records, recipe)}
    return context


def _verdict(ticket: Ticket) -> _Safe:
    records = ticket.records
    kept, total = ticket.kept_and_total
    where = f"{_count(kept)} of {_count(total)} prunable weights kept"
    if not records:
        return _Safe(f"**Not judged**: this ticket ({where}) was never transferred, so no accuracy is known.")
    dataset = _escaped(records["data"]["name"])
    if "transfer" in records:
        done = records["transfer"]
        robust = "" if done["RA"] is None else f", RA {_percent(done['RA'])} under {_escaped(done['attack'])}"
        return _Safe(
            f"**Fine-tuned** ({where}): after {_escaped(done['regime'])} transfer to {dataset} with seed "
            f"{_count(done['seed'])} it has SA {_percent(done['SA'])}{robust}, on {_count(done['samples'])} test "
            "images. One transfer is no verdict: nothing here was compared with the dense backbone."
        )
    tolerance = _escaped(records["tolerance"])
    if _boolean(records["double_win"]):
        return _Safe(
            f"**Double win**: with {where}, this ticket matches the dense backbone on SA and RA, under standard and "
            f"under adversarial transfer to {dataset}, within {tolerance}."
        )
    return _Safe(
        f"**NOT a double-win ticket: best level tried.** With {where}, it fails to match the dense backbone on at "
        f"least one of SA and RA under standard and adversarial transfer to {dataset}, within {tolerance}."
    )


def _front_matter(ticket: Ticket) -> _Safe:
    """Return the card's metadata as YAML, model-index included."""
    backbone = ticket.provenance.get("backbone", {})
    license = backbone.get("license")
    metadata: dict[str, Any] = {
        "library_name": "lottery-hub",
        "license": license if license in _LICENSES else "other",
        "tags": tags(ticket),
    }
    # Only a backbone that was fetched from the Hub has a revision there.
    base = _HUB_ID.fullmatch(str(backbone.get("source"))) if backbone.get("revision") else None
    if base:
        metadata["base_model"] = base[1]
    if ticket.records:
        name = str(ticket.records["data"]["name"])
        hub_id = _dataset_id(name)
        if hub_id:
            metadata["datasets"] = [hub_id]
        metadata["model-index"] = [{"name": _title(ticket), "results": [_result(ticket.records, hub_id or name)]}]
    text: str = yaml.safe_dump(_printable_leaves(metadata), sort_keys=False, allow_unicode=True, width=1000)
    return _Safe(text)


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
        "metrics": _metrics(records),
    }


def _metrics(records: dict[str, Any]) -> list[dict[str, Any]]:
    if "transfer" in records:
        done = records["transfer"]
        about = {"transfer": done["regime"], "seed": done["seed"], "samples": done["samples"]}
        attacks = {"SA": {}, "RA": {"attack": done["attack"]}}
        return [_metric(name, done[name], about | attacks[name]) for name in FIGURES if done[name] is not None]
    robust = {"attack": records["attack"]} | records["plan"]["transfer"]["test_attack"]
    about = {"seeds": _whole(records["seeds"]), "samples": _whole(records["samples"])}
    return [
        _metric(
            row["figure"],
            row["ticket"],
            {"transfer": row["regime"]} | about | (robust if row["figure"] == "RA" else {}),
        )
        for row in _chosen(records)["figures"]
    ]


def _metric(figure: str, value: object, settings: dict[str, Any]) -> dict[str, Any]:
    if settings["transfer"] not in REGIMES or figure not in FIGURES:
        raise ValueError(f"{figure} after {settings['transfer']} transfer is not a figure of the verdict")
    name = f"{figure} after {settings['transfer']} transfer"
    return {"type": "accuracy", "name": name, "value": _number(value), "args": settings}


def _dataset_id(name: str) -> str | None:
    """Return the dataset's Hub id, or None for what is not on the Hub."""
    if name in NAMED:
        return NAMED[name].hub_id
    found = _HUB_ID.fullmatch(name)
    return found[1] if found else None


def _chosen(records: dict[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [row for row in records["levels"] if row["level"] == records["level"]]
    if len(rows) != 1:
        raise LookupError(f"level {records['level']} is recorded {len(rows)} times, not once")
    if len(rows[0]["figures"]) != len(REGIMES) * len(FIGURES):
        raise LookupError("the verdict does not rest on four figures")
    return rows[0]


def _preset(records: dict[str, Any]) -> dict[str, str]:
    """Return the options that give these transfers: `preset`, with `eps` where it is not the preset's own, or none."""
    plan, images = records["plan"], _whole(records["data"]["train"])
    dataset, precision = plan["data"]["dataset"], plan["transfer"]["standard"]["precision"]
    radius = _number(plan["transfer"]["test_attack"]["eps"])
    for eps in (None, radius):
        transfers = {
            "quick": presets.quick_transfer(dataset, images, precision, eps),
            "paper": presets.paper_transfer(dataset, precision, eps),
        }
        for name, transfer in transfers.items():
            if transfer.record() == plan["transfer"]:
                return {"preset": _Safe(name)} | ({"eps": _exact_text(radius)} if eps else {})
    return {}


def _exact_text(eps: float) -> str:
    """Return `8/255` where that is exactly the number, else all its digits."""
    short = pixel_units(eps)
    return short if parse_number(short) == eps else repr(eps)


def _command(records: dict[str, Any], recipe: dict[str, str]) -> _Safe:
    plan = records["plan"]
    draw = plan["draw"]
    drawn = {"method": draw["method"], "source": draw["data"] and draw["data"]["dataset"]}
    options = {
        "pretrain": plan["pretrain"],
        "arch": plan["arch"],
        "dataset": plan["data"]["dataset"],
        "fraction": plan["data"]["fraction"],
        **recipe,
        "seeds": plan["seeds"],
        "tolerance": plan["tolerance"],
        "scan": plan["scan"],
        "ladder": plan["ladder"],
        # --method asks for a new ladder, so it is named only where one was drawn.
        **(drawn if plan["ladder"] == "draw" else {}),
        "precision": plan["transfer"]["standard"]["precision"],
    }
    words = [f"--{name} {shlex.quote(printable(value))}" for name, value in options.items() if value is not None]
    if _boolean(plan["controls"]):
        words.append("--controls")
    return _Safe(" \\\n    ".join(["lottery-hub find", *words]))


def _escaped(value: object) -> str:
    """Return a value as Markdown that shows exactly its characters, in a table as elsewhere, on one line."""
    if isinstance(value, _Safe):
        return value
    if value is None:
        raise TypeError("something that the card names is null")
    shown = _MARKDOWN.sub(r"\\\1", printable(value))
    return _Safe(shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _printable_leaves(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(key): _printable_leaves(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable_leaves(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else printable(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")  # `!r` of a missing value raises and names it
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _percent(value: object) -> _Safe:
    return _Safe(f"{_number(value) * 100:.2f} %")


def _points(value: object) -> _Safe:
    return _Safe(f"{_number(value) * 100:.2f}")


def _count(value: object) -> _Safe:
    return _Safe(f"{_whole(value):,}")


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _yes_no(value: object) -> _Safe:
    return _Safe("yes" if _boolean(value) else "no")
