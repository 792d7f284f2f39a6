"""The page of a study: its cells side by side, in small multiples, with how much their masks share and what it cost.

One file beside the study's other files, that asks nothing of any other place; its links lead to the tickets there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lottery_hub.judging.deciding import attack_behind, counted, on_figures
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.inspection import Comparisons
from lottery_hub.reporting.canvas import Picture, palette, paper
from lottery_hub.reporting.plots import CONTROLS, FOUR, NONE, figure_name, frontier_of
from lottery_hub.reporting.rendering import markup, percent, points, render_page
from lottery_hub.reporting.reports import ANSWERS, machine, on_page, spent
from lottery_hub.settings.studies import CellPlan
from lottery_hub.version import __version__

if TYPE_CHECKING:
    from lottery_hub.reporting.canvas import Axes

# Method → colour, mark and words; the two controls are drawn as on a ticket's own page.
METHODS = {"imp": ("ticket", "o", "imp")} | {
    method: (colour, mark, method) for method, (colour, mark, _) in CONTROLS.items()
}
FRONTIER = "frontier"  # the figure of a row of differences that is of frontiers
SHADES = 6  # of a cell of the matrix, by what two masks share
PANEL = (3.1, 2.3)  # inches


@dataclass(frozen=True)
class Studied:
    """A cell of a study that was done.

    Attributes:
        name: of the cell.
        place: in the grid.
        records: of its ticket.
        answer: of its verdict; a key of `reports.ANSWERS`.
    """

    name: str
    place: CellPlan
    records: Mapping[str, Any]
    answer: str

    @property
    def link(self) -> str:
        """Where its ticket is, seen from the study's folder."""
        return f"cells/{quote(self.name)}/ticket/"


def render_study(
    cells: Sequence[Studied],
    failed: Iterable[tuple[str, str]],
    differences: Sequence[Mapping[str, Any]],
    shared: Comparisons | None,
) -> str:
    """Return the page of a study.

    Args:
        cells: that were done.
        failed: name of each that was not, and why.
        differences: between kinds of pre-training, as study.json has them.
        shared: how much masks share; None where there are not two.
    """
    context = {
        "title": f"A study of {len(cells)} finds",
        "palette": markup(palette()),
        "version": __version__,
        "figures": [figure_name(*key) for key in FOUR],
        "cells": [_row(cell) for cell in cells],
        "failed": list(failed),
        "attacks": sorted({attack_behind(cell.records) for cell in cells}),
        "pictures": [on_page(multiples(cells, *key), "study") for key in FOUR],
        "differences": [_difference(row) for row in differences],
        "shared": shared and _shades(shared),
        "cost": _cost(cells),
    }
    return render_page("study.html.j2", context)


def _row(cell: Studied) -> dict[str, Any]:
    records, where = cell.records, frontier_of(dict(cell.records))
    row = _picked(records)
    figures = [f"{points(row[regime][figure])} ({points(records['dense'][regime][figure])})" for regime, figure in FOUR]
    frontier = NONE
    if where:
        low, high = where["interval"]
        beyond = "at least " if where.get("beyond") else ""
        frontier = f"{beyond}{percent(where['sparsity'])} ({percent(low)} to {percent(high)})"
    word, colour = ANSWERS[cell.answer]
    return {
        "name": cell.name,
        "link": cell.link,
        "answer": word + on_figures(*counted(records)),
        "colour": colour,
        "sparsity": percent(records["sparsity"]),
        "frontier": frontier,
        "figures": figures,
        "seeds": str(records["seeds"]),
        "margin": f"{records['margin'] * 100:g}" if "margin" in records else NONE,
    }


