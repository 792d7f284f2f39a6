"""Units on Ray: processes of this machine, or of a cluster whose machines share the store's file system.

    RAY_ADDRESS set     joins that cluster
    else                starts one on this machine, which ends with the run

A unit asks for its threads as CPUs, or for its share of a GPU. Where a worker or its machine dies, the unit is begun
again elsewhere, and goes on from its checkpoint in the store. Ray decides where; the store decides what is finished.
"""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event
from types import TracebackType
from typing import Any, Self

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lottery_hub.errors import BusyError, DamageWarning, LotteryHubError, StoppedError, first_line, printable
from lottery_hub.running.engines import Do, Inputs, Report
from lottery_hub.running.store import Unit
from lottery_hub.settings.ambient import deterministic
from lottery_hub.storage import atomic

RETRIES = 3  # of a unit whose worker has died
LOOK = 0.2  # seconds between two looks at what has come back
DAMAGE = "damage"  # what was set aside, for the driver to say
EPOCHS = 1.0  # seconds between two words of a worker about how far it is


class _Told:
    """What workers have to say, until the driver has heard it."""

    def __init__(self) -> None:
        self.words: deque[tuple[str, dict[str, Any]]] = deque(maxlen=10_000)

    def tell(self, kind: str, record: dict[str, Any]) -> None:
        self.words.append((kind, record))

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        words = list(self.words)
        self.words.clear()
        return words


@dataclass
class OnRay:
    """A Ray cluster as an engine; it is joined on entering.

    Attributes:
        device: class of device that units compute on.
        threads: of torch, for each, and CPUs that it asks for.
        at_a_time: units that share a GPU, or this machine's threads.
        retries: of a unit whose worker has died.
    """

    device: torch.device
    threads: int
    at_a_time: int = 1
    retries: int = RETRIES

    def __enter__(self) -> Self:
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(
                address=os.environ.get("RAY_ADDRESS", "local"),
                include_dashboard=None if "RAY_ADDRESS" in os.environ else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        # On this machine, so that it is there for as long as anybody hears.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._told: Any = ray.remote(_Told).options(num_cpus=0, scheduling_strategy=here).remote()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            ray.shutdown()

    @property
    def jobs(self) -> int:
        """How many units the cluster has room for."""
        there = ray.cluster_resources()
        by_cpu = there.get("CPU", 1) // self.threads
        by_gpu = there.get("GPU", 0) * self.at_a_time if self.device.type == "cuda" else by_cpu
        return max(1, int(min(by_cpu, by_gpu)))

    def whole(self) -> OnRay:
        """See `Engine.whole`."""
        alone = replace(self, threads=self.threads * self.at_a_time, at_a_time=1)
        alone._told = self._told
        return alone

    def run(
        self, do: Do, units: Sequence[Unit], inputs: Inputs, report: Report, stop: Event, jobs: int
    ) -> list[dict[str, Any]]:
        """See `Engine.run`; how many run at a time is Ray's to say."""
        inputs.keep()
        asked: dict[str, Any] = {"num_cpus": self.threads, "max_retries": self.retries}
        if self.device.type == "cuda":
            asked["num_gpus"] = 1 / self.at_a_time
        call = ray.remote(_work).options(**asked)
        elsewhere, exact = inputs.elsewhere(), torch.are_deterministic_algorithms_enabled()

        def begin(unit: Unit) -> Any:
            return call.remote(do, unit, elsewhere, self.device.type, self.threads, exact, self._told)

        running = {begin(unit): place for place, unit in enumerate(units)}
        again: deque[tuple[float, int]] = deque()  # of units that others are at: when, and which
        results: dict[int, dict[str, Any]] = {}
        try:
            while running or again:
                if stop.is_set():
                    raise StoppedError("work was stopped; what is finished is kept")
                while again and again[0][0] < time.monotonic():
                    place = again.popleft()[1]
                    running[begin(units[place])] = place
                ready: list[Any] = []
                if running:
                    ready, _ = ray.wait(list(running), timeout=LOOK)
                else:
                    stop.wait(LOOK)
                self._hear(report)
                for done in ready:
                    place = running.pop(done)
                    try:
                        results[place] = ray.get(done)
                    except RayError as problem:
                        cause = self._cause(problem, units[place], inputs)
                        if not isinstance(cause, BusyError):
                            raise cause from None
                        again.append((time.monotonic() + 2.0, place))
        except BaseException:
            stop.set()
            _cancel(running)
            raise
        self._hear(report)
        return [results[place] for place in range(len(units))]

    def _hear(self, report: Report) -> None:
        with suppress(RayError):
            for kind, record in ray.get(self._told.heard.remote()):
                if kind == DAMAGE:
                    warnings.warn(record["said"], DamageWarning, stacklevel=2)
                else:
                    report(kind, record)

    def _cause(self, problem: RayError, unit: Unit, inputs: Inputs) -> Exception:
        """Return what went wrong with a unit as an error of one line; its whole story is in a file."""
        cause = problem.cause if isinstance(problem, RayTaskError) else problem
        if isinstance(cause, LotteryHubError):
            return cause
        log = inputs.store.directory / "failures" / f"{unit.address}.log"
        with suppress(LotteryHubError, OSError):
            log.parent.mkdir(parents=True, exist_ok=True)  # the first unit may have failed before there is a store
            atomic.write_text(log, "".join(traceback.format_exception(problem)))
        died = "" if isinstance(problem, RayTaskError) else f"its worker died {self.retries + 1} times: "
        return LotteryHubError(f"{unit.name} failed ({died}{first_line(cause)}); more in {printable(log, 1000)}")


def _work(do: Do, unit: Unit, inputs: Inputs, device: str, threads: int, exact: bool, told: Any) -> dict[str, Any]:
    """Make a unit in a worker."""
    torch.set_num_threads(threads)
    last: dict[str, float] = {}

    def report(kind: str, record: dict[str, Any]) -> None:
        now = time.monotonic()
        if kind in ("epoch", "begun", "passes") and now - last.get(kind, -EPOCHS) < EPOCHS:
            return
        last[kind] = now
        with suppress(RayError):  # what nobody hears is no failure
            told.tell.remote(kind, record)

    def damaged(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, DamageWarning):
            told.tell.remote(DAMAGE, {"said": str(message)})

    with warnings.catch_warnings(), deterministic(exact):
        warnings.simplefilter("always", DamageWarning)
        warnings.showwarning = damaged  # type: ignore[assignment]
        return do(unit, inputs, device, report, Event())


def _cancel(running: Iterable[Any]) -> None:
    """End what is running: it keeps its checkpoint, and lets go of its lock."""
    refs = list(running)
    for ref in refs:
        with suppress(RayError):
            ray.cancel(ref)
    _, still = ray.wait(refs, num_returns=len(refs), timeout=5.0) if refs else ([], [])
    for ref in still:
        with suppress(RayError):
            ray.cancel(ref, force=True)
