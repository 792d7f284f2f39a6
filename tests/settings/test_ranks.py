"""One process among several."""

from __future__ import annotations

import pytest
import torch

from lottery_hub.errors import ConfigError
from lottery_hub.settings import environment
from lottery_hub.settings.ranks import ALONE, STARTED, Ranks, started, together


@pytest.mark.parametrize(("images", "parts"), [(8, [4, 4]), (7, [4, 3]), (3, [3, 0]), (1, [1, 0])])
def test_a_batch_too_small_for_all_is_the_firsts(images, parts):
    assert [len(Ranks(rank, 2).part(torch.zeros(images))) for rank in range(2)] == parts
    assert len(Ranks().part(torch.zeros(images))) == images


def test_pieces_are_dealt_out_in_turn():
    assert [[piece for piece in range(5) if Ranks(rank, 2).mine(piece)] for rank in range(2)] == [[0, 2, 4], [1, 3]]


def test_alone_there_is_nobody_to_tell():
    def never(*_):
        raise AssertionError

    with together(never, "given") as ranks:
        assert ranks == ALONE
    tensor = torch.ones(2)
    ranks.add_up([tensor])
    assert tensor.tolist() == [1, 1]
    assert ranks.same("value") == "value"


@pytest.mark.parametrize(
    ("about", "several"),
    [({"WORLD_SIZE": "2"}, True), ({"WORLD_SIZE": "1"}, False), ({"WORLD_SIZE": "many"}, False), ({"RANK": ""}, False)],
)
def test_several_are_there_where_torchrun_says_so(about, several, monkeypatch):
    for name in STARTED:
        monkeypatch.setenv(name, (dict.fromkeys(STARTED, "2") | about)[name])
    assert started() is several


def test_each_of_several_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: Ranks(1, 3)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert environment.choose_device("auto") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="give --device cuda, and torchrun --nproc-per-node 2"):
        environment.choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="there are 2"):
        environment.choose_device("cuda")
