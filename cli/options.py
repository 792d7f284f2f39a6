"""Options that several commands share, defined once."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lottery_hub.commands.options import defaults, layout_notes
from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.paths import place_of
from lottery_hub.telling import QUIET, volume

if TYPE_CHECKING:
    from lottery_hub.settings.config import Frozen


def place(path: Path | None) -> Path | None:
    """Return the path that is meant, if file systems can hold it; a callback of options."""
    names = () if path is None else path.parts
    if any(len(os.fsencode(name)) > 255 for name in names) or len(os.fsencode(path or "")) > 4000:
        raise typer.BadParameter("no file or folder can have such a name: it is too long")
    try:
        return None if path is None else place_of(path)
    except ConfigError as problem:
        raise typer.BadParameter(str(problem)) from problem


def finite(number: float) -> float:
    """Return a number that is one; a callback of options."""
    if math.isnan(number):
        raise typer.BadParameter("nan is not a number")
    return number


def finite_or_none(number: float | None) -> float | None:
    """Return a number that is one, or None; a callback of options."""
    return None if number is None else finite(number)


Arch = Annotated[
    str | None,
    typer.Option(help="timm ResNet, e.g. resnet18-slim (0.7 M parameters, 32x32) or resnet50.", show_default=False),
]
Pretrain = Annotated[
    str,
    typer.Option(
        help="std, fast-adv, adv; published weights such as adv:linf-8/255 (see `lottery-hub backbones`); "
        "a backbone folder or the run directory of pretrain or draw; or KIND:CHECKPOINT, e.g. adv:weights.ckpt."
    ),
]
Ref = Annotated[
    str,
    typer.Argument(
        help="A ticket or ladder: a folder or run directory, a packaged name such as resnet18-slim-adv, "
        "USER/NAME or USER/NAME@REVISION on the Hub, or an address such as s3://bucket/folder."
    ),
]
NetworkRef = Annotated[
    str,
    typer.Argument(
        help="A network: of a ticket that find judged the one trained from it, see --regime; a fine-tuned ticket, a "
        "ladder or a backbone: a folder or run directory, a packaged name, USER/NAME or USER/NAME@REVISION on the Hub, "
        "an address, or a checkpoint as KIND:FILE.",
        metavar="REF",
    ),
]
WhichRegime = Annotated[
    Literal["standard", "adversarial"] | None,
    typer.Option(
        "--regime",
        help="Of a judged ticket the network after this transfer; adversarial unless given.",
        show_default=False,
    ),
]
_WHICH_SEED: dict[str, Any] = {
    "help": "Of a judged ticket the network of this transfer; 0 unless given.",
    "min": 0,
    "metavar": "INT",
    "show_default": False,
}
WhichSeed = Annotated[int | None, typer.Option("--trained-seed", "--seed", **_WHICH_SEED)]
WhichTrainedSeed = Annotated[int | None, typer.Option("--trained-seed", **_WHICH_SEED)]  # where --seed is another
TheTicket = Annotated[
    bool,
    typer.Option("--ticket", help="Of a judged ticket its own rewind weights, with the head of its source task."),
]
Sparsity = Annotated[float | None, typer.Option(help="Which level of a ladder, in 0..1.")]
DatasetRef = Annotated[
    str,
    typer.Option(help="digits, cifar10, cifar100, svhn, mnist, tiny-imagenet, a Hub id, or a folder."),
]
RecordedDataset = Annotated[
    str | None,
    typer.Option(help="As for find; unless given, the dataset that the network's records name.", show_default=False),
]
Fraction = Annotated[float, typer.Option(help="Share of the training images, stratified and nested.")]
Output = Annotated[
    Path | None,
    typer.Option(help="Run directory; the same command goes on where it was.", show_default=False, callback=place),
]
StorePlace = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of finished units, shared by all runs; unless given, LOTTERY_HUB_STORE or one beside the Hub's "
        "cache.",
        show_default=False,
        callback=place,
    ),
]
EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="What runs units: threads here, or Ray (RAY_ADDRESS, else started here)."),
]
MAX_SEED = 2**32 - 1  # see `config.SEEDS`
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, metavar="INT", help="Of head, data order and attack starts.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, a certain GPU as cuda:1, or mps.")]
PrecisionChoice = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Of convolutions in training; test figures are always measured in float32."),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="On a GPU the same bits every time, where kernels have such a way; slower."),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="auto|INT",
        help="Images a step; auto: the preset's. Where memory holds fewer, they are taken in parts.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=1024,
        metavar="INT",
        help="Side of what the network sees, in pixels; unless given the preset's, or the one it was trained at.",
        show_default=False,
    ),
]
HELP = "help"  # the setting that is none
Preset = Annotated[Literal["quick", "paper"], typer.Option(help="Recipes: a laptop's, or the paper's.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a number by its path, or by the end of it; `--set help` lists all.", metavar="P=V"
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Move what is in the way aside, to NAME.old, instead of refusing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class Training:
    """What every command that trains can be told: numbers, place and machine. A command asks for it by `trains`."""

    image_size: ImageSize
    batch_size: BatchSize
    settings: Settings
    output: Output
    device: Device
    precision: PrecisionChoice
    deterministic: Deterministic
    as_json: Json = False
    typed: frozenset[str] = frozenset()  # names of all options that were not left as they are

    def numbers(self) -> dict[str, Any]:
        """Return what decides the numbers and the machine, as the library's functions take it."""
        return {
            "settings": [setting for setting in self.settings or [] if setting != HELP],
            "image_size": self.image_size,
            "batch_size": auto_or_number(self.batch_size, least=2, hint="--batch-size"),
            "device": self.device,
            "precision": self.precision,
            "deterministic": self.deterministic,
        }

    def beside(self, plan: object, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options as the library takes them; beside a plan only those that were typed, which change it."""
        return given if plan is None else {name: each for name, each in given.items() if name in self.typed}

    @property
    def asks_for_settings(self) -> bool:
        """Whether the settings are to be listed, and nothing to be trained."""
        return HELP in (self.settings or [])


def trains(function: Callable[..., Any], **follows: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Training`, after its own; it takes them as one argument, `how`.

    Args:
        function: of the library, which says what an option is unless given, see `defaults_of`.
        follows: own option → the one of `Training` that it follows in the help instead.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        shared = dict(inspect.signature(Training, eval_str=True).parameters)
        del shared["typed"]
        assert own.pop("how").annotation is Training
        order = [parameter for name, parameter in own.items() if name not in follows]
        for name, parameter in shared.items():
            order += [parameter, *(own[other] for other, place in follows.items() if place == name)]

        @wraps(command)
        def expanded(*, context: typer.Context, **given: Any) -> None:
            sources = {name: context.get_parameter_source(name) for name in given}
            typed = frozenset(name for name, source in sources.items() if source and source.name != "DEFAULT")
            how = Training(**{name: given.pop(name) for name in shared}, typed=typed)
            command(**given, how=how)

        filled = _with_defaults(order, function)
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        expanded.__signature__ = inspect.Signature([context, *filled])  # type: ignore[attr-defined]
        return expanded

    return give


def defaults_of(function: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command's options the defaults that the library's function has; those that it says itself stay."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        filled = _with_defaults(list(own.parameters.values()), function)
        command.__signature__ = own.replace(parameters=filled)  # type: ignore[attr-defined]
        return command

    return give


def _with_defaults(order: list[inspect.Parameter], function: Callable[..., Any]) -> list[inspect.Parameter]:
    # By name only: an option without a default may follow one with another.
    known = defaults(function)
    return [
        each.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=known.get(each.name, each.default) if each.default is each.empty else each.default,
        )
        for each in order
    ]


def auto_or_number(text: str, least: int, hint: str) -> int | Literal["auto"]:
    """Return the number that is meant, or `auto`."""
    number = whole_number(text)
    if text == "auto":
        return "auto"
    if number is None or number < least:
        raise typer.BadParameter(f"{printable(text)!r} is neither auto nor a number from {least}", param_hint=hint)
    return number


def print_settings(plan: Frozen, at: str = "") -> None:
    """Print the path of every setting of a plan, with its value."""
    for path, value in plan.settings(at).items():
        print(f"{path}={printable(json.dumps(value), 1000)}")


def whole_number(text: str) -> int | None:
    """Return the number that decimal digits mean, or None for anything else and for more than nine of them."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def tell_notes(notes: Iterable[str]) -> None:
    """Say on stderr how images were made to fit, and which files were left out."""
    for note in notes if volume() != QUIET else ():
        print(f"note: {printable(note, 1000)}", file=sys.stderr)


def tell_layout(origin: Mapping[str, Any]) -> None:
    """Say on stderr what of a checkpoint was taken, where it was more than a bare state dict."""
    tell_notes(layout_notes(origin))


def emit(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout: no character that a terminal obeys, none that its encoding has not."""
    everything = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not everything, allow_nan=False)
    print(text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text))


def _escaped(letter: str) -> str:
    """Return a character as JSON writes it in ASCII: one or two halves of `\\u` and four hex digits."""
    halves = letter.encode("utf-16-be", "surrogatepass")  # a file's name may be bytes that are no text
    return "".join(f"\\u{halves[place : place + 2].hex()}" for place in range(0, len(halves), 2))
