"""Exporting: other programs read what was written and compute the ticket's logits; what differs is never written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import timm
import timm.data
import torch
from torch import Tensor, nn

import lottery_hub
from lottery_hub.errors import ConfigError, ExportError
from lottery_hub.networks.backbones import fingerprint
from lottery_hub.networks.tickets import Ticket
from lottery_hub.sharing import exporting
from lottery_hub.sharing.exporting import Exported, Format, _largest_difference, _Runtime, export, timm_config
from lottery_hub.storage.folder import load_ticket

FORMATS = get_args(Format)
BATCHES = [1, 2, 5, 16]


def images(count: int, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def logits(network: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = network.eval()(given)
    return out


@pytest.fixture(scope="module")
def ticket() -> Ticket:
    """A packaged ticket with a head of 100 classes; nobody changes it."""
    return load_ticket("resnet18-slim-adv", sparsity=0.8)


@pytest.fixture(scope="module")
def timm_folder(ticket: Ticket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(ticket, "timm", tmp_path_factory.mktemp("timm") / "new" / "net").path


@pytest.fixture(scope="module")
def program(ticket: Ticket, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(ticket, "torch-export", tmp_path_factory.mktemp("program") / "net.pt2")


def has_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="an ONNX export needs pip install 'lottery-hub[export]'")


@pytest.fixture(scope="module")
def onnx_file(ticket: Ticket, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    has_onnx()
    return export(ticket, "onnx", tmp_path_factory.mktemp("onnx") / "net.onnx")


# timm


def test_plain_timm_rebuilds_the_network_bit_for_bit(ticket: Ticket, timm_folder: Path) -> None:
    network = timm.create_model(f"local-dir:{timm_folder}", pretrained=True)
    assert {file.name for file in timm_folder.iterdir()} == {"config.json", "model.safetensors"}
    assert fingerprint(network.state_dict()) == fingerprint(ticket.weights)
    assert torch.equal(logits(network, images(3)), logits(ticket.to_model(), images(3)))


def test_timm_shows_images_to_the_network_as_the_library_does(ticket: Ticket, timm_folder: Path) -> None:
    network = timm.create_model(f"local-dir:{timm_folder}", pretrained=True)
    told = timm.data.resolve_model_data_config(network)
    assert tuple(told["input_size"]) == (3, 32, 32)
    assert (tuple(told["mean"]), tuple(told["std"])) == (ticket.mean, ticket.std)
    assert (told["interpolation"], told["crop_pct"], told["crop_mode"]) == ("bilinear", 1.0, "center")


@pytest.mark.parametrize("licence", [None, "MIT"])
def test_nothing_of_timms_own_weights_is_said_of_a_ticket(ticket: Ticket, tmp_path: Path, licence: str | None) -> None:
    origin = {} if licence is None else {"backbone": {"license": licence}}
    folder = export(replace(ticket, provenance=origin), "timm", tmp_path / "net").path
    told = timm.create_model(f"local-dir:{folder}", pretrained=True).pretrained_cfg
    theirs = timm.create_model("resnet18").pretrained_cfg
    assert theirs["license"] == "apache-2.0"
    assert told.get("license") == licence
    for key in ("url", "hf_hub_id", "tag", "origin_url", "paper_ids", "description", "paper_name"):
        assert not told.get(key), key
    assert (told["num_classes"], told["classifier"], told["first_conv"]) == (100, "fc", "conv1")


@pytest.mark.parametrize(
    ("records", "size", "side", "crop"),
    [
        ({}, None, 32, 1.0),
        ({"recipe": {"image_size": 16}, "data": {"image_size": 16}}, None, 16, 1.0),
        ({"recipe": {"image_size": 224}, "data": {"image_size": 256}}, None, 224, 0.875),
        ({"recipe": {"image_size": 16}, "data": {"image_size": 16}}, 24, 24, 1.0),
        ({"recipe": {"image_size": 224}, "data": {"image_size": 256}}, 112, 112, 0.875),
        ({"recipe": ["16"], "data": {"image_size": "16"}}, None, 32, 1.0),
    ],
    ids=["never fine-tuned", "whole images", "resized ones", "asked for", "asked for of resized ones", "a stranger's"],
)
def test_the_size_is_the_one_it_was_fine_tuned_at(
    ticket: Ticket, tmp_path: Path, records: dict[str, Any], size: int | None, side: int, crop: float
) -> None:
    done = export(replace(ticket, records=records), "timm", tmp_path / "net", image_size=size)
    told = json.loads((done.path / "config.json").read_text(encoding="utf-8"))["pretrained_cfg"]
    assert done.image_size == side
    assert (told["input_size"], told["crop_pct"]) == ([3, side, side], crop)


def test_the_first_convolution_of_a_deep_stem_is_inside_it(ticket: Ticket) -> None:
    told = timm_config(replace(ticket, arch="resnet50d"))
    assert told["pretrained_cfg"]["first_conv"] == "conv1.0"
    assert timm.create_model("resnet50d").pretrained_cfg["first_conv"] == "conv1.0"


# safetensors


def test_dense_safetensors_are_timms_state_dict(ticket: Ticket, tmp_path: Path) -> None:
    done = export(ticket, "safetensors-dense", tmp_path / "net.safetensors")
    weights = safetensors.torch.load_file(done.path)
    assert fingerprint(weights) == fingerprint(ticket.weights)
    network = timm.create_model("resnet18", num_classes=100, channels=(16, 32, 64, 128), output_stride=8)
    network.load_state_dict(weights, strict=True)
    assert torch.equal(logits(network, images(3)), logits(ticket.to_model(), images(3)))
    assert (done.size, done.difference, done.compacted) == (done.path.stat().st_size, None, None)


# Networks to run


@pytest.mark.parametrize("count", BATCHES)
def test_onnxruntime_computes_the_tickets_logits_for_any_batch(ticket: Ticket, onnx_file: Exported, count: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file.path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [3, 32, 32])
    (found,) = session.run(["logits"], {"images": images(count).numpy()})
    wanted = logits(ticket.to_normalised(), images(count))
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=1e-5)


def test_an_onnx_file_is_well_formed(onnx_file: Exported) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(onnx_file.path), full_check=True)


@pytest.mark.parametrize("count", BATCHES)
def test_a_reloaded_program_computes_the_tickets_logits_for_any_batch(
    ticket: Ticket, program: Exported, count: int
) -> None:
    found = logits_of(program)(images(count))
    torch.testing.assert_close(found, logits(ticket.to_normalised(), images(count)), rtol=0, atol=1e-5)


def logits_of(exported: Exported) -> Callable[[Tensor], Tensor]:
    module = torch.export.load(exported.path).module()

    def run(given: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = module(given)
        return out

    return run


@pytest.mark.parametrize("kind", ["program", "onnx_file"])
def test_an_export_says_what_was_found(request: pytest.FixtureRequest, kind: str) -> None:
    done: Exported = request.getfixturevalue(kind)
    assert done.size == done.path.stat().st_size
    assert (done.image_size, done.compacted) == (32, None)
    assert done.difference is not None
    assert 0 <= done.difference <= 1e-5


@pytest.mark.parametrize("kind", ["program", "onnx_file"])
def test_an_export_tells_nothing_of_the_machine_it_was_made_on(request: pytest.FixtureRequest, kind: str) -> None:
    written = request.getfixturevalue(kind).path.read_bytes()
    for path in (Path(lottery_hub.__file__).parent, Path(timm.__file__).parent, Path.home(), Path.cwd()):
        assert str(path).encode() not in written
    assert b".py" not in written


def test_a_program_carries_no_images(program: Exported) -> None:
    assert torch.export.load(program.path).example_inputs is None


def test_exporting_twice_writes_the_same_bytes_and_draws_no_random_numbers(
    ticket: Ticket, program: Exported, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    assert export(ticket, "torch-export", tmp_path / "net").path.read_bytes() == program.path.read_bytes()
    assert torch.equal(torch.get_rng_state(), before)


def test_exporting_leaves_the_ticket_as_it_was(ticket: Ticket, program: Exported) -> None:
    again = load_ticket("resnet18-slim-adv", sparsity=0.8)
    assert again.fingerprint() == ticket.fingerprint()


# Compacted


def test_a_compacted_export_is_smaller_and_computes_the_same(ticket: Ticket, program: Exported, tmp_path: Path) -> None:
    dead = without_filters(ticket, "layer4.1.conv1.weight", 100)
    done = export(dead, "torch-export", tmp_path / "net", compact=True)
    assert done.compacted is not None
    assert done.compacted.removed >= 99  # one may stay: a constant that the next convolution pads
    # A filter of 128 x 3 x 3 and the channel that 128 filters read, 4 bytes a weight.
    assert program.size - done.size > 99 * 2 * 128 * 9 * 4
    wanted = logits(dead.to_normalised(), images(4))
    torch.testing.assert_close(logits_of(done)(images(4)), wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(wanted, logits(ticket.to_normalised(), images(4)), atol=1e-3)


def without_filters(ticket: Ticket, name: str, count: int) -> Ticket:
    """Prune the first filters of a layer altogether."""
    weight, kept = ticket.weights[name].clone(), ticket.mask[name].clone()
    weight[:count], kept[:count] = 0, False
    return replace(ticket, weights=ticket.weights | {name: weight}, mask=ticket.mask | {name: kept})


@pytest.mark.parametrize("kind", ["timm", "safetensors-dense"])
def test_timms_shapes_cannot_be_compacted(ticket: Ticket, tmp_path: Path, kind: Format) -> None:
    with pytest.raises(ConfigError, match=f"{kind} keeps timm's shapes, .* compact with onnx or torch-export"):
        export(ticket, kind, tmp_path / "net", compact=True)
    assert list(tmp_path.iterdir()) == []


# What computes something else is not written


class Plain(nn.Module):
    """Maps an image to the same logits as any other: here is nothing to round."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, given: Tensor) -> Tensor:
        return given.new_full((len(given), 2), self.value)


