"""A Hub of a stranger's, another host, and the process that asks them: what the cases of a hostile Hub share."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import select
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import safetensors.torch
from attempts import EndedError, Ending, RefusedError
from cases import Case
from elsewhere import Elsewhere
from material import give, material
from PIL import Image
from victims import Scene

from lottery_hub.sharing.publishing import prepare
from lottery_hub.storage.folder import load_backbone_folder, load_ticket
from tests import warm
from tests.hub.protocol import Answer, Request
from tests.hub.server import Hub

Twist = Callable[[Request, Answer], Answer]
PATIENCE = {"deadline": 3.0, "tries": 2, "pause": 0.02}
LONGEST = 60.0  # seconds that a worker is waited for
TICKET, LADDER, NETWORK, DATA = "alice/ticket", "alice/ladder", "alice/network", "alice/images"


class _StrangeHub(Hub):
    twist: Twist | None = None

    def answer(self, request: Request, authorization: str) -> Answer:
        answer = super().answer(request, authorization)
        return self.twist(request, answer) if self.twist else answer


class _Place:
    """The Hub with its repositories, another host, and the worker, all made when first asked for."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="strange-hub-")
        self.hub = _StrangeHub(Path(self.folder.name)).__enter__()
        self.elsewhere = Elsewhere()
        self.fingerprint = _publish(self.hub)
        self.pristine = {key: self.hub.store.head(key) for key in self.hub.store.repos()}
        self.worker: warm.Process | None = None

    def ask(self, scene: Scene, call: str, *arguments: str, **given: Any) -> Any:
        """Let the worker do something in a scene; return what came of it.

        Raises:
            RefusedError: it was refused as it should be.
            EndedError: it ended otherwise.
        """
        self.ready(scene)
        asked = {"scene": str(scene.root), "look_away": scene.look_away, "call": call, "arguments": arguments}
        print(json.dumps(asked | {"given": given, "patience": PATIENCE}), file=self.calls, flush=True)
        answer = self._line()
        if answer is None:
            self.end_worker()
            raise EndedError(Ending("too slow", f"nothing came of it in {LONGEST:g} seconds, or the process ended"))
        ending = Ending(answer["name"], answer["detail"])
        if ending.name in ("too slow", "left running", "too large"):
            self.end_worker()
        if answer["seen"]:
            raise EndedError(Ending("private file read", f"{answer['seen'][0]}; then {ending}"))
        if ending.name == "refused":
            raise RefusedError(ending.detail)
        if not answer["made"] or ending.name != "accepted and right":
            raise EndedError(ending)
        return answer["made"][0]

    def ready(self, scene: Scene) -> None:
        """Start the worker where there is none: no case pays for that."""
        if self.worker is None:
            more = {"HOME": str(scene.home), "TMPDIR": str(scene.temporary)}
            environment = self.hub.environment(scene.root / "cache", token=self.hub.token("alice"), **more)
            (asked, asking), (answering, answered) = os.pipe(), os.pipe()
            self.calls, self.answers = os.fdopen(asking, "w"), os.fdopen(answering)
            script = Path(__file__).with_name("strange_worker.py")
            with Path(os.devnull).open("w") as nothing:
                self.worker = warm.start([script], env=environment, stdin=asked, stdout=answered, stderr=nothing)
            os.close(asked)
            os.close(answered)
            assert self.answers.readline() == "ready\n"

    def _line(self) -> dict[str, Any] | None:
        ready, _, _ = select.select([self.answers], [], [], LONGEST)
        line = self.answers.readline() if ready else ""
        return json.loads(line) if line else None

    def end_worker(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker = None
            self.answers.close()
            with suppress(BrokenPipeError):
                self.calls.close()

    def close(self) -> None:
        self.end_worker()
        self.elsewhere.close()
        self.hub.__exit__(None, None, None)
        self.folder.cleanup()


@cache
def place() -> _Place:
    return _Place()


def stop() -> None:
    """End all that was started."""
    if place.cache_info().currsize:
        place().close()
        place.cache_clear()


def _publish(hub: Hub) -> str:
    """Fill the Hub, and return the fingerprint of its ticket."""
    run, net = material().place / "run", material().place / "net"
    hub.store.commit(f"models/{TICKET}", dict(prepare(run / "ticket", TICKET, models=True).files))
    hub.store.commit(f"models/{LADDER}", dict(prepare(run / "ladder", LADDER).files))
    weights = safetensors.torch.save(dict(load_backbone_folder(net).weights))
    hub.store.commit(f"models/{NETWORK}", {"model.safetensors": weights, "README.md": b"# a network\n"})
    files = {f"data/{split}-00000-of-00001.parquet": _parquet(count) for split, count in (("train", 40), ("test", 8))}
    hub.store.commit(f"datasets/{DATA}", files)
    return load_ticket(run / "ticket").fingerprint()


def _parquet(count: int) -> bytes:
    pictures = []
    for number in range(count):
        stored = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 60 * (number % 4), 9)).save(stored, "png")
        pictures.append({"bytes": stored.getvalue(), "path": None})
    table = pyarrow.table({"image": pictures, "label": [number % 4 for number in range(count)]})
    stored = io.BytesIO()
    pyarrow.parquet.write_table(table, stored)
    return stored.getvalue()