def _picked(records: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row of the level that was picked."""
    return next(row for row in records["levels"] if row["level"] == records["level"])


def multiples(cells: Sequence[Studied], regime: str, figure: str) -> Picture:
    """Return one figure over sparsity in a panel for each kind, dataset and fraction, every method on the same axes."""
    groups: dict[tuple[str, float, str], list[Studied]] = {}
    for cell in cells:
        groups.setdefault((cell.place.dataset, cell.place.fraction, cell.place.pretrain), []).append(cell)
    rows: list[tuple[str, ...]] = []
    panels: list[Callable[[Axes], None]] = []
    told: list[str] = []
    for (dataset, fraction, pretrain), inside in groups.items():
        title = f"{_short(pretrain)}, {_short(dataset)} {fraction * 100:g} %"
        # Kinds are compared: they share the axis of a dataset and fraction.
        beside = [one for key, several in groups.items() if key[:2] == (dataset, fraction) for one in several]
        values = [value for one in beside for _, _, value, _ in _points(one, regime, figure)]
        values += [one.records["dense"][regime][figure] for one in beside]
        panels.append(partial(_panel, inside, title, (min(values), max(values)), regime, figure))
        dense = inside[0].records["dense"][regime][figure]
        rows.append((title, "dense", "0", percent(0.0), points(dense), NONE))
        for cell in inside:
            for method, level, value, interval in _points(cell, regime, figure):
                bounds = " to ".join(map(points, interval)) if interval else NONE
                sparsity = percent(_sparsity(cell, method, level))
                rows.append((title, method, str(level), sparsity, points(value), bounds))
        best = max(inside, key=lambda one: one.records["sparsity"])
        at = _picked(best.records)[regime][figure]
        told.append(f"{title}: {points(at)} at {percent(best.records['sparsity'])} sparsity, dense {points(dense)}")
    return Picture(
        name=f"{figure}-{regime}".lower(),
        title=f"{figure_name(regime, figure)}, %",
        told="; ".join(told) + ".",
        note="A point is a mean over seeds on test images, its line the 95 % interval. Ringed: picked levels.",
        columns=("panel", "method", "level", "sparsity", figure, "95 % interval"),
        rows=tuple(dict.fromkeys(rows)),
        panels=tuple(panels),
        size=PANEL,
        margins=(0.42, 0.1, 0.45, 0.3),
    )


def _points(cell: Studied, regime: str, figure: str) -> list[tuple[str, int, float, Sequence[float] | None]]:
    """Return method, level, figure and interval of all that a cell has measured beside dense."""
    records = cell.records
    rows = [(cell.place.method, row["level"], row) for row in records["levels"]]
    rows += [(row["method"], records["level"], row) for row in records["controls"]]
    return [
        (method, level, row[regime][figure], (row[regime].get("interval") or {}).get(figure))
        for method, level, row in rows
        if regime in row
    ]


def _sparsity(cell: Studied, method: str, level: int) -> float:
    rows = cell.records["levels"] if method == cell.place.method else cell.records["controls"]
    found: float = next(
        row["sparsity"] for row in rows if row.get("method", method) == method and row.get("level", level) == level
    )
    return found


def _panel(
    cells: Sequence[Studied], title: str, ends: tuple[float, float], regime: str, figure: str, axes: Axes
) -> None:
    found: dict[str, dict[float, tuple[float, Sequence[float] | None]]] = {}
    for cell in cells:
        for method, level, value, interval in _points(cell, regime, figure):
            found.setdefault(method, {})[_sparsity(cell, method, level)] = (value, interval)
    dense = cells[0].records["dense"][regime][figure] * 100
    widest = max(_depth(sparsity) for by_sparsity in found.values() for sparsity in by_sparsity)
    axes.axhline(dense, color=paper("dense"), lw=1.3, zorder=2, label="dense")
    for method, by_sparsity in found.items():
        colour, mark, words = METHODS[method]
        line = sorted(by_sparsity)
        axes.plot(
            [_depth(each) for each in line], [by_sparsity[each][0] * 100 for each in line],
            f"{mark}-", ms=4, lw=1.3, color=paper(colour), mec=paper("paper"), mew=0.5, zorder=4, label=words,
        )  # fmt: skip
        for each in line:
            value, interval = by_sparsity[each]
            if interval:
                bounds = [bound * 100 for bound in interval]
                axes.plot([_depth(each)] * 2, bounds, color=paper(colour), lw=0.9, alpha=0.7, zorder=3)
    for cell in cells:
        colour, mark, _ = METHODS[cell.place.method]
        at = _picked(cell.records)[regime][figure] * 100
        axes.plot(
            [_depth(cell.records["sparsity"])], [at], mark, ms=8, mfc="none", mec=paper(colour), mew=1.4, zorder=5
        )
    room = max((ends[1] - ends[0]) * 100 * 0.12, 1.0)
    axes.set_ylim(ends[0] * 100 - room, ends[1] * 100 + room)
    axes.set_xlim(0.0, widest * 1.06)
    shown = sorted({each for by_sparsity in found.values() for each in by_sparsity})
    named = shown[:: max(1, math.ceil(len(shown) / 4))]
    axes.set_xticks([_depth(each) for each in named], [f"{each * 100:.0f}" for each in named])
    axes.set_xlabel("sparsity, %")
    axes.set_title(title, fontsize=8.5)
    axes.grid(axis="y")


def _depth(sparsity: float) -> float:
    """Return where a sparsity stands on the axis: the levels of a ladder are equally far apart."""
    return -math.log1p(-min(sparsity, 1 - 1e-9))


def _short(word: str) -> str:
    """Return what tells a kind or dataset from others: of a path its end."""
    return word if len(word) <= 24 else f"…{word[-23:]}"


def _difference(row: Mapping[str, Any]) -> tuple[str, ...]:
    of_frontiers = row["figure"] == FRONTIER
    where = FRONTIER if of_frontiers else "dense" if row["level"] == 0 else f"level {row['level']}"
    what = "sparsity" if of_frontiers else figure_name(row["regime"], row["figure"])
    signed = [f"{row[name] * 100:+.2f}".replace("-", "−") for name in ("difference", "low", "high")]
    about = f"{_short(row['dataset'])} {row['fraction'] * 100:g} %, {row['method']}"
    return (
        f"{_short(row['pretrain'])} − {_short(row['against'])}",
        about,
        where,
        what,
        signed[0],
        f"{signed[1]} to {signed[2]}",
    )


def _shades(shared: Comparisons) -> dict[str, Any]:
    rows = [
        (name, [(f"{each.iou:.2f}", f"{each.chance:.2f}", round(each.iou * (SHADES - 1))) for each in row])
        for name, row in zip(shared.names, shared.overlaps, strict=True)
    ]
    return {"names": shared.names, "rows": rows}


def _cost(cells: Sequence[Studied]) -> list[tuple[str, str, str, str]]:
    """Return rows of what was transferred, how often, wall time of all together, and on what; each transfer once."""
    groups: dict[str, dict[Any, Mapping[str, Any]]] = {}
    dense = level_name(0)
    for cell in cells:
        place = cell.place
        name = f"{_short(place.pretrain)}, {_short(place.dataset)} {place.fraction * 100:g} %"
        for run in cell.records["transfers"]:
            # Dense of a kind is the same for every method.
            network = dense if run["ticket"] == dense else (place.method, run["ticket"])
            groups.setdefault(name, {})[network, run["regime"], run["seed"]] = run["provenance"]
    rows = []
    for name, runs in groups.items():
        on = sorted({machine(run["environment"]) for run in runs.values()})
        rows.append((name, str(len(runs)), spent(sum(run["seconds"] for run in runs.values())), "; ".join(on)))
    seconds = [run["seconds"] for runs in groups.values() for run in runs.values()]
    return [*rows, ("all", str(len(seconds)), spent(sum(seconds)), f"{fmean(seconds):.1f} s each")]
