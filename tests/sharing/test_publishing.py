"""Publishing: one commit with everything or none, on a head that nobody else has moved, and never twice."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from timm.models import create_model

from lottery_hub.errors import PublishError, TicketError
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.sharing import publishing
from lottery_hub.sharing.publishing import prepare, push_ticket
from lottery_hub.storage.folder import load_ticket, save_backbone, save_ladder, save_ticket
from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

PUSH, PULL = "lottery_hub.sharing.publishing:push_ticket", "lottery_hub.sharing.pulling:pull"
QUICK = {"deadline": 20.0, "tries": 3, "pause": 0.01}
KEY = "models/alice/net"
FILES = {"README.md", "config.json", "model.safetensors", "results.json", "ticket.safetensors"}


@pytest.fixture(scope="module")
def ticket(ladder: Ladder) -> Ticket:
    return ladder.ticket(3)


@pytest.fixture
def place(ticket: Ticket, tmp_path: Path) -> Path:
    return save_ticket(ticket, tmp_path / "ticket", render_card(ticket))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(served: Hub) -> Iterator[Hub]:
    yield served
    served.faults.clear()
    for key in served.store.repos():
        served.store.delete(key)
    served.requests.clear()


@pytest.fixture(scope="module")
def alice(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    home = tmp_path_factory.mktemp("home")
    with Worker(served.environment(home, token=served.token("alice"))) as worker:
        yield worker


@pytest.fixture(scope="module")
def nobody(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(served.environment(tmp_path_factory.mktemp("home"))) as worker:
        yield worker


# What is published


def test_a_repository_holds_the_ticket_its_card_and_the_dense_network_for_timm(place: Path, ticket: Ticket) -> None:
    files = prepare(place, "alice/net").files
    assert set(files) == FILES
    assert files["ticket.safetensors"] == (place / "ticket.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert 'lottery_hub.load_ticket("alice/net")' in card
    assert 'timm.create_model("hf-hub:alice/net", pretrained=True)' in card


def test_what_is_published_is_still_a_ticket(place: Path, ticket: Ticket, tmp_path: Path) -> None:
    for timm in (True, False):
        published = tmp_path / f"timm {timm}"
        published.mkdir()
        for name, content in prepare(place, "alice/net", timm=timm).files.items():
            (published / name).write_bytes(content)
        assert load_ticket(published).fingerprint() == ticket.fingerprint()
        assert ("model.safetensors" in {path.name for path in published.iterdir()}) is timm
        assert ("hf-hub:" in (published / "README.md").read_text()) is timm


def test_nothing_of_timms_base_network_leaks_in(place: Path) -> None:
    config = json.loads(prepare(place, "alice/net").files["config.json"])
    assert "license" not in config["pretrained_cfg"]
    text = json.dumps(config)
    for leak in ("tv_in1k", "a1_in1k", "http", "bsd", "hf_hub_id", "tag"):
        assert leak not in text, leak


def test_a_card_changed_by_hand_is_published_as_it_is_and_any_other_is_rendered_anew(
    place: Path, ticket: Ticket
) -> None:
    assert not prepare(place, "alice/net").edited
    (place / "README.md").write_text(render_card(ticket, "bob/other", timm=True))
    again = prepare(place, "alice/net")
    assert not again.edited, "as it was pulled from another repository"
    assert b"bob/other" not in again.files["README.md"]
    (place / "README.md").write_text("---\nlicense: mit\n---\nmy own words")
    mine = prepare(place, "alice/net")
    assert mine.edited
    assert mine.files["README.md"] == b"---\nlicense: mit\n---\nmy own words"


def test_a_verdict_is_published_with_its_report_and_the_pictures_that_its_card_shows(run: Path) -> None:
    files = prepare(run / "ticket", "alice/net", timm=False).files
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", files["README.md"].decode())
    assert shown == ["pictures/curve.png", "pictures/differences.png"]
    assert all(files[name].startswith(b"\x89PNG") for name in shown)
    assert b"alice/net" in files["report.html"]
    assert sum(map(len, files.values())) < 2**23


def test_pictures_beside_the_card_are_published_and_other_files_are_not(place: Path) -> None:
    (place / "curve.png").write_bytes(b"a picture")
    (place / "diary.txt").write_text("private")
    assert set(prepare(place, "alice/net").files) == FILES | {"curve.png"}


def test_a_ladder_is_published_with_a_card_even_where_its_backbone_has_no_records(
    ladder: Ladder, tmp_path: Path
) -> None:
    files = prepare(save_ladder(ladder, tmp_path / "ladder"), "alice/ladder").files
    assert set(files) == {"README.md", "config.json", "ladder.safetensors", "results.json"}
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "lottery-hub"
    assert 'load_ticket("alice/ladder", sparsity=0.8)' in card


def test_what_is_damaged_or_no_ticket_is_refused_before_anything_is_sent(
    ladder: Ladder, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(TicketError, match="holds a backbone"):
        push_ticket(save_backbone(ladder.backbone, tmp_path / "backbone"), "alice/net")
    (place / "results.json").write_text("{} ")
    with pytest.raises(TicketError, match=r"results\.json is not the file"):
        push_ticket(place, "alice/net")


SECRET = b"-----BEGIN PRIVATE KEY-----"


@pytest.mark.parametrize("name", ["figure.png", "README.md", "results.json", "ticket.safetensors", "config.json"])
@pytest.mark.parametrize("inside", [True, False], ids=["in the folder", "outside"])
def test_what_a_link_leads_to_is_never_published(place: Path, tmp_path: Path, name: str, inside: bool) -> None:
    secret = (place if inside else tmp_path) / "id_rsa"
    secret.write_bytes(SECRET)
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(secret)
    with pytest.raises(TicketError, match=rf"{re.escape(name)} (leads out of its folder|is a link)"):
        prepare(place, "alice/net")


@pytest.mark.parametrize("name", ["figure.png", "README.md", "results.json", "ticket.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "huge", "nowhere"])
def test_what_is_no_file_of_a_size_that_it_may_have_is_refused_by_name(place: Path, name: str, kind: str) -> None:
    path = place / name
    path.unlink(missing_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**40)  # a hole, which takes no room
        case "nowhere":
            path.symlink_to(place / "nothing")
    with pytest.raises(TicketError, match=rf"{re.escape(name)} (is missing, or not a file|is larger than|is a link)"):
        prepare(place, "alice/net")


def test_a_card_in_another_encoding_is_refused_by_name(place: Path) -> None:
    (place / "README.md").write_bytes("---\n---\nfür".encode("latin-1"))
    with pytest.raises(TicketError, match=r"README\.md is not text in UTF-8"):
        prepare(place, "alice/net")


def test_what_is_published_is_what_was_checked_whatever_becomes_of_the_folder(
    place: Path, ladder: Ladder, ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_ticket(ladder.ticket(5), tmp_path / "other")

    def meanwhile(ticket: Ticket, *args: Any, **kwargs: Any) -> str:
        """Somebody puts another ticket into the folder while this one's card is rendered."""
        for path in other.iterdir():
            shutil.copyfile(path, place / path.name)
        return render_card(ticket, *args, **kwargs)

    monkeypatch.setattr("lottery_hub.sharing.publishing.render_card", meanwhile)
    published = tmp_path / "published"
    published.mkdir()
    for name, content in prepare(place, "alice/net").files.items():
        (published / name).write_bytes(content)
    assert load_ticket(place).fingerprint() != ticket.fingerprint()
    assert load_ticket(published).fingerprint() == ticket.fingerprint()


