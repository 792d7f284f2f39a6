"""Faults on demand: what a network, a proxy or a busy Hub does to a request, once or a few times.

A test names the requests to hit with an expression; the server asks for the fault of each request before it answers.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = {
    "status": "answer `status` and do nothing",
    "slow": "wait `seconds`, then answer",
    "trickle": "send the body piece by piece over `seconds`, one a second or more often, so that no read takes long",
    "cut": "close the connection in the middle of a body",
    "short": "answer with the first half of the body, and headers that agree with it",
    "flip": "flip one bit of the body",
    "wrong_etag": "answer with the ETag of some other file",
    "etag": "name the contents by `name`",
    "commit": "name `name` as the commit that a file is of",
    "sha": "name `name` as the commit in a description of the repository",
    "sibling": "list a file `name` besides those of the repository, as large and with the contents of the first",
    "drop": "close the connection without a word, and do nothing",
    "applied_then_drop": "do what was asked, then close the connection without a word",
    "say": "answer `status` with `body` and `headers`, whatever was asked, and do nothing",
    "amend": "do what was asked, and answer with `headers` and, where it is given, `body` in place of its own",
    "endless": "answer with `headers`, and with `body` again and again until nobody listens",
    "bomb": "answer with gzip of `body` and as many spaces as make it `size` bytes",
    "move_branch": "commit `files` to `branch` of the repository first, as somebody else might",
}


@dataclass(frozen=True)
class Fault:
    """What happens to `times` requests, after the first `skip`, in whose "METHOD /path" `match` is found.

    Attributes:
        match: searched in, not matched with, the whole "METHOD /path", which is percent-decoded and has no query.
        status, retry_after, code: of the answer to kind "status": its Retry-After and X-Error-Code, if any.
        body, headers, size: of an answer that no Hub would give.
        name: what the answer names instead of what it should: an attacker's path, for instance.
    """

    match: str
    kind: str
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 500
    retry_after: int | str | None = None
    code: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    name: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    branch: str = "main"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is none of {', '.join(KINDS)}")
        re.compile(self.match)


class Faults:
    """The faults still to come; each request meets at most one, the first that was added of those that match."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[tuple[Fault, list[int]]] = []

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._coming += [(fault, [fault.skip, fault.times]) for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._coming.clear()

    def take(self, request: str) -> Fault | None:
        with self._lock:
            for fault, left in self._coming:
                if left[1] <= 0 or not re.search(fault.match, request):
                    continue
                if left[0] > 0:
                    left[0] -= 1
                    continue
                left[1] -= 1
                return fault
        return None

    def pending(self) -> list[Fault]:
        """Return the faults that have not struck as often as they were to."""
        with self._lock:
            return [fault for fault, (_, times) in self._coming if times > 0]
