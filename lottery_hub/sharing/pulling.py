"""What a reference names, wherever it is: a folder, a packaged name, a Hub repository or an address becomes a folder.

    tickets/mine                 a folder, or a run directory with one; what is on the disk goes first, and asks nobody
    resnet18-slim-adv            a name of `packaged/`, which has no slash: a ladder, or a ticket that is trained
    USER/NAME, USER/NAME@v1      a repository on the Hugging Face Hub, at a branch, tag or commit
    https://huggingface.co/...   the page of one, as pasted from a browser
    s3://bucket/folder           an address of http, or that fsspec understands; file:// is read in place

Of a repository only the files that make a ticket are fetched, all at one commit, each of bounded size and checked
against its hash; its trained networks when they are used, and the dense copy for timm not at all.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lottery_hub.errors import DownloadError, TicketError, printable
from lottery_hub.fetching import downloads, names
from lottery_hub.fetching.addresses import open_address
from lottery_hub.fetching.connection import Patience, is_missing, redacted
from lottery_hub.fetching.pasted import is_page, pasted
from lottery_hub.networks.tickets import Ladder, Networks, Ticket
from lottery_hub.reporting.showing import shows
from lottery_hub.settings.paths import exists, path_of, place_of
from lottery_hub.storage import atomic, files, folder, ownership
from lottery_hub.storage.folder import CARD, CONFIG, MAX_CARD_BYTES, MAX_CONFIG_BYTES, RESULTS
from lottery_hub.storage.manifest import BackboneManifest
from lottery_hub.storage.places import DEPLOYED, Wanted
from lottery_hub.telling import if_stopped, tell

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.+", re.DOTALL)


@dataclass(frozen=True)
class Pulled:
    """Where a reference led.

    Attributes:
        folder: on this machine; of a repository, in the Hub client's cache.
        repo_id: "USER/NAME" of a repository, else None.
        commit: the repository's commit, else None.
    """

    folder: Path
    repo_id: str | None = None
    commit: str | None = None

    def origin(self) -> dict[str, Any]:
        """Return what a provenance says of it: repository and commit, nothing of a local folder."""
        return {"pulled": {"repo": self.repo_id, "commit": self.commit}} if self.repo_id else {}


def load_ticket(
    ref: os.PathLike[str] | str, sparsity: float | None = None, *, revision: str | None = None, deadline: float = 300.0
) -> Ticket:
    """Load a ticket, or one level of a ladder: a folder's, a packaged one's, the Hub's or an address's.

    Args:
        ref: a folder, or a run directory with one; a packaged name, of those that `list_tickets` lists; "USER/NAME" or
            "USER/NAME@REVISION" on the Hugging Face Hub, or the address of its page; or an address of http
            or that fsspec understands, e.g. "s3://bucket/folder".
        sparsity: which level of a ladder, in 0..1, nearest wins; a ticket folder has just one, and asking
            for another is an error.
        revision: branch, tag or commit on the Hub; None means "main".
        deadline: seconds after which a pull is given up.

    Returns:
        The ticket; one from the Hub has repository and commit in its `provenance["pulled"]`.

    Raises:
        TicketError: names the file and the reason.
        DownloadError: the Hub, or what is behind the address, did not deliver.
        ConfigError: the deadline is no number of seconds.
    """
    return pulled_ticket(
        pull(ref, revision=revision, patience=Patience(deadline), progress=_where_fetched(ref)), sparsity
    )


def load_ladder(ref: os.PathLike[str] | str, *, revision: str | None = None, deadline: float = 300.0) -> Ladder:
    """Load a ladder; the arguments are those of `load_ticket`.

    Raises:
        TicketError: names the file and the reason.
        DownloadError: the Hub, or what is behind the address, did not deliver.
    """
    return folder.load_ladder(
        pull(ref, revision=revision, wanted="ladder", patience=Patience(deadline), progress=_where_fetched(ref)).folder
    )


def pulled_ticket(pulled: Pulled, sparsity: float | None = None) -> Ticket:
    """Load the ticket that a reference led to, or a level of its ladder; see `load_ticket`."""
    ticket = folder.load_ticket(pulled.folder, sparsity)
    if pulled.repo_id is None:
        return ticket
    networks = Networks(partial(_published_networks, pulled), partial(_published_network, pulled))
    return replace(ticket, provenance=ticket.provenance | pulled.origin(), networks=networks)


@shows("opening the ticket")
def pull(
    ref: os.PathLike[str] | str,
    *,
    revision: str | None = None,
    local_dir: Path | str | None = None,
    models: bool = False,
    overwrite: bool = False,
    wanted: Wanted = "ticket",
    patience: Patience | None = None,
    progress: bool | None = None,
) -> Pulled:
    """Bring what a reference names to this machine.

    Args:
        ref: see `load_ticket`.
        revision: branch, tag or commit on the Hub; None means "main".
        local_dir: a new folder to copy the files to, or an older copy to replace; None leaves them where they are.
            Where these very files are there already, nothing is written. A copy has the networks that one deploys:
            those that were trained from the ticket with seed 0.
        models: all trained networks behind a verdict, where they are there.
        overwrite: where anything but a copy is there (trained networks too), move it aside to `NAME.old`.
        wanted: what of a run directory, which may hold a ticket beside its ladder.
        patience: how long to try.
        progress: as of `find`.

    Returns:
        The folder with the files; what is in them is checked where they are loaded, and before they are copied.

    Raises:
        TicketError: there is nothing of that name, or it is no ticket; or `local_dir` holds something that is no copy.
        DownloadError: the Hub, or what is behind the address, did not deliver.
    """
    if local_dir is not None:  # before anything is fetched
        local_dir = place_of(local_dir)
        atomic.check_place(local_dir, foreign=atomic.nothing, overwrite=overwrite)
    networks = None if models else DEPLOYED if local_dir is not None else ()
    with if_stopped("files that were fetched whole stay in the cache; nothing else was written"):
        pulled = _locate(os.fspath(ref), revision, patience or Patience(), wanted, networks)
    if local_dir is None:
        return pulled
    return replace(pulled, folder=_copy(pulled.folder, local_dir, networks, overwrite))


def _where_fetched(ref: os.PathLike[str] | str) -> bool | None:
    """Return as what a load shows its progress: not at all where nothing is fetched."""
    return None if is_remote(os.fspath(ref)) else False


def is_remote(ref: str) -> bool:
    """Whether a reference may need a network: nothing of that name is on the disk or packaged."""
    there = exists(path_of(ref)) or ref in folder.packaged_names()
    on_the_hub = names.fits(names.repo_id, ref.partition("@")[0]) or is_page(ref)
    return not there and (on_the_hub or bool(_ADDRESS.fullmatch(ref)))


# Names of trained networks to bring along; None stands for all that there are.
_Wished = Collection[str] | None


def _locate(ref: str, revision: str | None, patience: Patience, wanted: Wanted, networks: _Wished) -> Pulled:
    remote = is_remote(ref)
    if remote and (page := pasted(ref, "model", TicketError)):
        ref = page.repo_id if page.revision is None else f"{page.repo_id}@{page.revision}"
    repo_id, at, named = ref.partition("@")
    if not (remote and names.fits(names.repo_id, repo_id)):
        if revision is not None:
            raise TicketError(f"{redacted(printable(ref))} has no revisions: only repositories of the Hub do")
        return _from_address(ref, patience) if remote else Pulled(folder.find_folder(ref, wanted))
    if at and revision is not None:
        raise TicketError(f"{printable(ref)} names a revision already; leave out one of the two")
    revision = named if at else revision
    return _from_hub(repo_id, revision, patience, networks)


def _from_hub(repo_id: str, revision: str | None, patience: Patience, networks: _Wished) -> Pulled:
    try:
        commit = downloads.pin(repo_id, revision, patience=patience)
    except DownloadError as problem:
        if is_missing(problem):
            raise DownloadError(f"{problem}; there is no folder of that name here either") from problem.__cause__
        raise
    tell("doing", what=f"fetching {repo_id} at {commit.sha[:12]}")
    config = commit.fetch(CONFIG, limit=MAX_CONFIG_BYTES)
    about = folder.read_about(config.parent)
    for name, limit in _needed(about).items():
        commit.fetch(name, limit=limit, sha256=about.hashes.get(name, "").removeprefix("sha256:"))
    if networks != () and commit.has(CARD):
        commit.fetch(CARD, limit=MAX_CARD_BYTES)
    for inside in _trained_places(commit, networks):
        _fetch_network(commit, inside)
    return Pulled(config.parent, repo_id, commit.sha)


def _trained_places(commit: downloads.Commit, wished: _Wished = None) -> list[str]:
    """Return the folders of the trained networks that a repository has, of those that are wished."""
    if wished == ():
        return []
    results = files.read_json(commit.fetch(RESULTS, limit=files.MAX_JSON_BYTES))
    places = folder.trained_places(folder.trained_seeds(results))
    named = places if wished is None else [place for place in places if Path(place).name in wished]
    return [place for place in named if commit.has(f"{place}/{CONFIG}")]


def _fetch_network(commit: downloads.Commit, inside: str) -> Path:
    """Fetch one trained network of a verdict, which is a ticket folder of its own."""
    place = commit.fetch(f"{inside}/{CONFIG}", limit=MAX_CONFIG_BYTES).parent
    about = folder.read_about(place)
    for needed, limit in _needed(about).items():
        sha256 = about.hashes.get(needed, "").removeprefix("sha256:")
        commit.fetch(f"{inside}/{needed}", limit=limit, sha256=sha256)
    return place


def _pinned(pulled: Pulled) -> downloads.Commit:
    """Return the commit that was pulled, to fetch more of it."""
    assert pulled.repo_id is not None
    return downloads.pin(pulled.repo_id, pulled.commit, patience=Patience())


def _published_networks(pulled: Pulled) -> list[str]:
    return [Path(place).name for place in _trained_places(_pinned(pulled))]


def _published_network(pulled: Pulled, name: str) -> Ticket | None:
    commit = _pinned(pulled)
    places = _trained_places(commit, (name,))
    return folder.load_ticket(_fetch_network(commit, places[0])) if places else None


def _from_address(address: str, patience: Patience) -> Pulled:
    """Copy the files of a ticket from where an address leads into a folder of the cache."""
    place = open_address(address, patience)
    if isinstance(place, str):
        return Pulled(folder.find_folder(place))
    shown = redacted(printable(address))

    def read(name: str, limit: int) -> bytes:
        content = place.read(name, limit)
        if content is None:
            raise TicketError(f"{shown}: {name} is not there; an address leads to a folder with a {CONFIG}")
        return content

    target = downloads.cache_folder() / hashlib.sha256(address.encode()).hexdigest()
    with atomic.new_folder(target, foreign=atomic.nothing) as fresh:
        (fresh / CONFIG).write_bytes(read(CONFIG, MAX_CONFIG_BYTES))
        about = folder.read_about(fresh)
        for name, limit in _needed(about).items():
            content = read(name, limit)
            if files.sha256_of(content) != about.hashes.get(name):
                content = read(name, limit)  # a second time; what is still wrong is refused where it is loaded
            (fresh / name).write_bytes(content)
        card = place.read(CARD, MAX_CARD_BYTES)
        if card is not None:
            (fresh / CARD).write_bytes(card)
    return Pulled(target)


def _needed(about: BackboneManifest) -> dict[str, int]:
    """Return the files besides config.json without which there is no ticket, and the most bytes that each may have."""
    return {folder.weights_path(Path(), about).name: folder.max_weights_bytes(about), RESULTS: files.MAX_JSON_BYTES}


def _copy(source: Path, target: Path, networks: _Wished, overwrite: bool) -> Path:
    """Copy a ticket's files to a new folder, or in place of an older copy; nothing else is ever replaced."""
    if _holds(target, source, networks):
        return target
    with atomic.new_folder(target, foreign=_first_not_copied, overwrite=overwrite) as fresh:
        folder.copy_files(source, fresh, card=True, trained=networks)
    return target


def _holds(target: Path, source: Path, wished: _Wished) -> bool:
    """Whether a folder holds the files of another already, whatever it holds besides; it may be the same folder."""
    networks = folder.trained_folders(source)
    for place in (source, *(networks[name] for name in networks if wished is None or name in wished)):
        inside = place.relative_to(source)
        for name in (CONFIG, *_needed(folder.read_about(place))):
            there = target / inside / name
            if not (files.is_file(there) and filecmp.cmp(place / name, there, shallow=False)):
                return False
    return True


def _first_not_copied(place: Path) -> str | None:
    """Return the first thing in a folder that is not ours, or that was made here: a trained network.

    A copy has those of the ticket with seed 0 at most, where a find leaves dense ones beside them.
    """
    found = ownership.first_foreign(place, trained=DEPLOYED)
    if found is None and files.is_file(place / CONFIG) and "transfer" in files.read_json(place / RESULTS):
        return folder.weights_path(place, folder.read_about(place)).name
    return found
