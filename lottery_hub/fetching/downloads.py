"""Files of the Hugging Face Hub at one commit, checked on arrival.

The client checks sizes, not contents, and resolves a branch anew at every call. Here a revision is resolved
to a commit once, everything is fetched at that commit, and contents are compared with their checksums:
the one a caller knows, the one the Hub lists, and the one that names a file in the client's cache.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lottery_hub.errors import DownloadError, NoSuchFilesError, printable
from lottery_hub.fetching import hub_cache, names
from lottery_hub.fetching.answers import Listed, describe
from lottery_hub.fetching.bounded import MAX_ANSWER_BYTES
from lottery_hub.fetching.connection import Conversation, Patience
from lottery_hub.fetching.hub_cache import RepoType

# Files may be large and lines slow: a transfer that goes on is not given up.
UNHURRIED = Patience(deadline=None)
AT_A_TIME = 8  # files of a snapshot, as the client has it


@dataclass
class Commit:
    """A repository at one commit, and its files.

    Attributes:
        repo_id: "org/name".
        repo_type: "model" or "dataset".
        revision: the branch, tag or commit that was asked for; None means "main".
        sha: the commit.
        talk: the conversation that everything is asked in.
    """

    repo_id: str
    repo_type: RepoType
    revision: str | None
    sha: str
    talk: Conversation
    _listed: Mapping[str, Listed] | None = field(default=None, repr=False)

    @property
    def files(self) -> Mapping[str, Listed]:
        """Path → file, of all files; asked for when first needed."""
        if self._listed is None:
            self._listed = describe(self.talk, self.repo_id, self.repo_type, self.sha).files
        return self._listed

    def has(self, filename: str) -> bool:
        """Whether there is such a file; offline, whether it is in the client's cache."""
        from huggingface_hub import constants

        return self._cached(filename) is not None or (not constants.HF_HUB_OFFLINE and filename in self.files)

    def fetch(self, filename: str, *, limit: int | None = None, sha256: str | None = None) -> Path:
        """Return a file, from the client's cache where it is there; damaged contents are fetched once more.

        Args:
            filename: path in the repository.
            limit: bytes beyond which it is refused, before it is fetched.
            sha256: the contents' hex digest, where the caller knows it.

        Raises:
            DownloadError: the Hub did not deliver, or delivered other contents.
        """
        from huggingface_hub import constants

        offline = constants.HF_HUB_OFFLINE
        repo, name = printable(self.repo_id), printable(filename)
        for again in (False, True):
            path = self._cached(filename)
            listed = None
            if path is None and not offline:
                listed = self.files.get(filename)
                if listed is None:
                    raise DownloadError(
                        f"{repo} at {printable(self.revision or 'main')} has no file {name}: check its name"
                    )
                if limit is not None and listed.size > limit:
                    raise DownloadError(f"{repo}: {name} has {listed.size:,} bytes, more than it may have ({limit:,})")
            if path is None:
                # A second time not from contents that repositories share: those were damaged.
                path = self.talk.ask(
                    partial(self._download, filename, anew=again),
                    repo,
                    self.revision,
                    filename,
                    most=listed.size if listed else MAX_ANSWER_BYTES,
                )
            if not path.is_file():
                raise DownloadError(
                    f"{repo}: {name} is no file in the local cache; remove {printable(path)}, try again"
                )
            if limit is not None and path.stat().st_size > limit:
                raise DownloadError(f"{repo}: {name} has more bytes than it may have ({limit:,})")
            if _intact(path, listed, sha256):
                hub_cache.remember(self.repo_id, self.repo_type, self.revision, self.sha)
                return path
            hub_cache.evict(path, self.repo_id, self.repo_type)
            if offline:
                raise DownloadError(
                    f"{repo}: {name} is damaged in the local cache and was removed; unset HF_HUB_OFFLINE and try again"
                )
        expected = "the expected sha256" if sha256 else "the contents that the Hub lists"
        raise DownloadError(
            f"{repo}: {name} at {self.sha[:12]} does not have {expected}, "
            "also when fetched again; the file was changed or is damaged on the way"
        )

    def _download(self, filename: str, anew: bool) -> Path:
        return hub_cache.download(self.repo_id, self.repo_type, self.sha, filename, anew=anew)

    def _cached(self, filename: str) -> Path | None:
        return hub_cache.find(self.repo_id, self.repo_type, self.sha, filename)


