"""`lottery-hub predict`: what a network says of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options


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
    from lottery_hub.networks.predicting import predict
    from lottery_hub.settings.environment import choose_device
    from lottery_hub.sharing.references import Which, load_network, named
    from lottery_hub.values import percent

    chosen = choose_device(device)
    network = load_network(ref, Which(regime, seed, itself), sparsity=sparsity, arch=arch)
    model = network.model() if isinstance(network, Backbone) else network.to_normalised(head="pretrained")
    fit = fit_of(network.records, len(network.weights["fc.weight"]))
    told: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path in _files(pictures):
        try:
            (said,) = predict(model, fit, path, top=top, device=chosen)
        except DataError as problem:
            failed.append({"image": str(path), "why": str(problem)})
            print(f"error: {printable(problem, 1000)}", file=sys.stderr)
            continue
        if as_json:
            told.append({"image": str(path)} | said.record())
        else:
            shares = ", ".join(f"{printable(name)} {percent(share)} %" for name, share in said.top)
            print(f"{printable(path, 1000)}: {shares}")
    if as_json:
        options.emit({"network": named(network), "predictions": told, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _files(named: list[str]) -> Iterator[Path]:
    """Yield the files that are named, and the pictures in the folders that are."""
    from lottery_hub.errors import DataError, printable
    from lottery_hub.images.decoding import IMAGE_SUFFIXES
    from lottery_hub.settings.paths import path_of

    for name in named:
        if name == "-":
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            yield from (path_of(line) for line in lines if line)
            continue
        path = path_of(name)
        if not path.is_dir():
            yield path
            continue
        found = sorted(
            Path(inside, file)
            for inside, _, files in os.walk(path)
            for file in files
            if Path(file).suffix.lower() in IMAGE_SUFFIXES and not file.startswith(".")
        )
        if not found:
            raise DataError(f"{printable(path)} holds no pictures")
        yield from found
