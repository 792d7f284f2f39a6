"""Cards: every figure is printed exactly, a missing one is an error, and names break nothing."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from lottery_hub.errors import TicketError
from lottery_hub.judging.deciding import Basis, decide
from lottery_hub.judging.rules import Tolerance
from lottery_hub.judging.verdict import Measured, Runs, judge, summarise
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.reports import verdict_of
from lottery_hub.reporting.screen import as_text, print_find
from lottery_hub.robustness.corruptions import CORRUPTIONS
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.settings import presets
from lottery_hub.settings.config import (
    DataPlan,
    DrawPlan,
)
from lottery_hub.settings.plans import FindPlan

HOSTILE = "a|b\n---\nlicense: mit\n| x | \x1b[31m`**<script>[q](http://q)"


def runs(*figures: float) -> Runs:
    """Two seeds a regime, 0.02 apart, around the four means given."""
    a, b, c, d = figures
    return {
        "standard": [Measured(s, a + s * 0.02 - 0.01, b + s * 0.02 - 0.01) for s in (0, 1)],
        "adversarial": [Measured(s, c + s * 0.02 - 0.01, d + s * 0.02 - 0.01) for s in (0, 1)],
    }


def make_records(double_win: bool = True) -> dict[str, Any]:
    dense = runs(0.9712, 0.1234, 0.9345, 0.7001)
    good = runs(0.9698, 0.1301, 0.9333, 0.6987)
    bad = runs(0.9511, 0.1299, 0.9001, 0.5123)
    tolerance = Tolerance(0.01)

    def compared(figures: Runs) -> dict[str, Any]:
        row = summarise(figures) | judge(dense, figures, tolerance)
        return row | {"validation": copy.deepcopy(row)}

    levels = [
        {"level": level, "sparsity": 1 - 0.8**level} | compared(figures)
        for level, figures in ([(1, good), (2, bad)] if double_win else [(2, bad)])
    ]
    chosen = levels[0]
    control = {"method": "random", "sparsity": 0.2} | compared(bad)
    transfers = presets.quick_transfer("cifar10", 45_000, "float32")
    plan = FindPlan(
        pretrain="adv",
        arch="resnet18-slim",
        data=DataPlan(dataset="cifar10", fraction=0.1),
        draw=DrawPlan(method="omp", rounds=14),
        transfer=transfers,
        seeds=2,
        tolerance="points:1",
    )
    return {
        "double_win": double_win,
        "sparsity": chosen["sparsity"],
        "level": chosen["level"],
        "tolerance": tolerance.describe(),
        "attack": transfers.test_attack.describe(),
        "samples": 10_000,
        "validation_samples": 5_000,
        "fraction": 0.1,
        "seeds": 2,
        "scan": "bisect",
        "dense": summarise(dense),
        "levels": levels,
        "caveats": [],
        "scrutiny": {},
        "controls": [control],
        "plan": plan.record(),
        "data": {
            "name": "cifar10",
            "revision": "0123abc",
            "fingerprint": "sha256:feed",
            "fraction": 0.1,
            "image_size": 32,
            "train": 45_000,
            "validation": 5_000,
            "test": 10_000,
            "classes": 10,
            "notes": ["7 grey images became RGB"],
        },
        "environment": {"lottery_hub": "0.1.0", "torch": "2.9.0", "device": "cpu", "threads": 2},
        "transfers": [],
    }


def make_ticket(records: dict[str, Any], **changes: Any) -> Ticket:
    kept = torch.tensor([True] * 4 + [False])
    provenance = {
        "backbone": {
            "source": "timm/resnet18.tv_in1k/model.safetensors",
            "revision": "c0ffee",
            "license": "bsd-3-clause",
            "fingerprint": "sha256:beef",
        },
        "drawing": {"prune_fraction": 0.2, "data": {"name": "cifar100", "revision": "0ddba11"}},
    }
    settings: dict[str, Any] = {
        "arch": "resnet18-slim",
        "kind": "adv",
        "weights": {"fc.weight": torch.zeros(10, 4)},
        "mask": {"conv1.weight": kept, "layer1.0.conv1.weight": kept},
        "level": 1,
        "method": "imp",
        "provenance": provenance,
        "records": records,
    }
    return Ticket(**settings | changes)


def metadata_of(card: str) -> dict[str, Any]:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    loaded: dict[str, Any] = yaml.safe_load(front)
    return loaded


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def check_tables(card: str) -> None:
    """Every table has as many cells in each row as in its head."""
    width = 0
    for line in card.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or len(cells(line))
        assert len(cells(line)) == width, line


def test_a_double_win_card_shows_the_four_figures_to_two_decimals() -> None:
    card = render_card(make_ticket(make_records()))
    rows = [cells(line) for line in card.splitlines() if line.startswith(("| standard |", "| adversarial |"))]
    assert rows == [
        ["standard", "SA", "97.12 % ± 1.41", "96.98 % ± 1.41", "-0.14", "1.00", "yes"],
        ["standard", "RA", "12.34 % ± 1.41", "13.01 % ± 1.41", "0.67", "1.00", "yes"],
        ["adversarial", "SA", "93.45 % ± 1.41", "93.33 % ± 1.41", "-0.12", "1.00", "yes"],
        ["adversarial", "RA", "70.01 % ± 1.41", "69.87 % ± 1.41", "-0.14", "1.00", "yes"],
    ]
    assert "**Double win**" in card
    assert "95 % interval" not in card


def test_a_difference_is_shown_with_its_interval_where_there_is_one() -> None:
    records = make_records()
    for row in records["levels"][0]["figures"]:
        row["interval"] = [-0.0123, 0.0045]
    card = render_card(make_ticket(records))
    assert "| -0.14 (-1.23 to 0.45) | 1.00 | yes |" in card
    assert "95 % interval of the difference over test images, paired (bootstrap)" in card
    assert "NOT a double-win" not in card
    assert "PGD-20 Linf eps 8/255 step 2/255" in card
    assert "| 2 | 36.00 % | 95.11 % | 12.99 % | 90.01 % | 51.23 % | -17.78 | no | no |" in card
    assert "| random | 20.00 % |" in card
    assert "10,000 test images; one image is 0.01 points" in card
    assert "The level was picked on 5,000 validation images" in card
    check_tables(card)


def test_the_metadata_parses_and_holds_the_exact_figures() -> None:
    records = make_records()
    metadata = metadata_of(render_card(make_ticket(records)))
    assert metadata["library_name"] == "lottery-hub"
    assert metadata["license"] == "bsd-3-clause"
    assert metadata["base_model"] == "timm/resnet18.tv_in1k"
    assert metadata["datasets"] == ["uoft-cs/cifar10"]
    assert metadata["tags"][0] == "double-win-lottery-ticket"
    assert {"pretrain:adv", "sparsity:20-30", "lottery-ticket", "sparse", "timm"} <= set(metadata["tags"])
    metrics = metadata["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == [row["ticket"] for row in records["levels"][0]["figures"]]
    assert "attack" not in metrics[0]["args"]
    assert metrics[3]["args"]["eps"] == 8 / 255
    assert metrics[3]["args"]["steps"] == 20


def test_the_hub_client_keeps_all_four_metrics_with_their_settings() -> None:
    metadata = metadata_of(render_card(make_ticket(make_records())))
    _, results = model_index_to_eval_results(metadata["model-index"])
    assert [result.metric_name for result in results] == [
        "SA after standard transfer",
        "RA after standard transfer",
        "SA after adversarial transfer",
        "RA after adversarial transfer",
    ]
    settings = [result.metric_args or {} for result in results]
    assert [row["transfer"] for row in settings] == ["standard", "standard", "adversarial", "adversarial"]
    assert ["eps" in row for row in settings] == [False, True, False, True]
    assert {result.dataset_type for result in results} == {"uoft-cs/cifar10"}


def make_checks(passed: bool) -> dict[str, Any]:
    return {
        "network": "ticket, adversarial transfer, seed 0",
        "samples": 500,
        "attacks": [{"attack": "PGD-20 Linf eps 8/255", "RA": 0.314}, {"attack": "AutoAttack Linf", "RA": 0.262}],
        "gap": 0.052,
        "gap_interval": [0.034, 0.072],
        "checks": [{"name": "queries alone", "passed": passed, "figures": {"PGD-20": 0.314, "Square-1000": 0.35}}],
        "passed": passed,
    }


@pytest.mark.parametrize("passed", [True, False])
def test_the_gap_to_autoattack_and_the_checks_are_shown(passed: bool) -> None:
    records = make_records() | {"scrutiny": {"checks": make_checks(passed)}}
    card = render_card(make_ticket(records))
    assert "| AutoAttack Linf | 26.20 % |" in card
    assert "leaves 5.20 points (3.40 to 7.20) of robustness standing" in card
    assert f"| queries alone | {'yes' if passed else 'no'} | PGD-20 31.40, Square-1000 35.00 |" in card
    assert ("**Warning: a check of masked gradients failed" in card) is not passed
    assert "not with AutoAttack" not in card
    check_tables(card)


def test_corruptions_and_attacks_of_other_norms_stand_side_by_side() -> None:
    names = [f"{which}-{regime}-seed-0" for regime in ("standard", "adversarial") for which in ("dense", "ticket")]
    counts = {name: {kind: [place] * 5 for kind in CORRUPTIONS} for place, name in enumerate(names)}
    networks = {name: {"correct": counts[name], "mean": 0.01 * place} for place, name in enumerate(names)}
    attacked = {name: [{"attack": "PGD-20 L2 | eps 0.5", "RA": 0.1 * place}] for place, name in enumerate(names)}
    look = {
        "corruptions": {"samples": 100, "networks": networks},
        "unseen": {"samples": 1000, "networks": attacked},
    }
    card = render_card(make_ticket(make_records() | {"scrutiny": look}))
    header = "dense, standard transfer | ticket, standard transfer | dense, adversarial transfer | ticket, adv"
    assert f"| corruption | {header}" in card
    assert "| gaussian noise | 0.00 % | 1.00 % | 2.00 % | 3.00 % |" in card
    assert "| mean | 0.00 % | 1.00 % | 2.00 % | 3.00 % |" in card
    assert "| PGD-20 L2 \\| eps 0.5 | 0.00 % | 10.00 % | 20.00 % | 30.00 % |" in card
    assert "RA on 1,000 test images" in card
    check_tables(card)


def test_a_verdict_without_a_closer_look_says_so() -> None:
    card = render_card(make_ticket(make_records()))
    assert "## A closer look" not in card
    assert "Nothing was done to tell real robustness from masked gradients" in card


def test_a_ticket_that_does_not_win_says_so_and_lacks_the_tag() -> None:
    card = render_card(make_ticket(make_records(double_win=False)))
    assert "**NOT a double-win ticket: best level tried.**" in card
    alone = make_records(double_win=False)
    alone["plan"]["level"] = 1
    assert "**NOT a double-win ticket.**" in render_card(make_ticket(alone)), "no other was tried"
    assert "**Double win**" not in card
    assert "double-win-lottery-ticket" not in metadata_of(card)["tags"]


def test_the_command_repeats_the_plan() -> None:
    card = render_card(make_ticket(make_records()))
    command = card[card.index("lottery-hub find") :].split("```")[0].replace("\\\n", "").split()
    shown = dict(zip(command[2::2], command[3::2], strict=True))
    assert shown == {
        "--pretrain": "adv",
        "--arch": "resnet18-slim",
        "--dataset": "cifar10",
        "--fraction": "0.1",
        "--preset": "quick",
        "--seeds": "2",
        "--tolerance": "points:1",
        "--scan": "bisect",
        "--ladder": "auto",
        "--precision": "float32",
    }


def test_the_command_names_how_a_ladder_was_drawn_and_another_radius() -> None:
    records = make_records()
    plan = records["plan"]
    plan["ladder"] = "draw"
    plan["draw"] |= {"method": "imp", "data": {"dataset": "cifar100"}}
    plan["transfer"] = presets.quick_transfer("cifar10", 45_000, "float32", 4 / 255).record()
    card = render_card(make_ticket(records))
    for words in ("--preset quick", "--eps 4/255", "--ladder draw", "--method imp", "--source cifar100"):
        assert words in card


def test_settings_beside_the_presets_are_not_called_a_preset() -> None:
    records = make_records()
    records["plan"]["transfer"]["standard"]["epochs"] += 1
    card = render_card(make_ticket(records))
    assert "--preset" not in card
    assert "full settings in `results.json`" in card


@pytest.mark.parametrize(
    "path",
    [
        ("samples",),
        ("attack",),
        ("environment",),
        ("dense", "standard", "RA"),
        ("levels", 0, "adversarial", "SA"),
        ("levels", 1, "margin"),
        ("levels", 0, "figures", 2, "tolerance"),
        ("levels", 1, "validation", "double_win"),
        ("validation_samples",),
        ("levels", 0, "figures", 3, "ticket"),
        ("controls", 0, "standard", "SA"),
        ("data", "test"),
    ],
)
@pytest.mark.parametrize("gone", [True, False], ids=["missing", "null"])
def test_a_figure_that_is_missing_or_null_is_an_error(path: tuple[Any, ...], gone: bool) -> None:
    records = make_records()
    place: Any = records
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = None
    with pytest.raises(TicketError, match="do not make a card"):
        render_card(make_ticket(records))


def test_records_without_their_chosen_level_are_an_error() -> None:
    records = make_records()
    records["level"] = 5
    with pytest.raises(TicketError, match="level 5 is recorded 0 times"):
        render_card(make_ticket(records))


def test_a_level_that_is_not_a_number_is_not_printed() -> None:
    records = make_records()
    records["levels"][1]["level"] = "<b>1</b>"
    with pytest.raises(TicketError, match="not a whole number"):
        render_card(make_ticket(records))


def test_hostile_names_break_neither_tables_nor_metadata() -> None:
    plain, records = make_records(), make_records()
    records["data"] |= {"name": HOSTILE, "revision": HOSTILE, "fingerprint": HOSTILE, "notes": [HOSTILE]}
    records["environment"] = {HOSTILE: HOSTILE}
    records["controls"][0]["method"] = HOSTILE
    records["attack"] = records["tolerance"] = HOSTILE
    records["plan"] |= {"pretrain": HOSTILE, "arch": HOSTILE}
    records["plan"]["data"]["dataset"] = HOSTILE
    kept = torch.tensor([True] * 4 + [False])
    provenance = {
        "backbone": {"source": HOSTILE, "revision": HOSTILE, "license": HOSTILE, "fingerprint": HOSTILE},
        "drawing": {"data": {"name": HOSTILE}},
    }
    ticket = make_ticket(records, mask={HOSTILE: kept, "b": kept}, provenance=provenance)
    card = render_card(ticket)
    check_tables(card)
    assert "\x1b" not in card
    body, code = card.split("---\n", 2)[2], card.split("## Reproduce")[1].split("```")[1]
    assert "<script>" not in body.replace(code, "")
    headings = [line for line in render_card(make_ticket(plain)).splitlines() if line.startswith("#")]
    assert [line for line in card.splitlines() if line.startswith("#")] == headings
    metadata = metadata_of(card)
    assert metadata["license"] == "other"
    assert "base_model" not in metadata
    assert "datasets" not in metadata
    assert "\n" not in metadata["model-index"][0]["results"][0]["dataset"]["name"]


def test_a_ticket_that_was_never_transferred_gets_a_short_card() -> None:
    card = render_card(make_ticket({}))
    assert "**Not judged**" in card
    assert "## Ticket against dense" not in card
    assert "## Reproduce" not in card
    assert "| layer1.0.conv1.weight | 4 | 5 | 80.00 % |" in card
    assert "model-index" not in metadata_of(card)


def test_a_fine_tuned_ticket_shows_its_one_transfer_and_claims_no_verdict() -> None:
    transfer = {"regime": "adversarial", "seed": 3, "SA": 0.8125, "RA": 0.5, "samples": 360, "attack": "PGD-20"}
    records = {"transfer": transfer, "data": make_records()["data"], "recipe": {"epochs": 2, "lr": 0.1}}
    card = render_card(make_ticket(records))
    assert "**Fine-tuned**" in card
    assert "SA 81.25 %, RA 50.00 % under PGD-20, on 360 test images" in card
    assert "to_model()" in card
    assert "double-win-lottery-ticket" not in metadata_of(card)["tags"]
    metrics = metadata_of(card)["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == [0.8125, 0.5]


def test_a_ticket_of_unknown_origin_still_gets_a_card() -> None:
    card = render_card(make_ticket({}, provenance={}))
    assert metadata_of(card)["license"] == "other"
    assert "None" not in card


def test_rendering_leaves_the_records_alone() -> None:
    records = make_records()
    before = copy.deepcopy(records)
    render_card(make_ticket(records))
    assert records == before


# By a margin


def by_margin(worse: float, seeds: int = 3, confirm: int = 0, robust: float = 0.3, classes: int = 10) -> dict[str, Any]:
    """Records of two levels of which the second is so much worse; under standard transfer dense withstands `robust`."""

    def splits(name: str) -> dict[str, Runs]:
        shift = {"level-00": 0.0, "level-01": 0.0}.get(name, worse)

        def run(seed: int, count: int, withstood: float) -> Measured:
            hard = np.random.default_rng([seed, count]).random(count)
            bits = Outcomes(hard < 0.9 - shift, hard < max(withstood - shift, 0.0))
            return Measured(seed, float(bits.SA.mean()), float(bits.RA.mean()), bits)

        return {
            split: {
                "standard": [run(seed, count, robust) for seed in range(seeds + confirm)],
                "adversarial": [run(seed, count, 0.5) for seed in range(seeds + confirm)],
            }
            for split, count in (("test", 2000), ("validation", 1000))
        }

    records = make_records()
    plan = FindPlan.parse(records["plan"]).changed(seeds=seeds, tolerance="margin:2", confirm=confirm)
    basis = Basis(plan, classes, {"test": 2000, "validation": 1000}, splits)
    told = decide(basis, {1: 0.2, 2: 0.36}, {})
    return records | told | {"plan": plan.record(), "samples": 2000, "validation_samples": 1000}


def test_a_card_by_a_margin_says_rule_intervals_and_frontier() -> None:
    records = by_margin(0.05)
    card = render_card(make_ticket(records, level=1))
    assert "**Double win**: with 8 of 10 prunable weights kept, this ticket is no worse than the dense backbone" in card
    assert "by the margin of 2 points." in card
    assert "paired by seed and image" in card
    assert "**Frontier**: by all that was measured, tickets stay within the margin up to 2" in card
    assert "| no double win | 0.00 % |" in card
    assert "--margin 2" in card
    assert "--tolerance" not in card
    check_tables(card)


def test_a_card_of_a_verdict_that_cannot_be_told_says_what_would_decide_it() -> None:
    records = by_margin(0.05) | {"answer": "undecided", "double_win": False, "would_decide": "about 5 seeds"}
    card = render_card(make_ticket(records))
    assert "**Undecided**" in card
    assert "if the differences stay where they are: about 5 seeds." in card
    assert "ouble win**" not in card


def test_a_figure_on_which_dense_guesses_is_named_where_it_would_have_counted() -> None:
    card = render_card(make_ticket(by_margin(0.05, robust=0.0)))
    assert "Uninformative, and not counted: RA under standard transfer; dense only guesses there." in card
    assert re.search(r"\| standard \| RA \|.*\| uninformative \|", card)


def test_where_dense_only_guesses_there_is_nothing_to_judge_by() -> None:
    records = by_margin(0.05, classes=1)  # of a single class guessing is right, and no network is better than that
    ticket = make_ticket(records, level=1)
    printed = as_text(lambda console: print_find(console, records | {"ticket": "run/ticket"}, "slim on stripes"))
    for words in (render_card(ticket), verdict_of(ticket), " ".join(printed.split())):
        assert "here is nothing to judge by: dense only guesses on all four figures." in words
        assert "What would decide" not in words
        assert "within the margin up to" not in words


@pytest.mark.parametrize(("only", "option"), [({"level": 2}, "--level 2 "), ({"sparsity": 0.36}, "--sparsity 0.36 ")])
def test_the_command_names_the_one_level_that_was_asked_for(only: dict[str, Any], option: str) -> None:
    records = by_margin(0.05)
    assert "--level" not in render_card(make_ticket(records))
    assert "--sparsity" not in render_card(make_ticket(records))
    card = render_card(make_ticket(records | {"plan": records["plan"] | only}))
    assert option in card
    assert "The level was asked for, not picked." in card
    assert "was picked" not in card
    assert "is this ticket" not in card


def test_a_card_shows_the_seeds_that_had_no_part_in_picking() -> None:
    card = render_card(make_ticket(by_margin(0.05, confirm=2)))
    assert "These are transfers with seeds that had no part in picking the level (3, 4)" in card
    assert "--confirm 2" in card
    check_tables(card)
