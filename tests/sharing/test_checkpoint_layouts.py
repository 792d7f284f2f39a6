"""Layouts: the same network comes out of whatever people store it in, and what was unwrapped is said."""

from __future__ import annotations

import argparse
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from lottery_hub.errors import BackboneError
from lottery_hub.networks.backbones import Backbone, fingerprint
from lottery_hub.sharing.checkpoint_layouts import normalised, read_checkpoint
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.origins import check_backbone

SLIM = "resnet18-slim"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4242\n"
State = Mapping[str, Tensor]
ZERO, ONE = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


def under(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def moved(state: State) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in state.items()}


def madry(state: State) -> dict[str, Tensor]:
    constants = {"module.normalizer.new_mean": ZERO[0], "module.normalizer.new_std": ONE[0]}
    return under("module.model.", state) | under("module.attacker.model.", moved(state)) | constants


# name → what is stored, and what is said of it
WRAPPED: dict[str, tuple[Callable[[State], Any], str]] = {
    "bare": (dict, ""),
    "ordered": (OrderedDict, ""),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "state_dict"),
    "model_state_dict": (lambda s: {"model_state_dict": s, "optimizer": {"state": {}}}, "model_state_dict"),
    "net of DDP": (lambda s: {"net": under("module.", s), "acc": 94.1}, "net, prefix module."),
    "timm's arguments": (lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)}, "state_dict"),
    "average": (
        lambda s: {"state_dict": moved(s), "state_dict_ema": s},
        "state_dict_ema (the average, not state_dict)",
    ),
    "average of DDP": (
        lambda s: {"model": under("module.", moved(s)), "model_ema": under("module.", s)},
        "model_ema (the average, not model), prefix module.",
    ),
    "average alone": (lambda s: {"state_dict_ema": s}, "state_dict_ema (the average)"),
    "Lightning": (
        lambda s: {"state_dict": under("model.", s), "pytorch-lightning_version": "2.5.0", "loops": {}},
        "state_dict, prefix model.",
    ),
    "numpy's scalar": (lambda s: {"state_dict": s, "best_prec1": np.float64(71.2)}, "state_dict"),
    "a path": (lambda s: {"state_dict": s, "data": Path("train")}, "state_dict"),
    "wrapped twice": (lambda s: {"model": {"state_dict": s}}, "model, state_dict"),
    "a wrapper's name for settings": (lambda s: {"model": {"depth": 18}, "state_dict": s}, "state_dict"),
    "madry's": (
        lambda s: {"model": madry(s), "epoch": 1},
        "model, prefix module.model., its own mean and std, without the copy under attacker",
    ),
}
# These are flat, so that .safetensors can hold them too.
FLAT: dict[str, tuple[Callable[[State], dict[str, Tensor]], str]] = {
    "bare": (dict, ""),
    "compiled": (lambda s: under("_orig_mod.", s), "prefix _orig_mod."),
    "compiled DDP": (lambda s: under("module._orig_mod.", s), "prefix module._orig_mod."),
    "sequential": (lambda s: under("1.", s), "prefix 1."),
    "own word": (lambda s: under("encoder.backbone.", s), "prefix encoder.backbone."),
    "torch's average": (lambda s: under("module.", s) | {"n_averaged": torch.tensor(7)}, "prefix module."),
    "RobustBench": (
        lambda s: under("model.", s) | {"normalize.mean": ZERO, "normalize.std": ONE},
        "prefix model., its own mean and std",
    ),
    "normalisation first": (
        lambda s: under("1.", s) | {"0.mean": ZERO, "0.std": ONE},
        "prefix 1., its own mean and std",
    ),
    "buffers": (lambda s: under("model.", s) | {"mean": ZERO, "std": ONE}, "prefix model., its own mean and std"),
    "madry's": (madry, "prefix module.model., its own mean and std, without the copy under attacker"),
}


