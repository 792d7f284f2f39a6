"""Loads damaged folders by the thousand: each is refused in one line, or read as the format page says.

    python tests/faults/campaign.py --cases 20000 --seed 0

prints one JSON object: how many cases ended how, by mutation too, and what the first failures were.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import oracle
import torch
from folders import CONFIG, RESULTS, valid
from mutations import HARMLESS, MUTATIONS, InapplicableError

from lottery_hub.errors import TicketError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage.folder import load_backbone_folder, load_ladder, load_ticket

GOOD = ("refused", "accepted and equal")
SECONDS, MEBIBYTES = 5, 256  # for one case; it usually takes 20 ms and nothing
SPARSITY = 0.8  # of the level that is asked of a ladder
# What loads each content; of a ladder all, or θ_pre, or one level.
LOADERS: dict[str, list[Callable[[Path], Any]]] = {
    "ticket": [load_ticket],
    "ladder": [load_ladder, load_backbone_folder, lambda folder: load_ticket(folder, SPARSITY)],
    "backbone": [load_backbone_folder],
}


class Outcome(NamedTuple):
    """How a case ended, and what there is to say about it."""

    name: str
    detail: str


class TooLong(BaseException):
    """A case goes on; no handler in the library may swallow this."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    # The processor's time, which other processes do not lengthen, and the clock's for what waits without working.
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 6 * seconds)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def outcome(
    folder: Path, load: Callable[[Path], Any], seconds: float = SECONDS, mebibytes: float = MEBIBYTES
) -> Outcome:
    """Load a folder and judge what comes of it."""
    before = peak()
    try:
        with time_limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = load(folder)
    except TicketError as problem:
        judged = _refusal(folder, str(problem))
    except TooLong:
        judged = Outcome("too slow", f"more than {seconds} seconds of work")
    except Exception as problem:
        judged = Outcome("other exception", repr(problem))
    else:
        judged = _acceptance(folder, loaded)
    grown = peak() - before
    return judged if grown < mebibytes else Outcome("too large", f"{grown:.0f} MiB more, then {judged}")


def peak() -> float:
    """Return the most memory that this process ever had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _refusal(folder: Path, message: str) -> Outcome:
    weights = [f"{content}.safetensors" for content in LOADERS]
    # Where nothing is wrong but what is asked of the folder, no file is to blame.
    asked = (" holds ", " of this ladder ", " inside; give one of ")
    named = any(name in message for name in (CONFIG, RESULTS, *weights, *asked))
    good = message.isprintable() and len(message) < 1000 and named and str(folder) in message
    return Outcome("refused" if good else "bad message", message)


def _acceptance(folder: Path, loaded: Backbone | Ladder | Ticket) -> Outcome:
    ladder = isinstance(loaded, Ticket) and not (folder / "ticket.safetensors").exists()
    try:
        read = oracle.read(folder, wanted=loaded.level if ladder else 0)
        different = [name for name, same in _comparisons(loaded, read, ladder) if not same]
    except (oracle.ContradictionError, LookupError, TypeError, ValueError) as problem:
        return Outcome("wrongly accepted", repr(problem))
    return Outcome("wrong content" if different else "accepted and equal", ", ".join(different))


def _comparisons(loaded: Any, read: oracle.Reading, level_of_ladder: bool) -> Iterator[tuple[str, bool]]:
    """Yield what is compared and whether it is the same."""
    about, results, weights = read.about, read.results, read.weights
    network = loaded.backbone if isinstance(loaded, Ladder) else loaded
    yield (
        "settings",
        [network.arch, network.kind, [*network.mean], [*network.std]]
        == [about[key] for key in ("arch", "pretrain", "mean", "std")],
    )
    if isinstance(loaded, Ticket):
        mask = {name: rounds >= (loaded.level if level_of_ladder else 1) for name, rounds in read.survived.items()}
        weights = weights | {name: np.where(kept, weights[name], np.float32(0)) for name, kept in mask.items()}
        yield "mask", _same(loaded.mask, mask)
    yield "weights", _same(network.weights, weights)
    if not isinstance(loaded, Backbone):
        yield "method", loaded.method == about["method"]
    if isinstance(loaded, Ladder):
        yield "survived", _same(loaded.survived, read.survived)
        yield "levels", [loaded.levels, loaded.drawing] == [about["levels"], results["drawing"]]
    if level_of_ladder:
        nearest = min(range(about["levels"] + 1), key=lambda level: abs(about["sparsities"][level] - SPARSITY))
        yield "level", [loaded.level, loaded.provenance["drawing"]] == [nearest, results["drawing"]]
        return
    yield "provenance", network.provenance == about["provenance"]
    if isinstance(loaded, Ticket):
        yield (
            "records",
            [loaded.level, loaded.double_win, loaded.records]
            == [
                about["level"],
                about["double_win"],
                results,
            ],
        )
    else:
        yield "records", network.records == results["pretraining"]
        yield "fingerprint", about.get("fingerprint") in (None, read.fingerprint())


def _same(loaded: Any, read: dict[str, Any]) -> bool:
    """Whether both have the same tensors in the same order, bit for bit."""
    return list(loaded) == list(read) and all(
        tensor.numpy().dtype == read[name].dtype and tensor.numpy().tobytes() == read[name].tobytes()
        for name, tensor in loaded.items()
    )


def case(seed: int, number: int, place: Path) -> tuple[list[str], Outcome]:
    """Damage a folder in one to three ways, load it, and return the mutations and the outcome."""
    rng = random.Random(f"{seed} {number}")
    mutations: list[str] = []
    while not mutations:
        base = rng.choice(sorted(valid()))
        names = rng.sample(sorted(MUTATIONS), rng.choices([1, 2, 3], [8, 1, 1])[0])
        draft = valid()[base].copy()
        try:
            for name in names:
                MUTATIONS[name](draft, rng)
            draft.write(place / "folder")
        except (InapplicableError, OSError, LookupError, ValueError, AttributeError, TypeError, ArithmeticError):
            _clear(place)  # one mutation may leave nothing for the next
        else:
            mutations = names
    judged = outcome(place / "folder", rng.choice(LOADERS[base.split()[0]]))
    _clear(place)
    if judged.name == "refused" and set(mutations) <= HARMLESS:
        judged = Outcome("wrongly refused", judged.detail)
    return mutations, judged


def _clear(place: Path) -> None:
    for left in place.iterdir():
        shutil.rmtree(left)


def run(cases: int, seed: int, first: int = 0, until: Callable[[Outcome], bool] = lambda _: False) -> dict[str, Any]:
    """Run cases, and count."""
    started, outcomes, failures = time.monotonic(), Counter[str](), []
    by_mutation = {name: Counter[str]() for name in MUTATIONS}
    with tempfile.TemporaryDirectory() as place:
        for number in range(first, first + cases):
            mutations, judged = case(seed, number, Path(place))
            outcomes[judged.name] += 1
            for name in mutations:
                by_mutation[name][judged.name] += 1
            if judged.name not in GOOD:
                failures.append({"case": number, "mutations": mutations, "outcome": judged.name, "why": judged.detail})
            if until(judged):
                break
    return {
        "cases": sum(outcomes.values()),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "outcomes": dict(outcomes),
        "mutations": {name: dict(counts) for name, counts in by_mutation.items()},
        "failures": failures[:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat a failure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    counts = run(given.cases, given.seed, given.first)
    print(json.dumps(counts, indent=2))
    sys.exit(bool(counts["failures"]))


if __name__ == "__main__":
    main()
