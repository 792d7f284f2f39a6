"""The house keeps its shape: wings that only look down, and one door for each foreign library."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, COMMANDS = ROOT / "lottery_hub", ROOT / "cli"

# From the ground up; a wing imports only from lower floors.
FLOORS = [
    {"errors", "version"},
    {"values", "telling"},
    {"settings", "fetching"},
    {"images"},
    {"networks"},
    {"storage", "robustness"},
    {"running", "judging"},
    {"training", "reporting"},
    {"sharing"},
    {"finding", "verifying"},
    {"studying"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
WINGS = sorted(path.name for path in PACKAGE.iterdir() if any(path.glob("[!_]*.py")))
DOORS = {
    "safetensors": {"storage/files.py"},
    "huggingface_hub": {
        "fetching/answers.py",
        "fetching/bounded.py",
        "fetching/connection.py",
        "fetching/downloads.py",
        "fetching/hub_cache.py",
        "fetching/pasted.py",
        "sharing/eval_results.py",
        "sharing/publishing.py",
    },
    "fsspec": {"fetching/addresses.py"},
    "pyautoattack": {"robustness/strong_attacks.py"},
    "jinja2": {"reporting/rendering.py"},
    "markupsafe": {"reporting/rendering.py"},
    "matplotlib": {"reporting/canvas.py"},
    "datasets": {"images/parquet.py"},
    "pyarrow": {"images/parquet.py", "reporting/tables.py"},
    "scipy": {"judging/frontier.py", "judging/intervals.py", "judging/margins.py"},
    "sklearn": {"images/opening.py"},
    "yaml": {"reporting/rendering.py", "sharing/eval_results.py"},
    "pydantic": {
        "settings/studies.py",
        "fetching/answers.py",
        "settings/config.py",
        "settings/plans.py",
        "storage/origins.py",
        "storage/records.py",
        "storage/manifest.py",
    },
    "ray": {"running/on_ray.py"},
    "onnx": {"sharing/exporting.py"},
    "onnxruntime": {"sharing/exporting.py"},
    "onnxscript": {"sharing/exporting.py"},
    "typer": set(),
    "rich": {f"reporting/{name}.py" for name in ("narrow", "notebook", "progress", "screen", "study_screen")},
    "IPython": {"reporting/notebook.py"},
    "pandas": {"commands/results.py", "commands/tables.py", "reporting/tables.py"},
    "tomli_w": {"settings/plans.py"},
}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path):
    """What a file is imported as, without the package's name."""
    if path.is_relative_to(COMMANDS):
        return f"cli.{path.stem}"
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


KNOWN = {name_of(path) for path in (*modules(), *COMMANDS.glob("*.py"))}


@cache
def imports(path):
    """Every imported module of a file, `from package import module` as package.module, wherever it stands."""
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.is_relative_to(COMMANDS), f"{path.name} uses a relative import"
            package = "lottery_hub.cli." * bool(node.level) + (node.module or "")
            yield from (f"{package.strip('.')}.{alias.name}" for alias in node.names)


def inside(path):
    """The library's own modules that a file imports; a name that is no module's is one of the package's __init__."""
    for imported in imports(path):
        package, _, rest = imported.partition(".")
        if package == "lottery_hub":
            parent = rest.rpartition(".")[0]
            yield next((name for name in (rest, parent, f"{parent}.__init__") if name in KNOWN), "__init__")


def wing(module):
    return module.partition(".")[0]


def floor(module):
    return next(index for index, names in enumerate(FLOORS) if wing(module) in names)


def test_every_module_has_a_floor():
    assert {wing(module) for module in KNOWN} == set().union(*FLOORS)


@pytest.mark.parametrize("path", [*modules(), *sorted(COMMANDS.glob("*.py"))], ids=name_of)
def test_imports_go_down(path):
    here = name_of(path)
    others = [module for module in inside(path) if wing(module) != wing(here)]
    assert "__init__" not in others, f"{here} imports the package's own __init__"
    wrong = [module for module in others if floor(module) >= floor(here)]
    assert wrong == [], f"{here} imports {wrong}"


@pytest.mark.parametrize("name", WINGS)
def test_imports_within_a_wing_go_one_way(name):
    rooms = {name_of(path): {m for m in inside(path) if wing(m) == name} for path in (PACKAGE / name).glob("[!_]*.py")}
    assert len(list(TopologicalSorter(rooms).static_order())) == len(rooms)


@pytest.mark.parametrize("name", WINGS)
def test_a_wing_says_what_it_is_for_and_imports_and_hands_on_nothing(name):
    text = (PACKAGE / name / "__init__.py").read_text(encoding="utf-8")
    (statement,) = ast.parse(text).body
    assert isinstance(statement, ast.Expr)
    assert len(text.splitlines()) <= 6
    says = re.search(r"^May import: (.+)\.$", text, re.MULTILINE)
    assert says, "its last line says what it may import"
    may = set(says[1].split(", ")) - {"nothing"}
    does = {wing(module) for path in (PACKAGE / name).glob("*.py") for module in inside(path)}
    assert does - {name, "errors", "version", "values", "telling"} == may


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").glob("*/test_*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_a_test_stands_where_its_module_stands(path):
    if path.parent.name in WINGS:
        assert (PACKAGE / path.parent.name / path.name.removeprefix("test_")).is_file()


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_one_door(library):
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(imported.split(".")[0] == library for imported in imports(path))
    }
    assert users == DOORS[library]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
