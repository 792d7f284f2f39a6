"""Pruned networks of others, as tickets: what torch.nn.utils.prune leaves in a checkpoint, or masks in a file apart.

    conv1.weight_orig, conv1.weight_mask    a pair: the ticket keeps weight_orig where the mask is 1
    conv1.weight_mask                       of a file with masks alone; the weights are in another
    conv1.weight                            the same by the weight's own name, 0 or 1

The weights are those of the file: whether they are the pre-trained ones, to which a ticket is rewound, it cannot tell.
Nor does it say how the masks were drawn. The ticket's provenance says that it was imported, and from what.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from lottery_hub.errors import BackboneError, TicketError, printable
from lottery_hub.networks.backbones import DEFAULT_ARCH, Backbone, check_arch
from lottery_hub.networks.masks import Mask, full_mask
from lottery_hub.networks.tickets import MAX_LEVELS, Ticket, ticket_of
from lottery_hub.settings.config import Kind
from lottery_hub.settings.paths import path_of
from lottery_hub.sharing.checkpoint_layouts import FLOATS, MASK, ORIGINAL, Checkpoint, read_checkpoint
from lottery_hub.sharing.sources import WHOLE, backbone_of
from lottery_hub.storage import files

_TRUTHS = (torch.bool, torch.uint8, torch.int8, *WHOLE, *FLOATS)


def import_ticket(
    file: str | os.PathLike[str],
    arch: str | None = None,
    pretrain: Kind | None = None,
    masks: str | os.PathLike[str] | None = None,
) -> Ticket:
    """Make a ticket of a pruned network's checkpoint; no code in it is run.

    Args:
        file: .safetensors, .pth, .pt, .ckpt or .tar, in any layout that `load_backbone` knows: the pairs of
            torch.nn.utils.prune, or, where `masks` is given, the weights as they were before pruning.
        arch: a key of `backbones.ARCHITECTURES`; None is the slim ResNet-18.
        pretrain: how the backbone was pre-trained, which no file says; None assumes std, and says so.
        masks: a file with `NAME_mask`, or NAME → 0/1, for the prunable weights; one that is not named is kept whole.

    Returns:
        The ticket. Its level is the one of 1-0.8^k that is nearest to its sparsity, its `provenance["imported"]`
        says what it was made of.

    Raises:
        BackboneError: a file cannot be read, or its weights do not fit.
        TicketError: there are no masks, or such as are none.
    """
    arch = arch or DEFAULT_ARCH
    check_arch(arch)
    if pretrain not in (None, *get_args(Kind)):
        raise BackboneError(f"{printable(repr(pretrain))} is no pre-training: give std, fast-adv or adv")
    path = path_of(file)
    checkpoint = _read(path)
    pairs = {name.removesuffix(MASK): mask for name, mask in checkpoint.state.items() if name.endswith(MASK)}
    if pairs and masks is not None:
        raise TicketError(f"{printable(path)} has masks of its own; leave the other file of masks out")
    if pairs and len(pairs) == len(checkpoint.state):
        raise TicketError(f"{printable(path)} holds masks alone; import the file of the weights, and give it as masks")
    weights = _without_masks(checkpoint.state, pairs, path)
    told = {"source": f"local file {path.name}"}
    backbone = backbone_of(checkpoint._replace(state=weights), path, arch, pretrain or "std", told)
    place = path if masks is None else path_of(masks)
    origin = f"the masks and weights of {printable(path.name)}"
    if masks is not None:
        pairs = _masks_of(_read(place), backbone)
        origin = f"the weights of {printable(path.name)}, the masks of {printable(place.name)}, {files.sha256(place)}"
    if not pairs:
        raise TicketError(f"{printable(place)} has no masks (keys that end in weight_mask); give some with --masks")
    if pretrain is None:
        origin += "; that its backbone was pre-trained by standard training is assumed"
    return _ticket(backbone, pairs, origin, place)


def _read(path: Path) -> Checkpoint:
    if not files.is_file(path):
        raise BackboneError(f"no checkpoint at {printable(path)}: give a file")
    return read_checkpoint(path)


def _without_masks(state: Mapping[str, Tensor], pairs: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights of a state dict by the names that they had before pruning."""
    originals = {name + ORIGINAL: name for name in pairs}
    twice = next((name for original, name in originals.items() if original in state and name in state), None)
    if twice is not None:
        raise TicketError(f"{printable(path)} has both {printable(twice)} and {printable(twice + ORIGINAL)}")
    return {originals.get(name, name): tensor for name, tensor in state.items() if not name.endswith(MASK)}


def _masks_of(checkpoint: Checkpoint, backbone: Backbone) -> dict[str, Tensor]:
    """Return the masks of a file: those it calls so, else what bears the name of a prunable weight."""
    named = {name.removesuffix(MASK): mask for name, mask in checkpoint.state.items() if name.endswith(MASK)}
    return named or {name: checkpoint.state[name] for name in backbone.prunable if name in checkpoint.state}


def _ticket(backbone: Backbone, pairs: Mapping[str, Tensor], origin: str, path: Path) -> Ticket:
    """Build the ticket of a backbone and the masks that were read for it."""
    checked = {name: _mask(name, mask, backbone, path) for name, mask in pairs.items()}
    whole: Mask = full_mask({name: backbone.weights[name] for name in backbone.prunable})
    # What is masked and not prunable here, as a head may be, keeps its zeros and is dense.
    others = {name: kept for name, kept in checked.items() if name not in whole}
    weights = backbone.weights | {name: backbone.weights[name] * kept for name, kept in others.items()}
    mask = whole | {name: kept for name, kept in checked.items() if name in whole}
    ticket = ticket_of(replace(backbone, weights=weights), mask, 0, "imp", {})
    kept, total = ticket.kept_and_total
    if kept in (0, total):
        what = "keep nothing" if kept == 0 else "prune nothing"
        raise TicketError(f"the masks of {printable(path)} {what} of the {total} convolution weights: it is no ticket")
    about = (
        f"{origin}; how it was drawn is not known (the method is a placeholder), "
        "and its level is the one whose sparsity, 1-0.8^k, is nearest"
    )
    if others:
        about += f"; {len(others)} tensors that are not prunable here were pruned too, e.g. {printable(min(others))}"
    level = min(range(1, MAX_LEVELS + 1), key=lambda k: abs(1 - 0.8**k - ticket.sparsity))
    return replace(ticket, level=level, provenance=ticket.provenance | {"imported": about})


def _mask(name: str, mask: Tensor, backbone: Backbone, path: Path) -> Tensor:
    """Return a mask as bools, True where kept.

    Raises:
        TicketError: it is not of one of the network's tensors, or holds anything but 0 and 1.
    """
    where = f"{printable(path)}: the mask of {printable(name, 60)}"
    weight = backbone.weights.get(name)
    if weight is None:
        raise TicketError(f"{where} is of no tensor of {backbone.arch}; check --arch")
    if mask.shape != weight.shape:
        raise TicketError(f"{where} has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}; check --arch")
    if mask.dtype not in _TRUTHS or not bool(((mask == 0) | (mask == 1)).all()):
        raise TicketError(f"{where} holds something else than 0 and 1")
    return mask.detach().bool().contiguous()
