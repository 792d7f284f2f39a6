"""Does a card say what the records say, and nothing else that counts? Judged on what a reader of it sees.

A card that was edited is believed only where every line that the records render is still visible and in its place,
where the metadata is the rendered one, and where what was added states no number and no verdict. Markup can hide a true
line and show a false one in more ways than can be listed, so what is added may hold none but the plainest.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

from lottery_hub.errors import TicketError, printable
from lottery_hub.reporting.rendering import read_front_matter

Answer = Literal["verified", "not verified", "cannot tell"]
Told = tuple[Answer, str]

MAX_ADDED = 2**16  # characters; more words than that are not read

_FENCE = "---\n"
_SIGNATURE = re.compile(r"<!-- rendered by lottery_hub; sha256 of the text above: [0-9a-f]{64} -->\s*\Z")

# Keys of the Hub that say nothing about the figures.
_FREE_KEYS = {"language", "license_name", "license_link", "pipeline_tag", "base_model_relation"}

_VERDICT = re.compile(
    r"double\W*win|\b(un)?decided\b|\binconclusive\b|\bwin(s|ner|ners|ning)?\b|\bwon\b|\bmatch(es|ed|ing)?\b|\bverified\b|\bcertified\b|\bguarantee[ds]*\b"
    r"|lottery|\bbeats?\b|\bout\W?perform|\bsuperior\b|\bstate\W+of\W+the\W+art\b|\bsota\b|\bbest\b|\bperfect(ly)?\b"
)
# What the figures are of; without a number, the first are a claim all the same, and the others are talk.
_FIGURE = re.compile(
    r"\b(sa|ra|acc|aa|pgd|autoattack|auc)\b|accura|robust|spars|densit|toleranc|margin|frontier|withst[ao]|adversarial"
)
_MEASURE = re.compile(
    _FIGURE.pattern
    + r"|points?\b|images?\b|correct|attack|standard|seeds?\b|level|kept|weights?\b|dense|ticket|backbone|\btop\b"
)
_AMOUNTS = re.compile(
    r"\b(\w+teen|eleven|twelve|(twen|thir|for|fif|six|seven|eigh|nine)ty(\W?\w+)?|hundreds?|thousands?|millions?"
    r"|per\W?cent(age)?|pct)\b"
)
_FEW = re.compile(
    r"\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|half|third|quarter|all|every|each|none of|most)\b"
)
_TURNING = re.compile(
    r"\b(not|no longer|never|nor|neither|cannot|\w+n['\u2019]t|false|untrue|wrong|incorrect|contrary|opposite|ignore"
    r"|disregard|forge[dry]*|fake|outdated|obsolete|superseded?|instead|actually|in fact|above|below|following|previous"
    r"|better|worse|as good as|on par|parity|equal(s|ly)?|victor\w*|triumph\w*|success\w*|pass(es|ed)?"
    r"|correction|corrected|errat\w+|updated?|mistaken?|really|real|true|truth|drafts?|void|retract\w*|withdrawn?"
    r"|nobody|unbroken|unbeaten|record-?breaking)\b"
)
_SPELLED = re.compile(r"\b(\w\W+){3,}\w\b")  # letter by letter
_MARKS = str.maketrans("", "", "\\*_`~")
_LINK = re.compile(r"!?\[[^\[\]]*\]\(https?://[^\s()<>\"']*\)")


def compare_card(card: str, rendered: Sequence[str]) -> Told:
    """Compare a card with what the records render.

    Args:
        card: the text of README.md.
        rendered: the cards that the records may have, e.g. in a folder and on the Hub; the nearest counts.

    Returns:
        The answer, and why in one line. `verified` where it is one of `rendered` to the letter, or one to which words
        were added that state nothing; `cannot tell` where what was added cannot be judged.
    """
    card = card.replace("\r\n", "\n")
    if card in rendered:
        return "verified", "it says what the records say, to the letter"
    order = ("verified", "cannot tell", "not verified")
    return min((_compare(card, each) for each in rendered), key=lambda told: order.index(told[0]))


def _compare(card: str, rendered: str) -> Told:
    metadata, body = _parts(card)
    expected, text = _parts(rendered)
    if metadata is None or expected is None:
        return "not verified", "it does not begin with the metadata that the records render"
    told = _metadata(metadata, expected)
    visible, hidden = _visible(_SIGNATURE.sub("", body).replace("\r", "\n"))
    if sum(map(len, hidden)) > MAX_ADDED:
        return "not verified", f"it hides more than {MAX_ADDED} characters"
    findings = [told, *map(_stated, hidden), *_body(visible, _visible(_SIGNATURE.sub("", text))[0])]
    for answer in ("not verified", "cannot tell", "verified"):
        whys = [each[1] for each in findings if each is not None and each[0] == answer]
        if whys:
            return answer, whys[0]
    return "verified", "its figures are those of the records"


def _parts(card: str) -> tuple[str | None, str]:
    """Return the YAML of a card's metadata, None where there is none, and its text."""
    metadata, fence, text = card.removeprefix(_FENCE).partition("\n" + _FENCE)
    return (metadata, text) if card.startswith(_FENCE) and fence else (None, card)


