"""The manifest: what a folder's config.json says about it, checked before anything is built or read.

"architecture", "num_classes", "model_args"   timm's own keys, which must be those of an allowed architecture
"lottery_hub": {...}                          one of the three classes below
"label_names", "id2label", "label2id"         names of the classes of timm's network, for others; never read here

timm's keys are of the network in model.safetensors, where there is one. Where that has another head than what is
stored for us, the "lottery_hub" object says how many classes ours has: its own "num_classes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from lottery_hub.errors import ConfigError, TicketError, printable
from lottery_hub.networks.backbones import ARCHITECTURES, MAX_CLASSES, MIN_STD
from lottery_hub.networks.tickets import MAX_LEVELS
from lottery_hub.settings.config import Frozen, Kind, Method
from lottery_hub.storage.codec import Values

FORMAT = 1
Content = Literal["ticket", "ladder", "backbone"]

# What timm itself may have written beside ours; never read.
_TIMM_KEYS = {"num_features", "global_pool", "pretrained_cfg", "label_names", "id2label", "label2id"}
_Count = Annotated[int, Field(ge=0)]
_Level = Annotated[int, Field(ge=0, le=MAX_LEVELS)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class BackboneManifest(Frozen):
    """What every folder says; a backbone's says no more.

    Attributes:
        num_classes: of the stored head; see above for where it stands.
        arch: our name of the architecture.
        pretrain: how the backbone was pre-trained.
        mean, std: per channel, applied to [0,1] pixels.
        values: what the prunable weights are stored as.
        provenance: where it comes from.
        hashes: file name → sha256 of the folder's other files, the card excepted.
    """

    content: Content
    library: Annotated[str, Field(max_length=100)]
    num_classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)]
    arch: str
    pretrain: Kind
    mean: Annotated[list[_Share], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(ge=MIN_STD, le=1)]], Field(min_length=3, max_length=3)]
    prunable: Literal["every Conv2d weight"]
    values: Values
    provenance: dict[str, Any]
    hashes: dict[str, _Hash]

    @property
    def rounds(self) -> int:
        """Rounds of pruning in the weights file."""
        return 0

    @property
    def first(self) -> int:
        """The lowest group of weights in the weights file; see `codec`."""
        return 0


class LadderManifest(BackboneManifest):
    """A ladder: how many levels, how sparse, and the fingerprint of θ_pre (`backbones.fingerprint`)."""

    levels: Annotated[int, Field(ge=1, le=MAX_LEVELS)]
    sparsities: Annotated[list[_Share], Field(max_length=MAX_LEVELS + 1)]
    method: Method
    fingerprint: _Hash

    @property
    def rounds(self) -> int:
        """Rounds of pruning in the weights file."""
        return self.levels


class TicketManifest(BackboneManifest):
    """A ticket: which level, and integer counts over the prunable weights."""

    level: _Level
    kept: _Count
    total: _Count
    sparsity: _Share
    double_win: bool | None
    method: Method

    @property
    def rounds(self) -> int:
        """Rounds of pruning in the weights file: what lies between dense and the ticket is one."""
        return 1

    @property
    def first(self) -> int:
        """The lowest group of weights in the weights file; pruned weights are gone."""
        return 1


Manifest = BackboneManifest | LadderManifest | TicketManifest
_MANIFESTS: dict[Content, type[BackboneManifest]] = {
    "ticket": TicketManifest,
    "ladder": LadderManifest,
    "backbone": BackboneManifest,
}


def of(said: dict[str, Any]) -> Manifest:
    """Build the manifest of the content that `said` names.

    Raises:
        ConfigError: names the field and what is allowed.
    """
    return _MANIFESTS[said["content"]].parse(said)


def check_classes(count: object) -> None:
    """Raise TicketError unless a head can have so many classes."""
    if type(count) is not int or not 1 <= count <= MAX_CLASSES:
        raise TicketError(f"config.json: num_classes is {printable(count)}, not a number from 1 to {MAX_CLASSES}")


def to_config(manifest: Manifest, copied: int | None = None) -> dict[str, Any]:
    """Return the content of config.json; `copied` are the classes of timm's network, where that is another."""
    timm_name, arguments = ARCHITECTURES[manifest.arch]
    about = manifest.record()
    classes = about.pop("num_classes")
    if copied is not None and copied != classes:
        about["num_classes"], classes = classes, copied
    return {
        "architecture": timm_name,
        "num_classes": classes,
        "model_args": arguments,
        "lottery_hub": {"format": FORMAT} | about,
    }


def labels(names: Sequence[str]) -> dict[str, Any]:
    """Return what config.json says of the names of classes: in the keys of timm, and in those of transformers."""
    if not names:
        return {}
    numbers = {name: label for label, name in reversed(list(enumerate(names)))}
    return {
        "label_names": list(names),
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": dict(sorted(numbers.items(), key=lambda item: item[1])),
    }


def parse_manifest(config: Mapping[str, Any]) -> Manifest:
    """Check the content of config.json.

    Raises:
        TicketError: it is not ours, is newer than this library, or says something impossible.
    """
    about = config.get("lottery_hub")
    if not isinstance(about, dict):
        raise TicketError("config.json has no lottery_hub object; this is not a ticket folder")
    if about.get("format") != FORMAT or type(about.get("format")) is not int:
        raise TicketError(
            f"config.json has format {printable(about.get('format'))}, this version reads {FORMAT}; update lottery-hub"
        )
    content = about.get("content")
    if content not in get_args(Content):
        raise TicketError(f"config.json announces {printable(content)}, not a ticket, ladder or backbone")
    timms = config.get("num_classes")
    if "num_classes" in about:
        check_classes(timms)
        if about["num_classes"] == timms:
            raise TicketError("config.json: num_classes stands in the lottery_hub object only where timm's is another")
    fields = {name: value for name, value in about.items() if name != "format"}
    try:
        manifest = of({"num_classes": timms} | fields)
    except ConfigError as problem:
        raise TicketError(f"config.json: {str(problem).partition('.')[2] or problem}") from problem
    if manifest.arch not in ARCHITECTURES:
        raise TicketError(
            f"config.json asks for the architecture {printable(repr(manifest.arch))}, which is not allowed"
        )
    if isinstance(manifest, LadderManifest) and len(manifest.sparsities) != manifest.levels + 1:
        raise TicketError(f"config.json: sparsities are not those of {manifest.levels} levels and the dense one")
    own = {name: value for name, value in to_config(manifest).items() if name != "lottery_hub"}
    own |= {"num_classes": timms}
    for name, value in json.loads(json.dumps(own)).items():
        if config.get(name) != value:
            raise TicketError(f"config.json: {name} is {printable(config.get(name))}, {manifest.arch} has {value}")
    extra = sorted(config.keys() - own.keys() - _TIMM_KEYS - {"lottery_hub"})
    if extra:
        raise TicketError(f"config.json: the key {printable(repr(extra[0]))} does not belong here")
    return manifest
