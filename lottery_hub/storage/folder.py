"""A folder that holds a ticket, a ladder or a backbone: written whole, read with its hashes checked.

    README.md                       the card (tickets only)
    config.json                     timm's own keys, and one "lottery_hub" object
    {ticket,ladder,backbone}.safetensors   the compact tensors, see `codec`
    results.json                    the records

A ladder folder is also a backbone folder, and any of its levels can be loaded as a ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import Tensor

from lottery_hub import __version__
from lottery_hub.backbones import ARCHITECTURES, Backbone, skeleton
from lottery_hub.config import Kind, Method
from lottery_hub.errors import TicketError, printable
from lottery_hub.masks import kept_and_total, prunable_names
from lottery_hub.storage import codec, files
from lottery_hub.tickets import MAX_LEVELS, Ladder, Ticket, is_known_arch

FORMAT = 1
MAX_CLASSES = 100_000
Content = Literal["ticket", "ladder", "backbone"]


def save_ticket(ticket: Ticket, folder: Path | str, card: str | None = None) -> Path:
    """Write a ticket folder, replacing an older one only when the new one is complete.

    Args:
        ticket: what to write; its records become results.json.
        folder: where; missing parents are made.
        card: text of README.md; None writes no card.

    Returns:
        The folder.
    """
    kept, total = ticket.kept_and_total
    about = {
        "level": ticket.level,
        "kept": kept,
        "total": total,
        "sparsity": ticket.sparsity,
        "double_win": ticket.double_win,
        "method": ticket.method,
        "provenance": ticket.provenance,
    }
    tensors = codec.encode_ticket(ticket.weights, ticket.mask)
    owner = (ticket.arch, ticket.kind, ticket.mean, ticket.std, len(ticket.weights["fc.weight"]))
    return _save(Path(folder), "ticket", owner, about, tensors, ticket.records, card)


def save_ladder(ladder: Ladder, folder: Path | str) -> Path:
    """Write a ladder folder: θ_pre once, and how many rounds each weight survived."""
    about = {
        "levels": ladder.levels,
        "sparsities": list(ladder.sparsities),
        "method": ladder.method,
        "provenance": ladder.backbone.provenance,
    }
    tensors = codec.encode_ladder(ladder.backbone.weights, ladder.survived)
    results = {"pretraining": ladder.backbone.records, "drawing": ladder.drawing}
    return _save(Path(folder), "ladder", _owner(ladder.backbone), about, tensors, results, None)


def save_backbone(backbone: Backbone, folder: Path | str) -> Path:
    """Write a backbone folder: θ_pre and the record of its pre-training."""
    tensors = codec.encode_ladder(backbone.weights, {})
    about = {"levels": 0, "provenance": backbone.provenance}
    return _save(Path(folder), "backbone", _owner(backbone), about, tensors, {"pretraining": backbone.records}, None)


def load_ticket(ref: Path | str, sparsity: float | None = None) -> Ticket:
    """Load a ticket from a ticket folder, or one level of a ladder folder or packaged ladder.

    Args:
        ref: a folder, or the name of a packaged ladder such as `resnet18-slim-adv`.
        sparsity: which level of a ladder, in 0..1, nearest wins; a ticket folder has just one, and asking
            for another is an error.

    Raises:
        TicketError: names the file and the reason.
    """
    folder = find_folder(ref)
    config = _read_config(folder)
    if config["content"] != "ticket":
        if sparsity is None:
            raise TicketError(f"{printable(ref)} holds a {config['content']}; say which sparsity you want, e.g. 0.9")
        ladder = load_ladder(folder)
        return ladder.ticket(ladder.level_at(sparsity))
    arch, kind, mean, std, classes = _owner_of(config, folder)
    tensors = _read_tensors(folder, config)
    try:
        weights, mask = codec.decode_ticket(tensors, *_shapes(arch, classes))
        ticket = Ticket(
            arch=arch,
            kind=kind,
            weights=weights,
            mask=mask,
            level=_integer(config, "level", MAX_LEVELS),
            method=_one_of(config, "method", get_args(Method)),
            mean=mean,
            std=std,
            provenance=_object(config, "provenance"),
            records=_read_results(folder, config),
        )
        if [config.get("kept"), config.get("total")] != list(kept_and_total(mask)):
            raise TicketError("config.json and the mask disagree about how many weights are kept")
    except TicketError as problem:
        raise TicketError(f"{printable(folder)}: {problem}") from problem
    if sparsity is not None and abs(sparsity - ticket.sparsity) > 0.005:
        raise TicketError(f"{printable(ref)} holds one ticket, of sparsity {ticket.sparsity:.4f}, not {sparsity}")
    return ticket


def load_ladder(ref: Path | str) -> Ladder:
    """Load a ladder from its folder, or a packaged one by name.

    Raises:
        TicketError: names the file and the reason; a ticket folder has no ladder.
    """
    folder = find_folder(ref)
    config = _read_config(folder)
    if config["content"] != "ladder":
        raise TicketError(f"{printable(ref)} holds a {config['content']}, not a ladder")
    backbone, survived, results = _load_dense(folder, config)
    ladder = Ladder(
        backbone=backbone,
        survived=survived,
        levels=_integer(config, "levels", MAX_LEVELS),
        method=_one_of(config, "method", get_args(Method)),
        drawing=_object(results, "drawing"),
    )
    if config.get("sparsities") != list(ladder.sparsities):
        raise TicketError(f"{printable(folder)}: config.json and the masks disagree about the levels' sparsities")
    return ladder


def load_backbone_folder(folder: Path) -> Backbone:
    """Load θ_pre from a backbone or ladder folder.

    Raises:
        TicketError: names the file and the reason; a ticket has lost its pruned weights.
    """
    config = _read_config(folder)
    if config["content"] == "ticket":
        raise TicketError(f"{printable(folder)} holds a ticket, whose pruned weights are gone; give its backbone")
    return _load_dense(folder, config)[0]


def read_about(folder: Path) -> dict[str, Any]:
    """Return the checked "lottery_hub" object of a folder's config.json."""
    return _read_config(folder)


