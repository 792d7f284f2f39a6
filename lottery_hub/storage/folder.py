"""A folder that holds a ticket, a ladder or a backbone: written whole, read with every byte accounted for.

    README.md                       the card (tickets only)
    config.json                     timm's own keys, and one "lottery_hub" object, see `manifest`
    {ticket,ladder,backbone}.safetensors   the compact tensors, see `codec`
    results.json                    the records
    trained/NAME/                   ticket folders of the networks whose figures the records are, where they are kept

A ladder folder is also a backbone folder, and any of its levels can be loaded as a ticket.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lottery_hub.errors import TicketError, printable
from lottery_hub.images.fitting import fit_of
from lottery_hub.networks.backbones import Backbone, layout
from lottery_hub.networks.masks import Mask
from lottery_hub.networks.tickets import Ladder, Networks, Ticket, level_at
from lottery_hub.settings.paths import place_of
from lottery_hub.storage import atomic, codec, files, manifest, ownership
from lottery_hub.storage.codec import Values
from lottery_hub.storage.manifest import BackboneManifest, Content, LadderManifest, TicketManifest
from lottery_hub.storage.ownership import CARD as CARD
from lottery_hub.storage.ownership import CONFIG as CONFIG
from lottery_hub.storage.ownership import MAX_CONFIG_BYTES as MAX_CONFIG_BYTES
from lottery_hub.storage.ownership import RESULTS as RESULTS
from lottery_hub.storage.ownership import TRAINED as TRAINED
from lottery_hub.storage.places import find_folder as find_folder
from lottery_hub.storage.places import packaged_as as packaged_as
from lottery_hub.storage.places import packaged_folder as packaged_folder
from lottery_hub.storage.places import packaged_names as packaged_names
from lottery_hub.storage.places import trained_folders as trained_folders
from lottery_hub.storage.places import trained_places as trained_places
from lottery_hub.storage.places import trained_seeds as trained_seeds
from lottery_hub.version import __version__

MAX_CARD_BYTES = 4 * 2**20
MAX_PICTURE_BYTES = 16 * 2**20


def save_ticket(
    ticket: Ticket,
    folder: Path | str,
    card: str | None = None,
    values: Values | None = None,
    trained: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    carry: bool = False,
) -> Path:
    """Write a ticket folder, replacing an older one only when the new one is complete, and only one wholly ours.

    Args:
        ticket: what to write; its records become results.json.
        folder: where; missing parents are made.
        card: text of README.md; None writes no card.
        values: round the surviving weights to this type; None takes the smallest that loses nothing.
        trained: name → ticket folder, to be copied to `trained/NAME`.
        overwrite: where something that is not ours is there (see `ownership`), move it aside to `NAME.old`.
        carry: keep everything of an older folder that is not written anew.

    Returns:
        The folder.

    Raises:
        TicketError: something that is not ours would be lost, or the folder cannot be written.
    """
    survived = {name: kept.to(codec.COUNT) for name, kept in ticket.mask.items()}
    values = values or codec.exact_values(ticket.weights, survived, first=1)
    kept, total = ticket.kept_and_total
    about = {
        "level": ticket.level,
        "kept": kept,
        "total": total,
        "sparsity": ticket.sparsity,
        "double_win": ticket.double_win,
        "method": ticket.method,
    }
    arrays = codec.encode(ticket.weights, survived, 1, first=1, values=values)
    place = place_of(folder)
    with _replacing(place, tuple(trained or ()), overwrite, carry) as fresh:
        _save(fresh, "ticket", ticket, values, about, arrays, ticket.records)
        if card is not None:
            atomic.write_text(fresh / CARD, card)
        for name, source in (trained or {}).items():
            shutil.copytree(source, fresh / TRAINED / name)
        if carry and place.is_dir():
            ownership.carry_over(place, fresh)
    return place


def save_ladder(ladder: Ladder, folder: Path | str, overwrite: bool = False) -> Path:
    """Write a ladder folder: θ_pre once, and every round's increment of the nested masks; else as `save_ticket`."""
    backbone = ladder.backbone
    values = codec.exact_values(backbone.weights, ladder.survived)
    about = {
        "levels": ladder.levels,
        "sparsities": list(ladder.sparsities),
        "method": ladder.method,
        "fingerprint": backbone.fingerprint(),
    }
    arrays = codec.encode(backbone.weights, ladder.survived, ladder.levels, values=values)
    results = {"pretraining": backbone.records, "drawing": ladder.drawing}
    place = place_of(folder)
    with _replacing(place, (), overwrite) as fresh:
        _save(fresh, "ladder", backbone, values, about, arrays, results)
    return place


