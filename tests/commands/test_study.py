"""The grid of a study as its options give it, down to the plan of each find."""

from __future__ import annotations

from lottery_hub.commands.options import defaults
from lottery_hub.commands.study import _cells, plan_of, study


def test_what_is_given_for_all_finds_is_in_the_plan_of_each() -> None:
    grid = plan_of(pretrain="adv", level=[2, 5], seeds=2, margin=3, eps="0.2", eps_standard="0.05", controls=True)
    plans = [cell.load()[0] for cell in _cells(grid, defaults(study))]
    assert [plan.level for plan in plans] == [2, 5]
    for plan in plans:
        assert (plan.seeds, plan.tolerance, plan.controls) == (2, "margin:3", True)
        assert plan.transfer.test_attack.eps == 0.2
        assert plan.transfer.attack("standard").eps == 0.05
        assert plan.transfer.attack("adversarial").eps == 0.2
