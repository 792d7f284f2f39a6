"""Pulls from a Hub that fails, and pushes that race: every outcome is counted, and most of them must be 0.

A pull ends with the right bytes, all of one commit, or with one of the library's errors, before its deadline.
Of pushes that race on one head exactly one wins, the others are told, and the repository holds one whole ticket.

    python tests/faults/hub_campaign.py --pulls 500 --races 50 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from lottery_hub.networks.backbones import Backbone, fresh_weights
from lottery_hub.settings.config import DrawPlan
from lottery_hub.sharing.publishing import prepare
from lottery_hub.storage.folder import save_ticket
from lottery_hub.training.drawing import draw
from tests.hub.faults import Fault
from tests.hub.server import Hub
from tests.hub.worker import Worker

PULL, PUSH = "lottery_hub.sharing.pulling:pull", "lottery_hub.sharing.publishing:push_ticket"
VERSIONS, REPOS, RACERS = 3, 4, 3
PATIENCE = {"deadline": 4.0, "tries": 4, "pause": 0.02}
RACE_PATIENCE = {"deadline": 60.0, "tries": 5, "pause": 0.05}
GRACE = 2.0  # seconds for a process to answer that its deadline has passed
KNOWN_ERRORS = {"DownloadError", "TicketError", "PublishError"}

# What a pull asks for, and what can go wrong there.
PLACES = [
    r"GET /api/models/",
    r"(GET|HEAD) /alice/.*/config\.json",
    r"(GET|HEAD) /alice/.*/results\.json",
    r"(GET|HEAD) /alice/.*/ticket\.safetensors",
    r"(GET|HEAD) /",
]
KINDS: list[dict[str, Any]] = [
    *({"kind": "status", "status": status} for status in (401, 403, 404, 500, 502, 503, 504)),
    {"kind": "status", "status": 429, "retry_after": 1},
    {"kind": "status", "status": 429, "retry_after": 3600},
    {"kind": "drop"},
    {"kind": "cut"},
    {"kind": "short"},
    {"kind": "flip"},
    {"kind": "wrong_etag"},
    {"kind": "slow", "seconds": 1.0},
    {"kind": "slow", "seconds": 30.0},
    {"kind": "trickle", "seconds": 30.0},
    {"kind": "move_branch"},
]
# What may go wrong for a push once it has seen the head, and passes.
LATE = [r"POST .*/preupload/", r"POST .*/objects/batch", r"PUT /", r"POST .*/commit/"]
PASSING: list[dict[str, Any]] = [
    {"kind": "status", "status": 503},
    {"kind": "drop"},
    {"kind": "applied_then_drop"},
    {"kind": "slow", "seconds": 0.3},
]


def make_tickets(folder: Path) -> list[Path]:
    """Write small tickets that differ in every file."""
    backbone = Backbone("resnet18-slim", "adv", fresh_weights("resnet18-slim", 2, seed=0))
    ladder = draw(backbone, DrawPlan(method="omp", rounds=REPOS * VERSIONS))
    return [save_ticket(ladder.ticket(level + 1), folder / f"level-{level + 1}") for level in range(REPOS * VERSIONS)]


@contextmanager
def workers(hub: Hub, homes: list[Path]) -> Iterator[list[Worker]]:
    started = [Worker(hub.environment(home, token=hub.token("alice"))) for home in homes]
    try:
        for worker in started:
            worker.__enter__()
        for worker in started:  # a first call pays for imports, which no deadline should
            worker(PULL, "resnet18-slim-adv")
            worker(PUSH, "resnet18-slim-adv", "alice/any", dry_run=True)
        yield started
    finally:
        for worker in started:
            worker.stop()


def pulls(hub: Hub, worker: Worker, home: Path, tickets: list[Path], count: int, rng: random.Random) -> Counter[str]:
    """Pull under random faults, and count what happens."""
    outcomes: Counter[str] = Counter()
    contents = [prepare(ticket, "alice/any", timm=True).files for ticket in tickets]
    for repo in range(REPOS):
        hub.store.commit(f"models/alice/net-{repo}", dict(contents[repo * VERSIONS]))
    for number in range(count):
        repo = rng.randrange(REPOS)
        key = f"models/alice/net-{repo}"
        if rng.random() < 0.6:
            shutil.rmtree(home / "hub", ignore_errors=True)
        following = contents[repo * VERSIONS + rng.randrange(VERSIONS)]
        for _ in range(rng.randint(1, 3)):
            kind = dict(rng.choice(KINDS))
            if kind["kind"] == "move_branch":
                kind["files"] = dict(following)
            often = {"times": rng.choice([1, 1, 2, 9]), "skip": rng.choice([0, 0, 1])}
            hub.faults.add(Fault(match=rng.choice(PLACES), **often, **kind))
        began = time.monotonic()
        got = worker(PULL, f"alice/net-{repo}", patience=PATIENCE)
        seconds = time.monotonic() - began
        hub.faults.clear()
        outcome = judge_pull(hub, key, got)
        if seconds > PATIENCE["deadline"] + GRACE:
            outcome = f"past the deadline ({outcome})"
        outcomes[outcome] += 1
        if outcome not in ("right bytes", "one of our errors"):
            print(f"pull {number}: {outcome}: {got}", file=sys.stderr)
    return outcomes


def judge_pull(hub: Hub, key: str, got: dict[str, Any]) -> str:
    """Say what a pull came to: right bytes are those of the commit that it names, file by file."""
    if "error" in got:
        ours = got["kind"] in KNOWN_ERRORS and "\n" not in got["error"] and got["error"].startswith("alice/")
        return "one of our errors" if ours else "an error that is not ours"
    there = hub.store.files(key, got["commit"])
    folder = Path(got["folder"])
    names = ("config.json", "results.json", "ticket.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    wrong = [name for name in names if name not in missing and (folder / name).read_bytes() != there[name]]
    return "missing files" if missing else "wrong bytes" if wrong else "right bytes"


def races(hub: Hub, racers: list[Worker], tickets: list[Path], count: int, rng: random.Random) -> Counter[str]:
    """Let pushes race for one head under passing faults, and count what happens."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        repo = f"alice/race-{number}"
        key = f"models/{repo}"
        chosen = rng.sample(tickets, len(racers) + 1)
        if rng.random() < 0.7:
            hub.store.commit(key, dict(prepare(chosen[-1], repo).files))
            before = len(hub.store.commits(key))
        else:  # a repository that all of them find missing
            before = 1
        # No commit is done before all racers have seen the head that they will commit on.
        hub.faults.add(Fault(match="POST .*/commit/", kind="slow", seconds=1.5, times=len(racers)))
        for _ in range(rng.randint(0, 3)):
            hub.faults.add(Fault(match=rng.choice(LATE), times=1, skip=rng.choice([0, 1, 2]), **rng.choice(PASSING)))
        with ThreadPoolExecutor(len(racers)) as pool:
            under_way = [
                pool.submit(racer, PUSH, str(ticket), repo, patience=RACE_PATIENCE)
                for racer, ticket in zip(racers, chosen, strict=False)
            ]
            answers = [push.result() for push in under_way]
        hub.faults.clear()
        outcome = judge_race(hub, key, repo, chosen, answers, before)
        outcomes[outcome] += 1
        if outcome != "one winner":
            print(f"race {number}: {outcome}: {answers}", file=sys.stderr)
    return outcomes


