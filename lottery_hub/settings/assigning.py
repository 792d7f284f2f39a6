"""Settings as they are written, `path=value`: which path is meant, and which value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from lottery_hub.errors import ConfigError, printable

Settings = Iterable[str] | Mapping[str, Any]  # what is changed in a plan, see `config.Frozen.with_settings`


def each(settings: Settings) -> Mapping[str, Any]:
    """Return path → value of settings.

    Raises:
        ConfigError: one is no text, or has no `=`.
    """
    if isinstance(settings, str) or not isinstance(settings, Iterable):
        raise ConfigError(f"settings are a list of PATH=VALUE, or a dict, not {printable(repr(settings))}")
    return settings if isinstance(settings, Mapping) else dict(map(_assignment, settings))


def written(settings: Settings) -> list[str]:
    """Return settings as a file holds them: `path=value` each, as `each` reads them."""
    return [
        f"{path}={value if isinstance(value, str) else json.dumps(plain(value))}"
        for path, value in each(settings).items()
    ]


def _assignment(text: object) -> tuple[str, str]:
    if not isinstance(text, str):
        raise ConfigError(f"a setting is text, PATH=VALUE, not {printable(repr(text))}")
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {printable(text)}: there is no setting of that name; write PATH=VALUE")
    return path.strip(), value


def meant(path: str, paths: Sequence[str], at: str) -> str:
    """Return which of the paths is meant: the one itself, or the only one that ends so."""
    path, short = str(path), str(path).removeprefix(at)
    found = [short] if short in paths else [whole for whole in paths if f".{whole}".endswith(f".{path}")]
    if len(found) == 1:
        return found[0]
    last = path.rpartition(".")[2]
    near = found or [whole for whole in paths if get_close_matches(last, [whole.rpartition(".")[2]], cutoff=0.75)]
    near = near or [whole for whole in paths if "." not in whole]
    problem = "several settings are called so" if found else "there is no setting of that name"
    raise ConfigError(f"--set {printable(path)}: {problem}; there is {', '.join(at + whole for whole in near)}")


def value_of(text: str) -> Any:
    """Return what a text means: JSON, a fraction, or a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return parse_number(text)
    except ConfigError:
        return text


def plain(value: Any) -> Any:
    """Return a setting given in Python as JSON has it."""
    value = value.record() if hasattr(value, "record") else value  # a part of a plan
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"{printable(value, 80)} is no value that a setting can have") from problem
    return value


def parse_number(given: object) -> float:
    """Read `0.03`, or a fraction such as `8/255`; a number is itself.

    Raises:
        ConfigError: none of these.
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    top, slash, bottom = str(given).partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as problem:
        raise ConfigError(f"{printable(repr(given))} is not a number; write 0.03 or 8/255") from problem
