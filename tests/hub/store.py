"""Repositories on disk: blobs by sha256, and commits, branches and tags as JSON files.

It knows nothing of HTTP, so that a test can prepare a repository, or look at what a client left in one, without
asking the server that it is testing.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ENDINGS = "arrow bin ckpt gz h5 msgpack npz onnx parquet pkl png pt pth safetensors tar zip"
LARGE_PATTERNS = tuple(f"*.{ending}" for ending in _ENDINGS.split())
LARGE_SIZE = 10 * 2**20
ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE_PATTERNS).encode()
_KEY = re.compile(r"(models|datasets)/[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_REF = re.compile(r"(?!.*(\.\.|//|\.lock$))[A-Za-z0-9_][\w./+-]*(?<![/.])", re.ASCII)


class StoreError(Exception):
    """What was asked of the store cannot be."""


class RepoMissingError(StoreError):
    """There is no such repository."""


class RepoExistsError(StoreError):
    """There is such a repository already."""


class RevisionMissingError(StoreError):
    """The repository has no such branch, tag or commit."""


class EntryMissingError(StoreError):
    """The commit has no such file."""


class RefExistsError(StoreError):
    """There is such a branch or tag already."""


class InvalidError(StoreError):
    """A name, a reference or a file is not one the Hub takes."""


class StaleParentError(StoreError):
    """The branch has moved on from the commit that this one was to follow."""


@dataclass(frozen=True)
class Entry:
    """A file of a commit: `large` ones are kept as LFS, so their blob of git is a pointer."""

    sha256: str
    size: int
    sha1: str
    large: bool

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return text.encode()

    @property
    def blob_id(self) -> str:
        return git_sha1(self.pointer) if self.large else self.sha1


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, Entry]


@dataclass(frozen=True)
class Repo:
    key: str
    private: bool
    gated: bool
    created: str
    branches: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]


class Store:
    """Repositories in `folder`, by keys such as "models/org/name" or "datasets/org/name".

    Every change is one file put in place by a rename, so that a reader sees it whole or not at all, and a new store
    on the same folder has everything.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()
        for name in ("blobs", "repos", "trash"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def lock(self, key: str) -> threading.RLock:
        """Return the lock to hold while reading something of a repository in order to change it."""
        with self._guard:
            return self._locks.setdefault(key, threading.RLock())

    # Repositories

    def create(self, key: str, private: bool = False, gated: bool = False) -> str:
        """Make a repository of one commit that holds .gitattributes, as the Hub does; return that commit."""
        if not _KEY.fullmatch(key) or "--" in key or ".." in key or key.endswith(".git") or len(key) > 200:
            raise InvalidError(f"Invalid repo name: {key.partition('/')[2]}")
        with self.lock(key):
            if (self._at(key) / "repo.json").exists():
                raise RepoExistsError(key)
            first = {".gitattributes": self.small(ATTRIBUTES)}
            return self._grow(Repo(key, private, gated, _now(), {"main": ""}, {}), "main", first, "initial commit")

    def delete(self, key: str) -> None:
        with self.lock(key):
            self.repo(key)
            trash = self._folder / "trash" / uuid.uuid4().hex
            self._at(key).rename(trash)
        shutil.rmtree(trash, ignore_errors=True)

    def settings(self, key: str, private: bool | None = None, gated: bool | None = None) -> None:
        """Change what is not None."""
        with self.lock(key):
            asked = {"private": private, "gated": gated}
            changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
            self._save(replace(self.repo(key), **changes))

    def repo(self, key: str) -> Repo:
        if not _KEY.fullmatch(key):
            raise RepoMissingError(key)
        try:
            return Repo(**json.loads((self._at(key) / "repo.json").read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise RepoMissingError(key) from None

    def repos(self) -> list[str]:
        """Return the keys of all repositories, in order."""
        found = (self._folder / "repos").glob("*/*/*/repo.json")
        return sorted(path.parent.relative_to(self._folder / "repos").as_posix() for path in found)

    # Commits

    def commit(
        self,
        key: str,
        files: Mapping[str, bytes],
        branch: str = "main",
        message: str = "",
        delete: Iterable[str] = (),
        author: str | None = None,
    ) -> str:
        """Add or replace `files`, making the repository and the branch where they are missing; return the commit."""
        with self.lock(key):
            with suppress(RepoExistsError):
                self.create(key)
            if branch not in self.repo(key).branches:
                self.branch(key, branch)
            changes: dict[str, Entry | None] = dict.fromkeys(delete)
            changes |= {path: self._keep(key, path, content) for path, content in files.items()}
            return self.apply(key, changes, message or f"Change {', '.join(changes)}", branch=branch, author=author)

    def apply(
        self,
        key: str,
        changes: Mapping[str, Entry | None],
        title: str,
        message: str = "",
        branch: str = "main",
        author: str | None = None,
        parent: str | None = None,
    ) -> str:
        """Commit what is stored already; None removes a file.

        Raises:
            StaleParentError: `parent` is given, and is not the head of the branch.
        """
        with self.lock(key):
            repo = self.repo(key)
            if branch not in repo.branches:
                raise RevisionMissingError(branch)
            if parent is not None and parent != repo.branches[branch]:
                raise StaleParentError(parent)
            return self._grow(repo, branch, changes, title, message, author)

    def head(self, key: str, branch: str = "main") -> str:
        branches = self.repo(key).branches
        if branch not in branches:
            raise RevisionMissingError(branch)
        return branches[branch]

    def at(self, key: str, revision: str = "main") -> Commit:
        """Return the commit that a branch, a tag or a full sha names."""
        repo = self.repo(key)
        sha = repo.branches.get(revision) or repo.tags.get(revision) or revision
        path = self._at(key) / "commits" / f"{sha}.json"
        if not re.fullmatch(r"[0-9a-f]{40}", sha) or not path.exists():
            raise RevisionMissingError(revision)
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["files"] = {name: Entry(**entry) for name, entry in fields["files"].items()}
        return Commit(**fields)

    def log(self, key: str, revision: str = "main") -> list[Commit]:
        """Return the commits that lead to a revision, newest first."""
        found = [self.at(key, revision)]
        while found[-1].parent:
            found.append(self.at(key, found[-1].parent))
        return found

    def commits(self, key: str, branch: str = "main") -> list[str]:
        """Return the shas of the commits of a branch, newest first."""
        return [commit.sha for commit in self.log(key, branch)]

    def files(self, key: str, revision: str = "main") -> dict[str, bytes]:
        return {path: self.read(entry.sha256) for path, entry in self.at(key, revision).files.items()}

    # Branches and tags

    def branches(self, key: str) -> dict[str, str]:
        return dict(self.repo(key).branches)

    def tags(self, key: str) -> dict[str, str]:
        return dict(self.repo(key).tags)

    def branch(self, key: str, name: str, revision: str = "main") -> None:
        self._point(key, "branches", name, revision)

    def tag(self, key: str, name: str, revision: str = "main") -> None:
        self._point(key, "tags", name, revision)

    def unbranch(self, key: str, name: str) -> None:
        if name == "main":
            raise InvalidError("Cannot delete the main branch")
        self._forget(key, "branches", name)

    def untag(self, key: str, name: str) -> None:
        self._forget(key, "tags", name)

    # Contents

    def put(self, content: bytes) -> str:
        """Keep `content`; return its sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._folder / "blobs" / sha256
        if not path.exists():
            _write(path, content)
        return sha256

    def read(self, sha256: str) -> bytes:
        return (self._folder / "blobs" / sha256).read_bytes()

    def put_large(self, key: str, content: bytes) -> str:
        """Keep `content` as an LFS object of this repository: another one has to be given it again."""
        sha256 = self.put(content)
        _write(self._at(key) / "lfs" / sha256, b"")
        return sha256

    def large(self, key: str, sha256: str) -> Entry | None:
        """Return the entry of an LFS object, or None where this repository has not been given it."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not (self._at(key) / "lfs" / sha256).exists():
            return None
        size = (self._folder / "blobs" / sha256).stat().st_size
        return Entry(sha256, size, "", True)

    def small(self, content: bytes) -> Entry:
        return Entry(self.put(content), len(content), git_sha1(content), False)

    def _grow(
        self,
        repo: Repo,
        branch: str,
        changes: Mapping[str, Entry | None],
        title: str,
        message: str = "",
        author: str | None = None,
    ) -> str:
        # The repository's own file is written last: until then nobody sees the commit, nor a repository without one.
        head = repo.branches[branch]
        files = dict(self.at(repo.key, head).files) if head else {}
        for path, entry in changes.items():
            if entry is not None:
                files[_checked_path(path)] = entry
            elif path not in files:
                raise EntryMissingError(path)
            else:
                del files[path]
        told = Commit("", head or None, title, message, author or repo.owner, _now(), dict(sorted(files.items())))
        sha = hashlib.sha1(json.dumps([repo.key, asdict(told)]).encode()).hexdigest()
        _write(self._at(repo.key) / "commits" / f"{sha}.json", json.dumps(asdict(replace(told, sha=sha))).encode())
        self._save(replace(repo, branches={**repo.branches, branch: sha}))
        return sha

    def _keep(self, key: str, path: str, content: bytes) -> Entry:
        if not is_large(path, len(content)):
            return self.small(content)
        return Entry(self.put_large(key, content), len(content), "", True)

    def _at(self, key: str) -> Path:
        return self._folder / "repos" / key

    def _save(self, repo: Repo) -> None:
        _write(self._at(repo.key) / "repo.json", json.dumps(asdict(repo)).encode())

    def _point(self, key: str, kind: str, name: str, revision: str) -> None:
        if not _REF.fullmatch(name) or name.startswith("refs/") or re.fullmatch(r"[0-9a-f]{40}", name):
            raise InvalidError(f"Invalid reference name: {name}")
        with self.lock(key):
            repo = self.repo(key)
            if name in getattr(repo, kind):
                raise RefExistsError(name)
            change: dict[str, Any] = {kind: {**getattr(repo, kind), name: self.at(key, revision).sha}}
            self._save(replace(repo, **change))

    def _forget(self, key: str, kind: str, name: str) -> None:
        with self.lock(key):
            repo = self.repo(key)
            if name not in getattr(repo, kind):
                raise RevisionMissingError(name)
            change: dict[str, Any] = {kind: {n: sha for n, sha in getattr(repo, kind).items() if n != name}}
            self._save(replace(repo, **change))


def is_large(path: str, size: int) -> bool:
    """Whether the Hub keeps such a file as LFS; an empty one cannot be."""
    matches = any(fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in LARGE_PATTERNS)
    return size > LARGE_SIZE or (matches and size > 0)


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _checked_path(path: str) -> str:
    if not path or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise InvalidError(f"Invalid path: {path!r}")
    return path


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part.write_bytes(content)
    part.replace(path)