def test_bytes_that_were_damaged_when_they_were_read_are_not_published(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (place / "ticket.safetensors").read_bytes()
    (place / "ticket.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    def mended(*args: Any) -> Ticket:
        (place / "ticket.safetensors").write_bytes(whole)
        return load_ticket(*args)

    monkeypatch.setattr("lottery_hub.storage.folder.load_ticket", mended)
    with pytest.raises(TicketError, match=r"ticket\.safetensors is not the file that config\.json describes"):
        prepare(place, "alice/net")


@pytest.mark.parametrize("name", ["../main", "/etc", "a b", "x" * 300, "a\x00b"])
def test_a_tag_or_a_branch_that_is_a_path_is_refused(place: Path, name: str) -> None:
    for which in ("tag", "revision"):
        with pytest.raises(PublishError, match="is not a branch, tag or commit"):
            push_ticket(place, "alice/net", dry_run=True, **{which: name})


@pytest.mark.parametrize("repo", ["net", "a/b/c", "alice/", "/net", "alice/net@v1", "alice/\x1b[31m", ""])
def test_a_name_that_is_no_repository_is_refused(place: Path, repo: str) -> None:
    with pytest.raises(PublishError, match="it looks like USER/NAME"):
        push_ticket(place, repo)


def test_a_dry_run_tells_the_files_and_sends_nothing(place: Path) -> None:
    done = push_ticket(place, "alice/net", dry_run=True)  # the client is offline in this process
    assert set(done.files) == FILES
    assert (done.commit, done.changed) == (None, False)


# Over HTTP


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("prepare", "^nothing was published, and nothing written$"),
        ("open", "^no files were published; alice/net may have been made$"),
        ("commit", "^the commit on alice/net is there whole or not at all; the same command tells, and goes on$"),
        ("tag", "^the files are published, at 0123456789ab; the tag may be missing$"),
    ],
)
def test_ctrl_c_says_what_is_published(place: Path, step: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing._Push, "open", lambda *_: None)
    monkeypatch.setattr(publishing._Push, "commit", lambda *_: ("0123456789ab", True))
    monkeypatch.setattr(publishing, "prepare", lambda *_, **__: publishing.Prepared({}, "", False))
    monkeypatch.setattr(
        publishing if step == "prepare" else publishing._Push,
        step,
        interrupted,
    )
    with pytest.raises(KeyboardInterrupt, match=said):
        push_ticket(place, "alice/net", tag="v1")


