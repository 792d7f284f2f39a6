"""Run directories and stores: damaged where they stopped, finished and given again, and strangers' own."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import odd
import torch
from cases import Case, anything, replace_by_something, stranger
from folders import sha256
from material import found_in, give, material, plan_of
from mutations import InapplicableError
from strange_records import edited
from victims import Scene

from lottery_hub.finding import find
from lottery_hub.storage import atomic, sealed

_FAULTY = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError)


def _find(scene: Scene) -> Any:
    return find(plan_of(), scene.work / "run", store=scene.work / "store")


def _half(scene: Scene) -> list[Path]:
    """Give the scene a run that was killed in its last level, and its store; return both."""
    places = [scene.work / "run", scene.work / "store"]
    for name, place in zip(("half", "half-store"), places, strict=True):
        shutil.copytree(material().place / name, place)
    return places


def _as_found(summary: dict[str, Any]) -> str:
    """Say what is otherwise than where nothing was damaged; two runs of one plan agree to the last bit here."""
    found = found_in(summary)
    return next((f"another {name}" for name, value in material().found.items() if found[name] != value), "")


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if not data:
        raise InapplicableError
    way = rng.randrange(4)
    place = rng.randrange(len(data))
    if way == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[place:]
    elif way == 2:
        digits = [at for at, byte in enumerate(data) if byte in b"123456789"]
        if not digits:
            raise InapplicableError
        at = rng.choice(digits)
        data[at] = ord(rng.choice("0123456789".replace(chr(data[at]), "")))
    else:
        data[place : place + 8] = rng.randbytes(8)
    path.write_bytes(bytes(data))


@stranger("runs", often=30)
def a_half_finished_run_is_damaged(scene: Scene, rng: random.Random) -> Case:
    give(scene, "net", "data")
    scene.asked = _half(scene)
    there = [path for place in scene.asked for path in sorted(place.rglob("*"))]
    files = [path for path in there if path.is_file() and path.name != ".lock"]
    weights = [path for path in files if path.suffix in (".pt", ".safetensors")]
    for path in rng.sample(rng.choice([files, weights]), 1):
        if rng.random() < 0.15:
            replace_by_something(path, scene, rng)
        else:
            _flip(path, rng)
    return Case(lambda: _find(scene), _as_found)


@stranger("runs", often=12)
def a_checkpoint_of_a_run_was_made_by_somebody(scene: Scene, rng: random.Random) -> Case:
    give(scene, "net", "data")
    scene.asked = _half(scene)
    (path,) = scene.asked[1].rglob("checkpoint.pt")
    hashed, data = _parted(path.read_bytes())
    saved = torch.load(io.BytesIO(data), weights_only=True)
    inside, key = saved, rng.choice(sorted(saved))
    while isinstance(inside[key], dict | list) and len(inside[key]) and rng.random() < 0.8:
        inside = inside[key]
        key = rng.choice(list(inside)) if isinstance(inside, dict) else rng.randrange(len(inside))
    value = inside[key]
    try:
        if isinstance(value, torch.Tensor):
            wrong = [value + 1, value * 1.01, torch.zeros(1), value.to(torch.complex64), torch.zeros(1).expand(10**12)]
            inside[key] = rng.choice([*wrong, value.double(), torch.full_like(value, -1), None])
        else:
            inside[key] = odd.value(scene, rng)
        stored = io.BytesIO()
        torch.save(saved, stored)
        path.write_bytes((f"{sha256(stored.getvalue())}\n".encode() if hashed else b"") + stored.getvalue())
    except _FAULTY as problem:
        raise InapplicableError from problem
    # Whoever writes a hash that fits can write what figures they like; it must still be read without harm.
    return Case(lambda: _find(scene), anything if hashed else _as_found)


def _parted(data: bytes) -> tuple[bool, bytes]:
    """Return whether a checkpoint begins with a line that has its hash, and the rest."""
    first, _, rest = data.partition(b"\n")
    return (True, rest) if first.startswith(b"sha256:") else (False, data)


@stranger("runs", often=15)
def a_finished_run_is_given_again(scene: Scene, rng: random.Random) -> Case:
    """What the user has added to its ticket or changed there stays; what is damaged is made again or refused."""
    give(scene, "net", "data")
    run, store = scene.asked = give(scene, "run", "store")
    ticket = run / "ticket"
    for name in rng.sample(["photo.png", "notes.md", ".git/HEAD", "figure.png", "README.md"], 2):
        (ticket / name).parent.mkdir(exist_ok=True)
        (ticket / name).write_text("the user's own\n", encoding="utf-8")
        scene.kept.append(ticket / name)
    if rng.random() < 0.5:
        there = [*sorted(run.rglob("*")), *sorted(store.rglob("*"))]
        files = [path for path in there if path.is_file() and path not in scene.kept]
        _flip(rng.choice([path for path in files if path.name != ".lock"]), rng)
    return Case(lambda: _find(scene), _as_found)


@stranger("runs", often=25)
def a_stranger_has_been_in_the_store(scene: Scene, rng: random.Random) -> Case:
    """Its units may be damaged, or lie under seals that fit: what contradicts itself changes no figure."""
    give(scene, "net", "data")
    (store,) = give(scene, "store")
    scene.asked = [scene.work / "run", store]
    for record in sorted(store.glob("units/*/*/result.json")):
        if rng.random() < 0.3:
            continue
        if rng.random() < 0.5:
            said = json.loads(record.read_text(encoding="utf-8"))
            said["record"] |= {"SA": 0.0, "RA": 0.0} if rng.random() < 0.5 else {}
            try:
                said["record"] = _lies(said["record"], scene, rng)
                about = {key: said[key] for key in ("given", "record", "files")}
                if rng.random() < 0.5:
                    said["sha256"] = sealed.digest(about)
                record.write_text(atomic.json_text(said), encoding="utf-8")
            except _FAULTY as problem:
                raise InapplicableError from problem
        else:
            files = [path for path in sorted(record.parent.rglob("*")) if path.is_file()]
            one = rng.choice(files)
            if rng.random() < 0.3:
                replace_by_something(one, scene, rng)
            else:
                _flip(one, rng)
    if rng.random() < 0.2:
        _flip(store / "store.json", rng)
    return Case(lambda: _find(scene), _as_found)


def _lies(record: dict[str, Any], scene: Scene, rng: random.Random) -> Any:
    way = rng.randrange(3)
    if way == 0:
        return odd.twist(record, scene, rng)
    for split in ("", "validation"):
        inside = record.get(split, record) if split else record
        for figure in ("SA", "RA"):
            if isinstance(inside, dict) and figure in inside:
                inside[figure] = rng.choice([0.0, 1.0])
    if way == 1 and isinstance(record.get("outcomes"), dict):
        for figure in ("SA", "RA"):
            if isinstance(record["outcomes"].get(figure), str):
                record["outcomes"][figure] = "AAA="
    return record


@stranger("runs", often=8)
def a_run_directory_holds_something_else(scene: Scene, rng: random.Random) -> Case:
    give(scene, "net", "data")
    run, store = scene.asked = [scene.work / "run", scene.work / "store"]
    way = rng.randrange(6)
    if way == 0:
        mine = shutil.copytree(scene.victim, scene.work / "mine", symlinks=True)
        run.symlink_to(mine)
    elif way == 1:
        shutil.copytree(scene.victim, run, symlinks=True)
    elif way == 2:
        _half(scene)
        inside = [*(run / name for name in ("ladder", "run.json", "ticket", ".lock")), store / "units", store]
        replace_by_something(rng.choice(inside), scene, rng)
    elif way == 3:
        shutil.copytree(material().place / "run", run)
        shutil.rmtree(run / "ticket")
        (run / "ticket").symlink_to(scene.victim)
        scene.kept = [run / "ticket"]
    elif way == 4:
        run.mkdir()
        (run / "run.json").write_bytes(rng.choice([b"{}", b"[]", b"null", b"\xff", b"{" * 10**5, b""]))
        # Damaged, it is set aside, and the run begins anew.
    else:
        _half(scene)
        shutil.rmtree(store / "units")
        (store / "units").symlink_to(scene.victim)
        scene.kept = [store / "units"]
    return Case(lambda: _find(scene), _as_found)


@stranger("runs", often=6)
def the_ladder_of_a_find_tells_an_odd_story(scene: Scene, rng: random.Random) -> Case:
    """What would fail at the end of a find fails before its first transfer."""
    _, _, ladder = give(scene, "net", "data", "run/ladder")
    run, store = scene.asked = [scene.work / "run", scene.work / "store"]
    way = rng.random()

    def change(results: dict[str, Any]) -> Any:
        if way < 0.5:
            results["drawing"]["plan"]["prune_fraction"] = odd.number(rng)
            return None
        if way < 0.7:
            results["drawing"] = odd.twist(results["drawing"], scene, rng)
            return None
        return odd.twist(results, scene, rng)

    edited(ladder, change)
    transfers: list[str] = []

    def act() -> Any:
        def report(kind: str, record: dict[str, Any]) -> None:
            if kind == "unit":
                transfers.append(record["unit"])

        try:
            return find(plan_of().changed(ladder="ladder"), run, store=store, report=report)
        except Exception:
            if transfers:
                raise RuntimeError(f"it fails only after {len(transfers)} transfers") from None
            raise

    return Case(act)
