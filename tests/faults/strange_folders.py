"""Folders of strangers: damaged ones, ones full of links, and places to save to that are somebody's already."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import bombs
import campaign
import odd
import torch
from attempts import cli
from cases import Case, no_secret, no_secret_in, refuses, replace_by_something, stranger
from crafted import ROWS
from folders import CONFIG, LEVELS, RESULTS, Draft, valid
from material import SIDE, give, material
from mutations import MUTATIONS, InapplicableError
from victims import SECRET, Opening, Scene

from lottery_hub.images.datasets import load_dataset
from lottery_hub.judging import scrutiny
from lottery_hub.sharing.exporting import export
from lottery_hub.sharing.publishing import prepare, push_ticket
from lottery_hub.sharing.pulling import load_ticket, pull
from lottery_hub.storage.folder import (
    load_backbone_folder,
    load_ladder,
    save_backbone,
    save_ladder,
    save_ticket,
)

OPENING = Opening()
_UNWRITABLE = (OSError, LookupError, ValueError, AttributeError, TypeError, ArithmeticError)


def damaged(place: Path, rng: random.Random) -> str:
    """Write a folder that the campaign of damaged folders would load; return what it held before."""
    base = rng.choice(sorted(valid()))
    draft = valid()[base].copy()
    if rng.random() < 0.15:
        row = rng.choice([row for row in ROWS.values() if row.base == base] or [None])
        changes: list[Callable[[Draft], object]] = [row.change] if row else []
    else:
        names = rng.sample(sorted(MUTATIONS), rng.choices([1, 2, 3], [6, 2, 1])[0])
        changes = [partial(_mutated, name=name, rng=rng) for name in names]
    try:
        for change in changes:
            change(draft)
        draft.write(place)
    except _UNWRITABLE as problem:
        raise InapplicableError from problem
    return base.split()[0]


def _mutated(draft: Draft, name: str, rng: random.Random) -> None:
    MUTATIONS[name](draft, rng)


@stranger("folders", often=30)
def a_damaged_folder_is_loaded(scene: Scene, rng: random.Random) -> Case:
    place = scene.work / "folder"
    load = rng.choice(campaign.LOADERS[damaged(place, rng)])
    return Case(lambda: load(place), lambda loaded: _as_the_format_page_says(place, loaded))


def _as_the_format_page_says(place: Path, loaded: Any) -> str:
    judged = campaign._acceptance(place, loaded)
    return "" if judged.name in campaign.GOOD else f"{judged.name}: {judged.detail}"


@stranger("folders", often=20)
def a_damaged_folder_is_given_to_a_command(scene: Scene, rng: random.Random) -> Case:
    place, out = scene.work / "folder", scene.work / "out"
    damaged(place, rng)
    scene.asked = [out]
    command = rng.choice(
        [
            ["show", place],
            ["show", place, "--json"],
            ["show", place, "--sparsity", "0.5"],
            ["show", place, place],
            ["export", place, "--format", "timm", "--output", out, "--sparsity", "0.5"],
            ["export", place, "--format", "safetensors-dense", "--output", out],
            ["push", place, "alice/net", "--dry-run", "--no-checks"],
            ["push", place, "alice/net", "--dry-run"],
            ["pull", place],
            ["pull", place, "--local-dir", out],
            ["verify", place],
            ["draw", "--pretrain", place, "--method", "omp", "--rounds", "2", "--output", out],
        ]
    )
    return Case(lambda: cli(*command, answers=(0, 1, 3)), lambda _: no_secret_in(out) if out.is_dir() else "")


@stranger("folders", often=1)
def a_small_file_asks_for_a_lot(scene: Scene, rng: random.Random) -> Case:
    bomb = bombs.BOMBS[rng.choice(sorted(bombs.BOMBS))]
    draft = valid()[bomb.base].copy()
    bomb.change(draft)
    place = draft.write(scene.work / "folder")
    return Case(lambda: campaign.LOADERS[bomb.base.split()[0]][0](place), refuses)


@stranger("folders", often=1)
def a_ladder_has_as_many_levels_as_the_format_allows(scene: Scene, rng: random.Random) -> Case:
    draft = valid()["ladder bfloat16"].copy()
    levels = rng.choice([16, 32, 64])
    bombs._network(draft, *rng.choice([("wide_resnet101_2", {}, 104), ("resnet50", {}, 53), ("resnet18", {}, 20)]))
    draft.config["num_classes"] = rng.choice([1, 1000])
    convolutions = draft.tensors["counters"].shape[0]
    for level in range(levels + 1):
        for part in ("unary", "binary") if level else ():
            bombs._stream(f"round/{level}/{part}", b"")(draft)
        for part in ("unary", "rest", "exponents"):
            bombs._stream(f"values/{level}/{part}", b"")(draft)
    rows = draft.tensors["layers"]
    rows.data = bytearray(rows.data[: 12 * convolutions] * levels)
    rows.shape = [levels, convolutions, 3]
    draft.about.update(levels=levels, sparsities=[0.0] + [1.0] * levels)
    place = draft.write(scene.work / "folder")
    return Case(lambda: load_ladder(place))


@stranger("folders", often=6)
def settings_that_compute_nothing(scene: Scene, rng: random.Random) -> Case:
    base = rng.choice(["ticket float32", "backbone float32", "ladder float32"])
    draft = valid()[base].copy()
    name = rng.choice(["mean", "std", "std"])
    draft.about[name] = rng.choice([[odd.number(rng)] * 3, [0.5, odd.number(rng), 0.5], [0.5] * rng.choice([0, 2, 4])])
    try:
        place = draft.write(scene.work / "folder")
    except _UNWRITABLE as problem:
        raise InapplicableError from problem
    load = campaign.LOADERS[base.split()[0]][0]
    return Case(lambda: load(place), _computes)


def _computes(loaded: Any) -> str:
    backbone = getattr(loaded, "backbone", loaded)
    model = (backbone.to_normalised() if hasattr(backbone, "to_normalised") else backbone.model()).eval()
    with torch.no_grad():
        finite = model(torch.rand(2, 3, 8, 8)).isfinite().all()
    return "" if finite else "its network computes NaN or infinity"


@stranger("folders", often=30)
def a_folder_full_of_links_is_published_or_copied(scene: Scene, rng: random.Random) -> Case:
    (place,) = give(scene, "run/ticket")
    out = scene.work / "out"
    trained = sorted(path.name for path in (place / "trained").iterdir())
    network = f"trained/{rng.choice(trained)}"
    inside = ["figure.png", "a.png", "README.md", CONFIG, RESULTS, "ticket.safetensors", "notes.txt", "trained"]
    inside += [network, f"{network}/{CONFIG}", f"{network}/ticket.safetensors", f"{network}/{RESULTS}"]
    inside += [f"{network}/extra", f"{network}/README.md", "report.html", "figure.png", "README.md"]
    for name in rng.sample(inside, rng.choice([1, 1, 2])):
        with suppress(FileExistsError):  # what was put in the place of its folder has it already
            if (place / name).parent.exists():
                replace_by_something(place / name, scene, rng)
    scene.asked = [out]
    models = rng.random() < 0.7

    def publish() -> dict[str, bytes]:
        return dict(prepare(place, "alice/net", models=models).files)

    def copy() -> dict[str, bytes]:
        pull(place, local_dir=out, models=models)
        return {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def command() -> dict[str, bytes]:
        ways = [["verify", place], ["show", place], ["push", place, "alice/x", "--dry-run", "--no-checks", "--models"]]
        cli(*rng.choice(ways), answers=(0, 1, 3))
        return {}

    return Case(rng.choice([publish, copy, command]), no_secret)


# Places to save to


def _a_place(scene: Scene, rng: random.Random) -> tuple[Path, str]:
    """Make a place to save to; what is the user's there is noted as kept."""
    place = scene.work / "out"
    kind = rng.choice(
        [
            *("nothing", "empty", "an older ticket", "an older ticket with more", "a readme", "somebody's settings"),
            *("a file", "a link to a folder", "a link to a file", "a dangling link", "a pipe", "a find", "a project"),
            *("names of ours with others' contents", "a hidden file", "a ticket with a link in it", "a long name"),
            *("a null character", "a file on the way", "an older ticket with an edited card"),
        ]
    )
    scene.asked, scene.look_away = [place], True  # whatever is there, the user has named it
    if kind.startswith("an older") or kind == "a ticket with a link in it":
        valid()["ticket float32"].copy().write(place)
    if kind == "an older ticket with more":
        for name in rng.sample(["photo.png", "notes.md", ".git/HEAD", "trained/other/x.bin", ".env", "sub/a"], 2):
            _own(scene, place / name)
    elif kind == "an older ticket with an edited card":
        _own(scene, place / "README.md")
    elif kind == "a ticket with a link in it":
        (place / rng.choice(["figure.png", "README.md", "trained"])).symlink_to(scene.victim / "pictures")
    elif kind == "empty":
        place.mkdir()
    elif kind in ("a readme", "somebody's settings", "a hidden file"):
        _own(scene, place / {"a readme": "README.md", "a hidden file": ".env"}.get(kind, CONFIG))
    elif kind == "names of ours with others' contents":
        for name in ("README.md", CONFIG, RESULTS, "ticket.safetensors", "model.safetensors"):
            _own(scene, place / name)
    elif kind == "a project":
        shutil.copytree(scene.victim, place, symlinks=True)
        scene.kept += [path for path in place.rglob("*") if path.is_file() or path.is_symlink()]
    elif kind == "a find":
        shutil.copytree(material().place / "run", place)
        _own(scene, place / "notes.txt")
        scene.kept += [path for path in (place / "ticket").rglob("*") if path.is_file()]
    elif kind == "a file":
        _own(scene, place)
    elif kind == "a pipe":
        os.mkfifo(place)
        scene.kept.append(place)
    elif kind.startswith("a link") or kind == "a dangling link":
        to = {"a link to a folder": scene.victim, "a link to a file": scene.victim / "notes.txt"}
        place.symlink_to(to.get(kind, scene.work / "where the link leads"))
        scene.kept.append(place)
        scene.asked.append(scene.work / "where the link leads")
    elif kind == "a long name":
        place = scene.work / ("x" * rng.choice([250, 255, 300, 5000]))
        scene.asked = [place]
    elif kind == "a null character":
        place = Path(f"{scene.work}/o\0ut")
        scene.asked = []
    elif kind == "a file on the way":
        _own(scene, place)
        place = place / "below"
    return place, kind


