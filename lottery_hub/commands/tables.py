"""`results`: every figure in the records of a ticket, ladder or backbone as a table, or every image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lottery_hub.errors import LotteryHubError, TicketError, printable

if TYPE_CHECKING:
    import pandas

    from lottery_hub.images.datasets import Dataset
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.reporting.tables import Predictions, Table


def results(
    ref: str | os.PathLike[str] | Ticket,
    *,
    images: bool = False,
    dataset: str | os.PathLike[str] | Dataset | None = None,
    device: str = "auto",
) -> pandas.DataFrame:
    """Return every figure in the records as a table for pandas, a row for each network, regime, seed, split and attack.

    `lottery-hub results` writes the same as CSV, JSON or parquet.

    Args:
        ref: a ticket, ladder, backbone or run directory, as of `load_ticket`, or a ticket itself.
        images: a row for each image that was measured instead: its place in the split, its label, the prediction, and
            whether that was right, clean and attacked.
        dataset: for `images`, where these are, as of `verify`; None takes what the records name. Labels are missing
            where they are not at hand, and predictions where the images or the trained network are not: records keep
            which images were right, and no more.
        device: on which predictions are computed: `auto`, `cpu` or `cuda`.

    Raises:
        LotteryHubError: there are no records, or other images than those of the records were given.
        ConfigError: pandas is not installed.
    """
    table, _ = table_of(ref, images=images, dataset=dataset, device=device)
    return table.to_pandas()


def table_of(
    ref: str | os.PathLike[str] | Ticket,
    *,
    images: bool = False,
    dataset: str | os.PathLike[str] | Dataset | None = None,
    device: str = "auto",
) -> tuple[Table, list[str]]:
    """Return the table of `results`, and what is missing from it in words."""
    from lottery_hub.judging.scrutiny import images_of
    from lottery_hub.networks.tickets import Ticket
    from lottery_hub.reporting.tables import figures_table, images_table
    from lottery_hub.sharing.pulling import pull, pulled_ticket
    from lottery_hub.storage.folder import load_backbone_folder, load_ladder, read_about
    from lottery_hub.storage.origins import check_backbone, check_ladder
    from lottery_hub.storage.records import check_ticket

    if not isinstance(ref, Ticket):
        pulled = pull(ref)
        content = read_about(pulled.folder).content
        if images and content != "ticket":
            raise TicketError(f"{printable(ref)} holds a {content}, whose records keep no single images")
        if content == "ladder":
            ladder = load_ladder(pulled.folder)
            check_ladder(ladder)
            return figures_table(ladder), []
        if content == "backbone":
            backbone = load_backbone_folder(pulled.folder)
            check_backbone(backbone)
            return figures_table(backbone), []
        ref = pulled_ticket(pulled)
    check_ticket(ref)
    if not images:
        return figures_table(ref), []
    if not ref.records:
        return images_table(ref, {}, {}), []
    try:
        data = images_of(ref, os.fspath(dataset) if isinstance(dataset, str | os.PathLike) else dataset)
    except LotteryHubError as problem:
        if dataset is not None:
            raise
        return images_table(ref, {}, {}), [f"labels and predictions are missing: {problem}"]
    labels = {"test": data.test.labels.tolist(), "validation": data.validation.labels.tolist()}
    predictions = _predictions(ref, data, device)
    missing = [] if predictions else ["predictions are missing: no trained network is beside the ticket"]
    return images_table(ref, labels, predictions), missing


def _predictions(ticket: Ticket, data: Dataset, device: str) -> Predictions:
    """Return what the networks at hand say of the clean images."""
    from lottery_hub.robustness.evaluation import predictions
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.storage.records import check_ticket

    chosen = choose_device(device)
    networks = ticket.networks
    if "transfer" in ticket.records:
        done = ticket.records["transfer"]
        which = "ticket" if ticket.sparsity else "dense"
        networks = {f"{which}-{done['regime']}-seed-{done['seed']}": ticket}
    found = {}
    for name in networks:
        network = networks[name]
        check_ticket(network)
        model, size = network.to_normalised().to(chosen), network.records["recipe"]["image_size"]
        for split, images in (("test", data.test), ("validation", data.validation)):
            found[name, split] = predictions(model, images, image_size=size, device=chosen)
    return found
