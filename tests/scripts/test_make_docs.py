"""scripts/make_docs.py: docs/api.md says what the docstrings say, and no link of a page leads nowhere."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

import lottery_hub

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "make_docs.py"))


def test_the_page_of_names_is_what_make_docs_writes(script: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == script["api"](), "make docs"
    for name in set(lottery_hub.__all__) - {"__version__"}:
        assert f"\n### {name}\n" in page


def test_no_page_has_a_link_that_leads_nowhere(script: dict[str, Any]) -> None:
    assert script["broken_links"]() == []


def test_a_link_that_leads_nowhere_is_found_in_pages_and_notebooks(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "# A `find`, told\n[a](docs/a.md) [b](docs/a.md#how-it-works) [c](#a-find-told) [d](https://x.org/#y)\n"
        "[e](docs/b.md) [f](docs/a.md#why) [g](#nothing)\n```\n[h](in/code.md)\n```\n"
    )
    (tmp_path / "docs" / "a.md").write_text("## How it works\n[a](../README.md)\n")
    cell = {"cell_type": "markdown", "source": ["[a](a.md) ", "[i](c.md)"]}
    (tmp_path / "docs" / "tour.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert script["broken_links"](tmp_path) == [
        "README.md: docs/b.md",
        "README.md: docs/a.md#why",
        "README.md: #nothing",
        "docs/tour.ipynb: c.md",
    ]


def test_a_docstring_becomes_lists(script: dict[str, Any]) -> None:
    text = "What it is.\n\nArgs:\n    a, b: two\n        things:\n        - one\n    c: three\n\nReturns:\n    It."
    assert script["docstring"](text) == (
        "What it is.\n\n**Args**\n\n- `a`, `b`: two things:\n  - one\n- `c`: three\n\n**Returns** It.\n"
    )
