"""What the Hub says of its repositories, parsed into values that can only be what they should be.

The client builds its objects from whatever a server sends, and breaks where that is something else. Here answers are
asked for as they come, read within their bounds, and go through a schema: what does not fit it is one error.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lottery_hub.errors import LotteryHubError, printable
from lottery_hub.fetching import names
from lottery_hub.fetching.connection import CHECK, Conversation
from lottery_hub.fetching.hub_cache import RepoType

Answer = TypeVar("Answer", bound=BaseModel)

ROWS = 100  # to ask for in one answer: each brings its card, and the answer has a bound
MAX_ROWS = 1000  # for a mirror that has its own mind
MAX_PAGES = 200


class _Schema(BaseModel):
    """A part of an answer; what is not named here may be anything."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Large(_Schema):
    sha256: str


class _File(_Schema):
    rfilename: str
    size: Annotated[int, Field(ge=0)]
    blobId: str | None = None  # noqa: N815 - the Hub's name
    lfs: _Large | None = None


class _Repository(_Schema):
    sha: str
    private: bool
    siblings: list[_File]


class _Reference(_Schema):
    name: str
    targetCommit: str  # noqa: N815


class _References(_Schema):
    branches: list[_Reference]
    tags: list[_Reference]


@dataclass(frozen=True)
class Listed:
    """A file as the Hub lists it: its size in bytes, and the sha256 or git sha1 of its contents, in hex."""

    size: int
    digest: str


@dataclass(frozen=True)
class Description:
    """A repository at one commit.

    Attributes:
        sha: the commit.
        private: whether only some may see it.
        files: path → file. What has no name that a file of ours could have is left out.
    """

    sha: str
    private: bool
    files: Mapping[str, Listed]


@dataclass(frozen=True)
class References:
    """The branches and tags of a repository: name → commit."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]


def describe(
    talk: Conversation, repo_id: str, repo_type: RepoType = "model", revision: str | None = None
) -> Description:
    """Ask what a repository is at a revision; None means "main".

    Raises:
        LotteryHubError: the conversation's: there is no such thing, or the answer is no description of one.
    """
    path = _api(talk, repo_id, repo_type)
    if revision is not None:
        path += f"/revision/{urllib.parse.quote(names.revision(revision, talk.error), safe='')}"
    told, _ = _get(talk, path, [("blobs", "true")], repo_id, revision)
    parsed = _parsed(_Repository, told, talk, repo_id)
    listed = {file.rfilename: Listed(file.size, file.lfs.sha256 if file.lfs else file.blobId or "")
              for file in parsed.siblings if names.fits(names.path, file.rfilename)}  # fmt: skip
    return Description(_commit(parsed.sha, revision or "main", talk, repo_id), parsed.private, listed)


def references(talk: Conversation, repo_id: str) -> References:
    """Ask for the branches and tags of a model repository.

    Raises:
        LotteryHubError: the conversation's: there is no such repository, or the answer is none.
    """
    told, _ = _get(talk, f"{_api(talk, repo_id, 'model')}/refs", [], repo_id)
    parsed = _parsed(_References, told, talk, repo_id)
    branches, tags = (
        {ref.name: _commit(ref.targetCommit, ref.name, talk, repo_id) for ref in refs}
        for refs in (parsed.branches, parsed.tags)
    )
    return References(branches, tags)


def models(talk: Conversation, query: Sequence[tuple[str, str]]) -> Iterator[Any]:
    """Yield the rows of the list of models, page by page, each as it was sent: a row may be anything.

    Every page is asked of the Hub itself, whatever address it names for the next one.

    Raises:
        LotteryHubError: the conversation's: the answer is no list, or the pages do not end.
    """
    asked: set[str] = set()
    # What is no text names nothing on the Hub: it is looked for as what it is shown as.
    following: str | None = urllib.parse.urlencode([*query, ("limit", str(ROWS))], errors="replace")
    while following is not None:
        if following in asked or len(asked) == MAX_PAGES:
            raise talk.error(f"search: the pages of {talk.server}'s answer do not end; ask for less")
        asked.add(following)
        told, following = _get(talk, "api/models", urllib.parse.parse_qsl(following), None)
        if not isinstance(told, list):
            raise _unexpected(talk, "search", f"{type(told).__name__} instead of a list")
        if len(told) > MAX_ROWS:
            raise _unexpected(talk, "search", f"{len(told):,} rows in one answer")
        yield from told


def _api(talk: Conversation, repo_id: str, repo_type: RepoType) -> str:
    return f"api/{repo_type}s/{names.repo_id(repo_id, talk.error)}"


def _get(
    talk: Conversation, path: str, query: Sequence[tuple[str, str]], repo_id: str | None, revision: str | None = None
) -> tuple[Any, str | None]:
    """Return the JSON at a path of the Hub, and the query of the page after it, where there is one."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils._headers import build_hf_headers

    def ask() -> tuple[bytes, str | None]:
        address = f"{constants.ENDPOINT}/{path}"
        response = get_session().get(address, params=list(query), headers=build_hf_headers(), follow_redirects=True)
        hf_raise_for_status(response)
        following = response.links.get("next", {}).get("url")
        return bytes(response.content), None if following is None else urllib.parse.urlsplit(following).query

    content, following = talk.ask(ask, repo_id, revision)
    try:
        return json.loads(content), following
    except (ValueError, RecursionError):
        subject = "search" if repo_id is None else printable(repo_id)
        start = printable(content[:40].decode(errors="replace"))
        raise _unexpected(talk, subject, f"no JSON: {start!r}" if content else "nothing at all") from None


def _parsed(schema: type[Answer], told: Any, talk: Conversation, repo_id: str) -> Answer:
    try:
        return schema.model_validate(told)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{printable(part, 40)}: " for part in first["loc"])
        raise _unexpected(talk, printable(repo_id), f"{where}{printable(first['msg'])}") from None


def _commit(told: str, revision: str, talk: Conversation, repo_id: str) -> str:
    if not names.fits(names.commit, told):
        raise _unexpected(talk, printable(repo_id), f"{talk.server} named no commit for {printable(revision, 80)}")
    return told


def _unexpected(talk: Conversation, subject: str, what: str) -> LotteryHubError:
    return talk.error(f"{subject}: {talk.server} answered something else than what was asked for ({what}); {CHECK}")
