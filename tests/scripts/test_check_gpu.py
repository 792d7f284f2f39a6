"""What checks a GPU runs where there is none, small: a stage that broke would cost minutes of a card."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gpu.py"
LONG = ("find digits", "find cifar", "suite")  # which start processes


def checked(place: Path, monkeypatch: pytest.MonkeyPatch, *stages: str) -> dict[str, Any]:
    """Run these stages, or all but the long ones; return what each found."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT))
    stages = stages or tuple(name for name in script["STAGES"] if name not in LONG)
    words = ["--output", str(place / "told.json"), "--cpu", "--tiny", "--minutes", "60", "--stages", *stages]
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", *words])
    with pytest.raises(SystemExit) as end:
        script["main"]()
    assert end.value.code == 0
    told = json.loads((place / "told.json").read_text())
    return {name: told[name]["result"] for name in stages}


def test_a_cpu_is_on_a_par_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = checked(tmp_path, monkeypatch, "parity")["parity"]
    assert told["held"]
    assert told["logits"] == 0


@pytest.mark.slow
def test_every_stage_finds_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = checked(tmp_path, monkeypatch)
    ways = {row["way"] for row in told["resnet18 PGD-10"]["ways"]}
    assert {"usual", "careful", "ours", "  without folding", "  in float32"} <= ways
    assert set(told["jobs"]) == {"1", "2"}
