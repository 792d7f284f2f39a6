"""The loopback Hub keeps the contract that the clients rely on: its raw answers, and the unmodified clients.

Other tests trust what that server says of what was published, so the server is tested as well.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import warm
from tests.hub.faults import KINDS, Fault
from tests.hub.server import Hub
from tests.hub.store import ATTRIBUTES, RepoMissingError, RevisionMissingError, StaleParentError, git_sha1

NET, SECRET, GATED = "models/alice/net", "models/bob/secret", "models/bob/gated"
API = "/api/models/alice/net"
WEIGHTS = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(WEIGHTS)}\n".encode()
CARD = b"""---
license: mit
library_name: timm
pipeline_tag: image-classification
tags: [lottery-ticket, double-win]
datasets: [uoft-cs/cifar10]
base_model: timm/resnet18.a1_in1k
model-index:
- name: net
  results:
  - task: {type: image-classification}
    dataset: {type: uoft-cs/cifar10, name: CIFAR-10}
    metrics: [{type: accuracy, value: 0.9}]
---
# A network
"""
TAGS = ["timm", "safetensors", "model-index", "lottery-ticket", "double-win", "image-classification"]
TAGS += ["dataset:uoft-cs/cifar10", "base_model:timm/resnet18.a1_in1k", "license:mit", "region:us"]


@dataclass
class Reply:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    hub: Hub,
    method: str,
    path: str,
    body: object = None,
    user: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make one request of its own connection; a body that is not bytes goes as JSON."""
    sent = dict(headers or {})
    if user is not None:
        sent["Authorization"] = f"Bearer {hub.token(user) if user in hub.tokens.values() else user}"
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(hub.endpoint).netloc, timeout=20)
    try:
        connection.request(method, path, raw, sent)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def lines(*operations: tuple[str, dict[str, object]], parent: str | None = None) -> bytes:
    """The body of a commit."""
    header: dict[str, object] = {"summary": "a commit", "description": ""}
    if parent:
        header["parentCommit"] = parent
    told = [("header", header), *operations]
    return b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in told)


