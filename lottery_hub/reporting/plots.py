"""The pictures of a verdict: four figures over sparsity, and their differences at the level that was picked.

Each is a function from records to a `canvas.Picture`, which draws what its table says. The records are as `find` writes
them, by whatever rule, and were checked where they came in (`storage.records`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery_hub.judging.deciding import frontier_of as frontier_of
from lottery_hub.judging.deciding import verdict_runs, was_asked_for
from lottery_hub.judging.verdict import FIGURES, UNINFORMATIVE
from lottery_hub.reporting.canvas import Picture, paper
from lottery_hub.reporting.rendering import percent, points
from lottery_hub.settings.config import REGIMES

if TYPE_CHECKING:
    from lottery_hub.reporting.canvas import Axes

FOUR = tuple((regime, figure) for regime in REGIMES for figure in FIGURES)
NONE = "–"
CONTROLS = {"omp": ("omp", "^", "one-shot mask (OMP)"), "random": ("random", "v", "random mask")}
ANSWERS = {  # of one figure: how it is marked, filled or not
    "matching": ("o", True, "no worse than allowed"),
    "worse": ("X", True, "worse than allowed"),
    "undecided": ("o", False, "undecided"),
    "uninformative": ("D", False, "dense only guesses, not counted"),
}


def figure_name(regime: str, figure: str) -> str:
    """Return e.g. `SA after standard transfer`."""
    return f"{figure} after {regime} transfer"


def answer_of(figure: dict[str, Any]) -> str:
    """Return the answer of one figure: older rules know two."""
    return str(figure.get("answer") or ("matching" if figure["matching"] else "worse"))


def curve(records: dict[str, Any]) -> Picture:
    """Return SA and RA in both regimes over sparsity: dense, what is allowed, every level tried, controls."""
    chosen, where = verdict_runs(records)[1], frontier_of(records)
    by_name = {(row["regime"], row["figure"]): row for row in chosen["figures"]}
    said = ", ".join(
        f"{figure_name(*key)} {percent(row['ticket'])} (dense {percent(row['dense'])})" for key, row in by_name.items()
    )
    asked, fresh = was_asked_for(records), ""
    if "confirmed" in records:
        fresh = ", by seeds of their own" if asked else ", by seeds that had no part in picking it"
    level = f"{'level' if asked else 'the picked level'} {records['level']}"
    told = f"At {level}, {percent(records['sparsity'])} sparsity{fresh}: {said}."
    if where:
        beyond = " or beyond" if where.get("beyond") else ""
        told += f" The frontier is at {percent(where['sparsity'])} sparsity{beyond}{_between(where['interval'])}."
    alone = "" if asked else ", by which alone the level was picked,"
    note = (
        "A point is a mean over seeds; the line through it is the 95 % interval of its paired difference from dense. "
        f"Hollow points{alone} stand as far from the line of dense as they do from dense on validation images."
    )
    if fresh:
        note += f" The verdict is given on fresh seeds{'' if asked else ', which had no part in picking the level'}."
    return Picture(
        name="curve",
        title="Accuracy over sparsity",
        told=told,
        note=note,
        columns=("level", "sparsity", *(f"{figure}, {regime}" for regime, figure in FOUR), "on validation images"),
        rows=tuple(_curve_rows(records)),
        panels=tuple(partial(_curve_panel, records, *key) for key in FOUR),
    )


def _between(interval: Sequence[float]) -> str:
    return f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"


def _curve_rows(records: dict[str, Any]) -> list[tuple[str, ...]]:
    def cells(row: dict[str, Any]) -> list[str]:
        return [percent(row[regime][figure]) if regime in row else NONE for regime, figure in FOUR]

    def both(name: str, sparsity: float, row: dict[str, Any]) -> tuple[str, ...]:
        held_out = " / ".join(cells(row["validation"])) if "validation" in row else NONE
        return (name, percent(sparsity), *cells(row), held_out)

    fresh = []
    if "confirmed" in records:
        dense, ticket = verdict_runs(records)
        name = f"{records['level']}, fresh seeds"
        fresh = [both("dense, fresh seeds", 0.0, dense), both(name, records["sparsity"], ticket)]
    return [
        both("dense", 0.0, records["dense"]),
        *(both(str(row["level"]), row["sparsity"], row) for row in records["levels"]),
        *fresh,
        *(both(f"{row['method']} control", row["sparsity"], row) for row in records["controls"]),
    ]


def _depth(sparsity: float) -> float:
    """Return where a sparsity stands on the axis: the levels of a ladder are equally far apart."""
    return -math.log1p(-min(sparsity, 1 - 1e-9))


def _curve_panel(records: dict[str, Any], regime: str, figure: str, axes: Axes) -> None:
    """Draw one figure over sparsity; in the order of the legend."""
    rows = [row for row in records["levels"] if regime in row]
    dense = records["dense"][regime][figure] * 100
    verdict = verdict_runs(records)[1]
    least = dense - next(row["tolerance"] for row in verdict["figures"] if is_of(row, regime, figure)) * 100
    ends = (0.0, max(_depth(row["sparsity"]) for row in records["levels"]) + 0.12)
    axes.plot(
        [_depth(row["sparsity"]) for row in rows],
        [row[regime][figure] * 100 for row in rows],
        "o-", ms=5, color=paper("ticket"), mec=paper("paper"), mew=0.6, zorder=6, label="ticket, test",
    )  # fmt: skip
    held_out = [(row["sparsity"], row["validation"]) for row in rows if regime in row["validation"]]
    before = records["dense"]["validation"][regime][figure]
    axes.plot(
        [_depth(sparsity) for sparsity, _ in held_out],
        [dense + (row[regime][figure] - before) * 100 for _, row in held_out],
        "o", ms=6, mfc=paper("paper"), mec=paper("ticket"), mew=1.1, ls="", zorder=5, label="ticket, validation",
    )  # fmt: skip
    for row in rows:
        if "confirmed" not in records or row["level"] != records["level"]:
            _whisker(axes, row["sparsity"], row, regime, figure, dense)
    axes.plot(ends, (dense, dense), color=paper("dense"), lw=1.4, zorder=3, label="dense")
    spread = (records["dense"][regime]["deviation"][figure] or 0.0) * 100
    if spread:
        box = (dense - spread, dense + spread)
        axes.fill_between(ends, *box, color=paper("hair"), lw=0, zorder=1, label="dense ± deviation")
    axes.plot(ends, (least, least), color=paper("edge"), lw=1.3, ls=(0, (4, 2)), zorder=3, label="least that matches")
    for row in records["controls"]:
        colour, marker, label = CONTROLS[row["method"]]
        axes.plot(
            [_depth(row["sparsity"])], [row[regime][figure] * 100],
            marker, ms=6.5, color=paper(colour), mec=paper("paper"), mew=0.6, ls="", zorder=7, label=label,
        )  # fmt: skip
    if "confirmed" in records:
        _fresh(axes, records, regime, figure)
    chosen = "level asked for" if was_asked_for(records) else "picked level"
    axes.axvline(_depth(records["sparsity"]), color=paper("quiet"), lw=1.1, ls=":", zorder=2, label=chosen)
    where = frontier_of(records)
    if where:
        axes.axvline(_depth(where["sparsity"]), color=paper("frontier"), lw=1.4, zorder=2, label="frontier")
        axes.axvspan(*map(_depth, where["interval"]), color=paper("inside"), lw=0, zorder=0, label="frontier, 95 %")
    guessed = any(answer_of(row) == UNINFORMATIVE for row in verdict["figures"] if is_of(row, regime, figure))
    axes.set_title(f"{figure_name(regime, figure)}, %{' (not counted)' if guessed else ''}")
    axes.grid(axis="y")
    axes.set_xlim(*ends)
    # An interval of two seeds may reach far beyond all points, and would flatten them.
    upright = (chosen, "frontier")
    drawn = [line for line in axes.get_lines() if not str(line.get_label()).startswith(("_", *upright))]
    heights = [float(y) for line in drawn for y in np.asarray(line.get_ydata())]
    span = max(max(heights) - min(heights), 2.0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(heights) - span, -1), min(high, max(heights) + span, 101))
    _sparsity_ticks(axes, [0.0, *(row["sparsity"] for row in records["levels"])], records["sparsity"])


def is_of(row: dict[str, Any], regime: str, figure: str) -> bool:
    """Whether a row of a verdict is about this figure."""
    return (row["regime"], row["figure"]) == (regime, figure)


def _fresh(axes: Axes, records: dict[str, Any], regime: str, figure: str) -> None:
    """Draw what the verdict is given on where that is seeds of its own: dense and ticket, and their difference."""
    dense, ticket = verdict_runs(records)
    place = [_depth(records["sparsity"])]
    _whisker(axes, records["sparsity"], ticket, regime, figure, dense[regime][figure] * 100)
    for runs, marker, colour, label in ((dense, "s", "dense", "dense"), (ticket, "D", "ticket", "ticket")):
        axes.plot(
            place, [runs[regime][figure] * 100],
            marker, ms=7, color=paper(colour), mec=paper("paper"), mew=0.8, ls="", zorder=8,
            label=f"{label}, fresh seeds",
        )  # fmt: skip


def _whisker(axes: Axes, sparsity: float, row: dict[str, Any], regime: str, figure: str, dense: float) -> None:
    """Draw the interval of a level's difference from dense, standing on dense: it is read against what is allowed."""
    interval = next((each["interval"] for each in row["figures"] if is_of(each, regime, figure)), None)
    if interval:
        bounds = [dense + bound * 100 for bound in interval]
        axes.plot([_depth(sparsity)] * 2, bounds, color=paper("ticket"), lw=1.1, alpha=0.75, zorder=4)


