"""What takes long, done once for the same: forgeries, strangers and tests mostly leave networks and records alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from lottery_hub.images.datasets import Split
from lottery_hub.judging import remeasuring
from lottery_hub.networks.tickets import Ticket
from lottery_hub.sharing import publishing


@contextmanager
def remembering() -> Iterator[None]:
    """Measure the same network on the same images, in the same way, once."""
    known: dict[str, Any] = {}

    def remember(work: Callable[..., Any]) -> Callable[..., Any]:
        def once(models: Any, split: Split, *arguments: Any, **settings: Any) -> Any:
            digest = hashlib.sha256(split.images.numpy().tobytes())
            for _, model in sorted(models.items()) if isinstance(models, dict) else [("", models)]:
                for key, tensor in model.state_dict().items():
                    digest.update(key.encode() + tensor.numpy().tobytes())
            key = f"{work.__name__} {digest.hexdigest()} {arguments} {sorted(settings.items(), key=str)}"
            if key not in known:
                known[key] = work(models, split, *arguments, **settings)
            return known[key]

        return once

    with (
        mock.patch.object(remeasuring, "evaluate", remember(remeasuring.evaluate)),
        mock.patch.object(remeasuring, "check_masking", remember(remeasuring.check_masking)),
        mock.patch.object(remeasuring, "measure_corruptions", remember(remeasuring.measure_corruptions)),
    ):
        yield


@contextmanager
def drawing_once() -> Iterator[None]:
    """Draw the pictures and the page that are published with the same records once, for whichever repository."""
    known: dict[str, dict[str, bytes]] = {}
    draw = publishing._pictures

    def remember(copy: Path, ticket: Ticket, repo_id: str) -> dict[str, bytes]:
        digest = hashlib.sha256(ticket.fingerprint().encode())
        for path in sorted(copy.glob("*.*")):
            if path.suffix in (".json", ".md"):
                digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        if digest.hexdigest() not in known:
            known[digest.hexdigest()] = draw(copy, ticket, repo_id)
        return dict(known[digest.hexdigest()])

    with mock.patch.object(publishing, "_pictures", remember):
        yield