class Cancelling(nn.Module):
    """Wants 2^-12; in float32, whose neighbours at 4096 lie 2^-11 apart, it comes to 0."""

    def forward(self, given: Tensor) -> Tensor:
        return (given.new_full((len(given), 2), 2**-12) + 4096) - 4096


@pytest.mark.parametrize(
    ("network", "within", "beyond"),
    [
        (Plain(0), 0.9e-5, 1.1e-5),
        (Plain(0.5), 0.9e-5, 1.1e-5),
        (Plain(-100), 0.9e-3, 1.1e-3),
        (Cancelling(), 8 * 2**-12, 9 * 2**-12),  # off by 2^-12 itself, eight times which is allowed
    ],
    ids=["zero", "below 1", "a share above 1", "rounding of its own"],
)
def test_how_far_an_export_may_differ(network: nn.Module, within: float, beyond: float) -> None:
    found = _largest_difference(network, lambda given: network(given) + within, 8, "onnx")
    assert found == pytest.approx(within, rel=0.02)
    with pytest.raises(ExportError, match=f"the onnx export differs from the ticket by {beyond:.1e} in a logit"):
        _largest_difference(network, lambda given: network(given) + beyond, 8, "onnx")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda found: found + (len(found) == 1) * 1e-2,
        lambda found: found + (len(found) == 3) * 1e-2,
        lambda found: found.index_fill(1, torch.tensor([7]), float("nan")),
        lambda found: found[:, :-1],
        lambda found: found[:1].expand(len(found), -1),
    ],
    ids=["for one image", "for three", "no number", "a class less", "one image for all"],
)
def test_a_runtime_that_computes_something_else_is_refused_and_nothing_is_written(
    ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Tensor]
) -> None:
    whole = ticket.to_normalised()
    runtime = _Runtime(lambda model, given, about: b"network", lambda data: lambda given: wrong(logits(whole, given)))
    monkeypatch.setitem(exporting._RUNTIMES, "onnx", runtime)
    (tmp_path / "net").write_bytes(b"old")
    with pytest.raises(ExportError, match=r"the onnx export differs from the ticket by .*; nothing was written"):
        export(ticket, "onnx", tmp_path / "net")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("net", b"old")]