def added(path: str, content: bytes) -> tuple[str, dict[str, object]]:
    return "file", {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as served:
        files = {"README.md": CARD, "config.json": b"{}", "model.safetensors": WEIGHTS, "sub/deep/a.txt": b"a"}
        served.store.commit(NET, files)
        served.store.create(SECRET, private=True)
        served.store.create(GATED, gated=True)
        yield served


# Who may see and do what


@pytest.mark.parametrize(
    ("method", "path", "user", "status", "code"),
    [
        ("GET", API, None, 200, None),
        ("HEAD", "/alice/net/resolve/main/config.json", None, 200, None),
        ("GET", "/api/models/alice/none", "alice", 404, "RepoNotFound"),
        ("GET", "/api/models/alice/none", None, 401, "RepoNotFound"),
        ("GET", "/api/datasets/alice/net", "alice", 404, "RepoNotFound"),
        ("GET", "/api/models/bob/secret", "bob", 200, None),
        ("GET", "/api/models/bob/secret", "alice", 404, "RepoNotFound"),
        ("GET", "/api/models/bob/secret", None, 401, "RepoNotFound"),
        ("HEAD", "/bob/secret/resolve/main/.gitattributes", "alice", 404, "RepoNotFound"),
        ("GET", "/api/models/bob/gated", None, 200, None),
        ("HEAD", "/bob/gated/resolve/main/.gitattributes", "bob", 200, None),
        ("HEAD", "/bob/gated/resolve/main/.gitattributes", "alice", 403, "GatedRepo"),
        ("GET", "/bob/gated/resolve/main/.gitattributes", None, 401, "GatedRepo"),
        ("GET", f"{API}/revision/none", None, 404, "RevisionNotFound"),
        ("GET", f"{API}/revision/{'0' * 40}", None, 404, "RevisionNotFound"),
        ("GET", f"{API}/tree/main/none", None, 404, "EntryNotFound"),
        ("HEAD", "/alice/net/resolve/main/none.txt", None, 404, "EntryNotFound"),
        ("HEAD", "/alice/net/resolve/none/config.json", None, 404, "RevisionNotFound"),
        ("GET", API, "not-a-token", 401, None),
        ("GET", "/api/whoami-v2", "alice", 200, None),
        ("GET", "/api/whoami-v2", None, 401, None),
        ("POST", f"{API}/branch/b", None, 401, None),
        ("POST", f"{API}/branch/b", "bob", 403, None),
        ("POST", f"{API}/branch/main", "alice", 409, None),
        ("POST", f"{API}/branch/refs%2Fpr%2F5", "alice", 400, None),
        ("DELETE", f"{API}/branch/main", "alice", 403, None),
        ("DELETE", f"{API}/tag/none", "alice", 404, "RevisionNotFound"),
        ("POST", f"{API}/preupload/main", "bob", 403, None),
        ("POST", f"{API}/commit/main", "bob", 403, None),
        ("POST", f"{API}/commit/none", "alice", 404, "RevisionNotFound"),
        ("POST", "/api/models/bob/secret/commit/main", "alice", 404, "RepoNotFound"),
        ("POST", "/alice/net.git/info/lfs/objects/batch", "bob", 403, None),
        ("POST", "/api/nothing/of/the/kind", "alice", 404, None),
        ("GET", "/api/models?expand=weights", None, 400, None),
    ],
)
def test_every_refusal_has_its_status_and_its_code(
    hub: Hub, method: str, path: str, user: str | None, status: int, code: str | None
) -> None:
    got = ask(hub, method, path, user=user, body=b"{}" if method == "POST" else None)
    assert (got.status, got.headers["X-Error-Code"]) == (status, code)
    assert got.headers["X-Request-Id"]
    if status >= 400:
        assert got.headers["X-Error-Message"]
        assert method == "HEAD" or got.json()["error"]


def test_a_repository_is_created_once_and_only_in_ones_own_namespace(hub: Hub) -> None:
    asked = {"name": "new", "organization": None, "type": "model", "visibility": "private"}
    url = f"{hub.endpoint}/alice/new"
    assert ask(hub, "POST", "/api/repos/create", asked).status == 401
    assert ask(hub, "POST", "/api/repos/create", {**asked, "organization": "bob"}, "alice").status == 403
    assert ask(hub, "POST", "/api/repos/create", {**asked, "name": "a..b"}, "alice").status == 400
    made = ask(hub, "POST", "/api/repos/create", asked, "alice")
    assert (made.status, made.json()["url"]) == (200, url)
    again = ask(hub, "POST", "/api/repos/create", asked, "alice")
    assert (again.status, again.json()["url"]) == (409, url)
    assert hub.store.files("models/alice/new") == {".gitattributes": ATTRIBUTES}
    assert ask(hub, "GET", "/api/models/alice/new").status == 401
    theirs = {**asked, "organization": "alice"}
    assert ask(hub, "DELETE", "/api/repos/delete", theirs, "bob").status == 404, "it is private"
    assert ask(hub, "DELETE", "/api/repos/delete", {**theirs, "name": "net"}, "bob").status == 403
    assert ask(hub, "DELETE", "/api/repos/delete", asked, "alice").status == 200
    assert ask(hub, "DELETE", "/api/repos/delete", asked, "alice").headers["X-Error-Code"] == "RepoNotFound"


@pytest.mark.parametrize(
    ("card", "status", "complaint"),
    [
        ("---\nlicense: mit\n---\n", 200, ""),
        ("no metadata at all", 200, "empty or missing yaml metadata"),
        ("---\nlicense: weird\n---\n", 400, '"license" must be one of'),
        ("---\na: [1\n---\n", 400, "YAML Metadata Error"),
        ("---\nlicense: mit\nlicense: mit\n---\n", 400, "duplicated mapping key"),
        ("---\ndatasets: [not an id]\n---\n", 400, "https://hf.co/datasets"),
        ("---\nmodel-index:\n- name: net\n---\n", 400, '"model-index[0].results" must be an array'),
        (CARD.decode().replace("type: accuracy, ", ""), 400, "results[0].metrics[0].type"),
        (CARD.decode(), 200, ""),
    ],
)
def test_a_card_is_checked_before_and_at_the_commit(hub: Hub, card: str, status: int, complaint: str) -> None:
    got = ask(hub, "POST", "/api/validate-yaml", {"content": card, "repoType": "model"})
    assert got.status == status
    told = got.json()
    messages = [problem["message"] for problem in told["errors"] + told["warnings"]]
    assert complaint in "".join(messages) if complaint else not messages
    assert bool(told["errors"]) == (status == 400)
    body = lines(added("README.md", card.encode()))
    assert ask(hub, "POST", f"{API}/commit/main", body, "alice").status == status


# Uploads and commits


def test_which_files_are_large_is_told_before_they_are_sent(hub: Hub) -> None:
    asked = [("a.safetensors", 5), ("empty.safetensors", 0), ("a.txt", 5), ("a.txt", 11 * 2**20), ("p/b.parquet", 1)]
    asked += [("model.safetensors", 5), ("config.json", 2)]
    files = [{"path": path, "size": size, "sample": ""} for path, size in asked]
    told = ask(hub, "POST", f"{API}/preupload/main", {"files": files}, "alice").json()["files"]
    modes = ["lfs", "regular", "regular", "lfs", "lfs", "lfs", "regular"]
    assert [file["uploadMode"] for file in told] == modes
    assert [file.get("oid") for file in told] == [None] * 5 + [SHA256, git_sha1(b"{}")]
    assert not any(file["shouldIgnore"] for file in told)


def test_a_large_file_is_stored_only_as_announced_and_before_its_commit(hub: Hub) -> None:
    content = b"other weights"
    oid = hashlib.sha256(content).hexdigest()
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]}
    place = "/alice/net.git/info/lfs/objects/batch"
    commit = lines(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": len(content)}))
    assert ask(hub, "POST", f"{API}/commit/main", commit, "alice").status == 400
    (wanted,) = ask(hub, "POST", place, batch, "alice").json()["objects"]
    target = wanted["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    verify = wanted["actions"]["verify"]["href"].removeprefix(hub.endpoint)
    assert ask(hub, "PUT", target, b"other Weights").status == 400
    assert ask(hub, "PUT", target, b"other").status == 400
    assert ask(hub, "PUT", target.partition("?")[0], content).status == 403
    assert ask(hub, "PUT", target.replace(f"size={len(content)}", "size=1"), content).status == 400
    assert ask(hub, "POST", verify, {"oid": oid, "size": len(content)}, "alice").status == 404
    assert ask(hub, "PUT", target, content).status == 200
    assert ask(hub, "POST", verify, {"oid": oid, "size": len(content)}, "alice").status == 200
    assert "actions" not in ask(hub, "POST", place, batch, "alice").json()["objects"][0]
    assert ask(hub, "POST", f"{API}/commit/main", commit, "alice").status == 200
    assert hub.store.files(NET)["w.bin"] == content
    # Another repository has to be given the object again: whoever knows a hash does not have the file.
    hub.store.create("models/alice/other")
    again = ask(hub, "POST", "/api/models/alice/other/commit/main", commit, "alice")
    assert (again.status, "LFS pointer" in again.json()["error"]) == (400, True)


def test_a_commit_is_all_of_its_operations_or_nothing(hub: Hub) -> None:
    head = hub.store.head(NET)
    bads: list[tuple[str, dict[str, object]]] = [("deletedFile", {"path": "none"}), ("unheardOf", {"path": "a"})]
    for bad in (*bads, added("../a", b"")):
        got = ask(hub, "POST", f"{API}/commit/main", lines(added("a.txt", b"new"), bad), "alice")
        assert got.status in (400, 404)
        assert hub.store.head(NET) == head
    good = lines(
        added("new.txt", b"new"), ("deletedFile", {"path": "config.json"}), ("deletedFolder", {"path": "sub/"})
    )
    got = ask(hub, "POST", f"{API}/commit/main", good, "alice")
    sha = got.json()["commitOid"]
    assert got.json()["commitUrl"] == f"{hub.endpoint}/alice/net/commit/{sha}"
    assert set(hub.store.files(NET)) == {".gitattributes", "README.md", "model.safetensors", "new.txt"}
    assert hub.store.commits(NET)[:2] == [sha, head]


def test_a_stale_parent_is_refused_with_412_and_changes_nothing(hub: Hub) -> None:
    old = hub.store.head(NET)
    new = hub.store.commit(NET, {"config.json": b"[]"})
    got = ask(hub, "POST", f"{API}/commit/main", lines(added("a.txt", b""), parent=old), "alice")
    message = "A commit has happened since. Please refresh and try again."
    assert (got.status, got.json()["error"], got.headers["X-Error-Message"]) == (412, message, message)
    assert hub.store.head(NET) == new


@pytest.mark.parametrize("over_http", [True, False])
def test_of_many_commits_on_one_parent_exactly_one_wins(hub: Hub, over_http: bool) -> None:
    head = hub.store.head(NET)
    start = threading.Barrier(8)

    def race(number: int) -> int:
        start.wait()
        if over_http:
            body = lines(added(f"{number}.txt", b""), parent=head)
            return ask(hub, "POST", f"{API}/commit/main", body, "alice").status
        try:
            hub.store.apply(NET, {f"{number}.txt": hub.store.small(b"")}, "race", parent=head)
        except StaleParentError:
            return 412
        return 200

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(race, range(8))) == [200] + [412] * 7
    assert len(hub.store.commits(NET)) == 3
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: hub.store.commit(NET, {f"all-{number}.txt": b""}), range(8)))
    assert len(hub.store.commits(NET)) == 11, "without a parent, every one follows the one before"
    assert {f"all-{number}.txt" for number in range(8)} < set(hub.store.files(NET))


