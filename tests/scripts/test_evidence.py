"""scripts/evidence.py and reproduce_evidence.py: the page says what the records say, and nothing else."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lottery_hub as lh
from lottery_hub.errors import LotteryHubError
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings.config import REGIMES
from lottery_hub.settings.studies import StudyPlan
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage.folder import packaged_names

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "docs" / "evidence"
IMAGES = 4000


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("evidence")


@pytest.fixture
def reproduce(evidence: ModuleType) -> ModuleType:
    return importlib.import_module("reproduce_evidence")


def measured(right: int, robust: int) -> dict[str, Any]:
    """A network that gets the first images right, so many clean and attacked."""
    SA, RA = (np.arange(IMAGES) < count for count in (right, robust))  # noqa: N806 - the field's words
    figures = {"SA": right / IMAGES, "RA": robust / IMAGES, "correct": right, "robust": robust, "samples": IMAGES}
    return figures | {"outcomes": Outcomes(SA, RA).record()}


def row(kind: str, level: int, regime: str, seed: int, worse: int) -> dict[str, Any]:
    """A transfer that gets `worse` fewer images right than 3,000 clean and 1,200 attacked; seeds differ by a few."""
    seen = measured(3000 - worse + 8 * seed, 1200 - worse + 8 * seed)
    environment = {"torch": "2.0", "device": "cpu"}
    return {
        "kind": kind,
        "dataset": "photos",
        "fraction": 0.1,
        "images": 100,
        "classes": 10,
        "method": "imp" if level else "dense",
        "level": level,
        "sparsity": 1 - 0.8**level,
        "of_reached": None,
        "record": seen
        | {"regime": regime, "seed": seed, "attack": "PGD-20", "validation": seen}
        | {"provenance": {"environment": environment, "seconds": 1800.0}},
    }


def written(place: Path, worse: dict[tuple[str, int], int], **more: str) -> Path:
    """Records of three seeds; `worse` says of a kind's level by how many images it is, `more` stands in every row."""
    place.mkdir()
    for kind in {kind for kind, _ in worse}:
        lines = [
            row(kind, level, regime, seed, by) | more
            for (of, level), by in worse.items()
            if of == kind
            for regime in ("standard", "adversarial")
            for seed in (0, 1, 2)
        ]
        (place / f"{kind}-0.1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def test_the_page_is_what_the_records_give(evidence: ModuleType) -> None:
    pages = sorted((ROOT / "docs").glob("evidence*.md"))
    assert {page.stem for page in pages} == {folder.name for folder in (ROOT / "docs").glob("evidence*/")}
    for page in pages:
        written = page.read_text(encoding="utf-8")
        assert written == evidence.page(page.with_suffix("") / "records"), "python scripts/reproduce_evidence.py --page"


def test_the_readme_says_of_the_claim_what_the_records_do(evidence: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"(docs/evidence.md): {evidence.status(PLACE / 'records')}." in readme


def test_the_grid_says_how_many_transfers_it_is() -> None:
    grid = StudyPlan.read(PLACE / "study.toml")
    assert isinstance(grid.seeds, int)
    ladders = len(grid.pretrain) * len(grid.dataset) * len(grid.fraction) * len(grid.method)
    transfers = ladders * (1 + len(grid.level)) * len(REGIMES) * grid.seeds  # dense has as many as a level
    assert f" {transfers} transfers." in (PLACE / "study.toml").read_text(encoding="utf-8").splitlines()[0]


def test_the_study_is_of_the_packaged_backbones_with_few_images_to_validate_on(
    reproduce: ModuleType, evidence: ModuleType
) -> None:
    plan = reproduce.grid(None)
    assert (plan.pretrain, plan.arch) == (evidence.KINDS, None)
    assert {packaged_name(evidence.ARCH, kind) for kind in evidence.KINDS} <= set(packaged_names())
    planned = lh.FindPlan.preset("quick", pretrain="adv", dataset="cifar10", train_images=49_000)
    assert planned.with_settings(plan.changes).data.validation == 0.02


def test_another_network_has_a_page_and_records_of_its_own(
    reproduce: ModuleType, evidence: ModuleType, tmp_path: Path
) -> None:
    assert reproduce.place_of(evidence.ARCH) == PLACE
    assert reproduce.place_of("resnet18") == PLACE.with_name("evidence-resnet18")
    assert reproduce.grid(None, "resnet18").arch == "resnet18"
    drawn = reproduce.grid("photos", "resnet18", tmp_path)
    assert (drawn.dataset, drawn.arch) == (("photos",), None)
    assert drawn.pretrain == tuple(str(tmp_path / f"resnet18-{kind}") for kind in evidence.KINDS)
    (tmp_path / "evidence-resnet18").mkdir()
    place = written(tmp_path / "evidence-resnet18" / "records", {("std", 0): 0, ("std", 5): 0}, arch="resnet18")
    page = evidence.page(place)
    assert "**Setting.** `resnet18` backbones" in page
    assert "(evidence-resnet18/records/)" in page
    assert "What masks of two kinds share" not in page, "its ladders are not packaged"


def test_a_frontier_that_is_surely_sparser_is_shown_and_the_reverse_refuted(
    evidence: ModuleType, tmp_path: Path
) -> None:
    # Of 4,000 images 400 are ten points: std falls at level 5, adv does not.
    better = {("std", 0): 0, ("std", 5): 400, ("adv", 0): 0, ("adv", 5): 0}
    page = evidence.page(written(tmp_path / "shown", better))
    assert "- *adv gives sparser double wins than std*: **shown**." in page
    assert "by 3 seeds." in page
    assert "| 10 % | adv | 1 | 3 | 67.2 | ≥ 67.2 | 67.2 to 100.0 |" in page
    assert "12 transfers" not in page
    assert "So far 24 transfers with 3 seeds at most, 12.0 hours" in page
    turned = {({"std": "adv", "adv": "std"}[kind], level): by for (kind, level), by in better.items()}
    assert "**refuted**" in evidence.page(written(tmp_path / "refuted", turned))
    equal = dict.fromkeys(better, 0)
    assert "**undecided**" in evidence.page(written(tmp_path / "undecided", equal))


def test_the_claim_in_a_sentence_names_kinds_alone_where_nothing_is_known_of_any(
    evidence: ModuleType, tmp_path: Path
) -> None:
    equal = {(kind, level): 0 for kind in evidence.KINDS for level in (0, 5)}
    told = evidence.status(written(tmp_path / "equal", equal))
    assert told == "undecided with 10 % of the training images (std, fast-adv, adv; 3 seeds)"
    worse = {("std", 0): 0, ("std", 5): 400, ("adv", 0): 0, ("adv", 5): 0}
    told = evidence.status(written(tmp_path / "worse", worse))
    assert told == "shown with 10 % of the training images (adv against std; 3 seeds)"


def test_levels_of_fewer_seeds_stand_under_the_margin_of_those_with_more(evidence: ModuleType, tmp_path: Path) -> None:
    rows = [row("std", level, regime, seed, 0) for level in (0, 5) for regime in REGIMES for seed in (0, 1, 2)]
    # With each seed other images are right: what three tell is told by their differences.
    for place, each in enumerate(rows):
        each["record"] |= measured(3000 - 150 * (place % 3 == 2), 1200 - 150 * (place % 3 == 1))
    alone = [row("std", 7, regime, 0, 0) for regime in REGIMES]
    (one,) = evidence.ladders([each for each in rows if each["record"]["seed"] == 0])
    (three,), (mixed,) = evidence.ladders(rows), evidence.ladders([*rows, *alone])
    assert (one.seeds, three.seeds, mixed.seeds) == ((1, 1), (3, 3), (1, 3))
    assert one.rule.points < three.rule.points == mixed.rule.points
    assert "| 10 % | std | " + f"{mixed.rule.points * 100:g} | 1 to 3 |" in evidence.page(
        _kept(tmp_path, [*rows, *alone])
    )


def _kept(place: Path, rows: list[dict[str, Any]]) -> Path:
    folder = place / "evidence" / "records"
    folder.mkdir(parents=True)
    (folder / "std-0.1.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return folder


def test_differences_between_kinds_are_those_of_the_counts(evidence: ModuleType, tmp_path: Path) -> None:
    page = evidence.page(written(tmp_path / "records", {("std", 0): 40, ("std", 5): 40, ("adv", 0): 0, ("adv", 5): 0}))
    # 40 images of 4,000 are a point; all seeds differ by the same.
    (line,) = (line for line in page.splitlines() if line.startswith("| 10 % | adv - std | 0.0 |"))
    assert line.count("+1.00, ") == 4


def test_other_code_stands_beside_the_card_with_the_chance_of_both_samples(evidence: ModuleType) -> None:
    records = {
        "level": 7,
        "transfers": [
            {"ticket": "level-07", "regime": "adversarial", "seed": 0, "correct": 5000, "samples": 10_000},
            {"ticket": "level-07", "regime": "adversarial", "seed": 1, "correct": 1, "samples": 10_000},
            {"ticket": "dense", "regime": "adversarial", "seed": 0, "correct": 2, "samples": 10_000},
        ],
        "scrutiny": {
            "checks": {
                "attacks": [
                    {"attack": "PGD-20 Linf", "robust": 3, "samples": 400},
                    {"attack": "AutoAttack Linf", "robust": 80, "samples": 400},
                ]
            }
        },
    }
    row = {"ticket": "mine", "correct": 20_000, "unseen": 40_000, "robust": 100, "attacked": 400}
    # Halves of 10,000 and 40,000: 1.96 times the root of 0.25/10,000 + 0.25/40,000 is 1.10 points.
    # 20 and 25 % of 400: 1.96 times the root of 0.16/400 + 0.1875/400 is 5.78 points.
    assert evidence._elsewhere(row, records) == [
        "`mine`",
        *("50.00 (10,000)", "50.00 (40,000)", "+0.00, -1.10 to +1.10"),
        *("20.00 (400)", "25.00 (400)", "+5.00, -0.78 to +10.78"),
    ]


def test_other_code_measured_the_tickets_that_are_packaged_today(evidence: ModuleType) -> None:
    for row in evidence.rows(evidence.ELSEWHERE):
        assert lh.load_ticket(row["ticket"]).network().fingerprint() == row["network"]


def test_records_are_added_to_and_replaced_by_what_was_measured_again(
    reproduce: ModuleType, evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {"one": [row("std", 0, "standard", 1, 5)], "two": [row("std", 0, "standard", seed, 7) for seed in (0, 1)]}
    monkeypatch.setattr(reproduce, "measured", lambda run, _: iter(runs[run.name]))
    reproduce.collect([Path("one")], tmp_path, evidence.ARCH)
    reproduce.collect([Path("two")], tmp_path, evidence.ARCH)
    kept = evidence.rows(tmp_path / "std-0.1.jsonl")
    assert [(each["record"]["seed"], each["record"]["correct"]) for each in kept] == [(0, 2993), (1, 3001)]


@pytest.mark.parametrize("other", [{"dataset": "digits"}, {"images": 99}, {"record": {"attack": "PGD-7"}}])
def test_figures_of_other_images_or_attacks_are_not_set_beside_each_other(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    first, second = (row("std", 0, "standard", seed, 0) for seed in (0, 1))
    second |= other | {"record": second["record"] | other.get("record", {})}
    monkeypatch.setattr(reproduce, "measured", lambda run, _: iter([{"one": first, "two": second}[run.name]]))
    reproduce.collect([Path("one")], tmp_path, "resnet18-slim")
    before = (tmp_path / "std-0.1.jsonl").read_bytes()
    with pytest.raises(LotteryHubError, match=r"std-0\.1\.jsonl would hold two kinds of figures"):
        reproduce.collect([Path("two")], tmp_path, "resnet18-slim")
    assert (tmp_path / "std-0.1.jsonl").read_bytes() == before


@pytest.mark.slow
def test_the_whole_chain_at_toy_size(reproduce: ModuleType, evidence: ModuleType, tmp_path: Path) -> None:
    reproduce.smoke(tmp_path / "toy")
    records = [each for file in sorted((tmp_path / "toy/records").iterdir()) for each in evidence.rows(file)]
    # Of two kinds dense, imp and omp at one level, each in two regimes with two seeds.
    assert len(records) == 2 * 3 * 2 * 2
    page = (tmp_path / "toy/evidence.md").read_text(encoding="utf-8")
    assert "| 20 % | adv | imp - omp | 36.0 |" in page