# What is asked of the Hub


def asked(scene: Scene, rng: random.Random, twist: Twist | None, calls: tuple[str, ...] = ()) -> Case:
    """Return a case that asks something of the Hub, twisted so; judged by what came of it and where it led."""
    here = place()
    out = scene.work / "out"
    scene.asked = [out, scene.root / "cache"]
    here.ready(scene)
    call = rng.choice(calls or ("pull", "pull", "copy", "load", "ladder", "search", "push", "dataset", "backbone"))
    source = give(scene, "run/ticket")[0] if call == "push" else None
    head = len(here.hub.store.commits(f"models/{TICKET}"))
    ways: dict[str, Callable[[], Any]] = {
        "pull": lambda: here.ask(scene, "pull", TICKET),
        "copy": lambda: here.ask(scene, "pull", TICKET, local_dir=str(out), models=True),
        "load": lambda: here.ask(scene, "load", TICKET),
        "ladder": lambda: here.ask(scene, "ladder", LADDER),
        "search": lambda: here.ask(scene, "search"),
        "push": lambda: here.ask(scene, "push", str(source), f"alice/new-{rng.random()}", checks=False, tag="v1"),
        "dataset": lambda: here.ask(scene, "dataset", DATA),
        "backbone": lambda: here.ask(scene, "backbone", f"adv:{NETWORK}"),
        "verify": lambda: here.ask(scene, "cli", "verify", "alice/forged"),
    }

    def act() -> Any:
        here.elsewhere.tokens.clear()
        here.hub.twist = twist
        try:
            return ways[call]()
        finally:
            here.hub.twist = None
            here.hub.faults.clear()
            if here.elsewhere.tokens:
                raise EndedError(Ending("token leaked", here.elsewhere.tokens[0]))

    def right(made: Any) -> str:
        if len(here.hub.store.commits(f"models/{TICKET}")) != head:
            return "it committed to what it only read"
        return answered_right(call, made)

    return Case(act, right, far=True)


def answered_right(call: str, made: Any) -> str:
    """Say what is wrong with what came of a call: it differs from what the Hub holds."""
    here = place()
    if call in ("pull", "copy"):
        held = here.hub.store.files(f"models/{TICKET}")
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in held.items()}
        # What a card says is not vouched for by any hash of the ticket's; the rest is, and timm's keys in config.json.
        wrong = [name for name, told in made.items() if name != "README.md" and digests.get(name) != told]
        missing = [name for name in ("config.json", "results.json", "ticket.safetensors") if name not in made]
        return ", ".join(wrong + missing)
    if call == "load":
        return "" if made == here.fingerprint else "another ticket"
    if call == "search":
        told = json.dumps(made, ensure_ascii=False)
        return "" if all(c.isprintable() for c in told) else "it returns what a terminal obeys"
    if call == "push":
        key = f"models/{made['repo_id']}"
        held = here.hub.store.files(key) if key in here.hub.store.repos() else {}
        return "" if made["files"].keys() <= held.keys() else "it says that it has published, and has not"
    return ""