def test_a_push_is_one_commit_and_the_same_again_is_none(
    hub: Hub, alice: Worker, place: Path, tmp_path: Path, ticket: Ticket
) -> None:
    done = alice(PUSH, str(place), "alice/net", tag="v1")
    assert done["changed"]
    assert done["url"] == f"{hub.endpoint}/alice/net"
    assert len(hub.store.commits(KEY)) == 2, "the first is the Hub's own"
    assert hub.store.tags(KEY) == {"v1": done["commit"]}
    assert set(hub.store.files(KEY)) == FILES | {".gitattributes"}
    again = alice(PUSH, str(place), "alice/net", tag="v1")
    assert (again["changed"], again["commit"]) == (False, done["commit"])
    pulled = alice(PULL, "alice/net@v1", local_dir=str(tmp_path / "pulled"))
    assert load_ticket(tmp_path / "pulled").fingerprint() == ticket.fingerprint()
    assert not alice(PUSH, pulled["folder"], "alice/net")["changed"], "what was pulled is what was pushed"
    assert len(hub.store.commits(KEY)) == 2


def test_a_new_version_removes_what_is_stale_and_nothing_else(
    hub: Hub, alice: Worker, place: Path, ladder: Ladder, tmp_path: Path
) -> None:
    alice(PUSH, str(place), "alice/net")
    hub.store.commit(KEY, {"notes.txt": b"mine"})
    alice(PUSH, str(place), "alice/net", timm=False)
    assert set(hub.store.files(KEY)) == FILES - {"model.safetensors"} | {".gitattributes", "notes.txt"}
    alice(PUSH, str(save_ladder(ladder, tmp_path / "ladder")), "alice/net")
    assert {"ladder.safetensors", "notes.txt"} < set(hub.store.files(KEY))
    assert "ticket.safetensors" not in hub.store.files(KEY)


