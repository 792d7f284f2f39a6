"""The pictures behind a verdict: density by layer, training curves, and what closer looks found.

As in `plots`, each is a function from what was recorded to a `canvas.Picture`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lottery_hub.errors import printable
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.masks import Mask, kept_and_total
from lottery_hub.reporting.canvas import Picture, paper, whole_numbers
from lottery_hub.reporting.plots import NONE
from lottery_hub.reporting.rendering import percent
from lottery_hub.robustness.corruptions import CORRUPTIONS
from lottery_hub.robustness.unseen import mean_share
from lottery_hub.settings.config import REGIMES, pixel_units

if TYPE_CHECKING:
    from lottery_hub.reporting.canvas import Axes

ROW = 0.17  # inches of a row of many
SIDES = ("dense", "ticket")
Shares = Mapping[str, Sequence[float]]  # side → a share of 1 for each row


def density(mask: Mask) -> Picture:
    """Return the share of weights that each layer keeps, in the order of the network."""
    counts = {name.removesuffix(".weight"): kept_and_total({name: kept}) for name, kept in mask.items()}
    kept, total = kept_and_total(mask)
    shares = {name: some / every for name, (some, every) in counts.items()}
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    return Picture(
        name="density",
        title="Kept weights by layer",
        told=(
            f"{kept:,} of {total:,} prunable weights are kept, {percent(kept / total)}. The least dense layer is "
            f"{printable(least)} with {percent(shares[least])}, the densest {printable(most)} with "
            f"{percent(shares[most])}."
        ),
        note="The line: all layers together. Layers stand in the order in which an image passes them.",
        columns=("layer", "kept", "total", "density"),
        rows=(
            *(_counted(name, *count) for name, count in counts.items()),
            _counted("all", kept, total),
        ),
        panels=(partial(_density, shares, kept / total),),
        size=(4.5, ROW * len(counts) + 0.75),
        margins=(1.6, 0.45, 0.5, 0.1),
    )  # fmt: skip


def _counted(name: str, kept: int, total: int) -> tuple[str, ...]:
    return printable(name), f"{kept:,}", f"{total:,}", percent(kept / total)


def _density(shares: Mapping[str, float], overall: float, axes: Axes) -> None:
    places = range(len(shares))
    axes.barh(places, [share * 100 for share in shares.values()], height=0.62, color=paper("ticket"), label="kept")
    axes.axvline(overall * 100, color=paper("edge"), lw=1.3, ls=(0, (4, 2)), label="all layers together", zorder=1.5)
    for place, share in enumerate(shares.values()):
        axes.annotate(
            f"{share * 100:.1f}", (share * 100, place), (3, 0), textcoords="offset points", va="center", fontsize=7.5,
            bbox={"fc": paper("paper"), "ec": "none", "pad": 0.6},
        )  # fmt: skip
    axes.set_yticks(places, [printable(name, 40) for name in shares], fontsize=7.5)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, max(shares.values()) * 100)
    axes.set_xlabel("density, %")
    axes.grid(axis="x")


def training(records: dict[str, Any]) -> Picture:
    """Return loss and validation accuracy over the epochs of every transfer of dense and of the picked level."""
    names = {level_name(0): "dense", level_name(records["level"]): "ticket"}
    runs = [(names[run["ticket"]], run) for run in records["transfers"] if run["ticket"] in names]
    rows = tuple(
        (
            side,
            run["regime"],
            str(run["seed"]),
            str(epoch["epoch"]),
            f"{epoch['loss']:.4f}",
            *(NONE if epoch.get(name) is None else percent(epoch[name]) for name in ("validation_SA", "validation_RA")),
        )
        for side, run in runs
        for epoch in run["history"]
    )
    ends = "; ".join(
        f"{side}, {run['regime']} transfer, seed {run['seed']}: loss {run['history'][0]['loss']:.3f} in the first "
        f"epoch, {run['history'][-1]['loss']:.3f} in the last, epoch {run['epoch']} kept"
        for side, run in runs
    )
    panels = [
        partial(draw, [(side, run) for side, run in runs if run["regime"] == regime], regime)
        for regime in REGIMES
        for draw in (_losses, _validation)
    ]
    return Picture(
        name="training",
        title="Training of dense and ticket",
        told=f"{ends}.",
        note="One line a seed. The adversarial loss is that of attacked images. Ringed: the epoch that was kept.",
        columns=("network", "transfer", "seed", "epoch", "loss", "validation SA", "validation RA"),
        rows=rows,
        panels=tuple(panels),
        size=(4.5, 2.6),
    )


def _losses(runs: Sequence[tuple[str, dict[str, Any]]], regime: str, axes: Axes) -> None:
    for side, run in runs:
        epochs, losses = zip(*((epoch["epoch"], epoch["loss"]) for epoch in run["history"]), strict=True)
        axes.plot(epochs, losses, color=paper(side), lw=1.3, marker="o" if len(epochs) == 1 else None)
        kept = run["epoch"] - 1
        if kept < len(losses):
            axes.plot([run["epoch"]], [losses[kept]], "o", ms=6, mfc="none", mec=paper(side), mew=1.2)
    axes.set_title(f"training loss, {regime} transfer")
    axes.set_ylim(bottom=0)
    _epochs(axes)


def _validation(runs: Sequence[tuple[str, dict[str, Any]]], regime: str, axes: Axes) -> None:
    styles = {"validation_SA": ("-", "SA"), "validation_RA": ((0, (3, 1.5)), "RA")}
    for side, run in runs:
        for name, (style, figure) in styles.items():
            known = [(epoch["epoch"], epoch[name] * 100) for epoch in run["history"] if epoch.get(name) is not None]
            if known:
                marker = "o" if len(known) == 1 else None
                label = f"{side}: {figure}"
                axes.plot(*zip(*known, strict=True), color=paper(side), lw=1.3, ls=style, marker=marker, label=label)
    axes.set_title(f"on validation images, {regime} transfer, %")
    _epochs(axes)


def _epochs(axes: Axes) -> None:
    axes.set_xlim(min(axes.get_xlim()[0], 0.5), max(axes.get_xlim()[1], 2.5))
    axes.set_xlabel("epoch")
    whole_numbers(axes.xaxis)
    axes.grid(axis="y")


def security(look: dict[str, Any]) -> Picture:
    """Return RA over the radius, by the verdict's attack and by AutoAttack, of each network that was looked at."""
    networks = look["networks"]
    columns, rows = curve_rows(*networks.values(), names=[_short(name) for name in networks])
    told = "; ".join(
        f"{_short(name) or 'the network'}: SA {percent(rows[0]['SA'])}, RA "
        + ", ".join(f"{percent(row['RA'])} by {row['attack']}" for row in rows)
        for name, rows in networks.items()
    )
    note = f"{look['samples']:,} test images{', networks of seed 0' if len(networks) > 1 else ''}. "
    note += "What a radius breaks, larger ones break too. At no radius RA is SA."
    return Picture(
        name="security",
        title="RA over the radius, after adversarial transfer" if len(networks) > 1 else "RA over the radius",
        told=f"{told}.",
        note=note,
        columns=columns,
        rows=tuple(rows),
        panels=(partial(_security, networks),),
    )


