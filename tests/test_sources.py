"""Sources: every known checkpoint structure loads whole, anything else is refused in one line."""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lottery_hub import sources
from lottery_hub.backbones import ARCHITECTURES, Backbone, Weights, fingerprint, skeleton
from lottery_hub.config import DrawPlan
from lottery_hub.drawing import draw
from lottery_hub.errors import BackboneError, DownloadError, LotteryHubError
from lottery_hub.sources import SOURCES, load_backbone, match, packaged_name, read_checkpoint
from lottery_hub.storage.folder import packaged_names, save_backbone, save_ladder, save_ticket

SLIM = "resnet18-slim"
MEAN, STD = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)


def prefixed(prefix: str, weights: Mapping[str, torch.Tensor]) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def madry(weights: Weights) -> dict[str, Any]:
    """What the robustness library saves: the network twice, and normalisation constants, under "model"."""
    model = {
        "module.normalizer.new_mean": MEAN,
        "module.normalizer.new_std": STD,
        **prefixed("module.model.", weights),
        "module.attacker.normalize.new_mean": MEAN,
        "module.attacker.normalize.new_std": STD,
        # Other values: the copy must not be what is read.
        **prefixed("module.attacker.model.", {name: tensor + 1 for name, tensor in weights.items()}),
    }
    return {"model": model, "optimizer": {"state": {}}, "schedule": None, "epoch": 90, "amp": None}


def wong(weights: Weights) -> dict[str, Any]:
    return {"epoch": 15, "arch": "resnet50", "state_dict": prefixed("module.", weights), "best_prec1": 55.0}


def assert_same(got: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert fingerprint(got) == fingerprint(wanted)


# Structures


@pytest.mark.parametrize("wrap", [madry, wong, dict, lambda weights: {"state_dict": weights}])
@pytest.mark.parametrize("name", ["w.ckpt", "w.pth.tar", "w.pt"])
def test_the_network_is_read_out_of_every_known_structure(
    tmp_path: Path, backbone: Backbone, wrap: Any, name: str
) -> None:
    torch.save(wrap(backbone.weights), tmp_path / name)
    assert_same(read_checkpoint(tmp_path / name), backbone.weights)


def test_a_safetensors_file_is_read_as_it_is(tmp_path: Path, backbone: Backbone) -> None:
    safetensors.torch.save_file(backbone.weights, tmp_path / "w.safetensors")
    assert_same(read_checkpoint(tmp_path / "w.safetensors"), backbone.weights)


@pytest.mark.parametrize("stranger", ["xmodule.model.conv1.weight", "model.conv1.weight", "module.conv1.weight"])
def test_a_key_beside_the_prefix_is_an_error_and_is_not_sliced(
    tmp_path: Path, backbone: Backbone, stranger: str
) -> None:
    state = madry(backbone.weights)
    state["model"][stranger] = backbone.weights["conv1.weight"]
    torch.save(state, tmp_path / "w.ckpt")
    with pytest.raises(BackboneError, match=rf"1 keys outside the network, e\.g\. {re.escape(stranger)}"):
        read_checkpoint(tmp_path / "w.ckpt")


def test_a_prefix_inside_a_key_is_no_prefix(tmp_path: Path, backbone: Backbone) -> None:
    torch.save(prefixed("xmodule.model.", backbone.weights), tmp_path / "w.pth")
    state = read_checkpoint(tmp_path / "w.pth")
    assert all(name.startswith("xmodule.model.") for name in state)
    with pytest.raises(BackboneError, match=r"107 missing .* 128 unexpected \(xmodule\.model\.conv1\.weight"):
        match(state, SLIM)


def test_a_prefix_on_some_keys_only_is_left_for_the_key_check(tmp_path: Path, backbone: Backbone) -> None:
    state = dict(backbone.weights)
    state["module.conv1.weight"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"1 missing \(conv1\.weight\); 1 unexpected \(module\.conv1\.weight\)"):
        match(read_checkpoint(tmp_path / "w.pth"), SLIM)


# Matching


def test_a_matched_state_is_float32_in_the_networks_own_order(backbone: Backbone) -> None:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in reversed(backbone.weights.items())}
    weights = match(halves, SLIM)
    assert list(weights) == list(skeleton(SLIM, 5).state_dict())
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32", "torch.int64"}
    assert torch.equal(weights["conv1.weight"], backbone.weights["conv1.weight"].half().float())


def test_a_checkpoint_from_before_batch_counters_gets_zeros_for_them(backbone: Backbone) -> None:
    old = {name: t for name, t in backbone.weights.items() if not name.endswith("num_batches_tracked")}
    assert_same(match(old, SLIM), backbone.weights)


