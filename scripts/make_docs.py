"""Writes docs/api.md from the docstrings of the public names, and looks for links of the pages that lead nowhere.

python scripts/make_docs.py            write the page, and check all links
python scripts/make_docs.py --check    write nothing; exit code 1 where the page is out of date or a link is broken
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lottery_hub
from lottery_hub.settings.config import Frozen

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"
TOUR = ROOT / "docs" / "tour.ipynb"
WIDTH = 100  # of a signature that stays on one line

# Everything public, in the order of the page; names with a dot are not imported from the top, but come back from there.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Commands": ("find", "draw", "pretrain", "finetune", "evaluate", "results", "study"),
    "What they give back": (
        "commands.results.Found",
        "commands.results.Drawn",
        "commands.results.Pretrained",
        "commands.results.Finetuned",
        "commands.results.Evaluated",
        "commands.study.Studied",
    ),
    "Tickets": (
        *("Ticket", "Ladder", "load_ticket", "load_ladder", "list_tickets", "sharing.listing.Listed", "save_ticket"),
        *("import_ticket", "overlap", "networks.inspection.Comparison", "networks.inspection.Comparisons", "verify"),
    ),
    "Networks and images": ("Backbone", "load_backbone", "Normalised", "Dataset", "load_dataset"),
    "Training and attacks": (
        *("transfer", "training.transferring.Transferred", "Recipe", "Attack", "ForeignAttack", "perturb", "Accuracy"),
        "Seeds",
    ),
    "Plans": ("FindPlan", "DataPlan", "DrawPlan", "TransferPlan", "PretrainPlan", "settings.config.Frozen"),
    "The Hub": ("push_ticket", "pull", "search_tickets"),
    "Errors": ("LotteryHubError", "DownloadError", "PublishError", "TicketError"),
}
HEAD = """# Python

