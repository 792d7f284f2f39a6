"""Importing: what torch.nn.utils.prune leaves becomes a ticket that computes the same, and says where it is from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import lottery_hub
from lottery_hub import cli
from lottery_hub.errors import BackboneError, TicketError
from lottery_hub.networks.backbones import Backbone, build_network, fingerprint, fresh_weights
from lottery_hub.sharing.importing import import_ticket
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import load_ticket
from lottery_hub.storage.records import check_ticket

SLIM = "resnet18-slim"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> State:
    return fresh_weights(SLIM, 5, seed=0)


@pytest.fixture(scope="module")
def pruned(weights: State) -> nn.Module:
    """Half of all convolution weights pruned away by magnitude, through torch's hooks."""
    network = build_network(SLIM, weights).eval()
    layers = [(module, "weight") for module in network.modules() if isinstance(module, nn.Conv2d)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.5)
    return network


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))  # type: ignore[no-any-return]


def masks_of(state: Mapping[str, Tensor]) -> State:
    return {name: tensor for name, tensor in state.items() if name.endswith("_mask")}


@pytest.mark.parametrize("ending", ["pth.tar", "safetensors"])
def test_a_pruned_network_becomes_a_ticket_that_computes_the_same(
    tmp_path: Path, pruned: nn.Module, ending: str
) -> None:
    state = {f"module.{name}": tensor for name, tensor in pruned.state_dict().items()}
    path = tmp_path / f"model.{ending}"
    if ending == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    ticket = lottery_hub.import_ticket(path, SLIM, "adv")
    assert torch.equal(logits(ticket.to_model()), logits(pruned))
    kept, total = ticket.kept_and_total
    assert (kept, total) == (total // 2, sum(m.weight.numel() for m in pruned.modules() if isinstance(m, nn.Conv2d)))
    assert (ticket.arch, ticket.kind, ticket.level) == (SLIM, "adv", 3)  # 1-0.8^3 is 0.488, 1-0.8^4 is 0.590
    for name, mask in ticket.mask.items():
        assert torch.equal(mask, pruned.state_dict()[f"{name}_mask"].bool())
    check_ticket(ticket)


def test_an_imported_ticket_says_what_it_is_made_of_and_what_is_not_known(tmp_path: Path, pruned: nn.Module) -> None:
    torch.save({"state_dict": pruned.state_dict()}, tmp_path / "2checkpoint.pth.tar")
    ticket = import_ticket(tmp_path / "2checkpoint.pth.tar", SLIM, "std")
    assert ticket.provenance["backbone"]["layout"] == "state_dict"
    assert ticket.provenance["backbone"]["source"] == "local file 2checkpoint.pth.tar"
    assert ticket.provenance["imported"].startswith("the masks and weights of 2checkpoint.pth.tar; how it was drawn is")
    assert ticket.provenance["drawing"] == {}
    assert ticket.records == {}


def as_hooks_name_them(masks: State) -> Any:
    return masks


def as_weights_are_named(masks: State) -> Any:
    return {name.removesuffix("_mask"): mask.bool() for name, mask in masks.items()}


def in_a_wrapper_of_bytes(masks: State) -> Any:
    return {"state_dict": {f"module.{name}": mask.to(torch.uint8) for name, mask in masks.items()}}


@pytest.mark.parametrize("kind", [as_hooks_name_them, as_weights_are_named, in_a_wrapper_of_bytes])
def test_masks_of_one_file_cut_the_weights_of_another(
    tmp_path: Path, weights: State, pruned: nn.Module, kind: Callable[[State], Any]
) -> None:
    torch.save(weights, tmp_path / "pretrained.pth")
    torch.save(kind(masks_of(pruned.state_dict())), tmp_path / "mask.pth")
    ticket = import_ticket(tmp_path / "pretrained.pth", SLIM, masks=str(tmp_path / "mask.pth"))
    assert torch.equal(logits(ticket.to_model()), logits(pruned))
    dense = load_backbone(f"std:{tmp_path}/pretrained.pth", SLIM)
    assert ticket.provenance["backbone"]["fingerprint"] == dense.fingerprint()
    assert "the weights of pretrained.pth, the masks of mask.pth, sha256:" in ticket.provenance["imported"]


def test_a_whole_pruned_checkpoint_can_lend_its_masks_to_the_weights_before(tmp_path: Path, pruned: nn.Module) -> None:
    """The rewind weights are in one file, and what was trained from them, with its masks, in another."""
    before = fresh_weights(SLIM, 5, seed=1)
    torch.save(before, tmp_path / "pretrained.pth")
    torch.save(pruned.state_dict(), tmp_path / "trained.pth")
    ticket = import_ticket(tmp_path / "pretrained.pth", SLIM, masks=tmp_path / "trained.pth")
    mask = pruned.state_dict()["conv1.weight_mask"]
    assert torch.equal(ticket.weights["conv1.weight"], before["conv1.weight"] * mask)
    assert torch.equal(ticket.weights["fc.weight"], before["fc.weight"])


def test_a_layer_without_a_mask_is_kept_whole_and_a_masked_head_keeps_its_zeros(tmp_path: Path, weights: State) -> None:
    network = build_network(SLIM, weights).eval()
    prune.l1_unstructured(network.get_submodule("layer1.0.conv1"), "weight", amount=0.25)
    prune.l1_unstructured(network.get_submodule("fc"), "weight", amount=0.5)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    ticket = import_ticket(tmp_path / "w.pth", SLIM)
    assert torch.equal(logits(ticket.to_model()), logits(network))
    kept, total = ticket.kept_and_total
    assert total - kept == weights["layer1.0.conv1.weight"].numel() // 4
    assert int((ticket.weights["fc.weight"] == 0).sum()) == weights["fc.weight"].numel() // 2
    assert "1 tensors that are not prunable here were pruned too, e.g. fc.weight" in ticket.provenance["imported"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: {n: t for n, t in s.items() if not n.endswith("_orig")}, r"21 missing \(conv1.weight"),
        (masks_of, "holds masks alone; import the file of the weights"),
        (
            lambda s: s | {"conv1.weight_mask": s["conv1.weight_mask"] * 0.5},
            "mask of conv1.weight holds something else",
        ),
        (lambda s: s | {"conv1.weight_mask": s["conv1.weight_mask"] * float("nan")}, "holds something else than 0 and"),
        (
            lambda s: s | {"conv1.weight_mask": torch.ones(3)},
            r"has shape \(3,\), the weight \(64, 3, 7, 7\)",
        ),
        (lambda s: s | {"conv1.weight_mask": torch.ones(1).expand(10**14)}, "has shape .100000000000000,., the weight"),
        (
            lambda s: s | {"conv1.weight_orig": torch.zeros(1).expand(s["conv1.weight_mask"].shape)},
            "stores fewer values",
        ),
        (lambda s: s | {"conv9.weight_mask": torch.ones(3)}, "mask of conv9.weight is of no tensor of resnet18-slim"),
        (lambda s: s | {"conv1.weight": s["conv1.weight_orig"]}, "has both conv1.weight and conv1.weight_orig"),
        (lambda s: s | {n: torch.ones_like(t) for n, t in masks_of(s).items()}, "masks of .* prune nothing of the"),
        (lambda s: s | {n: torch.zeros_like(t) for n, t in masks_of(s).items()}, "masks of .* keep nothing of the"),
        (lambda s: s | {"conv1.weight_orig": s["conv1.weight_orig"] * float("inf")}, "holds NaN or infinite values"),
    ],
    ids=[
        *("no weights", "masks alone", "a half", "NaN", "another shape", "petabytes of a mask", "a stride of 0"),
        *("a mask of nothing", "twice", "dense", "empty", "infinite"),
    ],
)
def test_a_pruned_network_that_is_none_is_one_line(
    tmp_path: Path, pruned: nn.Module, spoil: Callable[[State], State], reason: str
) -> None:
    torch.save(spoil(dict(pruned.state_dict())), tmp_path / "w.pth")
    with pytest.raises((TicketError, BackboneError), match=reason) as caught:
        import_ticket(tmp_path / "w.pth", SLIM)
    assert str(caught.value).isprintable()
    assert "w.pth" in str(caught.value)


