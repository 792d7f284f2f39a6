"""Files behind an address: s3://bucket/folder and all else that fsspec knows, read piece by piece within a bound.

http:// and https:// are read here, without fsspec, whose reader takes whatever a server sends where it should send a
part. A login in an address goes to its own server alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from lottery_hub.errors import DownloadError, LotteryHubError, TicketError, printable
from lottery_hub.fetching import bounded
from lottery_hub.fetching.connection import Conversation, Patience, redacted

T = TypeVar("T")

PIECE = 2**22  # bytes of one read; between two of them the deadline is looked at

_NOT_THERE = {404, 410}
_FORBIDDEN = {401, 403, 407}


class Place(Protocol):
    """A folder behind an address."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file of at most `limit` bytes, None where it is not there.

        Raises:
            TicketError: it has more.
            DownloadError: it did not come.
        """


def open_address(address: str, patience: Patience) -> Place | str:
    """Return the folder that an address leads to; of one on this machine its path.

    Raises:
        DownloadError: nothing here can read such an address, or its server cannot be asked.
    """
    shown = redacted(printable(address))
    if address.lower().startswith(("http://", "https://")):
        return _Web(address.rstrip("/"), shown, patience)
    from fsspec.core import url_to_fs

    # Only hf:// is read through the Hub's client; nothing else gets the token, whatever it is read through.
    homes = None if address.lower().startswith("hf://") else frozenset[str]()
    talk = Conversation(patience, server="the server", homes=homes)
    system, path = talk.ask(lambda: _any_error(lambda: url_to_fs(address), shown), shown)
    return str(path) if "file" in system.protocol else _Files(system, str(path).rstrip("/"), shown, talk)


class _Web:
    def __init__(self, address: str, shown: str, patience: Patience) -> None:
        self.address, self.shown = address, shown
        try:
            homes = bounded.homes_of(address)
        except Exception as problem:  # each of the two libraries has an InvalidURL of its own
            raise DownloadError(f"{shown} is not an address: {printable(problem)}") from None
        self.talk = Conversation(patience, server="the server", homes=homes)

    def read(self, name: str, limit: int) -> bytes | None:
        def transfer() -> bytes | None:
            with bounded.new_client() as client, client.stream("GET", f"{self.address}/{name}") as response:
                if response.status_code in _NOT_THERE:
                    return None
                if response.status_code in _FORBIDDEN:
                    raise DownloadError(
                        f"{self.shown}: the server forbids {name} (it answered {response.status_code}); "
                        "give an address that may be read, with a login if it needs one"
                    )
                response.raise_for_status()
                return bytes(response.read())

        return self.talk.ask(transfer, self.shown, filename=name, most=limit)


class _Files:
    def __init__(self, system: Any, path: str, shown: str, talk: Conversation) -> None:
        self.system, self.path, self.shown, self.talk = system, path, shown, talk

    def read(self, name: str, limit: int) -> bytes | None:
        place = f"{self.path}/{name}"
        subject = f"{self.shown}: {name}"

        def transfer() -> bytes | None:
            try:
                size = self.system.info(place)["size"]
                if size is not None and size > limit:
                    raise TicketError(f"{subject} has {size:,} bytes, more than it may have ({limit:,})")
                pieces: list[bytes] = []
                while (start := sum(map(len, pieces))) <= limit:
                    bounded.look_at_the_clock()
                    wanted = min(PIECE, limit + 1 - start, PIECE if size is None else size - start)
                    piece = bytes(self.system.cat_file(place, start=start, end=start + wanted)) if wanted > 0 else b""
                    if len(piece) > wanted:
                        raise TicketError(f"{subject}: the server sends more than the {wanted:,} bytes asked for")
                    if not piece:
                        return b"".join(pieces)
                    pieces.append(piece)
            except FileNotFoundError:
                return None
            raise TicketError(f"{subject} has more bytes than it may have ({limit:,})")

        return self.talk.ask(lambda: _any_error(transfer, subject), self.shown, filename=name)


def _any_error(request: Callable[[], T], subject: str) -> T:
    """Turn what a file system raises into what a conversation understands: each has errors of its own kind."""
    try:
        return request()
    except ImportError as problem:
        raise DownloadError(f"{subject} needs a package: {printable(problem)}") from problem
    except ValueError as problem:  # fsspec knows no such protocol
        raise DownloadError(f"{subject} cannot be read: {printable(problem)}") from problem
    except (LotteryHubError, MemoryError, OSError):
        raise
    except Exception as problem:
        raise OSError(f"{type(problem).__name__}: {problem}") from problem
