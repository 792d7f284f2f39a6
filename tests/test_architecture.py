"""The house keeps its shape: imports go one way, and each foreign library has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lottery_hub"

# From the ground up; a module imports only from lower floors.
FLOORS = [
    {"errors", "version", "judging.findings", "networks.memory", "settings.speed"},
    {"fetching.names", "fetching.bounded", "images.pointers", "settings.paths"},
    {
        "settings.config",
        "fetching.connection",
        "images.decoding",
        "images.splits",
        "storage.rice",
        "storage.atomic",
        "storage.files",
        "running.side_by_side",
    },
    {"fetching.hub_cache"},
    {"fetching.answers"},
    {
        "fetching.downloads",
        "fetching.addresses",
        "fetching.pasted",
        "images.parquet",
        "robustness.strong_attacks",
        "robustness.outcomes",
        "storage.sealed",
        "storage.checkpoints",
    },
    {
        "judging.verdict",
        "networks.masks",
        "images.opening",
        "robustness.attacks",
        "robustness.corruptions",
        "storage.codec",
    },
    {
        "networks.backbones",
        "settings.environment",
        "settings.presets",
        "networks.published",
        "networks.compacting",
        "reporting.rendering",
        "networks.small_maps",
    },
    {"images.datasets"},
    {"networks.folding", "images.views", "images.recorded"},
    {"robustness.evaluation", "networks.tickets"},
    {
        "training.loop",
        "networks.inspection",
        "robustness.masking",
        "robustness.unseen",
        "storage.manifest",
        "storage.origins",
    },
    {"storage.ownership"},
    {"storage.folder", "storage.records", "judging.workload"},
    {"sharing.pulling"},
    {"reporting.cards", "reporting.card_check", "running.runs", "sharing.sources", "sharing.exporting"},
    {"reporting.ladder_cards", "sharing.searching", "judging.scrutiny"},
    {"sharing.publishing"},
    {"training.pretraining", "training.drawing", "training.transferring", "judging.consistency", "judging.lineage"},
    {"training.lending", "reporting.keeping", "judging.remeasuring"},
    {"training.retraining"},
    {"finding", "verifying"},
]
DOORS = {
    "safetensors": {"storage/files.py"},
    "huggingface_hub": {
        "fetching/answers.py",
        "fetching/bounded.py",
        "fetching/connection.py",
        "fetching/downloads.py",
        "fetching/hub_cache.py",
        "fetching/pasted.py",
        "sharing/publishing.py",
    },
    "fsspec": {"fetching/addresses.py"},
    "pyautoattack": {"robustness/strong_attacks.py"},
    "jinja2": {"reporting/rendering.py"},
    "datasets": {"images/parquet.py"},
    "pyarrow": {"images/parquet.py"},
    "sklearn": {"images/opening.py"},
    "yaml": {"reporting/rendering.py"},
    "pydantic": {
        "fetching/answers.py",
        "settings/config.py",
        "storage/origins.py",
        "storage/records.py",
        "storage/manifest.py",
    },
    "onnx": {"sharing/exporting.py"},
    "onnxruntime": {"sharing/exporting.py"},
    "onnxscript": {"sharing/exporting.py"},
    "typer": set(),
    "rich": set(),
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """Every imported module of a file, `from package import module` as package.module, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} uses a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(path):
    """The library's own modules that a file imports."""
    known = {name_of(module) for module in modules()}
    for imported in imports(path):
        if imported.startswith("lottery_hub."):
            rest = imported.removeprefix("lottery_hub.")
            for candidate in (rest, rest.rpartition(".")[0]):
                if candidate in known:
                    yield candidate
                    break


def floor(module):
    return next(index for index, names in enumerate(FLOORS) if module in names)


def test_every_module_has_a_floor():
    assert {name_of(path) for path in modules()} == set().union(*FLOORS)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_down(path):
    here = name_of(path)
    wrong = [module for module in inside(path) if floor(module) >= floor(here)]
    assert wrong == [], f"{here} imports {wrong}"


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_one_door(library):
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(imported.split(".")[0] == library for imported in imports(path))
    }
    assert users == DOORS[library]


def test_the_library_knows_nothing_of_its_command_line():
    for path in PACKAGE.rglob("*.py"):
        assert not any("lottery_hub.cli" in imported for imported in imports(path)), path


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
