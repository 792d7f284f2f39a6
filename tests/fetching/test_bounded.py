"""Bounds on what a server sends: bytes, seconds, and where a token may go; held inside a question and nowhere else."""

from __future__ import annotations

import gzip
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from huggingface_hub import close_session, get_session, set_client_factory
from huggingface_hub.utils import _http

from lottery_hub.errors import DownloadError, PublishError
from lottery_hub.fetching import bounded
from lottery_hub.fetching.bounded import Bounds, within

HOME = "http://hub:80"
LIBRARIES = [library.__name__ for library in bounded.http_libraries()]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


class Server:
    """A client whose every request is answered by `answer`, with what it was asked in `asked`."""

    def __init__(self, library: Any, answer: Callable[[Any], Any]) -> None:
        self.asked: list[Any] = []

        def handle(request: Any) -> Any:
            self.asked.append(request)
            return answer(request)

        hooks = {"request": [bounded._on_request], "response": [bounded._on_answer, bounded._give_up_at_once]}
        self.client = library.Client(
            transport=library.MockTransport(handle), event_hooks=hooks, follow_redirects=True, timeout=None
        )


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("lottery_hub.fetching.bounded.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def pieces(library: Any, count: list[int], piece: bytes = bytes(1000), each: Callable[[], None] = lambda: None) -> Any:
    """An answer that never ends, and counts how often it was read from."""

    class Endless(library.SyncByteStream):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[bytes]:
            while True:
                count[0] += 1
                each()
                yield piece

    return library.Response(200, stream=Endless())


def sent(library: Any, content: bytes, **headers: str) -> Any:
    """An answer as it is on the way: one that is given its content has read and unpacked it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return library.Response(200, stream=library.ByteStream(content), headers=named)


def bounds(**more: Any) -> Bounds:
    return Bounds("org/net", DownloadError, frozenset({HOME}), **more)


def test_an_answer_without_end_is_read_to_its_bound(library: Any) -> None:
    count = [0]
    server = Server(library, lambda request: pieces(library, count))
    with (
        within(bounds(most=5000)),
        pytest.raises(DownloadError, match="org/net: the server sends more than the 5,000 bytes"),
    ):
        server.client.get("http://hub/x")
    assert count[0] == 6


def test_an_answer_within_the_bound_arrives_packed_or_not(library: Any) -> None:
    whole = b"a" * 500_000
    for answer in (sent(library, whole), sent(library, gzip.compress(whole), content_encoding="gzip")):
        server = Server(library, lambda _, answer=answer: answer)
        with within(bounds(most=500_000)):
            assert server.client.get("http://hub/x").content == whole
        assert server.asked[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("size", [5001, 50_000_000])
def test_what_unpacks_to_more_than_the_bound_is_refused(library: Any, size: int) -> None:
    server = Server(library, lambda _: sent(library, gzip.compress(bytes(size)), content_encoding="gzip"))
    with within(bounds(most=5000)), pytest.raises(DownloadError, match="more than the 5,000 bytes"):
        server.client.get("http://hub/x")


@pytest.mark.parametrize(
    ("packing", "complaint"),
    [("br", "packs its answer as br, which nobody asked for"), ("gzip, gzip", "as gzip, gzip"), ("gzip", "is damaged")],
)
def test_another_packing_is_refused(library: Any, packing: str, complaint: str) -> None:
    server = Server(library, lambda _: sent(library, b"not packed so", content_encoding=packing))
    with within(bounds()), pytest.raises(DownloadError, match=complaint):
        server.client.get("http://hub/x")


def test_a_refusal_without_end_is_bounded_too(library: Any) -> None:
    count = [0]

    def refuse(_: Any) -> Any:
        answer = pieces(library, count, bytes(2**16))
        answer.status_code = 404
        return answer

    with within(bounds(most=2**40)), pytest.raises(DownloadError, match="more than the 1,048,576 bytes"):
        Server(library, refuse).client.get("http://hub/x")
    assert count[0] == 17


def test_a_transfer_ends_with_the_first_piece_after_the_deadline(library: Any, clock: Clock) -> None:
    count = [0]

    def tick() -> None:
        clock.now += 1

    server = Server(library, lambda _: pieces(library, count, each=tick))
    late = pytest.raises(DownloadError, match="org/net: not done after 10 s; try again later, or with a longer")
    with within(bounds(deadline=10.0, end=110.0)), late:
        server.client.get("http://hub/x")
    assert count[0] == 10
    with within(bounds(deadline=10.0, end=110.0)), late:
        server.client.get("http://hub/x")
    assert len(server.asked) == 1, "nothing is asked after the deadline"


def test_an_upload_ends_with_the_deadline(library: Any, clock: Clock) -> None:
    sent: list[int] = []

    def take(request: Any) -> Any:
        for piece in request.stream:
            sent.append(len(piece))
            clock.now += 1
        return library.Response(200)

    server = Server(library, take)
    with within(bounds(deadline=3.0, end=103.0)), pytest.raises(DownloadError, match="not done after 3 s"):
        server.client.put("http://hub/x", content=bytes(10 * 2**16))
    assert sent == [2**16] * 3
    with within(bounds(deadline=99.0, end=1000.0)):
        server.client.put("http://hub/x", content=b"all of it")
    assert sent[3:] == [9]


@pytest.mark.parametrize(
    ("end", "asked", "expected"), [(105.0, None, 5.0), (105.0, 2.0, 2.0), (1e6, None, 60.0), (None, None, 60.0)]
)
def test_no_wait_is_longer_than_what_is_left(
    library: Any, clock: Clock, end: float | None, asked: float | None, expected: float
) -> None:
    server = Server(library, lambda _: library.Response(200))
    with within(bounds(deadline=1.0, end=end)):
        server.client.get("http://hub/x", timeout=asked)
        server.client.put("http://hub/x", content=b"a commit", timeout=asked)
    fetched, sent = (request.extensions["timeout"] for request in server.asked)
    assert fetched == dict.fromkeys(("connect", "read", "write", "pool"), expected)
    assert set(sent.values()) == {asked or (None if end is None else end - 100)}


TOKEN = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("address", "carried"),
    [
        ("http://hub/x", True),
        ("http://hub:80/x", True),
        ("http://hub:8080/x", False),
        ("https://hub/x", False),
        ("http://other/x", False),
        ("http://hub.other/x", False),
        ("http://hub@other/x", False),
    ],
)
def test_a_token_goes_home_only(library: Any, address: str, carried: bool) -> None:
    server = Server(library, lambda _: library.Response(200))
    with within(bounds()):
        server.client.get(address, headers=TOKEN)
        server.client.post(address, headers=TOKEN)
    assert [request.headers.get("Authorization") == "Bearer secret" for request in server.asked] == [carried] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_a_token_elsewhere(library: Any, status: int) -> None:
    def move(request: Any) -> Any:
        there = request.url.host == "other"
        return library.Response(200) if there else library.Response(status, headers={"Location": "http://other/x"})

    server = Server(library, move)
    with within(bounds()):
        server.client.get("http://hub/x", headers=TOKEN)
    assert [(request.url.host, "Authorization" in request.headers) for request in server.asked] == [
        ("hub", True), ("other", False),
    ]  # fmt: skip


def test_a_home_may_move_on_to_https() -> None:
    assert bounded.homes_of("http://hub:8080/base", "https://huggingface.co") == {
        "http://hub:8080", "https://hub:443", "https://huggingface.co:443",
    }  # fmt: skip


def test_files_are_not_left_to_a_library_that_knows_no_bounds(library: Any) -> None:
    server = Server(library, lambda _: library.Response(200, headers={"X-Xet-Hash": "0" * 64, "ETag": "x"}))
    with within(bounds()):
        assert dict(server.client.head("http://hub/x").headers) == {"etag": "x"}


def test_what_a_program_asks_beside_is_as_it_was(library: Any) -> None:
    server = Server(library, lambda _: sent(library, bytes(10_000), X_Xet_Hash="0"))
    with within(bounds(most=10)):
        pass
    answer = server.client.get("http://other/x", headers=TOKEN)
    assert (len(answer.content), answer.headers["X-Xet-Hash"]) == (10_000, "0")
    assert server.asked[0].headers["Authorization"] == "Bearer secret"
    assert "Accept-Encoding" in server.asked[0].headers
    assert server.asked[0].extensions["timeout"]["read"] is None


def in_a_thread(call: Callable[[], object]) -> BaseException | None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as problem:
            caught.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return caught[0] if caught else None


def test_uploads_are_bounded_in_the_threads_that_the_client_starts(library: Any) -> None:
    server = Server(library, lambda _: sent(library, bytes(100)))
    held = Bounds("org/net", PublishError, frozenset({HOME}), most=10)
    with within(held, sending=True):
        problem = in_a_thread(lambda: server.client.put("http://hub/x"))
        assert isinstance(problem, PublishError)
        assert in_a_thread(lambda: server.client.get("http://hub/x")) is None, "a download of somebody else"
    assert in_a_thread(lambda: server.client.put("http://hub/x")) is None
    with within(held):
        assert in_a_thread(lambda: server.client.put("http://hub/x")) is None, "nothing is uploaded"


@pytest.mark.parametrize("status", sorted(bounded.TRANSIENT))
def test_the_client_does_not_wait_where_a_server_tells_it_to(library: Any, status: int) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    server = Server(library, lambda _: library.Response(status, headers={"Retry-After": "86400"}))
    if library.__name__ == type(get_session()).__module__.partition(".")[0]:
        with within(bounds()), pytest.raises(HfHubHTTPError):
            server.client.get("http://hub/x")
    assert server.client.get("http://hub/x").status_code == status


@pytest.fixture
def clean_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    close_session()
    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http._GLOBAL_CLIENT_FACTORY)
    yield
    close_session()


def test_the_hooks_are_put_once_on_whatever_client_the_program_has_chosen(clean_client: None) -> None:
    made: list[Any] = []

    def own() -> Any:
        made.append(_http.default_client_factory())
        return made[-1]

    set_client_factory(own)
    bounded.install()
    bounded.install()
    client = get_session()
    assert client is made[-1]
    close_session()
    for one in (client, get_session()):
        assert one.event_hooks["request"].count(bounded._on_request) == 1
        assert one.event_hooks["response"].count(bounded._on_answer) == 1
    assert len(made) == 3, "one to look at, one with hooks, and one after the session was closed"
