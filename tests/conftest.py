"""What several test files share: tiny images, a fresh slim backbone, its one-shot ladder, and the --slow option."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

# The Hub's client reads these when it is first imported, which timm does: they come before every other import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "lottery-hub-tests-have-no-cache")
# Where fixtures keep what they train; a test has a store of its own.
os.environ["LOTTERY_HUB_STORE"] = tempfile.mkdtemp(prefix="lottery-hub-tests-")
# Sums depend on the number of threads in their last bits: subprocesses must add as this process does.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
import typer.main
from pyautoattack import AutoAttack

from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.networks.tickets import Ladder
from lottery_hub.settings.config import DrawPlan
from lottery_hub.training.drawing import draw
from tests.judged import judged

torch.set_num_threads(1)
# Processes are killed here and power never fails: nobody waits until bytes are on the disk, which on a slow one takes
# a tenth of the time.
os.fsync = lambda _: None
# The commands are the same each time, and take longer to make of their functions than many a call.
typer.main.get_command = cache(typer.main.get_command)
atexit.register(shutil.rmtree, os.environ["LOTTERY_HUB_STORE"], ignore_errors=True)


_TESTS = count()

# Files that take longest, in this order: of several processes none is left alone with one of them at the end.
LONG = [
    "test_finding.py",
    "faults/test_strangers.py",
    "test_verifying.py",
    "faults/test_faults.py",
    "cli/test_cli.py",
    "faults/test_inputs.py",
    "training/test_loop.py",
    "sharing/test_publishing.py",
    "test_pages.py",
    "judging/test_scrutiny.py",
    "sharing/test_exporting.py",
    "cli/test_hub.py",
    "training/test_together.py",
    "storage/test_atomic.py",
    "test_own_images.py",
    "robustness/test_strong_attacks.py",
    "test_find_over_the_hub.py",
    "judging/test_consistency.py",
    "faults/test_disks.py",
    "training/test_drawing.py",
    "test_studying.py",
]


def _name(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).as_posix()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that train for minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The rest stays as it was: `make test` hands files out in this order, and not those with most tests first.
    items.sort(key=lambda item: LONG.index(name) if (name := _name(item)) in LONG else len(LONG))
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


def stripes(count: int, seed: int) -> Split:
    """Noise with a bright column at the place of the label: 3 classes that a network can learn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 100, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 3
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, :, 1 + 2 * label] = 230
    return Split(images, labels)


@pytest.fixture(scope="session")
def tiny_data() -> Dataset:
    """24 training, 9 validation and 12 test images of 8 x 8 pixels in 3 classes."""
    return Dataset(
        name="stripes",
        revision=None,
        fingerprint="sha256:stripes",
        classes=("left", "middle", "right"),
        fraction=1.0,
        train=stripes(24, 1),
        validation=stripes(9, 2),
        test=stripes(12, 3),
        notes=(),
    )


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A slim ResNet-18 with 5 classes as timm initialises it; nobody changes it."""
    return Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 5, seed=0))


@pytest.fixture(scope="session")
def ladder(backbone: Backbone) -> Ladder:
    """Six one-shot levels of `backbone`: 20 % to 73.8 %."""
    return draw(backbone, DrawPlan(method="omp", rounds=6))


@pytest.fixture(scope="session")
def run(backbone: Backbone, tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of `judged`: a find over two levels with two seeds; nobody changes it."""
    return judged(backbone, tiny_data, tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def short_autoattack() -> Iterator[None]:
    """Let AutoAttack take ten steps and fifty queries; who asks for this does not ask how strong it is."""
    whole = AutoAttack.run_standard_evaluation

    def short(suite: AutoAttack, *arguments: Any, **settings: Any) -> Any:
        for part in (suite.apgd, suite.apgd_targeted, suite.fab):
            part.n_iter = min(part.n_iter, 10)
        suite.square.n_queries = min(suite.square.n_queries, 50)
        return whole(suite, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoAttack, "run_standard_evaluation", short)
        yield


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a store in which nothing is finished; the folder is made when something is."""
    monkeypatch.setenv("LOTTERY_HUB_STORE", str(tmp_path_factory.getbasetemp() / f"store-{next(_TESTS)}"))
