"""How many images may come out otherwise, and what a network that hides its gradients is found by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.remeasuring import LEAST, _changed, allowed, attacked_without_scale, rows_of, scale_free
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings.config import Attack


@pytest.mark.parametrize(
    ("samples", "whole", "standard", "robust"),
    [(359, True, 4, 5), (143, True, 3, 4), (1000, True, 6, 9), (10_000, True, 24, 39), (200, False, 3, 9)],
)
def test_so_many_images_may_come_out_otherwise(samples: int, whole: bool, standard: int, robust: int) -> None:
    assert (allowed(samples, "SA", whole), allowed(samples, "RA", whole)) == (standard, robust)


def test_more_than_all_images_cannot_come_out_otherwise() -> None:
    assert [allowed(samples, "RA", whole=False) for samples in (0, 1, 2)] == [0, 1, 1]


def test_of_the_least_sample_an_edit_of_eleven_points_is_found_98_times_in_100() -> None:
    generator = np.random.default_rng(0)
    hits = generator.hypergeometric(110, 890, LEAST, size=20_000)
    assert (hits > allowed(LEAST, "RA", whole=False)).mean() > 0.98


def outcomes(wrong: set[int], count: int = 1000) -> Outcomes:
    bits = np.array([image not in wrong for image in range(count)])
    return Outcomes(bits, bits)


def test_images_are_counted_and_not_what_they_add_up_to() -> None:
    rows = torch.arange(1000)
    assert _changed(outcomes({1, 2, 3}), outcomes({4, 5, 6}), rows) == (6, "")
    up_and_down = _changed(outcomes(set(range(10))), outcomes(set(range(10, 20))), rows)
    assert up_and_down[0] == 20
    assert up_and_down[1].startswith("SA: 20 of 1000 images came out otherwise, 6 may; 99.00% recorded, 99.00%")


def test_a_sample_is_compared_with_its_own_images() -> None:
    rows = torch.tensor([0, 10, 20])
    seen = Outcomes(np.array([True, False, True]), None)
    assert _changed(outcomes({10, 11}), seen, rows) == (0, "")


def test_all_images_are_measured_where_so_many_are_wanted_or_none() -> None:
    assert rows_of(4, None, 0).tolist() == rows_of(4, 4, 1).tolist() == rows_of(4, 9, 2).tolist() == [0, 1, 2, 3]
    assert len(set(rows_of(100, 5, 1).tolist()) | set(rows_of(100, 5, 2).tolist())) > 5


@pytest.mark.parametrize(
    ("attack", "held_against"),
    [
        (Attack(eps=0.1, step_size=0.025, steps=5), "PGD-5 Linf eps 0.1 step 0.025"),
        (Attack(eps=0.1, step_size=0.01, steps=1000), "PGD-20 Linf eps 0.1 step 0.025"),
        (Attack(eps=0.1, step_size=1e-9, steps=20), "PGD-20 Linf eps 0.1 step 0.025"),
        (Attack(method="apgd-ce", norm="l2", eps=0.5, steps=100), "PGD-20 L2 eps 0.5 step 0.125"),
        (Attack(method="fgsm", eps=0.1), "FGSM Linf eps 0.1"),
        (Attack(method="square", norm="l1", eps=12, steps=10), None),
    ],
    ids=str,
)
def test_the_scale_free_attack_can_cross_the_ball_whatever_steps_are_recorded(
    attack: Attack, held_against: str | None
) -> None:
    found = scale_free(attack)
    assert (found and found.describe()) == held_against


def named(ticket: Ticket, withstood: np.ndarray) -> Ticket:
    attack = Attack(eps=0.2, step_size=0.05, steps=5)
    record = {
        "samples": len(withstood),
        "outcomes": Outcomes(np.ones(len(withstood), bool), withstood).record(),
        "provenance": {"attack": attack.record()},
    }
    return replace(ticket, records={"transfer": record, "recipe": {"image_size": 8}})


def test_an_ra_that_falls_to_a_loss_no_scale_can_blind_is_not_verified(ladder: Ladder, tiny_data: Dataset) -> None:
    def answer(withstood: np.ndarray) -> str:
        ticket = named(ladder.ticket(1), withstood)
        cpu = torch.device("cpu")
        return attacked_without_scale(ticket, {"ticket": ticket}, tiny_data, 0, cpu).answer

    assert answer(np.ones(12, bool)) == "not verified", "nothing withstands five steps of a fifth"
    assert answer(np.zeros(12, bool)) == "cannot tell", "of twelve images"
