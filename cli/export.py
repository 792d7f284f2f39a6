"""`lottery-hub export`: a network in the formats that other programs read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options

if TYPE_CHECKING:
    from lottery_hub.networks.compacting import Compacted, Latency
    from lottery_hub.sharing.exporting import Exported


def export_command(
    ref: options.NetworkRef,
    chosen: Annotated[
        Literal["timm", "onnx", "torch-export", "safetensors-dense"],
        typer.Option(
            "--format",
            help="timm: a folder for timm.create_model; onnx, torch-export: a network on [0,1] images; "
            "safetensors-dense: timm's state dict.",
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="The file to write; for timm, the folder.", show_default=False, callback=options.place)
    ],
    regime: options.WhichRegime = None,
    seed: options.WhichSeed = None,
    itself: options.TheTicket = False,
    sparsity: options.Sparsity = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Remove dead filters and channels first (onnx and torch-export).")
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the images in pixels; unless given, as fine-tuned, or 32.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=65_536, metavar="INT", help="Images at once where --compact measures latency.")
    ] = 1,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write a network in a format that other programs read: of a judged ticket the one that was trained from it."""
    from lottery_hub.errors import printable
    from lottery_hub.reporting.showing import showing

    with showing("reading the network"):
        from lottery_hub.networks.compacting import compare_latency
        from lottery_hub.sharing.exporting import export
        from lottery_hub.sharing.references import Which, load_sparse, named
        from lottery_hub.values import percent

        ticket = load_sparse(ref, Which(regime, seed, itself), sparsity=sparsity)
        done = export(ticket, chosen, output, compact=compact, image_size=image_size, overwrite=overwrite)
    smaller, latency = done.compacted, None
    if smaller is not None:
        whole = ticket.to_model(head="pretrained")
        latency = compare_latency(whole, smaller.model, image_size=done.image_size, batch_size=batch_size)
    if as_json:
        options.emit(
            {
                "path": str(done.path),
                "format": done.format,
                "arch": ticket.arch,
                "level": ticket.level,
                "sparsity": ticket.sparsity,
                "network": named(ticket),
                "num_classes": len(ticket.weights["fc.weight"]),
                "image_size": done.image_size,
                "bytes": done.size,
                "largest_difference": done.difference,
                "compact": smaller and latency and _record(smaller, latency),
            }
        )
        return
    level = f"level {ticket.level}: {percent(ticket.sparsity)} % sparsity"
    print(f"{ticket.arch} ({ticket.kind}), {level}, {named(ticket)}")
    if smaller is not None and latency is not None:
        _print_costs(smaller, latency)
    print(f"{_told(done)}, {done.size:,} bytes: {printable(done.path)}")


def _record(smaller: Compacted, latency: Latency) -> dict[str, Any]:
    return {
        "removed_channels": smaller.removed,
        "before": asdict(smaller.before) | {"milliseconds": latency.before},
        "after": asdict(smaller.after) | {"milliseconds": latency.after},
        "latency": {name: value for name, value in asdict(latency).items() if name not in ("before", "after")},
    }


def _print_costs(smaller: Compacted, latency: Latency) -> None:
    before, after = smaller.before, smaller.after
    size = f"{before.image_size}x{before.image_size}"
    threads = f"{latency.threads} thread{'s' if latency.threads > 1 else ''}"
    print(f"compacted: {smaller.removed:,} channels removed")
    print(f"parameters: {before.parameters:,} → {after.parameters:,}{_change(before.parameters, after.parameters)}")
    print(f"MACs of a {size} image: {before.macs:,} → {after.macs:,}{_change(before.macs, after.macs)}")
    print(
        f"latency in torch: {latency.before:.2f} → {latency.after:.2f} ms{_change(latency.before, latency.after)}, "
        f"fastest of {latency.runs} batches of {latency.batch_size}, {latency.device}, {threads}"
    )
    print(
        "only channels that the mask emptied altogether can go, which are few or none at moderate sparsity; "
        "every other pruned weight is a 0 that a dense kernel multiplies like any number"
    )


def _change(before: float, after: float) -> str:
    return f" ({(after / before - 1) * 100:+.1f} %)"


def _told(done: Exported) -> str:
    size = f"{done.image_size}x{done.image_size}"
    if done.difference is None:
        return f"{done.format}, its weights bit for bit"
    difference = f"{done.difference:.1e}" if done.difference else "no difference"
    return f"{done.format}, [0,1] images of {size} pixels to logits, {difference} from its own on random images"