def test_weights_without_masks_are_no_ticket(tmp_path: Path, weights: State, pruned: nn.Module) -> None:
    torch.save(weights, tmp_path / "dense.pth")
    torch.save(pruned.state_dict(), tmp_path / "pruned.pth")
    with pytest.raises(
        TicketError, match=r"dense.pth has no masks \(keys that end in weight_mask\); give some with --m"
    ):
        import_ticket(tmp_path / "dense.pth", SLIM)
    with pytest.raises(TicketError, match=r"dense.pth: the mask of conv1.weight holds something else than 0 and 1"):
        import_ticket(tmp_path / "dense.pth", SLIM, masks=tmp_path / "dense.pth")
    with pytest.raises(TicketError, match=r"pruned.pth has masks of its own; leave the other file of masks out"):
        import_ticket(tmp_path / "pruned.pth", SLIM, masks=tmp_path / "pruned.pth")
    with pytest.raises(BackboneError, match=r"no checkpoint at .*absent.pth: give a file"):
        import_ticket(tmp_path / "absent.pth", SLIM)
    with pytest.raises(BackboneError, match="unknown architecture 'vit'"):
        import_ticket(tmp_path / "pruned.pth", "vit")
    with pytest.raises(BackboneError, match="'magic' is no pre-training: give std, fast-adv or adv"):
        import_ticket(tmp_path / "pruned.pth", SLIM, "magic")  # type: ignore[arg-type]