def test_a_branch_is_made_where_there_is_none(hub: Hub, alice: Worker, place: Path) -> None:
    hub.store.commit(KEY, {"notes.txt": b"mine"})
    before = hub.store.head(KEY)
    done = alice(PUSH, str(place), "alice/net", revision="seed/1")
    assert done["url"] == f"{hub.endpoint}/alice/net/tree/seed/1"
    assert hub.store.head(KEY) == before
    assert hub.store.head(KEY, "seed/1") == done["commit"]
    assert not alice(PUSH, str(place), "alice/net", revision="seed/1")["changed"]
    assert alice(PULL, "alice/net", revision="seed/1")["commit"] == done["commit"]


def test_a_private_repository_stays_private_and_a_public_one_is_not_taken_for_one(
    hub: Hub, alice: Worker, nobody: Worker, place: Path
) -> None:
    alice(PUSH, str(place), "alice/net", private=True)
    assert "is not on the Hub, or is private" in nobody(PULL, "alice/net")["error"]
    hub.store.create("models/alice/public")
    got = alice(PUSH, str(place), "alice/public", private=True)
    assert "alice/public is there and is public" in got["error"]
    assert len(hub.store.commits("models/alice/public")) == 1


def test_tags_are_never_moved(hub: Hub, alice: Worker, place: Path, ticket: Ticket) -> None:
    first = alice(PUSH, str(place), "alice/net", tag="v1")["commit"]
    save_ticket(replace(ticket, provenance={"backbone": {"source": "elsewhere"}}), place)
    got = alice(PUSH, str(place), "alice/net", tag="v1")
    assert "has a tag v1 already; choose another" in got["error"]
    assert hub.store.head(KEY) == first
    second = alice(PUSH, str(place), "alice/net", tag="v2")["commit"]
    assert "the tag v1 stands for" in alice(PUSH, str(place), "alice/net", tag="v1")["error"]
    assert hub.store.tags(KEY) == {"v1": first, "v2": second}


def test_a_lost_race_is_told_and_nothing_is_written_over(hub: Hub, alice: Worker, place: Path) -> None:
    hub.store.commit(KEY, {"config.json": b"{}"})
    hub.faults.add(Fault("POST .*commit/main", "move_branch", files={"theirs.txt": b"theirs"}))
    got = alice(PUSH, str(place), "alice/net", patience=QUICK)
    assert got["kind"] == "PublishError"
    assert "somebody else has committed to main meanwhile; nothing was changed" in got["error"]
    assert set(hub.store.files(KEY)) == {".gitattributes", "config.json", "theirs.txt"}
    assert alice(PUSH, str(place), "alice/net")["changed"]
    assert hub.store.files(KEY)["theirs.txt"] == b"theirs"


@pytest.mark.parametrize("kind", ["applied_then_drop", "drop"])
@pytest.mark.parametrize("step", ["repos/create", "preupload", "objects/batch", "commit/main", "tag/"])
def test_a_lost_answer_is_told_from_a_lost_commit(hub: Hub, alice: Worker, place: Path, kind: str, step: str) -> None:
    hub.faults.add(Fault(match=f"POST .*{step}", kind=kind, times=1))
    done = alice(PUSH, str(place), "alice/net", tag="v1", patience=QUICK)
    assert done.get("commit") == hub.store.head(KEY), done
    assert len(hub.store.commits(KEY)) == 2
    assert hub.store.tags(KEY) == {"v1": done["commit"]}


def test_a_commit_that_fails_for_good_leaves_the_repository_as_it_was(hub: Hub, alice: Worker, place: Path) -> None:
    before = hub.store.commit(KEY, {"config.json": b"{}"})
    hub.faults.add(Fault(match="POST .*commit/main", kind="status", status=503, times=99))
    got = alice(PUSH, str(place), "alice/net", patience=QUICK)
    assert "alice/net: the Hub answered 503" in got["error"]
    assert hub.store.head(KEY) == before


