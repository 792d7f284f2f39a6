"""The cache of the Hub's client: what is put there, found there, noted there and removed again.

The client builds paths from what a server sends: it stores a file under its ETag, and notes a missing one under the
commit that the answer names. Either may be a path that leads anywhere. Here each answer is checked before the client
gets it, and nothing is written or removed but entries of the repository's own folder:

    models--USER--NAME/
      refs/REVISION            holds the commit that a branch or tag stands for
      snapshots/COMMIT/PATH    a link to the contents, or where links cannot be made the contents
      blobs/DIGEST             the contents, or a link into a store that repositories share
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lottery_hub.errors import DownloadError, printable
from lottery_hub.fetching import bounded, names

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class Expected:
    """What an answer must be about: a file of a repository at a commit."""

    repo_id: str
    sha: str
    filename: str


_CHECK = "check HF_ENDPOINT, somebody else may be answering"


def home(repo_id: str, repo_type: RepoType) -> Path:
    """Return the folder of a repository; there may be none yet."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=names.repo_id(repo_id, DownloadError), repo_type=repo_type)
    return Path(constants.HF_HUB_CACHE).expanduser().resolve() / name


def download(repo_id: str, repo_type: RepoType, sha: str, filename: str, *, anew: bool = False) -> Path:
    """Fetch a file at a commit through the client; whatever its answers name is checked before it is used.

    Args:
        repo_id, repo_type, sha, filename: what to fetch.
        anew: also where the contents seem to be in the cache.

    Raises:
        DownloadError: an answer is about something else, or names contents by what is no digest.
    """
    from huggingface_hub import hf_hub_download

    expected = Expected(
        names.repo_id(repo_id, DownloadError), names.commit(sha, DownloadError), names.path(filename, DownloadError)
    )
    at = home(repo_id, repo_type)
    _check_listing(at, expected)
    bounded.install()
    with bounded.looking(partial(check_answer, expected)):
        path = hf_hub_download(repo_id, filename, repo_type=repo_type, revision=sha, force_download=anew)
    found = _entry(at, sha, filename, path)
    if found is None:
        raise DownloadError(f"{printable(path)} led out of the cache, and the client took it for a file of {repo_id}")
    return found


def find(repo_id: str, repo_type: RepoType, sha: str, filename: str) -> Path | None:
    """Return a file that is in the cache, None where it is not."""
    from huggingface_hub import try_to_load_from_cache

    at = home(repo_id, repo_type)
    found = try_to_load_from_cache(repo_id, names.path(filename, DownloadError), revision=sha, repo_type=repo_type)
    return _entry(at, sha, filename, found) if isinstance(found, str) else None


def snapshots(filename: str) -> Iterator[tuple[str, Path]]:
    """Yield every commit of a model repository of which this file is in the cache, as a reference and its folder.

    The reference is `USER/NAME` where that is what "main" stood for when last downloaded, else `USER/NAME@COMMIT`.
    What bears another name than the client gives, or leads out of the cache, is none.
    """
    from huggingface_hub import constants

    for place in sorted(Path(constants.HF_HUB_CACHE).expanduser().glob("models--*--*/snapshots/*")):
        repo_id = place.parents[1].name.removeprefix("models--").replace("--", "/", 1)
        if not names.fits(names.repo_id, repo_id) or not names.fits(names.commit, place.name):
            continue
        inside = place.resolve().parent == home(repo_id, "model") / "snapshots"
        if inside and find(repo_id, "model", place.name, filename):
            newest = remembered(repo_id, "model", "main") == place.name
            yield (repo_id if newest else f"{repo_id}@{place.name}"), place


def evict(path: Path, repo_id: str, repo_type: RepoType) -> None:
    """Remove a file from a snapshot, and the contents that it stands for, so that it is fetched afresh."""
    _remove(path, home(repo_id, repo_type))