def save_backbone(backbone: Backbone, folder: Path | str, overwrite: bool = False) -> Path:
    """Write a backbone folder: θ_pre and the record of its pre-training; else as `save_ticket`."""
    nothing = {name: kept.to(codec.COUNT) * 0 for name, kept in backbone.dense_mask().items()}
    values = codec.exact_values(backbone.weights, nothing)
    arrays = codec.encode(backbone.weights, nothing, 0, values=values)
    place = place_of(folder)
    with _replacing(place, (), overwrite) as fresh:
        _save(fresh, "backbone", backbone, values, {}, arrays, {"pretraining": backbone.records})
    return place


def load_ticket(ref: Path | str, sparsity: float | None = None) -> Ticket:
    """Load a ticket from a ticket folder, or one level of a ladder folder, or what is packaged.

    Of a ladder only what the level needs is decoded: the weights that it has lost are not.

    Args:
        ref: a folder, a run directory with one, or a packaged name such as `resnet18-slim-adv`, which is a ladder.
        sparsity: which level of a ladder, in 0..1, nearest wins; a ticket folder has just one, and asking
            for another is an error.

    Raises:
        TicketError: names the file and the reason.
    """
    folder = find_folder(ref)
    about = read_about(folder)
    if isinstance(about, LadderManifest):
        if sparsity is None:
            raise TicketError(f"{printable(ref)} holds a ladder; say which sparsity you want, e.g. 0.9")
        try:
            level = level_at(tuple(about.sparsities), sparsity)
        except TicketError as problem:
            raise TicketError(f"{printable(ref)}: {problem}") from problem
        content = _read(folder, about, wanted=level)
        ladder = _ladder(folder, about, content)
        return ladder.ticket(level, fingerprint=about.fingerprint)
    if not isinstance(about, TicketManifest):
        raise TicketError(f"{printable(ref)} holds a backbone, which is dense; draw a ladder from it")
    content = _read(folder, about)
    ticket = Ticket(
        arch=about.arch,
        kind=about.pretrain,
        weights=content.weights,
        mask=_mask(content.survived),
        level=about.level,
        method=about.method,
        mean=tuple(about.mean),
        std=tuple(about.std),
        provenance=about.provenance,
        records=content.results,
        networks=Networks(partial(trained_folders, folder), partial(_network, folder)),
    )
    if (about.kept, about.total) != ticket.kept_and_total or about.sparsity != ticket.sparsity:
        raise TicketError(f"{printable(folder)}: config.json and the mask disagree about how many weights are kept")
    if about.double_win != ticket.double_win:
        raise TicketError(f"{printable(folder)}: config.json and results.json disagree about the verdict")
    if sparsity is not None and not abs(sparsity - ticket.sparsity) <= 0.005:
        raise TicketError(f"{printable(ref)} holds one ticket, of sparsity {ticket.sparsity:.4f}, not {sparsity}")
    return ticket


def load_ladder(ref: Path | str) -> Ladder:
    """Load a ladder from its folder, or a packaged one by name.

    Raises:
        TicketError: names the file and the reason; a ticket folder has no ladder.
    """
    folder = find_folder(ref, "ladder")
    about = read_about(folder)
    if not isinstance(about, LadderManifest):
        raise TicketError(f"{printable(ref)} holds a {about.content}, not a ladder")
    return _whole_ladder(folder, about)


def load_backbone_folder(folder: Path) -> Backbone:
    """Load θ_pre from a backbone or ladder folder.

    Raises:
        TicketError: names the file and the reason; a ticket has lost its pruned weights.
    """
    about = read_about(folder)
    if isinstance(about, TicketManifest):
        raise TicketError(f"{printable(folder)} holds a ticket, whose pruned weights are gone; give its backbone")
    if isinstance(about, LadderManifest):
        return _whole_ladder(folder, about).backbone
    return _backbone(folder, about, _read(folder, about))


