"""Exporting: a ticket in the formats that other programs read, every pruned weight an explicit 0.

    timm                a folder from which plain timm rebuilds the network, bit for bit
    safetensors-dense   one file with timm's state dict
    onnx                one file that maps [0,1] images to logits, normalisation inside, for any ONNX runtime
    torch-export        the same for `torch.export.load`

The last two are loaded again in their own runtime and compared with the ticket before anything is written. Neither
keeps what tracing notes beside a network: paths of the machine that exported it, and the images it was traced with.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError, ExportError, TicketError, printable
from lottery_hub.images.fitting import Fit
from lottery_hub.networks import compacting
from lottery_hub.networks.backbones import ARCHITECTURES, Normalised, skeleton
from lottery_hub.networks.compacting import Compacted
from lottery_hub.networks.copying import copied
from lottery_hub.networks.masks import prunable_names
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.showing import shows
from lottery_hub.settings.paths import place_of
from lottery_hub.storage import atomic, files
from lottery_hub.storage.manifest import labels
from lottery_hub.telling import tell

Format = Literal["timm", "onnx", "torch-export", "safetensors-dense"]

# Largest difference of a logit, as a share of the largest logit where that is above 1: float32 holds seven digits,
# and every runtime adds in an order of its own. A deep network loses more of them, the ticket's own logits too: so
# many times what those are off in float32 may an export differ from them.
TOLERANCE = 1e-5
ROUNDING = 8
MAX_SIZE = 2048
ABOUT = "lottery_hub.json"  # beside a torch.export program: what its images and its answers are
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the file, or timm's folder.
        format: of what is there.
        size: bytes of all files.
        image_size: side of the images it takes or, for timm, is meant for; in pixels.
        difference: largest absolute difference of a logit from the ticket's, on random images; None for the two
            formats that hold the ticket's weights as they are.
        compacted: the network inside, where it was compacted.
    """

    path: Path
    format: Format
    size: int
    image_size: int
    difference: float | None = None
    compacted: Compacted | None = None