def find_folder(ref: Path | str) -> Path:
    """Return the folder that `ref` names: itself, its `ticket` or `ladder` inside, or a packaged one.

    Raises:
        TicketError: there is nothing of that name.
    """
    path = Path(ref)
    for candidate in (path, path / "ticket", path / "ladder", path / "backbone"):
        if files.is_file(candidate / "config.json"):
            return candidate
    inside = packaged_folder(str(ref))
    if inside is not None:
        return inside
    names = ", ".join(packaged_names())
    raise TicketError(f"no ticket at {printable(ref)}: give a folder with a config.json, or a packaged name ({names})")


def packaged_names() -> list[str]:
    """Return the names of the ladders and backbones that ship with the library, e.g. `resnet18-slim-adv`."""
    root = Path(__file__).parent.parent / "packaged"
    return sorted(path.parent.name for path in root.glob("*/config.json"))


def packaged_folder(name: str) -> Path | None:
    """Return the folder of a packaged ladder or backbone, or None."""
    if name not in packaged_names():
        return None
    return Path(__file__).parent.parent / "packaged" / name


_Owner = tuple[str, Kind, tuple[float, ...], tuple[float, ...], int]


def _owner(backbone: Backbone) -> _Owner:
    return backbone.arch, backbone.kind, backbone.mean, backbone.std, backbone.num_classes