def test_branches_and_tags_with_a_slash_are_revisions_like_any_other(hub: Hub) -> None:
    head = hub.store.head(NET)
    assert ask(hub, "POST", f"{API}/branch/seed%2F1", {"startingPoint": head}, "alice").status == 200
    assert ask(hub, "POST", f"{API}/tag/seed%2F1", {"tag": "v1/a", "message": "m"}, "alice").status == 200
    assert ask(hub, "POST", f"{API}/tag/main", {"tag": "v1/a"}, "alice").status == 409
    moved = ask(hub, "POST", f"{API}/commit/seed%2F1", lines(added("config.json", b"[]")), "alice").json()["commitOid"]
    told = ask(hub, "GET", f"{API}/refs").json()
    assert {ref["name"]: ref["targetCommit"] for ref in told["branches"]} == {"main": head, "seed/1": moved}
    assert told["tags"] == [{"name": "v1/a", "ref": "refs/tags/v1/a", "targetCommit": head}]
    for revision, expected in (("seed%2F1", b"[]"), ("v1%2Fa", b"{}"), (moved, b"[]"), (head, b"{}")):
        got = ask(hub, "GET", f"/alice/net/resolve/{revision}/config.json")
        assert (got.status, got.body) == (200, expected)
    log = ask(hub, "GET", f"{API}/commits/seed%2F1").json()
    assert [commit["id"] for commit in log] == hub.store.commits(NET, "seed/1")
    assert [commit["authors"][0]["user"] for commit in log] == ["alice"] * 3
    assert ask(hub, "DELETE", f"{API}/branch/seed%2F1", user="alice").status == 200
    assert ask(hub, "DELETE", f"{API}/tag/v1%2Fa", user="alice").status == 200
    assert (hub.store.branches(NET), hub.store.tags(NET)) == ({"main": head}, {})


# What is told


def test_a_regular_file_has_its_git_hash_and_a_large_one_its_sha256(hub: Hub) -> None:
    head = hub.store.head(NET)
    small = ask(hub, "HEAD", "/alice/net/resolve/main/config.json").headers
    large = ask(hub, "HEAD", "/alice/net/resolve/main/model.safetensors").headers
    assert (small["X-Repo-Commit"], small["ETag"], small["Content-Length"]) == (head, f'"{git_sha1(b"{}")}"', "2")
    assert small["X-Linked-Etag"] is None
    assert (large["ETag"], large["X-Linked-Etag"]) == (f'"{git_sha1(POINTER)}"', f'"{SHA256}"')
    assert large["X-Linked-Size"] == large["Content-Length"] == str(len(WEIGHTS))
    assert large["Accept-Ranges"] == "bytes"
    missing = ask(hub, "HEAD", "/alice/net/resolve/main/none").headers
    assert missing["X-Repo-Commit"] == head


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=10-19", 206, 10, 20),
        ("bytes=10200-", 206, 10200, 10240),
        ("bytes=-5", 206, 10235, 10240),
        ("bytes=10000-99999", 206, 10000, 10240),
        ("bytes=10240-", 416, 0, 0),
        ("lines=1-2", 200, 0, 10240),
    ],
)
def test_a_range_is_the_part_that_was_asked_for(hub: Hub, asked: str, status: int, start: int, end: int) -> None:
    got = ask(hub, "GET", "/alice/net/resolve/main/model.safetensors", headers={"Range": asked})
    assert got.status == status
    if status == 416:
        assert got.headers["Content-Range"] == f"bytes */{len(WEIGHTS)}"
    else:
        assert got.body == WEIGHTS[start:end]
    if status == 206:
        assert got.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"


def test_the_metadata_of_a_model_has_its_card_its_tags_and_its_files(hub: Hub) -> None:
    told = ask(hub, "GET", f"{API}?blobs=true").json()
    lfs = {"sha256": SHA256, "size": len(WEIGHTS), "pointerSize": len(POINTER)}
    about = {"rfilename": "model.safetensors", "size": len(WEIGHTS), "blobId": git_sha1(POINTER), "lfs": lfs}
    assert (told["id"], told["author"], told["sha"]) == ("alice/net", "alice", hub.store.head(NET))
    assert told["tags"] == TAGS
    assert told["cardData"]["datasets"] == ["uoft-cs/cifar10"]
    assert told["model-index"] == told["cardData"]["model-index"]
    assert about in told["siblings"]
    assert "size" not in ask(hub, "GET", API).json()["siblings"][0]
    few = ask(hub, "GET", f"{API}/revision/main?expand=sha&expand=tags").json()
    assert set(few) == {"_id", "id", "sha", "tags"}


