"""Where a find takes its ladder from: a folder, the Hub, or the package."""

from __future__ import annotations

from lottery_hub.errors import ConfigError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.settings.plans import FindPlan
from lottery_hub.sharing.pulling import pull
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage.folder import load_ladder, packaged_folder, read_about
from lottery_hub.storage.origins import check_ladder


def known_ladder(plan: FindPlan, backbone: Backbone) -> tuple[Ladder, str] | None:
    """Return the ladder that a plan gives, or the packaged one where it allows that, and where it comes from.

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
    inside = packaged_folder(packaged_name(backbone.arch, backbone.kind))
    if plan.ladder == "auto" and plan.draw.method == "imp" and inside and read_about(inside).content == "ladder":
        ladder = load_ladder(inside)
        if ladder.backbone.fingerprint() == backbone.fingerprint():
            return ladder, f"packaged {inside.name}"
    return None
