"""Records that hold together do, and whoever changes one figure in them contradicts the others."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottery_hub.errors import TicketError
from lottery_hub.judging.consistency import contradictions
from lottery_hub.judging.deciding import basis_of, decide_again
from lottery_hub.judging.scrutiny import COMPARED, CURVED
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.robustness.corruptions import CORRUPTIONS
from lottery_hub.robustness.curves import curve_attacks
from lottery_hub.robustness.masking import judge_masking
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.robustness.unseen import ATTACKS
from lottery_hub.settings.config import Attack
from lottery_hub.storage.folder import load_ticket
from lottery_hub.storage.records import check_ticket
from tests.judged import ATTACK, at, leaves, put

# What no figure follows from: how it went, on which machine, what things are called.
FREE = re.compile(
    r"transfers\.\d+\.(history\.\d+\.(?!epoch$).*|trained|epoch"
    r"|provenance\.(environment\..*|seconds|precision|batch_norm|data\.(name|revision)|backbone\.(source|revision)))"
    r"|(environment|data|plan)\..*"
)


@pytest.fixture(scope="module")
def ticket(run: Path) -> Ticket:
    return load_ticket(run)


def edited(ticket: Ticket, path: tuple[Any, ...], new: Any) -> Ticket:
    records = copy.deepcopy(ticket.records)
    put(records, path, new)
    return replace(ticket, records=records)


def test_the_records_of_a_find_hold_together(ticket: Ticket) -> None:
    assert contradictions(ticket) == []
    assert contradictions(replace(ticket, records=json.loads(json.dumps(ticket.records)))) == []


def test_an_older_ticket_is_read_by_the_rule_that_it_names(ticket: Ticket) -> None:
    records = copy.deepcopy(ticket.records)
    newer = {"max_seeds", "confirm", "eps_standard"}
    records["plan"] = {key: value for key, value in records["plan"].items() if key not in newer} | {"tolerance": "auto"}
    del records["plan"]["transfer"]["standard_attack"]
    for key in ("answer", "margin", "frontier", "would_decide"):
        del records[key]
    old = replace(ticket, records=records)
    records |= decide_again(basis_of(old), old)
    assert records["tolerance"] == "one standard deviation of the dense runs"
    assert {"margin", "double_win"} <= records["levels"][0].keys()
    assert not any(line.startswith("12 test images") for line in records["caveats"])
    assert records["level"] == ticket.level  # else the mask would be another's
    assert contradictions(old) == []
    check_ticket(old)
    assert "within one standard deviation of the dense runs" in render_card(old)


def changed(value: Any) -> Any:
    """A figure by a little; a word, a truth value or null by something else of its kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + (1 if isinstance(value, int) else 1e-4)
    return 0.5 if value is None else f"{value}x"