def test_trees_and_paths_name_folders_and_files(hub: Hub) -> None:
    names = [".gitattributes", "README.md", "config.json", "model.safetensors"]
    flat = ask(hub, "GET", f"{API}/tree/main").json()
    assert [(entry["type"], entry["path"]) for entry in flat[-2:]] == [("file", names[-1]), ("directory", "sub")]
    deep = ask(hub, "GET", f"{API}/tree/main?recursive=true").json()
    assert [entry["path"] for entry in deep] == [*names, "sub", "sub/deep", "sub/deep/a.txt"]
    assert deep[3]["lfs"] == {"oid": SHA256, "size": len(WEIGHTS), "pointerSize": len(POINTER)}
    assert [entry["path"] for entry in ask(hub, "GET", f"{API}/tree/main/sub").json()] == ["sub/deep"]
    wanted = urllib.parse.urlencode({"paths": ["config.json", "sub", "none"], "expand": "true"}, doseq=True).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    told = ask(hub, "POST", f"{API}/paths-info/main", wanted, headers=form).json()
    assert [(entry["type"], entry["path"]) for entry in told] == [("file", "config.json"), ("directory", "sub")]
    assert told[0]["lastCommit"]["id"] == hub.store.head(NET)
    hub.store.commit(NET, {"README.md": CARD + b"more"})
    typed = {"Content-Type": "application/json"}
    again = ask(hub, "POST", f"{API}/paths-info/main", {"paths": ["config.json"], "expand": True}, headers=typed).json()
    assert again[0]["lastCommit"]["id"] == hub.store.commits(NET)[1], "the commit that last changed the file"


def test_a_list_is_filtered_by_all_tags_and_comes_in_pages(tmp_path: Path) -> None:
    with Hub(tmp_path, page_size=2) as hub:
        for number in range(5):
            text = f"---\nlicense: mit\ntags: [ticket, {'even' if number % 2 == 0 else 'odd'}]\n---\n"
            hub.store.commit(f"models/alice/net{number}", {"README.md": text.encode()})
        hub.store.create("models/bob/secret", private=True)
        hub.store.create("datasets/bob/images")

        def listed(query: str, user: str | None = None) -> list[list[str]]:
            path: str | None = f"/api/models?{query}"
            pages = []
            while path is not None:
                got = ask(hub, "GET", path, user=user)
                pages.append([about["id"] for about in got.json()])
                link = got.headers["Link"]
                assert link is None or link.endswith('>; rel="next"')
                path = link and link[1:].partition(">")[0].removeprefix(hub.endpoint)
            return pages

        newest = [f"alice/net{number}" for number in (4, 3, 2, 1, 0)]
        assert listed("") == [newest[:2], newest[2:4], newest[4:]]
        assert listed("filter=ticket&filter=odd") == [["alice/net3", "alice/net1"]]
        assert listed("filter=odd&filter=even") == [[]]
        assert listed("filter=license:mit&search=NET2") == [["alice/net2"]]
        assert listed("author=bob") == [[]]
        assert listed("author=bob", user="bob") == [["bob/secret"]]
        assert listed("limit=1&filter=odd") == [["alice/net3"], ["alice/net1"]]
        full = ask(hub, "GET", "/api/models?expand=cardData&search=net2").json()
        assert full == [{"_id": full[0]["_id"], "id": "alice/net2", "cardData": full[0]["cardData"]}]
        assert "cardData" not in ask(hub, "GET", "/api/models").json()[0]
        assert [about["id"] for about in ask(hub, "GET", "/api/datasets").json()] == ["bob/images"]


def test_a_server_on_the_same_folder_has_everything(hub: Hub, tmp_path: Path) -> None:
    hub.store.tag(NET, "v1")
    before = hub.store.repo(NET)
    with Hub(tmp_path / "hub") as again:
        assert again.store.repo(NET) == before
        assert again.store.files(NET, "v1") == hub.store.files(NET)
        assert ask(again, "GET", f"{API}/revision/v1").json() == ask(hub, "GET", API).json()


def test_the_store_tells_what_is_missing(hub: Hub) -> None:
    with pytest.raises(RepoMissingError):
        hub.store.files("models/alice/none")
    with pytest.raises(RevisionMissingError):
        hub.store.head(NET, "none")
    assert hub.store.repos() == [NET, GATED, SECRET]


# Faults


def seconds_of(hub: Hub, path: str) -> float:
    start = time.monotonic()
    assert ask(hub, "GET", path).body == WEIGHTS
    return time.monotonic() - start


FILE = "/alice/net/resolve/main/model.safetensors"


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 429, 500, 502, 503, 504])
def test_a_status_on_demand_does_nothing_of_what_was_asked(hub: Hub, status: int) -> None:
    hub.faults.add(Fault(match="POST .*/branch/b", kind="status", status=status, retry_after=7, code="X"))
    got = ask(hub, "POST", f"{API}/branch/b", {}, "alice")
    assert (got.status, got.headers["Retry-After"], got.headers["X-Error-Code"]) == (status, "7", "X")
    assert got.json()["error"]
    assert "b" not in hub.store.branches(NET)
    assert ask(hub, "POST", f"{API}/branch/b", {}, "alice").status == 200


def test_a_fault_waits_its_turn_and_ends(hub: Hub) -> None:
    first = Fault(match="^GET .*/config.json$", kind="status", status=500, skip=1, times=2)
    hub.faults.add(first, Fault(match="config.json", kind="status", status=503))
    answers = [ask(hub, "GET", "/alice/net/resolve/main/config.json").status for _ in range(5)]
    assert answers == [503, 500, 500, 200, 200], "what the first passes over is the second's"
    assert hub.faults.pending() == []
    hub.faults.add(first)
    assert hub.faults.pending() == [first]
    hub.faults.clear()
    assert ask(hub, "GET", "/alice/net/resolve/main/config.json").status == 200
    with pytest.raises(ValueError, match="none of"):
        Fault(match="", kind="unheard-of")


