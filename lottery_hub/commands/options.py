"""Options by the signatures of the commands' functions: what they are unless given, and which a plan already says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lottery_hub.errors import ConfigError, printable


def defaults(command: Callable[..., Any]) -> dict[str, Any]:
    """Return what a command's options are unless given."""
    parameters = inspect.signature(command).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def taken(given: Mapping[str, Any], planner: Callable[..., Any]) -> dict[str, Any]:
    """Return those of the options that a function takes."""
    return {name: given[name] for name in inspect.signature(planner).parameters if name in given}


def check_said_once(
    command: Callable[..., Any], given: Mapping[str, Any], planner: Callable[..., Any], beside: Collection[str]
) -> None:
    """Raise ConfigError where an option says what a given plan says too.

    Args:
        command: whose options they are.
        given: all of them.
        planner: takes those that make a plan.
        beside: the ones that may stand beside a plan all the same.
    """
    usual = defaults(command)
    for name, value in taken(given, planner).items():
        if name not in beside and name in usual and value != usual[name]:
            raise ConfigError(f"the plan says everything that {name} would: leave it out, or change it by a setting")


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
