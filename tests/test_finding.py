"""Find: what is written, what is refused, and that a kill at any moment costs nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from lottery_hub import cli
from lottery_hub.errors import ConfigError, DamageWarning, LotteryHubError, RunError
from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.frontier import INSIDE
from lottery_hub.judging.lineage import record_of
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.screen import levels_table
from lottery_hub.robustness.evaluation import evaluate
from lottery_hub.running.store import open_store
from lottery_hub.settings.config import REGIMES, Attack, DataPlan, DrawPlan, Recipe, Seeds, TransferPlan
from lottery_hub.settings.plans import FindPlan
from lottery_hub.settings.presets import quick_draw
from lottery_hub.sharing.ladders import known_ladder
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage import sealed
from lottery_hub.storage.folder import (
    load_ladder,
    load_ticket,
    save_backbone,
    save_ladder,
    save_ticket,
    trained_folders,
)
from lottery_hub.training import radius, units
from lottery_hub.training.drawing import draw
from tests import warm

SUMMARY = [
    "ticket", "asked_for", "double_win", "answer", "sparsity", "level", "tolerance", "margin", "frontier",
    "would_decide", "seeds", "dense", "levels", "controls", "caveats", "attack", "samples", "validation_samples",
    "fraction", "scan", "scrutiny",
]  # fmt: skip

STANDARD = Recipe(epochs=1, batch_size=12, lr=0.02, augment="none", image_size=8)
ADVERSARIAL = STANDARD.changed(attack=Attack(method="fgsm", eps=0.1))
TRANSFER = TransferPlan(standard=STANDARD, adversarial=ADVERSARIAL, test_attack=Attack(method="fgsm", eps=0.1))


@pytest.fixture(scope="module")
def backbone_folder(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(backbone, tmp_path_factory.mktemp("backbone") / "net")


@pytest.fixture(scope="module")
def plan(backbone_folder: Path) -> FindPlan:
    return FindPlan(
        pretrain=str(backbone_folder),
        arch="resnet18-slim",
        data=DataPlan(dataset="stripes"),
        draw=DrawPlan(method="omp", rounds=3),
        ladder="draw",
        transfer=TRANSFER,
        seeds=2,
        scan="all",
        controls=True,
    )


# The whole story, in process


@pytest.fixture(scope="module")
def found(
    plan: FindPlan, tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """One find of three one-shot levels with controls, and everything it reported."""
    directory = tmp_path_factory.mktemp("found") / "run"
    told: list[tuple[str, dict[str, Any]]] = []
    store = directory.with_name("store")
    summary = find(
        plan, directory, data=tiny_data, store=store, report=lambda kind, record: told.append((kind, record))
    )
    return directory, summary, told


@pytest.fixture
def run(found: tuple[Path, dict[str, Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that find's run directory, with a copy of its store as the one in use."""
    monkeypatch.setenv("LOTTERY_HUB_STORE", str(shutil.copytree(found[0].with_name("store"), tmp_path / "store")))
    return shutil.copytree(found[0], tmp_path / "run")


def test_the_summary_has_the_documented_keys(found: tuple[Path, dict[str, Any], Any]) -> None:
    directory, summary, _ = found
    assert list(summary) == SUMMARY
    assert summary["ticket"] == str(directory / "ticket")
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert [row["level"] for row in summary["levels"]] == [1, 2, 3]
    for row in summary["levels"]:
        assert row["sparsity"] == pytest.approx(1 - 0.8 ** row["level"], abs=1e-5)
        assert isinstance(row["double_win"], bool)
    for row in [summary["dense"], *summary["levels"], *summary["controls"]]:
        for regime in ("standard", "adversarial"):
            seeds = row[regime]["seeds"]
            assert [run["seed"] for run in seeds] == [0, 1]
            for figure in ("SA", "RA"):
                assert row[regime][figure] == pytest.approx(sum(run[figure] for run in seeds) / 2)
                assert 0 <= row[regime][figure] <= 1
    assert summary["samples"] == 12
    assert summary["attack"] == "FGSM Linf eps 0.1"


def test_the_ticket_is_the_chosen_level_under_the_stated_sparsity(found: tuple[Path, dict[str, Any], Any]) -> None:
    directory, summary, _ = found
    ticket = load_ticket(directory / "ticket")
    assert (ticket.level, ticket.sparsity) == (summary["level"], summary["sparsity"])
    assert ticket.double_win is summary["double_win"]
    ladder = load_ladder(directory / "ladder")
    assert all(torch.equal(ticket.mask[name], kept) for name, kept in ladder.mask(ticket.level).items())
    assert ticket.fingerprint() == ladder.ticket(ticket.level).fingerprint()
    winners = [row for row in summary["levels"] if row["validation"]["inside"] >= INSIDE]
    chosen = winners[-1] if winners else max(summary["levels"], key=lambda row: row["validation"]["slack"])
    assert summary["level"] == chosen["level"]
    assert (summary["double_win"], summary["answer"]) == (chosen["double_win"], chosen["answer"])


