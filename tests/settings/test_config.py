"""Settings: what is allowed, that every refusal is one line naming the field, and that JSON loses nothing."""

from __future__ import annotations

import json
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery_hub.errors import ConfigError
from lottery_hub.settings.config import (
    Attack,
    DataPlan,
    DrawPlan,
    PretrainPlan,
    Recipe,
    TransferPlan,
    parse_number,
    pixel_units,
)
from lottery_hub.settings.plans import FindPlan

PGD = Attack(eps=8 / 255, step_size=2 / 255, steps=10)
STANDARD = Recipe(epochs=10, lr=0.1)
ADVERSARIAL = STANDARD.changed(attack=PGD, selection_attack=PGD)
TRANSFER = TransferPlan(standard=STANDARD, adversarial=ADVERSARIAL, test_attack=PGD)
DATA = DataPlan(dataset="digits", fraction=0.1)
FIND = FindPlan(
    pretrain="std",
    arch="resnet18-slim",
    data=DATA,
    draw=DrawPlan(data=DATA, recipe=STANDARD.changed(schedule="steps", milestones=(3, 6))),
    transfer=TRANSFER,
)
PRETRAIN = PretrainPlan(arch="resnet18-slim", kind="adv", data=DATA, recipe=ADVERSARIAL, test_attack=PGD)