def test_a_network_that_was_changed_on_its_way_is_refused(
    ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exporting._RUNTIMES["torch-export"]

    def encode(model: nn.Module, given: Tensor, about: dict[str, Any]) -> bytes:
        model.get_parameter("network.layer1.0.conv1.weight")[0] *= 1.01  # in place
        return honest.encode(model, given, about)

    monkeypatch.setitem(exporting._RUNTIMES, "torch-export", honest._replace(encode=encode))
    with pytest.raises(ExportError, match="the torch-export export differs from the ticket"):
        export(ticket, "torch-export", tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


# Places


def written(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "mine", "words"),
    [
        ("timm", "net/config.json", r"net holds config\.json, which would be lost; give another name, or --overwrite"),
        ("safetensors-dense", "net", "net is there already; give another name, or --overwrite"),
    ],
)
def test_what_is_there_is_refused_or_moved_aside(
    ticket: Ticket, tmp_path: Path, kind: Format, mine: str, words: str
) -> None:
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).write_bytes(b"mine")
    with pytest.raises(ExportError, match=words):
        export(ticket, kind, tmp_path / "net")
    assert written(tmp_path) == {mine: b"mine"}
    export(ticket, kind, tmp_path / "net", overwrite=True)
    assert written(tmp_path)[mine.replace("net", "net.old")] == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"net", "net.old"}


