"""Names that come from outside: each is parsed once, at the door, into what it can only be.

A commit, a branch, a repository's id, a file's path and a file's digest arrive from a server, from a stranger's records
or from a command line, and end in paths and requests. Each kind has one function here, which takes whatever arrived,
returns it as it was, and refuses what is no such name:

    names.commit(info.sha, DownloadError)       40 hex digits
    names.digest(etag, DownloadError)           40 or 64 hex digits
    names.revision("refs/pr/1", ConfigError)    a branch, tag or commit
    names.repo_id("alice/digits", ConfigError)  of a repository on the Hub
    names.dataset_id("org/name/config", …)      of a dataset on the Hub, perhaps with a configuration
    names.path("trained/a/config.json", …)      of a file in a repository

A name that is joined to a folder goes through `below`, which also follows the links that lie on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lottery_hub.errors import LotteryHubError, printable

Refusal = type[LotteryHubError]

MAX_REVISION_BYTES = 200  # a file of the client's cache is named like it, and file systems end at 255
MAX_PATH_BYTES = 1000  # on the way to the 4,096 of most systems, with the cache's own folders before it
MAX_NAME_BYTES = 255  # of one file or folder, which is where file systems end
MAX_ID_LETTERS = 96  # of either half of an id, as the Hub has it

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_NO_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_NO_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


def commit(text: object, error: Refusal = LotteryHubError) -> str:
    """Return the id of a commit: 40 hex digits, small letters.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_commit, error, "a commit: it has 40 hex digits")


def digest(text: object, error: Refusal = LotteryHubError) -> str:
    """Return a digest, which is what a file's ETag is on the Hub: git's sha1 or a sha256, in hex, small letters.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_digest, error, "a digest: it has 40 or 64 hex digits")


def revision(text: object, error: Refusal = LotteryHubError) -> str:
    """Return a branch, tag or commit, as `git check-ref-format` has it, of at most 200 bytes.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_revision, error, "a branch, tag or commit")


def repo_id(text: object, error: Refusal = LotteryHubError) -> str:
    """Return the id of a repository, USER/NAME, under the rules of the Hub.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_repo_id, error, "a valid repository id: it looks like USER/NAME")


def dataset_id(text: object, error: Refusal = LotteryHubError) -> str:
    """Return the id of a dataset on the Hub, org/name or, where it has several, org/name/config.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_dataset_id, error, "a dataset's id: it looks like org/name or org/name/config")


def path(text: object, error: Refusal = LotteryHubError) -> str:
    """Return the path of a file in a repository: parts with "/" between them that lead nowhere but down.

    Raises:
        LotteryHubError: `error`, it is something else.
    """
    return _checked(text, _is_path, error, "the path of a file in a repository")


def below(root: Path, relative: object, error: Refusal = LotteryHubError) -> Path:
    """Return `root / relative`, which is a place below `root`, also with every link on the way resolved.

    Raises:
        LotteryHubError: `error`, it is no `path`, or a link leads out.
    """
    place = root / path(relative, error)
    try:
        inside = place.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as problem:  # pathlib's word for links in a circle is RuntimeError
        raise error(f"cannot follow {printable(place)}: {printable(problem)}") from problem
    if not inside:
        raise error(f"{printable(place)} leads out of {printable(root)}")
    return place


def fits(kind: Callable[[object, Refusal], str], text: object) -> bool:
    """Whether a function of this module takes `text`, e.g. `fits(repo_id, "alice/digits")`."""
    try:
        kind(text, LotteryHubError)
    except LotteryHubError:
        return False
    return True


def _checked(text: object, holds: Callable[[str], bool], error: Refusal, what: str) -> str:
    if not isinstance(text, str) or not holds(text):
        shown = printable(text, 80) if text != "" else "an empty name"
        raise error(f"{shown} is not {what}")
    return text


def _bytes(text: str) -> int:
    """Return how long a name is on a disk; half a character, which none can hold, is as long as can be."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return MAX_PATH_BYTES + 1


def _is_commit(text: str) -> bool:
    return bool(_COMMIT.fullmatch(text))


def _is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def _is_revision(text: str) -> bool:
    parts = text.split("/")
    return (
        0 < _bytes(text) <= MAX_REVISION_BYTES
        and not _NO_REVISION.search(text)
        and all(part and part[0] != "." and not part.endswith(".lock") for part in parts)
        and not text.startswith("-")
        and not text.endswith(".")
        and text != "@"
    )


def _is_id_part(text: str) -> bool:
    return (
        len(text) <= MAX_ID_LETTERS
        and bool(_ID.fullmatch(text))
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def _is_repo_id(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(map(_is_id_part, parts))


def _is_dataset_id(text: str) -> bool:
    parts = text.split("/")
    return len(parts) in (2, 3) and all(map(_is_id_part, parts))


def _is_path(text: str) -> bool:
    parts = text.split("/")
    return (
        0 < _bytes(text) <= MAX_PATH_BYTES
        and not _NO_PATH.search(text)
        and all(part not in ("", ".", "..") and _bytes(part) <= MAX_NAME_BYTES for part in parts)
    )
