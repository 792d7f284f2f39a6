"""Where a ticket, ladder or backbone is: in the folder that is named, inside what a command left, or in the package.

DIR/                            a folder with a config.json
DIR/ticket, DIR/ladder          what `find` leaves in its run directory, and `draw`
DIR/units/finetune/ticket       and `finetune`
DIR/units/pretrain/backbone     and `pretrain`
DIR/trained/NAME                the networks whose figures a verdict's records are, in a ticket's folder
packaged/NAME                   what ships with the library: ladders, and tickets with their trained networks
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from lottery_hub.errors import TicketError, printable
from lottery_hub.fetching import names
from lottery_hub.fetching.pointers import check_fetched
from lottery_hub.settings.config import MAX_SEEDS, REGIMES, Regime
from lottery_hub.settings.paths import path_of
from lottery_hub.storage import files
from lottery_hub.storage.ownership import CONFIG, MAX_CONFIG_BYTES, TRAINED

Wanted = Literal["ticket", "ladder", "backbone"]

_INSIDE: dict[Wanted, tuple[str, ...]] = {
    "ticket": ("ticket", "units/finetune/ticket"),
    "ladder": ("ladder",),
    "backbone": ("backbone", "units/pretrain/backbone"),
}
# What will do instead: a ladder has the backbone in it, and who asks for a ladder is told what is there.
_ORDER: dict[Wanted, tuple[Wanted, ...]] = {
    "ticket": ("ticket", "ladder", "backbone"),
    "ladder": ("ladder", "ticket", "backbone"),
    "backbone": ("backbone", "ladder", "ticket"),
}
SHOWN = 5
PACKAGED = Path(__file__).parent.parent / "packaged"


def find_folder(ref: Path | str, wanted: Wanted = "ticket") -> Path:
    """Return the folder that `ref` names: itself, what is wanted inside of a run directory, or a packaged one.

    Raises:
        TicketError: there is nothing of that name.
    """
    path = path_of(ref)
    found = inside(path, wanted) or packaged_folder(str(ref))
    if found:
        return found
    check_fetched(path)
    if runs := [each for each in _folders(path) if inside(each)]:
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        choices = ", ".join(printable(each) for each in runs[:SHOWN])
        raise TicketError(f"no ticket at {printable(ref)}, but {len(runs)} inside; give one of {choices}{more}")
    packaged = ", ".join(packaged_names())
    raise TicketError(
        f"no ticket at {printable(ref)}: give a folder with a config.json, USER/NAME on the Hub, or one of {packaged}"
    )


def inside(path: Path, wanted: Wanted = "ticket") -> Path | None:
    """Return a folder itself where it has a config.json, or what is wanted inside of a run directory, or None."""
    places = [path, *(path / place for content in _ORDER[wanted] for place in _INSIDE[content])]
    return next((place for place in places if files.is_file(place / CONFIG)), None)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir())
    except (OSError, ValueError):
        return []


def packaged_names() -> list[str]:
    """Return the names of the tickets, ladders and backbones that ship with the library, e.g. `resnet18-slim-adv`."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG}"))


def packaged_folder(name: str) -> Path | None:
    """Return the folder of what is packaged under a name, or None."""
    return PACKAGED / name if name in packaged_names() else None


def packaged_as(folder: Path) -> str | None:
    """Return the name under which a folder's contents are packaged, or None; it may be a copy of the packaged folder.

    Two folders are one where their config.json is: it names all there is by its hashes.
    """
    said = files.read_bytes(folder / CONFIG, MAX_CONFIG_BYTES)
    known = (name for name in packaged_names() if files.read_bytes(PACKAGED / name / CONFIG, MAX_CONFIG_BYTES) == said)
    return next(known, None)


def network_name(which: Literal["dense", "ticket"], regime: Regime, seed: int) -> str:
    """Return what a trained network is called, e.g. `ticket-adversarial-seed-0`."""
    return f"{which}-{regime}-seed-{seed}"


# What one deploys: the ticket after each transfer. Published and copied with the ticket; the others are evidence.
DEPLOYED = tuple(network_name("ticket", regime, 0) for regime in REGIMES)


def trained_seeds(records: Mapping[str, Any]) -> list[int]:
    """Return the seeds of the trained networks behind a verdict, given records that a stranger may have written."""
    count, confirmed = records.get("seeds"), records.get("confirmed")
    seeds = list(range(min(count, MAX_SEEDS))) if type(count) is int else []
    try:
        fresh = [run["seed"] for run in confirmed["standard"]["seeds"]] if confirmed else []
    except (LookupError, TypeError):
        fresh = []
    return seeds + [seed for seed in fresh if type(seed) is int and 0 <= seed < MAX_SEEDS and seed not in seeds]


def trained_places(seeds: Iterable[int]) -> list[str]:
    """Return where a ticket's folder holds the trained networks of a verdict, e.g. `trained/dense-standard-seed-0`."""
    return [
        f"{TRAINED}/{network_name(which, regime, seed)}"
        for which in ("dense", "ticket")
        for regime in REGIMES
        for seed in seeds
    ]


def trained_folders(folder: Path) -> dict[str, Path]:
    """Return name → ticket folder of the trained networks that a ticket's folder holds.

    Raises:
        TicketError: one of them is a link that leads out of the folder.
    """
    there = [place for place in trained_places(range(MAX_SEEDS)) if files.is_file(folder / place / CONFIG)]
    return {Path(place).name: names.below(folder, place, TicketError) for place in there}
