"""The client's cache: whatever a Hub names, no file outside of it is written, removed or taken for one of the Hub's."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

KEY = "models/org/net"
LARGE, SMALL = "w.safetensors", "sub/notes.txt"
FILES = {LARGE: b"the weights of a small network" * 50, SMALL: b"notes"}
FETCH, SNAPSHOT = "lottery_hub.fetching.downloads:fetch_file", "lottery_hub.fetching.downloads:fetch_snapshot"
ALL: dict[str, Any] = {"repo_type": "model", "revision": None, "patterns": ["*"]}
LIST, HEADS = "GET /api/models/org/net", "HEAD /org/net/resolve"


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder and what is there: the hash of a file, the target of a link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = "folder" if path.is_dir() else ""
        if path.is_symlink():
            what = f"-> {path.readlink()}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = what
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the client's home, with its cache, and beside it the folder of a victim."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.store.commit(KEY, FILES)
        yield hub


@pytest.fixture(scope="module")
def online(served: Hub, place: Path) -> Iterator[Worker]:
    with Worker(served.environment(place / "home")) as worker:
        yield worker


@pytest.fixture(scope="module")
def offline(served: Hub, place: Path) -> Iterator[Worker]:
    with Worker(served.environment(place / "home", HF_HUB_OFFLINE="1")) as worker:
        yield worker


@pytest.fixture
def victim(place: Path) -> Iterator[Path]:
    """A folder that is as it was when the test ends, and so is everything else beside the client's home."""
    folder = place / "victim"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "keys").mkdir(parents=True)
    (folder / "thesis").write_text("years of work")
    (folder / "keys" / "id").write_text("secret")
    yield folder
    assert tree(folder) == {
        "keys": "folder",
        "keys/id": hashlib.sha256(b"secret").hexdigest(),
        "thesis": hashlib.sha256(b"years of work").hexdigest(),
    }
    assert {path.name for path in place.iterdir()} <= {"home", "victim"}


@pytest.fixture
def hub(served: Hub, place: Path, victim: Path) -> Iterator[Hub]:
    """A Hub that says what it should, and an empty cache."""
    shutil.rmtree(place / "home", ignore_errors=True)
    served.requests.clear()
    yield served
    served.faults.clear()


@pytest.fixture
def cache(place: Path) -> Path:
    return place / "home" / "hub" / "models--org--net"


def refused(answer: dict[str, Any]) -> str:
    assert answer.get("kind") == "DownloadError", answer
    assert answer["error"].isprintable()
    return str(answer["error"])


TARGETS = ["{victim}/thesis", "{victim}/new", "../../../../victim/thesis", "../../../../victim/new", "/", "a name", "."]


@pytest.mark.parametrize("name", [LARGE, SMALL])
@pytest.mark.parametrize("told", TARGETS)
def test_contents_named_by_a_path_are_refused_before_anything_is_done(
    hub: Hub, online: Worker, victim: Path, cache: Path, told: str, name: str
) -> None:
    hub.faults.add(Fault(HEADS, "etag", times=99, name=told.format(victim=victim)))
    assert "which is no digest" in refused(online(FETCH, "org/net", name))
    assert "which is no digest" in refused(online(SNAPSHOT, "org/net", **ALL))
    assert not any(request.startswith("GET /org/net/resolve") for request in hub.requests)
    assert not cache.exists()
    hub.faults.clear()
    assert Path(online(FETCH, "org/net", name)[0]).read_bytes() == FILES[name]


@pytest.mark.parametrize("told", [*TARGETS, "f" * 40])
def test_an_answer_for_another_commit_is_refused(
    hub: Hub, online: Worker, victim: Path, cache: Path, told: str
) -> None:
    hub.faults.add(Fault(HEADS, "commit", times=99, name=told.format(victim=victim)))
    assert f"asked for {SMALL} at" in refused(online(FETCH, "org/net", SMALL))
    assert not cache.exists()


def test_a_file_that_is_listed_and_missing_leaves_no_note_where_the_answer_says(
    hub: Hub, online: Worker, victim: Path, cache: Path
) -> None:
    hub.faults.add(Fault(LIST, "sibling", name="gone"), Fault(HEADS, "commit", name=f"{victim}/new"))
    assert "asked for gone at" in refused(online(FETCH, "org/net", "gone"))
    assert not cache.exists()


@pytest.mark.parametrize("told", ["{victim}/thesis", "../../../../victim/new", "main", "", "f" * 39])
def test_a_repository_at_what_is_no_commit_is_refused(hub: Hub, online: Worker, victim: Path, told: str) -> None:
    hub.faults.add(Fault(LIST, "sha", times=9, name=told.format(victim=victim)))
    assert "the Hub named no commit for main" in refused(online(FETCH, "org/net", SMALL))


@pytest.mark.parametrize("told", ["{victim}/new", "../../../../../victim/thesis", "sub/../../../x", "a\x00b", "\ud800"])
def test_a_listed_file_whose_name_is_a_path_is_left_out(hub: Hub, online: Worker, victim: Path, told: str) -> None:
    hub.faults.add(Fault(LIST, "sibling", name=told.format(victim=victim)))
    folder = Path(online(SNAPSHOT, "org/net", **ALL)[0])
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} >= set(FILES)
    hub.faults.add(Fault(f"{LIST}/tree", "sibling", name=told.format(victim=victim)))
    assert Path(online(SNAPSHOT, "org/net", **ALL)[0]) == folder


