"""Measure the ticket format beside others: bytes, and milliseconds to write and to read.

    python scripts/bench_format.py                      resnet18 and resnet50, five sparsities
    python scripts/bench_format.py --ladder             also what a ladder of 19 levels takes
    python scripts/bench_format.py --from FOLDER        masks and weights of your own ladder instead

Networks are timm's as initialised (seed 0), pruned by magnitude: no weights are downloaded, so exponents and
densities are those of an untrained network unless --from names a trained ladder. Everything is read from a warm
file cache. "Ready" is a timm model that holds the weights. Needs `pip install 'lottery-hub[bench]'`.

The limit is the entropy of the mask, every layer at its own density, plus 32 (16) bits a surviving weight, plus
everything else as it is. `limit+` takes the entropy of the surviving weights' exponents in place of their 8 bits.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn.utils import prune

from lottery_hub.networks.backbones import ARCHITECTURES, Backbone, build_network, fresh_weights, layout
from lottery_hub.networks.inspection import size
from lottery_hub.networks.masks import keep_count
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.settings.config import DrawPlan
from lottery_hub.settings.environment import describe_environment
from lottery_hub.storage import codec, files
from lottery_hub.storage.folder import load_ladder, load_ticket, save_ladder, save_ticket
from lottery_hub.training.drawing import draw

LEVELS = (3, 7, 10, 14, 19)  # 48.80, 79.03, 89.26, 95.60, 98.56 %
FIRST = 10  # the level of which the first load in a process is measured
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--levels", nargs="+", type=int, default=LEVELS)
    parser.add_argument("--from", dest="ladder_from", help="a ladder folder, or a packaged name")
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs, of which the median is printed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ladder", action="store_true")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    print(describe_environment("cpu"))
    ladders = [load_ladder(options.ladder_from)] if options.ladder_from else map(one_shot, options.arch)
    for ladder in ladders:
        print(f"\n## {ladder.backbone.arch}, {options.runs} interleaved runs, {options.threads} thread(s)\n")
        print("| sparsity % | format | bytes | / limit | / limit+ | write ms | read ms | ready ms |")
        print("|---:|---|---:|---:|---:|---:|---:|---:|")
        for level in options.levels:
            if level <= ladder.levels:
                measure(ladder.ticket(level), options.runs)
        if FIRST in options.levels:
            first_load(ladder.ticket(FIRST), options.runs)
        if options.ladder:
            whole_ladder(ladder, options.runs)


def one_shot(arch: str) -> Ladder:
    """Return the ladder of 19 levels that magnitude pruning draws from timm's initialisation."""
    return draw(Backbone(arch, "std", fresh_weights(arch, 1000, seed=0)), DrawPlan(method="omp", rounds=19))


def measure(ticket: Ticket, runs: int) -> None:
    """Print the rows of one sparsity."""
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        rivals = [codec_alone(ticket)]
        rivals += [ours(ticket, root / values, values) for values in ("float32", "bfloat16")]
        rivals += [dense_safetensors(ticket, root), pruned_state(ticket, root), zstd_bitmask(ticket, root)]
        rivals += compressed_tensors(ticket, root)
        limits = {bits: size(ticket, bits).limit_bytes for bits in (16, 32)}
        saved = predictable_exponents(ticket)
        times: dict[tuple[str, str], list[float]] = {}
        sizes: dict[str, int] = {}
        for run in range(runs + 1):
            for name, write, read, ready in rivals:
                for what, step in (("write", write), ("read", read), ("ready", ready)):
                    made: object = None  # what the step before has made need not be in memory beside this
                    began = time.perf_counter()
                    made = step()
                    if made is None:
                        continue
                    if run:  # the first warms caches
                        times.setdefault((name, what), []).append(time.perf_counter() - began)
                    if what == "write":
                        assert isinstance(made, int)
                        sizes[name] = made
        for name, *_ in rivals:
            bits = 16 if "bfloat16" in name else 32
            limit = limits[bits]
            tight = limit - saved
            medians = [
                f"{1000 * statistics.median(times[name, what]):.1f}" if (name, what) in times else ""
                for what in ("write", "read", "ready")
            ]
            share = f"{sizes[name] / limit:.3f} | {sizes[name] / tight:.3f}"
            print(
                f"| {ticket.sparsity * 100:.2f} | {name} | {sizes[name]:,} | {share} | {' | '.join(medians)} |",
                flush=True,
            )


Rival = tuple[str, Step, Step, Step]


