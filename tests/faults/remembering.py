"""What `verify` measures, measured once: forgeries, and tests, mostly leave the networks as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from lottery_hub.images.datasets import Split
from lottery_hub.judging import remeasuring


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
