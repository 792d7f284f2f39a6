"""Decoded once: the images of a large dataset as one file of pixels, which every process of a machine maps.

    FOLDER/KEY/pixels        uint8 [n, 3, side, side], the splits one after the other
    FOLDER/KEY/about.json    written last: without it the file is not whole
    FOLDER/KEY/done          while it is written: the ranges of images that are, a JSON line each

KEY is a hash of what the pixels depend on: the source files by path, size and time, the images that are taken of them,
their side, and `VERSION`. FOLDER is `LOTTERY_HUB_CACHE`, or `lottery_hub/images` where this user's caches are.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lottery_hub.errors import DataError, printable
from lottery_hub.images.decoding import Ints, Pixels, Source, Tally, decode_into
from lottery_hub.settings import machine
from lottery_hub.settings.paths import path_of
from lottery_hub.telling import tell

VERSION = 1  # of how pixels are made: with another, they are made anew
SHARE = 0.25  # of free memory that images may take before they are kept in a file
TOGETHER = 64 * 2**20  # bytes of pixels that are decoded at a time
Parts = Sequence[tuple[Source, Ints]]  # of a dataset: where each split comes from, and which rows it takes
OnDecoded = Callable[[int, int], None]  # (images decoded, of so many)
About = Callable[[list[Pixels], Tally], dict[str, Any]]  # what is to be remembered of the splits


@dataclass(frozen=True)
class Kept:
    """A dataset in the cache: its folder, its bytes, when it was last used, and what is remembered of it."""

    folder: Path
    size: int
    used: float
    about: dict[str, Any] | None  # None where it is not whole


def cache_folder() -> Path:
    """Return where decoded images are kept."""
    if named := os.environ.get("LOTTERY_HUB_CACHE"):
        return path_of(named)
    return path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lottery_hub" / "images"


def is_large(parts: Parts, size: int) -> bool:
    """Whether the images of all parts would take more of the memory than they should."""
    free = machine.available_memory()
    in_files = all(source.files for source, _ in parts)
    return in_files and free is not None and _bytes_of(parts, size) > SHARE * free


def decoded_once(
    parts: Parts, size: int, about: About, on_decoded: OnDecoded | None = None
) -> tuple[list[Pixels], dict[str, Any]]:
    """Return the pixels of every part, mapped from the cache, and what is remembered; decode them where needed.

    Where another process decodes the same images, it is waited for. What a killed one has decoded is kept.

    Args:
        parts: what to decode.
        size: side of the images, in pixels.
        about: given all pixels and what was counted on the way, what to remember: JSON-able.
        on_decoded: told how far it is.

    Raises:
        DataError: an image is damaged, or there is no room on the disk.
    """
    folder = cache_folder() / _key(parts, size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if _about(folder) is None:
                _write(folder, parts, size, about, on_decoded)
            remembered = _about(folder)
            assert remembered is not None
            os.utime(folder / "about.json")
            return _mapped(folder, parts, size), remembered
    except OSError as problem:
        where, why = printable(folder.parent), printable(problem.strerror or problem)
        raise DataError(f"cannot keep decoded images in {where} ({why}); LOTTERY_HUB_CACHE names another folder") from (
            problem
        )


def kept() -> list[Kept]:
    """Return what is in the cache, by when it was last used."""
    found = []
    with suppress(OSError):
        for folder in cache_folder().iterdir():
            if (folder / "pixels").is_file():
                told = folder / "about.json"
                state = (told if told.is_file() else folder / "pixels").stat()
                found.append(Kept(folder, (folder / "pixels").stat().st_blocks * 512, state.st_mtime, _about(folder)))
    return sorted(found, key=lambda entry: entry.used)


def remove(entry: Kept) -> None:
    """Remove a dataset from the cache. Processes that have mapped it keep their pixels."""
    with FileLock(entry.folder / "lock"):
        for name in ("about.json", "done", "pixels"):
            (entry.folder / name).unlink(missing_ok=True)
    shutil.rmtree(entry.folder, ignore_errors=True)


def _bytes_of(parts: Parts, size: int) -> int:
    return sum(len(rows) for _, rows in parts) * 3 * size * size


def _key(parts: Parts, size: int) -> str:
    """Return the hash of everything that pixels depend on."""
    digest = hashlib.sha256(f"{VERSION} {size}".encode())
    for source, rows in parts:
        for file in source.files:
            state = file.stat()
            digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
        for numbers in (rows, source.labels[rows]):  # labels are in the fingerprint that is remembered
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").data)
    return digest.hexdigest()[:40]


def _about(folder: Path) -> dict[str, Any] | None:
    """Return what is remembered of a folder; None where it is not whole."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        whole = isinstance(about, dict) and (folder / "pixels").stat().st_size == about["bytes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return about if whole else None


