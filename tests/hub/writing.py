"""What changes a repository: creating and deleting it, uploads, commits, branches and tags."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.hub import cards
from tests.hub.protocol import Answer, RefusedError, Request, as_json, route, writable
from tests.hub.store import LARGE_SIZE, Entry, EntryMissingError, RepoExistsError, RevisionMissingError, is_large

if TYPE_CHECKING:
    from tests.hub.server import Hub

_KINDS = {"model": "models", "dataset": "datasets"}


@route("POST", "/api/repos/create")
def create(hub: Hub, request: Request) -> Answer:
    asked, key = _named(request)
    name = key.partition("/")[2]
    kind = asked.get("type") or "model"
    if name.partition("/")[0] != request.user:
        text = f'You don\'t have the rights to create a {kind} under the namespace "{name.partition("/")[0]}"'
        raise RefusedError(403, text)
    url = f"{hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
    try:
        hub.store.create(key, private=bool(asked.get("private")) or asked.get("visibility") == "private")
    except RepoExistsError:
        return RefusedError(409, f"You already created this {kind} repo").answer(url=url)
    return as_json({"url": url, "name": name, "id": hashlib.sha1(key.encode()).hexdigest()[:24]})


@route("DELETE", "/api/repos/delete")
def delete(hub: Hub, request: Request) -> Answer:
    _, key = _named(request)
    writable(hub, request, key)
    hub.store.delete(key)
    return as_json({"success": True})


@route("PUT", "{api}/settings")
def settings(hub: Hub, request: Request, key: str) -> Answer:
    writable(hub, request, key)
    asked = request.json()
    changes = {name: bool(asked[name]) for name in ("private", "gated") if name in asked}
    if "visibility" in asked:
        changes["private"] = asked["visibility"] == "private"
    hub.store.settings(key, **changes)
    return as_json(changes)


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request) -> Answer:
    errors, warnings = cards.check(request.json().get("content", ""))
    told = {name: [{"message": text} for text in texts] for name, texts in (("errors", errors), ("warnings", warnings))}
    return RefusedError(400, "; ".join(errors)).answer(**told) if errors else as_json(told)


@route("POST", "{api}/preupload/{rev}")
def preupload(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    writable(hub, request, key)
    files = hub.store.at(key, rev).files
    told = []
    for asked in request.json()["files"]:
        path = asked["path"]
        mode = "lfs" if is_large(path, asked["size"]) else "regular"
        entry = files.get(path)
        # As the client compares it with what it is about to send: the sha256 of a large file, not of its pointer.
        oid = (entry.sha256 if entry.large else entry.sha1) if entry else None
        told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})})
    return as_json({"files": told, "commitOid": hub.store.at(key, rev).sha})


@route("POST", r"{repo}\.git/info/lfs/objects/batch")
def lfs_batch(hub: Hub, request: Request, key: str) -> Answer:
    writable(hub, request, key)
    asked = request.json()
    if asked.get("operation") != "upload" or "basic" not in asked.get("transfers", ["basic"]):
        raise RefusedError(400, "Only uploads by the basic transfer are known here")
    told: list[dict[str, Any]] = []
    for wanted in asked["objects"]:
        about = {"oid": wanted["oid"], "size": wanted["size"]}
        if hub.store.large(key, wanted["oid"]) is None:
            # The address is its own authorisation, as a presigned one is: the client sends no token with it.
            query = urllib.parse.urlencode({"size": wanted["size"], "ticket": hub.ticket(key, wanted["oid"])})
            upload = {"href": f"{hub.endpoint}/_lfs/{key}/{wanted['oid']}?{query}"}
            verify = {"href": f"{hub.endpoint}{request.path.removesuffix('/objects/batch')}/verify"}
            about["actions"] = {"upload": upload, "verify": verify}
        told.append(about)
    return as_json({"transfer": "basic", "objects": told})


@route("PUT", "/_lfs/(?P<kind>models|datasets)/(?P<org>[^/]+)/(?P<name>[^/]+)/(?P<oid>[0-9a-f]{64})")
def lfs_put(hub: Hub, request: Request, key: str, oid: str) -> Answer:
    if request.query.get("ticket") != [hub.ticket(key, oid)]:
        raise RefusedError(403, "SignatureDoesNotMatch")
    if [str(len(request.body))] != request.query.get("size"):
        raise RefusedError(400, "The size is not the one that was announced")
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise RefusedError(400, "XAmzContentSHA256Mismatch")
    hub.store.put_large(key, request.body)
    return Answer(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


@route("POST", r"{repo}\.git/info/lfs/verify")
def lfs_verify(hub: Hub, request: Request, key: str) -> Answer:
    writable(hub, request, key)
    asked = request.json()
    entry = hub.store.large(key, str(asked.get("oid")))
    if entry is None or entry.size != asked.get("size"):
        raise RefusedError(404, "The object has not been uploaded")
    return as_json({"success": True})


@route("POST", "{api}/commit/{rev}")
def commit(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    repo = writable(hub, request, key)
    if request.flag("create_pr"):
        raise RefusedError(400, "Pull requests are not known here")
    if rev not in repo.branches:
        raise RevisionMissingError(rev)
    try:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
    except (ValueError, KeyError, TypeError, StopIteration):
        raise RefusedError(400, "The body must be lines of JSON, one of them the header") from None
    if not header.get("summary"):
        raise RefusedError(400, '"summary" is required')
    with hub.store.lock(key):
        existing = hub.store.at(key, rev).files
        changes: dict[str, Entry | None] = {}
        for line in lines:
            if line["key"] != "header":
                changes |= _change(hub, key, line["key"], line["value"], existing)
        sha = hub.store.apply(
            key,
            changes,
            header["summary"],
            header.get("description", ""),
            rev,
            author=request.user,
            parent=header.get("parentCommit"),
        )
    url = f"{hub.endpoint}/{key.removeprefix('models/')}/commit/{sha}"
    told = {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""}
    return as_json({**told, "pullRequestUrl": None, "pullRequestRevision": None, "pullRequestNum": None})


@route("POST", "{api}/branch/{rev}")
def branch(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    writable(hub, request, key)
    hub.store.branch(key, rev, request.json().get("startingPoint") or "main")
    return as_json({"success": True})


@route("DELETE", "{api}/branch/{rev}")
def unbranch(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    writable(hub, request, key)
    if rev == "main":
        raise RefusedError(403, "Cannot delete the main branch")
    hub.store.unbranch(key, rev)
    return as_json({"success": True})


@route("POST", "{api}/tag/{rev}")
def tag(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    writable(hub, request, key)
    hub.store.tag(key, str(request.json().get("tag", "")), rev)
    return as_json({"success": True})


@route("DELETE", "{api}/tag/{rev}")
def untag(hub: Hub, request: Request, key: str, rev: str) -> Answer:
    writable(hub, request, key)
    hub.store.untag(key, rev)
    return as_json({"success": True})


def _named(request: Request) -> tuple[dict[str, Any], str]:
    """Return the body of a request that names a repository in it, and the key of that one."""
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    asked = request.json()
    kind = _KINDS.get(asked.get("type") or "model")
    if kind is None or not isinstance(asked.get("name"), str):
        raise RefusedError(400, "Only models and datasets are known here, by a name")
    return asked, f"{kind}/{asked.get('organization') or request.user}/{asked['name']}"


def _change(hub: Hub, key: str, what: str, value: dict[str, Any], existing: Any) -> dict[str, Entry | None]:
    path = value["path"]
    if what == "file":
        return {path: _regular(hub, path, value)}
    if what == "lfsFile":
        entry = hub.store.large(key, value["oid"])
        if entry is None or value.get("size", entry.size) != entry.size:
            text = "Your push was rejected because an LFS pointer pointed to a file that does not exist."
            raise RefusedError(400, f"{text} {path}: {value['oid']}")
        return {path: entry}
    if what == "deletedFile":
        if path not in existing:
            raise EntryMissingError(f"A file with this name doesn't exist: {path}")
        return {path: None}
    if what == "deletedFolder":
        inside = [name for name in existing if name.startswith(f"{path.rstrip('/')}/")]
        if not inside:
            raise EntryMissingError(f"A folder with this name doesn't exist: {path}")
        return dict.fromkeys(inside)
    raise RefusedError(400, f"Unknown operation: {what}")


def _regular(hub: Hub, path: str, value: dict[str, Any]) -> Entry:
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"{path}: the content is not base64") from None
    if len(content) > LARGE_SIZE:
        raise RefusedError(400, f"Your push was rejected because it contains files larger than 10 MiB: {path}")
    if path == "README.md":
        errors, _ = cards.check(content.decode(errors="replace"))
        if errors:
            raise RefusedError(400, f"Invalid metadata in README.md. {'; '.join(errors)}")
    return hub.store.small(content)