def _metadata(said: str, expected: str) -> Told | None:
    """Compare the metadata, value by value and type by type; keys and tags that state nothing may be added."""
    try:
        found, wanted = read_front_matter(said), read_front_matter(expected)
    except TicketError as problem:
        return "not verified", str(problem)
    tags = found.get("tags")
    if isinstance(tags, list):
        own = wanted.get("tags", [])
        added = [tag for tag in tags if tag not in own]
        if not all(isinstance(tag, str) and ":" not in tag and _stated(tag) is None for tag in added):
            return "not verified", "its metadata has tags that state what the records do not"
        if len(tags) == len(own) + len(added):
            found = found | {"tags": [tag for tag in tags if tag in own]}
    for key, value in wanted.items():
        if not _same(found.get(key), value):
            return "not verified", f"its metadata says something else than the records under {printable(key)}"
    for key, value in found.items():
        words = value if isinstance(value, list) else [value]
        if key in wanted:
            continue
        if key not in _FREE_KEYS or not all(isinstance(word, str) and _stated(word) is None for word in words):
            return "not verified", f"its metadata has {printable(key, 60)}, which the records do not render"
    # What a reader of YAML skips, a reader of the file sees.
    comments = [line.partition("#")[2] for line in said.split("\n") if re.search(r"(^|\s)#", line)]
    return next((stated for comment in comments if (stated := _stated(comment))), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _visible(text: str) -> tuple[str, list[str]]:
    """Return a text without its HTML comments, and what stood in those; one that is not closed hides all the rest."""
    shown: list[str] = []
    hidden: list[str] = []
    while True:
        before, mark, rest = text.partition("<!--")
        shown.append(before)
        if not mark:
            return "".join(shown), hidden
        comment, _, text = rest.partition("-->")
        hidden.append(comment)


def _body(card: str, rendered: str) -> Iterator[Told | None]:
    lines, wanted = _lines(card), _lines(rendered)
    ours = _ours(lines, wanted)
    missing = len(wanted) - sum(ours)
    if missing:
        # The first that found no place is where the rest broke off.
        line = wanted[sum(ours)] or "an empty line"
        yield "not verified", f"it does not say what the records say: {printable(line, 120)}"
    if sum(len(line) for line, own in zip(lines, ours, strict=True) if not own) > MAX_ADDED:
        yield "cannot tell", f"more than {MAX_ADDED} characters were added"
        return
    for index, line in enumerate(lines):
        if ours[index] or not line:
            continue
        near = [place for place in (index - 1, index + 1) if 0 <= place < len(lines)]
        if any(ours[place] and lines[place] for place in near):
            yield "cannot tell", f"words were joined to a sentence or table of its own: {printable(line, 120)}"
    for added, group in groupby(zip(lines, ours, strict=True), key=lambda pair: not pair[1]):
        if added:
            several = [line for line, _ in group]
            yield _stated(" ".join(several))
            yield from map(_stated, several)
            yield from map(_marked, several)
            first = printable(next((line for line in several if line), ""), 120)
            yield "verified", f"its figures are those of the records; words were added: {first}"


def _lines(text: str) -> list[str]:
    """Return the lines of a text without spaces at their ends, several empty ones taken as one."""
    lines = [line.rstrip(" ") for line in text.split("\n")]
    kept = [line for place, line in enumerate(lines) if line or (place and lines[place - 1])]
    return kept[:-1] if kept and not kept[-1] else kept


def _ours(lines: Sequence[str], wanted: Sequence[str]) -> list[bool]:
    """Return for each line whether it is the next of those that are wanted, in their order."""
    place, found = 0, []
    for line in lines:
        hit = place < len(wanted) and line == wanted[place]
        place += hit
        found.append(hit)
    return found


def _stated(text: str) -> Told | None:
    """Return why an added text is not one that states nothing, or None where it is."""
    shown = printable(text.strip(), 120)
    plain = html.unescape(text).translate(_MARKS)
    if any(unicodedata.category(letter) in ("Cf", "Cc", "Co", "Cs", "Zl", "Zp") for letter in plain if letter != "\t"):
        return "not verified", f"it has characters that are not seen: {shown}"
    folded = unicodedata.normalize("NFKC", re.sub(r"<[^<>]*>", "", plain)).casefold()
    either = f"{folded} {plain.casefold()}"  # what stands inside a tag may be shown too
    if _VERDICT.search(either):
        return "not verified", f"it states a verdict of its own: {shown}"
    digits = any(unicodedata.category(letter)[0] == "N" for letter in either) or bool(_AMOUNTS.search(either))
    if "%" in either or "‰" in either or (digits and _MEASURE.search(either)):
        return "not verified", f"it states a figure of its own: {shown}"
    if digits or (_FEW.search(either) and _MEASURE.search(either)):
        return "cannot tell", f"a number was added: {shown}"
    if _MEASURE.search(either) and _TURNING.search(either):
        return "not verified", f"it contradicts the records: {shown}"
    if _TURNING.search(either) or _FIGURE.search(either) or _SPELLED.search(either):
        return "cannot tell", f"words were added that may change what the rest says: {shown}"
    # Letters of other alphabets look like ours, pictures of digits are no digits, and other languages have verdicts.
    if not all(unicodedata.normalize("NFKD", letter)[0] < "\x80" or letter in "–—‘’“”…ß·•" for letter in plain):
        return "cannot tell", f"words were added that cannot be read here: {shown}"
    return None


def _marked(line: str) -> Told | None:
    """Return why the markup of an added line may hide or show something, or None where it cannot."""
    bare = re.sub(r"`[^`]*`", "", line)
    pictures = [link for link in _LINK.findall(bare) if link.startswith("!")]
    rest = _LINK.sub("", bare)
    if pictures or any(mark in rest for mark in "<[]`$~&") or re.search(r"\\$", rest):
        return "cannot tell", f"markup was added that may hide or show anything: {printable(line, 120)}"
    return None