@pytest.mark.parametrize("name", ["fc.bias", "layer4.1.bn2.running_var", "conv1.weight"])
def test_a_missing_key_is_an_error(backbone: Backbone, name: str) -> None:
    state = {key: tensor for key, tensor in backbone.weights.items() if key != name}
    with pytest.raises(BackboneError, match=rf"1 missing \({re.escape(name)}\)"):
        match(state, SLIM)


def test_weights_of_another_architecture_are_refused(backbone: Backbone) -> None:
    with pytest.raises(BackboneError, match="check --arch"):
        match(backbone.weights, "resnet18")
    with pytest.raises(BackboneError, match=r"missing .*conv3.* check --arch"):
        match(backbone.weights, "resnet50")


def test_a_head_that_is_no_matrix_is_refused(backbone: Backbone) -> None:
    with pytest.raises(BackboneError, match=r"fc\.weight has shape \(\)"):
        match(backbone.weights | {"fc.weight": torch.zeros(())}, SLIM)


# Files that are refused


class NeedsCode:
    """An object whose pickle names this class."""


def test_a_pickle_that_needs_code_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save({"model": NeedsCode()}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"needs code to be run to be opened, which is refused; .*\.safetensors"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("kept", [0, 1, 10, 1000, 100_000])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, backbone: Backbone, kind: str, kept: int) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(backbone.weights, path)
    else:
        torch.save(backbone.weights, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BackboneError, match=r"w\.(pth|safetensors)"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_raise_nothing_but_our_own_error(tmp_path: Path) -> None:
    dice = random.Random(0)
    path, buffer = tmp_path / "w.pth", io.BytesIO()
    torch.save({f"layer.{i}": torch.zeros(2) for i in range(4)}, buffer, _use_new_zipfile_serialization=False)
    for _ in range(400):
        content = bytearray(buffer.getvalue())
        content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        try:
            state = read_checkpoint(path)
        except BackboneError:
            continue
        assert all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        {"weights": 3},
        {0: torch.zeros(1)},
        {"model": {}},
        {"a": torch.zeros(1), "epoch": 3},
        {"a": torch.zeros(3).to_sparse()},
    ],
    ids=["empty", "list", "number", "unnamed", "empty-model", "not-only-tensors", "sparse"],
)
def test_content_that_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"w\.pth holds no state dict of dense tensors"):
        read_checkpoint(tmp_path / "w.pth")


# References


def test_kind_and_path_make_a_backbone_with_timms_normalisation(tmp_path: Path, backbone: Backbone) -> None:
    torch.save(madry(backbone.weights), tmp_path / "robust.ckpt")
    loaded = load_backbone(f"adv:{tmp_path}/robust.ckpt", SLIM)
    assert (loaded.arch, loaded.kind, loaded.num_classes) == (SLIM, "adv", 5)
    assert_same(loaded.weights, backbone.weights)
    assert loaded.mean == pytest.approx((0.485, 0.456, 0.406))
    assert loaded.provenance["source"] == "local file robust.ckpt"
    assert loaded.provenance["sha256"].startswith("sha256:")


def test_a_backbone_folder_is_its_own_reference(tmp_path: Path, backbone: Backbone) -> None:
    folder = save_backbone(backbone, tmp_path / "net")
    for ref in (str(folder), f"adv:{folder}"):
        assert_same(load_backbone(ref).weights, backbone.weights)


def test_a_ladder_folder_is_a_backbone_folder(tmp_path: Path, backbone: Backbone) -> None:
    folder = save_ladder(draw(backbone, DrawPlan(method="omp", rounds=2)), tmp_path / "ladder")
    assert_same(load_backbone(str(folder), SLIM).weights, backbone.weights)


def test_a_ticket_folder_is_no_backbone(tmp_path: Path, backbone: Backbone) -> None:
    folder = save_ticket(draw(backbone, DrawPlan(method="omp", rounds=1)).ticket(1), tmp_path / "ticket")
    with pytest.raises(BackboneError, match="holds a ticket, whose pruned weights are gone"):
        load_backbone(str(folder))


def test_a_folder_of_another_architecture_or_kind_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    folder = save_backbone(backbone, tmp_path / "net")
    with pytest.raises(BackboneError, match="holds a resnet18-slim; add --arch resnet18-slim"):
        load_backbone(str(folder), "resnet50")
    with pytest.raises(BackboneError, match="was pre-trained as adv, not std"):
        load_backbone(f"std:{folder}")


