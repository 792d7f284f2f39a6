"""The pictures of a verdict show what the records say: points, lines, bands and labels, by whatever rule."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.reporting.plots import ANSWERS, FOUR, curve, differences, is_of
from lottery_hub.storage.folder import load_ticket

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@pytest.fixture(scope="module")
def records(run: Path) -> dict[str, Any]:
    """Two levels, two seeds, both controls, judged by the margin."""
    return load_ticket(run).records


@pytest.fixture
def newer(records: dict[str, Any]) -> dict[str, Any]:
    """The same with each of the four answers, and a frontier between the levels."""
    changed = copy.deepcopy(records)
    changed["frontier"] = {"sparsity": 0.3, "interval": [0.1, 0.36], "beyond": False}
    answers = ("matching", "worse", "undecided", "uninformative")
    for figure, answer in zip(verdict_runs(changed)[1]["figures"], answers, strict=True):
        figure["answer"] = answer
    return changed


def depth(sparsity: float) -> float:
    return -math.log(1 - sparsity)


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Return label → the points of a line, of those that are in the legend."""
    return {
        str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def test_the_curve_shows_every_level_dense_and_what_is_allowed(records: dict[str, Any]) -> None:
    panels = curve(records).figure().axes
    assert len(panels) == 4
    for axes, (regime, figure) in zip(panels, FOUR, strict=True):
        dense = records["dense"][regime][figure] * 100
        (row,) = (row for row in verdict_runs(records)[1]["figures"] if is_of(row, regime, figure))
        counted, drawn = row["answer"] != "uninformative", lines(axes)
        assert axes.get_title("left") == f"{figure} after {regime} transfer, %{'' if counted else ' (not counted)'}"
        tried = [(depth(row["sparsity"]), row[regime][figure] * 100) for row in records["levels"]]
        assert np.allclose(drawn["ticket, test"], tried)
        assert {y for _, y in drawn["dense"]} == {dense}
        assert {y for _, y in drawn["least that matches"]} == {dense - row["tolerance"] * 100}
        assert [x for x, _ in drawn["picked level"]] == pytest.approx([depth(records["sparsity"])] * 2)
        for row, label in zip(records["controls"], ("one-shot mask (OMP)", "random mask"), strict=True):
            assert np.allclose(drawn[label], [(depth(row["sparsity"]), row[regime][figure] * 100)])


def test_validation_stands_as_far_from_dense_as_it_does_there(records: dict[str, Any]) -> None:
    for axes, (regime, figure) in zip(curve(records).figure().axes, FOUR, strict=True):
        shown = [y - records["dense"][regime][figure] * 100 for _, y in lines(axes)["ticket, validation"]]
        before = records["dense"]["validation"][regime][figure]
        there = [(row["validation"][regime][figure] - before) * 100 for row in records["levels"]]
        assert shown == pytest.approx(there)


def test_a_line_through_a_level_is_the_interval_of_its_difference(records: dict[str, Any]) -> None:
    axes = curve(records).figure().axes[2]
    whiskers = [
        line for line in axes.get_lines() if str(line.get_label()).startswith("_") and len(line.get_xdata()) == 2
    ]
    dense = records["dense"]["adversarial"]["SA"] * 100
    wanted = [[dense + bound * 100 for bound in row["figures"][2]["interval"]] for row in records["levels"]]
    assert np.allclose([line.get_ydata() for line in whiskers], wanted)


def test_a_level_that_was_asked_for_is_not_called_picked(records: dict[str, Any]) -> None:
    assert "picked" in curve(records).told + curve(records).note
    asked = curve(records | {"plan": records["plan"] | {"level": records["level"]}})
    assert "level asked for" in lines(asked.figure().axes[0])
    assert "picked" not in asked.told + asked.note + " ".join(lines(asked.figure().axes[0]))


def test_levels_are_labelled_by_their_sparsity_at_even_distances(records: dict[str, Any]) -> None:
    axes = curve(records).figure().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["dense", "20.0", "36.0"]
    assert list(axes.get_xticks()) == pytest.approx([0, depth(0.2), 2 * depth(0.2)], rel=1e-3)


def test_a_level_that_was_rejected_is_in_the_panels_of_the_regime_it_was_run_in(records: dict[str, Any]) -> None:
    rejected = copy.deepcopy(records)
    last = rejected["levels"][-1]
    assert last["level"] != rejected["level"]
    for each in (last, last["validation"]):
        del each["adversarial"]
        each["figures"] = each["figures"][:2]
    drawn = [len(lines(axes)["ticket, test"]) for axes in curve(rejected).figure().axes]
    assert drawn == [2, 2, 1, 1]
    assert [row[4:6] for row in curve(rejected).rows if row[0] == str(last["level"])] == [("–", "–")]


def test_the_frontier_is_shown_where_the_records_have_one(records: dict[str, Any], newer: dict[str, Any]) -> None:
    older = {name: value for name, value in records.items() if name != "frontier"}
    assert not any("frontier" in lines(axes) for axes in curve(older).figure().axes)
    picture = curve(newer)
    assert [x for x, _ in lines(picture.figure().axes[0])["frontier"]] == pytest.approx([depth(0.3)] * 2)
    assert "The frontier is at 30.00 % sparsity (95 % interval 10.00 % to 36.00 %)." in picture.told


def test_the_forest_shows_the_four_differences_with_their_intervals(records: dict[str, Any]) -> None:
    rows = verdict_runs(records)[1]["figures"]
    (axes,) = differences(records).figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{f}, {r} transfer" for r, f in FOUR]
    known = {label for _, _, label in ANSWERS.values()}
    points = [pair for label, pairs in lines(axes).items() if label in known for pair in pairs]
    assert sorted((place, x) for x, place in points) == [(i, row["difference"] * 100) for i, row in enumerate(rows)]
    intervals = [
        list(line.get_xdata())
        for line in axes.get_lines()
        if list(line.get_ydata()) in ([0, 0], [1, 1], [2, 2], [3, 3])
    ]
    assert intervals == [[bound * 100 for bound in row["interval"]] for row in rows]
    edges = [line.get_xdata()[0] for line in axes.get_lines() if line.get_ydata()[0] % 1 == 0.5]
    assert edges == [-row["tolerance"] * 100 for row in rows]


def test_each_answer_has_a_mark_of_its_own(newer: dict[str, Any]) -> None:
    (axes,) = differences(newer).figure().axes
    marked = {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}
    marks = {label: (line.get_marker(), line.get_markerfacecolor()) for label, line in marked.items()}
    assert len(set(marks.values())) == 4
    assert [row[-1] for row in differences(newer).rows] == list(marks)


def test_records_without_single_images_have_no_intervals(records: dict[str, Any]) -> None:
    bare = copy.deepcopy(records)
    for row in bare["levels"]:
        for figure in row["figures"]:
            figure["interval"] = None
    assert all(row[4] == "–" for row in differences(bare).rows)
    assert curve(bare).figure().axes


def test_the_table_of_the_curve_has_every_figure(records: dict[str, Any]) -> None:
    picture = curve(records)
    assert [row[0] for row in picture.rows] == ["dense", "1", "2", "omp control", "random control"]
    assert picture.rows[1][2] == f"{records['levels'][0]['standard']['SA'] * 100:.2f} %"
    assert all(len(row) == len(picture.columns) for row in picture.rows)


def test_a_verdict_of_fresh_seeds_is_what_the_pictures_show(records: dict[str, Any]) -> None:
    fresh = copy.deepcopy(records)
    _, ticket = verdict_runs(records)
    dense = {regime: records["dense"][regime] | {"SA": 0.75, "RA": 0.25} for regime in ("standard", "adversarial")}
    runs = {regime: ticket[regime] | {"SA": 0.5, "RA": 0.125} for regime in ("standard", "adversarial")}
    figures = [
        row | {"dense": dense[row["regime"]][row["figure"]], "ticket": 0.5, "difference": -0.25, "interval": [-0.3, 0]}
        for row in ticket["figures"]
    ]
    fresh["confirmed"] = {**runs, "figures": figures, "answer": "undecided", "double_win": False, "dense": dense}
    assert [row[3] for row in differences(fresh).rows] == ["−25.00"] * 4
    picture = curve(fresh)
    assert "fresh seeds" in picture.note
    assert picture.rows[3][2:4] == ("75.00 %", "25.00 %")
    assert picture.rows[4][0] == f"{records['level']}, fresh seeds"
    drawn = lines(picture.figure().axes[1])
    at = depth(records["sparsity"])
    assert np.allclose(drawn["ticket, fresh seeds"], [(at, 12.5)])
    assert np.allclose(drawn["dense, fresh seeds"], [(at, 25.0)])
    assert "50.00 % (dense 75.00 %)" in picture.told
