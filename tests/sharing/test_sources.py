"""Sources: every known checkpoint structure loads whole, anything else is refused in one line."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dill
import pytest
import safetensors.torch
import torch

from lottery_hub.errors import BackboneError, ConfigError, DownloadError, LotteryHubError
from lottery_hub.networks.backbones import ARCHITECTURES, Backbone, Weights, fingerprint, skeleton
from lottery_hub.networks.published import SOURCES, Source, threat
from lottery_hub.settings.config import DrawPlan
from lottery_hub.sharing import sources
from lottery_hub.sharing.checkpoint_layouts import read_checkpoint
from lottery_hub.sharing.sources import load_backbone, match, packaged_backbones, packaged_name
from lottery_hub.storage.folder import packaged_names, save_backbone, save_ladder, save_ticket
from lottery_hub.training.drawing import draw

SLIM = "resnet18-slim"
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def prefixed(prefix: str, weights: Mapping[str, torch.Tensor]) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def optimizer_state(weights: Weights) -> dict[str, Any]:
    """Momentum under the parameters' numbers, and settings, as SGD's state dict has them."""
    momentum = {number: {"momentum_buffer": tensor} for number, tensor in enumerate(weights.values())}
    return {"state": momentum, "param_groups": [{"lr": 0.1, "momentum": 0.9, "params": list(momentum)}]}


def madry(weights: Weights, mean: torch.Tensor = IMAGENET_MEAN, std: torch.Tensor = IMAGENET_STD) -> dict[str, Any]:
    """What the robustness library saves: the network twice, and normalisation constants, under "model"."""
    model = {
        "module.normalizer.new_mean": mean,
        "module.normalizer.new_std": std,
        **prefixed("module.model.", weights),
        "module.attacker.normalize.new_mean": mean,
        "module.attacker.normalize.new_std": std,
        # Other values: the copy must not be what is read.
        **prefixed("module.attacker.model.", {name: tensor + 1 for name, tensor in weights.items()}),
    }
    schedule = {"step_size": 30, "gamma": 0.1, "last_epoch": 90}
    return {"model": model, "optimizer": optimizer_state(weights), "schedule": schedule, "epoch": 90, "amp": None}


def wong(weights: Weights) -> dict[str, Any]:
    """What the fast adversarial training of Wong et al. saves for ImageNet."""
    return {
        "epoch": 15,
        "arch": "resnet50",
        "state_dict": prefixed("module.", weights),
        "best_prec1": torch.tensor(55.4),
        "optimizer": optimizer_state(weights),
    }


def assert_same(got: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert fingerprint(got) == fingerprint(wanted)


# Structures


@pytest.mark.parametrize("wrap", [madry, wong, dict, lambda weights: {"state_dict": weights}])
@pytest.mark.parametrize("name", ["w.ckpt", "w.pth.tar", "w.pt"])
def test_the_network_is_read_out_of_every_known_structure(
    tmp_path: Path, backbone: Backbone, wrap: Any, name: str
) -> None:
    torch.save(wrap(backbone.weights), tmp_path / name)
    assert_same(read_checkpoint(tmp_path / name).state, backbone.weights)


def test_a_checkpoint_that_was_pickled_by_dill_is_read(tmp_path: Path, backbone: Backbone) -> None:
    torch.save(madry(backbone.weights), tmp_path / "w.ckpt", pickle_module=dill)
    assert_same(read_checkpoint(tmp_path / "w.ckpt").state, backbone.weights)


def test_a_safetensors_file_is_read_as_it_is(tmp_path: Path, backbone: Backbone) -> None:
    safetensors.torch.save_file(backbone.weights, tmp_path / "w.safetensors")
    assert_same(read_checkpoint(tmp_path / "w.safetensors").state, backbone.weights)


@pytest.mark.parametrize("stranger", ["xmodule.model.conv1.weight", "model.conv1.weight", "module.conv1.weight"])
def test_a_key_beside_the_prefix_is_an_error_and_is_not_sliced(
    tmp_path: Path, backbone: Backbone, stranger: str
) -> None:
    state = madry(backbone.weights)
    state["model"][stranger] = backbone.weights["conv1.weight"]
    torch.save(state, tmp_path / "w.ckpt")
    with pytest.raises(
        BackboneError, match=rf"1 keys outside the network under module\.model\., e\.g\. {re.escape(stranger)}"
    ):
        read_checkpoint(tmp_path / "w.ckpt")


def test_a_prefix_inside_a_key_is_no_prefix(tmp_path: Path, backbone: Backbone) -> None:
    saved = {name.replace("layer1.", "layer1.module.model."): tensor for name, tensor in backbone.weights.items()}
    torch.save(saved, tmp_path / "w.pth")
    state = read_checkpoint(tmp_path / "w.pth").state
    assert list(state) == list(saved)
    with pytest.raises(BackboneError, match=r"unexpected \(layer1\.module\.model\.0\.conv1\.weight"):
        match(state, SLIM)


def test_a_prefix_on_some_keys_only_is_left_for_the_key_check(tmp_path: Path, backbone: Backbone) -> None:
    state = dict(backbone.weights)
    state["module.conv1.weight"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"1 missing \(conv1\.weight\); 1 unexpected \(module\.conv1\.weight\)"):
        match(read_checkpoint(tmp_path / "w.pth").state, SLIM)


# Normalisation


def test_the_normalisation_beside_a_network_is_its_own(tmp_path: Path, backbone: Backbone) -> None:
    mean, std = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.3, 0.2, 0.1])
    torch.save(madry(backbone.weights, mean, std), tmp_path / "w.ckpt")
    loaded = load_backbone(f"adv:{tmp_path}/w.ckpt", SLIM)
    assert (loaded.mean, loaded.std) == ((0.5, 0.25, 0.125), (0.3, 0.2, 0.1))  # not 0.30000001192092896


def test_a_file_that_states_no_normalisation_gets_timms(tmp_path: Path, backbone: Backbone) -> None:
    torch.save(wong(backbone.weights), tmp_path / "w.pth.tar")
    loaded = load_backbone(f"fast-adv:{tmp_path}/w.pth.tar", SLIM)
    assert (loaded.mean, loaded.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (torch.zeros(1), torch.ones(3)),
        (torch.zeros(3), torch.ones(4)),
        (torch.zeros(3), torch.tensor([1.0, 0.0, 1.0])),
        (torch.zeros(3), torch.tensor([1.0, torch.nan, 1.0])),
        (torch.tensor([0.0, torch.inf, 0.0]), torch.ones(3)),
        (torch.zeros(3), torch.full((3,), 1e-38)),
        (torch.full((3,), 123.7), torch.full((3,), 58.4)),
        (torch.zeros(1).expand(2**50), torch.ones(3)),
        (torch.zeros(3, dtype=torch.complex64), torch.ones(3)),
    ],
    ids=[
        *("one mean", "four stds", "zero std", "NaN std", "infinite mean"),
        *("std too small", "of 0..255 pixels", "petabytes", "complex"),
    ],
)
def test_a_normalisation_that_is_none_is_refused(
    tmp_path: Path, backbone: Backbone, mean: torch.Tensor, std: torch.Tensor
) -> None:
    torch.save(madry(backbone.weights, mean, std), tmp_path / "w.ckpt")
    with pytest.raises(BackboneError, match="the checkpoint's normalizer"):
        read_checkpoint(tmp_path / "w.ckpt")


def test_half_a_normalisation_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved = madry(backbone.weights)
    del saved["model"]["module.normalizer.new_std"]
    torch.save(saved, tmp_path / "w.ckpt")
    with pytest.raises(BackboneError, match="normalizer is no mean and std of three channels"):
        read_checkpoint(tmp_path / "w.ckpt")


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


# What no folder of weights may hold either: refused before any work


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("layer1.0.bn1.running_var", torch.full((16,), -0.5), "holds a negative variance"),
        ("layer1.0.bn1.num_batches_tracked", torch.tensor(-1), "holds a negative count of batches"),
        ("layer1.0.bn1.num_batches_tracked", torch.tensor(0.5), r"is torch\.float32, which is none of int64"),
        ("layer1.0.bn1.num_batches_tracked", torch.tensor(True), r"is torch\.bool, which is none of int64"),
        ("fc.bias", torch.ones(5, dtype=torch.bool), r"is torch\.bool, which is none of float32"),
        ("fc.bias", torch.ones(5, dtype=torch.int8), r"is torch\.int8, which is none of float32"),
        ("fc.bias", torch.ones(5, dtype=torch.complex64), r"is torch\.complex64, which is none of float32"),
        ("fc.bias", torch.ones(5).to(torch.float8_e4m3fn), r"is torch\.float8_e4m3fn, which is none of float32"),
        ("fc.bias", torch.full((5,), 1e300, dtype=torch.float64), "holds NaN or infinite values"),
        ("fc.bias", torch.zeros(1).expand(5), "stores fewer values than its shape has"),
        ("fc.weight", torch.zeros(1, 1).expand(10**12, 128), "head has 1000000000000 classes, more than the 100000"),
        ("fc.weight", torch.zeros(1, 1).expand(99_999, 128), r"fc\.bias has shape \(5,\)"),
    ],
    ids=lambda value: value.split(".")[-1] if isinstance(value, str) and "." in value else "",
)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_tensor_that_no_network_has_is_refused_by_name(
    tmp_path: Path, backbone: Backbone, name: str, tensor: torch.Tensor, reason: str, kind: str
) -> None:
    path = tmp_path / f"w.{kind}"
    if kind == "pth":
        torch.save(backbone.weights | {name: tensor}, path)
    elif 0 in tensor.stride()[:1] and tensor.dim():
        pytest.skip("safetensors stores every value of a shape")
    else:
        safetensors.torch.save_file(backbone.weights | {name: tensor}, path)
    assert path.stat().st_size < 4_000_000
    with pytest.raises(BackboneError, match=reason):
        load_backbone(f"adv:{path}", SLIM)


def test_a_tensor_without_values_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    torch.save(backbone.weights | {"fc.bias": torch.empty(5, device="meta")}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="holds no state dict of dense tensors"):
        load_backbone(f"adv:{tmp_path}/w.pth", SLIM)


def test_a_part_of_a_larger_tensor_and_a_parameter_are_taken_as_they_are(tmp_path: Path, backbone: Backbone) -> None:
    turned = backbone.weights["fc.weight"].t().contiguous().t()
    part = torch.cat([backbone.weights["fc.bias"], torch.ones(7)])[:5]
    state = backbone.weights | {"fc.weight": torch.nn.Parameter(turned), "fc.bias": part}
    torch.save(state, tmp_path / "w.pth")
    loaded = load_backbone(f"adv:{tmp_path}/w.pth", SLIM)
    assert_same(loaded.weights, backbone.weights)
    assert not any(tensor.requires_grad for tensor in loaded.weights.values())


# Files that are refused


class NeedsCode:
    """An object whose pickle names this class."""


def test_a_pickle_that_needs_code_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save({"model": NeedsCode()}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"needs code to be run .*NeedsCode\), which is refused; .*\.safetensors"):
        read_checkpoint(tmp_path / "w.pth")


class Malicious:
    """An object whose pickle makes a folder when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["weight", "beside"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    tmp_path: Path, backbone: Backbone, place: str, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    content = madry(backbone.weights)
    (content["model"] if place == "weight" else content)["module.model.conv1.weight"] = Malicious(marker)
    path = tmp_path / "robust.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BackboneError, match=r"needs code to be run to be opened \(it asks for \w+\.mkdir\)") as caught:
        load_backbone(f"adv:{path}", SLIM)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the trap itself works
    assert marker.is_dir()


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
            state = read_checkpoint(path).state
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


MADRY = "model, prefix module.model., its own mean and std, without the copy under attacker"


@pytest.mark.parametrize(
    ("kind", "wrap", "layout"),
    [("adv", madry, MADRY), ("fast-adv", wong, "state_dict, prefix module."), ("std", dict, None)],
)
def test_kind_and_path_make_a_backbone_that_says_where_it_is_from(
    tmp_path: Path, backbone: Backbone, kind: str, wrap: Any, layout: str | None
) -> None:
    path = tmp_path / "weights.pth.tar"
    torch.save(wrap(backbone.weights), path)
    loaded = load_backbone(f"{kind}:{path}", SLIM)
    assert (loaded.arch, loaded.kind, loaded.num_classes) == (SLIM, kind, 5)
    assert_same(loaded.weights, backbone.weights)
    assert loaded.mean == (0.485, 0.456, 0.406)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = {"source": "local file weights.pth.tar", "sha256": f"sha256:{digest}"}
    assert loaded.provenance == told | ({"layout": layout} if layout else {})


def test_a_wong_checkpoint_with_one_key_too_many_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved = wong(backbone.weights)
    saved["state_dict"]["module.fc2.weight"] = torch.zeros(2)
    torch.save(saved, tmp_path / "w.pth.tar")
    with pytest.raises(BackboneError, match=r"1 unexpected \(fc2\.weight\); every key must match"):
        load_backbone(f"fast-adv:{tmp_path}/w.pth.tar", SLIM)


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
    with pytest.raises(BackboneError, match=r"resnet34 \(known: resnet18, resnet50, wide_resnet50_2\)"):
        load_backbone("adv", "resnet34")


def test_an_unknown_architecture_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BackboneError, match="unknown architecture 'vit'"):
        load_backbone("adv:absent.ckpt", "vit")