@pytest.mark.parametrize("kind", ["timm", "safetensors-dense"])
def test_an_export_that_is_there_is_not_written_again(ticket: Ticket, tmp_path: Path, kind: Format) -> None:
    first = export(ticket, kind, tmp_path / "net")
    times = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    assert export(ticket, kind, tmp_path / "net") == first
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == times


@pytest.mark.parametrize("kind", ["timm", "safetensors-dense"])
def test_an_export_is_written_where_a_link_leads(ticket: Ticket, tmp_path: Path, kind: Format) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    export(ticket, kind, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"link", "elsewhere"}


@pytest.mark.parametrize(("kind", "name"), [("timm", "net/model.safetensors"), ("safetensors-dense", "net")])
def test_an_older_export_stays_where_a_new_one_fails(
    ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Format, name: str
) -> None:
    def fill_the_disk(path: Path, data: bytes) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    older = tmp_path / name
    older.parent.mkdir(exist_ok=True)
    older.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(ExportError, match=r"cannot write .*net: No space left on device$"):
        export(ticket, kind, tmp_path / "net", overwrite=True)
    assert [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()] == [b"old"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("folder", r"is a folder; give the name of a file|folder holds notes\.txt, which would be lost"),
        ("folder/notes.txt/net", "cannot write .*/notes.txt/net: "),
        ("x" * 300, "cannot write .*: File name too long"),
    ],
    ids=["folder", "below a file", "long name"],
)
def test_a_bad_place_is_one_line_and_stays_as_it_was(
    ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Format, place: str, reason: str
) -> None:
    for name in ("onnx", "torch-export"):
        runtime = _Runtime(lambda model, given, about: b"network", lambda data: lambda given: logits(model, given))
        monkeypatch.setitem(exporting._RUNTIMES, name, runtime)
    model = ticket.to_normalised()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=reason) as refused:
        export(ticket, kind, tmp_path / place)
    assert "\n" not in str(refused.value)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["folder", "folder/notes.txt"]


def test_a_file_is_no_place_for_timms_folder(ticket: Ticket, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("mine")
    with pytest.raises(ExportError, match="net is a file, and a folder goes there; give another name"):
        export(ticket, "timm", tmp_path / "net")
    assert (tmp_path / "net").read_text() == "mine"


# Settings


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [-1, 0, 2049])
def test_a_size_out_of_range_is_an_error(ticket: Ticket, tmp_path: Path, kind: Format, size: int) -> None:
    with pytest.raises(ConfigError, match=f"an image size lies in 1..2048 pixels, not {size}; give it with"):
        export(ticket, kind, tmp_path / "net", image_size=size)


def test_an_unknown_format_is_an_error(ticket: Ticket, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'tflite'; choose one of: timm, onnx, torch-export, safe"):
        export(ticket, "tflite", tmp_path / "net")  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    has_onnx()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError) as refused:
        export(ticket, "onnx", tmp_path / "net")
    assert str(refused.value) == f"an ONNX export needs {package}: pip install 'lottery-hub[export]'"
    assert list(tmp_path.iterdir()) == []


def test_names_and_sizes_travel_with_every_format(ticket: Ticket, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="an ONNX export needs pip install 'lottery-hub[export]'")
    names = ["Blåbær & co", *(f"class {label}" for label in range(1, 100))]
    records = {"recipe": {"image_size": 16}, "data": {"image_size": 16, "class_names": names}}
    named = replace(ticket, records=records)
    config = json.loads((export(named, "timm", tmp_path / "net").path / "config.json").read_text(encoding="utf-8"))
    assert (config["label_names"], config["id2label"]["0"], config["label2id"]["class 99"]) == (names, names[0], 99)
    assert timm.create_model(f"local-dir:{tmp_path / 'net'}").pretrained_cfg["label_names"] == names
    told = {prop.key: prop.value for prop in onnx.load(export(named, "onnx", tmp_path / "a.onnx").path).metadata_props}
    program: dict[str, Any] = {"lottery_hub.json": ""}
    torch.export.load(export(named, "torch-export", tmp_path / "a.pt2").path, extra_files=program)
    about = json.loads(program["lottery_hub.json"])
    assert json.loads(told["class_names"]) == about["class_names"] == names
    assert (told["image_size"], about["image_size"]) == ("16", 16)
    assert json.loads(told["mean"]) == about["mean"] == list(ticket.mean)