def test_the_records_hold_every_transfer(found: tuple[Path, dict[str, Any], Any]) -> None:
    directory, summary, _ = found
    records = load_ticket(directory / "ticket").records
    told = {key: value for key, value in summary.items() if key not in ("ticket", "asked_for")}
    assert {key: records[key] for key in told} == told
    # Dense, three levels and two controls; two regimes; two seeds.
    assert len(records["transfers"]) == 6 * 2 * 2
    assert [t["ticket"] for t in records["transfers"][:5]] == ["level-00"] * 4 + ["level-01"]
    assert records["transfers"][0]["sparsity"] == 0
    # The picked level's figures on both splits are the means over its transfers.
    (row,) = (row for row in records["levels"] if row["level"] == records["level"])
    runs = [t for t in records["transfers"] if t["ticket"] == f"level-{row['level']:02d}"]
    adversarial = [run for run in runs if run["regime"] == "adversarial"]
    assert row["adversarial"]["RA"] == pytest.approx(sum(run["RA"] for run in adversarial) / 2)
    held_out = [run["validation"]["SA"] for run in adversarial]
    assert row["validation"]["adversarial"]["SA"] == pytest.approx(sum(held_out) / 2)
    assert {run["validation"]["samples"] for run in runs} == {9}
    assert (directory / "ticket" / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_every_unit_is_announced_and_measured_once(found: tuple[Path, dict[str, Any], Any]) -> None:
    directory, _, told = found
    called = [record["unit"] for kind, record in told if kind == "unit"]
    assert len(called) == len(set(called)) == 24
    assert called[0] == "transfer-level-00-standard-seed-0"
    # The one-shot control of a one-shot ladder is the level itself, and found.
    again = {record["unit"] for kind, record in told if kind == "unit" and record["finished"]}
    assert len(again) == 4
    assert all("-omp-" in unit for unit in again)
    assert {record["unit"] for kind, record in told if kind == "epoch"} == set(called) - again
    assert [kind for kind, _ in told if kind in ("ladder", "dense", "level", "control")] == (
        ["ladder", "dense"] + ["level"] * 3 + ["control"] * 2
    )
    assert len(open_store(directory.with_name("store")).addresses()) == len(called) - 4
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "ladder", "run.json", "ticket"]


def test_the_ticket_folder_holds_the_networks_behind_its_figures(
    found: tuple[Path, dict[str, Any], Any], tiny_data: Dataset
) -> None:
    directory, _, _ = found
    chosen = load_ticket(directory / "ticket")
    names = {f"{t}-{r}-seed-{s}" for t in ("dense", "ticket") for r in ("standard", "adversarial") for s in (0, 1)}
    assert {path.name for path in (directory / "ticket" / "trained").iterdir()} == names
    recorded = {(t["ticket"], t["regime"], t["seed"]): t for t in chosen.records["transfers"]}
    for name in names:
        trained = load_ticket(directory / "ticket" / "trained" / name)
        which, regime, _, seed = name.split("-")
        unit = "level-00" if which == "dense" else f"level-{chosen.level:02d}"
        record = recorded[unit, regime, int(seed)]
        assert trained.fingerprint() == record["trained"]
        assert trained.level == (0 if which == "dense" else chosen.level)
        again = evaluate(
            trained.to_normalised(), tiny_data.test, attack=TRANSFER.test_attack, image_size=8, seed=int(seed)
        )
        assert (record["SA"], record["RA"]) == (again.SA, again.RA)


def test_controls_keep_as_many_weights_as_the_chosen_level(found: tuple[Path, dict[str, Any], Any]) -> None:
    _, summary, _ = found
    assert [row["method"] for row in summary["controls"]] == ["omp", "random"]
    assert [row["sparsity"] for row in summary["controls"]] == [summary["sparsity"]] * 2


def test_the_same_find_again_trains_nothing_and_says_the_same(
    found: tuple[Path, dict[str, Any], Any], run: Path, plan: FindPlan, tiny_data: Dataset
) -> None:
    before = times(run)
    again, trained = trains(plan, run, tiny_data)
    assert trained == []
    assert again | {"ticket": ""} == found[1] | {"ticket": ""}
    assert times(run) == before, "a finished find writes nothing"


