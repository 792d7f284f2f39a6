"""What passes between the sockets and the routes: requests, answers, refusals, and who may see or write what."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.hub import store

if TYPE_CHECKING:
    from tests.hub.server import Hub


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # still percent-encoded: a branch may have a slash in its name
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    user: str | None

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[-1].lower() in ("1", "true")

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise RefusedError(400, "Invalid JSON in the body") from None


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer that is an error: its message, and the code by which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = dict(headers or {})

    def answer(self, **more: object) -> Answer:
        # A header is Latin-1 and one line, whatever is in the message.
        told = self.message.encode("ascii", "replace").decode().replace("\n", " ")
        headers = {"X-Error-Message": told, **({"X-Error-Code": self.code} if self.code else {}), **self.headers}
        return as_json({"error": self.message, **more}, self.status, headers)


Route = Callable[..., Answer]
_ROUTES: list[tuple[str, re.Pattern[str], Route]] = []
_GROUPS = {
    "{api}": r"/api/(?P<kind>models|datasets)/(?P<org>[^/]+)/(?P<name>[^/]+)",
    "{repo}": r"/(?P<prefix>datasets/)?(?P<org>[^/]+)/(?P<name>[^/]+?)",
    "{rev}": r"(?P<rev>[^/]+)",
    "{path}": r"(?P<path>.+)",
}


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    """Answer such requests with the function: it gets the hub, the request and, by their names, parts of the path.

    {api} and {repo} name a repository in the two ways of the Hub; the function gets its `key`.
    """
    for short, long in _GROUPS.items():
        pattern = pattern.replace(short, long)
    compiled = re.compile(pattern)

    def register(function: Route) -> Route:
        _ROUTES.append((method, compiled, function))
        return function

    return register


def find_route(request: Request) -> tuple[Route, dict[str, str]]:
    """Return the function for a request and its arguments.

    Raises:
        RefusedError: there is none.
    """
    method = "GET" if request.method == "HEAD" else request.method
    for verb, pattern, function in _ROUTES:
        if verb == method and (found := pattern.fullmatch(request.path)):
            parts = {name: urllib.parse.unquote(part) for name, part in found.groupdict(default="").items()}
            if "org" in parts:
                kind = parts.pop("kind", "") or parts.pop("prefix", "").strip("/") or "models"
                parts["key"] = f"{kind}/{parts.pop('org')}/{parts.pop('name')}"
            return function, parts
    raise RefusedError(404, f"Cannot {request.method} {urllib.parse.unquote(request.path)}")


def key_in(path: str) -> str | None:
    """Return the key of the repository that a path is about, None where it is about none."""
    found = re.match(r"/(?:api/(models|datasets)/|(datasets)/)?([^/]+/[^/]+)", path)
    if not found or found[3].startswith(("api/", "_lfs/")):
        return None
    return f"{found[1] or found[2] or 'models'}/{found[3].removesuffix('.git')}"


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    # `default` is for the dates that YAML makes of some strings.
    body = json.dumps(value, default=str).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


def page(hub: Hub, request: Request, items: Sequence[object], size: int | None = None) -> Answer:
    """Answer with a page of `items`, and the address of the next one as the Hub gives it."""
    try:
        start = int(request.query.get("cursor", ["0"])[-1])
        asked = int(request.query["limit"][-1]) if "limit" in request.query else None
    except ValueError:
        raise RefusedError(400, "cursor and limit must be numbers") from None
    size = min(number for number in (size, asked, hub.page_size) if number is not None)
    headers = {"X-Total-Count": str(len(items))}
    if start + size < len(items):
        query = urllib.parse.urlencode({**request.query, "cursor": [str(start + size)]}, doseq=True)
        headers["Link"] = f'<{hub.endpoint}{request.path}?{query}>; rel="next"'
    return as_json(items[start : start + size], headers=headers)


def visible(hub: Hub, request: Request, key: str) -> store.Repo:
    """Return a repository that this user may know of; a private one is hidden as if there were none."""
    try:
        repo = hub.store.repo(key)
        if not repo.private or repo.owner == request.user:
            return repo
    except store.RepoMissingError:
        pass
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.", "RepoNotFound")
    raise RefusedError(404, "Repository not found", "RepoNotFound")


def writable(hub: Hub, request: Request, key: str) -> store.Repo:
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    repo = visible(hub, request, key)
    if repo.owner != request.user:
        raise RefusedError(
            403, "You don't have write access to this repository. Your token needs the write role for it."
        )
    return repo


REFUSALS: dict[type[store.StoreError], tuple[int, str, str]] = {
    store.RepoMissingError: (404, "Repository not found", "RepoNotFound"),
    store.RevisionMissingError: (404, "Invalid rev id: {}", "RevisionNotFound"),
    store.EntryMissingError: (404, "Entry not found: {}", "EntryNotFound"),
    store.RefExistsError: (409, "Reference already exists: {}", ""),
    store.InvalidError: (400, "{}", ""),
    store.StaleParentError: (412, "A commit has happened since. Please refresh and try again.", ""),
}


def refusal(problem: store.StoreError) -> RefusedError:
    status, message, code = REFUSALS[type(problem)]
    return RefusedError(status, message.format(problem), code)
