"""A minimal Hub on a loopback port: enough of its protocol for the unmodified client to download.

Repositories are dicts of commits and files in memory. The client reads HF_ENDPOINT when it is imported, so tests
run it in a process of its own, with `LoopbackHub.environment`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


@dataclass
class Repo:
    """Commits, oldest first, each a sha and its files; `large` names files that are served as LFS."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[sha] = files
        return sha


class LoopbackHub:
    """Serves `repos`, keyed by "models/org/name" or "datasets/org/name", until the `with` block ends.

    Attributes:
        corrupt_next: how many of the next file bodies have one bit flipped; their length stays.
        refuse: repository key to (status, X-Error-Code), answered to every request about it.
        requests: "METHOD path", counted.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.corrupt_next = 0
        self.refuse: dict[str, tuple[int, str]] = {}
        self.requests: Counter[str] = Counter()

    def __enter__(self) -> LoopbackHub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return the variables of a process whose client talks to this server and keeps its cache in `home`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        root = str(Path(__file__).parents[1])
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return {**kept, **quiet, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "PYTHONPATH": root, **more}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests count requests instead."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests[f"{self.command} {path}"] += 1
        if api := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?/?", path):
            kind, name, what, revision = api.groups()
            self._about(f"{kind}/{name}", what, revision or "main")
        elif file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, filename = file.groups()
            self._file(f"{kind or 'models/'}{name}", revision, filename)
        else:
            self._error(404, "EntryNotFound")

    def _find(self, key: str, revision: str) -> tuple[Repo, str] | None:
        if key in self.hub.refuse:
            self._error(*self.hub.refuse[key])
        elif key not in self.hub.repos:
            self._error(404, "RepoNotFound")
        else:
            repo = self.hub.repos[key]
            sha = list(repo.commits)[-1] if revision == "main" else revision
            if sha in repo.commits:
                return repo, sha
            self._error(404, "RevisionNotFound")
        return None

    def _about(self, key: str, what: str | None, revision: str) -> None:
        if (found := self._find(key, revision)) is None:
            return
        repo, sha = found
        files = repo.commits[sha]
        if what != "tree":
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": key.partition("/")[2], "sha": sha, "siblings": siblings, "tags": [], "private": False})
            return
        entries = []
        for name, content in files.items():
            entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _git_sha1(content)}
            if name in repo.large:
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def _file(self, key: str, revision: str, filename: str) -> None:
        if (found := self._find(key, revision)) is None:
            return
        repo, sha = found
        content = repo.commits[sha].get(filename)
        if content is None:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": sha})
            return
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_git_sha1(content)}"'}
        if filename in repo.large:
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
        if self.command == "GET" and self.hub.corrupt_next > 0:
            self.hub.corrupt_next -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self._send(200, content, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