def trains(plan: FindPlan, directory: Path, data: Dataset, **how: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what a find says, and the names of the units that it made, in order."""
    made: list[str] = []

    def watch(kind: str, record: dict[str, Any]) -> None:
        if kind == "unit" and not record["finished"]:
            made.append(record["unit"].removeprefix("transfer-"))

    return find(plan, directory, data=data, report=watch, **how), sorted(made)


def test_a_run_goes_on_however_its_paths_are_typed_and_wherever_they_are(
    run: Path, plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    moved = shutil.copytree(plan.pretrain, tmp_path / "moved" / "net")
    before = times(run)
    for typed in (f"{plan.pretrain}/", str(moved)):
        find(plan.changed(pretrain=typed), str(run), data=tiny_data)
    assert times(run) == before


def times(place: Path) -> dict[str, int]:
    """When everything in a folder was last changed."""
    found = (path for path in [place, *place.rglob("*")] if path.name != ".lock")
    return {str(path.relative_to(place)): path.lstat().st_mtime_ns for path in found}


def test_what_was_put_into_a_ticket_folder_is_there_after_the_same_find_again(
    run: Path, plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    place = run / "ticket"
    ticket = load_ticket(place)
    # As a push does, which looks closer.
    looked = replace(ticket, records=ticket.records | {"scrutiny": {"checks": {"passed": True}}})
    save_ticket(looked, place, "# my own card\n", carry=True)
    (place / "figure.png").write_bytes(b"picture")
    before = times(run)
    find(plan, run, data=tiny_data)
    assert times(run) == before
    # What is missing comes back, and nothing else changes.
    shutil.rmtree(place / "trained" / "dense-standard-seed-1")
    find(plan, run, data=tiny_data)
    assert times(run).keys() == before.keys()
    assert load_ticket(place).records["scrutiny"] == {"checks": {"passed": True}}
    assert (place / "README.md").read_text(encoding="utf-8") == "# my own card\n"
    assert (place / "figure.png").read_bytes() == b"picture"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ticket", "ticket is a file, and a folder goes there; give another name, or --overwrite"),
        ("ticket/notes.txt", r"ticket holds notes\.txt, which would be lost; give another name, or --overwrite"),
        ("ticket/config.json", "config.json: .*; move the folder away, or --overwrite"),
        ("ladder/notes.txt", r"ladder holds notes\.txt, which would be lost"),
    ],
)
def test_what_stands_where_a_find_will_write_is_refused_before_anything_is_trained(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, name: str, words: str
) -> None:
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    told: list[str] = []
    with pytest.raises(LotteryHubError, match=words):
        find(plan, tmp_path / "run", data=tiny_data, report=lambda kind, _: told.append(kind))
    assert told == []
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [mine]


def test_what_is_overwritten_by_a_find_is_moved_aside(run: Path, plan: FindPlan, tiny_data: Dataset) -> None:
    before = load_ticket(run / "ticket").fingerprint()
    for name in ("ticket/results.json", "ladder/results.json"):
        (run / name).write_text("damaged")
        with pytest.raises(
            LotteryHubError, match=r"results\.json is not the file that .*; move the folder away, or --ov"
        ):
            find(plan, run, data=tiny_data)
    find(plan, run, data=tiny_data, overwrite=True)
    assert load_ticket(run / "ticket").fingerprint() == before
    for name in ("ticket", "ladder"):
        assert (run / f"{name}.old" / "results.json").read_text() == "damaged"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def unit_of(level: int, regime: str, seed: int) -> Path:
    """The folder of a transfer of the ladder, in the store that is in use."""
    store = open_store()
    for folder in map(store.folder, store.addresses()):
        record = sealed.parse(folder / "result.json").record
        if (record["regime"], record["seed"]) == (regime, seed):
            trained = load_ticket(folder / "trained")
            if (trained.level, trained.method) == (level, "omp"):
                return folder
    raise AssertionError("there is no such unit")


def test_damage_anywhere_in_a_run_or_store_is_said_and_only_what_is_damaged_is_made_anew(
    found: tuple[Path, dict[str, Any], Any], run: Path, plan: FindPlan, tiny_data: Dataset
) -> None:
    summary = found[1]
    damaged = [
        run / "run.json",
        open_store().directory / "store.json",
        unit_of(0, "standard", 1) / "trained" / "ticket.safetensors",
        unit_of(2, "adversarial", 0) / "result.json",
    ]
    for path in damaged:
        flip(path)
    with pytest.warns(DamageWarning) as told:
        again, trained = trains(plan, run, tiny_data)
    lines = [str(warning.message) for warning in told]
    assert [path for path in damaged if not any(path.name in line and "damaged" in line for line in lines)] == []
    assert len(lines) == len(damaged)
    assert trained == ["level-00-standard-seed-1", "level-02-adversarial-seed-0"]
    assert again | {"ticket": ""} == summary | {"ticket": ""}
    ticket = load_ticket(run / "ticket")
    for name, place in trained_folders(run / "ticket").items():
        said = load_ticket(place).records["transfer"]
        assert said == {key: value for key, value in record_of(ticket, name).items() if key in said}, name
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamageWarning)
        assert find(plan, run, data=tiny_data) == again


def test_a_trained_network_that_is_gone_is_trained_again(
    found: tuple[Path, dict[str, Any], Any], run: Path, plan: FindPlan, tiny_data: Dataset
) -> None:
    shutil.rmtree(unit_of(0, "standard", 1) / "trained")
    with pytest.warns(DamageWarning, match="trained/config.json is missing"):
        again, trained = trains(plan, run, tiny_data)
    assert trained == ["level-00-standard-seed-1"]
    assert again | {"ticket": ""} == found[1] | {"ticket": ""}


def test_a_network_that_goes_while_its_find_is_at_work_is_named(run: Path, plan: FindPlan, tiny_data: Dataset) -> None:
    place = unit_of(0, "standard", 1) / "trained"
    with pytest.raises(RunError, match=r"level-00-standard-seed-1 is gone .*; give the same command again"):
        find(
            plan, run, data=tiny_data, report=lambda kind, _: shutil.rmtree(place, True) if kind == "control" else None
        )


def test_what_changes_a_figure_is_refused_with_the_difference(run: Path, plan: FindPlan, tiny_data: Dataset) -> None:
    with pytest.raises(RunError, match=r"other settings \(transfer\.standard\.lr: 0\.02 → 0\.5\)"):
        find(plan.with_settings(["transfer.standard.lr=0.5"]), run, data=tiny_data)
    with pytest.raises(RunError, match=r"run/ladder was drawn otherwise \(rounds: 3 → 4\); choose another --output"):
        find(plan.with_settings(["draw.rounds=4"]), run, data=tiny_data)
    with pytest.raises(RunError, match=r"other settings \(data: sha256:stripes → sha256:dots\)"):
        find(plan, run, data=replace(tiny_data, fingerprint="sha256:dots"))


def test_a_run_of_the_version_that_kept_its_units_inside_is_refused_in_one_line(
    run: Path, plan: FindPlan, tiny_data: Dataset
) -> None:
    sealed.write(run / "run.json", sealed.Sealed({}, {"task": "find", "plan": plan.record()}, {}))
    before = times(run)
    with pytest.raises(RunError, match=r"run is a run of another version .*, but to go on choose another --output"):
        find(plan, run, data=tiny_data)
    assert times(run) == before


# Growing


def names(levels: Sequence[int], seeds: Sequence[int]) -> list[str]:
    return sorted(f"level-{level:02d}-{r}-seed-{s}" for level in levels for r in REGIMES for s in seeds)


def test_a_finished_find_grows_and_only_what_is_missing_is_trained(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    one = plan.changed(seeds=1, scan="bisect", controls=False, tolerance="points:99")
    first, trained = trains(one, run, tiny_data)
    tried = [row["level"] for row in first["levels"]]
    assert (trained, tried, first["level"]) == (names([0, 2, 3], [0]), [2, 3], 3)  # everything is within 99 points
    assert trains(one.changed(seeds=2), run, tiny_data)[1] == names([0, 2, 3], [1])
    everything, trained = trains(one.changed(seeds=2, scan="all"), run, tiny_data)
    assert (trained, len(everything["levels"])) == (names([1], [0, 1]), 3)
    assert len(trained_folders(run / "ticket")) == 8

    # Another rule picks another level, of the same networks; so may the same images under another name.
    renamed = replace(tiny_data, name="bars", notes=("seen elsewhere",))
    strict = one.changed(seeds=2, scan="all", tolerance="points:0", data=DataPlan(dataset="bars"))
    assert trains(strict, run, renamed)[1] == []
    ticket = load_ticket(run)
    assert (ticket.records["tolerance"], ticket.records["data"]["name"]) == ("0 percentage points", "bars")
    assert contradictions(ticket) == []
    assert (run / "ticket" / "README.md").read_text(encoding="utf-8") == render_card(ticket)
    for name, place in trained_folders(run / "ticket").items():
        network = load_ticket(place)
        assert network.level == (0 if name.startswith("dense") else ticket.level)
        assert network.records["data"] == ticket.records["data"]

    # One level alone, and back to one seed: nothing of the others is left to contradict it.
    for only in ({"level": 2}, {"sparsity": 0.35}):
        alone, trained = trains(one.changed(**only), run, tiny_data)
        assert (trained, [row["level"] for row in alone["levels"]], alone["level"]) == ([], [2], 2)
        assert len(trained_folders(run / "ticket")) == 4
        assert "Only this level was asked for" in (run / "ticket" / "README.md").read_text(encoding="utf-8")
    assert trains(one, run, tiny_data) == (first, [])


def test_a_find_that_drew_its_ladder_needs_the_source_task_no_more_unless_it_goes_by_another_name(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = STANDARD.changed(select="last")
    imp = DrawPlan(method="imp", rounds=2, data=DataPlan(dataset="stripes"), recipe=recipe)
    drawn = plan.changed(draw=imp, level=1, seeds=1, controls=False, tolerance="points:1")

    def source(data: Dataset | None) -> None:
        monkeypatch.setattr("lottery_hub.finding.source_data", lambda plan: data or pytest.fail("it was read"))

    source(tiny_data)
    transfers = [f"level-0{level}-{regime}-seed-0" for level in (0, 1) for regime in ("adversarial", "standard")]
    assert trains(drawn, tmp_path / "run", tiny_data)[1] == ["draw-level-01", *transfers]
    source(None)
    assert trains(drawn, tmp_path / "run", tiny_data)[1] == []
    renamed = drawn.changed(draw=imp.changed(data=DataPlan(dataset="bars")))
    source(replace(tiny_data, name="bars"))
    assert trains(renamed, tmp_path / "run", tiny_data)[1] == []
    source(replace(tiny_data, name="bars", fingerprint="sha256:bars"))
    with pytest.raises(RunError, match=r"was drawn otherwise \(data: sha256:stripes → sha256:bars\)"):
        trains(renamed, tmp_path / "run", tiny_data)
    # Without the ladder it is drawn again, of the rounds that are known.
    shutil.rmtree(tmp_path / "run" / "ladder")
    source(tiny_data)
    assert trains(drawn, tmp_path / "run", tiny_data)[1] == []


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ({"level": 4}, "this ladder has levels 0 to 3, not 4"),
        ({"sparsity": 0.9}, "the sparsest level of this ladder is 0.4880, below 0.9"),
        ({"sparsity": 0.05}, "a sparsity of 0.05 is nearest to dense; level 1 has 0.2000"),
        ({"sparsity": 0.5, "level": 1}, "by its number or by its sparsity, not both"),
    ],
)
def test_a_level_that_is_none_is_refused_before_anything_is_trained(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, only: dict[str, Any], words: str
) -> None:
    with pytest.raises(LotteryHubError, match=words):
        trains(plan.changed(**only), tmp_path / "run", tiny_data)
    assert not list(tmp_path.glob("run/ladder*")) or not open_store().addresses()


def test_what_one_find_has_trained_no_other_trains_whatever_its_ladder_and_directory(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    short = plan.changed(draw=DrawPlan(method="omp", rounds=1), controls=False, seeds=1, tolerance="points:1")
    assert trains(short, tmp_path / "alone" / "run", tiny_data)[1] == names([0, 1], [0])
    # Another ladder: dense is the same, and so is its one-shot control.
    other = short.changed(draw=DrawPlan(method="random", rounds=1), tolerance="points:5", controls=True)
    assert trains(other, tmp_path / "random", tiny_data)[1] == names([1], [0])
    ticket = load_ticket(tmp_path / "random")
    assert contradictions(ticket) == []
    dense = load_ticket(tmp_path / "random" / "ticket" / "trained" / "dense-adversarial-seed-0")
    first = load_ticket(tmp_path / "alone" / "run" / "ticket" / "trained" / "dense-adversarial-seed-0")
    assert (dense.fingerprint(), dense.method, first.method) == (first.fingerprint(), "random", "omp")
    # Another recipe or attack is another network; and what is in another store is not seen.
    longer = short.changed(transfer=TRANSFER.changed(standard=STANDARD.changed(lr=0.01)))
    assert trains(longer, tmp_path / "longer", tiny_data)[1] == [f"level-0{n}-standard-seed-0" for n in (0, 1)]
    stronger = short.changed(transfer=TRANSFER.changed(test_attack=Attack(method="fgsm", eps=0.2)))
    assert trains(stronger, tmp_path / "stronger", tiny_data)[1] == names([0, 1], [0])
    assert trains(short, tmp_path / "alone" / "run", tiny_data, store=tmp_path / "mine")[1] == names([0, 1], [0])


def test_no_double_win_still_gives_the_best_level_marked_as_such(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    strict = plan.with_settings(["seeds=1", "controls=false", 'tolerance="margin:0.01"'])
    summary = find(strict, tmp_path / "run", data=tiny_data)
    assert summary["double_win"] is False
    assert summary["tolerance"] == "margin of 0.01 points"
    assert summary["level"] == max(summary["levels"], key=lambda row: row["validation"]["slack"])["level"]
    ticket = load_ticket(tmp_path / "run")
    assert ticket.double_win is False


# Ladders that are given


def test_transfers_side_by_side_give_what_they_give_one_after_the_other(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    short = plan.changed(draw=DrawPlan(method="omp", rounds=1), controls=False)
    found = []
    try:
        for jobs in (1, 4):  # four: both seeds of dense and of level 1
            torch.set_num_threads(jobs)  # a thread each: sums in another order have other last digits
            directory = tmp_path / f"{jobs}" / "run"
            find(short, directory, data=tiny_data, jobs=jobs)
            found.append(load_ticket(directory).records)
    finally:
        torch.set_num_threads(threads)
    one_by_one, at_once = map(measureless, found)
    assert [(row["ticket"], row["regime"], row["seed"]) for row in one_by_one["transfers"]] == [
        (f"level-0{level}", regime, seed)
        for level in range(2)
        for regime in ("standard", "adversarial")
        for seed in (0, 1)
    ]
    assert at_once["levels"] == one_by_one["levels"]
    assert at_once["transfers"] == one_by_one["transfers"]


def test_by_bisection_the_first_level_is_run_beside_dense(plan: FindPlan, tiny_data: Dataset, tmp_path: Path) -> None:
    short = plan.changed(draw=DrawPlan(method="omp", rounds=2), controls=False, seeds=1, scan="bisect")
    told: list[str] = []
    find(
        short,
        tmp_path / "run",
        data=tiny_data,
        jobs=2,
        report=lambda kind, record: told.append(record["unit"] if kind == "unit" else kind),
    )
    before_dense = {word for word in told[: told.index("dense")] if word.startswith("transfer-")}
    assert sorted(before_dense) == [
        f"transfer-level-0{level}-{regime}-seed-0" for level in (0, 1) for regime in ("adversarial", "standard")
    ]


def test_where_one_of_several_transfers_fails_the_others_end_and_the_same_find_goes_on(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = units.transfer, set(threading.enumerate())

    def transfer(*given: Any, seed: Seeds, on_epoch: Any, **named: Any) -> Any:
        if seed.order == 1:
            raise LotteryHubError("training diverged")
        time.sleep(0.2)
        return original(*given, seed=seed, on_epoch=on_epoch, **named)

    short = plan.changed(draw=DrawPlan(method="omp", rounds=1), controls=False)
    with monkeypatch.context() as broken:
        broken.setattr(units, "transfer", transfer)
        with pytest.raises(LotteryHubError, match="training diverged"):
            find(short, tmp_path / "run", data=tiny_data, jobs=2)
    assert not set(threading.enumerate()) - before
    assert find(short, tmp_path / "run", data=tiny_data)["seeds"] == 2


@pytest.mark.slow
def test_a_rejected_level_is_not_trained_adversarially_and_the_records_say_so(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path
) -> None:
    draw_plan = DrawPlan(method="omp", rounds=7, prune_fraction=0.7)
    longer = plan.transfer.standard.changed(epochs=8)
    transfers = plan.transfer.changed(standard=longer, adversarial=longer.changed(attack=ADVERSARIAL.attack))
    strict = plan.changed(draw=draw_plan, transfer=transfers, controls=False, seeds=1, scan="bisect")
    told: list[tuple[str, dict[str, Any]]] = []
    summary = find(strict, tmp_path / "run", data=tiny_data, report=lambda kind, record: told.append((kind, record)))
    whole = {row["level"] for row in summary["levels"] if "adversarial" in row}
    rejected = {row["level"] for row in summary["levels"]} - whole
    assert rejected
    assert summary["level"] in whole
    made = {f"transfer-{t['ticket']}-{t['regime']}-seed-0" for t in load_ticket(tmp_path / "run").records["transfers"]}
    assert len(open_store().addresses()) == len(made)
    plans = [record for kind, record in told if kind == "plan"]
    assert min(plan["most"] for plan in plans) == plans[-1]["most"] == len(made)
    passed = sum(record["passes"] for kind, record in told if kind == "unit")
    assert (plans[-1]["passes"], plans[-1]["at_most"]) == (passed, False)
    for level in whole | rejected:
        assert f"transfer-level-{level:02d}-standard-seed-0" in made
        assert (f"transfer-level-{level:02d}-adversarial-seed-0" in made) is (level in whole)
    ticket = load_ticket(tmp_path / "run")
    assert contradictions(ticket) == []
    table = Console(width=100)
    with table.capture() as shown:
        table.print(levels_table(summary["dense"], summary["levels"], []))
    assert shown.get().count("–") == 3 * len(rejected)

    # What was not run cannot be hidden, nor invented.
    known = ticket.records["transfers"]
    fewer = [row for row in known if (row["ticket"], row["regime"]) != (f"level-{ticket.level:02d}", "adversarial")]
    assert contradictions(replace(ticket, records=ticket.records | {"transfers": fewer}))
    everything = ticket.records | {"plan": ticket.records["plan"] | {"scan": "all"}, "scan": "all"}
    assert any("was rejected" in line for line in contradictions(replace(ticket, records=everything)))


def test_a_given_ladder_is_reused_and_its_own_counts_hold_for_controls(
    plan: FindPlan, backbone: Backbone, tiny_data: Dataset, tmp_path: Path
) -> None:
    halves = draw(backbone, DrawPlan(method="random", rounds=2, prune_fraction=0.5))
    folder = save_ladder(halves, tmp_path / "ladder")
    told: list[dict[str, Any]] = []
    summary = find(
        plan.with_settings([f"ladder={folder}", "seeds=1"]),
        tmp_path / "run",
        data=tiny_data,
        report=lambda kind, record: told.append(record) if kind == "ladder" else None,
    )
    assert told == [{"source": str(folder), "levels": 2, "method": "random"}]
    assert summary["sparsity"] in halves.sparsities
    # The plan prunes by 0.2, the ladder by 0.5: the controls follow the ladder.
    assert [row["sparsity"] for row in summary["controls"]] == [summary["sparsity"]] * 2
    assert not (tmp_path / "run" / "ladder").exists()


def test_a_ladder_comes_with_the_folder_that_its_backbone_is_named_by(
    plan: FindPlan, ladder: Ladder, tmp_path: Path
) -> None:
    """Rounds of imp are what takes hours: `find --pretrain FOLDER` is not to draw them anew."""
    drawn = save_ladder(replace(ladder, method="imp"), tmp_path / "drawn")
    asked = plan.changed(
        pretrain=str(drawn), ladder="auto", draw=quick_draw("adv", "digits", "digits", "imp", 100, "float32")
    )
    backbone = load_backbone(drawn)
    found = known_ladder(asked, backbone)
    assert found is not None
    assert (found[0].sparsities, found[1]) == (ladder.sparsities, str(drawn))
    assert known_ladder(asked.changed(ladder="draw"), backbone) is None
    assert known_ladder(asked.changed(draw=plan.draw), backbone) is None
    otherwise = save_ladder(replace(ladder, method="random"), tmp_path / "otherwise")
    assert known_ladder(asked.changed(pretrain=str(otherwise)), backbone) is None


def test_a_ladder_of_another_backbone_is_refused(
    plan: FindPlan, backbone: Backbone, tiny_data: Dataset, tmp_path: Path
) -> None:
    other = Backbone("resnet18-slim", "adv", backbone.weights | {"fc.bias": torch.ones(5)})
    folder = save_ladder(draw(other, DrawPlan(method="omp", rounds=1)), tmp_path / "ladder")
    with pytest.raises(ConfigError, match="was drawn from another backbone"):
        find(plan.changed(ladder=str(folder)), tmp_path / "run", data=tiny_data)


@pytest.mark.parametrize("drawing", [{"prune_fraction": "x"}, {"data": "x"}, {"data": 3}])
def test_a_strangers_ladder_that_no_card_could_tell_of_is_refused_before_any_work(
    plan: FindPlan, ladder: Ladder, tiny_data: Dataset, tmp_path: Path, drawing: dict[str, Any]
) -> None:
    folder = save_ladder(replace(ladder, drawing=ladder.drawing | drawing), tmp_path / "ladder")
    with pytest.raises(LotteryHubError, match=f"drawing: {next(iter(drawing))}: "):
        find(plan.changed(ladder=str(folder)), tmp_path / "run", data=tiny_data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", ["ladder=nowhere", 'draw.data.dataset="nowhere"'])
def test_a_mistyped_ladder_or_source_leaves_no_run_behind(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, wrong: str
) -> None:
    imp = DrawPlan(method="imp", rounds=1, data=DataPlan(dataset="digits"), recipe=STANDARD)
    with pytest.raises(LotteryHubError, match="nowhere"):
        find(plan.changed(draw=imp).with_settings([wrong]), tmp_path / "run", data=tiny_data)
    assert not (tmp_path / "run").exists()


# What others may read


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of images: two classes, 24 grey squares."""
    for index in range(24):
        place = tmp_path / "secret-home" / "pictures" / "train" / ("dark" if index % 2 else "light")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index * 9,) * 3).save(place / f"{index}.png")
    return tmp_path / "secret-home" / "pictures"