@pytest.mark.parametrize(
    "ref", ["", "adversarial", "adv:", "imagenet:w.ckpt", "w.ckpt", "adv\x1b[31m", "a" * 5000, "no/such/folder", "a\0b"]
)
def test_a_reference_without_a_kind_is_refused_with_the_choices(ref: str) -> None:
    with pytest.raises(BackboneError, match=r"unknown backbone .*: give std, fast-adv or adv, .*e\.g\. adv:") as caught:
        load_backbone(ref)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["absent.ckpt", "/no/such/weights.pth", "a/b/c", "b" * 5000])
def test_a_checkpoint_that_is_not_there_is_refused(place: str) -> None:
    with pytest.raises(BackboneError, match=r"no checkpoint at .*: give a file, a backbone folder or a Hub id"):
        load_backbone(f"adv:{place}", SLIM)


def test_an_unknown_kind_for_an_architecture_says_how_to_make_one() -> None:
    with pytest.raises(BackboneError) as caught:
        load_backbone("fast-adv", "resnet50")
    assert str(caught.value) == (
        "no fast-adv weights are known for resnet50 (known: none); "
        "make some with `lottery-hub pretrain --recipe fast-adv --arch resnet50`, or give fast-adv:CHECKPOINT"
    )
    with pytest.raises(BackboneError, match=r"no adv weights are known for resnet34 \(known: resnet18, resnet50\)"):
        load_backbone("adv", "resnet34")


def test_an_unknown_architecture_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BackboneError, match="unknown architecture 'vit'"):
        load_backbone("adv:absent.ckpt", "vit")


@pytest.mark.parametrize(("ref", "arch"), [("std", "resnet18"), ("adv", "resnet50"), ("std:someone/net", SLIM)])
def test_the_offline_hub_gives_one_line(ref: str, arch: str) -> None:
    with pytest.raises(DownloadError, match="is not in the local cache and HF_HUB_OFFLINE is set") as caught:
        load_backbone(ref, arch)
    assert "\n" not in str(caught.value)


def test_a_download_becomes_a_backbone_with_its_commit(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(madry(backbone.weights), tmp_path / "w.ckpt")
    row = sources.Source(SLIM, "fast-adv", "lab/nets", "w.ckpt", "mit", 0.5, "abc")
    asked = []

    def fetch_file(repo: str, file: str, *, sha256: str | None = None) -> tuple[Path, str]:
        asked.append((repo, file, sha256))
        return tmp_path / file, "c0ffee"

    monkeypatch.setattr(sources, "SOURCES", (row,))
    monkeypatch.setattr(sources.downloads, "fetch_file", fetch_file)
    monkeypatch.setattr(sources, "packaged_folder", lambda name: None)
    loaded = load_backbone("fast-adv", SLIM)
    assert asked == [("lab/nets", "w.ckpt", "abc")]
    assert_same(loaded.weights, backbone.weights)
    assert loaded.kind == "fast-adv"
    assert {"source": "lab/nets/w.ckpt", "revision": "c0ffee", "license": "mit", "SA": 0.5}.items() <= (
        loaded.provenance.items()
    )


# The table


def test_every_row_names_a_known_architecture_once_a_kind() -> None:
    assert all(row.arch in ARCHITECTURES for row in SOURCES)
    assert set(Counter((row.arch, row.kind) for row in SOURCES).values()) == {1}


def test_every_row_says_where_under_which_licence_and_robust_ones_what_exactly() -> None:
    for row in SOURCES:
        assert re.fullmatch(r"[\w-]+/[\w.-]+", row.repo)
        assert row.license in ("apache-2.0", "bsd-3-clause", "mit")
        assert row.accuracy is None or 0.4 < row.accuracy < 0.9
        if row.kind != "std":
            assert row.sha256 is not None
            assert re.fullmatch("[0-9a-f]{64}", row.sha256)


def test_timm_knows_the_tag_of_every_standard_row() -> None:
    from timm.models import get_pretrained_cfg

    for row in SOURCES:
        if row.kind == "std":
            assert get_pretrained_cfg(row.repo.removeprefix("timm/")) is not None, row.repo


@pytest.mark.parametrize("kind", ["std", "fast-adv", "adv"])
def test_the_packaged_slim_backbones_need_no_network(kind: str) -> None:
    if packaged_name(SLIM, kind) not in packaged_names():
        pytest.skip(f"no {kind} backbone is packaged yet")
    loaded = load_backbone(kind)
    assert (loaded.arch, loaded.kind) == (SLIM, kind)
    assert isinstance(loaded.provenance["SA"], float)


def test_every_error_here_is_one_the_command_line_prints() -> None:
    assert issubclass(BackboneError, LotteryHubError)
    assert issubclass(DownloadError, LotteryHubError)
