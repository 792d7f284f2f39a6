"""What Python shows of what users hold, and when two of it are equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lottery_hub as lh
from lottery_hub.errors import TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.training.transferring import Transferred
from lottery_hub.values import page_table, percent, same


@pytest.fixture(scope="module")
def done(ladder: Ladder, tiny_data: Dataset) -> Transferred:
    """A transfer of one step, its network right on 6 of 12 clean and on 3 attacked images."""
    recipe = lh.Recipe(epochs=1, batch_size=24, lr=0.01, augment="none", image_size=8)
    trained = lh.transfer(ladder[2], tiny_data, recipe, test_attack=lh.Attack(method="fgsm", eps=0.1))
    return replace(trained, accuracy=lh.Accuracy(12, 6, 3))


def test_each_is_told_in_a_line(ladder: Ladder, backbone: Backbone, tiny_data: Dataset, done: Transferred) -> None:
    shown = {
        ladder: "Ladder(resnet18-slim (adv), 6 levels by omp, up to 73.79 % sparsity)",
        ladder[2]: "Ticket(resnet18-slim (adv), level 2 by omp: 36.00 % sparsity, "
        "457,400 of 714,688 weights kept; not judged)",
        backbone: "Backbone(resnet18-slim (adv), 5 classes, 720,410 values, unknown source)",
        tiny_data: "Dataset(stripes: 3 classes, 24 training, 9 validation, 12 test images of 8x8)",
        tiny_data.test: "Split(12 images of 8x8)",
        done.accuracy: "Accuracy(SA 50.00 %, RA 25.00 %, 12 images)",
        lh.Accuracy(12, 6): "Accuracy(SA 50.00 %, 12 images)",
        done: "Transferred(standard, seed 0: SA 50.00 %, RA 25.00 % by FGSM Linf eps 0.1, 12 test images)",
    }
    for value, line in shown.items():
        assert repr(value) == line


def test_a_notebook_gets_a_small_table(ladder: Ladder, tiny_data: Dataset, done: Transferred) -> None:
    for value, cells in (
        (ladder, ("6", "73.79")),
        (ladder[2], ("weights kept", "714,688", "457,400")),
        (tiny_data, ("validation", "9", "8x8")),
        (done, ("test", "12")),
        (done.accuracy, ("50.00", "25.00", "12")),
        (lh.overlap(ladder[1], ladder[2]), ("conv1.weight", "total")),
    ):
        page = value._repr_html_()  # type: ignore[attr-defined]
        assert page.startswith("<table><caption>")
        assert all(f"<td>{cell}</td>" in page for cell in cells), page


def test_the_table_of_a_verdict_has_its_four_figures_and_a_strangers_records_none(ladder: Ladder) -> None:
    figures = [{"regime": "standard", "figure": "SA", "dense": 0.5, "ticket": 0.25}]
    judged = replace(ladder[2], records={"level": 2, "double_win": False, "levels": [{"level": 2, "figures": figures}]})
    assert "no double win" in repr(judged)
    assert "<td>standard SA %</td><td>50.00</td><td>25.00</td>" in judged._repr_html_()
    for strange in ({"levels": 5, "level": []}, {"level": 2, "levels": [{"level": 2, "figures": [{"dense": "x"}]}]}):
        assert "weights kept" in replace(ladder[2], records=strange)._repr_html_()


def test_what_a_cell_says_is_text() -> None:
    assert page_table("<b>", ("\x1b[31m",), [("a&b",)]) == (
        "<table><caption>&lt;b&gt;</caption><tr><th>\\x1b[31m</th></tr><tr><td>a&amp;b</td></tr></table>"
    )
    assert (percent(0.12345), percent(None)) == ("12.35", "–")


def test_equal_is_equal_in_every_bit(ladder: Ladder, tiny_data: Dataset, done: Transferred, tmp_path: Path) -> None:
    ticket = ladder[2]
    save_ticket(ticket, tmp_path / "ticket")
    assert load_ticket(tmp_path / "ticket") == ticket
    assert hash(ticket) == hash(ladder[2])
    name = next(iter(ticket.mask))
    moved = ticket.weights[name].clone()
    moved.view(-1)[ticket.mask[name].view(-1).nonzero()[0]] += 1e-6
    assert replace(ticket, weights=ticket.weights | {name: moved}) != ticket
    assert ticket != ladder[3]
    assert ticket != "ticket"
    assert replace(tiny_data, classes=("a", "b", "c")) != tiny_data == replace(tiny_data)
    assert replace(done, weights={}) != done == replace(done)
    assert replace(ladder, method="random") != ladder == replace(ladder)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), [0.0, 0.0]),
        ({"a": 1}, {"b": 1}),
        ([1, 2], [1]),
        ((1, 2), [1, 2]),
    ],
)
def test_what_looks_alike_is_not_the_same(one: object, other: object) -> None:
    assert not same(one, other)
    assert not same(other, one)
    assert same(one, one)


def test_a_ladder_is_its_levels(ladder: Ladder) -> None:
    assert len(ladder) == 7
    assert [ticket.level for ticket in ladder] == list(range(7))
    assert ladder[-1] == ladder[6] == list(ladder)[6] == ladder.ticket(6)
    assert ladder[0].sparsity == 0
    for level in (7, -8):
        with pytest.raises(TicketError, match="this ladder has levels 0 to 6"):
            ladder[level]