def _sparsity_ticks(axes: Axes, sparsities: Sequence[float], picked: float) -> None:
    """Label as many levels as have room, the picked one always."""
    room = 0.09 * (axes.get_xlim()[1] - axes.get_xlim()[0])
    named: list[float] = [picked]
    for sparsity in sorted(set(sparsities), reverse=True):
        if all(abs(_depth(sparsity) - _depth(other)) >= room for other in named):
            named.append(sparsity)
    named.sort()
    axes.set_xticks([_depth(sparsity) for sparsity in named])
    axes.set_xticklabels(["dense" if not sparsity else f"{sparsity * 100:.1f}" for sparsity in named])
    axes.set_xticks([_depth(sparsity) for sparsity in sparsities], minor=True)
    axes.set_xlabel("sparsity, % (evenly spaced levels)")


def differences(records: dict[str, Any]) -> Picture:
    """Return the four differences of the picked level from dense, with their intervals and what is allowed."""
    rows = verdict_runs(records)[1]["figures"]
    told = "; ".join(
        f"{figure_name(row['regime'], row['figure'])} differs from dense by {_signed(row['difference'])} points"
        f"{_interval(row)}, {ANSWERS[answer_of(row)][2]}"
        for row in rows
    )
    return Picture(
        name="differences",
        title=f"Ticket minus dense at {percent(records['sparsity'])} sparsity",
        told=f"{told}.",
        note=(
            "Points right of zero: the ticket is better. Shaded: more than the allowed loss. "
            "Lines: 95 % interval of the paired difference on test images."
        ),
        columns=("figure", "dense", "ticket", "difference (points)", "95 % interval", "allowed loss", "answer"),
        rows=tuple(
            (
                figure_name(row["regime"], row["figure"]),
                percent(row["dense"]),
                percent(row["ticket"]),
                _signed(row["difference"]),
                _interval(row).strip(" ()") or NONE,
                points(row["tolerance"]),
                ANSWERS[answer_of(row)][2],
            )
            for row in rows
        ),
        panels=(partial(_forest, rows),),
        size=(4.5, 0.42 * len(rows) + 0.75),
        margins=(1.62, 0.2, 0.5, 0.1),
    )


