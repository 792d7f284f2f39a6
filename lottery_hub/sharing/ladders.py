"""Where a find takes its ladder from: a folder, the Hub, or the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lottery_hub.errors import ConfigError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.settings.paths import path_of
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.pulling import pull
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage.folder import load_ladder, packaged_folder, read_about
from lottery_hub.storage.origins import check_ladder
from lottery_hub.storage.places import inside


def known_ladder(plan: FindPlan, backbone: Backbone) -> tuple[Ladder, str] | None:
    """Return the ladder that a plan gives, and where it comes from.

    Where the plan allows it, that is the one in the folder that its `pretrain` names, or the packaged one.

    Raises:
        ConfigError: a given ladder was drawn from another backbone.
    """
    if plan.ladder not in ("auto", "draw"):
        pulled = pull(plan.ladder, wanted="ladder")
        ladder = load_ladder(pulled.folder)
        check_ladder(ladder)
        if ladder.backbone.fingerprint() != backbone.fingerprint():
            raise ConfigError(
                f"the ladder {plan.ladder} was drawn from another backbone than --pretrain and --arch name"
            )
        return ladder, f"{pulled.repo_id}@{pulled.commit}" if pulled.repo_id else plan.ladder
    if plan.ladder == "auto" and plan.draw.method == "imp":
        for folder, name in _beside(plan.pretrain, backbone):
            if read_about(folder).content == "ladder":
                ladder = load_ladder(folder)
                check_ladder(ladder)
                if ladder.backbone.fingerprint() == backbone.fingerprint() and ladder.method == "imp":
                    return ladder, name
    return None


def _beside(pretrain: str, backbone: Backbone) -> Iterator[tuple[Path, str]]:
    """Yield the folders that may hold a backbone's ladder: the one that it was read from, and the packaged one."""
    itself = inside(path_of(pretrain), "ladder")
    if itself is not None:
        yield itself, pretrain
    packaged = packaged_folder(packaged_name(backbone.arch, backbone.kind))
    if packaged is not None:
        yield packaged, f"packaged {packaged.name}"
