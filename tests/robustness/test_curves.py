"""The security curve: counts at each radius of a model whose answers are known by hand."""

from __future__ import annotations

import pytest

from lottery_hub.robustness import curves
from lottery_hub.robustness.curves import curve_attacks, measure_curve
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings import passes
from lottery_hub.settings.config import Attack
from lottery_hub.telling import listening
from tests.robustness.test_unseen import Brighter, split_of

PGD = Attack(eps=4 / 255, step_size=2 / 255, steps=4)


def test_a_curve_is_by_the_attack_and_by_autoattack_at_the_same_radii() -> None:
    ours, strong = curve_attacks(PGD)
    assert [each.eps * 255 for each in ours] == pytest.approx([1, 2, 4, 6, 8])
    assert [each.eps for each in strong] == [each.eps for each in ours]
    assert {each.method for each in strong} == {"autoattack"}
    assert [each.step_size * 255 for each in ours] == pytest.approx([0.5, 1, 2, 3, 4])
    assert len(curve_attacks(Attack(method="autoattack", eps=0.1))) == 1


def test_what_a_radius_breaks_is_broken_at_all_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # The threshold lies at 127.5: the images are 27.5 (on the wrong side), 1.5, 0.5, 1.5 and 3.5 away from it.
    split = split_of(155, 126, 127, 129, 131)
    split.labels[0] = 0
    attacks = curve_attacks(PGD)[:1]
    attacks[0][-1] = PGD.at(0.0)  # at the last radius nothing could be broken, and all is already
    monkeypatch.setattr(curves, "curve_attacks", lambda attack: attacks)
    told: list[int] = []
    with listening(lambda kind, record: told.append(record["passes"]) if kind == "unit" else None):
        rows = measure_curve({"only": Brighter()}, split, PGD)["only"]
    assert [row["robust"] for row in rows] == [3, 1, 0, 0, 0]
    assert [row["SA"] for row in rows] == [0.8] * 5
    assert told == [left * passes.of_image(PGD.record()) for left in (4, 3, 1, 0, 0)]
    second = Outcomes.parse(rows[1]["outcomes"], 5)
    assert second.RA is not None
    assert second.RA.tolist() == [False, False, False, False, True]
