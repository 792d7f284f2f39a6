"""Studies: every cell found, nothing trained twice, and kinds of pre-training compared by hand-worked figures."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from lottery_hub import studying
from lottery_hub.commands.study import Studied
from lottery_hub.errors import LotteryHubError, RunError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.running.engines import Local
from lottery_hub.running.store import Store, open_store
from lottery_hub.settings.config import DataPlan, DrawPlan
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.studies import CellPlan
from lottery_hub.storage.folder import load_ticket
from lottery_hub.studying import Cell, outline, study
from tests.judged import TRANSFER

KINDS = {"std": 0, "adv": 1}  # kind → seed of its weights


def cell(kind: str, method: str, data: Dataset, **changes: Any) -> Cell:
    plan = FindPlan(
        pretrain=kind,
        arch="resnet18-slim",
        data=DataPlan(dataset=data.name, image_size=8),
        draw=DrawPlan(method=method, rounds=1),  # type: ignore[arg-type]
        ladder="draw",
        transfer=TRANSFER,
        scan="all",
        tolerance="points:50",
    ).changed(**changes)
    backbone = Backbone("resnet18-slim", kind, fresh_weights("resnet18-slim", 5, KINDS[kind]))  # type: ignore[arg-type]
    place = CellPlan(kind, data.name, 1.0, method, None)  # type: ignore[arg-type]
    return Cell(f"{kind}-{method}", place, lambda: (plan, backbone, data))


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, kind: str, record: dict[str, Any]) -> None:
        self.append((kind, record))

    @property
    def made(self) -> list[str]:
        return [f"{r['cell']} {r['unit']}" for kind, r in self if kind == "unit" and not r["finished"]]


def go(cells: list[Cell], directory: Path, store: Store) -> tuple[dict[str, Any], Told]:
    told = Told()
    summary = study(cells, directory, store=store, engine=Local.of("cpu", 1), device="cpu", report=told)
    return summary, told


@pytest.fixture(scope="module")
def done(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, dict[str, Any], Told]:
    """A study of two kinds by two methods, and what it told."""
    place = tmp_path_factory.mktemp("study")
    store = open_store(place / "store")
    cells = [cell(kind, method, tiny_data) for kind in KINDS for method in ("omp", "random")]
    return place / "study", store, *go(cells, place / "study", store)


def test_every_cell_has_its_ticket_and_dense_of_a_kind_is_trained_once(done: Any) -> None:
    directory, store, summary, told = done
    assert [one["cell"] for one in summary["cells"]] == ["std-omp", "std-random", "adv-omp", "adv-random"]
    for one in summary["cells"]:
        ticket = load_ticket(one["ticket"])
        assert Path(one["ticket"]) == directory / "cells" / one["cell"] / "ticket"
        assert (ticket.kind, ticket.method) == (one["pretrain"], one["method"])
        assert one["figures"]["adversarial"]["SA"] == pytest.approx(
            next(row for row in ticket.records["levels"] if row["level"] == ticket.level)["adversarial"]["SA"]
        )
    # Two kinds: dense, and a level by each method, in two regimes.
    assert len(told.made) == len(store.addresses()) == 2 * (1 + 2) * 2
    assert json.loads((directory / "study.json").read_text(encoding="utf-8")) == {
        key: summary[key] for key in ("cells", "differences")
    }


def test_from_python_a_study_says_what_the_command_prints(done: Any) -> None:
    directory, _, summary, _ = done
    found = Studied(directory, summary["cells"], summary["differences"])
    said = found.report().splitlines()
    assert [line.split()[0] for line in said if line.lstrip().startswith(("std-", "adv-"))][:4] == [
        one["cell"] for one in summary["cells"]
    ]
    assert said[-1] == f"study: {directory}, its page: report.html"
    assert repr(found) == f"Studied(4 cells, 0 failed, {directory})"


def test_figures_are_a_row_each_in_csv_and_parquet(done: Any) -> None:
    directory, _, _, _ = done
    with (directory / "figures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 2 * 2  # cells, networks, regimes, splits
    assert {row["cell"] for row in rows} == {"std-omp", "std-random", "adv-omp", "adv-random"}
    table = pyarrow.parquet.read_table(directory / "figures.parquet").to_pylist()
    assert [row["SA"] for row in table] == [float(row["SA"]) for row in rows]


def test_the_page_shows_every_cell_with_its_ticket_and_asks_nothing_of_other_places(done: Any) -> None:
    directory, _, summary, _ = done
    page = (directory / "report.html").read_text(encoding="utf-8")
    for one in summary["cells"]:
        link = f"cells/{one['cell']}/ticket/"
        assert f'<a href="{link}">{one["cell"]}</a>' in page
        assert (directory / link / "README.md").is_file()
    assert not re.findall(r"(?:src|href)=\"(?!cells/|#)|url\((?!#)|<script", page)
    # Two kinds in four figures, each with both methods and dense on its axes.
    assert page.count('id="panel-0"') + len(re.findall(r'<div><svg aria-hidden="true"', page)) >= 2 * 4
    assert [word in page for word in ("std, stripes 100 %", "adv, stripes 100 %")] == [True, True]
    # Masks of the one level, of two kinds and two methods: those of one kind and method are the same.
    table = page[page.index("How much masks share") :]
    names = ["std omp 1", "std random 1", "adv omp 1", "adv random 1"]
    assert re.findall(r'<th scope="row">(\w+ \w+ 1)</th>', table) == names
    shares = re.findall(r'<td class="s\d">([\d.]+) <small>', table)
    assert [shares[place * 5] for place in range(4)] == ["1.00"] * 4
    assert 0.6 < float(shares[1]) < 0.7  # 0.8 * 0.8 of 0.96, where nothing but chance is in common


def test_kinds_are_compared_image_by_image_at_every_level_they_share(done: Any) -> None:
    directory, _, summary, _ = done
    rows = summary["differences"]
    assert len(rows) == 2 * 2 * 4  # methods, levels with dense, figures
    for row in rows:
        cells = {one["pretrain"]: one for one in summary["cells"] if one["method"] == row["method"]}
        bits = {}
        for kind in ("std", "adv"):
            records = load_ticket(cells[kind]["ticket"]).records
            (run,) = (
                each
                for each in records["transfers"]
                if (each["ticket"], each["regime"]) == (f"level-{row['level']:02d}", row["regime"])
            )
            bits[kind] = getattr(Outcomes.parse(run["outcomes"], run["samples"]), row["figure"])
        assert (row["pretrain"], row["against"]) == ("adv", "std")
        assert row["difference"] == pytest.approx(np.mean(bits["adv"].astype(int) - bits["std"].astype(int)))
        assert row["low"] <= row["difference"] <= row["high"]
    with (directory / "differences.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_a_study_grows_by_what_is_missing_and_says_before_what_that_is(
    done: Any, tiny_data: Dataset, tmp_path: Path
) -> None:
    _, store, summary, _ = done
    before = store.addresses()
    more = [cell("std", "omp", tiny_data, seeds=2), cell("std", "random", tiny_data)]
    ahead = list(outline(more, tmp_path, store=store, engine=Local.of("cpu", 1), device="cpu"))
    assert [(row["units"], row["finished"], row["to_be_chosen"]) for row in ahead] == [(8, 4, 0), (2, 2, 0)]
    assert ahead[0]["hours"] > 0
    assert ahead[1]["hours"] == 0
    assert store.addresses() == before
    told = go(more, tmp_path, store)[1]
    assert len(told.made) == 4
    assert all(name.startswith("std-omp") and name.endswith("seed-1") for name in told.made)
    again, told = go(more[1:], tmp_path, store)
    assert (told.made, again["cells"][0]["dense"]) == ([], summary["cells"][1]["dense"])


def test_a_cell_that_fails_is_told_and_the_others_go_on(done: Any, tiny_data: Dataset, tmp_path: Path) -> None:
    _, store, _, _ = done

    def broken() -> Any:
        raise LotteryHubError("no such weights\x1b[31m")

    good = cell("std", "omp", tiny_data)
    bad = replace(good, name="bad", load=broken)
    summary, told = go([bad, good], tmp_path, store)
    assert [one.get("failed") for one in summary["cells"]] == ["no such weights\\x1b[31m", None]
    assert [record["cell"] for kind, record in told if kind == "failed"] == ["bad"]
    with pytest.raises(LotteryHubError, match=r"^no cell of the study could be done; the first: no such weights"):
        go([bad], tmp_path, store)


def test_a_folder_of_something_else_is_refused(done: Any, tiny_data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    with pytest.raises(RunError, match="is not empty and not a run directory"):
        go([cell("std", "omp", tiny_data)], tmp_path, done[1])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_frontiers_of_two_kinds_are_compared_where_a_margin_was_held_against_them(
    done: Any, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell(kind, "omp", tiny_data, tolerance=f"margin:{margin}") for kind, margin in (("std", 50), ("adv", 60))]
    guessing, _ = go(cells, tmp_path / "again", done[1])
    assert all(row["figure"] != "frontier" for row in guessing["differences"]), "such networks only guess"
    monkeypatch.setattr(studying, "tells_nothing", lambda records: False)
    summary, told = go(cells, tmp_path / "again", done[1])
    assert told.made == []
    (row,) = (row for row in summary["differences"] if row["figure"] == "frontier")
    assert (row["pretrain"], row["against"], row["level"], row["regime"]) == ("adv", "std", None, None)
    # By such margins both frontiers lie beyond the one level that was tried: as far as that goes, they are equal.
    assert [one["frontier"]["beyond"] for one in summary["cells"]] == [True, True]
    assert row["difference"] == 0
    assert row["low"] <= 0 <= row["high"]
    assert "frontier" in (tmp_path / "again/report.html").read_text(encoding="utf-8")


def test_robust_accuracy_by_different_attacks_is_not_compared(tmp_path: Path, tiny_data: Dataset) -> None:
    weaker = {"standard_attack": TRANSFER.test_attack.at(0.01)}
    cells = [
        cell("std", "omp", tiny_data),
        cell("adv", "omp", tiny_data, tolerance="margin:2", transfer=TRANSFER.changed(**weaker)),
    ]
    summary, _ = go(cells, tmp_path / "study", open_store(tmp_path / "store"))
    compared = {(row["regime"], row["figure"]): row["attack"] for row in summary["differences"]}
    assert compared.keys() == {("standard", "SA"), ("adversarial", "SA"), ("adversarial", "RA")}
    assert compared["adversarial", "RA"] == summary["cells"][0]["attack"]
    assert "standard_attack" not in summary["cells"][0]
    assert "eps 0.01" in summary["cells"][1]["standard_attack"]
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert f"(after standard transfer {summary['cells'][1]['standard_attack']})" in page


def test_a_cell_says_whether_it_is_undecided_and_how_many_figures_tell_something(
    tmp_path: Path, tiny_data: Dataset
) -> None:
    cells = [cell("std", "omp", tiny_data, tolerance="margin:2")]
    summary, _ = go(cells, tmp_path / "study", open_store(tmp_path / "store"))
    [row] = summary["cells"]
    records = load_ticket(row["ticket"]).records
    assert row["answer"] == records["answer"]
    figures = records["levels"][0]["figures"]
    assert row["telling"] == sum(figure["answer"] != "uninformative" for figure in figures)