def codec_alone(ticket: Ticket) -> Rival:
    """Encoding and decoding in memory, without file, hashes and checks of the folder."""
    survived = {name: mask.to(codec.COUNT) for name, mask in ticket.mask.items()}
    shapes, prunable = layout(ticket.arch, len(ticket.weights["fc.weight"]))
    encoded: codec.Arrays = {}

    def write() -> int:
        encoded.update(codec.encode(ticket.weights, survived, 1, first=1, values="float32"))
        return sum(array.nbytes for array in encoded.values())

    def read() -> object:
        return codec.decode(encoded, shapes, prunable, 1, first=1, values="float32")

    return "codec alone, float32", write, read, lambda: None


def ours(ticket: Ticket, place: Path, values: codec.Values) -> Rival:
    """A ticket folder: encoded, hashed, synced and renamed; read with every check."""

    def write() -> int:
        save_ticket(ticket, place, values=values)
        return (place / "ticket.safetensors").stat().st_size

    def read() -> object:
        return load_ticket(place)

    return f"lottery_hub {values}", write, read, lambda: load_ticket(place).to_model()


def dense_safetensors(ticket: Ticket, root: Path) -> Rival:
    """The whole network as safetensors, and timm's usual way to load it."""
    path = root / "dense.safetensors"

    def write() -> int:
        files.write_tensors(path, ticket.weights)
        return path.stat().st_size

    def ready() -> object:
        model = timm_model(ticket)
        model.load_state_dict(files.read_tensors(path))
        return model

    return "dense safetensors", write, lambda: files.read_tensors(path), ready


def timm_model(ticket: Ticket) -> nn.Module:
    """Build the network the usual way."""
    name, arguments = ARCHITECTURES[ticket.arch]
    return timm.create_model(name, num_classes=len(ticket.weights["fc.weight"]), **arguments)


def pruned_state(ticket: Ticket, root: Path) -> Rival:
    """torch.save of a torch.nn.utils.prune state dict: dense weights and float masks."""
    path = root / "pruned.pt"
    network = build_network(ticket.arch, ticket.weights)
    apply_prune(network, ticket)

    def write() -> int:
        torch.save(network.state_dict(), path)
        return path.stat().st_size

    def read() -> object:
        return torch.load(path, weights_only=True)

    def ready() -> object:
        model = timm_model(ticket)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                prune.identity(module, "weight")
        model.load_state_dict(torch.load(path, weights_only=True))
        return model

    return "torch.nn.utils.prune", write, read, ready


def apply_prune(network: nn.Module, ticket: Ticket) -> None:
    """Hang a ticket's masks on a network, as reference code does."""
    for name, mask in ticket.mask.items():
        module = network.get_submodule(name.removesuffix(".weight"))
        prune.custom_from_mask(module, "weight", mask.float())


def zstd_bitmask(ticket: Ticket, root: Path) -> Rival:
    """Packed bits and surviving values, all of it through zstd (level 3)."""
    zstd = importlib.import_module("zstandard")
    path = root / "bitmask.zst"

    def write() -> int:
        parts = {f"mask/{name}": torch.from_numpy(np.packbits(mask.numpy())) for name, mask in ticket.mask.items()}
        for name, tensor in ticket.weights.items():
            parts[name] = tensor[ticket.mask[name]] if name in ticket.mask else tensor
        path.write_bytes(zstd.ZstdCompressor(level=3).compress(safetensors.torch.save(parts)))
        return path.stat().st_size

    def read() -> dict[str, torch.Tensor]:
        parts = safetensors.torch.load(zstd.ZstdDecompressor().decompress(path.read_bytes()))
        for name, mask in ticket.mask.items():
            bits = np.unpackbits(parts.pop(f"mask/{name}").numpy())[: mask.numel()].astype(bool)
            kept = torch.from_numpy(bits).view(mask.shape)
            parts[name] = torch.zeros(mask.shape).masked_scatter_(kept, parts[name])
        return parts

    def ready() -> object:
        model = timm_model(ticket)
        model.load_state_dict(read())
        return model

    return "bitmask + zstd", write, read, ready


