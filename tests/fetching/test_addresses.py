"""Files behind addresses: bounded and timed whatever a server does, and told apart by what it says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lottery_hub.errors import DownloadError, LotteryHubError, TicketError
from lottery_hub.fetching.addresses import PIECE, open_address
from lottery_hub.fetching.connection import Patience
from tests.hub.faults import Fault
from tests.hub.server import Hub

QUICK = Patience(deadline=20.0, tries=3, pause=0.001)
NOTES = b"notes " * 50_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A web server, which happens to be a Hub; it is not the one that is configured."""
    with Hub(tmp_path_factory.mktemp("web")) as hub:
        hub.store.commit("models/org/web", {"notes.txt": NOTES})
        yield hub


@pytest.fixture
def web(served: Hub) -> Iterator[Hub]:
    yield served
    served.faults.clear()


def place(web: Hub, patience: Patience = QUICK) -> Any:
    return open_address(f"{web.endpoint}/org/web/resolve/main/", patience)


def test_a_file_of_a_web_server_is_read_without_further_packages(web: Hub) -> None:
    assert place(web).read("notes.txt", len(NOTES)) == NOTES
    assert place(web).read("other.txt", 100) is None


def test_a_file_with_more_bytes_than_it_may_have_is_not_read_to_its_end(web: Hub) -> None:
    with pytest.raises(DownloadError, match="the server sends more than the 1,000 bytes that this may have"):
        place(web).read("notes.txt", 1000)
    web.poured = 0
    web.faults.add(Fault("GET", "endless", body=bytes(2**16)), Fault("GET", "bomb", size=50_000_000))
    for _ in range(2):
        with pytest.raises(DownloadError, match="more than the 1,000,000 bytes"):
            place(web).read("notes.txt", 1_000_000)
    assert web.poured < 2**25, "what the buffers on the way hold, and no more"


@pytest.mark.parametrize("status", [404, 410])
def test_only_what_is_not_there_is_not_there(web: Hub, status: int) -> None:
    web.faults.add(Fault("GET", "status", status=status, times=9))
    assert place(web).read("notes.txt", 100) is None


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault("GET", "status", status=403, times=9), "the server forbids notes.txt (it answered 403); give"),
        (Fault("GET", "status", status=401, times=9), "the server forbids notes.txt (it answered 401)"),
        (Fault("GET", "status", status=500, times=9), "the server answered 500; try again later"),
        (Fault("GET", "status", status=418, times=9), "the server answered 418"),
        (Fault("GET", "drop", times=9), "the server cannot be reached; check the connection"),
        (Fault("GET", "cut", times=9), "the server cannot be reached; check the connection"),
        (Fault("GET", "status", status=503, retry_after="inf", times=9), "another try in inf s would be past the"),
        (Fault("GET", "say", status=302, headers={"Location": "ftp://elsewhere/x"}), "the server cannot be reached"),
        (Fault("GET", "say", status=302, headers={"Location": "/org/web/resolve/main/notes.txt"}, times=99),
         "the server cannot be reached"),
    ],
    ids=["403", "401", "500", "418", "no answer", "cut", "retry after inf", "to ftp", "in circles"],
)  # fmt: skip
def test_a_server_that_fails_is_one_line_that_says_how(web: Hub, fault: Fault, complaint: str) -> None:
    web.faults.add(fault)
    with pytest.raises(DownloadError, match=re.escape(complaint)) as caught:
        place(web).read("notes.txt", len(NOTES))
    assert str(caught.value).startswith(web.endpoint)
    assert "\n" not in str(caught.value)


def test_a_server_that_recovers_is_waited_for(web: Hub) -> None:
    web.faults.add(Fault("GET", "status", status=503), Fault("GET", "drop"))
    assert place(web).read("notes.txt", len(NOTES)) == NOTES


def test_nobody_at_the_address_is_told_as_that() -> None:
    with pytest.raises(DownloadError, match="the server cannot be reached; check the connection"):
        open_address("http://127.0.0.1:1/x", QUICK).read("notes.txt", 100)  # type: ignore[union-attr]


def test_a_transfer_stops_at_the_deadline(web: Hub) -> None:
    web.poured = 0
    web.faults.add(Fault("GET", "endless", body=b"a" * 100, times=9))
    with pytest.raises(DownloadError, match=r"not done after 0\.3 s"):
        place(web, Patience(deadline=0.3)).read("notes.txt", 2**40)
    time.sleep(0.3)
    before = web.poured
    time.sleep(0.3)
    assert web.poured == before


@pytest.mark.parametrize("address", ["http://", "https:///x", "http://[::1", "http://a b/", "http://host:99999999/x"])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(LotteryHubError) as caught:
        open_address(address, QUICK).read("notes.txt", 100)  # type: ignore[union-attr]
    assert "\n" not in str(caught.value)


def test_a_login_goes_to_its_own_server_alone_and_is_not_repeated(web: Hub, tmp_path: Path) -> None:
    with Hub(tmp_path) as other:
        elsewhere = f"{other.endpoint}/org/web/resolve/main/notes.txt"
        web.faults.add(Fault("GET", "say", status=302, headers={"Location": elsewhere}, times=1))
        address = web.endpoint.replace("://", "://me:secret@") + "/org/web/resolve/main"
        other.store.commit("models/org/web", {"notes.txt": b"theirs"})
        assert open_address(address, QUICK).read("notes.txt", 100) == b"theirs"  # type: ignore[union-attr]
        assert (web.authorized.total(), other.requests.total(), other.authorized.total()) == (1, 1, 0)
        web.faults.add(Fault("GET", "status", status=500, times=9))
        with pytest.raises(DownloadError) as caught:
            open_address(address, QUICK).read("notes.txt", 100)  # type: ignore[union-attr]
        assert "secret" not in str(caught.value)


class Ignorant(MemoryFileSystem):
    """A bucket that knows no sizes, and answers with all of a file where a part is asked for, or for ever."""

    protocol = "ignorant"
    endless = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("ignorant:", "memory:")))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return super().info(path, **kwargs) | {"size": None}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        return b"a" if self.endless else super().cat_file(path, None, None, **kwargs)


@pytest.fixture
def bucket() -> Iterator[Any]:
    fsspec.register_implementation("ignorant", Ignorant, clobber=True)
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/box", recursive=True)


def test_a_file_of_a_bucket_is_read_piece_by_piece(bucket: Any) -> None:
    content = bytes(range(256)) * (PIECE // 256) * 2 + b"the end"
    bucket.pipe_file("/box/large", content)
    bucket.pipe_file("/box/empty", b"")
    found = open_address("memory://box", QUICK)
    assert not isinstance(found, str)
    assert found.read("large", len(content)) == content
    assert found.read("empty", 0) == b""
    assert found.read("other", 10) is None
    with pytest.raises(TicketError, match="memory://box: large has 8,388,615 bytes, more than it may have"):
        found.read("large", len(content) - 1)


def test_a_bucket_that_sends_other_than_was_asked_is_refused(bucket: Any) -> None:
    bucket.pipe_file("/box/large", bytes(1000))
    found = open_address("ignorant://box", QUICK)
    with pytest.raises(TicketError, match="the server sends more than the 101 bytes asked for"):
        found.read("large", 100)  # type: ignore[union-attr]


def test_a_bucket_that_does_not_end_is_left_at_the_deadline(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe_file("/box/large", b"")
    monkeypatch.setattr(Ignorant, "endless", True)
    with pytest.raises(DownloadError, match=r"not done after 0\.2 s"):
        open_address("ignorant://box", Patience(deadline=0.2)).read("large", 2**40)  # type: ignore[union-attr]
