"""What a server sends is bounded: in bytes, in time, and in where it can make the user's token go.

The Hub's client reads an answer to its end, however long it is and takes, unpacks whatever it unpacks to, waits as long
as a server tells it to, and sends the token to whichever address an answer names. Here hooks on the client's requests
and answers look at each: what is sent and what comes is counted and timed piece by piece. They act inside `within`
alone; whatever else a program asks of the client is as it was.
"""

from __future__ import annotations

import functools
import importlib
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from lottery_hub.errors import LotteryHubError, printable
from lottery_hub.telling import Report, heard

MAX_ANSWER_BYTES = 16 * 2**20  # a description of some 60,000 files; JSON of this size takes some 400 MB at worst
MAX_REFUSAL_BYTES = 2**20

# After these the client waits and tries again itself, for as long as the server says.
TRANSIENT = {408, 429, 500, 502, 503, 504}

STALL = 60.0  # seconds without a byte after which what is fetched counts as broken off, also without a deadline

WORTH_TELLING = 2**18  # bytes of a file

_PIECE = 2**16
_KEY = "lottery_hub.bounds"


@dataclass(frozen=True)
class Bounds:
    """What holds for the requests of one question.

    Attributes:
        subject: what it is about, for messages.
        error: what is raised where an answer goes beyond.
        homes: the origins, "https://host:port", that a token may be sent to.
        most: bytes of an answer, unpacked.
        deadline: seconds that the question may take, for messages; None: as long as it takes.
        end: when they are over, by `time.monotonic`.
        report: told how far files are that are sent or fetched.
    """

    subject: str
    error: type[LotteryHubError]
    homes: frozenset[str] = frozenset()
    most: int = MAX_ANSWER_BYTES
    deadline: float | None = None
    end: float | None = None
    report: Report = field(default_factory=heard, repr=False, compare=False)  # also told from the client's threads

    def left(self) -> float | None:
        """Return the seconds that are left, None for no end.

        Raises:
            LotteryHubError: none are.
        """
        if self.end is None:
            return None
        left = self.end - time.monotonic()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> LotteryHubError:
        """Return what to raise when the time is over."""
        return self.error(
            f"{self.subject}: not done after {self.deadline:g} s; try again later, or with a longer deadline"
        )


_HERE: ContextVar[Bounds | None] = ContextVar("bounds", default=None)
# Of the pushes under way. The client uploads in threads of its own, which know nothing of who started them.
_SENDING: list[Bounds] = []
_LOOK: ContextVar[Callable[[Any], None] | None] = ContextVar("look", default=None)
_LOCK = threading.Lock()


@contextmanager
def within(bounds: Bounds, *, sending: bool = False) -> Iterator[None]:
    """Hold what this thread asks to `bounds`, and where it is `sending` also uploads from threads that it starts."""
    token = _HERE.set(bounds)
    if sending:
        _SENDING.append(bounds)
    try:
        yield
    finally:
        _HERE.reset(token)
        if sending:
            _SENDING.remove(bounds)


@contextmanager
def looking(look: Callable[[Any], None]) -> Iterator[None]:
    """Show every answer that this thread gets to `look`, before the client sees it."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def look_at_the_clock() -> None:
    """End here what is asked `within` bounds whose time is over.

    Raises:
        LotteryHubError: it is.
    """
    bounds = _HERE.get()
    if bounds is not None:
        bounds.left()


def install() -> None:
    """Put the hooks on the Hub's client, the one it has and those it will make, unless they are there.

    Raises:
        ImportError: a proxy is set that needs a package.
    """
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import _http

    with _LOCK:
        if _on_answer in get_session().event_hooks["response"]:
            return
        # Private, and the one way to keep what the program itself has set there.
        make = _http._GLOBAL_CLIENT_FACTORY

        def bounded() -> Any:
            client = make()
            hooks = client.event_hooks
            client.event_hooks = {
                "request": [*hooks["request"], _on_request],
                "response": [*hooks["response"], _on_answer, _give_up_at_once],
            }
            return client

        set_client_factory(bounded)


def new_client() -> Any:
    """Return a client, with the hooks, that has nothing to do with the Hub."""
    hooks = {"request": [_on_request], "response": [_on_answer]}
    return http_libraries()[0].Client(follow_redirects=True, timeout=30.0, event_hooks=hooks)


def http_libraries() -> list[Any]:
    """Return the HTTP libraries that are there; which one is behind the Hub's client depends on its version."""
    found = []
    for name in ("httpx2", "httpx"):
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            continue
    return found


def homes_of(*addresses: str) -> frozenset[str]:
    """Return the origins of addresses, "scheme://host:port"; a host that is reached by http may move on to https."""
    found = set()
    for address in addresses:
        url = http_libraries()[0].URL(address)
        found |= {_origin(url), f"https://{url.host}:443"} if url.scheme == "http" else {_origin(url)}
    return frozenset(found)