def read_about(folder: Path) -> BackboneManifest:
    """Return the checked manifest of a folder: what its config.json says."""
    config = files.read_json(folder / CONFIG, MAX_CONFIG_BYTES)
    try:
        return manifest.parse_manifest(config)
    except TicketError as problem:
        raise TicketError(f"{printable(folder)}: {problem}") from problem


def read_card(folder: Path) -> str | None:
    """Return the card of a folder, or None where there is nothing of that name.

    Raises:
        TicketError: it is no file, leads out of the folder, is too large, or is not UTF-8.
    """
    path = folder / CARD
    return files.read_text(path, MAX_CARD_BYTES) if files.is_there(path) else None


def weights_path(folder: Path, about: BackboneManifest) -> Path:
    """Return where a folder's weights file is."""
    return folder / _weights_name(about.content)


def copy_files(
    source: Path, target: Path, *, card: bool, pictures: bool = False, trained: Collection[str] | None = ()
) -> None:
    """Copy what makes a ticket, ladder or backbone to a folder, and check the copy whole.

    Each file is read once, as a regular file of its folder and within its bound: what is in the copy is what was
    checked, whatever becomes of the source.

    Args:
        source: where to read.
        target: an empty folder.
        card, pictures: also README.md and the pictures beside it, where they are.
        trained: also the trained networks of these names, where they are; None for all.

    Raises:
        TicketError: names the file and the reason.
    """
    with atomic.writing(target):
        _copy_files(source, target, card, pictures)
    check_folder(target)
    for name, network in trained_folders(source).items():
        if trained is None or name in trained:
            (target / TRAINED / name).mkdir(parents=True)
            copy_files(network, target / TRAINED / name, card=True)


def _copy_files(source: Path, target: Path, card: bool, pictures: bool) -> None:
    (target / CONFIG).write_bytes(files.read_bytes(source / CONFIG, MAX_CONFIG_BYTES))
    about = read_about(target)
    bounds = {weights_path(target, about).name: max_weights_bytes(about), RESULTS: files.MAX_JSON_BYTES}
    if card and files.is_there(source / CARD):
        bounds[CARD] = MAX_CARD_BYTES
    if pictures:
        bounds |= dict.fromkeys(sorted(path.name for path in source.glob("*.png")), MAX_PICTURE_BYTES)
    for name, limit in bounds.items():
        (target / name).write_bytes(files.read_bytes(source / name, limit))


def max_weights_bytes(about: BackboneManifest) -> int:
    """Return the size beyond which a weights file is refused unread.

    Unary codes have no worst case worth the name; no real network comes near eight bytes a weight.
    """
    return 2**20 + 8 * sum(map(math.prod, layout(about.arch, about.num_classes).shapes.values()))


def check_folder(folder: Path) -> BackboneManifest:
    """Read a folder whole, as loading it would, and return its manifest.

    Raises:
        TicketError: names the file and the reason.
    """
    about = read_about(folder)
    if isinstance(about, TicketManifest):
        load_ticket(folder)
    elif isinstance(about, LadderManifest):
        load_ladder(folder)
    else:
        load_backbone_folder(folder)
    return about


def _network(folder: Path, name: str) -> Ticket | None:
    """Load a trained network beside a ticket by its name."""
    place = trained_folders(folder).get(name)
    return None if place is None else load_ticket(place)


class _Content(NamedTuple):
    weights: dict[str, Tensor]
    survived: dict[str, Tensor]
    results: dict[str, Any]


def _replacing(
    folder: Path, trained: Collection[str], overwrite: bool, carry: bool = False
) -> AbstractContextManager[Path]:
    """Return the new folder that takes the place of one that is wholly ours, or of any if all in it is carried over."""
    foreign = atomic.nothing if carry else partial(ownership.first_foreign, trained=trained)
    return atomic.new_folder(folder, foreign=foreign, overwrite=overwrite)