@pytest.mark.parametrize("given", ["drawn", "ladder"])
def test_no_local_path_reaches_the_ticket_folder(
    pictures: Path, backbone: Backbone, ladder: Ladder, tmp_path: Path, given: str
) -> None:
    home = tmp_path / "secret-home"
    torch.save(backbone.weights, home / "weights.pth")
    save_ladder(ladder, home / "ladder")
    plan = FindPlan(
        pretrain=f"adv:{home / 'weights.pth'}",
        arch="resnet18-slim",
        data=DataPlan(dataset=str(pictures), image_size=8),
        draw=DrawPlan(
            method="imp",
            rounds=2,
            data=DataPlan(dataset=str(pictures), image_size=8),
            recipe=STANDARD.changed(select="last"),
        ),
        ladder="draw" if given == "drawn" else str(home / "ladder"),
        transfer=TRANSFER,
        scan="bisect",
    )
    find(plan, home / "run")
    files = [path for path in (home / "run" / "ticket").rglob("*") if path.is_file()]
    assert len(files) == 4 + 4 * 3  # and config, weights and records of four trained networks
    for path in files:
        content = path.read_bytes()
        for place in (str(home), "secret-home", str(Path.home()) + "/", str(Path.cwd())):
            assert place.encode() not in content, f"{path.name} tells {place}"
    records = load_ticket(home / "run").records
    assert records["plan"]["pretrain"] == "adv:weights.pth"
    assert records["plan"]["data"]["dataset"] == "pictures"


