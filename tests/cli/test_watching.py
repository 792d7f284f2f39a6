"""Every command can be told to say nothing or all, and at Ctrl-C says what is kept; its help is what was written."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from typing import Any, get_args, get_origin

import pytest
import typer
from rich.text import Text

from lottery_hub import cli
from lottery_hub.cli import cache, store
from lottery_hub.telling import QUIET, USUAL, VERBOSE, if_stopped, volume

COMMANDS = [each for group in (cli.app, store.app, cache.app) for each in group.registered_commands]


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Call the command line; return exit code, stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lottery-hub", *arguments])
        patch.setattr(threading, "active_count", lambda: 1)  # those of the tests are no transfers at work
        with pytest.raises(SystemExit) as end:
            cli.main()
    return (end.value.code, *capsys.readouterr())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_every_command_can_say_nothing_or_all(command: Any) -> None:
    assert {"quiet", "verbose"} <= inspect.signature(command.callback).parameters.keys()


@pytest.mark.parametrize(("words", "said"), [([], USUAL), (["-q"], QUIET), (["--verbose"], VERBOSE)])
def test_how_much_is_said_is_what_was_asked_for(
    words: list[str], said: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    monkeypatch.setattr("lottery_hub.images.caching.kept", lambda: heard.append(volume()) or [])
    assert ended(capsys, "cache", "list", "--json", *words)[0] == 0
    assert heard == [said]


def test_nothing_and_all_at_once_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ended(capsys, "cache", "list", "-q", "-v")
    assert code == 2
    assert "choose one of the two" in err


@pytest.mark.parametrize(
    ("kept", "said"), [("", "nothing was written"), ("epochs are kept in runs/a", "epochs are kept in runs/a")]
)
def test_ctrl_c_says_what_is_true_in_one_line(
    kept: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        with if_stopped(kept):
            raise KeyboardInterrupt

    monkeypatch.setattr("lottery_hub.images.caching.kept", interrupted)
    assert ended(capsys, "cache", "list") == (130, "", f"stopped: {said}\n")


def test_progress_is_on_stderr_and_stdout_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "pull", "resnet18-slim-adv", "--json")
    assert (code, json.loads(out)["content"]) == (0, "ladder")
    assert [line[20:] for line in err.splitlines()] == ["opening the ticket", "checking files"]
    assert ended(capsys, "pull", "resnet18-slim-adv", "--json", "-q") == (0, out, "")


def helps(annotation: Any) -> list[str]:
    """Return the help texts of an option or argument."""
    if get_origin(annotation) is None and not hasattr(annotation, "__metadata__"):
        return []
    kinds = (typer.models.OptionInfo, typer.models.ArgumentInfo)
    return [
        each.help or "" for each in getattr(annotation, "__metadata__", get_args(annotation)) if isinstance(each, kinds)
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_no_help_is_taken_for_markup(command: Any) -> None:
    parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
    texts = [command.callback.__doc__, *(text for each in parameters for text in helps(each.annotation))]
    assert len(texts) > 2
    for text in texts:
        assert Text.from_markup(text).plain == text
