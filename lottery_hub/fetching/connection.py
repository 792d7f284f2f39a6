"""Talking to the Hugging Face Hub: with patience, within a deadline, and with every failure in one line.

The client waits as long as a server tells it to, and retries some requests and not others. Here every request goes
through `Conversation.ask`, which tries again where that can help and gives up when its time is over.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import re
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lottery_hub.errors import ConfigError, DownloadError, LotteryHubError, printable
from lottery_hub.fetching import bounded
from lottery_hub.fetching.bounded import MAX_ANSWER_BYTES, TRANSIENT, Bounds

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

LONGEST_DEADLINE = 365 * 86400.0
LONGEST_PAUSE = 300.0  # a server that asks for more is not waited for

# The Hub itself, which a mirror may send its clients to.
HUB = "https://huggingface.co"

CHECK = "check the connection and HF_ENDPOINT: a proxy or a login page may answer in its place"

# What the client makes of an answer that is not of the form it expects. It may have come from somebody on the way.
_MALFORMED = (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError, RecursionError)

# What no second try mends: the disk is full, or may not be written to.
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        deadline: seconds for a whole conversation, waiting included; None never gives up a transfer under way.
        tries: of each request, the first included.
        pause: seconds before the second try, doubled before each further one; a Retry-After asks for more.

    Raises:
        ConfigError: one of them is no such number.
    """

    deadline: float | None = 300.0
    tries: int = 5
    pause: float = 0.5

    def __post_init__(self) -> None:
        deadline = self.deadline
        if deadline is not None and not (_is_number(deadline) and 0 < deadline <= LONGEST_DEADLINE):
            raise ConfigError(
                f"a deadline is a number of seconds above 0, of at most {LONGEST_DEADLINE:.0f} (a year), "
                f"not {printable(deadline, 40)}"
            )
        if type(self.tries) is not int or self.tries < 1:
            raise ConfigError(f"tries is a whole number from 1, not {printable(self.tries, 40)}")
        if not (_is_number(self.pause) and 0 <= self.pause <= LONGEST_PAUSE):
            raise ConfigError(f"pause lies in 0..{LONGEST_PAUSE:.0f} seconds, not {printable(self.pause, 40)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Conversation:
    """Requests that share one deadline.

    Args:
        patience: how long to try.
        error: what a failure is raised as.
        server: who is talked to, for messages.
        homes: the origins that credentials may be sent to; None means those of the Hub, through its client.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        error: type[LotteryHubError] = DownloadError,
        server: str = "the Hub",
        homes: frozenset[str] | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.error = error
        self.server = server
        self.homes = homes
        self.end = None if self.patience.deadline is None else time.monotonic() + self.patience.deadline

    def ask(
        self,
        request: Callable[[], T],
        repo_id: str | None,
        revision: str | None = None,
        filename: str | None = None,
        *,
        most: int = MAX_ANSWER_BYTES,
        sending: bool = False,
    ) -> T:
        """Return what `request` returns, tried again where it fails for a passing reason.

        Args:
            request: a call of the client. Where the deadline passes first it is abandoned in its thread, where it
                ends with the next piece that it sends or gets.
            repo_id, revision, filename: what it is about, for the message; a search is about no repository.
            most: bytes that an answer may have.
            sending: it uploads, which the client does in further threads.

        Raises:
            LotteryHubError: `error`, in one line that names repository, cause and next step. What `request` itself
                raises of the library's errors passes through.
        """
        subject = "search" if repo_id is None else printable(repo_id)
        pause = self.patience.pause
        for attempt in range(1, self.patience.tries + 1):
            # Nothing is raised inside the handler, where Python would chain the failure to it.
            try:
                return self._in_time(request, subject, most, sending)
            except (LotteryHubError, MemoryError):
                raise
            except Exception as problem:  # a server chooses its answers, and so what breaks at them: no list is whole
                failure = _beneath(problem)
                wait = _wait(failure)
            if isinstance(failure, LotteryHubError):
                raise failure
            if wait is None or attempt == self.patience.tries:
                break
            wait, pause = max(wait, pause), min(pause * 2, LONGEST_PAUSE)
            told = _told(failure, subject, revision, filename, self.server)
            if self.end is not None and time.monotonic() + wait > self.end:
                raise self._error(f"{told}; another try in {wait:.0f} s would be past the deadline", failure)
            if wait > LONGEST_PAUSE:
                raise self._error(f"{told}; it asks for a pause of {wait:.0f} s, which is not waited for", failure)
            _LOG.warning("%s; another try in %.1f s", redacted(told), wait)
            time.sleep(wait)
        raise self._error(_told(failure, subject, revision, filename, self.server), failure)

    def _error(self, told: str, failure: Exception) -> LotteryHubError:
        """Return the error to raise; a failure that carries a token is not chained to it."""
        error = self.error(redacted(told))
        trace = "".join(traceback.format_exception(failure))
        error.__cause__ = failure if redacted(trace) == trace else None
        return error

    def _in_time(self, request: Callable[[], T], subject: str, most: int, sending: bool) -> T:
        if self.homes is None:
            bounded.install()
        homes = _homes() if self.homes is None else self.homes
        bounds = Bounds(subject, self.error, homes, most, self.patience.deadline, self.end)

        def within() -> T:
            with bounded.within(bounds, sending=sending):
                return request()

        if self.end is None:
            return within()
        outcome: list[T] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(within())
            except BaseException as problem:  # whatever it is, it is raised where it was asked for
                failures.append(problem)

        # A thread of its own kind: those of a pool are waited for when the program ends.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(0.0, self.end - time.monotonic()))
        if failures:
            raise failures[0]
        if not outcome:
            raise bounds.late()
        return outcome[0]


def _homes() -> frozenset[str]:
    from huggingface_hub import constants

    return bounded.homes_of(constants.ENDPOINT, HUB)


def redacted(text: str) -> str:
    """Return `text` without the user's token, anything that looks like one, and logins in addresses."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "(token)")
    return _LOGIN_IN_URL.sub("(login)", _TOKEN.sub("(token)", text))


def is_missing(problem: LotteryHubError) -> bool:
    """Whether a conversation failed because there is no such repository, or none that the user may see."""
    from huggingface_hub import errors

    cause = problem.__cause__
    return isinstance(cause, errors.RepositoryNotFoundError) and not isinstance(cause, errors.GatedRepoError)


def status(problem: BaseException) -> int | None:
    """Return the HTTP status behind an error of the client, where there is one."""
    code = getattr(getattr(problem, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _beneath(problem: Exception) -> Exception:
    """Return what went wrong in an upload, which the client calls an error while uploading."""
    while type(problem) is RuntimeError and isinstance(problem.__cause__, Exception):
        problem = problem.__cause__
    return problem


def _wait(problem: Exception) -> float | None:
    """Return the seconds that a passing failure asks for (0 where it does not say), or None: it will not pass."""
    from huggingface_hub import constants, errors

    if isinstance(problem, errors.LocalEntryNotFoundError):
        # The client's word for "neither here nor there", whatever was the matter there.
        cause = problem.__cause__
        return None if constants.HF_HUB_OFFLINE else _wait(cause) if isinstance(cause, Exception) else 0.0
    code = status(problem)
    if code is not None:
        return _retry_after(problem) if code in TRANSIENT else None
    if isinstance(problem, errors.OfflineModeIsEnabled | errors.EntryNotFoundError):
        return None
    if isinstance(problem, _connection_errors()):
        return None if isinstance(problem, _hopeless_errors()) else 0.0
    if isinstance(problem, OSError):
        return None if problem.errno in _OF_THE_DISK else 0.0
    return 0.0 if isinstance(problem, _MALFORMED) else None


def _retry_after(problem: Exception) -> float:
    headers: Any = getattr(getattr(problem, "response", None), "headers", {})
    try:
        asked = float(headers.get("Retry-After", 0))
    except (TypeError, ValueError):  # a date, which servers seldom send
        return 0.0
    return 0.0 if math.isnan(asked) else max(0.0, asked)


def _told(problem: Exception, subject: str, revision: str | None, filename: str | None, server: str = "the Hub") -> str:
    """Return one line that names the repository, the problem and the fix."""
    from huggingface_hub import constants, errors

    at = printable(revision or "main")
    code = status(problem)
    match problem:
        case errors.GatedRepoError():
            return f"{subject} is gated: accept its terms on the Hub and log in with `hf auth login`"
        case errors.RepositoryNotFoundError():
            return f"{subject} is not on the Hub, or is private: check the id, or log in with `hf auth login`"
        case errors.RevisionNotFoundError():
            return f"{subject} has no revision {at}: check the branch, tag or commit"
        case errors.HFValidationError():
            return f"{subject} is not a valid repository id: it looks like org/name"
        case errors.OfflineModeIsEnabled():
            return f"{subject}: HF_HUB_OFFLINE is set and this needs the Hub; unset it"
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            what = printable(filename) if filename else f"revision {at}"
            return (
                f"{subject}: {what} is not in the local cache and HF_HUB_OFFLINE is set; unset it and run once online"
            )
        case errors.LocalEntryNotFoundError() if isinstance(problem.__cause__, Exception):
            return _told(problem.__cause__, subject, revision, filename)
        case errors.LocalEntryNotFoundError():
            return f"{subject}: the Hub cannot be reached; check the connection ({_first_line(problem)})"
        case errors.EntryNotFoundError():
            return f"{subject} at {at} has no file {printable(filename or '')}: check its name"
    if code == 401:
        return f"{subject}: the Hub does not accept the token; log in anew with `hf auth login`, or set HF_TOKEN"
    if code == 403:
        return f"{subject}: the Hub forbids this; log in as somebody who may ({_first_line(problem)})"
    if code == 429:
        return f"{subject}: {server} answered 429, too many requests; try again later ({_first_line(problem)})"
    if code is not None:
        return f"{subject}: {server} answered {code}; try again later ({_first_line(problem)})"
    if isinstance(problem, _connection_errors()):
        return f"{subject}: {server} cannot be reached; check the connection ({_first_line(problem)})"
    if isinstance(problem, OSError):
        return f"{subject}: the transfer failed; check the connection and the disk ({_first_line(problem)})"
    if isinstance(problem, ImportError):
        return f"{subject}: {_missing_package(problem)}"
    if isinstance(problem, _MALFORMED):
        what = f"{type(problem).__name__}: {printable(problem, 80)}"
        return f"{subject}: {server} answered something else than what was asked for ({what}); {CHECK}"
    return f"{subject}: the Hub's client refuses ({_first_line(problem)})"


def _missing_package(problem: ImportError) -> str:
    if "socksio" in str(problem):
        return "a SOCKS proxy is set (ALL_PROXY or the like): run `pip install socksio`, or unset it"
    return f"a package is missing; install it ({_first_line(problem)})"


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what the HTTP library behind the client raises; which library that is depends on its version."""
    return _http_errors("HTTPError", "InvalidURL")  # the errors of requests, used before these, are OSErrors


def _hopeless_errors() -> tuple[type[Exception], ...]:
    """Return those that are the fault of what was asked: an address or a header that is none."""
    return _http_errors("InvalidURL", "UnsupportedProtocol", "LocalProtocolError")


def _http_errors(*names: str) -> tuple[type[Exception], ...]:
    return tuple(getattr(library, name) for library in bounded.http_libraries() for name in names)


def _first_line(error: BaseException) -> str:
    """Return what the server has to say, or else the first line of the client's message that says something."""
    server = getattr(error, "server_message", None)
    lines = [line for line in str(server or error).strip().splitlines() if line and not line.startswith("(Request ID")]
    return printable(lines[0] if lines else type(error).__name__)
