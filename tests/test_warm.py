"""Forked processes are what fresh ones are: environment, folder, files, number, signals and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm

ENDS = [
    "print('done')",
    "raise SystemExit",
    "raise SystemExit(3)",
    "raise SystemExit('why')",
    "raise SystemExit(['why'])",
    "1 / 0",
    "import atexit; atexit.register(print, 'at its end')",
    "import threading; threading.Timer(0.1, print, ['after all else']).start()",
    "import os; os._exit(4)",
    "import os; os.kill(os.getpid(), 9)",
    "raise KeyboardInterrupt",
    "import sys; print(input(), sys.argv, __name__, sys.path[0], sys.stdout.isatty(), sys.stderr.errors)",
]


@pytest.mark.parametrize("program", ENDS)
def test_a_process_ends_as_a_fresh_one_does(program: str) -> None:
    words = ["-c", program, "a word"]
    fresh = subprocess.run([sys.executable, *words], input="given\n", capture_output=True, text=True, check=False)
    ours = warm.run(*words, given="given\n")
    assert (ours.returncode, ours.stdout) == (fresh.returncode, fresh.stdout)
    assert ours.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_it_has_what_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    told = "import json, os; print(json.dumps([dict(os.environ), os.getcwd(), os.getpid(), os.listdir('/dev/fd')]))"
    environment, folder, number, files = json.loads(warm.run("-c", told, env={"A": "ö"}, cwd=tmp_path).stdout)
    assert environment == {"A": "ö"}
    assert folder == str(tmp_path)
    assert number != os.getpid()
    assert len(files) <= 4, "three, and the folder that is listed"


def test_what_reads_its_settings_from_the_environment_has_yet_to_be_imported() -> None:
    told = (
        "import sys; print([name in sys.modules for name in ('torch', 'lottery_hub.cli', 'huggingface_hub', 'timm')])"
    )
    assert warm.run("-c", told).stdout == "[True, True, False, False]\n"
    told = "from huggingface_hub import constants; print(constants.ENDPOINT)"
    assert warm.run("-c", told, env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}).stdout == "http://127.0.0.1:9\n"


def test_a_module_and_a_file_run_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("print('near', __name__)")
    (tmp_path / "file.py").write_text("import near, sys; print(__name__, sys.argv)")
    assert warm.run(tmp_path / "file.py", "x").stdout == f"near near\n__main__ ['{tmp_path}/file.py', 'x']\n"
    assert warm.run("-m", "near", cwd=tmp_path).stdout == "near __main__\n"


def test_it_takes_signals_and_no_longer_than_it_may() -> None:
    with Path(os.devnull).open("r+") as nothing:
        waiting = warm.start(["-c", "import time; time.sleep(60)"], stdin=nothing, stdout=nothing, stderr=nothing)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.01)
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(20) == -signal.SIGTERM
        waiting.kill()  # which it no longer needs
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run("-c", "import time; time.sleep(60)", timeout=0.2)
    assert time.monotonic() - began < 30
