"""Answers of the Hub: what does not fit its schema is one line, whatever it is, in a pull, a push and a search."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.cards import render_card
from lottery_hub.storage.folder import save_ticket
from tests import warm
from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

PULL, PUSH = "lottery_hub.sharing.pulling:pull", "lottery_hub.sharing.publishing:push_ticket"
SEARCH, DESCRIBED = "lottery_hub.sharing.searching:search_tickets", "GET /api/models/alice/net"
QUICK = {"deadline": 15.0, "tries": 3, "pause": 0.001}
SHA = "0123456789" * 4


@pytest.fixture(scope="module")
def folder(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ticket = ladder.ticket(3)
    return save_ticket(ticket, tmp_path_factory.mktemp("saved") / "ticket", render_card(ticket))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def worker(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(served.environment(tmp_path_factory.mktemp("home"), token=served.token("alice"))) as started:
        yield started


@pytest.fixture
def hub(served: Hub, folder: Path) -> Iterator[Hub]:
    """A Hub with alice/net, at a commit of its own."""
    key = "models/alice/net"
    if key in served.store.repos():
        served.store.delete(key)
    served.store.commit(key, {path.name: path.read_bytes() for path in folder.iterdir()})
    served.requests.clear()
    served.authorized.clear()
    yield served
    served.faults.clear()


def say(match: str, value: object, times: int = 9, **more: Any) -> Fault:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Fault(match, "say", status=200, body=body, times=times, **more)


HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"
FILE = {"rfilename": "config.json", "size": 2, "blobId": SHA}
WHOLE = {"id": "alice/net", "sha": SHA, "private": False, "siblings": [FILE]}
WRONG = [
    [], None, {}, 7, "text", True, b"", HTML, b"\xff\xfe\x00", b"{", b"[" * 100_000, b"9" * 10_000, b"NaN",
    {**WHOLE, "sha": None}, {**WHOLE, "sha": "main"}, {**WHOLE, "sha": "../../x"}, {**WHOLE, "sha": [SHA]},
    {**WHOLE, "private": "no"}, {**WHOLE, "siblings": None}, {**WHOLE, "siblings": {}}, {**WHOLE, "siblings": [[]]},
    {**WHOLE, "siblings": [{"rfilename": "config.json"}]}, {**WHOLE, "siblings": [{**FILE, "size": -1}]},
    {**WHOLE, "siblings": [{**FILE, "size": "2"}]}, {**WHOLE, "siblings": [{**FILE, "rfilename": 7}]},
    {**WHOLE, "siblings": [{**FILE, "lfs": []}]}, {**WHOLE, "siblings": [{**FILE, "lfs": {"sha256": 1}}]},
]  # fmt: skip
UNEXPECTED = "the Hub answered something else than what was asked for"


def shown(value: object) -> str:
    return repr(value)[:60]


@pytest.mark.parametrize("value", WRONG, ids=shown)
def test_no_description_of_a_repository_breaks_a_pull_or_a_push(
    hub: Hub, worker: Worker, folder: Path, value: object
) -> None:
    hub.faults.add(say(DESCRIBED, value))
    got = worker(PULL, "alice/net", patience=QUICK)
    assert (got["kind"], got["error"].startswith(f"alice/net: {UNEXPECTED}")) == ("DownloadError", True), got
    assert "\n" not in got["error"]
    assert hub.requests == {DESCRIBED: 1}
    got = worker(PUSH, str(folder), "alice/net", checks=False, patience=QUICK)
    assert (got["kind"], got["error"].startswith(f"alice/net: {UNEXPECTED}")) == ("PublishError", True), got


def test_a_page_in_place_of_an_answer_is_told_as_that(hub: Hub, worker: Worker) -> None:
    hub.faults.add(
        Fault(DESCRIBED, "say", status=302, headers={"Location": f"{hub.endpoint}/login"}), say("GET /login", HTML)
    )
    assert worker(PULL, "alice/net", patience=QUICK)["error"] == (
        f"alice/net: {UNEXPECTED} (no JSON: '<!DOCTYPE html><html><body>Please log in'); check the connection and "
        "HF_ENDPOINT: a proxy or a login page may answer in its place"
    )


@pytest.mark.parametrize(
    "value", [[], None, {}, 7, HTML, {"branches": []}, {"branches": [{}], "tags": []},
              {"branches": [], "tags": [{"name": "v1", "targetCommit": "x"}]}], ids=shown,
)  # fmt: skip
def test_no_list_of_references_breaks_a_push(hub: Hub, worker: Worker, folder: Path, value: object) -> None:
    hub.faults.add(say(r"GET .*/refs", value))
    got = worker(PUSH, str(folder), "alice/net", checks=False, tag="v1", revision="b", patience=QUICK)
    assert (got["kind"], got["error"].startswith(f"alice/net: {UNEXPECTED}")) == ("PublishError", True), got


SENT = [r"POST .*/validate-yaml", r"POST .*/preupload/", r"POST .*/objects/batch", r"POST .*/commit/", r"POST .*/tag/"]


@pytest.mark.parametrize("value", [[], None, {}, 7, HTML, {"files": [{}], "objects": [{}], "commitOid": 1}], ids=shown)
@pytest.mark.parametrize("match", SENT)
def test_no_answer_to_what_is_sent_breaks_a_push(
    hub: Hub, worker: Worker, folder: Path, match: str, value: object
) -> None:
    hub.faults.add(say(match, value))
    got = worker(PUSH, str(folder), "alice/net", checks=False, tag="v1", patience=QUICK)
    assert got.get("kind", "PublishError") == "PublishError", got
    assert "\n" not in got.get("error", "")


@pytest.mark.parametrize("value", [[], None, {"commitOid": None}, {"commitOid": "main", "commitUrl": "x"}], ids=shown)
def test_a_commit_whose_answer_does_not_name_it_is_found(hub: Hub, worker: Worker, folder: Path, value: object) -> None:
    before = len(hub.store.commits("models/alice/net"))
    hub.faults.add(Fault(r"POST .*/commit/", "amend", body=json.dumps(value).encode()))
    got = worker(PUSH, str(folder), "alice/net", checks=False, patience=QUICK)
    assert (got["commit"], got["changed"]) == (hub.store.head("models/alice/net"), True)
    assert len(hub.store.commits("models/alice/net")) == before + 1


MEASURED = """
import resource
from lottery_hub.fetching.answers import describe, models
from lottery_hub.fetching.connection import Conversation, Patience
from lottery_hub.errors import LotteryHubError
talk = Conversation(Patience(60.0, tries=1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for call in (lambda: describe(talk, "alice/net"), lambda: list(models(talk, []))):
    try:
        call()
    except LotteryHubError as problem:
        print(problem)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


CALLS: list[tuple[str, list[str], dict[str, Any]]] = [
    (PULL, ["alice/net"], {}),
    (SEARCH, [], {}),
    ("lottery_hub.fetching.downloads:fetch_file", ["alice/net", "config.json"], {}),
    ("lottery_hub.images.datasets:load_dataset", ["alice/pets"], {}),
    ("lottery_hub.sharing.sources:load_backbone", ["alice/net"], {}),
]


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="the package for SOCKS proxies is there")
def test_a_socks_proxy_without_its_package_is_one_line_everywhere(hub: Hub, folder: Path, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path, token=hub.token("alice"), ALL_PROXY="socks5://127.0.0.1:1")
    with Worker(environment) as proxied:
        told = [proxied(call, *words, **named) for call, words, named in CALLS]
        told.append(proxied(PUSH, str(folder), "alice/net", checks=False))
    for got in told:
        assert "a SOCKS proxy is set (ALL_PROXY or the like): run `pip install socksio`, or unset it" in got["error"]
        assert "\n" not in got["error"]


@pytest.mark.parametrize("proxy", ["nonsense://127.0.0.1:1", "http://127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_is_none_is_one_line(hub: Hub, tmp_path: Path, proxy: str) -> None:
    done = warm.run("-c", MEASURED, env=hub.environment(tmp_path, ALL_PROXY=proxy))
    described, listed, _ = done.stdout.splitlines()
    assert described.startswith("alice/net: ")
    assert listed.startswith("search: ")


def test_an_answer_without_end_takes_no_more_memory_than_the_bound(hub: Hub, tmp_path: Path) -> None:
    hub.poured = 0
    hub.faults.add(
        Fault(DESCRIBED, "endless", body=b" " * 2**16), Fault("GET /api/models$", "bomb", body=b"[", size=2**27)
    )
    environment = hub.environment(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", MEASURED], env=environment, capture_output=True, text=True, check=True)
    described, listed, kilobytes = done.stdout.splitlines()
    for line, subject in ((described, "alice/net"), (listed, "search")):
        assert line.startswith(f"{subject}: the server sends more than the 16,777,216 bytes that this may have; check")
    assert int(kilobytes) < 100_000
    assert hub.poured < 2**26


def test_a_file_that_is_longer_than_the_hub_lists_is_left_there(hub: Hub, worker: Worker, tmp_path: Path) -> None:
    hub.poured = 0
    hub.faults.add(Fault(r"GET /alice/net/resolve/.*/config\.json", "endless", body=b"{" * 2**16, times=9))
    got = worker(PULL, "alice/net", patience=QUICK)
    size = hub.store.files("models/alice/net")["config.json"]
    assert f"the server sends more than the {len(size):,} bytes that this may have" in got["error"]
    assert hub.poured < 2**26


def test_a_pull_that_is_given_up_takes_nothing_more(hub: Hub, worker: Worker) -> None:
    files = hub.store.files("models/alice/net")
    hub.poured = 0
    hub.faults.add(Fault(r"GET /alice/net/resolve/.*/ticket\.safetensors", "endless", body=b"a", times=9))
    worker(PULL, "alice/net", patience={"deadline": 1.5, "tries": 1, "pause": 0.0})
    time.sleep(0.5)
    before = hub.poured
    time.sleep(0.5)
    assert (hub.poured, hub.poured < len(files["ticket.safetensors"])) == (before, True)


def test_the_token_stays_with_the_hub(hub: Hub, worker: Worker, tmp_path: Path, folder: Path) -> None:
    with Hub(tmp_path) as other:
        moved = {"Location": f"{other.endpoint}/api/models/alice/net"}
        link = {"Link": f'<{other.endpoint}/api/models?cursor=1>; rel="next"'}
        hub.faults.add(
            Fault(DESCRIBED, "say", status=307, headers=moved),
            Fault("GET /api/models$", "amend", headers=link),
            Fault("GET /api/models$", "say", status=307, headers={"Location": f"{other.endpoint}/api/models"}),
        )
        worker(PULL, "alice/net", patience=QUICK)
        assert other.requests == {DESCRIBED: 1}
        worker(SEARCH, patience=QUICK)
        assert hub.authorized["GET /api/models"] == 2, "the next page was asked of the Hub itself"
        assert other.requests == {DESCRIBED: 1, "GET /api/models": 1}
        actions = {name: {"href": f"{other.endpoint}/{name}"} for name in ("upload", "verify")}
        content = (folder / "ticket.safetensors").read_bytes()
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "actions": actions}
        hub.faults.add(say("POST .*/objects/batch", {"transfer": "basic", "objects": [large]}, times=1))
        other.faults.add(say("PUT /upload", {}, times=1), say("POST /verify", {}, times=1))
        worker(PUSH, str(folder), "alice/other", timm=False, checks=False, patience=QUICK)
        assert (other.requests["PUT /upload"], other.requests["POST /verify"]) == (1, 1)
        assert other.authorized.total() == 0
        hub.store.delete("models/alice/other")
