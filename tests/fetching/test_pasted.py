"""Addresses of web pages: what people paste where USER/NAME is asked for."""

from __future__ import annotations

import pytest

from lottery_hub.errors import BackboneError, DataError, LotteryHubError, PublishError, TicketError
from lottery_hub.fetching.pasted import Pasted, is_page, pasted
from lottery_hub.images.datasets import load_dataset
from lottery_hub.sharing.publishing import push_ticket
from lottery_hub.sharing.pulling import is_remote, pull
from lottery_hub.sharing.sources import load_backbone


@pytest.mark.parametrize(
    ("text", "revision"),
    [
        ("https://huggingface.co/alice/net", None),
        ("http://huggingface.co/alice/net/", None),
        ("HTTPS://HuggingFace.co/alice/net", None),
        ("  https://huggingface.co/alice/net\n", None),
        ("https://www.huggingface.co/alice/net", None),
        ("https://hf.co/alice/net", None),
        ("huggingface.co/alice/net", None),
        ("https://huggingface.co/models/alice/net", None),
        ("https://huggingface.co/alice/net?library=timm#usage", None),
        ("https://huggingface.co/alice/net/tree/main", "main"),
        ("https://huggingface.co/alice/net/tree/v1.0/trained", "v1.0"),
        ("https://huggingface.co/alice/net/tree/seed%2F1", "seed/1"),
        ("https://huggingface.co/alice/net/blob/main/config.json", "main"),
        ("https://huggingface.co/alice/net/resolve/main/ticket.safetensors?download=true", "main"),
        ("https://huggingface.co/alice/net/commit/" + "0123456789" * 4, "0123456789" * 4),
        ("https://huggingface.co/alice/net/tree/refs%2Fpr%2F1", "refs/pr/1"),
        ("https://huggingface.co/alice/net/tree/refs/pr/1", "refs/pr/1"),
        ("https://huggingface.co/alice/net/discussions", None),
        ("https://huggingface.co/alice/net/tree", None),
    ],
)
def test_the_page_of_a_repository_stands_for_it(text: str, revision: str | None) -> None:
    assert pasted(text, "model", TicketError) == Pasted("model", "alice/net", revision)
    assert is_page(text)
    assert is_remote(text)


def test_the_page_of_a_dataset_stands_for_it_where_one_is_asked_for() -> None:
    page = "https://huggingface.co/datasets/uoft-cs/cifar10/tree/main/plain_text"
    assert pasted(page, "dataset", DataError) == Pasted("dataset", "uoft-cs/cifar10", "main")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "https://mirror.example/hub/"])
def test_the_hub_that_is_configured_has_pages_too(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    page = f"{endpoint.rstrip('/')}/alice/net/tree/v1"
    assert pasted(page, "model", TicketError) == Pasted("model", "alice/net", "v1")
    assert pasted("https://mirror.example/alice/net", "model", TicketError) is None


@pytest.mark.parametrize(
    "text",
    ["alice/net", "https://example.org/alice/net", "https://huggingface.co.evil.org/alice/net", "s3://bucket/net",
     "https://evil.org/huggingface.co/alice/net", "huggingface.co", "tickets/huggingface.co/net", "", "\x00"],
)  # fmt: skip
def test_nothing_else_is_a_page_of_the_hub(text: str) -> None:
    assert pasted(text, "model", TicketError) is None
    assert not is_page(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("https://huggingface.co/datasets/uoft-cs/cifar10", "is the page of a dataset; this takes a model of the Hub"),
        ("https://huggingface.co/spaces/alice/demo", "is the page of a space; this takes a model"),
        ("https://huggingface.co/alice", "is not the page of a repository: give USER/NAME"),
        ("https://huggingface.co/", "is not the page of a repository"),
        ("https://huggingface.co/../../etc/passwd", "is not the page of a repository"),
        ("https://huggingface.co/%2e%2e/%2fetc", "is not the page of a repository"),
        ("https://huggingface.co/\x1b[31m/net", r"x1b\[31m/net is not the page of a repository"),
    ],
)
def test_a_page_of_something_else_says_what_it_is(text: str, complaint: str) -> None:
    for call in (
        lambda: pull(text),
        lambda: push_ticket("resnet18-slim-adv", text, dry_run=True),
        lambda: load_backbone(f"adv:{text}"),
    ):
        with pytest.raises((TicketError, PublishError, BackboneError), match=complaint):
            call()


def test_a_model_is_no_dataset() -> None:
    with pytest.raises(DataError, match="is the page of a model; this takes a dataset of the Hub, USER/NAME"):
        load_dataset("https://huggingface.co/alice/net")


def test_a_page_with_a_revision_takes_no_other() -> None:
    with pytest.raises(TicketError, match="alice/net@v1 names a revision already"):
        pull("https://huggingface.co/alice/net/tree/v1", revision="v2")


def test_a_page_leads_where_the_name_leads() -> None:
    told = set()
    for ref in ("alice/net@v1", "https://huggingface.co/alice/net/tree/v1"):
        with pytest.raises(LotteryHubError) as caught:
            pull(ref)
        told.add(str(caught.value))
    assert len(told) == 1, "both are looked for in the cache: the tests are offline"


def test_a_push_to_a_page_goes_to_its_repository() -> None:
    done = push_ticket("resnet18-slim-adv", "https://huggingface.co/alice/net/tree/try", dry_run=True, checks=False)
    assert (done.repo_id, done.url) == ("alice/net", "https://huggingface.co/alice/net/tree/try")
