"""Files of the Hugging Face Hub at one commit, checked on arrival.

The client checks sizes, not contents, and resolves a branch anew at every call. Here a revision is resolved
to a commit once, everything is fetched at that commit, and contents are compared with their checksums:
the one a caller knows, and the one that names a file in the client's cache.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

from lottery_hub.errors import DownloadError, printable

RepoType = Literal["model", "dataset"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


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
        DownloadError: the Hub did not deliver, or a pattern matches no file.
    """
    from huggingface_hub import snapshot_download

    for last_try in (False, True):
        with _one_line_errors(repo_id, revision):
            sha = _commit(repo_id, repo_type, revision)
            folder = Path(snapshot_download(repo_id, repo_type=repo_type, revision=sha, allow_patterns=list(patterns)))
            files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
            matching = {
                name: f for name, f in files.items() if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            }
            _remember(folder, revision, sha)
            damaged = [name for name, f in matching.items() if not _matches_cache_name(f)]
            for name in damaged:
                _evict(matching[name])
        if not damaged:
            break
        if last_try:
            raise DownloadError(
                f"{printable(repo_id)}: {printable(damaged[0])} arrived damaged twice; try again later or elsewhere"
            )
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in files):
            raise DownloadError(
                f"{printable(repo_id)} at {sha[:12]} has no file matching {printable(pattern)!r}, "
                "or it was never downloaded and the Hub is offline; check the id and the revision"
            )
    return folder, sha


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
    from huggingface_hub import hf_hub_download

    for _ in range(2):
        with _one_line_errors(repo_id, revision, filename):
            sha = _commit(repo_id, repo_type, revision)
            path = Path(hf_hub_download(repo_id, filename, repo_type=repo_type, revision=sha))
            _remember(path.parents[len(PurePosixPath(filename).parts) - 1], revision, sha)
            if sha256 is None and _matches_cache_name(path):
                return path, sha
            if sha256 is not None and _sha256(path) == sha256.lower():
                return path, sha
            _evict(path)
    raise DownloadError(
        f"{printable(repo_id)}: {printable(filename)} at {sha[:12]} does not have the expected sha256, "
        "also when fetched again; the file was changed or is damaged on the way"
    )


def _commit(repo_id: str, repo_type: RepoType, revision: str | None) -> str:
    """Return the commit that a revision stands for; offline, the one it stood for when last downloaded."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    if not constants.HF_HUB_OFFLINE:
        info = HfApi().repo_info(repo_id, repo_type=repo_type, revision=revision)
        if not info.sha:
            raise DownloadError(f"{printable(repo_id)}: the Hub named no commit for {printable(revision or 'main')}")
        return str(info.sha)
    # A pattern that no file has: this looks the reference up in the cache, complete or not.
    folder = snapshot_download(
        repo_id, repo_type=repo_type, revision=revision, local_files_only=True, allow_patterns=["?*/./?*"]
    )
    return Path(folder).name


def _remember(snapshot: Path, revision: str | None, sha: str) -> None:
    """Note in the client's cache which commit a branch or tag stands for, so that it is known offline too.

    The client does this where it resolves a revision itself; here it is only ever asked for commits.
    """
    from huggingface_hub import constants

    reference = snapshot.parent.parent / "refs" / (revision or "main")
    if revision == sha or constants.HF_HUB_OFFLINE or ".." in reference.parts:
        return
    reference.parent.mkdir(parents=True, exist_ok=True)
    scratch = reference.with_name(f".{reference.name}.{os.getpid()}")
    scratch.write_text(sha)
    scratch.replace(reference)


def _matches_cache_name(path: Path) -> bool:
    """Say whether contents agree with their name in the client's cache, which is a checksum.

    A file of a snapshot is a link to a blob: large ones are named by their sha256, others by git's sha1.
    Where the file system has no links there is no such name, and the file passes unchecked.
    """
    if not path.is_symlink():
        return True
    name = path.readlink().name  # one step: a blob may itself be a link into a store with names of its own
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return _sha256(path) == name
    if re.fullmatch(r"[0-9a-f]{40}", name):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _evict(path: Path) -> None:
    """Remove a file from the cache, the link and all that it points to, so that it is fetched afresh."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what the HTTP library behind the client raises; which library that is depends on its version."""
    found: list[type[Exception]] = []
    for library in ("httpx2", "httpx"):  # the errors of requests, used before these, are OSErrors
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        found += [module.HTTPError, module.InvalidURL]
    return tuple(found)


@contextmanager
def _one_line_errors(repo_id: str, revision: str | None, filename: str | None = None) -> Iterator[None]:
    """Turn every failure of the client into one line that names the repository, the problem and the fix."""
    from huggingface_hub import constants, errors

    repo, at = printable(repo_id), printable(revision or "main")
    try:
        yield
    except errors.GatedRepoError as e:
        raise DownloadError(f"{repo} is gated: accept its terms on the Hub and log in with `hf auth login`") from e
    except errors.RepositoryNotFoundError as e:
        raise DownloadError(
            f"{repo} is not on the Hub, or is private: check the id, or log in with `hf auth login`"
        ) from e
    except errors.RevisionNotFoundError as e:
        raise DownloadError(f"{repo} has no revision {at}: check the branch, tag or commit") from e
    except errors.HFValidationError as e:
        raise DownloadError(f"{repo} is not a valid repository id: it looks like org/name") from e
    except errors.LocalEntryNotFoundError as e:
        if constants.HF_HUB_OFFLINE:
            what = printable(filename) if filename else f"revision {at}"
            raise DownloadError(
                f"{repo}: {what} is not in the local cache and HF_HUB_OFFLINE is set; unset it and run once online"
            ) from e
        raise DownloadError(f"{repo}: the Hub cannot be reached; check the connection ({_first_line(e)})") from e
    except errors.EntryNotFoundError as e:
        raise DownloadError(f"{repo} at {at} has no file {printable(filename or '')}: check its name") from e
    except errors.HfHubHTTPError as e:
        status = getattr(getattr(e, "response", None), "status_code", "an error")
        raise DownloadError(f"{repo}: the Hub answered {status}; try again later ({_first_line(e)})") from e
    except OSError as e:
        raise DownloadError(f"{repo}: download failed; check the connection and the disk ({_first_line(e)})") from e
    except _connection_errors() as e:
        raise DownloadError(f"{repo}: the Hub cannot be reached; check the connection ({_first_line(e)})") from e


def _first_line(error: BaseException) -> str:
    return printable(next(iter(str(error).strip().splitlines()), type(error).__name__))
