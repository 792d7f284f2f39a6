"""The documentation's claims that a machine can check: the numpy reader, names and the citation."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml

import lottery_hub
from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.reporting.plots import curve
from lottery_hub.settings.config import DrawPlan
from lottery_hub.storage.codec import Values
from lottery_hub.storage.folder import load_ticket, save_ticket
from lottery_hub.training.drawing import draw

ROOT = Path(__file__).parent.parent


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("values", ["float32", "float16", "bfloat16"])
def test_the_numpy_reader_of_the_format_page_reads_a_ticket_exactly(tmp_path: Path, values: Values) -> None:
    backbone = Backbone("resnet18-slim", "std", fresh_weights("resnet18-slim", 7, 0))
    ticket = draw(backbone, DrawPlan(method="omp", rounds=2)).ticket(2)
    save_ticket(ticket, tmp_path / "ticket", values=values)
    ticket = load_ticket(tmp_path / "ticket")
    names: dict[str, Any] = {}
    (reader,) = python_blocks("docs/format.md")
    exec(reader, names)
    config = json.loads((tmp_path / "ticket" / "config.json").read_text(encoding="utf-8"))
    network = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    sizes = np.array([math.prod(shapes[name]) for name in ticket.mask])
    weights, masks, dense = names["read_ticket"](tmp_path / "ticket", sizes)

    for name, weight, mask in zip(ticket.mask, weights, masks, strict=True):
        np.testing.assert_array_equal(weight.reshape(shapes[name]), ticket.weights[name].numpy())
        np.testing.assert_array_equal(mask.reshape(shapes[name]), ticket.mask[name].numpy())
    rest = [t for n, t in ticket.weights.items() if n not in ticket.mask and t.dtype == torch.float32]
    np.testing.assert_array_equal(dense, torch.cat([tensor.flatten() for tensor in rest]).numpy())


def test_the_readme_uses_public_names_only() -> None:
    used = set(re.findall(r"\blh\.(\w+)", "".join(python_blocks("README.md"))))
    assert {"load_ticket", "transfer", "push_ticket", "search_tickets"} <= used <= set(lottery_hub.__all__)


def test_the_citation_carries_the_version_of_the_library() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lottery_hub.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2206.04762"


def test_the_readmes_picture_and_figures_are_those_of_the_records_beside_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    records = json.loads((ROOT / "docs" / "find" / "results.json").read_text(encoding="utf-8"))
    picture = curve(records)
    assert "](docs/find/curve.svg)" in readme
    shown = (ROOT / "docs" / "find" / "curve.svg").read_text(encoding="utf-8")
    words = [sorted(re.findall(r">([^<>]+)</text>", svg)) for svg in (shown, picture.svg())]
    assert words[0] == words[1], "python scripts/draw_find.py"
    for row in verdict_runs(records)[1]["figures"]:
        assert f"{row['dense'] * 100:.2f}" in readme
        assert f"{row['ticket'] * 100:.2f}" in readme


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1500
