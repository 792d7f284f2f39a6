"""The report page: one file that says what a ticket is, shows it, and says how to check it; or several side by side.

It asks nothing of any other place and needs no script. Verdict and caveats come first, then the pictures, each with its
figures as a table, then cost, size, origin, the command that repeats it, and hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lottery_hub.judging.deciding import NOTHING, attack_behind, tells_nothing, verdict_runs, was_asked_for
from lottery_hub.judging.verdict import UNINFORMATIVE, level_name
from lottery_hub.networks.inspection import overlaps, size, total_overlap
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.canvas import Picture, palette
from lottery_hub.reporting.cards import METHODS
from lottery_hub.reporting.pictures import plot, possible
from lottery_hub.reporting.plots import FOUR, NONE, answer_of, figure_name, frontier_of, is_of
from lottery_hub.reporting.rendering import markup, percent, points, render_page
from lottery_hub.reporting.repeating import find_command
from lottery_hub.settings.answers import DOUBLE_WIN, NO_DOUBLE_WIN, NOT_JUDGED, UNDECIDED
from lottery_hub.settings.paths import path_of
from lottery_hub.storage import folder
from lottery_hub.storage.atomic import json_text
from lottery_hub.storage.records import check_ticket
from lottery_hub.version import __version__

Rows = list[tuple[str, str]]

# Answer → its word on a page, and how it is coloured and marked.
ANSWERS: dict[str, tuple[str, str]] = {
    DOUBLE_WIN: ("Double win", "yes"),
    NO_DOUBLE_WIN: ("No double win", "no"),
    UNDECIDED: ("Undecided", "open"),
    NOT_JUDGED: ("Not judged", "open"),
}


@dataclass(frozen=True)
class Reported:
    """A ticket to report on.

    Attributes:
        name: by which it was asked for.
        ticket: with its records, checked.
        file_bytes: of the file that holds it; None where that was not written.
        values: what a surviving weight takes there.
        hashes: file → digest.
        extra: pictures besides those of the records.
    """

    name: str
    ticket: Ticket
    file_bytes: int | None = None
    values: str = "float32"
    hashes: tuple[tuple[str, str], ...] = ()
    extra: tuple[Picture, ...] = ()

    @classmethod
    def read(cls, place: Path, name: str, sparsity: float | None = None) -> Reported:
        """Read a ticket folder, or one level of a ladder folder.

        Raises:
            TicketError: it is no whole ticket, or its records are such as nobody could have measured.
        """
        about = folder.read_about(place)
        ticket = folder.load_ticket(place, sparsity)
        check_ticket(ticket)
        whole = about.content == "ticket"  # a ladder's file holds all levels
        file_bytes = folder.weights_path(place, about).stat().st_size if whole else None
        return cls(name, ticket, file_bytes, about.values, tuple(about.hashes.items()) if whole else ())


def called(ref: str) -> str:
    """Return what a page calls a reference: of a path only what tells it from others, and nothing of this machine."""
    if not path_of(ref).is_dir():
        return ref
    parts = path_of(ref).resolve().parts
    return parts[-2] if parts[-1] == "ticket" and len(parts) > 2 else parts[-1]


def render_report(several: Sequence[Reported]) -> str:
    """Return the report page of one ticket, or of several side by side."""
    several = _told_apart(several)
    title = (
        f"{several[0].ticket.arch} ({several[0].ticket.kind}) at {percent(several[0].ticket.sparsity)} sparsity"
        if len(several) == 1
        else f"{len(several)} tickets side by side"
    )
    context = {
        "title": title,
        "palette": markup(palette()),
        "version": __version__,
        "newline": markup("\n"),
        "sections": [_section(each, place) for place, each in enumerate(several)],
        "compared": _compared(several) if len(several) > 1 else None,
        "overlap": _overlap(several) if len(several) > 1 else None,
    }
    return render_page("report.html.j2", context)


def _told_apart(several: Sequence[Reported]) -> list[Reported]:
    """Return tickets with a number behind each name that others among them have too."""
    names = [each.name for each in several]
    return [
        replace(each, name=f"{each.name} ({names[:place].count(each.name) + 1})")
        if names.count(each.name) > 1
        else each
        for place, each in enumerate(several)
    ]


def _section(reported: Reported, place: int) -> dict[str, Any]:
    ticket, records = reported.ticket, reported.ticket.records
    judged = ticket.double_win is not None
    return {
        "id": f"ticket-{place + 1}",
        "name": reported.name,
        "about": f"{ticket.arch} ({ticket.kind}), level {ticket.level}, {percent(ticket.sparsity)} sparsity",
        "answer": _headline(ticket),
        "verdict": verdict_of(ticket),
        "warning": judged and not records["scrutiny"].get("checks", {"passed": True})["passed"],
        "caveats": records["caveats"] if judged else [],
        "limits": _limits(ticket),
        "facts": _facts(ticket),
        "pictures": [
            on_page(picture, f"t{place + 1}")
            for picture in (*(plot(ticket, name) for name in possible(ticket)), *reported.extra)
        ],
        "checks": records["scrutiny"].get("checks") if judged else None,
        "cost": _cost(records) if judged else [],
        "sizes": _sizes(reported),
        "origin": _origin(ticket),
        "command": find_command(records).splitlines() if judged else None,
        "hashes": _hashes(reported),
    }


def _headline(ticket: Ticket) -> tuple[str, str]:
    """Return the answer in a few words, and how it is marked; a win with how many figures count where not all do."""
    words, mark = ANSWERS[ticket.answer]
    if ticket.answer == NO_DOUBLE_WIN and not was_asked_for(ticket.records):
        words += ": the best level that was tried"
    counted = len(FOUR) - len(_guessed(ticket.records)) if ticket.double_win else len(FOUR)
    return (words if counted == len(FOUR) else f"{words}, on {counted} of {len(FOUR)} figures", mark)


def _guessed(records: dict[str, Any]) -> list[str]:
    """Return the names of the figures that do not count, since dense only guesses there."""
    rows = verdict_runs(records)[1]["figures"]
    return [figure_name(row["regime"], row["figure"]) for row in rows if answer_of(row) == UNINFORMATIVE]


def verdict_of(ticket: Ticket) -> str:
    """Return the verdict in a sentence or two."""
    records = ticket.records
    kept, total = ticket.kept_and_total
    where = f"{kept:,} of {total:,} prunable weights kept"
    if ticket.double_win is None:
        done = records.get("transfer")
        if done is None:
            return f"With {where}, this ticket was never transferred, so no accuracy is known."
        robust = "" if done["RA"] is None else f", RA {percent(done['RA'])} under {done['attack']}"
        return (
            f"Fine-tuned, with {where}: after {done['regime']} transfer to {records['data']['name']} it has SA "
            f"{percent(done['SA'])}{robust}, on {done['samples']:,} test images. Nothing was compared with dense."
        )
    if tells_nothing(records):
        return f"With {where}, after transfer to {records['data']['name']} there is {NOTHING}."
    rows, guessed = verdict_runs(records)[1]["figures"], _guessed(records)
    counted = [row for row in rows if answer_of(row) != UNINFORMATIVE]
    worst = min(counted, key=lambda row: row["slack"])
    lacking = (
        f" {' and '.join(guessed)} {'does' if len(guessed) == 1 else 'do'} not count: dense only guesses there."
        if guessed
        else ""
    )
    among = "others" if guessed else "four figures"
    weakest = (
        f"The weakest of the {among} is {figure_name(worst['regime'], worst['figure'])}: "
        f"{percent(worst['ticket'])}, where dense has {percent(worst['dense'])}."
    )
    says: dict[str, str] = {
        DOUBLE_WIN: "matches the dense backbone on SA and RA, after standard and after adversarial transfer",
        NO_DOUBLE_WIN: "fails to match the dense backbone on at least one of SA and RA after",
        UNDECIDED: "is neither seen to match the dense backbone on all of SA and RA, nor to be worse on any, after",
    }
    both = "" if ticket.answer == DOUBLE_WIN else " standard and adversarial transfer"
    return (
        f"With {where}, this ticket {says[ticket.answer]}{both} to {records['data']['name']} ({records['tolerance']})."
        f"{lacking} {weakest}"
    )


def _facts(ticket: Ticket) -> Rows:
    records = ticket.records
    kept, total = ticket.kept_and_total
    rows = [("Sparsity", f"{percent(ticket.sparsity)} ({kept:,} of {total:,} prunable weights kept)")]
    if ticket.double_win is None:
        return rows
    where = frontier_of(records)
    if where:
        low, high = where["interval"]
        beyond = "at least " if where.get("beyond") else ""
        rows.append(("Frontier", f"{beyond}{percent(where['sparsity'])} (95 %: {percent(low)} to {percent(high)})"))
    if records.get("would_decide"):
        rows.append(("What would decide", records["would_decide"]))
    data = records["data"]
    count = len(verdict_runs(records)[1]["standard"]["seeds"])
    asked, fresh = was_asked_for(records), ""
    if "confirmed" in records:
        fresh = ", of their own" if asked else ", none of which had a part in picking the level"
    tried = "divided by bisection; some were not tried" if records["scan"] == "bisect" else "each was tried"
    seeds = f"{count} seed{'s' if count > 1 else ''} in each regime{fresh}"
    return [
        *rows,
        ("Dataset", f"{_images(records)}, {data['classes']} classes"),
        ("Measured on", f"{records['samples']:,} test images, {seeds}; one is {points(1 / records['samples'])} points"),
        *([] if asked else [("Picked on", f"{records['validation_samples']:,} validation images")]),
        *_attacks(records),
        ("Allowed loss", records["tolerance"]),
        ("Levels", "this one was asked for; no other was tried" if asked else tried),
    ]


def _images(records: Mapping[str, Any]) -> str:
    """Return on which images a ticket was transferred, and on what share of those to train on."""
    data = records.get("data", {})
    return f"{data['name']}, {percent(data['fraction'])} of the training images" if data else NONE


def _attacks(records: dict[str, Any]) -> Rows:
    return [("Attack behind RA", attack_behind(records))]


def _limits(ticket: Ticket) -> list[str]:
    lines = []
    if ticket.double_win is not None and "checks" not in ticket.records["scrutiny"]:
        lines.append(
            "RA is by the attack named here, not by AutoAttack: a stronger one would find it lower. Nothing was "
            "done to tell real robustness from masked gradients."
        )
    return [*lines, "The sparsity is unstructured: it makes the file small, and gives no speed-up in dense kernels."]


def on_page(drawn: Picture, prefix: str) -> dict[str, Any]:
    """Return a picture as a page shows it; those of several, or of a study, are told apart by a prefix."""
    panels, keys = drawn.parts(prefix)
    return {
        "id": f"{prefix}-{drawn.name}",
        "name": drawn.name,
        "title": drawn.title,
        "told": drawn.told,
        "note": drawn.note,
        "columns": drawn.columns,
        "rows": drawn.rows,
        "panels": [markup(svg) for svg in panels],
        "keys": [(markup(svg), label) for svg, label in keys],
    }


def _cost(records: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return rows of network, transfers, wall time of all of them, and on what they ran."""
    levels = {level_name(row["level"]): "levels tried" for row in records["levels"]} | {level_name(0): "dense"}
    kinds = [(levels.get(run["ticket"], "controls"), run["provenance"]) for run in records["transfers"]]
    rows = []
    for kind, runs in groupby(sorted(kinds, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
        sources = [source for _, source in runs]
        on = sorted({machine(source["environment"]) for source in sources})
        rows.append((kind, str(len(sources)), spent(sum(source["seconds"] for source in sources)), "; ".join(on)))
    return rows


def machine(environment: Mapping[str, Any]) -> str:
    """Return on what a transfer ran, in words."""
    threads = environment.get("threads")
    counted = f", {threads} thread{'' if threads == 1 else 's'}" if isinstance(threads, int) else ""
    return f"{environment.get('hardware', environment.get('device', NONE))}{counted}"


def spent(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sizes(reported: Reported) -> list[tuple[str, str, str]]:
    sized = size(reported.ticket, value_bits=32 if reported.values == "float32" else 16)
    rows = [("dense network", float(sized.dense_bytes))]
    if reported.file_bytes is not None:
        rows.append(("this ticket's file", float(reported.file_bytes)))
    rows.append(
        (f"mask at its entropy and plain {reported.values} values (exponents can take less)", sized.limit_bytes)
    )
    return [(name, f"{count:,.0f} bytes", percent(count / sized.dense_bytes)) for name, count in rows]


def _origin(ticket: Ticket) -> Rows:
    backbone, drawing = ticket.provenance.get("backbone", {}), ticket.provenance.get("drawing", {})
    source = drawing.get("data") or {}
    share = drawing.get("prune_fraction")
    method = f"{METHODS[ticket.method]}{f', {percent(share)} of the remaining weights a round' if share else ''}"
    known = [
        ("Backbone", f"{ticket.arch}, pre-training {ticket.kind}"),
        ("from", backbone.get("source")),
        ("revision", backbone.get("revision")),
        ("licence", backbone.get("license")),
        ("Drawn by", ticket.provenance.get("imported") or method),
        ("Source task", source.get("name")),
    ]
    rows = [(name, str(value)) for name, value in known if value]
    if ticket.double_win is not None:
        data = ticket.records["data"]
        environment = ticket.records["environment"]
        rows.append(("Images", f"{data['train']:,} training, {data['validation']:,} validation, {data['test']:,} test"))
        rows += [("Note", note) for note in data["notes"]]
        rows.append(("Measured with", ", ".join(f"{name} {value}" for name, value in environment.items())))
    return rows


def _hashes(reported: Reported) -> Rows:
    ticket = reported.ticket
    rows = [("ticket", ticket.fingerprint())]
    if fingerprint := ticket.provenance.get("backbone", {}).get("fingerprint"):
        rows.append(("backbone", str(fingerprint)))
    if ticket.records:
        rows.append(("images", str(ticket.records["data"]["fingerprint"])))
        rows.append(("records", f"sha256:{hashlib.sha256(json_text(ticket.records).encode()).hexdigest()}"))
    return [*rows, *reported.hashes]


def _compared(several: Sequence[Reported]) -> list[tuple[str, list[str]]]:
    """Return the rows of a table with a column for each ticket."""

    def cell(reported: Reported, regime: str, figure: str) -> str:
        if reported.ticket.double_win is None:
            return NONE
        row = next(row for row in verdict_runs(reported.ticket.records)[1]["figures"] if is_of(row, regime, figure))
        return f"{percent(row['ticket'])} (dense {percent(row['dense'])}): {answer_of(row)}"

    def seeds(reported: Reported) -> str:
        if reported.ticket.double_win is None:
            return NONE
        return str(len(verdict_runs(reported.ticket.records)[1]["standard"]["seeds"]))

    def told(reported: Reported, key: str) -> str:
        return str(reported.ticket.records[key]) if reported.ticket.double_win is not None else NONE

    rows: list[tuple[str, list[str]]] = [
        ("answer", [ANSWERS[each.ticket.answer][0] for each in several]),
        ("backbone", [f"{each.ticket.arch} ({each.ticket.kind})" for each in several]),
        ("sparsity", [percent(each.ticket.sparsity) for each in several]),
        ("dataset", [_images(each.ticket.records) for each in several]),
    ]
    rows += [(figure_name(*key), [cell(each, *key) for each in several]) for key in FOUR]
    rows.append(("attack", [told(each, "attack") for each in several]))
    rows.append(("allowed loss", [told(each, "tolerance") for each in several]))
    rows.append(("seeds", [seeds(each) for each in several]))
    rows.append(("file", [NONE if each.file_bytes is None else f"{each.file_bytes:,} bytes" for each in several]))
    return rows


def _overlap(several: Sequence[Reported]) -> list[list[str]]:
    """Return what share of the weights that either of two masks keeps both keep, and what chance would give."""

    def shared(one: Ticket, other: Ticket) -> str:
        if one is other:
            return NONE
        if one.arch != other.arch:
            return "other architecture"
        both = total_overlap(overlaps(one.mask, other.mask).values())
        return f"{percent(both.iou)} (chance {percent(both.chance)})"

    return [[shared(one.ticket, other.ticket) for other in several] for one in several]