def curve_rows(
    *networks: Sequence[Mapping[str, Any]], names: Sequence[str] = ("",)
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heading and a row a radius of the curves of some networks, ready to print."""
    columns: list[str] = []
    cells: dict[float, list[str]] = {0.0: []}
    for name, rows in zip(names, networks, strict=True):
        for strong in sorted({_is_strong(row) for row in rows}):
            along = [row for row in rows if _is_strong(row) == strong]
            attack = along[0]["attack"].split(" ")[0]
            columns.append(f"{name}, {attack}" if name else attack)
            cells[0.0].append(percent(along[0]["SA"]))
            for row in along:
                cells.setdefault(row["eps"], []).append(percent(row["RA"]))
    return ("eps", *columns), [(pixel_units(eps), *shares) for eps, shares in cells.items()]


def _is_strong(row: Mapping[str, Any]) -> bool:
    return str(row["attack"]).startswith("AutoAttack")


def _short(name: str) -> str:
    return name.split("-")[0]


def _security(networks: Mapping[str, Sequence[Mapping[str, Any]]], axes: Axes) -> None:
    for name, rows in networks.items():
        side = _short(name) or "ticket"
        for strong, style, marker in ((False, "-", "o"), (True, (0, (3, 1.5)), "s")):
            along = [row for row in rows if _is_strong(row) == strong]
            if along:
                eps = [0.0, *(row["eps"] for row in along)]
                shares = [along[0]["SA"] * 100, *(row["RA"] * 100 for row in along)]
                attack = "AutoAttack" if strong else str(along[0]["attack"]).split(" ")[0]
                label = f"{_short(name)}: {attack}" if name else attack
                axes.plot(eps, shares, marker=marker, ms=4.5, lw=1.4, ls=style, color=paper(side), label=label)
    radii = sorted({row["eps"] for rows in networks.values() for row in rows})
    axes.set_xticks([0.0, *radii], ["0", *(pixel_units(eps) for eps in radii)])
    axes.set_xlabel("eps, in [0,1] pixel units")
    axes.set_ylim(-3, 103)
    axes.set_title("RA, %")
    axes.grid(axis="y")


def corruptions(look: dict[str, Any]) -> Picture:
    """Return SA under each common corruption, dense beside ticket, in both regimes."""
    kinds = [kind for kind in CORRUPTIONS if all(kind in one["correct"] for one in look["networks"].values())]
    shares: dict[str, Shares] = {
        regime: {
            side: [
                *(mean_share({kind: one["correct"][kind]}, look["samples"]) for kind in kinds),
                one["mean"],
            ]
            for side in SIDES
            for one in [look["networks"][f"{side}-{regime}-seed-0"]]
        }
        for regime in REGIMES
    }
    return _side_by_side(
        "corruptions",
        "SA under common corruptions",
        [*(kind.replace("_", " ") for kind in kinds), "mean"],
        shares,
        f"Means over five severities, {look['samples']:,} test images, networks of seed 0. Frost is a stand-in.",
    )


def unseen(look: dict[str, Any]) -> Picture:
    """Return RA under attacks that no training has seen, dense beside ticket, in both regimes."""
    shares: dict[str, Shares] = {
        regime: {side: [row["RA"] for row in look["networks"][f"{side}-{regime}-seed-0"]] for side in SIDES}
        for regime in REGIMES
    }
    attacks = [row["attack"] for row in look["networks"][f"dense-{REGIMES[0]}-seed-0"]]
    note = f"{look['samples']:,} test images, networks of seed 0; none was trained against these."
    return _side_by_side("unseen", "RA under attacks of other norms", attacks, shares, note)


def _side_by_side(name: str, title: str, rows: Sequence[str], shares: Mapping[str, Shares], note: str) -> Picture:
    last = {regime: ", ".join(f"{side} {percent(shares[regime][side][-1])}" for side in SIDES) for regime in REGIMES}
    told = "; ".join(f"{rows[-1]}, after {regime} transfer: {said}" for regime, said in last.items())
    rows = [textwrap.fill(row, 22) for row in rows]
    lines = [row.split("\n") for row in rows]
    high = sum(map(len, lines)) + len(rows)
    return Picture(
        name=name,
        title=title,
        told=f"{told}.",
        note=note,
        columns=("", *(f"{side}, {regime} transfer" for regime in REGIMES for side in SIDES)),
        rows=tuple(
            (row.replace("\n", " "), *(percent(shares[regime][side][place]) for regime in REGIMES for side in SIDES))
            for place, row in enumerate(rows)
        ),
        panels=tuple(partial(_dots, rows, shares[regime], f"after {regime} transfer") for regime in REGIMES),
        size=(4.5, 0.11 * high + 0.85),
        margins=(0.072 * max(len(line) for each in lines for line in each) + 0.15, 0.2, 0.48, 0.32),
    )


def _dots(rows: Sequence[str], shares: Shares, title: str, axes: Axes) -> None:
    places = range(len(rows))
    for place in places:
        axes.plot([shares[side][place] * 100 for side in SIDES], (place, place), color=paper("quiet"), lw=1.0, zorder=1)
    for side, face, width in (("dense", "paper", 8.5), ("ticket", "ticket", 5.0)):  # equal ones are both seen
        values = [share * 100 for share in shares[side]]
        axes.plot(values, places, "o", ms=width, mfc=paper(face), mec=paper(side), mew=1.3, ls="", label=side)
    axes.set_yticks(places, rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("accuracy, %")
    axes.set_title(title)
    axes.grid(axis="x")
