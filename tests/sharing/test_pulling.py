"""Pulling: whatever a reference names becomes a folder of whole and checked files, or an error that says what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lottery_hub.errors import DownloadError, TicketError
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.sharing.pulling import is_remote, load_ladder, load_ticket, pull
from lottery_hub.storage.folder import save_ladder, save_ticket
from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

PULL, LOAD = "lottery_hub.sharing.pulling:pull", "lottery_hub.sharing.pulling:load_ticket"
QUICK = {"deadline": 20.0, "tries": 3, "pause": 0.01}
NAMES = {"config.json", "results.json", "ticket.safetensors"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def ticket(ladder: Ladder) -> Ticket:
    return ladder.ticket(3)


@pytest.fixture(scope="module")
def saved(ticket: Ticket, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a ticket folder."""
    return contents(save_ticket(ticket, tmp_path_factory.mktemp("saved") / "ticket", render_card(ticket)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(served: Hub, home: Path) -> Iterator[Worker]:
    with Worker(served.environment(home)) as worker:
        yield worker


@pytest.fixture(scope="module")
def offline(served: Hub, home: Path) -> Iterator[Worker]:
    with Worker(served.environment(home, HF_HUB_OFFLINE="1")) as worker:
        yield worker


@pytest.fixture
def hub(served: Hub, home: Path, saved: dict[str, bytes]) -> Iterator[Hub]:
    """A Hub with alice/net, which holds a ticket and a dense copy, and an empty cache."""
    shutil.rmtree(home, ignore_errors=True)
    key = "models/alice/net"
    if key in served.store.repos():
        served.store.delete(key)
    served.store.commit(key, saved | {"model.safetensors": b"a dense copy that nobody needs", "notes/a.txt": b"notes"})
    served.requests.clear()
    yield served
    served.faults.clear()


# What is on this machine


def test_a_folder_a_run_and_a_packaged_name_need_no_network(ticket: Ticket, tmp_path: Path) -> None:
    save_ticket(ticket, tmp_path / "run" / "ticket")
    for ref in (tmp_path / "run" / "ticket", tmp_path / "run", str(tmp_path / "run")):
        assert load_ticket(ref).fingerprint() == ticket.fingerprint()
    assert load_ticket("resnet18-slim-adv", 0.8).level == 7
    assert load_ladder("resnet18-slim-adv").levels == 14
    assert not is_remote(str(tmp_path / "run"))
    assert not is_remote("resnet18-slim-adv")


def test_what_is_on_the_disk_goes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_remote("alice/net")
    (tmp_path / "alice" / "net").mkdir(parents=True)
    assert not is_remote("alice/net")
    with pytest.raises(TicketError, match="no ticket at alice/net"):
        pull("alice/net")


@pytest.mark.parametrize("ref", ["resnet18-slim-adv", "memory://nowhere"])
def test_only_repositories_have_revisions(ref: str) -> None:
    with pytest.raises(TicketError, match="has no revisions"):
        pull(ref, revision="v1")


@pytest.mark.parametrize("ref", ["nowhere", "", "\x1b[31m", "a" * 5000, "a/b/c"])
def test_what_names_nothing_says_what_would(ref: str) -> None:
    words = r"give a folder with a config\.json, USER/NAME on the Hub, or one of .*resnet18-slim-adv"
    with pytest.raises(TicketError, match=words):
        pull(ref)


# Addresses


def test_a_file_address_is_read_in_place(ticket: Ticket, tmp_path: Path) -> None:
    save_ticket(ticket, tmp_path / "ticket")
    pulled = pull(f"file://{tmp_path}/ticket")
    assert pulled.folder == tmp_path / "ticket"
    assert load_ticket(f"file://{tmp_path}/ticket").fingerprint() == ticket.fingerprint()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bucket(saved: dict[str, bytes]) -> Iterator[Any]:
    """A folder of memory://, which is as far from the disk as s3:// is."""
    system = fsspec.filesystem("memory")
    for name, content in saved.items():
        system.pipe_file(f"/bucket/net/{name}", content)
    yield system
    system.rm("/bucket", recursive=True)


def test_an_address_of_a_bucket_is_copied_anew_each_time(bucket: Any, cache: Path, ticket: Ticket) -> None:
    assert load_ticket("memory://bucket/net/").fingerprint() == ticket.fingerprint()
    again = pull("memory://bucket/net/")
    assert {path.name for path in again.folder.iterdir()} == NAMES | {"README.md"}
    assert again.folder.is_relative_to(cache)
    bucket.pipe_file("/bucket/net/config.json", b"{}")
    with pytest.raises(TicketError, match="no lottery_hub object"):
        pull("memory://bucket/net/")
    assert json.loads((again.folder / "config.json").read_bytes())["lottery_hub"], "the older copy is still whole"


def test_a_file_of_a_bucket_that_differs_from_its_hash_is_refused(bucket: Any, cache: Path) -> None:
    damaged = bytearray(bucket.cat_file("/bucket/net/ticket.safetensors"))
    damaged[-1] ^= 1
    bucket.pipe_file("/bucket/net/ticket.safetensors", bytes(damaged))
    with pytest.raises(TicketError, match=r"ticket\.safetensors is not the file that config\.json describes"):
        load_ticket("memory://bucket/net")


class Flaky(MemoryFileSystem):
    """A bucket whose first answer for every file has one bit flipped."""

    protocol = "flaky"
    asked: ClassVar[set[str]] = set()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky:", "memory:")))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        content = bytearray(super().cat_file(path, start, end, **kwargs))
        if path.endswith("ticket.safetensors") and path not in self.asked:
            content[-1] ^= 1
        self.asked.add(path)
        return bytes(content)


def test_a_file_of_a_bucket_that_arrives_damaged_is_read_again(bucket: Any, cache: Path, ticket: Ticket) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    assert load_ticket("flaky://bucket/net").fingerprint() == ticket.fingerprint()
    assert Flaky.asked


def test_a_file_of_a_bucket_is_refused_by_its_size_before_it_is_read(bucket: Any, cache: Path) -> None:
    bucket.pipe_file("/bucket/net/config.json", b" " * (2**20 + 1))
    with pytest.raises(TicketError, match=r"config\.json has 1,048,577 bytes, more than it may have"):
        pull("memory://bucket/net")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("memory://elsewhere", "elsewhere: config.json is not there; an address leads to a folder with a config.json"),
        ("nosuch://bucket/net", "nosuch://bucket/net cannot be read: Protocol not known: nosuch"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(address: str, complaint: str, cache: Path) -> None:
    with pytest.raises((TicketError, DownloadError), match=re.escape(complaint)):
        pull(address)


def test_a_ticket_of_a_web_server_is_copied_and_a_file_that_is_not_there_is_told_from_one_that_fails(
    hub: Hub, cache: Path, ticket: Ticket
) -> None:
    address = f"{hub.endpoint}/alice/net/resolve/main"
    assert load_ticket(address).fingerprint() == ticket.fingerprint()
    assert {path.name for path in pull(address).folder.iterdir()} == NAMES | {"README.md"}
    with pytest.raises(TicketError, match=r"net/resolve: config\.json is not there; an address leads to a folder with"):
        pull(f"{hub.endpoint}/alice/net/resolve")
    hub.faults.add(Fault("GET .*/results.json", "status", status=403))
    with pytest.raises(DownloadError, match=r"the server forbids results\.json"):
        pull(address)


def test_a_login_in_an_address_is_not_repeated(cache: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        pull("nosuch://me:secret@bucket/net")
    assert "secret" not in str(caught.value)


# Copies


def test_a_copy_holds_the_tickets_files_and_replaces_only_an_older_copy(ticket: Ticket, tmp_path: Path) -> None:
    source = save_ticket(ticket, tmp_path / "source", render_card(ticket))
    (source / "diary.txt").write_text("private")
    copied = pull(source, local_dir=tmp_path / "copy").folder
    assert copied == tmp_path / "copy"
    assert {path.name for path in copied.iterdir()} == NAMES | {"README.md"}
    newer = save_ticket(replace(ticket, records={"SA": 1}), tmp_path / "newer")
    pull(newer, local_dir=copied)
    assert not (copied / "README.md").exists()
    (copied / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for other, holds in (
        (copied, r"copy holds diary\.txt, which would be lost"),
        (tmp_path / "file", "file is a file"),
    ):
        with pytest.raises(TicketError, match=holds):
            pull(source, local_dir=other)
    assert (copied / "diary.txt").read_text() == "mine"
    pull(newer, local_dir=copied)  # the very files are there: nothing is written, and nothing is in the way
    pull(source, local_dir=copied, overwrite=True)
    assert (tmp_path / "copy.old" / "diary.txt").read_text() == "mine"
    assert contents(copied) == {name: data for name, data in contents(source).items() if name != "diary.txt"}


def test_a_folder_with_somebodys_readme_alone_is_no_older_copy(ticket: Ticket, tmp_path: Path) -> None:
    source = save_ticket(ticket, tmp_path / "source")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("# My project\n")
    with pytest.raises(
        TicketError, match=r"project holds README\.md, which would be lost; give another name, or --over"
    ):
        pull(source, local_dir=tmp_path / "project")
    assert contents(tmp_path / "project") == {"README.md": b"# My project\n"}


def test_networks_that_were_trained_here_are_no_older_copy(ticket: Ticket, tmp_path: Path) -> None:
    source = save_ticket(ticket, tmp_path / "source")
    trained = save_ticket(replace(ticket, records={"transfer": {}}), tmp_path / "trained")
    found = save_ticket(ticket, tmp_path / "found", trained={"dense-standard-seed-0": trained})
    for place, holds in ((trained, r"ticket\.safetensors"), (found, "trained/dense-standard-seed-0")):
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        with pytest.raises(TicketError, match=f"holds {holds}, which would be lost"):
            pull(save_ticket(replace(ticket, records={"SA": 1}), tmp_path / "other"), local_dir=place)
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    # A copy of a folder to itself, or to where it is, changes nothing either.
    for place in (found, source):
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        assert pull(place, local_dir=place).folder == place
        assert pull(source, local_dir=place).folder == place
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_a_place_for_a_copy_is_looked_at_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TicketError, match="file is a file, and a folder goes there"):
        pull("alice/net", local_dir=tmp_path / "file")  # the client is offline in this process


def test_a_copy_that_would_be_damaged_leaves_the_older_one(ticket: Ticket, tmp_path: Path) -> None:
    source = save_ticket(ticket, tmp_path / "source")
    copy = pull(source, local_dir=tmp_path / "copy").folder
    before = contents(copy)
    (source / "results.json").write_text("{} ")
    with pytest.raises(TicketError, match=r"results\.json is not the file"):
        pull(source, local_dir=copy)
    assert contents(copy) == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "copy"}


@pytest.mark.parametrize("name", ["README.md", "results.json", "ticket.safetensors"])
def test_a_copy_holds_nothing_that_a_link_leads_to(ticket: Ticket, tmp_path: Path, name: str) -> None:
    source = save_ticket(ticket, tmp_path / "source", render_card(ticket))
    (tmp_path / "thesis").write_bytes((source / name).read_bytes())
    (source / name).unlink()
    (source / name).symlink_to(tmp_path / "thesis")
    with pytest.raises(TicketError, match=rf"{re.escape(name)} leads out of its folder"):
        pull(source, local_dir=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_trained_networks_are_copied_file_by_file_and_checked(ticket: Ticket, tmp_path: Path) -> None:
    source = save_ticket(ticket, tmp_path / "source")
    network = save_ticket(ticket, source / "trained" / "dense-standard-seed-0")
    (network / "diary.txt").symlink_to(tmp_path / "thesis")
    copied = pull(source, local_dir=tmp_path / "copy", models=True).folder
    assert {path.name for path in (copied / "trained" / "dense-standard-seed-0").iterdir()} == NAMES
    (network / "results.json").write_text("{} ")
    with pytest.raises(TicketError, match=r"results\.json is not the file"):
        pull(source, local_dir=tmp_path / "other", models=True)
    shutil.move(source / "trained", tmp_path / "elsewhere")
    (source / "trained").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TicketError, match="leads out of"):
        pull(source, local_dir=tmp_path / "other", models=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("ref", ["alice/net@../../thesis", "alice/net@", "alice/net@a b", "alice/net@" + "x" * 300])
def test_a_revision_that_is_a_path_is_one_line(ref: str) -> None:
    assert is_remote(ref)
    with pytest.raises(DownloadError, match="is not a branch, tag or commit"):
        pull(ref)


# The Hub, over HTTP


def test_a_ticket_of_the_hub_loads_with_its_commit_and_without_its_dense_copy(
    hub: Hub, online: Worker, ticket: Ticket
) -> None:
    got = online(LOAD, "alice/net")
    head = hub.store.head("models/alice/net")
    assert got["fingerprint"] == ticket.fingerprint()
    assert got["provenance"]["pulled"] == {"repo": "alice/net", "commit": head}
    fetched = {request.rpartition("/")[2] for request in hub.requests if request.startswith("GET /alice")}
    assert fetched == NAMES
    assert all(f"/resolve/{head}/" in request for request in hub.requests if "/resolve/" in request)


def test_a_cached_ticket_loads_offline_without_a_call_and_an_uncached_one_says_what_to_do(
    hub: Hub, online: Worker, offline: Worker
) -> None:
    said = "is not in the local cache and HF_HUB_OFFLINE is set; unset it and run once online"
    assert said in offline(LOAD, "alice/net")["error"]
    pulled = online(PULL, "alice/net")
    hub.requests.clear()
    assert offline(PULL, "alice/net") == pulled
    assert offline(LOAD, "alice/net")["provenance"]["pulled"]["commit"] == pulled["commit"]
    assert said in offline(LOAD, "alice/net", revision="other")["error"]
    assert not hub.requests


def test_a_pinned_commit_that_is_cached_needs_no_call(hub: Hub, online: Worker) -> None:
    head = hub.store.head("models/alice/net")
    pulled = online(PULL, f"alice/net@{head}")
    hub.requests.clear()
    assert online(PULL, "alice/net", revision=head) == pulled
    assert not hub.requests


def test_a_branch_or_a_tag_is_resolved_once(hub: Hub, online: Worker, saved: dict[str, bytes]) -> None:
    key = "models/alice/net"
    old = hub.store.head(key)
    hub.faults.add(Fault(rf"{BODY}/.*/results\.json", "move_branch", files={"config.json": b"{}"}))
    pulled = online(PULL, "alice/net", patience=QUICK)
    assert pulled["commit"] == old != hub.store.head(key)
    assert contents(Path(pulled["folder"]))["config.json"] == saved["config.json"]
    assert "no lottery_hub object" in online(PULL, "alice/net", patience=QUICK)["error"]


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("kind", ["flip", "wrong_etag", "cut"])
def test_a_file_that_arrives_damaged_is_fetched_again(
    hub: Hub, online: Worker, ticket: Ticket, kind: str, name: str
) -> None:
    hub.faults.add(Fault(match=rf"GET /alice/net/resolve/.*/{re.escape(name)}", kind=kind, times=1))
    assert online(LOAD, "alice/net").get("fingerprint") == ticket.fingerprint()


def test_a_file_that_arrives_damaged_twice_is_an_error_and_leaves_nothing_in_the_cache(
    hub: Hub, online: Worker, ticket: Ticket
) -> None:
    hub.faults.add(Fault(match=r"GET .*/ticket\.safetensors", kind="flip", times=2))
    got = online(LOAD, "alice/net")
    assert got["kind"] == "DownloadError"
    assert "alice/net: ticket.safetensors at" in got["error"]
    assert "also when fetched again" in got["error"]
    assert online(LOAD, "alice/net")["fingerprint"] == ticket.fingerprint()


def test_a_file_damaged_in_the_cache_is_fetched_again_and_offline_removed(
    hub: Hub, online: Worker, offline: Worker, saved: dict[str, bytes]
) -> None:
    weights = Path(online(PULL, "alice/net")["folder"]) / "ticket.safetensors"
    weights.resolve().write_bytes(b"damaged")
    assert "is damaged in the local cache and was removed" in offline(LOAD, "alice/net")["error"]
    assert "is not in the local cache" in offline(LOAD, "alice/net")["error"]
    online(LOAD, "alice/net")
    assert weights.read_bytes() == saved["ticket.safetensors"]


LOOK_UP, BODY = "GET /api/models/alice/net", "GET /alice/net/resolve"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(LOOK_UP, "status", status=401, times=9), "does not accept the token; log in anew"),
        (Fault(LOOK_UP, "status", status=403, times=9), "forbids this"),
        (Fault(LOOK_UP, "status", status=429, times=9, retry_after=3600), "past the deadline"),
        (Fault(LOOK_UP, "status", status=503, times=9), "answered 503; try again later"),
        (Fault(LOOK_UP, "drop", times=9), "cannot be reached"),
        (Fault(BODY, "trickle", times=9, seconds=60), "not done after 3 s"),
    ],
    ids=["401", "403", "429", "503", "no answer", "trickle"],
)
def test_a_hub_that_goes_on_failing_is_one_line_within_the_deadline(
    hub: Hub, online: Worker, fault: Fault, complaint: str
) -> None:
    hub.faults.add(fault)
    got = online(PULL, "alice/net", patience={"deadline": 3.0, "tries": 3, "pause": 0.01})
    assert got["kind"] == "DownloadError"
    assert got["error"].startswith("alice/net")
    assert complaint in got["error"]


def test_a_hub_that_recovers_is_waited_for(hub: Hub, online: Worker, ticket: Ticket) -> None:
    for status in (429, 500, 503):
        hub.faults.add(Fault(match="GET /api/models/alice/net", kind="status", status=status, times=1))
    got = online(PULL, "alice/net", patience={"deadline": 20.0, "tries": 5, "pause": 0.01})
    assert got["repo_id"] == "alice/net"


def test_what_is_not_there_is_named_with_the_next_step(hub: Hub, online: Worker) -> None:
    hub.store.commit("models/alice/empty", {"notes.txt": b"no ticket"})
    hub.store.create("models/bob/secret", private=True)
    for ref, complaint in {
        "alice/gone": "alice/gone is not on the Hub, or is private: check the id, or log in with `hf auth login`; "
        "there is no folder of that name here either",
        "bob/secret": "bob/secret is not on the Hub, or is private",
        "alice/net@v9": "alice/net has no revision v9: check the branch, tag or commit",
        "alice/empty": "alice/empty at main has no file config.json",
    }.items():
        assert complaint in online(PULL, ref)["error"]
    assert "names a revision already" in online(PULL, "alice/net@v1", revision="v2")["error"]


def test_a_file_larger_than_it_may_be_is_not_fetched(hub: Hub, online: Worker) -> None:
    hub.store.commit("models/alice/net", {"results.json": b" " * (8 * 2**20 + 1)})
    assert "results.json has 8,388,609 bytes, more than it may have" in online(PULL, "alice/net")["error"]
    assert not any("GET" in request and "results.json" in request for request in hub.requests)


def test_a_ladder_of_the_hub_gives_any_of_its_levels(hub: Hub, online: Worker, ladder: Ladder, tmp_path: Path) -> None:
    hub.store.commit("models/alice/ladder", contents(save_ladder(ladder, tmp_path / "ladder")))
    got = online(LOAD, "alice/ladder", sparsity=0.5)
    assert got["fingerprint"] == ladder.ticket(3).fingerprint()
    assert online("lottery_hub.sharing.pulling:load_ladder", "alice/ladder")["levels"] == 6
    backbone = online("lottery_hub.sharing.sources:load_backbone", "alice/ladder")
    assert backbone["provenance"]["pulled"]["repo"] == "alice/ladder"


def test_a_copy_of_a_repository_has_its_card(hub: Hub, online: Worker, saved: dict[str, bytes], tmp_path: Path) -> None:
    online(PULL, "alice/net", local_dir=str(tmp_path / "copy"))
    assert contents(tmp_path / "copy") == saved
