"""What can go wrong, in words a user can act on.

Every error that a user can cause or meet is a `LotteryHubError` with one line that names the problem and
the fix. The command line prints that line and exits with 1; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class LotteryHubError(Exception):
    """Base of all errors that are reported as one line."""


class ConfigError(LotteryHubError):
    """A setting is out of range, unknown or contradicts another."""


class BackboneError(LotteryHubError):
    """An architecture is unknown, or its weights are missing or do not fit."""


class DataError(LotteryHubError):
    """A dataset cannot be found, read or split as asked."""


class DownloadError(LotteryHubError):
    """The Hugging Face Hub did not deliver what was asked for."""


class NoSuchFilesError(DownloadError):
    """A repository has none of the files that are asked for.

    Attributes:
        there: the files that it has.
    """

    def __init__(self, told: str, there: Sequence[str]) -> None:
        super().__init__(told)
        self.there = tuple(there)


class PublishError(LotteryHubError):
    """The Hugging Face Hub did not take what was published, or may not be given it."""


class TicketError(LotteryHubError):
    """A ticket or ladder file is malformed, or lacks what was asked of it."""


class WriteError(TicketError):
    """The disk does not take what is written: it is full, read-only, or not ours."""


class ExportError(LotteryHubError):
    """An export cannot be written, or does not compute what the ticket computes."""


class RunError(LotteryHubError):
    """A run directory belongs to other settings, or to a run that is still going on."""


class StoreError(LotteryHubError):
    """A store of units cannot be used, or has not what is asked for."""


class BusyError(LotteryHubError):
    """Another process is at work on the same."""


class StoppedError(LotteryHubError):
    """Work ended early because other work beside it failed."""


class DamageWarning(UserWarning):
    """What an earlier process wrote is damaged: it was set aside and is made anew."""


def printable(text: object, limit: int = 200) -> str:
    """Return `text` safe for a terminal: no control or escape characters, at most `limit` characters.

    Names in a stranger's file (tensors, classes, paths) may carry escape codes that move the cursor or
    recolour the screen, so nothing from a file is printed without passing through here.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def first_line(problem: object) -> str:
    """Return the first line of a foreign library's message, safe for a terminal."""
    return printable(str(problem).strip().split("\n")[0])
