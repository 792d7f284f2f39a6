"""What the Hub tells of its repositories: their metadata, lists, trees, references and history."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.hub import cards
from tests.hub.protocol import Answer, RefusedError, Request, as_json, page, route, visible
from tests.hub.store import Commit, Entry, EntryMissingError, Repo

if TYPE_CHECKING:
    from tests.hub.server import Hub

Json = dict[str, Any]
_ALWAYS = ("_id", "id")
_LISTED = {"createdAt", "downloads", "lastModified", "library_name", "likes", "modelId", "pipeline_tag", "private"}
_LISTED |= {"tags", "trendingScore"}
_EXPAND = {
    "author",
    "baseModels",
    "cardData",
    "citation",
    "config",
    "createdAt",
    "description",
    "disabled",
    "downloads",
}
_EXPAND |= {
    "downloadsAllTime",
    "gated",
    "inference",
    "lastModified",
    "library_name",
    "likes",
    "mainSize",
    "model-index",
}
_EXPAND |= {"pipeline_tag", "private", "resourceGroup", "safetensors", "sha", "siblings", "spaces", "tags"}
_EXPAND |= {"evalResults", "gguf", "inferenceProviderMapping", "mask_token", "transformersInfo", "widgetData"}
_EXPAND |= {"childrenModelCount", "paperswithcode_id", "trendingScore", "usedStorage"}


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Answer:
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
    about = {"type": "user", "id": _id(request.user), "name": request.user, "fullname": request.user.title()}
    return as_json({**about, "email": f"{request.user}@example.org", "emailVerified": True, "orgs": [], "auth": token})


@route("GET", "/api/(?P<kind>models|datasets)")
def repositories(hub: Hub, request: Request, kind: str) -> Answer:
    seen = [repo for key in hub.store.repos() if (repo := _seen(hub, request, key)) and key.startswith(kind)]
    found = [
        about for about in (_metadata(hub, repo, hub.store.at(repo.key)) for repo in seen) if _asked(request, about)
    ]
    order = request.query.get("sort", ["lastModified"])[-1]
    if order not in ("lastModified", "createdAt", "downloads", "likes", "trendingScore"):
        raise RefusedError(400, f"Invalid sort: {order}")
    found.sort(key=lambda about: (about[order], about["id"]), reverse=True)
    names = set(_LISTED) if kind == "models" else {*_LISTED, "author", "sha", "gated", "disabled"}
    if request.flag("full"):
        names |= {"author", "gated", "disabled", "sha", "siblings"}
    if request.flag("cardData") or (kind == "datasets" and request.flag("full")):
        names |= {"cardData", "model-index"}
    return page(hub, request, [_only(about, _expand(request) or names) for about in found])


@route("GET", "{api}(?:/revision/{rev})?")
def repository(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    repo = visible(hub, request, key)
    commit = hub.store.at(key, rev or "main")
    about = _metadata(hub, repo, commit)
    if names := _expand(request):
        return as_json(_only(about, names))
    if request.flag("blobs"):
        about["siblings"] = [_sibling(path, entry) for path, entry in commit.files.items()]
    return as_json(about)


@route("GET", "{api}/auth-check(?P<write>/write)?")
def auth_check(hub: Hub, request: Request, key: str, write: str) -> Answer:
    repo = visible(hub, request, key)
    if repo.owner != request.user and write:
        raise RefusedError(403, "You don't have write access to this repository.")
    check_gate(hub, request, repo)
    return as_json({"success": True})


@route("GET", "{api}/tree/{rev}(?:/{path})?")
def tree(hub: Hub, request: Request, key: str, rev: str, path: str) -> Answer:
    visible(hub, request, key)
    commit = hub.store.at(key, rev)
    below = f"{path.strip('/')}/" if path.strip("/") else ""
    entries: dict[str, Json] = {}
    for name, entry in commit.files.items():
        if not name.startswith(below):
            continue
        folders = name[len(below) :].split("/")[:-1]
        deep = folders if request.flag("recursive") else folders[:1]
        for i in range(len(deep)):
            folder = below + "/".join(folders[: i + 1])
            entries[folder] = _folder(commit, folder)
        if request.flag("recursive") or not folders:
            entries[name] = _file(name, entry)
    if below and not entries:
        raise EntryMissingError(path)
    expand = request.flag("expand")
    listed = [_with_history(hub, key, commit, e) if expand else e for _, e in sorted(entries.items())]
    return page(hub, request, listed, 50 if expand else None)


@route("POST", "{api}/paths-info/{rev}")
def paths_info(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    visible(hub, request, key)
    commit = hub.store.at(key, rev)
    if request.headers.get("content-type", "").startswith("application/json"):
        asked = request.json()
    else:
        form = urllib.parse.parse_qs(request.body.decode())
        asked = {"paths": form.get("paths", []), "expand": form.get("expand", [""])[-1].lower() in ("1", "true")}
    found = []
    for path in asked.get("paths", []):
        if path in commit.files:
            found.append(_file(path, commit.files[path]))
        elif any(name.startswith(f"{path}/") for name in commit.files):
            found.append(_folder(commit, path))
    return as_json([_with_history(hub, key, commit, e) for e in found] if asked.get("expand") else found)


@route("GET", "{api}/refs")
def refs(hub: Hub, request: Request, key: str) -> Answer:
    repo = visible(hub, request, key)

    def told(known: Any, folder: str) -> list[Json]:
        return [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": sha} for n, sha in sorted(known.items())]

    found = {"branches": told(repo.branches, "heads"), "converts": [], "tags": told(repo.tags, "tags")}
    return as_json({**found, "pullRequests": []} if request.flag("include_prs") else found)


@route("GET", "{api}/commits/{rev}")
def commits(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    visible(hub, request, key)
    told = []
    for commit in hub.store.log(key, rev):
        about: Json = {"id": commit.sha, "title": commit.title, "message": commit.message, "date": _date(commit.date)}
        about["authors"] = [{"user": commit.author, "avatar": ""}]
        if "formatted" in request.query.get("expand[]", []):
            about["formatted"] = {"title": commit.title, "message": commit.message}
        told.append(about)
    return page(hub, request, told)


def check_gate(hub: Hub, request: Request, repo: Repo) -> None:
    """Refuse the files of a gated repository to all but its owner: access is asked for on a web page."""
    if not repo.gated or repo.owner == request.user:
        return
    if request.user is None:
        text = f"Access to {repo.name} is restricted. You must have access to it and be authenticated to access it."
        raise RefusedError(401, f"{text} Please log in.", "GatedRepo")
    text = f"Access to {repo.name} is restricted and you are not in the authorized list."
    raise RefusedError(403, f"{text} Visit {hub.endpoint}/{repo.name} to ask for access.", "GatedRepo")


def _seen(hub: Hub, request: Request, key: str) -> Repo | None:
    try:
        return visible(hub, request, key)
    except RefusedError:
        return None


def _metadata(hub: Hub, repo: Repo, commit: Commit) -> Json:
    """Return all that is told of a repository at a commit; its card is the one of main, whatever the commit."""
    kind = repo.key.partition("/")[0]
    head = commit if commit.sha == repo.branches["main"] else hub.store.at(repo.key)
    readme = head.files.get("README.md")
    text = hub.store.read(readme.sha256).decode(errors="replace") if readme else ""
    card = cards.metadata_or_none(text)
    about: Json = {"_id": _id(repo.key), "id": repo.name, "author": repo.owner, "sha": commit.sha}
    about |= {"createdAt": _date(repo.created), "lastModified": _date(head.date)}
    about |= {"private": repo.private, "gated": "manual" if repo.gated else False, "disabled": False}
    about |= {"downloads": 0, "likes": 0, "trendingScore": 0, "usedStorage": sum(e.size for e in head.files.values())}
    about |= {"tags": cards.tags(card, kind, head.files), "siblings": [{"rfilename": path} for path in commit.files]}
    if kind == "models":
        about |= {"modelId": repo.name, "model-index": (card or {}).get("model-index"), "spaces": []}
        about |= {name: (card or {})[name] for name in ("library_name", "pipeline_tag") if name in (card or {})}
    if card is not None:
        about["cardData"] = card
    return about


def _asked(request: Request, about: Json) -> bool:
    filters = [tag for given in request.query.get("filter", []) for tag in given.split(",")]
    if not set(filters) <= set(about["tags"]):
        return False
    if request.query.get("pipeline_tag", [about.get("pipeline_tag")])[-1] != about.get("pipeline_tag"):
        return False
    if "gated" in request.query and request.flag("gated") != bool(about["gated"]):
        return False
    if request.query.get("author", [about["author"]])[-1] != about["author"]:
        return False
    return all(text.lower() in about["id"].lower() for text in request.query.get("search", []))


def _expand(request: Request) -> set[str]:
    names = set(request.query.get("expand", []) + request.query.get("expand[]", []))
    if names - _EXPAND:
        raise RefusedError(400, f'"expand" must be one of [{", ".join(sorted(_EXPAND))}]')
    return names


def _only(about: Json, names: Any) -> Json:
    return {name: value for name, value in about.items() if name in _ALWAYS or name in names}


def _sibling(path: str, entry: Entry) -> Json:
    about: Json = {"rfilename": path, "size": entry.size, "blobId": entry.blob_id}
    if entry.large:
        about["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(entry.pointer)}
    return about


def _file(path: str, entry: Entry) -> Json:
    about: Json = {"type": "file", "oid": entry.blob_id, "size": entry.size, "path": path}
    if entry.large:
        about["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": len(entry.pointer)}
    return about


def _folder(commit: Commit, path: str) -> Json:
    inside = [(name, entry.sha256) for name, entry in commit.files.items() if name.startswith(f"{path}/")]
    oid = hashlib.sha1(json.dumps(inside).encode()).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _with_history(hub: Hub, key: str, commit: Commit, entry: Json) -> Json:
    def contents(at: Commit) -> dict[str, Entry]:
        return {n: e for n, e in at.files.items() if n == entry["path"] or n.startswith(f"{entry['path']}/")}

    last, *older = hub.store.log(key, commit.sha)
    for one in older:
        if contents(one) != contents(commit):
            break
        last = one
    return {**entry, "lastCommit": {"id": last.sha, "title": last.title, "date": _date(last.date)}}


def _date(stored: str) -> str:
    return f"{stored[:-4]}Z"  # the Hub tells milliseconds


def _id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()[:24]
