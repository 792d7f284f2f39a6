"""Publishing: a ticket or ladder folder becomes a repository on the Hugging Face Hub, in one commit or not at all.

    validate the folder → make the files of the repository → compare with its head → one commit on that head → tag

Contents that are there already make no commit, a head that somebody else has moved meanwhile is never written over,
and an answer that got lost on the way is told from a commit that did.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lottery_hub.errors import LotteryHubError, PublishError, TicketError, printable
from lottery_hub.fetching import names
from lottery_hub.fetching.answers import Description, References, describe, references
from lottery_hub.fetching.connection import Conversation, Patience, is_missing, status
from lottery_hub.fetching.downloads import digests
from lottery_hub.fetching.pasted import page_of, pasted
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.scrutiny import images_of
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.reporting.cards import SHOWN, render_card
from lottery_hub.reporting.ladder_cards import render_ladder_card
from lottery_hub.reporting.pictures import plot
from lottery_hub.reporting.reports import Reported, render_report
from lottery_hub.reporting.showing import shows
from lottery_hub.reporting.updating import look_at_folder
from lottery_hub.sharing.eval_results import EVAL_RESULTS, eval_results_of
from lottery_hub.sharing.exporting import TIMM_WEIGHTS, timm_config
from lottery_hub.storage import files, folder
from lottery_hub.storage.folder import CARD, CONFIG, RESULTS, TRAINED
from lottery_hub.storage.manifest import LadderManifest, TicketManifest, to_config
from lottery_hub.storage.origins import check_ladder
from lottery_hub.storage.places import DEPLOYED
from lottery_hub.storage.records import check_ticket
from lottery_hub.storage.signing import is_untouched
from lottery_hub.telling import if_stopped, tell

# What an earlier push may have left that a new one has no more: a stale copy would be another network.
PAGE = "report.html"
OURS = {f"{content}.safetensors" for content in ("ticket", "ladder", "backbone")} | {
    TIMM_WEIGHTS,
    PAGE,
    EVAL_RESULTS,
    *SHOWN.values(),
}

DIFFERENT_PARENT = 412


@dataclass(frozen=True)
class Prepared:
    """What a repository will hold.

    Attributes:
        files: path → contents.
        title: one line that says what it is, for the commit.
        edited: whether the card is the folder's own, changed by hand, instead of a newly rendered one.
    """

    files: Mapping[str, bytes] = field(repr=False)
    title: str
    edited: bool


@dataclass(frozen=True)
class Published:
    """What a push did.

    Attributes:
        repo_id: "USER/NAME".
        url: of the repository, or of its branch.
        commit: the commit that holds the files; None after a dry run.
        changed: whether that commit is new; contents that were there already make none.
        tag: the tag it has now, where one was asked for.
        files: path → size in bytes.
        edited: whether the card is the folder's own, changed by hand, instead of a newly rendered one.
        unchecked: whether a push would first check the verdict's networks, which a dry run does not.
    """

    repo_id: str
    url: str
    commit: str | None
    changed: bool
    tag: str | None
    files: dict[str, int]
    edited: bool
    unchecked: bool = False


@shows("reading the folder")
def push_ticket(
    source: Ticket | Ladder | Path | str,
    repo_id: str,
    *,
    private: bool = False,
    tag: str | None = None,
    revision: str | None = None,
    timm: bool = True,
    models: bool = False,
    eval_results: bool = False,
    checks: bool = True,
    data: Dataset | None = None,
    dry_run: bool = False,
    patience: Patience | None = None,
    progress: bool | None = None,
) -> Published:
    """Publish a ticket or a ladder on the Hugging Face Hub.

    A verdict that nobody has looked at closer (see `scrutiny`) is looked at first, and what was found is written into
    the records in its folder.

    Args:
        source: a ticket, a ladder, or a folder of one.
        repo_id: "USER/NAME", or the address of its page; the repository is made where there is none.
        private: make it private; an error where it is there and public.
        tag: name of a tag for the commit; an older tag of that name is never moved.
        revision: branch to commit to, made where there is none; None means "main".
        timm: add a dense copy for `timm.create_model("hf-hub:USER/NAME", pretrained=True)`: of a judged ticket the
            network that was trained from it adversarially with seed 0, of another the ticket.
        models: add all trained networks behind a verdict, so that others can measure them again; otherwise it is
            those of the ticket with seed 0.
        eval_results: add the figures as `.eval_results/lottery-hub.yaml` too, by which the Hub shows them on the page
            of their dataset; those of a dataset that is there.
        checks: look closer at a verdict's networks; False publishes it as it is.
        data: the images of the verdict; None loads them by the name in its records.
        dry_run: check everything here, send nothing and write nothing: a closer look is not taken either.
        patience: how long to try.
        progress: as of `find`.

    Returns:
        What was done.

    Raises:
        TicketError: the folder is not a whole, valid ticket or ladder.
        PublishError: the Hub did not take it. Nothing is half done: the commit is there whole, or not at all.
    """
    if page := pasted(repo_id, "model", PublishError):
        repo_id, revision = page.repo_id, revision or page.revision
    names.repo_id(repo_id, PublishError)
    for name in (tag, revision):
        if name is not None:
            names.revision(name, PublishError)
    with _as_folder(source) as place, if_stopped("nothing was published, and nothing written"):
        unchecked = checks and _look_closer(place, data, dry_run)
        looked = unchecked and not dry_run
        with if_stopped("nothing was published; what the checks found is kept in the folder" if looked else ""):
            tell("doing", what="making card, pictures and the files of the repository")
            prepared = prepare(place, repo_id, timm=timm, models=models, eval_results=eval_results)
    sizes = {name: len(content) for name, content in sorted(prepared.files.items())}
    if dry_run:
        return Published(repo_id, _url(repo_id, revision), None, False, None, sizes, prepared.edited, unchecked)
    push = _Push(repo_id, revision, Conversation(patience, PublishError))
    with if_stopped(f"no files were published; {repo_id} may have been made"):
        tell("doing", what=f"asking for {repo_id}")
        push.open(private)
    with if_stopped(f"the commit on {repo_id} is there whole or not at all; the same command tells, and goes on"):
        commit, changed = push.commit(prepared, tag)
    if tag is not None:
        try:
            with if_stopped(f"the files are published, at {commit[:12]}; the tag may be missing"):
                push.tag(tag, commit)
        except PublishError as problem:
            raise PublishError(f"{problem}; the files are there, at {commit[:12]}, without the tag") from problem
    return Published(repo_id, _url(repo_id, revision), commit, changed, tag, sizes, prepared.edited)


def _look_closer(place: Path, data: Dataset | None, dry_run: bool) -> bool:
    """Run the checks of a verdict that has none, where its networks are at hand; say whether it had none."""
    if not isinstance(folder.read_about(place), TicketManifest):
        return False
    ticket = folder.load_ticket(place)
    if ticket.double_win is None or "checks" in ticket.records.get("scrutiny", {}):
        return False
    try:
        images = data or images_of(ticket, fetch=True)
        return bool(look_at_folder(place, ["checks"], images, dry_run=dry_run))
    except LotteryHubError as problem:
        raise PublishError(
            f"the verdict was never checked for masked gradients, and cannot be: {problem}; say where its images are "
            "with --dataset, or publish it unchecked with --no-checks"
        ) from problem


def prepare(
    place: Path, repo_id: str, *, timm: bool = True, models: bool = False, eval_results: bool = False
) -> Prepared:
    """Return the files of a repository, made from a folder that is read and checked whole.

    The folder is read once: what is published is what was checked, whatever becomes of the folder meanwhile.

    Raises:
        TicketError: it is not a valid ticket or ladder.
        PublishError: results are asked for that there are not.
    """
    with TemporaryDirectory() as passing:
        folder.copy_files(place, Path(passing), card=True, pictures=True, trained=None if models else DEPLOYED)
        return _prepared(Path(passing), place, repo_id, timm, models, eval_results)


def _prepared(copy: Path, place: Path, repo_id: str, timm: bool, models: bool, eval_results: bool) -> Prepared:
    """Make the files of a repository from a copy of `place`, which nobody else can change."""
    about = folder.read_about(copy)
    if not isinstance(about, TicketManifest | LadderManifest):
        raise TicketError(f"{printable(place)} holds a backbone, which is dense; draw a ladder from it and push that")
    content = {path.name: path.read_bytes() for path in sorted(copy.glob("*.png"))}
    for path in (folder.weights_path(copy, about), copy / RESULTS):
        content[path.name] = path.read_bytes()
    config = to_config(about)
    if isinstance(about, TicketManifest):
        ticket = folder.load_ticket(copy)
        check_ticket(ticket)
        title = f"{ticket.arch} ({ticket.kind}), level {ticket.level}, sparsity {ticket.sparsity:.4f}"
        content |= _trained(copy, place, ticket, models)
        if timm:
            network = _deployed(ticket, place)
            config = to_config(about, len(network.weights["fc.weight"])) | timm_config(network)
            content[TIMM_WEIGHTS] = files.tensor_bytes(network.to_model().state_dict())
        content |= _pictures(copy, ticket, repo_id)
        if eval_results:
            content[EVAL_RESULTS] = eval_results_of(ticket)
        card = render_card(ticket, repo_id, timm=timm)
    else:
        if eval_results:
            raise PublishError("a ladder has no results; push a ticket of it, or leave out --eval-results")
        ladder = folder.load_ladder(copy)
        check_ladder(ladder)
        title = f"{ladder.backbone.arch} ({ladder.backbone.kind}), ladder of {ladder.levels} levels"
        card = render_ladder_card(ladder, repo_id)
    content[CONFIG] = (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    own = folder.read_card(copy)
    edited = own is not None and not is_untouched(own)
    content[CARD] = (own if edited and own is not None else card).encode()
    return Prepared(content, title, edited)


def _pictures(copy: Path, ticket: Ticket, repo_id: str) -> dict[str, bytes]:
    """Return path → contents of the pictures that the card of a verdict shows, and of the report page."""
    if not ticket.judged:
        return {}
    page = render_report([Reported.read(copy, repo_id)])
    return {PAGE: page.encode()} | {path: plot(ticket, what).encode("png") for what, path in SHOWN.items()}


def _deployed(ticket: Ticket, place: Path) -> Ticket:
    """Return the network of the copy for timm."""
    try:
        network = ticket.network()
    except TicketError as problem:
        raise TicketError(f"{printable(place)}: {problem}; or push without the copy for timm (--no-timm)") from problem
    if network is not ticket:
        check_ticket(network)
    return network


def _trained(copy: Path, place: Path, ticket: Ticket, models: bool) -> dict[str, bytes]:
    """Return path → contents of the trained networks behind a verdict; where `models` asks for them they must be."""
    networks = folder.trained_folders(copy) if ticket.judged else {}
    if models and not networks:
        raise TicketError(f"{printable(place)} does not hold the trained networks of its verdict; run find again")
    known = {transfer["trained"] for transfer in ticket.records["transfers"]} if networks else set()
    content = {}
    for name, path in networks.items():
        if folder.load_ticket(path).fingerprint() not in known:
            where = printable(place / TRAINED / name)
            raise TicketError(f"{where} is none of the networks that the records are of")
        for file in (folder.weights_path(path, folder.read_about(path)).name, CONFIG, RESULTS):
            content[f"{TRAINED}/{name}/{file}"] = (path / file).read_bytes()
    return content


def _is_ours(path: str) -> bool:
    return path in OURS or path.startswith(f"{TRAINED}/")


@dataclass
class _Push:
    """One push: the repository, the branch, and the head that its commit stands on."""

    repo_id: str
    branch: str | None
    talk: Conversation
    head: str = ""
    there: dict[str, str] = field(default_factory=dict)  # path → digest at that head

    def open(self, private: bool) -> None:
        """Find or make repository and branch, and note the head."""
        from huggingface_hub import HfApi, get_token

        if get_token() is None:
            raise PublishError(f"{self.repo_id}: not logged in; run `hf auth login`, or set HF_TOKEN")
        api = HfApi()
        try:
            there = self._describe(None)
        except PublishError as problem:
            if not is_missing(problem):
                raise
            self._ask(lambda: api.create_repo(self.repo_id, private=private or None, exist_ok=True))
            there = self._describe(None)
        if private and not there.private:
            raise PublishError(
                f"{self.repo_id} is there and is public; make it private on the Hub, or push without --private"
            )
        branch = self.branch
        if branch is not None and branch not in self._references().branches:
            self._ask(lambda: api.create_branch(self.repo_id, branch=branch, exist_ok=True))
        self._look()

    def commit(self, prepared: Prepared, tag: str | None) -> tuple[str, bool]:
        """Commit the files on the head, unless they are there; return the commit, and whether it is new."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
        from huggingface_hub.errors import HfHubHTTPError

        sizes = f"{len(prepared.files)} files, {sum(map(len, prepared.files.values())) / 1e6:.1f} MB"
        tell("doing", what=f"hashing {sizes}")
        if self._holds(prepared):
            return self.head, False
        tell("doing", what=f"sending {sizes}, to {self.repo_id}")
        if tag is not None and tag in self._references().tags:
            raise PublishError(f"{self.repo_id} has a tag {printable(tag)} already; choose another, tags are not moved")
        parent, stale = self.head, self._stale(prepared)

        def send() -> str:
            operations = [CommitOperationAdd(name, content) for name, content in sorted(prepared.files.items())]
            deletions = [CommitOperationDelete(name) for name in stale]
            try:
                sent = HfApi().create_commit(
                    self.repo_id,
                    [*operations, *deletions],
                    commit_message=prepared.title,
                    revision=self.branch,
                    parent_commit=parent,
                )
            except HfHubHTTPError as problem:
                if status(problem) != DIFFERENT_PARENT:
                    raise
                # Somebody was faster, or an earlier try arrived and its answer did not.
                self._look()
                if self._holds(prepared):
                    return self.head
                raise PublishError(
                    f"{self.repo_id}: somebody else has committed to {printable(self.branch or 'main')} meanwhile; "
                    "nothing was changed; look at what is there and push again"
                ) from None
            except ValueError:  # nothing was sent, or it arrived and the answer says something else
                self._look()
                if self._holds(prepared):
                    return self.head
                raise
            if not names.fits(names.commit, sent.oid):
                raise LookupError("the answer names no commit")  # the next try finds out whether there is one
            return str(sent.oid)

        return self._ask(send), True

    def tag(self, tag: str, commit: str) -> None:
        """Give a commit a tag, unless it has it."""
        from huggingface_hub import HfApi

        def send() -> None:
            there = self._references().tags.get(tag)
            if there is None:
                HfApi().create_tag(self.repo_id, tag=tag, revision=commit)
            elif there != commit:
                raise PublishError(
                    f"{self.repo_id}: the tag {printable(tag)} stands for {there[:12]}; choose another, "
                    "tags are not moved"
                )

        self._ask(send)

    def _ask(self, request: Any) -> Any:
        return self.talk.ask(request, self.repo_id, self.branch, sending=True)

    def _look(self) -> None:
        there = self._describe(self.branch)
        self.head = there.sha
        self.there = {name: listed.digest for name, listed in there.files.items()}

    def _describe(self, revision: str | None) -> Description:
        return describe(self.talk, self.repo_id, revision=revision)

    def _references(self) -> References:
        return references(self.talk, self.repo_id)

    def _holds(self, prepared: Prepared) -> bool:
        """Whether the head has exactly these files, besides some that are none of ours."""
        return not self._stale(prepared) and all(
            self.there.get(name, "") in digests(content) for name, content in prepared.files.items()
        )

    def _stale(self, prepared: Prepared) -> list[str]:
        return sorted(name for name in self.there.keys() - prepared.files.keys() if _is_ours(name))


@contextmanager
def _as_folder(source: Ticket | Ladder | Path | str) -> Iterator[Path]:
    """Yield the folder of what is to be pushed; what is in memory is saved to a passing one first."""
    if isinstance(source, Path | str):
        yield folder.find_folder(source)
        return
    with TemporaryDirectory() as passing:
        place = Path(passing) / "pushed"
        if isinstance(source, Ladder):
            yield folder.save_ladder(source, place)
            return
        networks = {
            name: folder.save_ticket(network, Path(passing) / name) for name, network in source.networks.items()
        }
        yield folder.save_ticket(source, place, trained=networks)


def _url(repo_id: str, revision: str | None) -> str:
    return page_of(repo_id) + (f"/tree/{printable(revision)}" if revision else "")
