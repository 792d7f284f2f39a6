"""`lottery-hub predict`: what a network says of pictures."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from lottery_hub.errors import DataError

LONGEST = 2**16  # bytes of a line of stdin


def predict_command(
    ref: options.NetworkRef,
    pictures: Annotated[
        list[str],
        typer.Argument(help="Files, folders of them, or - for a list of files on stdin, one a line.", metavar="IMAGE…"),
    ],
    top: Annotated[int, typer.Option(min=1, metavar="INT", help="So many of the likeliest classes.")] = 3,
    regime: options.WhichRegime = None,
    seed: options.WhichSeed = None,
    itself: options.TheTicket = False,
    arch: options.Arch = None,
    sparsity: options.Sparsity = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what a network takes pictures for: of a judged ticket the one that was trained from it.

    A picture that cannot be read is told and left out, and the exit code is 1.
    """
    from lottery_hub.errors import DataError, printable
    from lottery_hub.images.fitting import fit_of
    from lottery_hub.networks.backbones import Backbone
    from lottery_hub.networks.predicting import predict_each
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.sharing.references import Which, load_network, named
    from lottery_hub.values import percent

    chosen = choose_device(device)
    network = load_network(ref, Which(regime, seed, itself), sparsity=sparsity, arch=arch)
    model = network.model() if isinstance(network, Backbone) else network.to_normalised(head="pretrained")
    fit = fit_of(network.records, len(network.weights["fc.weight"]))
    told: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    names: deque[str] = deque()  # of the pictures that are at work

    def noted() -> Iterator[Path | DataError | None]:
        for name, picture in _pictures(pictures):
            if picture is not None:
                names.append(name)
            yield picture

    for _, said in predict_each(model, fit, noted(), top=top, device=chosen):
        name = names.popleft()
        if isinstance(said, DataError):
            failed.append({"image": name, "why": str(said)})
            print(f"error: {printable(said, 1000)}", file=sys.stderr)
        elif as_json:
            told.append({"image": name} | said.record())
        else:
            shares = ", ".join(f"{printable(called)} {percent(share)} %" for called, share in said.top)
            print(f"{printable(name, 1000)}: {shares}", flush=True)
    if as_json:
        options.emit({"network": named(network), "predictions": told, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _pictures(typed: list[str]) -> Iterator[tuple[str, Path | DataError | None]]:
    """Yield name and file of each picture, or what there is to say of one that is not there.

    Where the next line of stdin has not come yet, there is None in between.
    """
    for name in typed:
        if name != "-":
            yield from _named(name)
            continue
        for line in _lines():
            if line is None:
                yield "-", None
            elif line:
                yield from _named(line)


def _named(name: str) -> Iterator[tuple[str, Path | DataError]]:
    """Yield the file that is named, or the pictures in a folder that is."""
    from lottery_hub.errors import DataError, first_line, printable
    from lottery_hub.images.decoding import IMAGE_SUFFIXES
    from lottery_hub.settings.paths import exists, path_of

    path = path_of(name)
    if not (exists(path) and path.is_dir()):
        yield str(path), path
        return
    closed: list[OSError] = []
    found = sorted(
        Path(inside, file)
        for inside, _, files in os.walk(path, onerror=closed.append)
        for file in files
        if Path(file).suffix.lower() in IMAGE_SUFFIXES and not file.startswith(".")
    )
    yield from ((str(file), file) for file in found)
    for problem in closed:
        yield str(problem.filename), DataError(f"cannot look into a folder: {first_line(problem)}")
    if not found and not closed:
        yield str(path), DataError(f"{printable(path)} holds no pictures")


def _lines() -> Iterator[str | None]:
    """Yield the lines of stdin, as names of files of whatever bytes; None where the next has not come yet."""
    from lottery_hub.errors import DataError

    if sys.stdin is None:  # closed before the start
        raise DataError("there is no stdin to read a list of files from")
    if not hasattr(sys.stdin, "buffer"):  # text that stands in for it
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    rest, file = b"", sys.stdin.buffer.fileno()
    while True:
        if not _ready(file):
            yield None
        piece = os.read(file, LONGEST)
        *lines, rest = (rest + piece).split(b"\n")
        if not piece:
            lines.append(rest)
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines)
        if not piece:
            return
        if len(rest) > LONGEST:
            raise DataError("a line of stdin is longer than any file's name; give one file a line")


def _ready(file: int) -> bool:
    """Whether there is something to read at once; true where the system cannot say."""
    try:
        return bool(select.select([file], [], [], 0)[0])
    except (OSError, ValueError):
        return True