def _signed(share: float) -> str:
    return f"{share * 100:+.2f}".replace("-", "−")


def _interval(row: dict[str, Any]) -> str:
    bounds = row["interval"]
    return f" ({_signed(bounds[0])} to {_signed(bounds[1])})" if bounds else ""


def _forest(rows: Sequence[dict[str, Any]], axes: Axes) -> None:
    reach = [0.0]
    for row in rows:
        reach += [row["difference"], -row["tolerance"], *(row["interval"] or [])]
    low, high = min(reach) * 100, max(reach) * 100
    room = max(high - low, 0.2) * 0.08
    axes.set_xlim(low - 2 * room, high + room)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0, color=paper("dense"), lw=1.2, zorder=2)
    for place, row in enumerate(rows):
        edge = -row["tolerance"] * 100
        box = (place - 0.5, place + 0.5)
        label = "more than the allowed loss" if place == 0 else None
        axes.fill_betweenx(box, axes.get_xlim()[0], edge, color=paper("worse"), lw=0, zorder=0, label=label)
        axes.plot((edge, edge), box, color=paper("edge"), lw=1.3, ls=(0, (4, 2)), zorder=1)
        if row["interval"]:
            axes.plot([bound * 100 for bound in row["interval"]], (place, place), color=paper("ticket"), zorder=3)
    for answer, (marker, filled, label) in ANSWERS.items():
        here = [(row["difference"] * 100, place) for place, row in enumerate(rows) if answer_of(row) == answer]
        if here:
            colour = paper("edge" if answer == "worse" else "ticket")
            face = colour if filled else paper("paper")
            axes.plot(*zip(*here, strict=True), marker, ms=8, mfc=face, mec=colour, ls="", zorder=4, label=label)
    axes.set_yticks(range(len(rows)), [f"{row['figure']}, {row['regime']} transfer" for row in rows])
    axes.set_xlabel("ticket − dense, percentage points")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


VERDICT: dict[str, Callable[[dict[str, Any]], Picture]] = {"curve": curve, "differences": differences}