def stored(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({name: tensor.clone() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def assert_is(path: Path, backbone: Backbone, layout: str) -> None:
    loaded = load_backbone(f"adv:{path}", SLIM)
    assert fingerprint(loaded.weights) == fingerprint(backbone.weights)
    assert loaded.provenance.get("layout", "") == layout
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, here = backbone.model().network.eval(), loaded.model().network.eval()
    with torch.no_grad():
        assert torch.equal(here(images), plain(images))
    own = ((0.0,) * 3, (1.0,) * 3) if "its own" in layout else (backbone.mean, backbone.std)
    assert (loaded.mean, loaded.std) == own


@pytest.mark.parametrize("name", WRAPPED)
def test_the_network_comes_out_of_what_it_is_wrapped_in(tmp_path: Path, backbone: Backbone, name: str) -> None:
    wrap, layout = WRAPPED[name]
    assert_is(stored(tmp_path / "w.pth.tar", wrap(backbone.weights)), backbone, layout)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", FLAT)
def test_the_network_comes_out_from_under_its_prefix(
    tmp_path: Path, backbone: Backbone, name: str, ending: str
) -> None:
    wrap, layout = FLAT[name]
    assert_is(stored(tmp_path / f"w.{ending}", wrap(backbone.weights)), backbone, layout)


KNOWN = ["module", "_orig_mod", "model", "net", "1", "0", "encoder", "attack"]
NAMES = ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer1.0.downsample.1.bias", "fc.bias"]


def test_any_prefix_of_up_to_three_parts_leaves_the_names_as_they_are() -> None:
    state = {name: torch.zeros(1) for name in NAMES}
    for length in range(4):
        for parts in itertools.product(KNOWN, repeat=length):
            prefix = "".join(f"{part}." for part in parts)
            found = normalised(under(prefix, state))
            assert list(found.state) == NAMES
            assert found.layout == (f"prefix {prefix}" if prefix else "")


def test_no_name_is_ever_sliced_or_lost() -> None:
    """Whatever the keys are: one prefix of whole parts is gone from all of them, or the file is refused."""
    dice = random.Random(0)
    words = ["module", "model", "conv1", "layer1", "fc", "weight", "mean", "x", "normalize", "bias", "xmodule"]
    loaded = 0
    for _ in range(3000):
        names = {".".join(dice.choices(words, k=dice.randint(1, 4))) for _ in range(dice.randint(1, 4))}
        try:
            found = normalised({name: torch.zeros(3) for name in names})
        except BackboneError:
            continue
        loaded += 1
        prefix = found.layout.partition(", ")[0].removeprefix("prefix ") if found.layout.startswith("prefix ") else ""
        gone = {name for name in names if name.removeprefix(prefix) not in found.state}
        assert set(found.state) == {name.removeprefix(prefix) for name in names - gone}
        assert not gone or found.normalisation is not None
    assert loaded > 1000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda s: {"state_dict": s, "model": moved(s)}, "holds 2 networks, under state_dict and model; save the one"),
        (
            lambda s: under("student.", s) | under("teacher.", s),
            "holds 2 networks, under the prefixes 'student.' and 'teacher.'; save the one",
        ),
        (lambda s: {"student": s, "teacher": s}, "2 of 2 entries are none, e.g. 'student', 'teacher'"),
        (lambda s: {"state_dict": {**s, "step": 3}}, r"under state_dict: 1 of \d+ entries are none, e.g. 'step'"),
        (
            lambda s: under("model.", s) | {"criterion.weight": torch.ones(2)},
            "has 1 keys outside the network under model., e.g. criterion.weight",
        ),
        (
            lambda s: under("module.", s) | {"module.fc2.weight": torch.ones(2)},
            r"w.pth, read as prefix module.: .* 1 unexpected \(fc2.weight\); every key must match",
        ),
        (
            lambda s: {"net": {name: t for name, t in s.items() if not name.startswith("fc.")}},
            "w.pth, read as net: the weights have no head .fc.weight and fc.bias are missing.; give them with the head",
        ),
        (lambda s: dict(list(s.items())[: len(s) // 2]), r"do not fit resnet18-slim: 53 missing \(layer2"),
        (
            lambda s: under("module.", dict(list(s.items())[:9])) | dict(list(s.items())[9:]),
            "has 119 keys outside the network under module., e.g. layer1.0.bn1.running_mean",
        ),
        (lambda s: [s], "holds no state dict of dense tensors: it is a list"),
        (lambda s: {"model": argparse.Namespace(**s)}, "1 of 1 entries are none, e.g. 'model'"),
        (
            lambda s: under("a.", s) | {"mean": ZERO, "std": ONE, "normalize.mean": ZERO},
            "normalizer is no mean and std of three channels",
        ),
        (lambda s: under("\x1b[2J" * 100 + ".", s) | {"x": ONE}, r"outside the network under \\x1b"),
    ],
    ids=[
        *("two wrappers", "two prefixes", "unknown wrappers", "a number", "extra key", "extra key inside", "no head"),
        *("half", "half with a prefix", "list", "namespace", "two means", "escape codes"),
    ],
)
def test_what_is_no_network_is_one_line_that_says_what_was_found(
    tmp_path: Path, backbone: Backbone, content: Callable[[State], Any], reason: str
) -> None:
    path = stored(tmp_path / "w.pth", content(backbone.weights))
    with pytest.raises(BackboneError, match=reason) as caught:
        load_backbone(f"adv:{path}", SLIM)
    assert str(caught.value).isprintable()
    assert "w.pth" in str(caught.value)


def test_what_is_said_of_a_file_fits_the_records_whatever_its_names_are(backbone: Backbone) -> None:
    state: Any = under("p" * 500 + ".", backbone.weights) | {"mean": ZERO, "std": ONE, "attacker.x": ONE}
    for _ in range(3):
        state = {"ema_state_dict": state, "model_state_dict": {"a": ONE}}
    layout = normalised(state).layout
    assert layout.endswith("…, its own mean and std, without the copy under attacker")
    check_backbone(replace(backbone, provenance={"layout": layout}))


def test_the_copy_that_an_attack_keeps_is_not_what_is_read(backbone: Backbone) -> None:
    found = normalised(madry(backbone.weights))
    assert fingerprint(found.state) == fingerprint(backbone.weights)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_pointer_in_place_of_weights_says_how_to_get_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(BackboneError, match=rf"{name} is a Git LFS pointer, not the file itself; run `git lfs pull`"):
        read_checkpoint(tmp_path / name)
