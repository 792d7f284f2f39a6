"""`results` in Python and on the command line: figures out of a run, a ticket or a ladder."""

from __future__ import annotations

from pathlib import Path

import pytest

import lottery_hub as lh
from lottery_hub.errors import TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.storage.folder import load_ticket


def test_a_run_is_a_table_of_its_figures(run: Path) -> None:
    table = lh.results(run)
    means = table[table["split"] == "test"].groupby(["network", "level", "regime"])["SA"].mean()
    records = load_ticket(run / "ticket").records
    assert means["dense", 0, "standard"] == pytest.approx(records["dense"]["standard"]["SA"])
    assert lh.results(load_ticket(run / "ticket")).equals(table)


def test_predictions_of_the_networks_at_hand_explain_what_is_right(run: Path, tiny_data: Dataset) -> None:
    table = lh.results(run, images=True, dataset=tiny_data, device="cpu")
    kept = table[(table["network"] == "dense") & (table["split"] == "test")]
    assert ((kept["prediction"] == kept["label"]) == kept["clean"]).all()
    assert kept["label"].tolist() == tiny_data.test.labels.tolist() * 4
    assert table[table["network"] == "control"]["prediction"].isna().all()
    unknown = lh.results(run, images=True)
    assert unknown["label"].isna().all()
    assert unknown["clean"].equals(table["clean"])
    other = Dataset.of(tiny_data.train.images, tiny_data.train.labels)
    with pytest.raises(TicketError, match="own-images holds other images than those of the records"):
        lh.results(run, images=True, dataset=other)
