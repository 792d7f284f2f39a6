"""What measures how fast images are decoded and read, on a few small ones."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_images.py"


def test_every_rate_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--images", "30", "--side", "16", "--batches", "8", "--busy"]
    monkeypatch.setattr(sys, "argv", ["bench_images.py", *words])
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    told = capsys.readouterr().out
    for line in (
        r"30 photos of \d+ KB, stored at 16x16 pixels",
        r"decoded by 1: \d+ images/s, 100% of 1's each",
        r"second start: \d+\.\d\d s",
        r"batches of 8: \d+\.\d\d GB/s, \d+\.\d\d the first time",
    ):
        assert re.search(line, told)
