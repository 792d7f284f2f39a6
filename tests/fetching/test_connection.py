"""Conversations with the Hub: what passes is tried again, what does not is told at once, and no token gets out."""

from __future__ import annotations

import errno
import json
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from huggingface_hub import errors

from lottery_hub.errors import ConfigError, DownloadError, PublishError, TicketError
from lottery_hub.fetching import bounded
from lottery_hub.fetching.connection import Conversation, Patience, is_missing, redacted

QUICK = Patience(deadline=20.0, tries=3, pause=0.001)
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def answered(status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError, **headers: str) -> Exception:
    request = httpx2.Request("GET", "http://hub/api/models/org/net")
    response = httpx2.Response(status, request=request, headers=headers)
    return kind(f"{status} of the server\nand more", response=response)


class Failing:
    """A request that raises these, one a call, and then returns "done"."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def told(request: Callable[[], object], patience: Patience = QUICK, **about: str) -> str:
    with pytest.raises(DownloadError) as caught:
        Conversation(patience).ask(request, "org/net", **about)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "failure",
    [
        answered(429),
        answered(500),
        answered(502),
        answered(503),
        answered(504),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        OSError("Consistency check failed: file should be of size 5 but has size 4"),
        errors.LocalEntryNotFoundError("neither here nor there"),
    ],
    ids=lambda failure: f"{type(failure).__name__} {getattr(failure, 'args', [''])[0][:3]}",
)
def test_what_may_pass_is_tried_again(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    request = Failing(failure, failure)
    assert Conversation(QUICK).ask(request, "org/net") == "done"
    assert request.calls == 3


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (answered(404, errors.RepositoryNotFoundError), "org/net is not on the Hub, or is private"),
        (answered(403, errors.GatedRepoError), "org/net is gated: accept its terms"),
        (answered(404, errors.RevisionNotFoundError), "org/net has no revision v1: check"),
        (answered(404, errors.RemoteEntryNotFoundError), "org/net at v1 has no file w.bin: check"),
        (answered(401), "org/net: the Hub does not accept the token; log in anew"),
        (answered(403), "org/net: the Hub forbids this; log in as somebody who may"),
        (answered(412), "org/net: the Hub answered 412"),
        (errors.HFValidationError("bad"), "org/net is not a valid repository id"),
        (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set and this needs the Hub; unset it"),
        (httpx2.LocalProtocolError("Illegal header value"), "the Hub cannot be reached"),
        (httpx2.InvalidURL("no such port"), "the Hub cannot be reached"),
        (OSError(errno.ENOSPC, "No space left on device"), "the transfer failed; check the connection and the disk"),
        (ValueError("Invalid metadata in README.md"), "the Hub's client refuses (Invalid metadata in README.md)"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)
def test_what_will_not_pass_is_told_at_once(failure: Exception, complaint: str) -> None:
    request = Failing(failure)
    assert complaint in told(request, revision="v1", filename="w.bin")
    assert request.calls == 1


def test_tries_are_bounded() -> None:
    request = Failing(*[answered(503)] * 9)
    assert "org/net: the Hub answered 503; try again later (503 of the server)" in told(request)
    assert request.calls == 3


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    began = time.monotonic()
    Conversation(QUICK).ask(Failing(answered(429, **{"Retry-After": "1"})), "org/net")
    assert 1.0 <= time.monotonic() - began < 10


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    began = time.monotonic()
    complaint = told(Failing(answered(429, **{"Retry-After": "3600"})))
    assert "too many requests" in complaint
    assert "another try in 3600 s would be past the deadline" in complaint
    assert time.monotonic() - began < 5


def test_a_request_that_hangs_is_abandoned_at_the_deadline() -> None:
    hanging = threading.Event()
    began = time.monotonic()
    assert "org/net: not done after 0.2 s" in told(lambda: hanging.wait(60), Patience(deadline=0.2))
    assert time.monotonic() - began < 5
    hanging.set()


def test_requests_share_the_deadline() -> None:
    talk = Conversation(Patience(deadline=0.3))
    talk.ask(lambda: time.sleep(0.2), "org/net")
    with pytest.raises(DownloadError, match="not done after"):
        talk.ask(lambda: time.sleep(0.2), "org/net")


def test_our_own_errors_and_a_lack_of_memory_pass_through() -> None:
    for problem in (TicketError("broken"), MemoryError()):
        with pytest.raises(type(problem)):
            Conversation(QUICK).ask(Failing(problem), "org/net")


def test_a_conversation_raises_the_error_it_is_told_to() -> None:
    with pytest.raises(PublishError, match="org/net"):
        Conversation(QUICK, PublishError).ask(Failing(answered(403)), "org/net")


@pytest.mark.parametrize(
    ("kind", "missing"), [(errors.RepositoryNotFoundError, True), (errors.GatedRepoError, False)], ids=["404", "gated"]
)
def test_a_missing_repository_is_told_from_a_gated_one(kind: type[errors.HfHubHTTPError], missing: bool) -> None:
    with pytest.raises(DownloadError) as caught:
        Conversation(QUICK).ask(Failing(answered(404, kind)), "org/net")
    assert is_missing(caught.value) is missing


def test_no_token_gets_out_of_an_error_or_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a secret of another kind")
    for secret in (TOKEN, "a secret of another kind"):
        with pytest.raises(DownloadError) as caught:
            Conversation(QUICK).ask(
                Failing(httpx2.LocalProtocolError(f"Illegal header value b'Bearer {secret}'")), "org/net"
            )
        assert secret not in "".join(traceback.format_exception(caught.value))
        assert "Illegal header value b'Bearer (token)'" in str(caught.value)


def test_logins_in_addresses_are_redacted_and_other_words_stay() -> None:
    assert redacted("http://me:pass@hub/x and hf_hub is fine") == "http://(login)@hub/x and hf_hub is fine"
    assert redacted(f"token {TOKEN}.") == "token (token)."


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 1e400, -1, 0, -0.0, True, "10", 1e300])
def test_a_deadline_is_a_number_of_seconds(deadline: Any) -> None:
    with pytest.raises(ConfigError, match="a deadline is a number of seconds above 0, of at most 31536000"):
        Patience(deadline=deadline)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tries": 0}, "tries is a whole number from 1, not 0"),
        ({"tries": 1.5}, "tries is a whole number"),
        ({"pause": float("nan")}, r"pause lies in 0\.\.300 seconds, not nan"),
        ({"pause": -1}, "pause lies in"),
        ({"pause": 1e9}, "pause lies in"),
    ],
)
def test_tries_and_pauses_are_such_numbers_too(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Patience(**settings)


@pytest.mark.parametrize("asked", ["86400", "inf", "1e400", "9" * 400, "301"])
def test_a_pause_that_is_too_long_is_not_waited_for_without_a_deadline_either(asked: str) -> None:
    began = time.monotonic()
    complaint = told(Failing(answered(503, **{"Retry-After": asked})), Patience(deadline=None))
    assert "the Hub answered 503" in complaint
    assert "it asks for a pause of" in complaint
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("asked", ["-inf", "nan", "-5", "", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_a_pause_that_is_none_is_none(asked: str) -> None:
    began = time.monotonic()
    assert Conversation(QUICK).ask(Failing(answered(503, **{"Retry-After": asked})), "org/net") == "done"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "failure",
    [
        KeyError("commitOid"),
        IndexError("list index out of range"),
        TypeError("'NoneType' object is not subscriptable"),
        AttributeError("'list' object has no attribute 'get'"),
        RecursionError("maximum recursion depth exceeded"),
        json.JSONDecodeError("Expecting value", "<html>", 0),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_the_client_breaks_at_is_a_wrong_answer(failure: Exception) -> None:
    request = Failing(*[failure] * 9)
    complaint = told(request)
    assert complaint.startswith("org/net: the Hub answered something else than what was asked for")
    assert "check the connection and HF_ENDPOINT: a proxy or a login page may answer in its place" in complaint
    assert request.calls == 3, "somebody on the way may have answered"


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (
            ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."),
            "run `pip install socksio`, or",
        ),
        (ImportError("install hf_xet"), "a package is missing; install it (install hf_xet)"),
        (ValueError("Unknown scheme for proxy URL"), "the Hub's client refuses (Unknown scheme for proxy URL)"),
        (OverflowError("timestamp too large"), "the Hub's client refuses (timestamp too large)"),
        (AssertionError(), "the Hub's client refuses (AssertionError)"),
        (zlib.error("incorrect header check"), "the Hub's client refuses (incorrect header check)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_else_the_client_raises_is_one_line_at_once(failure: Exception, complaint: str) -> None:
    request = Failing(failure)
    assert complaint in told(request)
    assert request.calls == 1


def test_an_upload_tells_what_went_wrong_beneath() -> None:
    def uploading(cause: Exception) -> Exception:
        error = RuntimeError("Error while uploading 'ticket.safetensors' to the Hub.")
        error.__cause__ = cause
        return error

    assert Conversation(QUICK).ask(Failing(uploading(answered(503))), "org/net") == "done"
    with pytest.raises(TicketError, match="broken"):
        Conversation(QUICK).ask(Failing(uploading(TicketError("broken"))), "org/net")


def test_a_request_that_is_abandoned_sends_and_takes_nothing_more() -> None:
    hanging, ended = threading.Event(), threading.Event()

    def hang_and_go_on() -> None:
        hanging.wait(60)
        try:
            bounded.look_at_the_clock()
        except DownloadError:
            ended.set()

    assert "not done after 0.2 s" in told(hang_and_go_on, Patience(deadline=0.2))
    hanging.set()
    assert ended.wait(5)
