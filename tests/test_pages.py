"""What the pages say in Python runs, in order and in a notebook: README, docs, and the notebook that is one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.hub.server import Hub

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
TOUR = "docs/tour.ipynb"

BEGIN = "%reset -f\nfrom tests.small_world import shrink\nshrink()"
NAME = "alice/digits"  # where a page says USER/NAME: the Hub of the tests knows her


def blocks(page: str) -> list[str]:
    """What runs of a page."""
    if page == TOUR:
        return [cell.source for cell in nbformat.read(ROOT / page, as_version=4).cells if cell.cell_type == "code"]
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.mark.timeout(900)  # about one minute, on a machine that does nothing else
def test_every_block_of_every_page_runs_in_a_notebook(hub: Hub, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    for page in (*PAGES, TOUR):
        found = blocks(page)  # begins with nothing but a small world
        for block in [BEGIN, *found] if found else []:
            source = block.replace("USER/NAME", NAME)
            notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"page": page}))
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=hub.environment(tmp_path / "home", hub.token("alice")))
    shown = {page: str([c.outputs for c in notebook.cells if c.metadata["page"] == page]) for page in (*PAGES, TOUR)}
    assert "in %, on test images" in shown["README.md"]
    assert "Found(resnet18-slim (adv) on digits: " in shown[TOUR]
    assert "<table>" in shown[TOUR]
    assert (tmp_path / "runs" / "digits" / "ticket" / "config.json").is_file()
