"""The contents of files, whole or in part, with the headers by which the client names and checks them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.hub.protocol import Answer, RefusedError, Request, route, visible
from tests.hub.reading import check_gate

if TYPE_CHECKING:
    from tests.hub.server import Hub


@route("GET", "{repo}/(?:resolve|raw)/{rev}/{path}")
def resolve(hub: Hub, request: Request, key: str, rev: str, path: str) -> Answer:
    repo = visible(hub, request, key)
    check_gate(hub, request, repo)
    commit = hub.store.at(key, rev)
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    entry = commit.files.get(path)
    if entry is None:
        raise RefusedError(404, "Entry not found", "EntryNotFound", headers)
    # A large file has the ETag of its pointer, which says nothing of its contents; the linked one does.
    headers |= {"ETag": f'"{entry.blob_id}"', "Content-Type": "application/octet-stream"}
    headers["Content-Disposition"] = (
        f'inline; filename="{path.rpartition("/")[2].encode("ascii", "replace").decode()}";'
    )
    if entry.large:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    content = hub.store.read(entry.sha256)
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not found or not (found[1] or found[2]):
        return Answer(200, content, headers)
    size = len(content)
    start = int(found[1]) if found[1] else max(size - int(found[2]), 0)
    end = min(int(found[2]) + 1, size) if found[1] and found[2] else size
    if start >= end:
        raise RefusedError(416, "Range not satisfiable", headers={**headers, "Content-Range": f"bytes */{size}"})
    return Answer(206, content[start:end], {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})
