"""How much a stranger's records ask for is counted before any of it is done."""

from __future__ import annotations

import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.judging.workload import LIMIT, check_amount, of_measuring, of_training
from lottery_hub.networks.compacting import cost
from lottery_hub.networks.tickets import Ladder
from lottery_hub.settings.config import (
    Attack,
    DataPlan,
    DrawPlan,
)
from lottery_hub.settings.plans import FindPlan
from tests.judged import TRANSFER


def test_measuring_is_counted_in_passes_of_every_image(ladder: Ladder) -> None:
    ticket = ladder.ticket(2)
    macs = cost(ticket.to_model(), 8).macs
    assert of_measuring(ticket, None, 10, 8) == 10 * macs
    pgd = Attack(eps=0.1, step_size=0.1, steps=20, restarts=2)
    assert of_measuring(ticket, pgd, 10, 8) == 10 * (1 + 3 * 40) * macs


def test_training_is_counted_in_steps_of_both_regimes(ladder: Ladder) -> None:
    ticket = ladder.ticket(2)
    draw = DrawPlan(method="omp", rounds=2)
    plan = FindPlan(pretrain="adv", arch="resnet18-slim", data=DataPlan(dataset="digits"), draw=draw, transfer=TRANSFER)
    # One epoch each; the adversarial one takes a step of the attack besides its own.
    assert of_training(ticket, plan, 24) == 24 * (3 + 6) * cost(ticket.to_model(), 8).macs


def test_ten_thousand_images_under_pgd_20_are_little_and_a_hundred_million_steps_are_too_much(ladder: Ladder) -> None:
    ticket = ladder.ticket(2)
    usual = Attack(eps=0.1, step_size=0.1, steps=20)
    check_amount(12 * of_measuring(ticket, usual, 10_000, 32), "measuring", "add --long")
    endless = Attack(eps=0.1, step_size=0.1, steps=100_000, restarts=1000)
    assert of_measuring(ticket, endless, 12, 32) > LIMIT
    with pytest.raises(ConfigError, match=r"measuring takes 9e\+16 multiplications, more than 1e\+15; add --long"):
        check_amount(9 * 10**16, "measuring", "add --long")
