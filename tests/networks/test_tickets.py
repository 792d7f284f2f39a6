"""Ladders and tickets in memory: nested masks with exact counts, and plain timm models built from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from lottery_hub.errors import TicketError
from lottery_hub.networks.backbones import ARCHITECTURES, Backbone, Normalised, fingerprint, with_fresh_head
from lottery_hub.networks.masks import is_nested, kept_and_total
from lottery_hub.networks.tickets import Ladder, Ticket, is_known_arch, ticket_of
from lottery_hub.storage.folder import load_ticket, save_ticket

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ticket(ladder: Ladder) -> Ticket:
    return ladder.ticket(4)


def tiny_ladder(backbone: Backbone) -> Ladder:
    """Ten weights over two tensors: 4 die in round 1, 3 in round 2, 3 survive both."""
    survived = {
        "a": torch.tensor([[0, 1, 2], [2, 0, 1]], dtype=torch.uint8),
        "b": torch.tensor([0, 2, 1, 0], dtype=torch.uint8),
    }
    return Ladder(backbone, survived, levels=2, method="imp")


# Ladders


def test_a_level_keeps_what_survived_as_many_rounds(backbone: Backbone) -> None:
    tiny = tiny_ladder(backbone)
    assert {name: mask.int().tolist() for name, mask in tiny.mask(0).items()} == {
        "a": [[1, 1, 1], [1, 1, 1]],
        "b": [1, 1, 1, 1],
    }
    assert {name: mask.int().tolist() for name, mask in tiny.mask(1).items()} == {
        "a": [[0, 1, 1], [1, 0, 1]],
        "b": [0, 1, 1, 0],
    }
    assert {name: mask.int().tolist() for name, mask in tiny.mask(2).items()} == {
        "a": [[0, 0, 1], [1, 0, 0]],
        "b": [0, 1, 0, 0],
    }


def test_sparsities_are_counted_from_level_0_on(backbone: Backbone) -> None:
    assert tiny_ladder(backbone).sparsities == (0.0, 0.4, 0.7)


def test_sparsities_are_those_of_the_masks(ladder: Ladder) -> None:
    for level in range(7):
        kept, total = kept_and_total(ladder.mask(level))
        assert ladder.sparsities[level] == 1 - kept / total
        assert ladder.ticket(level).kept_and_total == (kept, total)
        assert ladder.ticket(level).sparsity == ladder.sparsities[level]


def test_masks_are_nested(ladder: Ladder) -> None:
    for level in range(6):
        assert is_nested(ladder.mask(level + 1), ladder.mask(level))
        assert not is_nested(ladder.mask(level), ladder.mask(level + 1))


@pytest.mark.parametrize("level", [-1, 7, 64, 1.5])
def test_a_level_beyond_the_ladder_is_an_error(ladder: Ladder, level: Any) -> None:
    with pytest.raises(TicketError, match=f"levels 0 to 6, not {level}"):
        ladder.mask(level)
    with pytest.raises(TicketError, match=f"levels 0 to 6, not {level}"):
        ladder.ticket(level)
    numbered: Any = np.int64(2)
    assert ladder[numbered] == ladder[2]


@pytest.mark.parametrize(
    ("sparsity", "level"),
    [(0.0, 0), (0.19, 0), (0.21, 1), (0.4, 1), (0.54, 1), (0.56, 2), (0.7, 2), (0.7049, 2)],
)
def test_the_nearest_level_is_taken(backbone: Backbone, sparsity: float, level: int) -> None:
    assert tiny_ladder(backbone).level_at(sparsity) == level


def test_a_sparsity_beyond_the_last_level_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(TicketError, match=r"the sparsest level of this ladder is 0\.7000, below 0\.71"):
        tiny_ladder(backbone).level_at(0.71)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 89, float("nan")])
def test_a_sparsity_in_percent_or_out_of_range_is_an_error(ladder: Ladder, sparsity: float) -> None:
    with pytest.raises(TicketError, match=r"a sparsity lies in 0\.\.1.*; 89 % is 0\.89"):
        ladder.level_at(sparsity)


# Tickets


def test_a_ticket_is_theta_pre_under_its_mask(ticket: Ticket, backbone: Backbone) -> None:
    for name, weight in backbone.weights.items():
        wanted = weight * ticket.mask[name] if name in ticket.mask else weight
        assert torch.equal(ticket.weights[name], wanted), name


def test_a_ticket_knows_where_it_comes_from(ticket: Ticket, backbone: Backbone) -> None:
    assert (ticket.arch, ticket.kind, ticket.level, ticket.method) == ("resnet18-slim", "adv", 4, "omp")
    assert ticket.provenance["backbone"]["fingerprint"] == backbone.fingerprint()
    assert ticket.provenance["drawing"]["method"] == "omp"
    assert ticket.masks is ticket.mask


@pytest.mark.parametrize(
    ("records", "verdict", "answer"),
    [
        ({}, None, "not judged"),
        ({"double_win": True}, True, "double win"),
        ({"double_win": False, "answer": "undecided"}, False, "undecided"),
        ({"double_win": 1, "answer": "double win"}, None, "not judged"),
    ],
)
def test_a_verdict_is_what_the_records_say(
    ladder: Ladder, records: dict[str, object], verdict: bool | None, answer: str
) -> None:
    ticket = ladder.ticket(1, records)
    assert (ticket.double_win, ticket.answer) == (verdict, answer)
    assert repr(ticket).endswith(f"; {answer})"), "what cannot be told is no no"


def test_a_fingerprint_tells_a_kept_zero_from_a_pruned_weight(ticket: Ticket) -> None:
    mask = {name: kept.clone() for name, kept in ticket.mask.items()}
    pruned = (~mask["conv1.weight"]).nonzero()[0]
    mask["conv1.weight"][tuple(pruned)] = True
    kept_zero = Ticket(ticket.arch, ticket.kind, ticket.weights, mask, ticket.level, ticket.method)
    assert fingerprint(kept_zero.weights) == fingerprint(ticket.weights)
    assert kept_zero.fingerprint() != ticket.fingerprint()


# Models


def test_a_model_is_a_plain_timm_network_with_timms_keys(ticket: Ticket) -> None:
    model = ticket.to_model()
    assert type(model) is timm.models.resnet.ResNet
    name, arguments = ARCHITECTURES[ticket.arch]
    theirs = timm.create_model(name, pretrained=False, num_classes=5, **arguments)
    theirs.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), theirs.eval()(IMAGES))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_pre_trained_head_stays_unless_classes_are_given(ticket: Ticket) -> None:
    old = ticket.weights["fc.weight"]
    assert torch.equal(ticket.to_model().state_dict()["fc.weight"], old)
    assert torch.equal(ticket.to_model(head="pretrained").state_dict()["fc.weight"], old)
    assert torch.equal(ticket.to_model(5, head="pretrained").state_dict()["fc.weight"], old)


@pytest.mark.parametrize(("classes", "head", "made"), [(3, "auto", 3), (5, "auto", 5), (None, "fresh", 5)])
def test_a_fresh_head_comes_from_the_seed(ticket: Ticket, classes: int | None, head: str, made: int) -> None:
    state = ticket.to_model(classes, head, seed=9).state_dict()  # type: ignore[arg-type]
    wanted = with_fresh_head(ticket.weights, made, 9)
    assert fingerprint(state) == fingerprint(wanted)
    assert fingerprint(ticket.to_model(classes, head, seed=8).state_dict()) != fingerprint(wanted)  # type: ignore[arg-type]


def test_with_a_head_of_its_own_a_network_is_ready_to_be_used_and_with_a_fresh_one_to_be_trained(
    ticket: Ticket,
) -> None:
    for build in (ticket.to_model, ticket.to_normalised):
        used, trained = build(), build(7)
        assert not any(module.training for module in used.modules())
        assert all(module.training for module in trained.modules())


def test_behind_its_normalisation_every_part_of_a_network_keeps_its_mode(ticket: Ticket) -> None:
    network = ticket.to_model(7)
    network.bn1.eval()  # frozen statistics
    model = Normalised(network, ticket.mean, ticket.std)
    assert (model.training, network.training, network.bn1.training) == (True, True, False)


def test_the_pre_trained_head_cannot_have_other_classes(ticket: Ticket) -> None:
    with pytest.raises(TicketError, match="the pre-trained head has 5 classes, not 10; use head='fresh'"):
        ticket.to_model(10, head="pretrained")


def test_a_model_tells_timm_its_normalisation(ladder: Ladder) -> None:
    source = Backbone("resnet18-slim", "std", ladder.backbone.weights, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    config = Ladder(source, ladder.survived, 6, "omp").ticket(1).to_model(7).pretrained_cfg
    assert config["mean"] == (0.1, 0.2, 0.3)
    assert config["std"] == (0.4, 0.5, 0.6)
    assert config["num_classes"] == 7


def test_a_normalised_model_equals_the_plain_one_on_normalised_images(ticket: Ticket) -> None:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (ticket.mean, ticket.std))
    with torch.no_grad():
        assert torch.equal(ticket.to_normalised().eval()(IMAGES), ticket.to_model().eval()((IMAGES - mean) / std))


def test_a_compacted_ticket_lacks_what_its_mask_emptied_and_nothing_else(ladder: Ladder) -> None:
    mask = ladder.mask(4)
    mask["layer2.0.conv1.weight"][[3, 8]] = False  # two of 32 filters of 16 x 3 x 3; 32 filters read what they put out
    ticket = ticket_of(ladder.backbone, mask, 4, "omp", {})
    done = ticket.compact(image_size=16)
    assert done.removed == 2
    assert done.before.parameters - done.after.parameters == 2 * (16 * 9 + 2 + 32 * 9)
    assert done.after.image_size == 16
    assert done.model.get_submodule("layer2.0.conv1").out_channels == 30
    assert torch.equal(done.model.get_parameter("fc.weight"), ticket.weights["fc.weight"])
    assert not done.model.training
    with torch.no_grad():
        torch.testing.assert_close(done.model(IMAGES), ticket.to_model().eval()(IMAGES), rtol=0, atol=1e-5)


def test_changing_a_model_does_not_change_its_ticket(ticket: Ticket) -> None:
    before = ticket.fingerprint()
    for tensor in ticket.to_model().state_dict().values():
        tensor.add_(1)
    assert ticket.fingerprint() == before


def test_a_reloaded_ticket_gives_bit_equal_logits(ticket: Ticket, tmp_path: Path) -> None:
    loaded = load_ticket(save_ticket(ticket, tmp_path / "ticket"))
    with torch.no_grad():
        assert torch.equal(loaded.to_normalised().eval()(IMAGES), ticket.to_normalised().eval()(IMAGES))
    assert loaded.fingerprint() == ticket.fingerprint()


def test_only_listed_architectures_are_known() -> None:
    assert is_known_arch("resnet50")
    assert not is_known_arch("hf-hub:someone/net")
