"""A process of its own in which the library talks to a Hub: the client reads its address when it is imported.

It lives as long as its `with` block, so that what a process takes to begin is paid once for many calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tests import warm


class Worker:
    """Calls functions of the library, named as "module:function", in a process with the given environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def __enter__(self) -> Worker:
        self.log = tempfile.TemporaryFile("w+")  # not a pipe, which blocks its writer when nobody reads it
        (asked, asking), (answering, answered) = os.pipe(), os.pipe()
        self._calls, self._answers = os.fdopen(asking, "w"), os.fdopen(answering)
        words = ["-m", "tests.hub.worker"]
        self.process = warm.start(
            words, env=self.environment, cwd=warm.ROOT, stdin=asked, stdout=answered, stderr=self.log
        )
        os.close(asked)
        os.close(answered)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> str:
        """End the process and return what it has logged."""
        self.process.kill()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._calls.close()
        self.log.seek(0)
        return self.log.read()

    def __call__(self, call: str, *args: Any, patience: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Return what the function returns, as JSON has it; of an error, its text, kind and traceback.

        `patience` becomes the `Patience` of that name.
        """
        print(json.dumps([call, args, kwargs, patience]), file=self._calls, flush=True)
        answer = self._answers.readline()
        assert answer, self.stop()
        return json.loads(answer)


def _plain(value: Any) -> Any:
    from lottery_hub.networks.tickets import Ladder, Ticket

    if isinstance(value, Ticket):
        return {"fingerprint": value.fingerprint(), "sparsity": value.sparsity, "provenance": value.provenance}
    if isinstance(value, Ladder):
        return {"fingerprint": value.backbone.fingerprint(), "levels": value.levels}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _main() -> None:
    from lottery_hub.errors import LotteryHubError
    from lottery_hub.fetching.connection import Patience

    for line in sys.stdin:
        call, args, kwargs, patience = json.loads(line)
        module, _, name = call.partition(":")
        if patience is not None:
            kwargs["patience"] = Patience(**patience)
        try:
            answer = _plain(getattr(importlib.import_module(module), name)(*args, **kwargs))
        except LotteryHubError as problem:
            answer = {"error": str(problem), "kind": type(problem).__name__, "trace": traceback.format_exc()}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    _main()