def test_a_slow_answer_comes_late_and_a_trickle_takes_its_time(hub: Hub) -> None:
    assert seconds_of(hub, FILE) < 0.4
    hub.faults.add(Fault(match=FILE, kind="slow", seconds=0.5))
    assert 0.5 <= seconds_of(hub, FILE) < 3
    hub.faults.add(Fault(match=FILE, kind="trickle", seconds=1))
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(hub.endpoint).netloc, timeout=0.7)
    start = time.monotonic()
    connection.request("GET", FILE)
    assert connection.getresponse().read() == WEIGHTS, "no single read waits for as long as the whole takes"
    assert time.monotonic() - start >= 0.9
    connection.close()


def test_a_body_can_be_cut_short_flipped_or_have_another_etag(hub: Hub) -> None:
    whole = ask(hub, "HEAD", FILE).headers
    hub.faults.add(*(Fault(match=f"GET {FILE}", kind=kind) for kind in ("cut", "short", "flip", "wrong_etag")))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(hub, "GET", FILE)
    assert caught.value.partial == WEIGHTS[: len(WEIGHTS) // 2]
    short = ask(hub, "GET", FILE)
    assert short.body == WEIGHTS[: len(WEIGHTS) // 2]
    assert short.headers["Content-Length"] == short.headers["X-Linked-Size"] == str(len(WEIGHTS) // 2)
    flipped = ask(hub, "GET", FILE)
    assert len(flipped.body) == len(WEIGHTS)
    assert sum((a ^ b).bit_count() for a, b in zip(flipped.body, WEIGHTS, strict=True)) == 1
    assert flipped.headers["X-Linked-Etag"] == whole["X-Linked-Etag"]
    other = ask(hub, "GET", FILE)
    assert other.body == WEIGHTS
    assert other.headers["ETag"] != whole["ETag"]
    assert other.headers["X-Linked-Etag"] != whole["X-Linked-Etag"]
    assert ask(hub, "GET", FILE).body == WEIGHTS


def test_an_answer_can_be_anything_at_all(hub: Hub) -> None:
    moved = {"Location": "http://elsewhere/x"}
    hub.faults.add(
        Fault(API, "say", status=200, body=b"[]"),
        Fault(API, "say", status=302, headers=moved),
        Fault(API, "amend", headers={"X-Linked-Etag": "../x", "Content-Type": "text/html"}),
        Fault(API, "amend", body=b"of one's own"),
        Fault(API, "bomb", body=b"[", size=1000),
        Fault(API, "status", status=429, retry_after="inf"),
    )
    said = ask(hub, "GET", API)
    assert (said.status, said.body, said.headers["X-Error-Code"]) == (200, b"[]", None)
    redirected = ask(hub, "GET", API)
    assert (redirected.status, redirected.headers["Location"]) == (302, "http://elsewhere/x")
    amended = ask(hub, "GET", API)
    assert (amended.headers["X-Linked-Etag"], amended.headers.get_all("Content-Type")) == ("../x", ["text/html"])
    assert amended.json()["id"] == "alice/net"
    assert ask(hub, "GET", API).body == b"of one's own"
    packed = ask(hub, "GET", API)
    assert (gzip.decompress(packed.body), packed.headers["Content-Encoding"]) == (b"[".ljust(1000), "gzip")
    assert ask(hub, "GET", API).headers["Retry-After"] == "inf"


def test_an_endless_answer_ends_when_nobody_listens(hub: Hub) -> None:
    hub.faults.add(Fault(API, "endless", body=b"ab" * 100))
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(hub.endpoint).netloc, timeout=20)
    connection.request("GET", API)
    assert connection.getresponse().read(100_000) == b"ab" * 50_000
    connection.close()
    last = -1
    while last != hub.poured:
        last = hub.poured
        time.sleep(0.2)
    assert hub.poured >= 100_000
    assert ask(hub, "GET", API).status == 200


def test_requests_with_a_token_are_counted_apart(hub: Hub) -> None:
    ask(hub, "GET", API)
    ask(hub, "GET", API, user="alice")
    assert (hub.requests[f"GET {API}"], hub.authorized[f"GET {API}"]) == (2, 1)


def test_an_answer_can_name_what_an_attacker_would(hub: Hub) -> None:
    for kind in ("etag", "commit"):
        hub.faults.add(Fault(match=f"HEAD {FILE}", kind=kind, name="/home/me"))
    first, second = (ask(hub, "HEAD", FILE).headers for _ in range(2))
    assert first["ETag"] == first["X-Linked-Etag"] == '"/home/me"'
    assert first["X-Repo-Commit"] == hub.store.head(NET)
    assert second["X-Repo-Commit"] == "/home/me"
    for kind in ("sha", "sibling"):
        hub.faults.add(Fault(match=f"GET {API}", kind=kind, name="../a"))
    assert ask(hub, "GET", API).json()["sha"] == "../a"
    assert "../a" in {file["rfilename"] for file in ask(hub, "GET", API).json()["siblings"]}
    hub.faults.add(Fault(match=f"GET {API}/tree", kind="sibling", name="../a"))
    assert "../a" in {file["path"] for file in ask(hub, "GET", f"{API}/tree/main").json()}
    assert ask(hub, "GET", API).json()["sha"] == hub.store.head(NET)


@pytest.mark.parametrize(("kind", "count"), [("drop", 2), ("applied_then_drop", 3)])
def test_a_lost_answer_may_or_may_not_mean_a_lost_request(hub: Hub, kind: str, count: int) -> None:
    hub.faults.add(Fault(match="POST .*/commit/main", kind=kind))
    with pytest.raises(ConnectionError):
        ask(hub, "POST", f"{API}/commit/main", lines(added("a.txt", b"a")), "alice")
    assert len(hub.store.commits(NET)) == count
    assert ("a.txt" in hub.store.files(NET)) == (kind == "applied_then_drop")


def test_a_branch_can_move_between_two_requests(hub: Hub) -> None:
    head = ask(hub, "GET", API).json()["sha"]
    hub.faults.add(Fault(match="POST .*/commit/main", kind="move_branch", files={"theirs.txt": b"theirs"}))
    got = ask(hub, "POST", f"{API}/commit/main", lines(added("a.txt", b"a"), parent=head), "alice")
    assert got.status == 412
    assert set(hub.store.files(NET)) >= {"theirs.txt", "config.json"}
    assert hub.store.commits(NET)[1] == head
    hub.store.commit("datasets/bob/images", {"a.txt": b"a"}, branch="b")
    hub.faults.add(Fault(match="HEAD /datasets/", kind="move_branch", files={"a.txt": b"b"}, branch="b"))
    got = ask(hub, "HEAD", "/datasets/bob/images/resolve/b/a.txt")
    assert got.headers["ETag"] == f'"{git_sha1(b"b")}"'


def test_every_kind_of_fault_is_tested_here() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{kind}"' in text for kind in KINDS)


def test_requests_are_counted_as_they_read(hub: Hub) -> None:
    hub.store.branch(NET, "seed/1")
    for _ in range(2):
        ask(hub, "GET", f"{API}/revision/seed%2F1?blobs=true")
    ask(hub, "HEAD", "/alice/net/resolve/main/a%20b")
    assert hub.requests == {f"GET {API}/revision/seed/1": 2, "HEAD /alice/net/resolve/main/a b": 1}
    hub.requests.clear()
    assert not hub.requests


def test_one_connection_serves_many_requests_even_after_a_failure(hub: Hub) -> None:
    hub.faults.add(Fault(match="POST", kind="status", status=503))
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(hub.endpoint).netloc, timeout=20)
    token = {"Authorization": f"Bearer {hub.token('alice')}"}
    socket = None
    for method, path, expected in (
        ("POST", f"{API}/branch/b", 503),
        ("HEAD", FILE, 200),
        ("HEAD", "/alice/net/resolve/main/none", 404),
        ("POST", f"{API}/branch/b", 200),
        ("GET", API, 200),
    ):
        connection.request(method, path, b'{"a": 1}' if method == "POST" else None, token)
        response = connection.getresponse()
        response.read()
        assert response.status == expected
        assert socket in (None, connection.sock), "the connection was closed"
        socket = connection.sock
    connection.close()


def test_a_chunked_upload_is_read_to_its_end(hub: Hub) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(hub.endpoint).netloc, timeout=20)
    token = {"Authorization": f"Bearer {hub.token('alice')}"}
    body = lines(added("a.txt", b"a"))
    connection.request("POST", f"{API}/commit/main", iter([body[:20], body[20:]]), token, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["success"]) == (200, True)
    connection.request("GET", API)
    assert connection.getresponse().status == 200
    connection.close()