def _own(scene: Scene, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"the user's own, " + SECRET)
    scene.kept.append(path)


@stranger("folders", often=30)
def a_save_goes_to_a_place_that_is_somebodys(scene: Scene, rng: random.Random) -> Case:
    place, _ = _a_place(scene, rng)
    source = scene.work / "source"
    content = rng.choice(["ticket", "ladder", "backbone"])
    valid()[f"{content} float32"].copy().write(source)
    run = material().place / "run/ticket"

    def save() -> Path:
        if content == "ticket":
            return save_ticket(load_ticket(source), place)
        return save_ladder(load_ladder(source), place) if content == "ladder" else _saved_backbone(source, place)

    ways: list[Callable[[], Any]] = [
        save,
        lambda: pull(source, local_dir=place).folder,
        lambda: pull(run, local_dir=place, models=True).folder,
        lambda: cli("pull", source, "--local-dir", place),
    ]
    return Case(rng.choice(ways), lambda _: _is_whole(place, content))


def _saved_backbone(source: Path, place: Path) -> Path:
    return save_backbone(load_backbone_folder(source), place)


def _is_whole(place: Path, content: str) -> str:
    loaded = any(campaign.outcome(place, load).name == "accepted and equal" for load in (load_ticket, load_ladder))
    return "" if loaded or content == "backbone" else "what was saved cannot be loaded"