def test_a_tag_that_fails_says_that_the_files_are_there(hub: Hub, alice: Worker, place: Path) -> None:
    hub.faults.add(Fault(match="POST .*/tag/", kind="status", status=503, times=99))
    got = alice(PUSH, str(place), "alice/net", tag="v1", patience=QUICK)
    assert f"the files are there, at {hub.store.head(KEY)[:12]}, without the tag" in got["error"]
    hub.faults.clear()
    again = alice(PUSH, str(place), "alice/net", tag="v1")
    assert (again["changed"], hub.store.tags(KEY)) == (False, {"v1": hub.store.head(KEY)})


def test_who_may_not_write_is_told_what_to_do(hub: Hub, alice: Worker, nobody: Worker, place: Path) -> None:
    assert "not logged in; run `hf auth login`, or set HF_TOKEN" in nobody(PUSH, str(place), "alice/net")["error"]
    hub.store.create("models/bob/net")
    for repo in ("bob/net", "bob/new"):
        got = alice(PUSH, str(place), repo)
        assert got["kind"] == "PublishError"
        assert got["error"].startswith(f"{repo}: the Hub forbids this; log in as somebody who may")
    assert hub.store.repos() == ["models/bob/net"]


def test_a_card_that_the_hub_refuses_is_told_and_nothing_is_committed(hub: Hub, alice: Worker, place: Path) -> None:
    (place / "README.md").write_text("---\nlicense: weird\n---\nmy own words")
    got = alice(PUSH, str(place), "alice/net")
    assert got["error"].startswith("alice/net: the Hub's client refuses (")
    assert "license" in got["error"] + got["trace"]
    assert set(hub.store.files(KEY)) == {".gitattributes"}


@pytest.mark.parametrize("token", ["hf_" + "abcdefghij" * 4, "hf_with a space and more", "tökén-of-mine"])
def test_a_token_never_gets_out(hub: Hub, place: Path, tmp_path: Path, token: str) -> None:
    with Worker(hub.environment(tmp_path / "home", token=token)) as stranger:
        got = stranger(PUSH, str(place), "alice/net", patience=QUICK)
        logged = stranger.stop()
    assert got["kind"] == "PublishError"
    assert token not in got["error"] + got["trace"] + logged
    assert not any(token.encode() in content for path in place.iterdir() for content in [path.read_bytes()])


def test_plain_timm_rebuilds_the_identical_network(hub: Hub, alice: Worker, place: Path, ticket: Ticket) -> None:
    alice(PUSH, str(place), "alice/net")
    got = alice("tests.sharing.test_publishing:timm_logits", "hf-hub:alice/net")
    model = ticket.to_model().eval()
    with torch.no_grad():
        assert torch.equal(torch.tensor(got["logits"]), model(images()))
    assert got["mean"] == list(ticket.mean)
    assert re.fullmatch(r"[0-9a-f]{40}", hub.store.head(KEY))


def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def timm_logits(name: str) -> dict[str, Any]:
    """Logits by plain timm, in the process whose client knows the loopback Hub."""
    model = create_model(name, pretrained=True).eval()
    with torch.no_grad():
        return {"logits": model(images()).tolist(), "mean": list(model.pretrained_cfg["mean"])}


def test_a_ticket_in_memory_is_pushed_as_its_folder_would_be(place: Path, ticket: Ticket, ladder: Ladder) -> None:
    from_folder = push_ticket(place, "alice/net", dry_run=True).files
    assert push_ticket(ticket, "alice/net", dry_run=True).files == from_folder
    assert "ladder.safetensors" in push_ticket(ladder, "alice/net", dry_run=True).files
    shutil.rmtree(place)