def remember(repo_id: str, repo_type: RepoType, revision: str | None, sha: str) -> None:
    """Note which commit a branch or tag stands for, so that it is known offline too.

    The client does this where it resolves a revision itself; here it is only ever asked for commits.
    """
    from huggingface_hub import constants

    if revision == sha or constants.HF_HUB_OFFLINE:
        return
    references = home(repo_id, repo_type) / "refs"
    # It only serves later runs offline: a cache that cannot be written to, or a branch `a` beside `a/b`, is no failure.
    with suppress(OSError, DownloadError):
        place = names.below(references, names.revision(revision or "main", DownloadError), DownloadError)
        if references.is_symlink() or (place.is_file() and place.read_text() == sha):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f".{secrets.token_hex(8)}")
        try:
            with scratch.open("x") as file:
                file.write(sha)
            scratch.replace(place)
        finally:
            scratch.unlink(missing_ok=True)


def remembered(repo_id: str, repo_type: RepoType, revision: str | None) -> str | None:
    """Return the commit that a branch or tag stood for when last downloaded, None where that is not known."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionResolutionError

    try:
        found = HfApi().resolve_revision(repo_id, repo_type=repo_type, revision=revision, local_files_only=True)
    except RevisionResolutionError:
        return None
    return str(found.resolved) if names.fits(names.commit, found.resolved) else None


def _remove(path: Path, home: Path) -> None:
    """Remove a snapshot's entry and the blob it names, both only where they are entries of the folder `home`.

    What they may be links to is not looked at, and stays.
    """
    inside = path.parent.resolve()
    if not inside.is_relative_to(home.resolve() / "snapshots"):
        return
    blob = inside / path.readlink() if path.is_symlink() else None
    path.unlink(missing_ok=True)
    if blob is not None and names.fits(names.digest, blob.name) and blob.parent.resolve() == home.resolve() / "blobs":
        (home / "blobs" / blob.name).unlink(missing_ok=True)


def _entry(home: Path, sha: str, filename: str, found: str) -> Path | None:
    """Return what the client found, if it is the entry of a file, with its contents in the cache.

    An entry that leads out of the cache, as a client that did not check may have left it, is removed.
    """
    path, snapshot = Path(found), home / "snapshots" / sha
    place = snapshot / filename
    if (path.parent.resolve(), path.name) != (place.parent.resolve(), place.name):
        return None
    target = path.resolve()
    if any(target.is_relative_to(inside.resolve()) for inside in (home.parent, home / "blobs", snapshot)):
        return path
    _remove(path, home)
    return None


def _check_listing(home: Path, expected: Expected) -> None:
    """Check what the client has kept of a commit's list of files: it may take an ETag from there, and ask nobody."""
    try:
        from huggingface_hub._tree_cache import read_tree_cache
    except ImportError:  # a version that keeps no lists
        return
    entry = (read_tree_cache(str(home.resolve()), expected.sha) or {}).get(expected.filename)
    if entry is not None and entry.lfs_sha256 is not None:
        _check_digest(entry.lfs_sha256, expected)


def check_answer(expected: Expected, response: Any) -> None:
    """Refuse an answer about a file from which the client would make another path.

    Raises:
        DownloadError: it is of another commit, or names the contents by what is no digest.
    """
    commit = response.headers.get("X-Repo-Commit")
    if response.request.method != "HEAD" or commit is None:
        return  # without a commit the client makes nothing of an answer
    if commit != expected.sha:
        raise DownloadError(
            f"{expected.repo_id}: asked for {printable(expected.filename)} at {expected.sha[:12]}, the Hub answers for "
            f"{printable(commit, 80)}; {_CHECK}"
        )
    if response.status_code < 400:
        told = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
        if told:
            _check_digest(told.removeprefix("W/").strip('"'), expected)


def _check_digest(told: object, expected: Expected) -> None:
    if not names.fits(names.digest, told):
        raise DownloadError(
            f"{expected.repo_id}: the Hub names the contents of {printable(expected.filename)} by "
            f"{printable(told, 80)}, which is no digest; {_CHECK}"
        )
