"""Find, keep and share double-win lottery tickets: sparse, accurate and robust subnetworks of timm ResNets.

The public names below are imported on first use, so that `import lottery_hub` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lottery_hub.version import __version__

_HOME = {
    "Attack": "settings.config",
    "Recipe": "settings.config",
    "DataPlan": "settings.config",
    "DrawPlan": "settings.config",
    "PretrainPlan": "settings.config",
    "TransferPlan": "settings.config",
    "FindPlan": "settings.plans",
    "Seeds": "settings.config",
    "ForeignAttack": "robustness.foreign",
    "DownloadError": "errors",
    "LotteryHubError": "errors",
    "PublishError": "errors",
    "TicketError": "errors",
    "Normalised": "networks.backbones",
    "load_backbone": "sharing.sources",
    "load_dataset": "images.datasets",
    "perturb": "robustness.attacks",
    "find": "commands.find",
    "study": "commands.study",
    "draw": "commands.draw",
    "pretrain": "commands.pretrain",
    "finetune": "commands.finetune",
    "evaluate": "commands.evaluate",
    "transfer": "training.transferring",
    "Ladder": "networks.tickets",
    "Ticket": "networks.tickets",
    "Backbone": "networks.backbones",
    "Dataset": "images.datasets",
    "Accuracy": "robustness.evaluation",
    "overlap": "commands.overlap",
    "plot": "reporting.pictures",
    "results": "commands.tables",
    "list_tickets": "sharing.listing",
    "load_ticket": "sharing.pulling",
    "load_ladder": "sharing.pulling",
    "pull": "sharing.pulling",
    "push_ticket": "sharing.publishing",
    "search_tickets": "sharing.searching",
    "import_ticket": "sharing.importing",
    "save_ticket": "storage.folder",
    "verify": "verifying",
}

__all__ = [
    "Accuracy",
    "Attack",
    "Backbone",
    "DataPlan",
    "Dataset",
    "DownloadError",
    "DrawPlan",
    "FindPlan",
    "ForeignAttack",
    "Ladder",
    "LotteryHubError",
    "Normalised",
    "PretrainPlan",
    "PublishError",
    "Recipe",
    "Seeds",
    "Ticket",
    "TicketError",
    "TransferPlan",
    "__version__",
    "draw",
    "evaluate",
    "find",
    "finetune",
    "import_ticket",
    "list_tickets",
    "load_backbone",
    "load_dataset",
    "load_ladder",
    "load_ticket",
    "overlap",
    "perturb",
    "plot",
    "pretrain",
    "pull",
    "push_ticket",
    "results",
    "save_ticket",
    "search_tickets",
    "study",
    "transfer",
    "verify",
]

if TYPE_CHECKING:
    from lottery_hub.commands.draw import draw
    from lottery_hub.commands.evaluate import evaluate
    from lottery_hub.commands.find import find
    from lottery_hub.commands.finetune import finetune
    from lottery_hub.commands.overlap import overlap
    from lottery_hub.commands.pretrain import pretrain
    from lottery_hub.commands.study import study
    from lottery_hub.commands.tables import results
    from lottery_hub.errors import DownloadError, LotteryHubError, PublishError, TicketError
    from lottery_hub.images.datasets import Dataset, load_dataset
    from lottery_hub.networks.backbones import Backbone, Normalised
    from lottery_hub.networks.tickets import Ladder, Ticket
    from lottery_hub.reporting.pictures import plot
    from lottery_hub.robustness.attacks import perturb
    from lottery_hub.robustness.evaluation import Accuracy
    from lottery_hub.robustness.foreign import ForeignAttack
    from lottery_hub.settings.config import Attack, DataPlan, DrawPlan, PretrainPlan, Recipe, Seeds, TransferPlan
    from lottery_hub.settings.plans import FindPlan
    from lottery_hub.sharing.importing import import_ticket
    from lottery_hub.sharing.listing import list_tickets
    from lottery_hub.sharing.publishing import push_ticket
    from lottery_hub.sharing.pulling import load_ladder, load_ticket, pull
    from lottery_hub.sharing.searching import search_tickets
    from lottery_hub.sharing.sources import load_backbone
    from lottery_hub.storage.folder import save_ticket
    from lottery_hub.training.transferring import transfer
    from lottery_hub.verifying import verify

else:  # A type checker that saw this would take every name for a public one.

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'lottery_hub' has no attribute {name!r}")
        value = getattr(import_module(f"lottery_hub.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