@pytest.mark.parametrize(("ref", "arch"), [("std", "resnet18"), ("adv", "resnet50"), ("std:someone/net", SLIM)])
def test_the_offline_hub_gives_one_line(ref: str, arch: str) -> None:
    with pytest.raises(DownloadError, match="is not in the local cache and HF_HUB_OFFLINE is set") as caught:
        load_backbone(ref, arch)
    assert "\n" not in str(caught.value)


# Published weights


@pytest.fixture
def fetched(tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Let the Hub deliver one slim checkpoint whatever is asked for, and the table know a series of it."""
    torch.save(madry(backbone.weights), tmp_path / "w.ckpt")
    asked: list[tuple[str, str, str | None]] = []

    def fetch_file(repo: str, file: str, *, sha256: str | None = None) -> tuple[Path, str]:
        asked.append((repo, file, sha256))
        return tmp_path / "w.ckpt", "c0ffee"

    def row(file: str, norm: Any, eps: float, sha256: str | None = None) -> Source:
        return Source(SLIM, "adv", "lab/nets", file, "mit", 0.5, "the README of lab/nets", norm, eps, sha256)

    rows = (row("four", "linf", 4 / 255, "abc"), row("half", "linf", 0.5 / 255), row("three", "l2", 3.0))
    monkeypatch.setattr(sources, "SOURCES", rows)
    monkeypatch.setattr(sources.downloads, "fetch_file", fetch_file)
    monkeypatch.setattr(sources, "packaged_folder", lambda name: None)
    return asked


@pytest.mark.parametrize(
    ("ref", "wanted"),
    [
        ("adv", ("lab/nets", "four", "abc")),
        ("adv:linf-4/255", ("lab/nets", "four", "abc")),
        ("adv:linf-4.0/255", ("lab/nets", "four", "abc")),
        ("adv:Linf-0.5/255", ("lab/nets", "half", None)),
        ("adv:l2-3", ("lab/nets", "three", None)),
        ("adv:L2-3.0", ("lab/nets", "three", None)),
    ],
)
def test_norm_and_eps_choose_the_file(fetched: Any, ref: str, wanted: tuple[str, str, str | None]) -> None:
    load_backbone(ref, SLIM)
    assert fetched == [wanted]


def test_a_published_backbone_says_all_that_the_table_knows_and_the_sha256_of_what_came(
    fetched: Any, tmp_path: Path, backbone: Backbone
) -> None:
    loaded = load_backbone("adv:l2-3", SLIM)
    assert_same(loaded.weights, backbone.weights)
    assert loaded.provenance == {
        "source": "lab/nets/three",
        "revision": "c0ffee",
        "license": "mit",
        "SA": 0.5,
        "SA_from": "the README of lab/nets",
        "norm": "l2",
        "eps": 3.0,
        "layout": MADRY,
        "sha256": f"sha256:{hashlib.sha256((tmp_path / 'w.ckpt').read_bytes()).hexdigest()}",
    }


@pytest.mark.parametrize("against", ["linf-4", "linf-3/255", "linf-0.0157", "l2-0.5", "l2-3/255"])
def test_a_wrong_eps_gives_one_line_with_the_right_ones(fetched: Any, against: str) -> None:
    with pytest.raises(BackboneError) as caught:
        load_backbone(f"adv:{against}", SLIM)
    assert str(caught.value) == (
        f"no adv weights against {against} are known for resnet18-slim; choose adv:linf-4/255, adv:linf-0.5/255, "
        "adv:l2-3, or another --arch: `lottery-hub backbones` lists them"
    )
    assert fetched == []


def test_a_norm_and_eps_go_before_a_file_of_that_name(
    fetched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(wong(backbone.weights), tmp_path / "l2-3")
    assert load_backbone("adv:l2-3", SLIM).provenance["source"] == "lab/nets/three"
    assert load_backbone("adv:./l2-3", SLIM).provenance["source"] == "local file l2-3"


@pytest.mark.parametrize("ref", ["adv:linf-8/0", "adv:l2-1.2.3", "adv:l2-/"])
def test_an_eps_that_is_no_number_is_refused(fetched: Any, ref: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a number; write 0\.03 or 8/255"):
        load_backbone(ref, SLIM)


@pytest.mark.parametrize("ref", ["adv:l2-three", "adv:linf-8,255", "adv:linf"])
def test_what_is_no_eps_is_looked_for_as_a_file(fetched: Any, ref: str) -> None:
    with pytest.raises(BackboneError, match="no checkpoint at "):
        load_backbone(ref, SLIM)


def test_the_radius_of_a_packaged_backbone_is_checked_too() -> None:
    assert load_backbone("adv:linf-8/255").arch == load_backbone("fast-adv:linf-8/255").arch == SLIM
    with pytest.raises(
        BackboneError, match=r"no adv weights against linf-4/255 are known .* choose adv:linf-8/255, or"
    ):
        load_backbone("adv:linf-4/255")
    with pytest.raises(BackboneError, match=r"no std weights against l2-3 are known for resnet18-slim; choose std, or"):
        load_backbone("std:l2-3")


# The table


def test_a_threat_is_spelled_as_it_is_typed() -> None:
    assert threat("linf", 0.5 / 255) == "linf-0.5/255"
    assert threat("linf", 8 / 255) == "linf-8/255"
    assert threat("l2", 0.05) == "l2-0.05"
    assert threat("l2", 3.0) == "l2-3"
    assert threat(None, None) == ""


def test_every_row_has_a_known_architecture_and_a_name_of_its_own() -> None:
    assert all(row.arch in ARCHITECTURES for row in SOURCES)
    assert set(Counter((row.arch, row.pretrain) for row in SOURCES).values()) == {1}
    assert set(Counter((row.repo, row.file) for row in SOURCES).values()) == {1}


def test_every_row_says_where_under_which_licence_how_accurate_and_who_says_so() -> None:
    for row in SOURCES:
        assert re.fullmatch(r"[\w-]+/[\w.-]+", row.repo)
        assert row.license in ("apache-2.0", "bsd-3-clause", "mit")
        assert 0.4 < row.accuracy < 0.9
        assert row.accuracy_from
        assert (row.norm is None) == (row.eps is None) == (row.kind == "std")
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)


def test_a_robust_file_is_named_after_its_norm_and_eps() -> None:
    for row in SOURCES:
        if row.norm is not None and row.eps is not None:
            eps = row.eps * 255 if row.norm == "linf" else row.eps
            named = re.fullmatch(rf"{row.arch}_{row.norm}_eps([\d.]+)\.ckpt", row.file)
            assert named is not None, row.file
            assert float(named[1]) == pytest.approx(eps)


def test_adv_alone_is_linf_4_of_255_and_its_contents_are_known() -> None:
    for arch in ("resnet18", "resnet50", "wide_resnet50_2"):
        first = next(row for row in SOURCES if (row.arch, row.kind) == (arch, "adv"))
        assert first.pretrain == "adv:linf-4/255"
        assert (first.sha256 is not None) == (arch != "wide_resnet50_2")


def test_a_larger_radius_costs_clean_accuracy() -> None:
    for arch in ("resnet18", "resnet50", "wide_resnet50_2"):
        for norm in ("linf", "l2"):
            rows = sorted(
                (row for row in SOURCES if (row.arch, row.norm) == (arch, norm)), key=lambda row: row.eps or 0
            )
            figures = [row.accuracy for row in rows if (row.eps or 0) > 0.05 or norm == "linf"]
            assert figures == sorted(figures, reverse=True)


def test_timm_knows_tag_and_licence_of_every_standard_row() -> None:
    from timm.models import get_pretrained_cfg

    for row in SOURCES:
        if row.kind == "std":
            known = get_pretrained_cfg(row.repo.removeprefix("timm/"))
            assert known is not None, row.repo
            assert known.license == row.license


# What is packaged


def test_the_packaged_rows_are_what_the_backbones_record() -> None:
    rows = packaged_backbones()
    assert [row.kind for row in rows] == ["adv", "fast-adv", "std"]
    for row in rows:
        loaded = load_backbone(row.kind, row.arch)
        test = loaded.records["test"]
        assert (row.SA, row.RA, row.samples) == (test["SA"], test["RA"], test["samples"])
        assert row.attack == loaded.records["test_attack"]
        trained = row.trained_against.record() if row.trained_against else None
        assert trained == loaded.records["plan"]["recipe"]["attack"]


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
