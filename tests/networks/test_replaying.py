"""What is recorded once and played back; on a CPU, by a tape of its operations."""

from __future__ import annotations

import pytest
import torch

from lottery_hub.networks.replaying import WARM, Replay
from tests.taped import tapes

CPU = torch.device("cpu")


def replay(call, size=2):
    """What would be recorded on a GPU."""
    made = Replay(call, CPU, size, 100)
    made.wanted = True
    return made


def test_a_call_is_recorded_when_it_has_been_made_a_few_times(monkeypatch):
    made, seen = tapes(monkeypatch), []

    def double(numbers):
        seen.append(numbers)
        return numbers * 2

    doubled = replay(double)
    for value in range(WARM + 4):
        assert doubled(torch.full((2,), float(value))).tolist() == [2 * value, 2 * value]
    assert len(seen) == WARM + 1
    assert made[0].replays == 4
    assert doubled.described() is True


def test_a_result_stays_what_it_was_when_the_next_is_there(monkeypatch):
    tapes(monkeypatch)
    doubled = replay(lambda numbers: numbers * 2)
    results = [doubled(torch.full((2,), float(value))) for value in range(8)]
    assert [result[0].item() for result in results] == [2 * value for value in range(8)]


def test_a_batch_of_another_size_is_computed_as_it_is(monkeypatch):
    made = tapes(monkeypatch)
    doubled = replay(lambda numbers: numbers * 2)
    for _ in range(WARM + 1):
        doubled(torch.ones(2))
    assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
    assert made[0].replays == 1


def test_what_reads_a_number_back_is_not_recorded_and_that_is_said(monkeypatch):
    tapes(monkeypatch)
    doubled = replay(lambda numbers: numbers * float(numbers.sum()))
    for _ in range(WARM):
        doubled(torch.ones(2))
    with pytest.warns(RuntimeWarning, match="could not be recorded .operation not permitted"):
        assert doubled(torch.ones(2)).tolist() == [2, 2]
    assert doubled(torch.full((2,), 2.0)).tolist() == [8, 8]
    assert doubled.described() == "operation not permitted when stream is capturing"


def test_on_a_cpu_nothing_is_recorded():
    doubled = Replay(lambda numbers: numbers * 2, CPU, 2, 100)
    assert [doubled(torch.ones(2)).tolist() for _ in range(WARM + 2)] == [[2, 2]] * (WARM + 2)
    assert doubled.described() is False


@pytest.mark.parametrize(("calls", "off", "wanted"), [(100, "", True), (5, "", False), (100, "graphs", False)])
def test_it_is_recorded_where_that_is_worth_it_and_not_switched_off(calls, off, wanted, monkeypatch):
    monkeypatch.setenv("LOTTERY_HUB_WITHOUT", off)
    assert Replay(lambda numbers: numbers, torch.device("cuda"), 2, calls).wanted is wanted
