"""The front door: every public name is there, and opening it costs next to nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lottery_hub

HEAVY = {"torch", "timm", "torchvision", "numpy", "pydantic", "huggingface_hub", "datasets", "pyarrow", "sklearn"}

# How many times the processor time of what cannot be spared, the best of five processes each, taken by turns: seconds
# would measure the chip, and the clock on the wall what else runs on it.
TIMES_A_BARE_START = 3
TIMES_ITS_LIBRARY = 2.5

IMPORT = "import lottery_hub"
HELP = """
import contextlib, io, sys
sys.argv = ["lottery-hub", "--help"]
from lottery_hub.cli import main
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    main()
assert "find" in shown.getvalue()
"""
LIBRARY = "import typer.rich_utils"
REPORT = """
import json, sys, time
print(json.dumps({"seconds": time.process_time(), "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def in_a_process_of_its_own(code):
    """Run code in a fresh interpreter; return the processor time since it started, and the packages it imported."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "needed", "times"),
    [(IMPORT, "", TIMES_A_BARE_START), (HELP, LIBRARY, TIMES_ITS_LIBRARY)],
    ids=["import", "help"],
)
def test_the_first_answer_comes_fast(code, needed, times):
    turns = [[in_a_process_of_its_own(each)["seconds"] for each in (code, needed)] for _ in range(5)]
    took, needed_took = (min(column) for column in zip(*turns, strict=True))
    assert took < times * needed_took


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_the_first_answer_imports_nothing_heavy(code):
    assert HEAVY.isdisjoint(in_a_process_of_its_own(code)["modules"])


@pytest.mark.parametrize("name", lottery_hub.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(lottery_hub, name)
    assert name in dir(lottery_hub)
    assert isinstance(value, str) or value.__doc__


def test_public_functions_come_from_the_library_and_stay_the_same_object():
    for name in set(lottery_hub.__all__) - {"__version__"}:
        value = getattr(lottery_hub, name)
        assert value.__module__.startswith("lottery_hub.")
        assert value.__name__ == name
        assert getattr(lottery_hub, name) is value


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lottery_hub' has no attribute 'fnd'"):
        lottery_hub.fnd  # noqa: B018


def test_type_checkers_see_the_names_that_users_get():
    tree = ast.parse(Path(lottery_hub.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen == {name: f"lottery_hub.{home}" for name, home in lottery_hub._HOME.items()}
    assert sorted([*seen, "__version__"]) == sorted(lottery_hub.__all__)


def test_the_types_are_shipped():
    assert (Path(lottery_hub.__file__).parent / "py.typed").is_file()


# What a user writes. An ignored line must hold an error, or mypy says that the ignore is unused: types that had become
# Any would not go unnoticed.
SCRIPT = """
from pathlib import Path

import torch
import lottery_hub as lh

backbone = lh.load_backbone("adv", "resnet18-slim")
data = lh.load_dataset("digits", fraction=0.5)
attack = lh.Attack(eps=0.1, step_size=0.025, steps=20)
recipe = lh.Recipe(epochs=20, lr=0.02, augment="crop", attack=attack)
ladder: lh.Ladder = lh.load_ladder("resnet18-slim-adv")
ticket: lh.Ticket = lh.load_ticket("resnet18-slim-adv", sparsity=0.8)
try:
    done = lh.transfer(ticket, data, recipe, test_attack=attack, seed=lh.Seeds.of(0))
    share: float | None = done.accuracy.RA
    folder: Path = lh.save_ticket(done.ticket(ticket, data, recipe), Path("trained"))
    model: torch.nn.Module = ticket.to_model(num_classes=10)
    correct: int = lh.evaluate(model, data.test, attack=attack).accuracy.correct
    found = [best.repo_id.upper() for best in lh.search_tickets(dataset="cifar10", double_win=True)]
    commit: str | None = lh.push_ticket(folder, "user/name", dry_run=True).commit
    answers = [finding.answer for finding in lh.verify(lh.pull("user/name"))]
except (lh.DownloadError, lh.PublishError, lh.TicketError) as problem:
    error: lh.LotteryHubError = problem
version: str = lh.__version__
lh.load_ticket(0.8)  # type: ignore[arg-type]
wrong: int = done.accuracy.RA  # type: ignore[assignment]
lh.fnd  # type: ignore[attr-defined]
"""


def test_a_users_script_is_checked_strictly_against_our_types(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # With the settings and the cache of `make lint`, which has read torch before.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy_cache", str(script)],
        cwd=Path(lottery_hub.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