def refusal(call, *arguments, **named):
    """Return the one line of the ConfigError that a call ends in."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **named)
    line = str(caught.value)
    assert line.isprintable(), "an error is one line without control characters"
    return line


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"eps": -0.1}, "Attack.eps", "greater than or equal to 0"),
        ({"eps": "0.03"}, "Attack.eps", "valid number"),
        ({"eps": True}, "Attack.eps", "valid number"),
        ({"eps": float("nan")}, "Attack.eps", "finite"),
        ({"step_size": float("inf")}, "Attack.step_size", "finite"),
        ({"steps": 10.0}, "Attack.steps", "valid integer"),
        ({"steps": 0}, "Attack.steps", "greater than or equal to 1"),
        ({"restarts": 0}, "Attack.restarts", "greater than or equal to 1"),
        ({"norm": "l0"}, "Attack.norm", "'linf', 'l2' or 'l1'"),
        ({"norm": "l1"}, "Attack", "pgd is not for L1; use one of apgd-ce, apgd-dlr, square, autoattack"),
        ({"method": "cw"}, "Attack.method", "'pgd', 'fgsm', 'n-fgsm', 'apgd-ce', "),
        ({"random_start": 1}, "Attack.random_start", "valid boolean"),
        ({"stepsize": 0.1}, "Attack.stepsize", "not permitted"),
        ({"eps": 8.0}, "Attack", "eps of 8 covers all of [0,1]"),
        ({"step_size": 0.0}, "Attack", "step_size above 0"),
        ({"method": "fgsm"}, "Attack", "fgsm takes one step; use pgd for 10"),
        ({"method": "n-fgsm", "steps": 1, "norm": "l2"}, "Attack", "Linf only"),
        ({"method": "autoattack"}, "Attack", "autoattack has steps and restarts of its own"),
    ],
)
def test_an_attack_that_makes_no_sense_is_refused(changes, field, reason):
    line = refusal(PGD.changed, **changes)
    assert line.startswith(f"{field}: ")
    assert reason in line


@pytest.mark.parametrize("place", ["attack", "selection_attack"])
def test_nothing_is_trained_on_an_attack_for_measuring(place):
    strong = Attack(method="apgd-ce", eps=8 / 255, steps=100)
    assert "apgd-ce is for measuring; train with pgd" in refusal(Recipe.parse, {"epochs": 1, "lr": 0.1, place: strong})


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (Attack(method="apgd-ce", eps=8 / 255, steps=100), "APGD-CE-100 Linf eps 8/255"),
        (Attack(method="square", norm="l2", eps=0.5, steps=5000), "SQUARE-5000 L2 eps 0.5"),
        (Attack(method="autoattack", eps=8 / 255), "AutoAttack Linf eps 8/255"),
    ],
)
def test_attacks_for_measuring_are_described_with_their_steps(attack, words):
    assert attack.describe() == words


def test_attacks_at_the_edge_of_sense_are_allowed():
    assert Attack(eps=0.0).step_size == 0.0  # no radius needs no step
    assert Attack(norm="l2", eps=3.0, step_size=0.5).eps == 3.0  # an L2 ball may be larger than a pixel
    assert Attack(eps=1.0, step_size=0.1).eps == 1.0
    assert Attack(method="fgsm", norm="l2", eps=0.5).steps == 1
    assert Attack.parse({"eps": 1, "step_size": 1}).eps == 1.0  # a whole number is a number


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"epochs": 0}, "Recipe.epochs", "greater than or equal to 1"),
        ({"epochs": "3"}, "Recipe.epochs", "valid integer"),
        ({"batch_size": 1}, "Recipe.batch_size", "greater than or equal to 2"),
        ({"lr": 0.0}, "Recipe.lr", "greater than 0"),
        ({"lr": "0.1"}, "Recipe.lr", "valid number"),
        ({"lr": float("nan")}, "Recipe.lr", "finite"),
        ({"momentum": 1.0}, "Recipe.momentum", "less than 1"),
        ({"weight_decay": -1e-4}, "Recipe.weight_decay", "greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "Recipe.label_smoothing", "less than 1"),
        ({"image_size": 7}, "Recipe.image_size", "greater than or equal to 8"),
        ({"augment": "flip"}, "Recipe.augment", "'crop-flip'"),
        ({"precision": "float16"}, "Recipe.precision", "'bfloat16'"),
        ({"select": "first"}, "Recipe.select", "'best' or 'last'"),
        ({"milestones": ("3",)}, "Recipe.milestones.0", "valid integer"),
        ({"attack": {"eps": -1}}, "Recipe.attack.eps", "greater than or equal to 0"),
        ({"learning_rate": 0.1}, "Recipe.learning_rate", "not permitted"),
        ({"schedule": "steps"}, "Recipe", "needs milestones"),
        ({"schedule": "steps", "milestones": (5, 11)}, "Recipe", "within the 10 epochs"),
        ({"milestones": (0,)}, "Recipe", "within the 10 epochs"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changes, field, reason):
    line = refusal(STANDARD.changed, **changes)
    assert line.startswith(f"{field}: ")
    assert reason in line


@pytest.mark.parametrize(
    ("plan", "changes", "field", "reason"),
    [
        (DATA, {"dataset": ""}, "DataPlan.dataset", "at least 1 character"),
        (DATA, {"fraction": 0.0}, "DataPlan.fraction", "greater than 0"),
        (DATA, {"fraction": 1.1}, "DataPlan.fraction", "less than or equal to 1"),
        (DATA, {"validation": 0.9}, "DataPlan.validation", "less than 0.9"),
        (PRETRAIN, {"kind": "robust"}, "PretrainPlan.kind", "'std', 'fast-adv' or 'adv'"),
        (PRETRAIN, {"seed": -1}, "PretrainPlan.seed", "greater than or equal to 0"),
        (PRETRAIN, {"seed": 2**32}, "PretrainPlan.seed", "less than 4294967296"),
        (FIND.draw, {"method": "snip"}, "DrawPlan.method", "'imp', 'omp' or 'random'"),
        (FIND.draw, {"prune_fraction": 1.0}, "DrawPlan.prune_fraction", "less than 1"),
        (FIND.draw, {"rounds": 0}, "DrawPlan.rounds", "greater than or equal to 1"),
        (FIND, {"seeds": 0}, "FindPlan.seeds", "greater than or equal to 1"),
        (FIND, {"scan": "none"}, "FindPlan.scan", "'bisect' or 'all'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan, changes, field, reason):
    line = refusal(plan.changed, **changes)
    assert line.startswith(f"{field}: ")
    assert reason in line


def test_imp_needs_something_to_train_on_and_one_shot_does_not():
    assert "source dataset" in refusal(DrawPlan.parse, {"method": "imp"})
    assert "source dataset" in refusal(DrawPlan.parse, {"method": "imp", "data": DATA})
    assert DrawPlan(method="omp").recipe is None
    assert DrawPlan(method="random").data is None


def test_the_regimes_of_a_transfer_are_what_they_say():
    assert (TRANSFER.standard.regime, TRANSFER.adversarial.regime) == ("standard", "adversarial")
    assert TRANSFER.recipe("standard") is TRANSFER.standard
    assert TRANSFER.recipe("adversarial") is TRANSFER.adversarial
    for standard, adversarial in [(STANDARD, STANDARD), (ADVERSARIAL, ADVERSARIAL), (ADVERSARIAL, STANDARD)]:
        recipes = {"standard": standard, "adversarial": adversarial, "test_attack": PGD}
        assert "the adversarial one must have one" in refusal(TransferPlan.parse, recipes)


def test_a_key_with_escape_codes_is_shown_harmlessly():
    assert refusal(Recipe.parse, {"epochs": 1, "lr": 0.1, "a\n\x1b[31m": 1}).startswith("Recipe.a\\n\\x1b[31m: ")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ConfigError, match=r"^Recipe\.lr is fixed; use \.changed\(lr=…\)$"):
        STANDARD.lr = 0.2


def test_changing_replaces_what_is_given_and_leaves_none_alone():
    changed = STANDARD.changed(lr=0.5, epochs=None)
    assert (changed.lr, changed.epochs) == (0.5, 10)
    assert STANDARD.lr == 0.1


@pytest.mark.parametrize("plan", [PGD, STANDARD, ADVERSARIAL, DATA, PRETRAIN, FIND.draw, TRANSFER, FIND])
def test_a_plan_survives_json_unchanged(plan):
    assert plan.with_settings([]) == plan
    assert type(plan).model_validate_json(json.dumps(plan.record())) == plan


@st.composite
def recipes(draw):
    eps = draw(st.floats(0, 1))
    attack = Attack(
        eps=eps,
        step_size=draw(st.floats(1e-9, 1)),
        steps=draw(st.integers(1, 100)),
        random_start=draw(st.booleans()),
        batch_norm=draw(st.sampled_from(["eval", "train"])),
    )
    epochs = draw(st.integers(1, 10_000))
    return Recipe(
        epochs=epochs,
        lr=draw(st.floats(0, 100, exclude_min=True)),
        momentum=draw(st.floats(0, 1, exclude_max=True)),
        weight_decay=draw(st.floats(0, 1)),
        schedule=draw(st.sampled_from(["constant", "cosine", "one-cycle"])),
        milestones=tuple(draw(st.lists(st.integers(1, epochs), max_size=3))),
        attack=draw(st.sampled_from([None, attack])),
    )


@given(recipes())
def test_every_recipe_survives_json_to_the_last_bit(recipe):
    assert recipe.with_settings([]) == recipe


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("data.fraction=0.01", 0.01),
        ("transfer.adversarial.lr=0.5", 0.5),
        ("transfer.standard.epochs=7", 7),
        ("transfer.test_attack.eps=4/255", 4 / 255),
        ("transfer.test_attack.random_start=false", False),
        ("transfer.adversarial.selection_attack=null", None),
        ("draw.recipe.milestones=[2,4]", (2, 4)),
        ('draw.recipe.attack={"eps": 0.1, "method": "fgsm"}', Attack(eps=0.1, method="fgsm")),
        ("scan=all", "all"),
        ('tolerance="std"', "std"),
        (" arch = resnet50 ", "resnet50"),
    ],
)
def test_a_setting_is_reached_by_its_path(assignment, value):
    path = assignment.partition("=")[0].strip()

    def at_path(plan):
        return reduce(getattr, path.split("."), plan)

    assert at_path(FIND) != value
    assert at_path(FIND.with_settings([assignment])) == value


def test_settings_apply_in_order_and_together():
    recipe = STANDARD.with_settings(["lr=0.2", "schedule=steps", "milestones=[5]", "lr=0.3"])
    assert (recipe.lr, recipe.schedule, recipe.milestones) == (0.3, "steps", (5,))


@pytest.mark.parametrize(
    "assignment", ["lr", "=0.1", "learning_rate=0.1", "attack.eps=0.1", "lr.x=1", "", "a.b.c=1", "\x1b[31m=1"]
)
def test_a_path_that_leads_nowhere_is_refused(assignment):
    assert "there is no setting of that name" in refusal(STANDARD.with_settings, [assignment])


@pytest.mark.parametrize(
    ("assignment", "there_is"),
    [
        ("epochs=1", "draw.recipe.epochs, transfer.standard.epochs, transfer.adversarial.epochs"),
        ("recipe.fraction=0.1", "data.fraction, draw.data.fraction"),
        ("standard.scan=all", "scan"),
        ("epoch=1", "draw.recipe.epochs, transfer.standard.epochs, transfer.adversarial.epochs"),
        ("colour=1", ", ".join(FindPlan.model_fields)),
    ],
)
def test_a_path_that_leads_nowhere_is_told_where_settings_of_its_name_are(assignment, there_is):
    assert refusal(FIND.with_settings, [assignment]).endswith(f"; there is {there_is}")


@pytest.mark.parametrize(
    ("assignment", "field"),
    [
        ("lr=fast", "Recipe.lr"),
        ("lr=NaN", "Recipe.lr"),
        ("lr=-Infinity", "Recipe.lr"),
        ("lr=1/0", "Recipe.lr"),
        ("lr=", "Recipe.lr"),
        ("epochs=2.5", "Recipe.epochs"),
        ('epochs="3"', "Recipe.epochs"),
        ("attack={}", "Recipe.attack.eps"),
        ("schedule=steps", "Recipe"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_the_name_of_its_field(assignment, field):
    assert refusal(STANDARD.with_settings, [assignment]).startswith(f"{field}: ")


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_is_typed_gives_a_plan_or_one_line(path, value):
    for assignment in (f"{path}={value}", f"lr={value}", f"schedule={value}", f"attack={value}"):
        refused = ""
        try:
            STANDARD.with_settings([assignment])
        except ConfigError as problem:
            refused = str(problem)
        assert refused.isprintable()


@pytest.mark.parametrize(("text", "number"), [("0.03", 0.03), ("8/255", 8 / 255), ("1e-3", 0.001), (" 3 / 4 ", 0.75)])
def test_numbers_may_be_fractions(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "eight", "8/", "/255", "8/0", "1/2/3", "8\\255", True, [1], None])
def test_what_is_no_number_is_refused_with_examples(text):
    assert refusal(parse_number, text).endswith("is not a number; write 0.03 or 8/255")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8 / 255, "8/255"),
        (1 / 255, "1/255"),
        (0.2, "51/255"),
        (0.1, "0.1"),
        (0.5, "0.5"),
        (16 / (3 * 255), "0.02092"),
        (0.0, "0"),
        (1e-9, "1e-09"),
        (1.0, "1"),
        (3.0, "3"),
    ],
)
def test_pixel_units_are_255ths_where_they_are_whole(value, shown):
    assert pixel_units(value) == shown


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (Attack(eps=8 / 255, step_size=2 / 255, steps=20), "PGD-20 Linf eps 8/255 step 2/255"),
        (Attack(eps=0.1, step_size=0.05, steps=3), "PGD-3 Linf eps 0.1 step 0.05"),
        (Attack(norm="l2", eps=0.5, step_size=0.1, steps=7, restarts=5), "PGD-7 L2 eps 0.5 step 0.1 x5 restarts"),
        (Attack(method="fgsm", eps=4 / 255), "FGSM Linf eps 4/255"),
        (Attack(method="n-fgsm", eps=8 / 255), "N-FGSM Linf eps 8/255"),
    ],
)
def test_an_attack_is_described_in_the_shorthand_of_the_field(attack, words):
    assert attack.describe() == words


def test_a_wrong_attack_is_one_of_our_errors_wherever_it_stands():
    with pytest.raises(ConfigError, match=r"^Attack: an Linf eps of 3 covers all of"):
        Attack(eps=3)
    with pytest.raises(ConfigError, match=r"^Recipe.attack: an Linf eps of 3"):
        Recipe(epochs=1, lr=0.1, attack={"eps": 3.0})