def test_a_pruned_network_as_a_backbone_says_how_to_import_it(tmp_path: Path, pruned: nn.Module) -> None:
    torch.save({"state_dict": pruned.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(
        BackboneError, match=r"w.pth holds masks of a pruned network; make a ticket of it: lottery-hub im"
    ):
        load_backbone(f"adv:{tmp_path}/w.pth", SLIM)


# The command


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def called(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return called


def test_the_command_writes_a_folder_with_a_card_that_claims_nothing(
    call: Any, tmp_path: Path, pruned: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": pruned.state_dict()}, "best.pth.tar")
    code, out, err = call("import", "best.pth.tar", "--arch", SLIM)
    assert (code, out.splitlines()) == (
        0,
        ["resnet18-slim (std), 50.00 % sparsity, nearest to level 3", "ticket: tickets/resnet18-slim-std-best"],
    )
    assert "note: local file best.pth.tar: read as state_dict\n" in err
    assert "; that its backbone was pre-trained by standard training is assumed;" in err
    place = tmp_path / "tickets/resnet18-slim-std-best"
    assert torch.equal(logits(load_ticket(place).to_model()), logits(pruned))
    card = (place / "README.md").read_text(encoding="utf-8")
    assert "Imported: the masks and weights of best" in card
    assert "Not judged" in card
    assert "iterative magnitude" not in card
    assert "pre-trained weights" not in card
    code, out, err = call("show", place)
    assert (code, "level 3 (imported): 50.00 % sparsity" in out, err) == (0, True, "")
    code, out, err = call("import", "best.pth.tar", "--pretrain", "adv", "--output", tmp_path / "out", "--json")
    told = json.loads(out)
    assert (code, told["sparsity"], told["level"], told["ticket"]) == (0, 0.5, 3, str(tmp_path / "out"))
    assert "assumed" not in err


def test_an_error_of_the_command_is_one_line_and_leaves_nothing(call: Any, tmp_path: Path, weights: State) -> None:
    torch.save(weights, tmp_path / "dense.pth")
    code, out, err = call("import", tmp_path / "dense.pth", "--output", tmp_path / "out")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert not (tmp_path / "out").exists()


def test_the_average_that_was_taken_is_said_where_a_backbone_is_used(
    call: Any, tmp_path: Path, backbone: Backbone
) -> None:
    path = tmp_path / "w.pth.tar"
    torch.save({"state_dict": fresh_weights(SLIM, 5, seed=9), "state_dict_ema": backbone.weights}, path)
    arguments = ["--pretrain", f"adv:{path}", "--method", "omp", "--rounds", "1", "--output", tmp_path / "out"]
    code, _, err = call("draw", *arguments)
    assert code == 0
    assert "note: local file w.pth.tar: read as state_dict_ema (the average, not state_dict)\n" in err
    drawn = load_backbone(str(tmp_path / "out" / "ladder"))
    assert fingerprint(drawn.weights) == fingerprint(backbone.weights)
    assert drawn.provenance["layout"] == "state_dict_ema (the average, not state_dict)"