def _save(
    fresh: Path,
    content: Content,
    owner: Backbone | Ticket,
    values: Values,
    about: dict[str, Any],
    arrays: codec.Arrays,
    results: dict[str, Any],
) -> None:
    weights = fresh / _weights_name(content)
    files.write_arrays(weights, arrays)
    atomic.write_json(fresh / RESULTS, results)
    said = {
        "content": content,
        "library": __version__,
        "num_classes": len(owner.weights["fc.weight"]),
        "arch": owner.arch,
        "pretrain": owner.kind,
        "mean": list(owner.mean),
        "std": list(owner.std),
        "prunable": "every Conv2d weight",
        "values": values,
        **about,
        "provenance": owner.provenance,
        "hashes": {path.name: files.sha256(path) for path in (weights, fresh / RESULTS)},
    }
    atomic.write_json(fresh / CONFIG, manifest.to_config(manifest.of(said)) | _seen(owner))


def _seen(owner: Backbone | Ticket) -> dict[str, Any]:
    """Return what the network in a folder sees and answers, in timm's keys, where its records are of that network."""
    if not isinstance(owner.records.get("data"), dict) or (isinstance(owner, Ticket) and owner.judged):
        return {}
    classes = len(owner.weights["fc.weight"])
    fit = fit_of(owner.records, classes)
    shown = {"input_size": [3, fit.image_size, fit.image_size], "mean": list(owner.mean), "std": list(owner.std)}
    how = {key: value for key, value in fit.record().items() if key in ("crop_mode", "crop_pct", "interpolation")}
    return {"pretrained_cfg": {"num_classes": classes} | shown | how} | manifest.labels(fit.names)


def _read(folder: Path, about: BackboneManifest, wanted: int | None = None) -> _Content:
    """Read and check the weights and records that a manifest announces; groups below `wanted` are not decoded."""
    weights, results = weights_path(folder, about), folder / RESULTS
    if about.hashes.keys() != {weights.name, RESULTS}:
        raise TicketError(
            f"{printable(folder)}: config.json: hashes does not name exactly {weights.name} and {RESULTS}"
        )
    shapes, prunable = layout(about.arch, about.num_classes)
    arrays = files.parse_arrays(_read_hashed(weights, about, max_weights_bytes(about)), weights)
    try:
        decoded = codec.decode(
            arrays, shapes, prunable, about.rounds, first=about.first, values=about.values, wanted=wanted
        )
    except TicketError as problem:
        raise TicketError(f"{printable(weights)}: {problem}") from problem
    return _Content(*decoded, files.parse_json(_read_hashed(results, about, files.MAX_JSON_BYTES), results))


def _read_hashed(path: Path, about: BackboneManifest, limit: int) -> bytes:
    data = files.read_bytes(path, limit)
    if about.hashes[path.name] != files.sha256_of(data):
        raise TicketError(f"{printable(path)} is not the file that config.json describes (sha256 differs)")
    return data


def _whole_ladder(folder: Path, about: LadderManifest) -> Ladder:
    ladder = _ladder(folder, about, _read(folder, about))
    if about.fingerprint != ladder.backbone.fingerprint():
        raise TicketError(f"{printable(folder)}: config.json and the weights disagree about the fingerprint")
    return ladder


def _ladder(folder: Path, about: LadderManifest, content: _Content) -> Ladder:
    ladder = Ladder(
        backbone=_backbone(folder, about, content),
        survived=content.survived,
        levels=about.levels,
        method=about.method,
        drawing=_object(content.results, "drawing", folder),
    )
    if about.sparsities != list(ladder.sparsities):
        raise TicketError(f"{printable(folder)}: config.json and the masks disagree about the levels' sparsities")
    return ladder


def _backbone(folder: Path, about: BackboneManifest, content: _Content) -> Backbone:
    return Backbone(
        arch=about.arch,
        kind=about.pretrain,
        weights=content.weights,
        mean=tuple(about.mean),
        std=tuple(about.std),
        provenance=about.provenance,
        records=_object(content.results, "pretraining", folder),
    )


def _mask(survived: Mapping[str, Tensor]) -> Mask:
    # A ticket has one round: survived is 0 or 1, which are the bytes of a bool already.
    return {name: rounds.view(torch.bool) for name, rounds in survived.items()}


def _weights_name(content: Content) -> str:
    return f"{content}.safetensors"


def _object(results: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    value = results.get(key)
    if not isinstance(value, dict):
        raise TicketError(f"{printable(folder)}: {key} is missing from {RESULTS} or not an object")
    return value