def _mapped(folder: Path, parts: Parts, size: int, mode: Any = "c") -> list[Pixels]:
    """Return the pixels of every part; by default written to in memory only."""
    counts = [len(rows) for _, rows in parts]
    pixels: Pixels = np.memmap(folder / "pixels", np.uint8, mode, shape=(sum(counts), 3, size, size))
    ends = np.cumsum(counts)
    return [pixels[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _write(folder: Path, parts: Parts, size: int, about: About, on_decoded: OnDecoded | None) -> None:
    needed, tally = _bytes_of(parts, size), Tally()
    done = _done(folder, needed)
    _check_room(folder, needed - 3 * size * size * sum(end - begin for _, begin, end in done))
    if not (folder / "pixels").exists() or (folder / "pixels").stat().st_size != needed:
        with (folder / "pixels").open("wb") as file:
            file.truncate(needed)
    total, ready = sum(len(rows) for _, rows in parts), 0
    with (folder / "done").open("a", encoding="utf-8") as ledger:
        for (part, begin, end), counts in _ranges(folder, parts, size, done):
            tally.take(counts)
            if (part, begin, end) not in done:
                ledger.write(json.dumps([part, begin, end, counts]) + "\n")
                ledger.flush()
            ready += end - begin
            tell("part", what="decoding", done=ready, of=total, unit="images")
            if on_decoded is not None:
                on_decoded(ready, total)
    splits = _mapped(folder, parts, size)
    text = json.dumps(about(splits, tally) | {"bytes": needed, "size": size, "images": total})
    (folder / "about.json.part").write_text(text, encoding="utf-8")
    with (folder / "pixels").open("rb+") as file:
        os.fsync(file.fileno())
    (folder / "about.json.part").replace(folder / "about.json")
    (folder / "done").unlink()


Range = tuple[int, int, int]  # of a part: its number, the first image and the one after the last


def _done(folder: Path, needed: int) -> dict[Range, dict[str, Any]]:
    """Return the ranges that a killed process has decoded, and what it counted in each."""
    found: dict[Range, dict[str, Any]] = {}
    with suppress(OSError):
        if (folder / "pixels").stat().st_size == needed:
            for line in (folder / "done").read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, TypeError):  # the last line may be cut short
                    part, begin, end, counts = json.loads(line)
                    found[part, begin, end] = counts
    return found


def _ranges(
    folder: Path, parts: Parts, size: int, done: dict[Range, dict[str, Any]]
) -> Iterator[tuple[Range, dict[str, Any]]]:
    """Yield every range of images and what was counted in it, as soon as it is decoded."""
    step = max(1, TOGETHER // (3 * size * size))
    ranges = [
        (part, begin, min(begin + step, len(rows)))
        for part, (_, rows) in enumerate(parts)
        for begin in range(0, len(rows), step)
    ]
    yield from ((some, done[some]) for some in ranges if some in done)
    missing = [some for some in ranges if some not in done]
    work = _Work(folder, parts, size)
    crew, call = work.crew(min(machine.cores(), len(missing) or 1))
    with crew:
        waiting = {crew.submit(call, some): some for some in missing}
        try:
            for ended in as_completed(waiting):
                yield waiting[ended], ended.result()
        except BrokenProcessPool as problem:
            raise DataError("a process that decoded images was ended; is there enough memory?") from problem
        finally:
            crew.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Work:
    """What is decoded and where to."""

    folder: Path
    parts: Parts
    size: int

    def decode(self, some: Range) -> dict[str, Any]:
        """Decode a range of images; return what was counted in it."""
        part, begin, end = some
        source, rows = self.parts[part]
        pixels, tally = _mapped(self.folder, self.parts, self.size, "r+")[part], Tally()
        decode_into(pixels[begin:end], source, rows[begin:end], tally)
        return tally.record()

    def crew(self, workers: int) -> tuple[Executor, Callable[[Range], dict[str, Any]]]:
        """Return what runs calls side by side, and what to call: processes where they can be forked, else threads."""
        if workers == 1 or "fork" not in multiprocessing.get_all_start_methods() or threading.active_count() > 1:
            return ThreadPoolExecutor(workers), self.decode
        fork = multiprocessing.get_context("fork")
        crew = ProcessPoolExecutor(workers, mp_context=fork, initializer=_begin, initargs=(self, os.getpid()))
        return crew, _decode_there


_given: list[_Work] = []  # to a forked process, which has it by being forked: a source is no message to send


def _begin(work: _Work, parent: int) -> None:
    _given.append(work)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _decode_there(some: Range) -> dict[str, Any]:
    return _given[0].decode(some)


def _end_with(parent: int) -> None:
    """End this process when the one that forked it is gone: it holds the lock too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"decoded images take {needed / 1e9:.1f} GB and {printable(folder.parent)} has {free / 1e9:.1f} GB left; "
            "name a folder on a larger disk in LOTTERY_HUB_CACHE, or take fewer images (--set data.fraction=0.1)"
        )
