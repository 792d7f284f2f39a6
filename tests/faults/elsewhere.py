"""Another host, to which a hostile Hub sends its client: it answers badly, without end, and notes who came."""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = b"\0" * 2**20
MOST = 2**33


class Elsewhere:
    """A server whose paths are what it does: /html, /json, /endless, /chunked, /slow, /loop, /nothing, /500, /file…

    Attributes:
        tokens: the Authorization headers that it was sent, which should be none.
        files: path → contents, which it serves whole whatever range is asked for.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.files: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.closing = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(place: Elsewhere) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            with suppress(OSError):
                self._answer()

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - names that http.server looks for

        def _answer(self) -> None:
            if "Authorization" in self.headers:
                place.tokens.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.close_connection = True
            kind = self.path.strip("/").split("/")[0].split("?")[0]
            if self.path in place.files:
                self._send(200, place.files[self.path])
            elif kind in ("endless", "chunked"):
                self._without_end(chunked=kind == "chunked")
            elif kind == "slow":
                self._slowly()
            elif kind == "loop":
                self._send(302, b"", {"Location": f"/loop/{len(self.path)}/{self.path[-40:].strip('/')}"})
            elif kind.isdecimal():
                self._send(int(kind), b"no")
            elif kind == "json":
                self._send(200, b"[]", {"Content-Type": "application/json"})
            elif kind == "next":
                self._send(200, b"[]", {"Link": f'<{place.address}/next?{len(self.path)}>; rel="next"'})
            else:
                self._send(200, b"<html><body>Log in</body></html>", {"Content-Type": "text/html"})

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _without_end(self, chunked: bool) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = 0
            while self.command != "HEAD" and sent < MOST and not place.closing.is_set():
                self.wfile.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
                sent += len(PIECE)

        def _slowly(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(600 if self.command != "HEAD" else 0):
                self.wfile.write(b" ")
                if place.closing.wait(0.1):
                    return

    return Handler
