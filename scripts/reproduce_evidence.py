"""Run the study behind docs/evidence.md, keep what its networks did, and write the page.

    python scripts/reproduce_evidence.py --dry-run              units, those that are finished, hours for others
    python scripts/reproduce_evidence.py                        the study, from CIFAR-10 of the Hub; may be stopped
    python scripts/reproduce_evidence.py --data FOLDER          from a local copy in the Hub's layout
    python scripts/reproduce_evidence.py --collect RUN ...      only keep the records of studies and finds that were run
    python scripts/reproduce_evidence.py --page                 only write the page of the records that are kept
    python scripts/reproduce_evidence.py --smoke DIR            the whole chain at toy size, all of it into a new folder

Another network has a page and records of its own, docs/evidence-resnet18.md and the folder of that name:

    python scripts/make_packaged.py --arch resnet18 --device cuda --output ladders --cards ladders
    python scripts/reproduce_evidence.py --arch resnet18 --ladders ladders --device cuda

The grid is docs/evidence/study.toml. Records of every transfer, with the outcome of every image, are kept in
records/ there, a file for each kind of pre-training and share of the training images; networks stay in the
store and in the run directory.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import evidence

import lottery_hub as lh
from lottery_hub.commands.study import outline_of
from lottery_hub.errors import LotteryHubError
from lottery_hub.judging.verdict import level_name
from lottery_hub.networks.reach import reach_of
from lottery_hub.settings.studies import StudyPlan
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage import atomic

PLACE = Path(__file__).parent.parent / "docs" / "evidence"
PLAN = PLACE / "study.toml"
TOY = ("draw.rounds=3", "transfer.standard.epochs=1", "transfer.adversarial.epochs=1", "transfer.test_attack.steps=1")
# Of a record, what no figure follows from: it is in the store, and in the ticket folders of the study.
LEFT_OUT = ("history", "mean", "std")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10: name, or a folder in the Hub's layout")
    parser.add_argument("--arch", default=evidence.ARCH)
    parser.add_argument("--ladders", type=Path, help="where its ladder folders are; unless given, the packaged ones")
    parser.add_argument("--output", type=Path, help="run directory; unless given, in studies/")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--collect", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--smoke", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.smoke:
        smoke(options.smoke)
        return
    place = place_of(options.arch)
    output = options.output or Path("studies") / place.name
    plan = grid(options.data, options.arch, options.ladders)
    how: dict[str, Any] = {"plan": plan, "output": output, "jobs": options.jobs, "device": options.device}
    if options.dry_run:
        json.dump(outline_of(**how).record(), sys.stdout, indent=1)
        print()
        return
    if not options.page and not options.collect:
        lh.study(**how)
    if not options.page:
        collect(options.collect or [output], place / "records", options.arch)
    atomic.write_text(place.with_name(f"{place.name}.md"), evidence.page(place / "records"))


def place_of(arch: str) -> Path:
    """Return the folder beside the page of a network."""
    return PLACE if arch == evidence.ARCH else PLACE.with_name(f"{PLACE.name}-{arch}")


def grid(data: str | None, arch: str = evidence.ARCH, ladders: Path | None = None) -> StudyPlan:
    """Return the study; with its images and ladders from elsewhere, where they are, or of another network."""
    plan = StudyPlan.read(PLAN)
    if data:
        plan = plan.changed(dataset=(data,))
    if ladders:
        return plan.changed(pretrain=tuple(str(ladders / packaged_name(arch, kind)) for kind in evidence.KINDS))
    return plan if arch == evidence.ARCH else plan.changed(arch=arch)


def smoke(place: Path) -> None:
    """Do all of it on some digits, with one epoch and few levels."""
    plan = StudyPlan(
        pretrain=("std", "adv"), fraction=(0.2,), method=("imp", "omp"), level=(2,), seeds=2, confirm=0, changes=TOY
    )
    lh.study(plan=plan, output=place / "study", store=place / "store", jobs=1, device="cpu", progress=False)
    collect([place / "study"], place / "records", evidence.ARCH)
    atomic.write_text(place / "evidence.md", evidence.page(place / "records"))


def collect(runs: Iterable[Path], place: Path, arch: str) -> None:
    """Add what studies and finds have measured to the records; what is there stays, unless it was measured again."""
    place.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for run in runs for row in measured(run, arch)):
        name = f"{row['kind']}-{row['fraction']:g}.jsonl"
        if name not in files:
            files[name] = {_key(known): known for known in evidence.rows(place / name)}
        files[name][_key(row)] = row
    for name, known in files.items():
        _check_alike(name, known.values())
    for name, known in files.items():
        evidence.write(place / name, [known[key] for key in sorted(known)])


def measured(run: Path, arch: str) -> Iterator[dict[str, Any]]:
    """Yield a row for every transfer behind the tickets of a study, or behind that of a find."""
    folders = sorted([*(run / "cells").glob("*/ticket"), *run.glob("ticket")])
    if not folders:
        raise LotteryHubError(f"{run} holds no ticket of a study or a find")
    for folder in folders:
        ticket = lh.load_ticket(folder)
        if ticket.arch != arch:
            raise LotteryHubError(f"{folder} is of {ticket.arch}; the records are of {arch}")
        levels = {level_name(0): (0, 0.0)}
        levels |= {level_name(row["level"]): (row["level"], row["sparsity"]) for row in ticket.records["levels"]}
        side = ticket.records["plan"]["transfer"]["standard"]["image_size"]
        of_reached = {0: 0.0, ticket.level: reach_of(ticket.mask, ticket.arch, side).sparsity}
        for record in ticket.records["transfers"]:
            if record["ticket"] not in levels:
                continue  # a control: the study has its own finds of other methods
            level, sparsity = levels[record["ticket"]]
            yield {
                **({} if arch == evidence.ARCH else {"arch": arch}),
                "kind": ticket.kind,
                "dataset": ticket.records["data"]["name"],
                "fraction": ticket.records["data"]["fraction"],
                "images": ticket.records["data"]["train"],
                "classes": ticket.records["data"]["classes"],
                "method": "dense" if level == 0 else ticket.method,
                "level": level,
                "sparsity": sparsity,
                "of_reached": of_reached.get(level),
                "record": {name: value for name, value in record.items() if name not in LEFT_OUT},
            }


def _check_alike(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Refuse what cannot be set side by side: other images, or another attack after the same transfer."""
    seen: dict[str, tuple[object, ...]] = {}
    for row in rows:
        record = row["record"]
        about = (row["dataset"], row["images"], row["classes"], record["samples"], record["attack"])
        if (first := seen.setdefault(record["regime"], about)) != about:
            raise LotteryHubError(f"{name} would hold two kinds of figures, {first} and {about}; leave one of them out")


def _key(row: dict[str, Any]) -> str:
    record = row["record"]
    return f"{row['method']} {row['level']:02d} {record['regime']} {record['seed']:03d}"


if __name__ == "__main__":
    try:
        main()
    except LotteryHubError as problem:
        sys.exit(f"error: {problem}")
