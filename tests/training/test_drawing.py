"""Drawing: exact counts, nested masks, rewinding to θ_pre, and rounds that are never trained twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone, fingerprint, fresh_weights
from lottery_hub.networks.masks import Mask, is_nested, kept_and_total
from lottery_hub.networks.tickets import Ladder
from lottery_hub.running.store import open_store
from lottery_hub.settings.config import Attack, DataPlan, DrawPlan, Recipe
from lottery_hub.training import units
from lottery_hub.training.drawing import draw

RECIPE = Recipe(epochs=1, batch_size=12, lr=0.05, schedule="constant", augment="none", image_size=8, select="last")
IMP = DrawPlan(method="imp", rounds=3, data=DataPlan(dataset="stripes"), recipe=RECIPE)
OMP = DrawPlan(method="omp", rounds=3)
RANDOM = DrawPlan(method="random", rounds=3)


@pytest.fixture(scope="module")
def imp(backbone: Backbone, tiny_data: Dataset) -> Ladder:
    return draw(backbone, IMP, data=tiny_data)


def same(one: Mask, other: Mask) -> bool:
    return all(torch.equal(kept, other[name]) for name, kept in one.items())


def half_to_even(total: int, top: int, bottom: int, level: int) -> int:
    """Return total * (top/bottom)^level rounded half to even, in integers."""
    numerator, denominator = total * top**level, bottom**level
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))


# Counts


def test_every_level_keeps_the_stated_count(backbone: Backbone) -> None:
    ladder = draw(backbone, DrawPlan(method="omp", rounds=19))
    total = kept_and_total(ladder.mask(0))[1]
    for level in range(20):
        assert kept_and_total(ladder.mask(level)) == (half_to_even(total, 4, 5, level), total)
    assert [record["kept"] for record in ladder.drawing["rounds"]] == [
        half_to_even(total, 4, 5, level) for level in range(1, 20)
    ]


@settings(max_examples=8, deadline=None)
@given(percent=st.integers(1, 99), rounds=st.integers(1, 4), method=st.sampled_from(["omp", "random"]))
def test_any_prune_fraction_keeps_exact_counts(percent: int, rounds: int, method: str) -> None:
    backbone = Backbone("resnet18-slim", "std", WEIGHTS)
    plan = DrawPlan(method=method, prune_fraction=percent / 100, rounds=rounds)  # type: ignore[arg-type]
    ladder = draw(backbone, plan)
    for level in range(1, rounds + 1):
        kept, total = kept_and_total(ladder.mask(level))
        assert kept == half_to_even(total, 100 - percent, 100, level)
        assert is_nested(ladder.mask(level), ladder.mask(level - 1))


WEIGHTS = fresh_weights("resnet18-slim", 2, 0)


# One shot


def test_one_shot_keeps_the_largest_over_all_layers_together(backbone: Backbone) -> None:
    mask = draw(backbone, OMP).mask(3)
    kept = torch.cat([backbone.weights[name][keep] for name, keep in mask.items()]).abs()
    pruned = torch.cat([backbone.weights[name][~keep] for name, keep in mask.items()]).abs()
    assert kept.min() >= pruned.max()


def test_one_shot_prunes_neither_head_nor_batchnorm(backbone: Backbone) -> None:
    mask = draw(backbone, OMP).mask(3)
    assert list(mask) == backbone.prunable
    assert not any("bn" in name or name.startswith("fc.") for name in mask)


def test_random_differs_from_one_shot_and_comes_from_its_seed(backbone: Backbone) -> None:
    first, same_seed, other = (draw(backbone, RANDOM.changed(seed=seed)).mask(2) for seed in (1, 1, 2))
    assert same(first, same_seed)
    assert not same(first, other)
    assert not same(first, draw(backbone, OMP).mask(2))
    assert kept_and_total(first) == kept_and_total(draw(backbone, OMP).mask(2))


def test_random_takes_equal_shares_of_layers(backbone: Backbone) -> None:
    mask = draw(backbone, RANDOM).mask(3)
    large = {name: kept for name, kept in mask.items() if kept.numel() > 30_000}
    assert len(large) > 3
    for kept in large.values():
        assert float(kept.float().mean()) == pytest.approx(0.512, abs=0.02)


# Iterative


def test_imp_is_nested_and_begins_with_the_one_shot_mask(imp: Ladder, backbone: Backbone) -> None:
    one_shot = draw(backbone, OMP)
    assert same(imp.mask(1), one_shot.mask(1))
    assert not same(imp.mask(2), one_shot.mask(2))
    assert [kept_and_total(imp.mask(level)) for level in range(4)] == [
        kept_and_total(one_shot.mask(level)) for level in range(4)
    ]
    assert all(is_nested(imp.mask(level + 1), imp.mask(level)) for level in range(3))


def test_every_level_is_rewound_to_theta_pre(imp: Ladder, backbone: Backbone) -> None:
    assert imp.backbone.fingerprint() == backbone.fingerprint()
    for level in range(4):
        ticket = imp.ticket(level)
        for name, weight in backbone.weights.items():
            kept = ticket.mask.get(name, torch.ones_like(weight, dtype=torch.bool))
            assert torch.equal(ticket.weights[name][kept], weight[kept]), name
            assert not ticket.weights[name][~kept].any(), name


def test_every_round_trains_from_theta_pre_under_its_mask(
    backbone: Backbone, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    real = units.train

    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        starts.append((fingerprint(model.network.state_dict()), kwargs["mask"], kwargs["seed"]))
        return real(model, *args, **kwargs)

    monkeypatch.setattr(units, "train", watched)
    ladder = draw(backbone, IMP.changed(seed=40), data=tiny_data)
    # Three classes for a five-class backbone: the head is fresh, and the same in every round.
    assert [start for start, _, _ in starts] == [
        fingerprint(backbone.model(3, 40, ladder.mask(level)).network.state_dict()) for level in (1, 2)
    ]
    assert all(same(mask, ladder.mask(level)) for level, (_, mask, _) in enumerate(starts, start=1))
    assert [(seed.order, seed.attack) for _, _, seed in starts] == [(41, 41), (42, 42)]


def test_imp_with_the_pre_training_classes_keeps_the_pre_trained_head(
    tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone("resnet18-slim", "std", fresh_weights("resnet18-slim", 3, 1))
    heads = []
    real = units.train

    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        heads.append(model.network.state_dict()["fc.weight"].clone())
        return real(model, *args, **kwargs)

    monkeypatch.setattr(units, "train", watched)
    draw(backbone, IMP.changed(rounds=2), data=tiny_data)
    assert len(heads) == 1
    assert torch.equal(heads[0], backbone.weights["fc.weight"])


def test_the_last_round_is_trained_only_where_its_accuracy_is_asked_for(backbone: Backbone, tiny_data: Dataset) -> None:
    def trained(plan: DrawPlan) -> tuple[list[int], list[dict[str, Any]]]:
        levels: list[int] = []

        def watch(kind: str, record: dict[str, Any]) -> None:
            if kind == "epoch":
                levels.append(level_of(record))

        ladder = draw(backbone, plan, data=tiny_data, report=watch)
        return levels, ladder.drawing["rounds"]

    levels, rounds = trained(IMP.changed(rounds=2))
    assert levels == [1]
    assert [sorted(record) for record in rounds] == [
        ["epoch", "history", "kept", "level", "total"],
        ["kept", "level", "total"],
    ]
    levels, rounds = trained(IMP.changed(rounds=2, test_attack=Attack(method="fgsm", eps=0.1)))
    assert levels == [1, 2]
    assert [record["source"]["samples"] for record in rounds] == [12, 12]
    assert rounds[0]["source_attack"] == "FGSM Linf eps 0.1"


@pytest.mark.parametrize("plan", [IMP, IMP.changed(rounds=19)])
def test_imp_without_data_is_an_error(backbone: Backbone, plan: DrawPlan) -> None:
    with pytest.raises(ConfigError, match="imp trains on a source task; give its dataset, or draw by omp"):
        draw(backbone, plan)


def test_the_record_says_how_it_was_drawn(imp: Ladder, tiny_data: Dataset, backbone: Backbone) -> None:
    record = imp.drawing
    assert (record["method"], record["prune_fraction"], record["plan"]["rounds"]) == ("imp", 0.2, 3)
    assert record["data"] == tiny_data.describe()
    assert record["environment"]["device"] == "cpu"
    assert draw(backbone, OMP, data=tiny_data).drawing["data"] is None


@pytest.mark.parametrize("method", ["imp", "omp", "random"])
def test_the_record_names_a_local_dataset_without_its_path(
    backbone: Backbone, tiny_data: Dataset, tmp_path: Path, method: str
) -> None:
    plan = DrawPlan(method=method, rounds=1, data=DataPlan(dataset=str(tmp_path)), recipe=RECIPE)  # type: ignore[arg-type]
    record = draw(backbone, plan, data=tiny_data if method == "imp" else None).drawing
    assert str(tmp_path) not in str(record)


# Going on after a kill


def level_of(record: dict[str, Any]) -> int:
    """Return the level that an event is of."""
    return int(record["unit"].removeprefix("draw-level-"))


class KillError(Exception):
    """Stands for a kill: nothing catches it."""


def test_a_killed_draw_goes_on_and_equals_an_unkilled_one(
    imp: Ladder, backbone: Backbone, tiny_data: Dataset, tmp_path: Path
) -> None:
    plan = IMP.changed(rounds=4)
    unkilled = draw(backbone, plan, data=tiny_data)
    events: list[tuple[int, int]] = []

    def until_round_3(kind: str, record: dict[str, Any]) -> None:
        if kind == "epoch":
            events.append((level_of(record), record["epoch"]))
            if level_of(record) == 3:
                raise KillError

    store = open_store(tmp_path / "store")
    with pytest.raises(KillError):
        draw(backbone, plan, data=tiny_data, store=store, report=until_round_3)
    assert events == [(1, 1), (2, 1), (3, 1)]
    finished = store.addresses()
    assert (len(finished), [path.suffix for path in store.left()]) == (2, [".partial"])

    again: list[str] = []
    ladder = draw(backbone, plan, data=tiny_data, store=store, report=lambda kind, _: again.append(kind))
    # The killed round's only epoch was already in its checkpoint, so nothing at all is trained again.
    assert "epoch" not in again
    assert store.addresses() > finished
    assert list(store.left()) == []
    for level in range(5):
        assert same(ladder.mask(level), unkilled.mask(level)), level
    assert ladder.sparsities == unkilled.sparsities


def test_a_draw_killed_between_rounds_trains_each_round_once(
    backbone: Backbone, tiny_data: Dataset, tmp_path: Path
) -> None:
    trained: Counter[int] = Counter()
    store = open_store(tmp_path / "store")
    unkilled = draw(backbone, IMP.changed(rounds=4), data=tiny_data)

    def count(kind: str, record: dict[str, Any]) -> None:
        if kind == "epoch":
            trained[level_of(record)] += 1

    for rounds in (2, 3, 4):  # a draw of fewer rounds leaves what a kill between two rounds leaves
        ladder = draw(backbone, IMP.changed(rounds=rounds), data=tiny_data, store=store, report=count)
    assert trained == {1: 1, 2: 1, 3: 1}
    assert same(ladder.mask(4), unkilled.mask(4))
