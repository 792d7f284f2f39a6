"""Filling the templates of cards and pages: numbers as they should read, and strangers' words that stay words.

The only user of Jinja and PyYAML. What a card's template prints is escaped for Markdown unless it is `Safe`, and what a
page's prints for HTML unless it is `markup`; a value that is missing is an error, never a blank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from lottery_hub.errors import ConfigError, TicketError, printable
from lottery_hub.storage.signing import signed

_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")

# The Hub refuses a card whose licence is not on its list; these are on it, and anything else is "other".
_LICENSES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "gpl-3.0"}


MAX_METADATA = 2**16  # ours take a thousandth of a second to read, and these many characters half a second
_SCALARS = {
    "str": re.compile(r".*", re.DOTALL),
    "int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "float": re.compile(r"-?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?"),
    "bool": re.compile(r"true|false"),
    "null": re.compile(r"null"),
}


class Safe(str):
    """Text that a template prints as it is."""


def render(template: str, context: Callable[[], dict[str, Any]]) -> str:
    """Return a template of `model_cards/` filled with what `context` returns.

    Raises:
        TicketError: a value is missing from records or context, or is something else than is expected there.
    """
    strange = (jinja2.UndefinedError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, ConfigError)
    try:
        return signed(_cards().get_template(template).render(context()))
    except strange as problem:
        raise TicketError(f"the records do not make a card: {printable(problem)}") from problem


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """Return a page of HTML, signed as cards are: a template of `model_cards/`, which may extend and include others.

    Whatever it prints is text, with no character that hides or turns others; only what `markup` made is HTML.
    """
    return signed(_pages().get_template(template).render(context))


# Kept, since each keeps the templates that it has compiled, which takes longer than to fill one.


@cache
def _cards() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        undefined=jinja2.StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # of HTML; `finalize` escapes for Markdown
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "plus_minus": plus_minus,
        "in_brackets": in_brackets,
        "count": count,
        "yes_no": yes_no,
        "minutes": minutes,
    }
    return environment


@cache
def _pages() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup | jinja2.Undefined) else printable(value, 4000),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )


def markup(html: str) -> Markup:
    """Mark what the library has drawn itself as HTML; never anything with a stranger's word that is not escaped."""
    return Markup(html)


def source(template: str) -> str:
    """Return a file of `model_cards/`."""
    return files("lottery_hub.model_cards").joinpath(template).read_text(encoding="utf-8")


def front_matter(metadata: dict[str, Any]) -> Safe:
    """Return a card's metadata as YAML."""
    text: str = yaml.safe_dump(_printable_leaves(metadata), sort_keys=False, allow_unicode=True, width=1000)
    return Safe(text)


def read_front_matter(text: str) -> dict[str, Any]:
    """Return a card's metadata, given the YAML between its two lines of dashes.

    Only what every reader of YAML takes alike: no anchors, tags or merges, no key twice, and no number that one
    reader takes for octal or for minutes and another does not.

    Raises:
        TicketError: it is no such YAML, or more than `MAX_METADATA` characters of it.
    """
    if len(text) > MAX_METADATA:
        raise TicketError(f"the metadata of the card has more than {MAX_METADATA} characters")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_plain(node, set())
        metadata = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, ArithmeticError) as problem:
        raise TicketError(f"the metadata of the card cannot be read: {printable(problem, 120)}") from problem
    if not isinstance(metadata, dict):
        raise TicketError("the metadata of the card is not a mapping")
    return metadata


def _check_plain(node: yaml.Node | None, seen: set[int]) -> None:
    if node is None:
        return
    if id(node) in seen:
        raise ValueError("it has an alias")
    seen.add(id(node))
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if isinstance(node, yaml.ScalarNode):
        wanted = _SCALARS.get(kind)
        if wanted is None or not wanted.fullmatch(node.value) or (node.style is not None and kind != "str"):
            raise ValueError(f"{printable(node.value, 60)} is not read alike by all")
        return
    below = node.value
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            raise ValueError("a key appears twice, or is no word")
        below = [part for pair in node.value for part in pair]
    for part in below:
        _check_plain(part, seen)


def hub_license(license: object) -> str:
    """Return a licence as the Hub knows it."""
    known = str(license).lower()
    return known if known in _LICENSES else "other"


def escaped(value: object) -> Safe:
    """Return a value as Markdown that shows exactly its characters, in a table as elsewhere, on one line."""
    if isinstance(value, Safe):
        return value
    if value is None:
        raise TypeError("something that the card names is null")
    shown = _MARKDOWN.sub(r"\\\1", printable(value))
    return Safe(shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def number(value: object) -> float:
    """Return a number, and refuse all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")  # `!r` of a missing value raises and names it
    return value


def whole(value: object) -> int:
    """Return a whole number, and refuse all else."""
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def boolean(value: object) -> bool:
    """Return true or false, and refuse all else."""
    if type(value) is not bool:
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def percent(value: object) -> Safe:
    """Return 0.8926 as `89.26 %`."""
    return Safe(f"{number(value) * 100:.2f} %")


def points(value: object) -> Safe:
    """Return 0.0123 as `1.23`."""
    return Safe(f"{number(value) * 100:.2f}")


def plus_minus(deviation: object) -> Safe:
    """Return 0.0123 as ` ± 1.23`, and nothing where there is no deviation."""
    return Safe("" if deviation is None else f" ± {points(deviation)}")


def in_brackets(interval: object) -> Safe:
    """Return [-0.01, 0.02] as ` (-1.00 to 2.00)`, and nothing where there is no interval."""
    if interval is None:
        return Safe("")
    if not isinstance(interval, list) or len(interval) != 2:
        raise TypeError(f"{interval!r} is not an interval")
    return Safe(f" ({points(interval[0])} to {points(interval[1])})")


def count(value: object) -> Safe:
    """Return 714688 as `714,688`."""
    return Safe(f"{whole(value):,}")


def minutes(seconds: object) -> Safe:
    """Return 90.5 as `2 min`."""
    return Safe(f"{number(seconds) / 60:,.0f} min")


def yes_no(value: object) -> Safe:
    """Return true as `yes`."""
    return Safe("yes" if boolean(value) else "no")


def _printable_leaves(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(key): _printable_leaves(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable_leaves(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else printable(value)