def compressed_tensors(ticket: Ticket, root: Path) -> list[Rival]:
    """compressed-tensors' sparse-bitmask format, where it is installed."""
    try:
        from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import BitmaskTensor
    except ImportError:
        print("compressed-tensors with its sparse-bitmask format is not installed: left out", file=sys.stderr)
        return []
    path = root / "compressed.safetensors"

    def write() -> int:
        parts = {}
        for name, tensor in ticket.weights.items():
            if name in ticket.mask:
                packed = BitmaskTensor.from_dense(tensor.flatten(1)).dict(name_prefix=name, device="cpu")
                parts |= {key: value.contiguous() for key, value in packed.items()}
            else:
                parts[name] = tensor
        files.write_tensors(path, parts)
        return path.stat().st_size

    def read() -> dict[str, torch.Tensor]:
        parts = files.read_tensors(path)
        dense = {}
        for name, tensor in ticket.weights.items():
            if name in ticket.mask:
                fields = {key.removeprefix(f"{name}."): parts[key] for key in parts if key.startswith(f"{name}.")}
                fields["shape"] = fields["shape"].tolist()
                dense[name] = BitmaskTensor(**fields).decompress().view(tensor.shape)
            else:
                dense[name] = parts[name]
        return dense

    def ready() -> object:
        model = timm_model(ticket)
        model.load_state_dict(read())
        return model

    return [("compressed-tensors bitmask", write, read, ready)]


def first_load(ticket: Ticket, runs: int) -> None:
    """Print what the first load in a new process takes, where memory is new and timm's network not built yet."""
    name, arguments = ARCHITECTURES[ticket.arch]
    start = "import sys, time, torch, timm, timm.models.resnet, safetensors.torch, lottery_hub; "
    start += "from lottery_hub.storage.folder import load_ticket; torch.set_num_threads(1); t = time.perf_counter(); "
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        dense_safetensors(ticket, root)[1]()
        save_ticket(ticket, root / "ticket")
        loads = {
            "lottery_hub": f"load_ticket({str(root / 'ticket')!r}).to_model(); ",
            "dense": f"timm.create_model({name!r}, num_classes={len(ticket.weights['fc.weight'])}, **{arguments!r})"
            f".load_state_dict(safetensors.torch.load_file({str(root / 'dense.safetensors')!r})); ",
        }
        times: dict[str, list[float]] = {which: [] for which in loads}
        for _ in range(runs):
            for which, load in loads.items():
                program = [sys.executable, "-c", f"{start}{load}print(time.perf_counter() - t)"]
                done = subprocess.run(program, capture_output=True, text=True, check=True)
                times[which].append(1000 * float(done.stdout))
        told = ", ".join(f"{which} {statistics.median(found):.0f} ms" for which, found in times.items())
        print(f"\nfirst load in a process at {ticket.sparsity * 100:.2f} %: {told}")


def predictable_exponents(ticket: Ticket) -> float:
    """Return the bytes by which the entropy of float32 exponents is below 8 bits a float."""
    kept = [ticket.weights[name][mask] for name, mask in ticket.mask.items()]
    rest = [t.flatten() for name, t in ticket.weights.items() if name not in ticket.mask and t.is_floating_point()]
    saved = 0.0
    for values in (torch.cat(kept).numpy(), torch.cat(rest).numpy()):
        counts = np.bincount((values.view(np.uint32) >> 23) & 255)
        shares = counts[counts > 0] / len(values)
        saved += len(values) * (8 + float((shares * np.log2(shares)).sum())) / 8
    return saved


def whole_ladder(ladder: Ladder, runs: int) -> None:
    """Print what all levels take in one file, and loading one of them."""
    with TemporaryDirectory() as scratch:
        place = Path(scratch) / "ladder"
        began = time.perf_counter()
        save_ladder(ladder, place)
        wrote = time.perf_counter() - began
        arrays = files.parse_arrays((place / "ladder.safetensors").read_bytes(), place / "ladder.safetensors")
        masks = sum(array.nbytes for name, array in arrays.items() if name.startswith(("round/", "layers")))
        total = keep_count(sum(mask.numel() for mask in ladder.survived.values()), 0.2, 0)
        size_ = (place / "ladder.safetensors").stat().st_size
        times = {}
        for sparsity in ("0.9", "whole"):
            found = []
            for _ in range(runs):
                began = time.perf_counter()
                load_ladder(place) if sparsity == "whole" else load_ticket(place, float(sparsity))
                found.append(time.perf_counter() - began)
            times[sparsity] = 1000 * statistics.median(found)
        print(
            f"\nladder of {ladder.levels} levels: {size_:,} bytes, of which masks {8 * masks / total:.3f} bits a "
            f"prunable weight; written in {1000 * wrote:.0f} ms; that nearest 90 % loads in {times['0.9']:.0f} ms, "
            f"the whole ladder in {times['whole']:.0f} ms"
        )


if __name__ == "__main__":
    main()