def pin(
    repo_id: str, revision: str | None = None, *, repo_type: RepoType = "model", patience: Patience | None = None
) -> Commit:
    """Resolve a revision to a commit, once; offline, to the one it stood for when last downloaded.

    Args:
        repo_id: "org/name".
        revision: branch, tag or commit; None means "main".
        repo_type: "model" or "dataset".
        patience: for this and everything that is fetched from the commit.

    Raises:
        DownloadError: there is no such repository or revision, or the Hub cannot be asked.
    """
    from huggingface_hub import constants

    names.repo_id(repo_id, DownloadError)
    if revision is not None:
        names.revision(revision, DownloadError)
    talk = Conversation(patience)
    if names.fits(names.commit, revision):
        return Commit(repo_id, repo_type, revision, str(revision), talk)
    if not constants.HF_HUB_OFFLINE:
        # What is asked first is small: no server may take for ever over it, however long its files may take.
        asking = talk if talk.end is not None else Conversation(replace(talk.patience, deadline=Patience.deadline))
        there = describe(asking, repo_id, repo_type, revision)
        return Commit(repo_id, repo_type, revision, there.sha, talk, there.files)
    known = hub_cache.remembered(repo_id, repo_type, revision)
    if known is None:
        raise DownloadError(
            f"{repo_id}: revision {printable(revision or 'main')} is not in the local cache and HF_HUB_OFFLINE is set; "
            "unset it and run once online"
        )
    return Commit(repo_id, repo_type, revision, known, talk)


def fetch_file(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    repo_type: RepoType = "model",
    sha256: str | None = None,
) -> tuple[Path, str]:
    """Fetch one file at one commit.

    Args:
        repo_id: "org/name".
        filename: path in the repository.
        revision: branch, tag or commit; None means "main".
        repo_type: "model" or "dataset".
        sha256: the contents' expected hex digest; a mismatch is fetched once more before it is an error.

    Returns:
        The local file, and the commit it belongs to.

    Raises:
        DownloadError: the Hub did not deliver, or delivered other contents.
    """
    commit = pin(repo_id, revision, repo_type=repo_type, patience=UNHURRIED)
    return commit.fetch(filename, sha256=sha256), commit.sha


def fetch_snapshot(
    repo_id: str, *, repo_type: RepoType, revision: str | None, patterns: Sequence[str]
) -> tuple[Path, str]:
    """Fetch the files of a repository that match any of `patterns`, all at one commit.

    Args:
        repo_id: "org/name".
        repo_type: "model" or "dataset".
        revision: branch, tag or commit; None means "main".
        patterns: file patterns as of `fnmatch`, matched against the path in the repository.

    Returns:
        The local folder with the files, and the commit they belong to.

    Raises:
        DownloadError: the Hub did not deliver.
        NoSuchFilesError: a pattern matches no file.
    """
    from huggingface_hub import constants, snapshot_download

    commit = pin(repo_id, revision, repo_type=repo_type, patience=UNHURRIED)
    sha = commit.sha
    folder = hub_cache.home(repo_id, repo_type) / "snapshots" / sha

    def snapshot(patterns: Sequence[str]) -> None:
        commit.talk.ask(
            lambda: snapshot_download(repo_id, repo_type=repo_type, revision=sha, allow_patterns=list(patterns)),
            repo_id,
            revision,
        )

    if constants.HF_HUB_OFFLINE:
        snapshot(patterns)  # fetches nothing, and fails where the client knows that files are missing
        there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    else:
        there = list(commit.files)
    wanted = [name for name in sorted(there) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in wanted):
            raise NoSuchFilesError(
                f"{printable(repo_id)} at {sha[:12]} has no file matching {printable(pattern)!r}, "
                "or it was never downloaded and the Hub is offline; check the id and the revision",
                there,
            )
    first, *others = wanted
    commit.fetch(first)
    if not constants.HF_HUB_OFFLINE:
        snapshot([glob.escape(first)])  # which is there: the client now notes what else belongs to the commit
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(commit.fetch, others))
    return folder, sha


def cache_folder() -> Path:
    """Return the folder beside the client's cache for what comes from elsewhere."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "lottery_hub"


def digests(content: bytes) -> set[str]:
    """Return the two digests that the Hub may list a file by: sha256, and git's sha1 of small text files."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return {hashlib.sha256(content).hexdigest(), git.hexdigest()}


def _intact(path: Path, listed: Listed | None = None, sha256: str | None = None) -> bool:
    """Say whether a file has the contents it should have, by every digest that is known.

    A file of a snapshot is a link to a blob: large ones are named by their sha256, others by git's sha1.
    Where the file system has no links there is no such name.
    """
    named = path.readlink().name if path.is_symlink() else ""  # one step: a blob may itself be a link into a store
    known = [digest.lower() for digest in (sha256 or "", listed.digest if listed else "", named) if digest]
    return all(_digest(path, len(digest)) == digest for digest in known if names.fits(names.digest, digest))


def _digest(path: Path, length: int) -> str:
    """Return a file's sha256 where that is the digest of this many digits, else git's sha1."""
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256" if length == 64 else lambda: git).hexdigest()