@stranger("folders", often=12)
def an_export_or_a_run_goes_to_a_place_that_is_somebodys(scene: Scene, rng: random.Random) -> Case:
    place, _ = _a_place(scene, rng)
    source = valid()["ticket float32"].copy().write(scene.work / "source")
    (net,) = give(scene, "net")
    ways: list[Callable[[], Any]] = [
        lambda: export(load_ticket(source), "timm", place),
        lambda: export(load_ticket(source), "safetensors-dense", place),
        lambda: cli("export", source, "--format", "timm", "--output", place),
        lambda: cli("draw", "--pretrain", net, "--method", "omp", "--rounds", LEVELS, "--output", place),
    ]
    return Case(rng.choice(ways))


@stranger("folders", often=6)
def a_copy_goes_over_where_it_comes_from(scene: Scene, rng: random.Random) -> Case:
    (source,) = give(scene, "run/ticket")
    scene.kept = [path for path in source.rglob("*") if path.is_file()]
    link = scene.work / "link"
    link.symlink_to(source)
    target = rng.choice([source, link, source / "copy", source / "trained", scene.work, source / "../ticket"])
    scene.asked = [source / "copy"]
    models = rng.random() < 0.5
    return Case(lambda: pull(source, local_dir=target, models=models))


@stranger("folders", often=6)
def the_users_own_folder_is_pushed(scene: Scene, rng: random.Random) -> Case:
    """Whatever is in it besides stays; a dry run writes nothing at all."""
    (place,) = give(scene, "run/ticket")
    for name in rng.sample(["photo.jpg", "notes.md", ".git/HEAD", "trained/other/x.bin", "sub/figure.png"], 2):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(SECRET)
    if rng.random() < 0.5:
        (place / "README.md").write_text("my own words\n", encoding="utf-8")

    def looked_at() -> Any:
        """Publish a verdict that was never looked at closer, which is done first; on two images, to be fast."""
        data = load_dataset(str(material().place / "data"), image_size=SIDE)
        with mock.patch.object(scrutiny, "SAMPLES", 2):
            return push_ticket(place, "alice/net", dry_run=True, data=data)

    ways: list[Callable[[], Any]] = [
        lambda: push_ticket(place, "alice/net", dry_run=True, checks=False, models=True),
        lambda: push_ticket(place, "alice/net", dry_run=True, checks=False),
        lambda: dict(prepare(place, "alice/net", models=True).files),
        looked_at,
    ]
    return Case(rng.choice(ways), lambda made: no_secret(made) if isinstance(made, dict) else "")