def judge_race(hub: Hub, key: str, repo: str, tickets: list[Path], answers: list[dict[str, Any]], before: int) -> str:
    """Say what a race came to."""
    winners = [index for index, answer in enumerate(answers) if answer.get("changed")]
    losers = [answer for answer in answers if "error" in answer]
    if len(winners) != 1 or len(losers) != len(answers) - 1:
        return f"{len(winners)} winners, {len(losers)} losers"
    if not all("somebody else has committed" in loser["error"] for loser in losers):
        return "a loser was told something else"
    if len(hub.store.commits(key)) != before + 1 or hub.store.head(key) != answers[winners[0]]["commit"]:
        return "a commit that nobody reports"
    whole = prepare(tickets[winners[0]], repo).files
    there = {name: content for name, content in hub.store.files(key).items() if name != ".gitattributes"}
    return "one winner" if there == whole else "a half-published repository"


def run(count_pulls: int, count_races: int, seed: int) -> dict[str, Any]:
    """Return the outcomes of a whole campaign, counted."""
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, Hub(Path(scratch) / "hub") as hub:
        folder = Path(scratch)
        tickets = make_tickets(folder / "tickets")
        homes = [folder / f"home-{index}" for index in range(RACERS)]
        with workers(hub, homes) as started:
            rng = random.Random(seed)
            pulled = pulls(hub, started[0], homes[0], tickets, count_pulls, rng)
            raced = races(hub, started, tickets, count_races, rng)
    return {
        "seed": seed,
        "pulls": dict(sorted(pulled.items())),
        "races": dict(sorted(raced.items())),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=500)
    parser.add_argument("--races", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counted = run(options.pulls, options.races, options.seed)
    print(json.dumps(counted))
    fine = set(counted["pulls"]) <= {"right bytes", "one of our errors"} and set(counted["races"]) <= {"one winner"}
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