def test_the_environment_of_a_client_has_only_what_it_was_given(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "mine")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    got = hub.environment(tmp_path, HF_HUB_OFFLINE="1")
    hub_variables = {name: value for name, value in got.items() if name.startswith(("HF_", "HUGGING"))}
    assert hub_variables == {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    assert not any(name.lower().endswith("_proxy") for name in got)
    assert hub.environment(tmp_path, token=hub.token("bob"))["HF_TOKEN"] == hub.token("bob")


# The clients themselves


def run(hub: Hub, home: Path, script: str, user: str | None = None, **more: str) -> Any:
    """Run a script in a process of its own and return the JSON that it prints last."""
    environment = hub.environment(home, token=None if user is None else hub.token(user), **more)
    done = warm.run("-W", "error::UserWarning", "-c", script, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


WRITES = """
import json, sys
from huggingface_hub import CommitOperationAdd as Add, CommitOperationCopy as Copy, CommitOperationDelete as Delete
from huggingface_hub import HfApi, ModelCard, errors
from huggingface_hub.repocard import metadata_load

api, out = HfApi(), {}
out["who"] = api.whoami()["name"]
out["url"] = str(api.create_repo("net"))
api.create_repo("alice/net", exist_ok=True)
out["images"] = str(api.create_repo("alice/images", repo_type="dataset", private=True))
weights = bytes(range(256)) * 40
open("w.bin", "wb").write(weights)
card = sys.stdin.read()
ModelCard(card).validate()
start = api.model_info("alice/net").sha
files = [Add("README.md", card.encode()), Add("a/config.json", b"{}"), Add("model.safetensors", weights)]
done = api.create_commit("alice/net", [*files, Add("w.bin", "w.bin")], commit_message="all", parent_commit=start)
out["commit"], out["commit_url"] = done.oid, done.commit_url
same = api.create_commit("alice/net", [Add("a/config.json", b"{}"), Add("w.bin", weights)], commit_message="none")
out["same"] = same.oid
for name, call in {
    "stale": lambda: api.create_commit("alice/net", [Add("b", b"b")], commit_message="b", parent_commit=start),
    "foreign": lambda: api.create_commit("bob/net", [Add("b", b"b")], commit_message="b"),
    "hidden": lambda: api.model_info("bob/secret"),
    "namespace": lambda: api.create_repo("bob/new"),
    "gated": lambda: api.hf_hub_download("bob/gated", ".gitattributes"),
    "revision": lambda: api.create_tag("alice/net", tag="x", revision="none"),
    "weird": lambda: api.create_commit("alice/net", [Add("README.md", b"---\\nlicense: weird\\n---\\n")],
                                       commit_message="c"),
    "tagged": lambda: api.create_tag("alice/net", tag="v1"),
    "token": lambda: HfApi(token="hf_wrong").whoami(),
    "main": lambda: api.delete_branch("alice/net", branch="main"),
    "file": lambda: api.create_commit("alice/net", [Delete("none")], commit_message="d"),
}.items():
    if name == "tagged":
        api.create_tag("alice/net", tag="v1", revision=done.oid, tag_message="one")
    try:
        call()
        out[name] = "nothing raised"
    except (errors.HfHubHTTPError, ValueError) as e:
        response = getattr(e, "response", None)
        out[name] = [type(e).__name__, response.status_code if response is not None else 0, str(e)]
api.create_tag("alice/net", tag="v1", exist_ok=True)
api.create_branch("alice/net", branch="seed/1", revision=start)
moved = api.upload_file(path_or_fileobj=b"[]", path_in_repo="a/config.json", repo_id="alice/net", revision="seed/1")
refs = api.list_repo_refs("alice/net")
out["refs"] = {ref.name: ref.target_commit for ref in refs.branches + refs.tags}
changes = [Copy("w.bin", "copy.bin"), Copy("a/config.json", "copy.json"), Delete("a/")]
out["changed"] = api.create_commit("alice/net", changes, commit_message="change").oid
out["log"] = [commit.title for commit in api.list_repo_commits("alice/net")]
tree = api.list_repo_tree("alice/net", revision="seed/1", recursive=True, expand=True)
out["tree"] = {entry.path: entry.last_commit.title for entry in tree}
out["loaded"] = metadata_load(api.hf_hub_download("alice/net", "README.md"))["license"]
out["exists"] = [api.file_exists("alice/net", "copy.bin"), api.file_exists("alice/net", "a/config.json"),
                 api.revision_exists("alice/net", "seed/1"), api.repo_exists("alice/none")]
api.auth_check("alice/net")
api.update_repo_settings("alice/images", repo_type="dataset", private=False)
api.delete_tag("alice/net", tag="v1")
api.delete_branch("alice/net", branch="seed/1")
api.create_repo("gone")
api.delete_repo("alice/gone")
api.delete_repo("alice/gone", missing_ok=True)
print(json.dumps(out))
"""


def test_the_hub_client_publishes(tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        hub.store.create("models/bob/net")
        hub.store.create(SECRET, private=True)
        hub.store.create(GATED, gated=True)
        environment = hub.environment(tmp_path / "home", token=hub.token("alice"))
        done = warm.run("-c", WRITES, env=environment, cwd=tmp_path, given=CARD.decode())
        assert done.returncode == 0, done.stderr
        out = json.loads(done.stdout)
        assert out["who"] == "alice"
        assert (out["url"], out["images"]) == (f"{hub.endpoint}/alice/net", f"{hub.endpoint}/datasets/alice/images")
        first, commit, changed = reversed(hub.store.commits(NET))
        assert (out["commit"], out["same"], out["changed"]) == (commit, commit, changed)
        assert out["commit_url"] == f"{hub.endpoint}/alice/net/commit/{commit}"
        statuses = {name: tuple(out[name][:2]) for name in ("stale", "foreign", "hidden", "namespace", "gated")}
        assert statuses == {
            "stale": ("HfHubHTTPError", 412),
            "foreign": ("HfHubHTTPError", 403),
            "hidden": ("RepositoryNotFoundError", 404),
            "namespace": ("HfHubHTTPError", 403),
            "gated": ("GatedRepoError", 403),
        }
        statuses = {name: tuple(out[name][:2]) for name in ("revision", "weird", "tagged", "token", "main", "file")}
        assert statuses == {
            "revision": ("RevisionNotFoundError", 404),
            "weird": ("ValueError", 0),
            "tagged": ("HfHubHTTPError", 409),
            "token": ("HfHubHTTPError", 401),
            "main": ("HfHubHTTPError", 403),
            "file": ("RemoteEntryNotFoundError", 404),
        }
        assert "A commit has happened since" in out["stale"][2]
        assert "Request ID" in out["stale"][2]
        assert '"license" must be one of' in out["weird"][2]
        assert "Invalid user token" in out["token"][2]
        moved = out["refs"].pop("seed/1")
        assert out["refs"] == {"main": commit, "v1": commit}
        assert hub.store.files(NET, moved) == {".gitattributes": ATTRIBUTES, "a/config.json": b"[]"}
        assert out["log"] == ["change", "all", "initial commit"]
        assert out["tree"][".gitattributes"] == "initial commit"
        assert out["tree"]["a"] == out["tree"]["a/config.json"] == "Upload a/config.json with huggingface_hub"
        assert out["loaded"] == "mit"
        assert out["exists"] == [True, False, True, False]
        files = {".gitattributes": ATTRIBUTES, "README.md": CARD, "model.safetensors": WEIGHTS, "w.bin": WEIGHTS}
        assert hub.store.files(NET) == {**files, "copy.bin": WEIGHTS, "copy.json": b"{}"}
        large = {path for path, entry in hub.store.at(NET).files.items() if entry.large}
        assert large == {"model.safetensors", "w.bin", "copy.bin"}
        uploads = [request for request in hub.requests.elements() if request.startswith("PUT /_lfs")]
        assert len(uploads) == 2, "the repeat and the copy send nothing"
        assert (hub.store.branches(NET), hub.store.tags(NET)) == ({"main": changed}, {})
        assert hub.store.repo("datasets/alice/images").private is False
        assert hub.store.repos() == ["datasets/alice/images", NET, GATED, "models/bob/net", SECRET]
        assert first == hub.store.commits(NET)[-1]


READS = """
import hashlib, json
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

api, out = HfApi(), {}
out["filtered"] = [[m.id, m.tags] for m in api.list_models(filter=["ticket", "odd"])]
out["all"] = [m.id for m in api.list_models()]
out["few"] = [m.id for m in api.list_models(limit=3)]
out["searched"] = [m.id for m in api.list_models(author="alice", search="net3", trained_dataset="uoft-cs/cifar10")]
(card,) = [m for m in api.list_models(filter="timm", expand=["cardData", "sha", "model-index"])]
out["card"] = [card.sha, card.card_data.license, card.card_data.eval_results[0].metric_value, card.model_index]
info = api.model_info("alice/net", files_metadata=True)
out["files"] = {s.rfilename: [s.size, s.blob_id, s.lfs and s.lfs.sha256] for s in info.siblings}
out["index"] = info.card_data.eval_results[0].dataset_name
path = hf_hub_download("alice/net", "model.safetensors")
out["resumed"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
folder = snapshot_download("alice/net", revision=info.sha)
out["snapshot"] = folder.rpartition("/")[2]
out["paths"] = [[p.path, p.lfs is not None] for p in api.get_paths_info("alice/net", ["config.json", "none"])]
print(json.dumps(out))
"""


def test_the_hub_client_finds_and_pulls_and_resumes_after_a_cut(tmp_path: Path) -> None:
    with Hub(tmp_path / "hub", page_size=2) as hub:
        for number in range(5):
            text = f"---\ntags: [ticket, {'even' if number % 2 == 0 else 'odd'}]\ndatasets: uoft-cs/cifar10\n---\n"
            hub.store.commit(f"models/alice/net{number}", {"README.md": text.encode()})
        files = {"README.md": CARD, "config.json": b"{}", "model.safetensors": WEIGHTS, "sub/deep/a.txt": b"a"}
        head = hub.store.commit(NET, files)
        hub.faults.add(Fault(match="GET .*/model.safetensors", kind="cut"))
        out = run(hub, tmp_path / "home", READS)
        ids = ["alice/net", *(f"alice/net{number}" for number in (4, 3, 2, 1, 0))]
        assert [name for name, _ in out["filtered"]] == ["alice/net3", "alice/net1"]
        assert out["filtered"][0][1] == ["ticket", "odd", "dataset:uoft-cs/cifar10", "region:us"]
        assert (out["all"], out["few"], out["searched"]) == (ids, ids[:3], ["alice/net3"])
        assert out["card"][:3] == [head, "mit", 0.9]
        assert out["card"][3][0]["results"][0]["dataset"]["type"] == "uoft-cs/cifar10"
        assert out["files"]["model.safetensors"] == [len(WEIGHTS), git_sha1(POINTER), SHA256]
        assert out["files"]["config.json"] == [2, git_sha1(b"{}"), None]
        assert out["index"] == "CIFAR-10"
        assert out["resumed"] == SHA256
        assert hub.requests["GET /alice/net/resolve/main/model.safetensors"] == 2, "cut once, then resumed"
        assert out["snapshot"] == head
        at = tmp_path / "home/hub/models--alice--net/snapshots" / head
        got = {p.relative_to(at).as_posix(): p.read_bytes() for p in at.rglob("*") if p.is_file()}
        assert got == hub.store.files(NET)
        assert out["paths"] == [["config.json", False]]
        assert hub.faults.pending() == []


DATASETS = """
import json
from datasets import load_dataset

rows = load_dataset("alice/digits", split="train")
private = load_dataset("alice/hidden", split="test", revision="v1")
print(json.dumps([list(rows["x"]), list(rows["label"]), list(private["x"])]))
"""


def test_datasets_loads_a_parquet_repository(tmp_path: Path) -> None:
    def parquet(values: list[int]) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"x": values, "label": [v % 2 for v in values]}), sink)
        return bytes(sink.getvalue())

    with Hub(tmp_path / "hub") as hub:
        hub.store.commit("datasets/alice/digits", {"data/train-00000-of-00001.parquet": parquet([1, 2, 3])})
        hub.store.create("datasets/alice/hidden", private=True)
        hub.store.commit("datasets/alice/hidden", {"test.parquet": parquet([4])})
        hub.store.tag("datasets/alice/hidden", "v1")
        hub.store.commit("datasets/alice/hidden", {"test.parquet": parquet([5])})
        out = run(hub, tmp_path / "home", DATASETS, "alice")
        assert out == [[1, 2, 3], [1, 0, 1], [4]]
        assert hub.store.at("datasets/alice/digits").files["data/train-00000-of-00001.parquet"].large