def _origin(url: Any) -> str:
    return f"{url.scheme}://{url.host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme, 0)}"


def _bounds(request: Any) -> Bounds | None:
    here = _HERE.get()
    if here is None and request.method not in ("GET", "HEAD"):
        return max(tuple(_SENDING), key=lambda bounds: bounds.end or math.inf, default=None)
    return here


def _on_request(request: Any) -> None:
    bounds = _bounds(request)
    if bounds is None:
        return
    request.extensions = {**request.extensions, _KEY: bounds}
    # What is sent may be long in the making of its answer: a commit is, of many files.
    longest = min(bounds.left() or math.inf, STALL if request.method in ("GET", "HEAD") else math.inf)
    asked = request.extensions.get("timeout", {})
    waits = {name: min(longest, asked.get(name) or longest) for name in ("connect", "read", "write", "pool")}
    request.extensions["timeout"] = {name: None if math.isinf(wait) else wait for name, wait in waits.items()}
    request.stream = _stream(request, _sent, request.stream, bounds, _length(request))
    if _origin(request.url) not in bounds.homes:
        request.headers.pop("Authorization", None)
    if request.headers.get("Accept-Encoding") != "identity":
        request.headers["Accept-Encoding"] = "gzip"  # the one that is unpacked here, within the bound


def _on_answer(response: Any) -> None:
    look = _LOOK.get()
    if look is not None:
        look(response)
    bounds = response.request.extensions.get(_KEY)
    if bounds is None:
        return
    # Files of this storage would be fetched by a library of its own, which knows neither bound nor deadline.
    response.headers.pop("X-Xet-Hash", None)
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in ("gzip", "x-gzip"):
        del response.headers["Content-Encoding"]
        response.headers.pop("Content-Length", None)
        response.stream = _stream(response, _unpacked, response.stream, bounds)
    elif packing not in ("", "identity"):
        raise bounds.error(
            f"{bounds.subject}: the server packs its answer as {printable(packing, 40)}, which nobody asked for; "
            "check the address"
        )
    most = bounds.most if response.is_success else MAX_REFUSAL_BYTES
    response.stream = _stream(response, _counted, response.stream, bounds, most, _length(response))


def _give_up_at_once(response: Any) -> None:
    """Raise for what the client would wait at: whether and how long to wait is for the conversation to say."""
    from huggingface_hub import hf_raise_for_status

    if response.request.extensions.get(_KEY) is not None and response.status_code in TRANSIENT:
        hf_raise_for_status(response)


def _sent(pieces: Any, bounds: Bounds, length: int) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            bounds.left()
            yield piece[start : start + _PIECE]
            count += len(piece[start : start + _PIECE])
            _tell(bounds, "sending to", count, length)


def _counted(pieces: Any, bounds: Bounds, most: int, length: int) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        bounds.left()
        count += len(piece)
        if count > most:
            raise _too_much(bounds, most)
        _tell(bounds, "fetching from", count, length)
        yield piece


def _length(message: Any) -> int:
    """Return how many bytes a request or answer says that it has; 0 where it does not."""
    said = message.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else 0


def _tell(bounds: Bounds, what: str, count: int, length: int) -> None:
    if length >= WORTH_TELLING:
        told = {"what": f"{what} {bounds.subject}", "done": min(count, length), "of": length, "unit": "bytes"}
        bounds.report("part", told)


def _unpacked(pieces: Any, bounds: Bounds) -> Iterator[bytes]:
    """Yield the contents of gzip, piece by piece: a few bytes may stand for any number."""
    gzip = zlib.decompressobj(wbits=31)
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > bounds.most + _PIECE:  # what is packed may also stand for nothing
            raise _too_much(bounds, bounds.most)
        try:
            content = gzip.decompress(piece, _PIECE)
            while content:
                yield content
                content = gzip.decompress(gzip.unconsumed_tail, _PIECE)
        except zlib.error as problem:
            raise bounds.error(f"{bounds.subject}: the answer is damaged ({printable(problem)}); try again") from None


def _too_much(bounds: Bounds, most: int) -> LotteryHubError:
    return bounds.error(
        f"{bounds.subject}: the server sends more than the {most:,} bytes that this may have; "
        "check the address, somebody else may be answering"
    )


def _stream(message: Any, pieces: Callable[..., Iterator[bytes]], source: Any, *more: Any) -> Any:
    """Return `pieces(source, *more)` as a stream of the library that a request or answer is of."""
    return _stream_class(type(message).__module__.partition(".")[0])(lambda: pieces(source, *more), source)


@functools.cache
def _stream_class(library: str) -> Any:
    class Stream(importlib.import_module(library).SyncByteStream):  # type: ignore[misc]
        def __init__(self, pieces: Callable[[], Iterator[bytes]], source: Any) -> None:
            self.pieces, self.source = pieces, source

        def __iter__(self) -> Iterator[bytes]:
            return self.pieces()

        def close(self) -> None:
            self.source.close()

    return Stream