@shows("reading the network")
def export(
    ticket: Ticket,
    format: Format,
    output: Path | str,
    *,
    compact: bool = False,
    image_size: int | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Exported:
    """Write a ticket, with the head it has, in a format that other programs read.

    Args:
        ticket: what to export: its own weights and head. Of a judged ticket that is seldom meant; its trained networks
            are `ticket.network()`.
        format: "timm", "onnx", "torch-export" or "safetensors-dense".
        output: the file to write, or for "timm" the folder. What is there is never replaced: where it is this very
            export nothing is written, and anything else is refused.
        compact: remove dead filters and channels first; see `compacting.compact`.
        image_size: side of the images, in pixels; None takes the size a fine-tuned ticket was trained at, or 32.
        overwrite: move what is there aside, to `NAME.old`, instead of refusing.
        progress: as of `find`.

    Returns:
        What was written.

    Raises:
        ConfigError: the image size is out of range, or the format keeps timm's shapes and cannot be compacted.
        ExportError: the place cannot be written, a package is missing, or the export computes something else.
    """
    path = place_of(output)
    size = _image_size(ticket, image_size)
    if format not in get_args(Format):
        raise ConfigError(f"unknown format {printable(repr(format))}; choose one of: {', '.join(get_args(Format))}")
    if compact and format not in _RUNTIMES:
        raise ConfigError(
            f"{format} keeps timm's shapes, which a compacted network has not; compact with onnx or torch-export"
        )
    if format in _RUNTIMES:
        return _export_model(ticket, format, path, compact, ticket.fit.at(size), overwrite)
    data = files.tensor_bytes(ticket.to_model(head="pretrained").state_dict())
    if format == "timm":
        written = {TIMM_WEIGHTS: data, TIMM_CONFIG: atomic.json_text(timm_config(ticket, size)).encode()}
        _write_folder(path, written, overwrite)
        return Exported(path, format, sum(map(len, written.values())), size)
    _write_file(path, data, overwrite)
    return Exported(path, format, len(data), size)


def timm_config(ticket: Ticket, image_size: int | None = None) -> dict[str, Any]:
    """Return the config.json from which timm rebuilds a ticket's network.

    Its `pretrained_cfg` is written anew: the one that timm keeps for the architecture names weights, a licence and
    an address that are not the ticket's. Without an image size it is that of `export`.
    """
    image_size = _image_size(ticket, image_size)
    fit = ticket.fit
    name, arguments = ARCHITECTURES[ticket.arch]
    weights = ticket.weights["fc.weight"]
    config = {
        "num_classes": len(weights),
        "input_size": [3, image_size, image_size],
        "pool_size": None,
        "fixed_input_size": False,
        # As `views.centred` shows an image to the network: whole if it has the size, else resized and cropped.
        "interpolation": "bilinear",
        "crop_mode": "center",
        "crop_pct": fit.at(image_size).crop_pct,
        "mean": list(ticket.mean),
        "std": list(ticket.std),
        "first_conv": prunable_names(skeleton(ticket.arch, 1))[0].removesuffix(".weight"),
        "classifier": "fc",
    }
    backbone = ticket.provenance.get("backbone")
    if isinstance(backbone, dict) and isinstance(backbone.get("license"), str):
        config["license"] = printable(backbone["license"])
    return {
        "architecture": name,
        "num_classes": len(weights),
        "num_features": weights.shape[1],
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": config,
        **labels(fit.names),
    }


def _image_size(ticket: Ticket, wanted: int | None) -> int:
    size = wanted if wanted is not None else ticket.fit.image_size
    if not 1 <= size <= MAX_SIZE:
        raise ConfigError(f"an image size lies in 1..{MAX_SIZE} pixels, not {size}; give it with --image-size")
    return size


# Formats that hold a network to run


Run = Callable[[Tensor], Tensor]


class _Runtime(NamedTuple):
    """How a network becomes a file's bytes, and those a function of images to logits."""

    encode: Callable[[nn.Module, Tensor, Mapping[str, Any]], bytes]
    load: Callable[[bytes], Run]


def _export_model(ticket: Ticket, format: Format, path: Path, compact: bool, fit: Fit, overwrite: bool) -> Exported:
    _check_no_folder(path)  # before minutes go into tracing
    runtime = _RUNTIMES[format]
    image_size = fit.image_size
    whole = ticket.to_normalised(head="pretrained")
    compacted = compacting.compact(whole.network, image_size) if compact else None
    # Never `whole` itself: an encoder that changed what it is given would change what the export is compared with.
    model = Normalised(compacted.model, ticket.mean, ticket.std) if compacted else copied(whole)
    # Two images, since tracing takes a batch of one for a constant.
    images = torch.zeros(2, 3, image_size, image_size, dtype=torch.float32)
    # Mean and std are for the reader's information: the network applies them itself.
    about = fit.record() | {"images": "RGB in [0,1]", "mean": list(ticket.mean), "std": list(ticket.std)}
    tell("doing", what=f"tracing the network for {format}")
    data = runtime.encode(model.eval().requires_grad_(False), images, about)
    tell("doing", what=f"comparing with the ticket in the runtime of {format}")
    difference = _largest_difference(whole, runtime.load(data), image_size, format)
    _write_file(path, data, overwrite)
    return Exported(path, format, len(data), image_size, difference, compacted)


def _largest_difference(whole: nn.Module, run: Run, image_size: int, format: Format) -> float:
    """Compare an export with the ticket on random images, in batches of sizes that it was not made with.

    Raises:
        ExportError: a logit differs by more than the tolerance, or is no number.
    """
    generator = torch.Generator().manual_seed(0)
    precise = copied(whole).double()
    largest = 0.0
    for count in (1, 3):
        images = torch.rand(count, 3, image_size, image_size, generator=generator, dtype=torch.float32)
        with torch.no_grad():
            wanted, given = whole(images), run(images)
            rounding = float((wanted - precise(images.double())).abs().max())
        difference = float((given - wanted).abs().max()) if given.shape == wanted.shape else float("inf")
        if not difference <= max(TOLERANCE * max(1.0, float(wanted.abs().max())), ROUNDING * rounding):
            raise ExportError(
                f"the {format} export differs from the ticket by {difference:.1e} in a logit; nothing was written"
            )
        largest = max(largest, difference)
    return largest


def _encode_onnx(model: nn.Module, images: Tensor, about: Mapping[str, Any]) -> bytes:
    _import_onnx()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about packages that talk to each other, not to the user
        program = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    network = program.model_proto
    for noted in (network, network.graph, *network.graph.node):
        del noted.metadata_props[:]
    for key, value in about.items():
        network.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    data: bytes = network.SerializeToString()
    return data


def _load_onnx(data: bytes) -> Run:
    onnxruntime = _import_onnx()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _import_onnx() -> Any:
    """Return onnxruntime, once everything that an ONNX export needs is there."""
    try:
        import onnx  # noqa: F401 - torch.onnx.export imports these two
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as problem:
        missing = printable(problem.name or problem)
        raise ExportError(f"an ONNX export needs {missing}: pip install 'lottery-hub[export]'") from problem
    return onnxruntime


def _encode_program(model: nn.Module, images: Tensor, about: Mapping[str, Any]) -> bytes:
    program = torch.export.export(model, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about)})
    return buffer.getvalue()


def _load_program(data: bytes) -> Run:
    run: Run = torch.export.load(io.BytesIO(data)).module()
    return run


_RUNTIMES = {"onnx": _Runtime(_encode_onnx, _load_onnx), "torch-export": _Runtime(_encode_program, _load_program)}


# Places


def _write_folder(target: Path, contents: dict[str, bytes], overwrite: bool) -> None:
    with _as_export(target):
        there = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if there == contents.keys() and all(_holds(target / name, data) for name, data in contents.items()):
            return
        with atomic.new_folder(target, overwrite=overwrite) as fresh:
            for name, data in contents.items():
                (fresh / name).write_bytes(data)


def _write_file(target: Path, data: bytes, overwrite: bool) -> None:
    with _as_export(target):
        _check_no_folder(target)
        if _holds(target, data):
            return
        with atomic.new_file(target, overwrite=overwrite) as fresh:
            fresh.write_bytes(data)


def _check_no_folder(target: Path) -> None:
    with _as_export(target):
        if target.is_dir():
            raise ExportError(f"{printable(target)} is a folder; give the name of a file")


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file holds these bytes already."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


@contextmanager
def _as_export(target: Path) -> Iterator[None]:
    """Make what goes wrong at a place an export's error."""
    try:
        yield
    except TicketError as problem:
        raise ExportError(str(problem)) from problem
    except OSError as problem:
        raise ExportError(f"cannot write {printable(target)}: {printable(problem.strerror or problem)}") from problem