REVISIONS = ["{victim}/thesis", "../../../../victim/thesis", "../" * 9, "a\x00b", "x" * 300, "\x1b[31m", "a b", ""]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_that_is_a_path_is_refused_online_and_offline(
    hub: Hub, online: Worker, offline: Worker, victim: Path, revision: str
) -> None:
    for worker in (online, offline):
        told = refused(worker(FETCH, "org/net", SMALL, revision=revision.format(victim=victim)))
        assert told.endswith("is not a branch, tag or commit")
    assert not hub.requests


@pytest.mark.parametrize("repo", ["../victim", "{victim}", "org/..", "org/net/../../victim", "org/" + "x" * 97, "org"])
def test_a_repository_that_is_a_path_is_refused(hub: Hub, online: Worker, victim: Path, repo: str) -> None:
    told = refused(online(FETCH, repo.format(victim=victim), SMALL))
    assert told.endswith("is not a valid repository id: it looks like USER/NAME")
    assert not hub.requests


def test_a_reference_that_is_a_link_is_not_written_through(
    hub: Hub, online: Worker, offline: Worker, victim: Path, cache: Path
) -> None:
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").symlink_to(victim / "thesis")
    path, sha = online(FETCH, "org/net", SMALL)
    assert Path(path).read_bytes() == FILES[SMALL]
    assert "revision main is not in the local cache" in refused(offline(FETCH, "org/net", SMALL))
    shutil.rmtree(cache / "refs")
    (cache / "refs").symlink_to(victim / "keys")
    assert online(FETCH, "org/net", SMALL) == [path, sha]


def test_a_reference_that_stands_in_the_way_of_another_is_no_failure(hub: Hub, online: Worker, cache: Path) -> None:
    (cache / "refs" / "main" / "older").mkdir(parents=True)
    assert Path(online(FETCH, "org/net", SMALL)[0]).read_bytes() == FILES[SMALL]


def test_a_file_of_a_snapshot_that_leads_out_of_the_cache_is_fetched_anew(
    hub: Hub, online: Worker, offline: Worker, victim: Path
) -> None:
    path = Path(online(FETCH, "org/net", SMALL)[0])
    for target in (victim / "thesis", victim / "new"):
        path.unlink()
        path.symlink_to(target)
        assert online(FETCH, "org/net", SMALL)[0] == str(path)
        assert path.read_bytes() == FILES[SMALL]
    path.unlink()
    path.symlink_to(victim / "thesis")
    assert "is not in the local cache" in refused(offline(FETCH, "org/net", SMALL))


@pytest.mark.parametrize("name", [LARGE, SMALL])
def test_contents_that_lead_out_of_the_cache_are_fetched_anew_and_stay_where_they_are(
    hub: Hub, online: Worker, victim: Path, name: str
) -> None:
    path = Path(online(FETCH, "org/net", name)[0])
    blob = path.resolve()
    blob.unlink()
    blob.symlink_to(victim / "thesis")
    assert online(FETCH, "org/net", name)[0] == str(path)
    assert path.read_bytes() == FILES[name]
    assert not blob.is_symlink()


def test_damaged_contents_that_repositories_share_are_fetched_anew_and_left_to_their_store(
    hub: Hub, online: Worker, cache: Path
) -> None:
    path = Path(online(FETCH, "org/net", LARGE)[0])
    blob = path.resolve()
    shared = cache.parent / "blobs" / "ab" / "contents"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"damaged")
    blob.unlink()
    blob.symlink_to(shared)
    online(FETCH, "org/net", LARGE)
    assert path.read_bytes() == FILES[LARGE]
    assert shared.read_bytes() == b"damaged"


# The client remembers lists of files as long as it runs: each of these has a repository of its own.


def test_a_list_that_the_client_has_kept_is_checked_as_an_answer_is(
    hub: Hub, online: Worker, victim: Path, cache: Path
) -> None:
    sha = hub.store.commit("models/org/kept", FILES)
    entry = {"size": 1, "blob_id": "b", "lfs_sha256": f"{victim}/new", "lfs_size": 1, "xet_hash": "a" * 64}
    kept = cache.with_name("models--org--kept") / "trees" / f"{sha}.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"format_version": 1, "files": {LARGE: entry}}))
    assert "which is no digest" in refused(online(FETCH, "org/kept", LARGE))


def test_a_snapshot_that_was_interrupted_is_not_taken_for_a_whole_one(
    hub: Hub, online: Worker, offline: Worker
) -> None:
    wanted = ALL | {"revision": hub.store.commit("models/org/broken", FILES)}
    hub.faults.add(Fault(rf"HEAD .*/{LARGE}", "status", status=404, code="EntryNotFound", times=9))
    assert f"has no file {LARGE}" in refused(online(SNAPSHOT, "org/broken", **wanted))
    assert "is not in the local cache" in refused(offline(SNAPSHOT, "org/broken", **wanted))
    hub.faults.clear()
    whole = online(SNAPSHOT, "org/broken", **wanted)
    assert offline(SNAPSHOT, "org/broken", **wanted) == whole


def as_the_client_does(name: str) -> dict[str, str]:
    """Fetch a file as any other program would, in the process whose client knows the loopback Hub."""
    from huggingface_hub import close_session, hf_hub_download

    close_session()
    return {"path": hf_hub_download("org/net", name)}


def test_what_else_a_program_asks_of_the_client_is_as_it_was(hub: Hub, online: Worker, place: Path) -> None:
    online(FETCH, "org/net", SMALL)
    hub.faults.add(Fault(HEADS, "etag", name="2026-11-26"))
    got = online("tests.fetching.test_hub_cache:as_the_client_does", LARGE)
    assert Path(got["path"]).read_bytes() == FILES[LARGE]
    hub.faults.add(Fault(HEADS, "etag", name="2026-11-26"))
    shutil.rmtree(place / "home")
    assert "which is no digest" in refused(online(FETCH, "org/net", LARGE)), "the check is there after a new session"
