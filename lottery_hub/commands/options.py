"""Options by the signatures of the commands' functions: what they are unless given, and which a plan already says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from lottery_hub.errors import ConfigError, printable

P = ParamSpec("P")
R = TypeVar("R")


def defaults(command: Callable[..., Any]) -> dict[str, Any]:
    """Return what a command's options are unless given."""
    parameters = inspect.signature(command).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def taken(given: Mapping[str, Any], planner: Callable[..., Any]) -> dict[str, Any]:
    """Return those of the options that a function takes."""
    return {name: given[name] for name in inspect.signature(planner).parameters if name in given}


Options = dict[str, Any]


def beside_a_plan(settled: Callable[[Options], Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a command's plan be changed by the options that are given beside it; those that are not say nothing.

    Args:
        settled: takes the options that were given, a plan among them, and returns those to go by.
    """

    def give(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def called(*places: P.args, **named: P.kwargs) -> R:
            given = dict(inspect.signature(command).bind(*places, **named).arguments)
            if given.get("plan") is None:
                return command(*places, **named)
            return cast(Callable[..., R], command)(**settled(given))

        return called

    return give


def check_said_once(given: Collection[str], said: Collection[str]) -> None:
    """Raise ConfigError where one of the given options is said by a plan, with numbers that follow from it.

    Args:
        given: names of the options that stand beside a plan.
        said: those that it says.
    """
    for name in given:
        if name in said:
            raise ConfigError(
                f"the plan says what {name} would, and the numbers that follow from it: leave it out, or change single "
                "numbers by their settings"
            )


def one_of(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ConfigError unless an option's value is one of the words it can be."""
    if value not in choices:
        raise ConfigError(f"unknown {name} {printable(repr(value))}; choose {', '.join(choices)}")


def batch_sizes(size: object, *recipes: str) -> dict[str, int]:
    """Return the settings that give the recipes at these paths a batch size; none for `auto`.

    Raises:
        ConfigError: it is neither `auto` nor a number.
    """
    if size == "auto":
        return {}
    if not isinstance(size, int) or isinstance(size, bool) or size < 2:
        raise ConfigError(f"batch_size is {size!r}, neither auto nor a number from 2")
    return {f"{recipe}.batch_size": size for recipe in recipes}


def layout_notes(origin: Mapping[str, Any]) -> list[str]:
    """Return what to say of a backbone's checkpoint: what of it was taken, where it was more than a bare state dict."""
    return [f"{origin.get('source')}: read as {origin['layout']}"] if "layout" in origin else []
