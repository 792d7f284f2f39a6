"""Every command with every argument and option given badly, one at a time, and two at a time by chance.

    python tests/faults/commands.py --seed 0
    python tests/faults/commands.py --seed 0 --only 1234        # a case that failed, alone

The cases are all of a table, commands × arguments × bad values, in an order that the seed decides; then come `--pairs`
cases with two bad values. A case is right if it ends well, begins the work that it was asked for (which is not done
here), or refuses: in one line with exit code 1, as wrong usage with 2, or as `verify` cannot tell, with 3. It is wrong
if a traceback, a second line of error or what a terminal obeys reaches the user, if it takes twenty seconds or a
gibibyte, or if a file is changed that nobody named, or left behind by what was refused.

The last line is one JSON object: how many cases ended how, by command too, and the first failures.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "lottery-hub-commands-have-no-cache")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MPLCONFIGDIR"] = os.environ["HF_HOME"]  # else a list of fonts is left in the home of each case

import torch
import typer
from attempts import RIGHT, WrongWordsError, attempt, printed
from bad import NUMBERS, SETTINGS, TEXT, WORDS, kinds_of_folders, paths
from folders import TINY
from material import material
from victims import Scene, remove

from lottery_hub import cli
from lottery_hub.errors import LotteryHubError
from lottery_hub.training import pretraining, transferring, units

SECONDS = 20.0
BEGAN = "the work began"
GOOD = ("ok", BEGAN, "refused in one line", "usage", "cannot tell")
_TOLD = re.compile(r"(note|warning)\b.*: |\d{4}-\d\d-\d\d ")  # lines of what goes on
_CODES = {0: "ok", 2: "usage", 3: "cannot tell"}

# A call of each command that would go well: arguments by their place, options by name. OUT is in the folder watched.
CALLS: dict[str, dict[str, str]] = {
    "find": {
        **{"--pretrain": "NET", "--dataset": "DATA", "--ladder": "LADDER", "--output": "OUT", "--device": "cpu"},
        "--store": "STORE",
    },
    "study": {"--pretrain": "NET", "--dataset": "DATA", "--method": "omp", "--output": "OUT", "--store": "STORE"},
    "draw": {
        **{"--pretrain": "NET", "--method": "imp", "--source": "DATA", "--rounds": "2", "--output": "OUT"},
        "--store": "STORE",
    },
    "pretrain": {"--dataset": "DATA", "--arch": TINY, "--recipe": "std", "--output": "OUT"},
    "finetune": {"ticket": "TICKET", "--dataset": "DATA", "--output": "OUT"},
    "evaluate": {"ref": "TRAINED", "--dataset": "DATA", "--attack": "pgd-1", "--samples": "4"},
    "predict": {"ref": "TICKET", "pictures": "PICTURE"},
    "verify": {"ref": "TICKET", "--dataset": "DATA", "--ladder": "LADDER", "--sample": "4"},
    "import": {"file": "PRUNED", "--arch": TINY, "--output": "OUT"},
    "show": {"ref": "TICKET", "other": "TICKET"},
    "plot": {"ref": "TICKET", "--output": "OUT.svg"},
    "report": {"refs": "TICKET", "--output": "OUT.html"},
    "board": {"refs": "TICKET", "--output": "OUT.html"},
    "results": {"ref": "TICKET", "--dataset": "DATA"},
    "export": {"ref": "TICKET", "--format": "timm", "--output": "OUT"},
    "push": {"folder": "TICKET", "repo": "alice/net", "--dataset": "DATA"},
    "pull": {"ref": "TICKET", "--local-dir": "OUT"},
    "search": {},
    "list": {},
    "backbones": {},
    "store list": {"--store": "UNITS"},
    "store show": {"unit": "UNIT", "--store": "UNITS"},
    "store verify": {"--store": "UNITS"},
    "store prune": {"--store": "UNITS"},
    "cache list": {},
    "cache prune": {},
}
FLAGS = {"push": ["--dry-run", "--no-checks"], "evaluate": ["--json"], "store prune": ["--dry-run"]}
ALONE = {"show": {"ref": "TICKET"}}  # where an argument of a call stands in the way of another option
# What asks for more work than is done here, and would be done if it were asked for.
LONG = {("export", "--image-size"): {"4294967296"}}

OUTPUTS = {"--output", "--local-dir", "--store"}
REFERENCES = {
    *("ref", "refs", "other", "ticket", "folder", "ladder", "dataset", "source", "pretrain", "output", "local_dir"),
    *("file", "masks", "pictures", "plan"),
}


class Parameter(NamedTuple):
    """An argument or option: how it is given, and what for."""

    given: str
    values: str  # "paths", "numbers", "words", "settings" or "text"


class Case(NamedTuple):
    command: str
    bad: tuple[tuple[str, str], ...]  # argument or option, and its value
    json: bool


class Begun(LotteryHubError):  # noqa: N818 - no error of anybody's
    """What was asked for would be done now."""


def _commands(app: Any, above: str = "") -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the name of each command, that of its group before it, and its function."""
    for each in app.registered_commands:
        yield f"{above}{each.name}", each.callback
    for group in app.registered_groups:
        yield from _commands(group.typer_instance, f"{above}{group.name} ")