def _save(
    folder: Path,
    content: Content,
    owner: _Owner,
    about: dict[str, Any],
    tensors: Mapping[str, Tensor],
    results: dict[str, Any],
    card: str | None,
) -> Path:
    arch, kind, mean, std, classes = owner
    timm_name, arguments = ARCHITECTURES[arch]
    with files.new_folder(folder) as fresh:
        weights = fresh / f"{content}.safetensors"
        files.write_tensors(weights, tensors)
        files.write_json(fresh / "results.json", results)
        config = {
            "architecture": timm_name,
            "num_classes": classes,
            "model_args": arguments,
            "lottery_hub": {
                "format": FORMAT,
                "library": __version__,
                "content": content,
                "arch": arch,
                "pretrain": kind,
                "mean": list(mean),
                "std": list(std),
                "prunable": "every Conv2d weight",
                **about,
                "hashes": {path.name: files.sha256(path) for path in (weights, fresh / "results.json")},
            },
        }
        files.write_json(fresh / "config.json", config)
        if card is not None:
            files.write_text(fresh / "README.md", card)
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    whole = files.read_json(folder / "config.json")
    config = whole.get("lottery_hub")
    if not isinstance(config, dict):
        raise TicketError(f"{printable(folder / 'config.json')} has no lottery_hub object; this is not a ticket folder")
    if config.get("format") != FORMAT:
        raise TicketError(
            f"{printable(folder)} has format {printable(config.get('format'))}, this version reads {FORMAT}; "
            "update lottery-hub"
        )
    if config.get("content") not in get_args(Content):
        raise TicketError(f"{printable(folder)} holds {printable(config.get('content'))}, not a ticket or ladder")
    return config | {"num_classes": whole.get("num_classes")}


def _owner_of(config: dict[str, Any], folder: Path) -> _Owner:
    arch, mean, std = config.get("arch"), config.get("mean"), config.get("std")
    if not isinstance(arch, str) or not is_known_arch(arch):
        raise TicketError(f"{printable(folder)} asks for the architecture {printable(arch)}, which is not allowed")
    for values in (mean, std):
        if not (isinstance(values, list) and len(values) == 3 and all(type(v) in (int, float) for v in values)):
            raise TicketError(f"{printable(folder)}: mean and std are three numbers each")
    centres, widths = cast(list[float], mean), cast(list[float], std)
    if not all(0 <= m <= 1 and 0 < s <= 1 for m, s in zip(centres, widths, strict=True)):
        raise TicketError(f"{printable(folder)}: mean and std of [0,1] pixels lie in 0..1, and std is not 0")
    classes = _integer(config, "num_classes", MAX_CLASSES)
    kind = _one_of(config, "pretrain", get_args(Kind))
    return arch, cast(Kind, kind), tuple(centres), tuple(widths), classes


def _shapes(arch: str, classes: int) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    network = skeleton(arch, classes)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return shapes, prunable_names(network)


def _load_dense(folder: Path, config: dict[str, Any]) -> tuple[Backbone, dict[str, Tensor], dict[str, Any]]:
    """Return (backbone, survived, results) of a backbone or ladder folder."""
    arch, kind, mean, std, classes = _owner_of(config, folder)
    levels = _integer(config, "levels", MAX_LEVELS)
    try:
        weights, survived = codec.decode_ladder(_read_tensors(folder, config), *_shapes(arch, classes), levels)
    except TicketError as problem:
        raise TicketError(f"{printable(folder)}: {problem}") from problem
    results = _read_results(folder, config)
    records = _object(results, "pretraining")
    return Backbone(arch, kind, weights, mean, std, _object(config, "provenance"), records), survived, results


def _read_tensors(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / f"{config['content']}.safetensors"
    _check_hash(path, config)
    return files.read_tensors(path)


def _read_results(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    path = folder / "results.json"
    _check_hash(path, config)
    return files.read_json(path)


def _check_hash(path: Path, config: dict[str, Any]) -> None:
    if not path.is_file():
        raise TicketError(f"{printable(path)} is missing")
    if _object(config, "hashes").get(path.name) != files.sha256(path):
        raise TicketError(f"{printable(path)} is not the file that config.json describes (sha256 differs)")


def _object(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    if not isinstance(value, dict):
        raise TicketError(f"{key} is missing or not an object")
    return value


def _integer(config: dict[str, Any], key: str, most: int) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise TicketError(f"config.json: {key} is {printable(value)}, not a whole number up to {most}")
    return value


def _one_of(config: dict[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    value = config.get(key)
    if value not in allowed:
        raise TicketError(f"config.json: {key} is {printable(value)}, not one of {', '.join(allowed)}")
    return value
