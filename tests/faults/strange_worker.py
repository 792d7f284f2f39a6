"""A process in which the unmodified client talks to a hostile Hub; it says how each call ended, and lives on.

Reads a line of JSON for each call and answers with one: how it ended, what came of it, and which private files it
opened. It ends with its standard input.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import folders
import torch
from attempts import attempt, cli
from huggingface_hub import HfApi, hf_hub_download
from remembering import drawing_once
from victims import SECRET, Peeking, Scene

from lottery_hub.fetching.connection import Patience
from lottery_hub.images.datasets import load_dataset
from lottery_hub.sharing.publishing import push_ticket
from lottery_hub.sharing.pulling import load_ladder, load_ticket, pull
from lottery_hub.sharing.searching import search_tickets
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import check_folder


def _pull(ref: str, **given: Any) -> dict[str, str]:
    place = pull(ref, **given).folder
    about = check_folder(place)
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    assert about
    return {path.relative_to(place).as_posix(): _told(path.read_bytes()) for path in files}


def _told(content: bytes) -> str:
    return "the victim's secret" if SECRET in content else hashlib.sha256(content).hexdigest()


def _load(ref: str, **given: Any) -> str:
    return load_ticket(ref, deadline=given["patience"].deadline).fingerprint()


def _ladder(ref: str, **given: Any) -> int:
    return load_ladder(ref, deadline=given["patience"].deadline).levels


def _search(**given: Any) -> list[dict[str, Any]]:
    return [found.record() for found in search_tickets(**given)]


def _push(source: str, repo: str, **given: Any) -> dict[str, Any]:
    return dataclasses.asdict(push_ticket(source, repo, **given))


def _dataset(ref: str, **_: Any) -> str:
    return load_dataset(ref, image_size=8).fingerprint


def _backbone(ref: str, **_: Any) -> str:
    return load_backbone(ref, folders.TINY).fingerprint()


def _cli(*arguments: str, **_: Any) -> str:
    return cli(*arguments, answers=(0, 1, 3)).out


CALLS = {
    "pull": _pull,
    "load": _load,
    "ladder": _ladder,
    "search": _search,
    "push": _push,
    "dataset": _dataset,
    "backbone": _backbone,
    "cli": _cli,
}


@drawing_once()
def main() -> None:
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    for first in (HfApi, hf_hub_download):  # a first use pays for the client's imports, which no case should
        assert callable(first)
    peeking = Peeking()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        scene = Scene(Path(asked["scene"]))
        os.chdir(scene.work)
        given = asked["given"] | {"patience": Patience(**asked["patience"])}
        made: list[Any] = []
        peeking.watch(None if asked["look_away"] else scene)
        ending = attempt(lambda: made.append(CALLS[asked["call"]](*asked["arguments"], **given)))  # noqa: B023
        peeking.watch(None)
        answer = {"name": ending.name, "detail": ending.detail, "made": made[:1], "seen": peeking.seen}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    main()