Every public name, `import lottery_hub as lh`. This page is written by `make docs` from the docstrings. Errors are all
`LotteryHubError`s of one line. Images are float [n, 3, h, w] in [0,1] or uint8, radii and steps of attacks are in [0,1]
pixel units, and sparsities, SA and RA are in 0..1. The words are those of the [documentation](README.md#words).
"""


def api() -> str:
    """Return the text of the page."""
    known = {name for names in SECTIONS.values() for name in names}
    others = tuple(sorted(set(lottery_hub.__all__) - known - {"__version__"}))
    sections = SECTIONS | ({"More": others} if others else {})
    index = [
        f"| [{_short(name)}](#{_short(name).lower()}) | {_summary(_found(name))} |"
        for names in sections.values()
        for name in names
    ]
    parts = [HEAD, "| name | |\n|---|---|\n" + "\n".join(index) + "\n"]
    for title, names in sections.items():
        parts.append(f"## {title}\n")
        parts += [_described(_short(name), _found(name), "###") for name in names]
    return "\n".join(parts).rstrip() + "\n"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _found(name: str) -> Any:
    module, _, short = name.rpartition(".")
    return getattr(importlib.import_module(f"lottery_hub.{module}"), short) if module else getattr(lottery_hub, name)


def _summary(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def _described(name: str, thing: Any, heading: str) -> str:
    """Return a name's part of the page: how it is called, its docstring, and of a class what it can do."""
    own = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
    text = [f"{heading} {name}\n"]
    if callable(own) and not (inspect.isclass(own) and issubclass(own, Exception)):
        text.append(f"```text\n{_called(name, own)}\n```\n")
    text.append(docstring(inspect.getdoc(own) or ""))
    if inspect.isclass(own):
        text += [_described(f"{name}.{inside}", member, "####") for inside, member in _members(own)]
    return "\n".join(text)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class has of its own, with a docstring, in the order in which it is written."""
    fields = getattr(kind, "model_fields", {})
    for name, member in vars(kind).items():
        told = property(member.func) if isinstance(member, cached_property) else member
        ours = isinstance(told, property | classmethod) or inspect.isfunction(told)
        if ours and inspect.getdoc(told) and not name.startswith(("_", "model_")) and name not in fields:
            yield name, told


def _called(name: str, thing: Any) -> str:
    """Return how something is called, a parameter a line where that is long."""
    if inspect.isclass(thing) and issubclass(thing, Frozen):
        words = [
            each if field.is_required() else f"{each}={field.default!r}" for each, field in thing.model_fields.items()
        ]
        words = ["*", *words] if words else []
    else:
        words = []
        parameters = inspect.signature(thing).parameters.values()
        for each in parameters:
            if each.name in ("self", "cls"):
                continue
            if each.kind is each.KEYWORD_ONLY and "*" not in words:
                words.append("*")
            stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
            words.append(stars + each.name + ("" if each.default is each.empty else f"={_default(each.default)}"))
    line = f"{name}({', '.join(words)})"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + ")"


def _default(value: Any) -> str:
    if inspect.isfunction(value) or inspect.isclass(value):
        return str(value.__name__)
    # What a dataclass stands in for an empty dict or list with.
    return "…" if "factory" in repr(value) else repr(value)


def docstring(text: str) -> str:
    """Return a docstring as Markdown: sections in bold, their entries as lists."""
    shown = []
    for block in re.split(r"\n\n+", text):
        title, _, rest = block.partition("\n")
        if title in ("Args:", "Attributes:", "Raises:") and rest:
            shown.append(f"**{title.rstrip(':')}**\n\n{_entries(inspect.cleandoc(rest))}")
        elif title == "Returns:":
            shown.append(f"**Returns** {_paragraph(rest)}")
        else:
            shown.append(
                _paragraph(block) if not block.startswith("    ") else f"```text\n{inspect.cleandoc(block)}\n```"
            )
    return "\n\n".join(shown) + "\n"


def _entries(text: str) -> str:
    """Return `name: meaning` entries, whose further lines are indented, as a list; dashes inside as a list below."""
    lines: list[str] = []
    for line in text.split("\n"):
        inner = line.strip()
        if not line.startswith(" "):
            names, _, meaning = inner.partition(": ")
            told = ", ".join(f"`{name}`" for name in names.split(", ")) if "`" not in names else names
            lines.append(f"- {told}: {meaning}")
        elif inner.startswith("- "):
            lines.append(f"  {inner}")
        else:
            lines[-1] += f" {inner}"
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def broken_links(root: Path = ROOT) -> list[str]:
    """Return `page: target` for every link of a page to a file or a heading of the repository that is not there."""
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("docs/*.ipynb"), *root.glob("scripts/*.md")]
    broken = []
    for page in sorted(pages):
        for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
            place, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (page.parent / place).resolve() if place else page
            if not there.exists() or (anchor and anchor not in _anchors(_text(there))):
                broken.append(f"{page.relative_to(root)}: {target}")
    return broken


def _text(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def _anchors(text: str) -> set[str]:
    """Return the anchors that headings get on GitHub."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def run_tour() -> None:
    """Run the notebook in a folder and with a store of its own, and write it again with what its cells show."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=None, record_timing=False, resources={"metadata": {"path": folder}})
        client.execute(env=os.environ | {"LOTTERY_HUB_STORE": f"{folder}/store", "HF_HUB_OFFLINE": "1"})
    for cell in notebook.cells:
        # The view of progress is cleared in the end, and its empty output says nothing.
        shown = [each for each in cell.get("outputs", []) if each.get("data", {}).get("text/html") != ""]
        cell.update({"outputs": shown} if cell.cell_type == "code" else {})
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, TOUR)


def main() -> int:
    """Write or check the page, check the links, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--tour", action="store_true", help="run the notebook")
    asked = parser.parse_args()
    if asked.tour:
        run_tour()
    text, stale = api(), False
    if asked.check:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
    else:
        PAGE.write_text(text, encoding="utf-8")
    broken = broken_links()
    for line in [*(["docs/api.md is out of date: make docs"] if stale else []), *broken]:
        print(line, file=sys.stderr)
    return 1 if stale or broken else 0


if __name__ == "__main__":
    sys.exit(main())
