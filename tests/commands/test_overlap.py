"""`overlap` in Python: tickets, or what names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lottery_hub as lh
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import save_ladder


def test_two_levels_of_a_ladder_share_the_sparser_one(ladder: Ladder, tmp_path: Path) -> None:
    found = lh.overlap(ladder[1], ladder[3])
    assert found.iou == ladder[3].kept_and_total[0] / ladder[1].kept_and_total[0]
    assert found.chance < found.iou
    assert found.layers.keys() == ladder[1].mask.keys()
    assert json.loads(json.dumps(found.record()))["total"]["IoU"] == found.iou
    assert repr(found) == f"Comparison(IoU 0.640, {found.chance:.3f} by chance; sparsities 20.00 and 48.80 %)"
    folder = save_ladder(ladder, tmp_path / "ladder")
    assert lh.overlap(folder, ladder[3], sparsity=0.2) == found


def test_tickets_of_other_networks_share_nothing_that_can_be_counted(ladder: Ladder) -> None:
    from dataclasses import replace

    other = replace(ladder[1], mask=dict(list(ladder[1].mask.items())[1:]))
    with pytest.raises(lh.TicketError, match="different architectures"):
        lh.overlap(ladder[1], other)


def test_several_are_compared_each_with_each(ladder: Ladder, tmp_path: Path) -> None:
    found = lh.overlap(ladder[1], ladder[2], ladder[2])
    kept = [ladder[level].kept_and_total[0] for level in (1, 2)]
    share = kept[1] / kept[0]  # levels are nested
    assert found.iou == [[1, share, share], [share, 1, 1], [share, 1, 1]]
    assert found.chance[0][1] == lh.overlap(ladder[1], ladder[2]).chance
    assert found.names == ("level 1", "level 2 #2", "level 2 #3")
    assert json.loads(json.dumps(found.record()))["IoU"] == found.iou
    assert found.overlaps[0][1] == found.overlaps[1][0].turned()
    assert repr(found) == f"Comparisons(3 tickets, IoU {share:.3f} to 1.000)"
    folder = save_ladder(ladder, tmp_path / "ladder")
    assert lh.overlap(folder, ladder[1], ladder[3], sparsity=0.2).names == (str(folder), "level 1", "level 3")