COMMANDS = dict(_commands(cli.app))


def parameters(command: str) -> list[Parameter]:
    """Return what a command takes, but flags."""
    function = COMMANDS[command]
    found = []
    for name, taken in inspect.signature(function, eval_str=True).parameters.items():
        hint = taken.annotation
        kind, told = typing.get_args(hint)[:2] if hasattr(hint, "__metadata__") else (hint, None)
        kinds = {kind, *typing.get_args(kind)}
        if bool in kinds or kind is typer.Context:
            continue
        option = type(told).__name__ == "OptionInfo"
        declared = next((word for word in _declared(told) if word.startswith("--")), None)
        given = declared or f"--{name.replace('_', '-')}" if option else name
        if name == "settings":
            values = "settings"
        elif name in REFERENCES or Path in kinds:
            values = "paths"
        elif kinds & {int, float, list[float], list[int]} or name in ("eps", "jobs", "batch_size", "rounds"):
            values = "numbers"
        else:
            values = "words" if any(typing.get_origin(each) is typing.Literal for each in kinds) else "text"
        found.append(Parameter(given, values))
    return found


def _declared(told: Any) -> list[str]:
    """Return the names that an option is declared with; typer takes the first for a default until it looks closer."""
    words = [getattr(told, "default", None), *(getattr(told, "param_decls", None) or ())]
    return [word for word in words if isinstance(word, str)]


def values_of(kinds: dict[str, Path]) -> dict[str, list[str]]:
    return {"paths": paths(kinds), "numbers": NUMBERS, "words": WORDS, "settings": SETTINGS, "text": [*TEXT, *WORDS]}


class Campaign:
    """Runs cases one after the other, each with an empty folder to work in."""

    def __init__(self, place: Path, seed: int, pairs: int) -> None:
        self.place, self.scene = place, Scene(place / "scene")
        given = place / "given"
        given.mkdir()
        self.kinds = kinds_of_folders(given)
        self.given = stamps(material().place, given)
        values = values_of(self.kinds)
        rng = random.Random(f"commands {seed}")
        self.all = [
            Case(command, ((parameter.given, value),), rng.random() < 0.3)
            for command in CALLS
            for parameter in parameters(command)
            for value in values[parameter.values]
            if value not in LONG.get((command, parameter.given), ())
        ]
        rng.shuffle(self.all)
        self.table = len(self.all)
        for _ in range(pairs):
            one = rng.choice(self.all[: self.table])
            other = rng.choice([case for case in self.all[: self.table] if case.command == one.command])
            self.all.append(Case(one.command, tuple((dict(one.bad) | dict(other.bad)).items()), one.json))

    def words(self, case: Case) -> list[str]:
        """Return the command line of a case."""
        known = {name: str(self.scene.work / name.lower()) for name in ("OUT", "OUT.svg", "OUT.html", "STORE")}
        known |= {"NET": self.kinds["net"], "DATA": self.kinds["data"], "UNITS": self.kinds["store"]}
        known["UNIT"] = next(self.kinds["store"].glob("units/*/*")).name
        known["PICTURE"] = next(self.kinds["data"].glob("test/*/*"))
        known["PRUNED"] = self.kinds["pruned.pth"]
        known |= {name.upper(): self.kinds[name] for name in ("ticket", "ladder", "trained")}
        bad = dict(case.bad)
        call = ALONE.get(case.command, CALLS[case.command]) if "--sparsity" in bad else CALLS[case.command]
        given = {name: str(known.get(value, value)) for name, value in call.items()} | bad
        for name in OUTPUTS & bad.keys():
            if Path(bad[name]) in self.kinds.values():  # what is there is written to, or would be: a copy of it
                given[name] = str(copied(Path(bad[name]), self.lent))
        options = [word for name, value in given.items() if name.startswith("--") for word in (name, value)]
        places = [value for name, value in given.items() if not name.startswith("--")]
        flags = [*FLAGS.get(case.command, []), *(["--json"] if case.json else [])]
        return [*case.command.split(), *options, *dict.fromkeys(flags), *(["--"] if places else []), *places]

    @property
    def lent(self) -> Path:
        return self.scene.work / "lent"

    def run(self, case: Case) -> tuple[str, str]:
        """Run a case; return how it ended, and what there is to say about it."""
        self.scene.build()
        words = self.words(case)
        before = self.scene.note()
        here, environment, temporary = Path.cwd(), dict(os.environ), tempfile.tempdir
        os.environ |= {"HOME": str(self.scene.home), "TMPDIR": str(self.scene.temporary), "COLUMNS": "100"}
        tempfile.tempdir = str(self.scene.temporary)
        os.chdir(self.scene.work)
        ended: list[str] = []
        try:
            ending = attempt(lambda: ended.append(self._called(words)), seconds=SECONDS)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ |= environment
            tempfile.tempdir = temporary
        if ending.name != RIGHT:
            return ending.name, ending.detail
        kind, _, told = ended[0].partition(": ")
        given, self.given = self.given, stamps(material().place, self.place / "given")
        if self.given != given:
            return "changed what it was given", told
        self.scene.asked = self._asked(case) if kind in ("ok", BEGAN) else []
        left = self.scene.damage(before)
        return ("left something behind", f"{left[0]}; {ended[0]}") if left else (kind, told)

    def _asked(self, case: Case) -> list[Path]:
        """Return where the user said that something may be written."""
        named = [value for name, value in case.bad if name in OUTPUTS and "\0" not in value]
        inside = [self.scene.work / value for value in named if not Path(value).is_absolute()]
        mine = [self.scene.work / name for name in ("out", "out.svg", "out.html", "store")]
        return [*mine, self.lent, *inside, *(Path(os.path.normpath(place)) for place in inside)]

    def _called(self, words: list[str]) -> str:
        """Run the command line without its trainings, and return how it ended."""

        def begin(*_: Any, **__: Any) -> Any:
            raise Begun("the work begins")

        with ExitStack() as stack:
            for module in (units, pretraining, transferring):
                stack.enter_context(mock.patch.object(module, "train", begin))
            done = printed(*words)
        errors = [line for line in done.err.splitlines() if not _TOLD.match(line)]
        if done.code == 1 and "verdict" not in done.out and "verified" not in done.out:
            pictures = words[0] == "predict"  # it has a line for each that it cannot read
            if not all(line.startswith("error: ") for line in errors) or (len(errors) != 1 and not pictures):
                raise WrongWordsError(f"not one line: {done.err[-400:]!r}")
            return f"{BEGAN}: " if "the work begins" in errors[0] else f"refused in one line: {errors[0]}"
        if (done.code == 2 and "Usage:" not in done.err) or (done.code == 0 and "Traceback" in done.err):
            raise WrongWordsError(f"exit code {done.code}, {done.err[-300:]!r}")
        if done.code == 1:
            return "refused in one line: not verified"
        if done.code not in _CODES or (done.code == 3 and "verify" not in words[:2]):
            raise WrongWordsError(f"exit code {done.code}, {done.err[-300:]!r}")
        return f"{_CODES[done.code]}: {done.err[-200:]}"