@pytest.mark.parametrize("share", [75, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_figure_that_follows_from_others_contradicts_them_once_it_is_changed(
    ticket: Ticket, share: int | None
) -> None:
    paths = [path for path in leaves(ticket.records) if not FREE.fullmatch(".".join(map(str, path)))]
    assert len(paths) > 500
    tried = paths if share is None else random.Random(0).sample(paths, share)
    unnoticed = [
        ".".join(map(str, path))
        for path in tried
        if not contradictions(edited(ticket, path, changed(at(ticket.records, path))))
    ]
    assert unnoticed == []


def test_what_no_figure_follows_from_is_still_on_the_card_by_the_digest_of_the_records(ticket: Ticket) -> None:
    card = render_card(ticket)
    free = [path for path in leaves(ticket.records) if FREE.fullmatch(".".join(map(str, path)))]
    for path in random.Random(0).sample(free, 25):
        with contextlib.suppress(TicketError):  # no card at all
            assert render_card(edited(ticket, path, changed(at(ticket.records, path)))) != card


@pytest.mark.parametrize(
    ("path", "new", "line"),
    [
        (("double_win",), None, "double_win"),
        (("tolerance",), "margin of 1 point", "tolerance: margin of 1 point, not margin of 5 points"),
        (("plan", "seeds"), 3, "seeds"),
        (("plan", "transfer", "test_attack", "eps"), 0.2, "attack"),
        (("data", "test"), 13, "level-00, standard transfer, seed 0, test.samples: 12, not 13"),
        (("data", "test"), 99, "cannot be read: the outcomes of a transfer are not of 99 images"),
        (("data", "fingerprint"), "sha256:0", "level-00, standard transfer, seed 0.data: sha256:stripes, not sha256:0"),
        (("controls", 0, "standard", "SA"), 0.99, "controls.0.standard.SA"),
        (("transfers", 0, "seeds", "attack"), 5, "level-00, standard transfer, seed 0.seeds.attack: 5, not 0"),
        (("transfers", 3, "seed"), 7, "seed"),
    ],
    ids=str,
)
def test_the_line_names_what_does_not_fit(ticket: Ticket, path: tuple[Any, ...], new: Any, line: str) -> None:
    found = contradictions(edited(ticket, path, new))
    assert any(line in each for each in found), found


RIGHT, WITHSTOOD = np.arange(12) < 6, np.arange(12) < 3
FIGURES = {"SA": 0.5, "RA": 0.25, "correct": 6, "robust": 3, "samples": 12}


def row(attack: Attack) -> dict[str, Any]:
    return {"attack": attack.describe(3), **FIGURES, "outcomes": Outcomes(RIGHT, WITHSTOOD).record()}


def looked(ticket: Ticket) -> Ticket:
    """A ticket with looks at its twelve images, worked by hand."""
    corrupted = {"correct": {kind: [12, 9, 6, 3, 0] for kind in CORRUPTIONS}, "mean": 0.5}
    left = {"PGD-20": 0.25, "eps x2": 0.0, "eps x4": 0.0, "eps 0.5": 0.0, "PGD-100": 0.25}
    left |= {
        "PGD-100 on the margin": 0.25,
        "PGD-100 on the margin, logits x1000": 0.25,
        "Square-1000": 0.5,
        "without random start": 0.25,
    }
    look = {"samples": 12, "seed": 0}
    along = [row(each) | {"eps": each.eps} for several in curve_attacks(ATTACK) for each in several]
    scrutiny = {
        "checks": look
        | {"network": "ticket, adversarial transfer, seed 0", "gap": 0.0, "gap_interval": [0.0, 0.0], "passed": True}
        | {"attacks": [row(ATTACK), row(Attack(method="autoattack", eps=0.1))]}
        | {"checks": [check.record() for check in judge_masking(left, 12, 3)]},
        "corruptions": look | {"networks": dict.fromkeys(COMPARED, corrupted)},
        "unseen": look | {"networks": {name: [row(attack) for attack in ATTACKS] for name in COMPARED}},
        "curve": look | {"networks": dict.fromkeys(CURVED, along)},
    }
    return replace(ticket, records=ticket.records | {"scrutiny": json.loads(json.dumps(scrutiny))})


@pytest.mark.parametrize("share", [75, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_figure_of_a_closer_look_is_held_against_its_counts(ticket: Ticket, share: int | None) -> None:
    seen = looked(ticket)
    assert contradictions(seen) == []
    paths = list(leaves(seen.records["scrutiny"]))
    for inner in paths if share is None else random.Random(0).sample(paths, share):
        path = ("scrutiny", *inner)
        assert contradictions(edited(seen, path, changed(at(seen.records, path)))), path
    fog = ("scrutiny", "corruptions", "networks", "dense-standard-seed-0", "correct", "fog")
    assert "not 15 corruptions at 5 severities" in contradictions(edited(seen, fog, [4, 3, 3]))[0]
    assert "a count is not one of 12 images" in contradictions(edited(seen, fog, [13, 1, 0, 0, 0]))[0]


def test_a_curve_can_only_fall(ticket: Ticket) -> None:
    seen = looked(ticket)
    path = ("scrutiny", "curve", "networks", "dense-adversarial-seed-0")
    rows = copy.deepcopy(at(seen.records, path))
    more = Outcomes(RIGHT, np.arange(12) < 4)
    rows[3] |= {"robust": 4, "RA": 4 / 12, "outcomes": more.record()}
    (line,) = contradictions(edited(seen, path, rows))
    assert "withstand" in line
    assert "that a smaller radius had broken" in line


@pytest.mark.parametrize("count", [0, 5, 7])
def test_of_the_six_checks_none_is_missing_and_none_is_added(ticket: Ticket, count: int) -> None:
    path = ("scrutiny", "checks", "checks")
    seen = looked(ticket)
    checks = [*at(seen.records, path), at(seen.records, path)[0]][:count]
    assert contradictions(edited(seen, path, checks))


def test_a_check_passes_as_its_figures_say(ticket: Ticket) -> None:
    seen = looked(ticket)
    checks = copy.deepcopy(at(seen.records, ("scrutiny", "checks", "checks")))
    checks[1]["figures"]["PGD-100"] = 1.0  # far above PGD-20's
    assert any(
        "checks.1.passed: True, not False" in line
        for line in contradictions(edited(seen, ("scrutiny", "checks", "checks"), checks))
    )


@pytest.mark.parametrize("look", ["corruptions", "unseen"])
def test_a_look_is_at_dense_and_ticket_after_both_transfers(ticket: Ticket, look: str) -> None:
    seen = looked(ticket)
    path = ("scrutiny", look, "networks")
    networks = {name: row for name, row in at(seen.records, path).items() if not name.startswith("dense")}
    assert any("networks" in line for line in contradictions(edited(seen, path, networks)))


def test_one_network_is_not_that_of_two_seeds(ticket: Ticket) -> None:
    path = ("transfers", 1, "trained")
    same = edited(ticket, path, ticket.records["transfers"][0]["trained"])
    assert any(
        "seed 0 and standard transfer, seed 1 name the same trained network" in line for line in contradictions(same)
    )


def flipped(text: str, bit: int) -> str:
    data = bytearray(base64.b64decode(text))
    data[bit // 8] ^= 128 >> bit % 8
    return base64.b64encode(data).decode("ascii")


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("figure", ["SA", "RA"])
def test_one_image_that_came_out_otherwise_is_noticed_even_where_its_transfer_was_counted_again(
    ticket: Ticket, split: str, figure: str
) -> None:
    records = copy.deepcopy(ticket.records)
    for place in range(len(records["transfers"])):
        transfer = copy.deepcopy(records["transfers"][place])
        measured = transfer if split == "test" else transfer["validation"]
        measured["outcomes"][figure] = flipped(measured["outcomes"][figure], 4)
        alone = edited(ticket, ("transfers", place), copy.deepcopy(transfer))
        assert contradictions(alone)
        seen = base64.b64decode(measured["outcomes"][figure])
        count = sum(byte.bit_count() for byte in seen)
        measured["correct" if figure == "SA" else "robust"] = count
        measured[figure] = count / measured["samples"]
        assert contradictions(edited(ticket, ("transfers", place), transfer))


@pytest.mark.parametrize(
    "change", [list.pop, lambda rows: rows.append(rows[0]), list.reverse], ids=["gone", "twice", "turned"]
)
def test_transfers_are_all_there_once_and_in_order(ticket: Ticket, change: Callable[[list[Any]], Any]) -> None:
    records = copy.deepcopy(ticket.records)
    change(records["transfers"])
    assert contradictions(replace(ticket, records=records))


def test_another_level_than_the_rule_picks_is_noticed(ticket: Ticket) -> None:
    other = 3 - ticket.level
    records = ticket.records | {"level": other, "sparsity": 1 - 0.8**other}
    assert contradictions(replace(ticket, records=records, level=other))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_records_of_any_shape_give_lines_and_no_traceback(ticket: Ticket, data: st.DataObject) -> None:
    paths = list(leaves(ticket.records))
    path = data.draw(st.sampled_from(paths))
    path = path[: data.draw(st.integers(1, len(path)))]
    new = data.draw(st.sampled_from([None, True, -1, 1e308, "", "\x1b[31m", [], {}, [[]], {"SA": None}]))
    for line in contradictions(edited(ticket, path, new)):
        assert "\x1b" not in line
        assert "\n" not in line


def test_a_ticket_of_one_transfer_is_held_to_its_own_outcomes(ticket: Ticket, tmp_path: Path) -> None:
    transfer = {
        key: value for key, value in ticket.records["transfers"][0].items() if key not in ("ticket", "sparsity")
    }
    tuned = replace(ticket, records={"transfer": transfer, "data": ticket.records["data"], "recipe": {}})
    assert contradictions(tuned) == []
    assert contradictions(edited(tuned, ("transfer", "correct"), 3))
