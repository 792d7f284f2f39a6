"""The address of a repository's web page, as people paste it where USER/NAME is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from lottery_hub.errors import LotteryHubError, printable
from lottery_hub.fetching import names

_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_SCHEME = re.compile(r"^https?://", re.IGNORECASE)
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_AT_A_REVISION = {"tree", "blob", "resolve", "raw", "commit", "commits"}


@dataclass(frozen=True)
class Pasted:
    """What the page is of: kind is "model", "dataset" or "space", revision None where the address names none."""

    kind: str
    repo_id: str
    revision: str | None


def is_page(text: str) -> bool:
    """Whether `text` is an address on the Hub, the one that is configured or huggingface.co."""
    return _path_of(text) is not None


def pasted(text: str, kind: str, error: type[LotteryHubError]) -> Pasted | None:
    """Return the repository whose page, or the page of whose file, is at an address; None where it is no page.

    Args:
        text: anything.
        kind: what is asked for, "model" or "dataset".
        error: what a page of something else is refused with.

    Raises:
        LotteryHubError: `error`, it is a page of the Hub, and none of such a repository.
    """
    path = _path_of(text)
    if path is None:
        return None
    parts = [unquote(part) for part in re.split(r"[?#]", path)[0].split("/") if part]
    found = _KINDS[parts.pop(0)] if parts and parts[0] in _KINDS else "model"
    repo_id = "/".join(parts[:2])
    if not names.fits(names.repo_id, repo_id):
        raise error(f"{printable(text)} is not the page of a repository: give USER/NAME")
    if found != kind:
        raise error(f"{printable(text)} is the page of a {found}; this takes a {kind} of the Hub, USER/NAME")
    at = parts[3:] if len(parts) > 3 and parts[2] in _AT_A_REVISION else []
    revision = "/".join(at[:3] if at[:1] == ["refs"] else at[:1]) or None
    return Pasted(found, repo_id, revision)


def _path_of(text: str) -> str | None:
    """Return what follows the Hub's own address, with or without the scheme, None where another comes first."""
    from huggingface_hub import constants

    bare = _SCHEME.sub("", text.strip())
    for home in (constants.ENDPOINT, *_HOSTS):
        start = _SCHEME.sub("", home).rstrip("/").lower() + "/"
        if bare.lower().startswith(start):
            return bare[len(start) :]
    return None


def page_of(repo_id: str) -> str:
    """Return the address of a repository's page on the Hub."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo_id}"
