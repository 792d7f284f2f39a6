"""Search: tags are asked of the Hub, figures are read from cards, and a stranger's card breaks nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lottery_hub.errors import ConfigError
from lottery_hub.sharing.searching import Found, SearchResult, search_tickets
from tests import warm
from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

SEARCH = "lottery_hub.sharing.searching:search_tickets"


def card(
    *, arch: str = "resnet18-slim", pretrain: str = "adv", dataset: str = "uoft-cs/cifar10", sparsity: float = 0.8926,
    robust: float = 0.325, double_win: bool | None = True, answer: str | None = None, **more: Any,
) -> bytes:  # fmt: skip
    """A card as `render_card` writes it, as far as search reads it."""
    settings = {"transfer": "adversarial", "samples": 1000, "attack": "PGD-20 Linf eps 8/255"}
    metrics = [
        {"type": "accuracy", "name": "SA after standard transfer", "value": 0.674, "args": {"samples": 1000}},
        {"type": "accuracy", "name": "RA after adversarial transfer", "value": robust, "args": settings},
    ]
    data = {"name": dataset.rpartition("/")[2], "type": dataset}
    task = {"type": "image-classification"}
    metadata: dict[str, Any] = {
        "library_name": "lottery-hub",
        "tags": [
            *(["double-win-lottery-ticket"] if double_win else []),
            "lottery-ticket",
            f"arch:{arch}",
            f"pretrain:{pretrain}",
        ],
        "lottery_hub": {
            "arch": arch,
            "pretrain": pretrain,
            "sparsity": sparsity,
            "double_win": double_win,
            **({"answer": answer} if answer else {}),
        },
        "datasets": [dataset] if "/" in dataset else [],
        "model-index": [{"name": "net", "results": [{"task": task, "dataset": data, "metrics": metrics}]}],
    }
    return f"---\n{yaml.safe_dump(metadata | more)}---\n# A card\n".encode()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub"), page_size=2) as served:
        cards = {
            "models/alice/dense": card(sparsity=0.2),
            "models/alice/sparse": card(sparsity=0.9313, robust=0.30),
            "models/alice/std": card(pretrain="std", sparsity=0.7903, robust=0.274),
            "models/bob/wide": card(arch="resnet50", sparsity=0.8322),
            "models/bob/pets": card(dataset="bob/pets", sparsity=0.5),
            "models/bob/digits": card(dataset="digits", sparsity=0.488),
            "models/bob/loser": card(double_win=False, sparsity=0.9560),
            "models/bob/open": card(double_win=False, answer="undecided", sparsity=0.1),
            "models/bob/unjudged": card(double_win=None, **{"model-index": None}),
            "models/carol/other": b"---\nlibrary_name: timm\ntags: [lottery-ticket]\n---\n",
            "models/carol/bare": b"---\nlibrary_name: lottery-hub\ntags: [lottery-ticket]\n---\n",
        }
        for key, text in cards.items():
            served.store.commit(key, {"README.md": text})
        yield served


@pytest.fixture(scope="module")
def worker(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(hub.environment(tmp_path_factory.mktemp("home"))) as started:
        yield started


def names(found: list[dict[str, Any]]) -> list[str]:
    return [ticket["repo_id"] for ticket in found]


def test_all_tickets_are_found_on_all_pages_sparsest_first(hub: Hub, worker: Worker) -> None:
    hub.requests.clear()
    found = worker(SEARCH)
    assert names(found) == [
        "bob/loser", "alice/sparse", "bob/unjudged", "bob/wide", "alice/std", "bob/pets", "bob/digits", "alice/dense",
        "bob/open", "carol/bare",
    ]  # fmt: skip
    assert hub.requests["GET /api/models"] == 5


def test_a_found_ticket_has_the_figures_of_its_card(hub: Hub, worker: Worker) -> None:
    (sparse,) = [ticket for ticket in worker(SEARCH) if ticket["repo_id"] == "alice/sparse"]
    assert sparse | {"downloads": None} == {
        "repo_id": "alice/sparse",
        "commit": hub.store.head("models/alice/sparse"),
        "arch": "resnet18-slim",
        "pretrain": "adv",
        "dataset": "cifar10",
        "sparsity": 0.9313,
        "double_win": True,
        "answer": "double win",
        "figures": {"SA after standard transfer": 0.674, "RA after adversarial transfer": 0.3},
        "attack": "PGD-20 Linf eps 8/255",
        "samples": 1000,
        "downloads": None,
    }


def test_what_is_undecided_is_not_found_to_be_no_double_win(worker: Worker) -> None:
    answers = {ticket["repo_id"]: ticket["answer"] for ticket in worker(SEARCH)}
    assert answers["bob/open"] == "undecided"
    assert answers["bob/loser"] == "no double win", "an older card, which knows two answers"
    assert answers["bob/unjudged"] == answers["carol/bare"] == "not judged"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"pretrain": "std"}, ["alice/std"]),
        ({"arch": "resnet50"}, ["bob/wide"]),
        ({"dataset": "cifar10", "double_win": True}, ["alice/sparse", "bob/wide", "alice/std", "alice/dense"]),
        ({"dataset": "uoft-cs/cifar10", "arch": "resnet18-slim", "pretrain": "adv", "double_win": True},
         ["alice/sparse", "alice/dense"]),
        ({"dataset": "bob/pets"}, ["bob/pets"]),
        ({"dataset": "digits"}, ["bob/digits"]),
        ({"min_sparsity": 0.9313}, ["bob/loser", "alice/sparse"]),
        ({"min_ra": 0.325, "min_sparsity": 0.5}, ["bob/loser", "bob/wide", "bob/pets"]),
        ({"limit": 2}, ["bob/loser", "alice/sparse"]),
        ({"dataset": "svhn"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_asked_for_is_found(worker: Worker, asked: dict[str, Any], expected: list[str]) -> None:
    assert names(worker(SEARCH, **asked)) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        {"lottery_hub": "not an object"},
        {"lottery_hub": {"sparsity": "0.9", "double_win": "yes", "arch": ["a"], "pretrain": {}}},
        {"lottery_hub": {"sparsity": 1e300}, "model-index": [{"name": "x", "results": []}]},
        {"lottery_hub": {"sparsity": float("nan")}},
        {"model-index": "nonsense"},
        {"model-index": [{"name": "x", "results": [{"task": 1, "dataset": 2, "metrics": 3}]}]},
        {"lottery_hub": {"arch": "\x1b[31mred"}},
        {"ignore_metadata_errors": True, "self": 1, "eval_results": 2, "model_name": []},
        {"model-index": [{"name": "x", "results": [{"metrics": [{"name": ["RA"], "value": 1}, {"name": {}}, 7]}]}]},
        {"model-index": [[]], "datasets": 7},
    ],
    ids=str,
)
def test_a_strangers_card_hides_only_itself(hub: Hub, worker: Worker, metadata: dict[str, Any]) -> None:
    hub.store.commit("models/dave/odd", {"README.md": card(**metadata)})
    found = worker(SEARCH)
    assert isinstance(found, list), found
    assert "alice/sparse" in names(found)
    (odd,) = [ticket for ticket in found if ticket["repo_id"] == "dave/odd"]
    assert "\x1b" not in str(odd["arch"])
    assert "dave/odd" not in names(worker(SEARCH, min_sparsity=0.95))
    hub.store.delete("models/dave/odd")


ROW = {"id": "erin/fine", "sha": "0123456789" * 4, "cardData": {"lottery_hub": {"sparsity": 0.5}}}
BAD_ROWS: list[object] = [None, [], 7, "erin/net", {}, {"id": None}, {"id": ["erin/net"]}, {"id": "../../etc"}]
BAD_ROWS += [{"id": "\x1b[31mred/net"}, {"id": "erin/" + "x" * 1000}, {"sha": "0" * 40}]
ODD_ROWS: list[object] = [{"id": "erin/a", "cardData": 7, "model-index": "x", "sha": "../../x", "downloads": "many"}]
ODD_ROWS += [{"id": "erin/b", "cardData": {"lottery_hub": {"sparsity": 10**400, "double_win": 1}}, "downloads": -1}]
ODD_ROWS += [{"id": "erin/c", "cardData": {"model-index": [{"results": [{"metrics": [{"name": ["a"]}]}]}]}}]


def answer(hub: Hub, value: object, **more: Any) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    hub.faults.add(Fault("GET /api/models", "say", status=200, body=body, **more))


def test_a_row_that_names_no_repository_is_skipped_and_counted(hub: Hub, tmp_path: Path) -> None:
    for _ in range(3):
        answer(hub, [*BAD_ROWS, ROW, *ODD_ROWS])
    environment = hub.environment(tmp_path / "home", COLUMNS="120")
    told, shown, none = (
        warm.run(*warm.CLI, "search", *more, env=environment).stdout for more in (["--json"], [], ["--min-ra", "0.5"])
    )
    found = json.loads(told)
    assert names(found["tickets"]) == ["erin/fine", "erin/a", "erin/b", "erin/c"]
    assert found["tickets"][1]["commit"] is None
    assert found["skipped"] == len(BAD_ROWS)
    assert shown.splitlines()[-1] == "11 rows of the Hub's list could not be read and left out"
    assert "erin/fine" in shown
    assert none.splitlines() == ["no ticket on the Hub fits; ask for less", shown.splitlines()[-1]]


def test_a_result_is_a_list_that_knows_what_was_skipped() -> None:
    found = SearchResult([Found("a/b", None)], skipped=2)
    assert (found, found.skipped, found[0].repo_id) == ([Found("a/b", None)], 2, "a/b")
    assert (SearchResult(), SearchResult().skipped) == ([], 0)


@pytest.mark.parametrize(
    "value", [None, {}, 7, "text", [{}] * 1001, b"", b"<html>", b"[" * 100_000, b"\xff"], ids=lambda v: repr(v)[:20]
)
def test_what_is_no_list_is_one_line(hub: Hub, worker: Worker, value: object) -> None:
    answer(hub, value)
    got = worker(SEARCH)
    assert got["error"].startswith("search: the Hub answered something else than what was asked for (")
    assert got["kind"] == "DownloadError"


def test_pages_that_do_not_end_are_left(hub: Hub, worker: Worker) -> None:
    following = {"Link": f'<{hub.endpoint}/api/models?cursor=7>; rel="next"'}
    answer(hub, [ROW], headers=following, times=9)
    got = worker(SEARCH)
    hub.faults.clear()
    assert got["error"] == "search: the pages of the Hub's answer do not end; ask for less"


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(403, "search: the Hub forbids this"), (503, "search: the Hub answered 503; try again later")],
)
def test_a_hub_that_fails_is_one_line(hub: Hub, worker: Worker, status: int, complaint: str) -> None:
    hub.faults.add(Fault(match="GET /api/models", kind="status", status=status, times=9))
    got = worker(SEARCH, patience={"deadline": 1.0})
    hub.faults.clear()
    assert got["error"].startswith(complaint)
    assert got["kind"] == "DownloadError"


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"min_sparsity": 89.0}, "min_sparsity lies in 0..1, not 89"),
        ({"min_ra": -0.1}, "min_ra lies in 0..1"),
        ({"pretrain": "robust"}, "pretrain is one of std, fast-adv, adv"),
    ],
)
def test_what_cannot_be_is_refused_before_the_hub_is_asked(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        search_tickets(**asked)