@stranger("folders", often=4)
def a_draw_is_given_again(scene: Scene, rng: random.Random) -> Case:
    """What its user has put beside the ladder stays."""
    (net,) = give(scene, "net")
    place = scene.work / "drawn"
    scene.asked = [place]
    command = ["draw", "--pretrain", net, "--method", "omp", "--rounds", "2", "--output", place]
    cli(*command)
    for name in rng.sample(["README.md", "notes.txt", "figure.png", ".git/HEAD"], 2):
        _own(scene, place / "ladder" / name)
    return Case(lambda: cli(*command))


@stranger("folders", often=4)
def a_folder_changes_while_it_is_pushed(scene: Scene, rng: random.Random) -> Case:
    """What is published is what was checked, whoever writes to the folder meanwhile."""
    (place,) = give(scene, "run/ticket")
    scene.asked = [place]
    weights = place / "ticket.safetensors"
    right, wrong = weights.read_bytes(), bytearray(weights.read_bytes())
    wrong[-1] ^= 1
    when = rng.choice([1, 1, 2, 3])

    opened = [0]

    def meanwhile(name: str) -> None:
        if Path(name).name == weights.name and Path(name).parent.name == place.name:
            opened[0] += 1
            aside = place / "aside"
            aside.write_bytes(bytes(wrong) if opened[0] == when else right)
            aside.replace(weights)

    def act() -> dict[str, bytes]:
        with OPENING.tell(meanwhile):
            return dict(prepare(place, "alice/net").files)

    def published(made: dict[str, bytes]) -> str:
        return "" if made[weights.name] == right else "what is published was never checked"

    return Case(act, published)


@stranger("folders", often=8)
def a_reference_is_no_name(scene: Scene, rng: random.Random) -> Case:
    ref = odd.name(scene, rng)
    scene.look_away = True  # it is the user who names the place
    place = valid()["ladder float32"].copy().write(scene.work / "folder")
    out = rng.choice([odd.name(scene, rng), "x" * 300, "a/" * 3000])
    ways: list[list[Any]] = [
        *(["show", ref], ["pull", ref], ["verify", ref], ["show", place, ref], ["finetune", ref]),
        *(["pull", place, "--revision", ref], ["find", "--ladder", ref], ["find", "--dataset", ref]),
        *(["evaluate", ref], ["draw", "--pretrain", ref], ["draw", "--pretrain", f"adv:{ref}"], ["push", place, ref]),
        *(["push", place, "alice/x", "--tag", ref], ["push", place, "alice/x", "--revision", ref]),
        *(
            ["export", place, "--format", "timm", "--sparsity", "0.5", "--output", out],
            ["export", ref, "--format", ref],
        ),
        *(["pull", place, "--deadline", rng.choice(["inf", "nan", "1e999", "-1", "x"])],),
        *(["evaluate", place, "--seed", 10**25], ["finetune", place, "--seed", 10**25, "--output", out]),
        *(["find", "--set", f"{ref}={ref}"], ["find", "--eps", ref], ["show", place, "--sparsity", ref]),
    ]
    command = rng.choice(ways)
    if command[0] == "export" and "\0" not in out:  # where nothing is, the user may want it
        target = Path(os.path.normpath(scene.work / out))
        scene.asked = [] if _is_there(target) else [target]
    return Case(lambda: cli(*command, answers=(0, 1, 3)))


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False