def copied(path: Path, to: Path) -> Path:
    """Copy whatever it is."""
    if path.is_symlink():
        to.symlink_to(path.readlink())
    elif path.is_dir():
        shutil.copytree(path, to, symlinks=True)
    elif path.is_fifo():
        os.mkfifo(to)
    else:
        shutil.copy2(path, to)
    return to


def stamps(*places: Path) -> dict[str, tuple[int, int]]:
    """Return path → time and size of everything below."""
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for place in places for path in _below(place)}


def _below(place: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(place):
        yield from (Path(folder, name) for name in (*folders, *files))


def run(seed: int, pairs: int, first: int = 0, cases: int | None = None, seconds: float = math.inf) -> dict[str, Any]:
    """Run cases, and count how they end."""
    began, endings = time.monotonic(), Counter[str]()
    by_command = {command: Counter[str]() for command in CALLS}
    failures = []
    place = Path(tempfile.mkdtemp(prefix="commands-"))
    try:
        campaign = Campaign(place, seed, pairs)
        calls = {command: campaign.run(Case(command, (), False))[0] for command in CALLS}
        chosen = campaign.all[first : None if cases is None else first + cases]
        for number, case in enumerate(chosen, first):
            if time.monotonic() - began > seconds:
                break
            ending, detail = campaign.run(case)
            endings[ending] += 1
            by_command[case.command][ending] += 1
            if ending not in GOOD:
                shown = ascii([case.command, *case.bad])[:400]
                failures.append({"seed": seed, "case": number, "words": shown, "ending": ending, "why": detail[:500]})
                print(f"--seed {seed} --only {number}: {shown}: {ending}: {ascii(detail)[:500]}", file=sys.stderr)
    finally:
        remove(place)
        shutil.rmtree(material().place, ignore_errors=True)
        material.cache_clear()
    return {
        "cases": sum(endings.values()),
        "of": len(campaign.all),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "calls": calls,  # with nothing bad in them
        "endings": dict(endings),
        "commands": {command: dict(counts) for command, counts in by_command.items()},
        "failures": failures[:50],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=500, help="cases with two bad values, after those of the table")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="how many; all unless given")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no other case is begun")
    parser.add_argument("--only", type=int, help="one case, by its number")
    given = parser.parse_args()
    torch.set_num_threads(1)
    first, cases = (given.first, given.cases) if given.only is None else (given.only, 1)
    counts = run(given.seed, given.pairs, first, cases, given.seconds)
    print(json.dumps(counts))
    sys.exit(bool(counts["failures"]))


if __name__ == "__main__":
    main()