TIMM = """
import json, sys, tempfile
import timm, torch
from huggingface_hub import HfApi

torch.manual_seed(0)
model = timm.create_model("test_resnet", num_classes=3).eval()
with tempfile.TemporaryDirectory() as folder:
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    HfApi().create_repo("alice/net")
    HfApi().upload_folder(repo_id="alice/net", folder_path=folder)
again = timm.create_model("hf-hub:alice/net", pretrained=True).eval()
images = torch.rand(2, 3, 64, 64)
with torch.no_grad():
    print(json.dumps([torch.equal(model(images), again(images)), again.num_classes]))
"""


def test_timm_rebuilds_a_network_of_the_hub_bit_by_bit(tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        assert run(hub, tmp_path / "home", TIMM, "alice", OMP_NUM_THREADS="1") == [True, 3]
        assert hub.store.at(NET).files["model.safetensors"].large
        assert not hub.store.at(NET).files["config.json"].large


def test_the_hub_can_be_served_by_hand(tmp_path: Path) -> None:
    (tmp_path / "net/sub").mkdir(parents=True)
    (tmp_path / "net/sub/a.txt").write_text("a")
    # A shell starts what runs in its background with Ctrl-C ignored, and these tests may run there.
    program = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "runpy.run_module('tests.hub', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, "--folder", str(tmp_path / "hub")]
    command += ["--seed-repo", f"{NET}={tmp_path / 'net'}", "--seed-repo", "datasets/alice/empty"]
    root = Path(__file__).parents[2]
    served = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        told = [served.stdout.readline() for _ in range(4)]
        variables = dict(part.split("=", 1) for part in told[-1].split()[1:])
        assert told[-1].startswith("export HF_ENDPOINT=http://127.0.0.1:")
        assert variables["HF_HUB_DISABLE_XET"] == "1"
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(variables["HF_ENDPOINT"]).netloc, timeout=20)
        connection.request("GET", "/api/whoami-v2", headers={"Authorization": f"Bearer {variables['HF_TOKEN']}"})
        assert json.loads(connection.getresponse().read())["name"] == "alice"
        connection.request("GET", "/alice/net/resolve/main/sub/a.txt")
        assert connection.getresponse().read() == b"a"
        connection.close()
    finally:
        os.kill(served.pid, signal.SIGINT)
        assert served.wait(10) == 0
