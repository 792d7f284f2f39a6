"""The figures of a card in the Hub's newer form, `.eval_results/*.yaml`, which it shows beside others' on a dataset."""

from __future__ import annotations

import yaml

from lottery_hub.errors import PublishError, printable
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import dataset_id, metrics

EVAL_RESULTS = ".eval_results/lottery-hub.yaml"


def eval_results_of(ticket: Ticket) -> bytes:
    """Return the file: an entry for each figure that the card's model-index has, in 0..1, with its settings as notes.

    Raises:
        PublishError: the ticket has no figures, or they are of images that are no dataset of the Hub.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    if not ticket.records:
        raise PublishError("this ticket was never transferred, so that there is no result; push without --eval-results")
    data = ticket.records["data"]
    dataset = dataset_id(str(data["name"]))
    if dataset is None:
        raise PublishError(
            f"results are filed under a dataset of the Hub, and {printable(data['name'])} is none; "
            "push without --eval-results"
        )
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=each["name"].lower().replace(" ", "_"),
            value=each["value"],
            dataset_revision=data["revision"],
            notes=", ".join(f"{name} {printable(str(value), 200)}" for name, value in each["args"].items()),
        )
        for each in metrics(ticket.records)
    ]
    text: str = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    return text.encode()