# Kills


def command(backbone_folder: Path, output: Path) -> list[str]:
    assignments = [
        "data.image_size=16",
        "transfer.standard.image_size=16",
        "transfer.standard.epochs=3",
        "transfer.adversarial.image_size=16",
        "transfer.adversarial.epochs=2",
        "transfer.adversarial.attack.steps=1",
        "transfer.adversarial.selection_attack=null",
        "transfer.test_attack.steps=2",
        "draw.rounds=2",
        "draw.data.image_size=16",
        "draw.data.fraction=0.1",
        "draw.recipe.epochs=2",
        "draw.recipe.image_size=16",
        "draw.recipe.attack=null",
    ]
    return [
        *("find", "--pretrain", str(backbone_folder), "--dataset", "digits", "--fraction", "0.1"),
        *("--method", "imp", "--source", "digits", "--scan", "all"),
        *("--device", "cpu", "--precision", "float32", "--json", "--output", str(output)),
        *(word for assignment in assignments for word in ("--set", assignment)),
    ]


@pytest.fixture(scope="module")
def unkilled(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unkilled") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOTTERY_HUB_STORE", str(output.with_name("store")))
        patch.setattr(sys, "argv", ["lottery-hub", *command(backbone_folder, output)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return output


def measureless(value: Any) -> Any:
    """Leave out how long things took and how much memory: all else must be equal."""
    if isinstance(value, dict):
        return {key: measureless(inside) for key, inside in value.items() if key not in ("seconds", "peak_memory")}
    return [measureless(inside) for inside in value] if isinstance(value, list) else value


def finished() -> dict[str, int]:
    """Address and time of every finished unit."""
    store = open_store()
    return {unit: (store.folder(unit) / "result.json").stat().st_mtime_ns for unit in store.addresses()}


def killed_after(arguments: list[str], seconds: float) -> bool:
    """Start a find, SIGKILL it so long after its first word; return whether it was still at work."""
    reading, writing = os.pipe()
    with Path(os.devnull).open("r+") as nothing, os.fdopen(reading) as told:
        process = warm.start([*warm.CLI, *arguments], stdin=nothing, stdout=nothing, stderr=writing)
        os.close(writing)
        assert any(" ladder: " in line for line in told)
        time.sleep(seconds)
        process.kill()
    return process.returncode == -signal.SIGKILL


def test_a_find_killed_at_random_moments_equals_an_unkilled_one(
    backbone_folder: Path, unkilled: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = command(backbone_folder, output)
    dice = random.Random(20)
    before: dict[str, int] = {}
    kills = 0
    for _ in range(2):
        kills += killed_after(arguments, dice.uniform(0.0, 1.0))
        now = finished()
        assert {name: now.get(name) for name in before} == before  # nothing finished is done twice
        before = now
    assert kills >= 1
    done = warm.run(*warm.CLI, *arguments)
    assert done.returncode == 0, done.stderr
    now = finished()
    assert {name: now[name] for name in before} == before
    assert now.keys() == open_store(unkilled.with_name("store")).addresses()
    assert not list(open_store().left())

    for name in ("ticket/ticket.safetensors", "ladder/ladder.safetensors"):
        assert (output / name).read_bytes() == (unkilled / name).read_bytes(), name
    ours, theirs = (json.loads((run / "ticket/results.json").read_text(encoding="utf-8")) for run in (output, unkilled))
    assert measureless(ours) == measureless(theirs)
    assert [(t["SA"], t["RA"]) for t in ours["transfers"]] == [(t["SA"], t["RA"]) for t in theirs["transfers"]]
    assert json.loads(done.stdout)["sparsity"] == load_ticket(unkilled).sparsity


class KillError(Exception):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("epochs", [5, *(pytest.param(epochs, marks=pytest.mark.slow) for epochs in (1, 12))])
def test_a_find_stopped_after_any_epoch_trains_no_epoch_twice(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, epochs: int
) -> None:
    plan = plan.with_settings(["seeds=1", "controls=false", "transfer.standard.epochs=2"])
    seen: list[tuple[str, int]] = []

    def watch(kind: str, record: dict[str, Any]) -> None:
        if kind == "epoch":
            seen.append((record["unit"], record["epoch"]))
            if len(seen) == epochs:
                raise KillError

    with pytest.raises(KillError):
        find(plan, tmp_path / "run", data=tiny_data, report=watch)
    find(plan, tmp_path / "run", data=tiny_data, report=watch)
    assert len(seen) == len(set(seen)) == 4 * (2 + 1)  # dense and three levels; two standard epochs, one adversarial


def test_a_ladder_of_other_masks_is_another_run(
    plan: FindPlan, backbone: Backbone, ladder: Ladder, tiny_data: Dataset, tmp_path: Path
) -> None:
    def go(masks: Ladder) -> None:
        save_ladder(masks, tmp_path / "ladder")
        given = plan.changed(ladder=str(tmp_path / "ladder"), seeds=1, scan="bisect", controls=False)
        find(given, tmp_path / "run", data=tiny_data)

    go(draw(backbone, DrawPlan(method="omp", rounds=2)))
    with pytest.raises(RunError, match="ladder: sha256"):
        go(draw(backbone, DrawPlan(method="random", rounds=2)))


# Seeds


def test_fresh_seeds_have_the_last_word_at_a_radius_that_tells_something(
    plan: FindPlan, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radius, "LEAST", 0.05)
    monkeypatch.setattr(radius, "ABOVE_GUESSING", 0.0)
    asked = plan.changed(level=1, controls=False, seeds=2, confirm=1, eps_standard="auto")
    summary = find(asked, tmp_path / "run", data=tiny_data)
    assert [run["seed"] for run in summary["confirmed"]["adversarial"]["seeds"]] == [2]
    assert summary["answer"] == summary["confirmed"]["answer"]
    assert summary["standard_radius"]["eps"] < asked.transfer.test_attack.eps
    ticket = load_ticket(tmp_path / "run")
    assert contradictions(ticket) == []
    of = {(record["regime"], record["attack"]) for record in ticket.records["transfers"]}
    assert of == {("standard", summary["standard_attack"]), ("adversarial", summary["attack"])}
    assert len(trained_folders(tmp_path / "run" / "ticket")) == 2 * 2 * 3
    card = render_card(ticket)
    assert "The level was asked for, not picked; these are transfers with seeds of their own (2)." in card
    assert summary["asked_for"]
    assert "--eps-standard" in card


def test_seeds_are_added_to_what_is_undecided(plan: FindPlan, tiny_data: Dataset, tmp_path: Path) -> None:
    asked = plan.changed(level=1, controls=False, seeds=2, max_seeds=3, tolerance="margin:60")
    summary = find(asked, tmp_path / "run", data=tiny_data)
    assert summary["seeds"] in (2, 3)
    ticket = load_ticket(tmp_path / "run")
    assert contradictions(ticket) == []
    assert {record["seed"] for record in ticket.records["transfers"]} == set(range(summary["seeds"]))
