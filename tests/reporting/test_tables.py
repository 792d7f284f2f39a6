"""Tables: each figure of the records once, each image as its outcome has it, and the same in every format."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from lottery_hub.errors import TicketError
from lottery_hub.images.datasets import Dataset, sampled_rows
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting import tables
from lottery_hub.reporting.tables import FIGURES, IMAGES, figures_table, images_table
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.storage.folder import load_ticket


@pytest.fixture(scope="module")
def ticket(run: Path) -> Ticket:
    return load_ticket(run / "ticket")


def where(rows: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_every_transfer_is_a_row_on_each_split(ticket: Ticket) -> None:
    rows = list(figures_table(ticket).rows())
    # Dense, two levels and two controls; two regimes, two seeds, two splits.
    assert len(rows) == 5 * 2 * 2 * 2
    keys = {tuple(row[name] for name in ("network", "method", "level", "regime", "seed", "split")) for row in rows}
    assert len(keys) == len(rows)
    for run in ticket.records["transfers"]:
        network, level = ("dense", 0) if run["ticket"] == "level-00" else ("ticket", int(run["ticket"][-2:]))
        about = {"network": network, "level": level, "regime": run["regime"], "seed": run["seed"], "split": "test"}
        if run["ticket"].startswith("level"):
            (row,) = where(rows, **about)
            assert {name: row[name] for name in ("samples", "correct", "robust", "SA", "RA", "attack")} == {
                name: run[name] for name in ("samples", "correct", "robust", "SA", "RA", "attack")
            }
            assert (row["dataset"], row["arch"], row["pretrain"]) == ("stripes", "resnet18-slim", "adv")
            assert row["sparsity"] == run["sparsity"]
    controls = where(rows, network="control", split="validation", regime="standard", seed=1)
    assert {(row["method"], row["level"], row["sparsity"]) for row in controls} == {
        (method, ticket.level, ticket.sparsity) for method in ("omp", "random")
    }


def test_every_image_is_a_row_with_what_became_of_it(ticket: Ticket, tiny_data: Dataset) -> None:
    said = [0, None, *[2] * 10]
    labels = {"test": tiny_data.test.labels.tolist()}
    table = images_table(ticket, labels, {("ticket-adversarial-seed-1", "test"): said})
    assert len(table) == 5 * 2 * 2 * (12 + 9)
    (run,) = (
        run
        for run in ticket.records["transfers"]
        if (run["ticket"], run["regime"], run["seed"]) == (f"level-{ticket.level:02d}", "adversarial", 1)
    )
    about = {"network": "ticket", "level": ticket.level, "regime": "adversarial", "seed": 1}
    rows = where(list(table.rows()), **about, split="test")
    seen = Outcomes.parse(run["outcomes"], 12)
    assert seen.RA is not None
    assert [row["clean"] for row in rows] == seen.SA.tolist()
    assert [row["attacked"] for row in rows] == seen.RA.tolist()
    assert [row["image"] for row in rows] == list(range(12))
    assert [row["label"] for row in rows] == labels["test"]
    assert [row["prediction"] for row in rows] == said
    others = where(list(table.rows()), **about, split="validation")
    assert {(row["label"], row["prediction"]) for row in others} == {(None, None)}


def test_closer_looks_are_rows_of_the_images_they_were_taken_of(
    ticket: Ticket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = Outcomes(np.array([True, False, True]), np.array([True, False, False]))
    record = {"samples": 3, "correct": 2, "robust": 1, "SA": 2 / 3, "RA": 1 / 3, "outcomes": bits.record()}
    attacks = [record | {"attack": name} for name in ("PGD", "AutoAttack")]
    name = "dense-standard-seed-0"
    looks = {
        "checks": {"samples": 3, "attacks": attacks},
        "unseen": {"samples": 3, "networks": {name: attacks[:1]}},
        "corruptions": {"samples": 3, "networks": {name: {"correct": {"fog": [3, 2, 2, 1, 0]}}}},
    }
    looked = replace(ticket, records=ticket.records | {"scrutiny": looks})
    rows = [row for row in figures_table(looked).rows() if row["look"]]
    assert [(row["network"], row["look"], row["attack"]) for row in rows[:3]] == [
        ("ticket", "checks", "PGD"), ("ticket", "checks", "AutoAttack"), ("dense", "unseen", "PGD"),
    ]  # fmt: skip
    assert [(row["corruption"], row["severity"], row["correct"], row["RA"]) for row in rows[3:]] == [
        ("fog", severity, correct, None) for severity, correct in enumerate([3, 2, 2, 1, 0], 1)
    ]
    images = where(list(images_table(looked, {}, {}).rows()), look="checks", attack="AutoAttack")
    assert [row["image"] for row in images] == sampled_rows(12, 3, 0).tolist()
    assert [(row["clean"], row["attacked"]) for row in images] == [(True, True), (False, False), (True, False)]
    monkeypatch.setattr(tables, "MOST_ROWS", 100)
    with pytest.raises(TicketError, match="more than 100 outcomes"):
        images_table(looked, {}, {})


def test_ladders_and_backbones_have_the_figures_of_their_source_task(backbone: Backbone, ladder: Ladder) -> None:
    test = {"samples": 10, "correct": 8, "robust": 5, "SA": 0.8, "RA": 0.5}
    records = {"data": {"name": "stripes"}, "plan": {"seed": 3}, "test": test, "test_attack": "PGD-20"}
    rounds = [{"level": 1, "kept": 8, "total": 10, "source": test | {"correct": 7}, "source_attack": "PGD-2"}]
    drawn = replace(ladder, backbone=replace(backbone, records=records), drawing={"rounds": [*rounds, {"level": 2}]})
    rows = list(figures_table(drawn).rows())
    assert [(row["network"], row["level"], row["correct"], row["attack"], row["regime"]) for row in rows] == [
        ("dense", 0, 8, "PGD-20", None), ("ticket", 1, 7, "PGD-2", None),
    ]  # fmt: skip
    with pytest.raises(TicketError, match="its records hold no figures"):
        figures_table(backbone)
    with pytest.raises(TicketError, match="outcomes of no images"):
        images_table(ladder.ticket(1), {}, {})


@pytest.mark.parametrize("kinds", [FIGURES, IMAGES], ids=["figures", "images"])
def test_every_format_says_the_same(kinds: dict[str, str], ticket: Ticket) -> None:
    table = figures_table(ticket) if kinds is FIGURES else images_table(ticket, {}, {})
    rows = list(table.rows())
    assert list(rows[0]) == list(kinds)
    assert json.loads(table.encoded("json")) == rows
    assert pq.read_table(io.BytesIO(table.encoded("parquet"))).to_pylist() == rows
    framed = table.to_pandas()
    assert [
        {name: None if value is pandas.NA else value for name, value in row.items()}
        for row in framed.to_dict("records")
    ] == rows
    read = pandas.read_csv(io.BytesIO(table.encoded("csv")))
    assert list(read.columns) == list(kinds)
    assert read["seed"].tolist() == [row["seed"] for row in rows]
    for figure in {"SA", "clean"} & set(kinds):
        assert read[figure].tolist() == [row[figure] for row in rows]


def test_names_of_strangers_reach_no_terminal(ticket: Ticket) -> None:
    data = ticket.records["data"] | {"name": "\x1b[2Jdigits"}
    forged = replace(ticket, records=ticket.records | {"data": data})
    assert b"\x1b" not in figures_table(forged).encoded("csv")
