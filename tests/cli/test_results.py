"""`lottery-hub results`: text on the screen, a file where one is asked for, and nothing half-written."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lottery_hub.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line here; return (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lottery-hub", "results", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return invoke


def test_figures_are_printed_and_written_in_every_format(run: Path, call: Call, tmp_path: Path) -> None:
    code, out, err = call(run)
    header, *rows = out.splitlines()
    assert (code, err, len(rows)) == (0, "", 40)
    assert header.startswith("dataset,arch,pretrain,network,method,level,sparsity,regime,seed,split,look,attack,")
    code, out, _ = call(run, "--format", "json")
    assert (code, len(json.loads(out))) == (0, 40)
    file = tmp_path / "figures.parquet"
    code, out, err = call(run, "--format", "parquet", "--output", file)
    assert (code, out, err) == (0, "", f"40 rows: {file}\n")
    assert pq.read_table(io.BytesIO(file.read_bytes())).num_rows == 40
    code, _, err = call(run, "--output", file)
    assert code == 1
    assert "is there already" in err
    code, _, err = call(run, "--format", "parquet")
    assert code == 2
    assert "--output" in err


def test_images_say_what_is_missing(run: Path, call: Call) -> None:
    code, out, err = call(run, "--images")
    assert (code, len(out.splitlines())) == (0, 1 + 5 * 2 * 2 * 21)
    assert err.startswith("note: labels and predictions are missing: the records name their images stripes")
    code, out, err = call("resnet18-slim-adv", "--images")
    assert (code, out, err) == (1, "", "error: resnet18-slim-adv holds a ladder, whose records keep no single images\n")
