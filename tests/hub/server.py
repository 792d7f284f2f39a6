"""The Hub over HTTP: sockets, who is asking, and the faults of a bad network; the routes are in other modules."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import itertools
import json
import math
import os
import socket
import sys
import threading
import traceback
import urllib.parse
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.hub import files, reading, writing  # noqa: F401 - they register their routes
from tests.hub.faults import Fault, Faults
from tests.hub.protocol import Answer, RefusedError, Request, find_route, key_in, refusal
from tests.hub.store import Store, StoreError


class Hub:
    """A Hub that keeps its repositories in `folder` and answers at `endpoint` until the `with` block ends.

    Attributes:
        store: the repositories, to prepare and to look at without a request.
        faults: what is to go wrong with the requests to come.
        tokens: each token and the user it belongs to.
        requests: "METHOD /path", percent-decoded and without the query, counted.
        page_size: the most that a page of any list holds.
        authorized: "METHOD /path" of the requests that came with an Authorization, counted.
        poured: bytes of endless answers that somebody took.
    """

    def __init__(self, folder: Path, page_size: int = 1000, port: int = 0) -> None:
        self.store = Store(folder)
        self.faults = Faults()
        self.tokens = {f"hf_{user}LoopbackToken": user for user in ("alice", "bob")}
        self.requests: Counter[str] = Counter()
        self.authorized: Counter[str] = Counter()
        self.poured = 0
        self.page_size = page_size
        self.closing = threading.Event()
        self._port = port
        self._guard = threading.Lock()

    def __enter__(self) -> Hub:
        self._server = _Server(("127.0.0.1", self._port), self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def token(self, user: str) -> str:
        return next(token for token, owner in self.tokens.items() if owner == user)

    def environment(self, home: Path, token: str | None = None, **more: str) -> dict[str, str]:
        """Return the variables of a process whose client talks to this server and keeps its cache in `home`."""
        dropped = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped) and not k.lower().endswith("_proxy")}
        root = str(Path(__file__).parents[2])
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        who = {} if token is None else {"HF_TOKEN": token}
        return {**kept, **quiet, **who, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "PYTHONPATH": root, **more}

    def ticket(self, key: str, oid: str) -> str:
        """Return what makes the address of an upload unguessable; it outlives a restart."""
        return hmac.new(b"loopback", f"{key} {oid}".encode(), hashlib.sha256).hexdigest()[:32]

    def count(self, request: str, authorized: bool) -> None:
        with self._guard:
            self.requests[request] += 1
            if authorized:
                self.authorized[request] += 1

    def answer(self, request: Request, authorization: str) -> Answer:
        """Do what a request asks."""
        scheme, _, token = authorization.partition(" ")
        try:
            if authorization:
                user = self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
                if user is None:
                    raise RefusedError(401, "Invalid credentials in Authorization header")
                request = replace(request, user=user)
            function, parts = find_route(request)
            return function(self, request, **parts)
        except RefusedError as no:
            return no.answer()
        except StoreError as problem:
            return refusal(problem).answer()
        except Exception:
            # The server is at fault, not the client: the test's output has to say so.
            traceback.print_exc(file=sys.stderr)
            return RefusedError(500, f"Internal error: {traceback.format_exc(limit=-1)}").answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self.ids = itertools.count(1)
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep open: a server that is gone answers nothing."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits for the acknowledgement of its headers
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests count requests instead."""

    def do_GET(self) -> None:
        hub = self.server.hub
        split = urllib.parse.urlsplit(self.path)
        line = f"{self.command} {urllib.parse.unquote(split.path)}"
        hub.count(line, "Authorization" in self.headers)
        fault = hub.faults.take(line)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = urllib.parse.parse_qs(split.query, keep_blank_values=True)
        request = Request(self.command, split.path, query, headers, self._body(headers), None)
        kind = fault.kind if fault else ""
        if kind == "drop":
            self._hang_up()
            return
        if fault and kind == "slow":
            hub.closing.wait(fault.seconds)
        if fault and kind == "move_branch":
            key = key_in(urllib.parse.unquote(split.path))
            assert key is not None, f"{line} is about no repository"
            hub.store.commit(key, fault.files, fault.branch, "Somebody else was here", author="somebody")
        if fault and kind == "status":
            answer = _failing(fault)
        elif fault and kind == "say":
            answer = Answer(fault.status, fault.body, fault.headers)
        elif fault and kind == "endless":
            self._go_on(fault)
            return
        elif fault and kind == "bomb":
            packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            answer = Answer(200, gzip.compress(fault.body + b" " * (fault.size - len(fault.body))), packed)
        else:
            answer = hub.answer(request, headers.get("authorization", ""))
        if kind == "applied_then_drop":
            self._hang_up()
            return
        self._send(_spoiled(answer, fault) if fault else answer, fault)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names that http.server looks for

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(pieces)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", f"Root=loopback-{next(self.server.ids)}")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        kind = fault.kind if fault else ""
        body = answer.body if self.command != "HEAD" else b""
        if fault and kind == "trickle":
            self._trickle(body, fault.seconds)
        elif kind == "cut":
            self.wfile.write(body[: len(body) // 2])
            self._hang_up()
        else:
            self.wfile.write(body)

    def _go_on(self, fault: Fault) -> None:
        self.send_response(200)
        for name, value in {"Connection": "close", **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while self.command != "HEAD" and not self.server.hub.closing.is_set():
                self.wfile.write(fault.body)
                self.server.hub.poured += len(fault.body)

    def _trickle(self, body: bytes, seconds: float) -> None:
        count = max(1, min(len(body), math.ceil(seconds / 0.1)))
        step = math.ceil(len(body) / count)
        for start in range(0, len(body), step or 1):
            if self.server.hub.closing.wait(min(seconds / count, 1)):
                return
            self.wfile.write(body[start : start + step])

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _renamed(body: bytes, fault: Fault) -> bytes:
    """Return a description of a repository, or a list of its files, with the name that a fault puts into it."""
    told = json.loads(body)
    if fault.kind == "sha":
        told["sha"] = fault.name
    elif isinstance(told, dict):
        told["siblings"].append(told["siblings"][0] | {"rfilename": fault.name})
    else:
        told.append(told[0] | {"path": fault.name})
    return json.dumps(told).encode()


def _failing(fault: Fault) -> Answer:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return RefusedError(fault.status, f"{fault.status} on demand", fault.code, headers).answer()


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    body, headers = answer.body, dict(answer.headers)
    if fault.kind == "amend":
        body, headers = fault.body or body, headers | fault.headers
    if fault.kind == "flip" and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    elif fault.kind == "short":
        body = body[: len(body) // 2]
        if "X-Linked-Size" in headers:
            headers["X-Linked-Size"] = str(len(body))
    elif fault.kind == "wrong_etag":
        for name in {"ETag", "X-Linked-Etag"} & set(headers):
            digest = hashlib.sha1 if name == "ETag" else hashlib.sha256
            headers[name] = f'"{digest(b"some other file").hexdigest()}"'
    elif fault.kind == "etag":
        headers |= dict.fromkeys({"ETag", "X-Linked-Etag"} & set(headers), f'"{fault.name}"')
    elif fault.kind == "commit":
        headers["X-Repo-Commit"] = fault.name
    elif fault.kind in ("sha", "sibling"):
        body = _renamed(body, fault)
    return replace(answer, body=body, headers=headers)
