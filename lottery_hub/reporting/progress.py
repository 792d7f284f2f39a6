"""The display of work that goes on: live on a terminal and in a notebook, a line at a time elsewhere, on stderr.

It listens to what is told inside it (see `telling`), keeps it in a `Watched`, and draws that. Work knows nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from threading import RLock
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn
from rich.progress import Progress as Bars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lottery_hub.errors import printable
from lottery_hub.reporting.narrow import fits, fitted, stacked
from lottery_hub.reporting.notebook import CellView, as_html
from lottery_hub.reporting.watched import Network, Watched, clock_time, short
from lottery_hub.settings.answers import answer_of
from lottery_hub.telling import QUIET, VERBOSE, listening, volume
from lottery_hub.values import percent

HEARTBEAT = 60.0  # seconds without a line, where lines are all there is, after which one says how far it is
BAR = 8  # characters, of one network
NAMES = (("standard", "SA"), ("standard", "RA"), ("adversarial", "SA"), ("adversarial", "RA"))


class Progress:
    """Shows what is told while it is entered."""

    def __init__(self, shown: bool | None = True, *, watched: Watched | None = None) -> None:
        """Args: shown: whether at all; None where a terminal or a notebook watches."""
        self.console = Console(stderr=True, highlight=False)
        notebook = self.console.is_jupyter
        self.alive = notebook or (self.console.is_terminal and not self.console.is_dumb_terminal)
        self.console.quiet = not (self.alive if shown is None else shown) or volume() == QUIET
        self.verbose = volume() == VERBOSE
        self.watched = watched or Watched()
        self.said: set[str] = set()
        self.doing = ""  # as it was said last
        self.last = time.monotonic()  # when a line was printed
        self._lock = RLock()
        self._overall = Bars(BarColumn(bar_width=None), console=self.console, auto_refresh=False, expand=True)
        self._task = self._overall.add_task("", total=None)
        self._open = ExitStack()
        # What others print to stderr is put above the view; stdout is nobody's but the command's.
        live = Live(
            get_renderable=self._view,
            console=self.console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )
        self._live = CellView(self._page) if notebook else live

    def __enter__(self) -> Progress:
        self._open.enter_context(listening(self.report))
        if self.alive and not self.console.quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._open.close()
        standing = self.watched.standing()
        if isinstance(problem, KeyboardInterrupt) and str(problem) and standing:
            raise KeyboardInterrupt(f"{standing}; {problem}") from None

    def report(self, kind: str, record: dict[str, Any]) -> None:
        """Take what is told; by several threads."""
        with self._lock:
            self.watched.take(kind, record)
            # The images of many finds of a study are the same, and so is what is worth knowing of them.
            notes = [note for note in _notes(kind, record) if self._is_new(f"{record.get('name')}: {note}")]
            lines = [f"{self._stamp()}{line}" for line in self._lines(kind, record)]
            if lines:
                self.last = time.monotonic()
        # Outside of the lock: who prints waits for the view that is being drawn, which waits for the lock.
        for line in [*notes, *lines]:
            self.console.print(line, markup=False, soft_wrap=not self.alive)
        if isinstance(self._live, CellView):
            self._live.refresh()

    def _lines(self, kind: str, record: dict[str, Any]) -> Iterator[str]:
        """Yield what is said of an event where nothing is drawn; what is drawn anyway is said on request only."""
        seen, unit = self.watched, record.get("unit", "")
        if kind == "busy":
            line = f"{short(unit)}: {printable(record['who'], 1000)}; waiting for it"
            if self._is_new(line):
                yield line
        elif self.alive and not self.verbose:
            return
        elif kind == "doing":
            if seen.doing != self.doing:
                self.doing = seen.doing
                yield seen.doing
        elif kind == "ladder":
            yield f"ladder: {printable(record['source'])}, {record['method']}, {record['levels']} levels"
        elif kind == "dense":
            yield f"dense: {_figures(record)}"
        elif kind == "level":
            verdict: str = answer_of(record)
            if "adversarial" not in record:
                verdict = "rejected on validation images, adversarial transfer left out"
            yield f"level {record['level']} ({percent(record['sparsity'])} %): {_figures(record)}: {verdict}"
        elif kind == "control":
            yield f"{record['method']} control: {_figures(record)}"
        elif kind == "radius":
            yield f"dense after standard transfer: RA {percent(record['RA'])} % at eps {record['eps']:.4g}"
        elif kind == "cell":
            yield f"cell {seen.cell}"
        elif kind == "failed":
            yield f"cell {printable(record['cell'])} failed: {printable(record['why'], 1000)}"
        elif kind == "look" and not record["finished"]:
            yield f"{unit}: minutes of attacks on the networks behind the verdict"
        elif kind == "unit" and record["finished"]:
            yield f"{short(unit)}: done before"
        elif kind == "ended":
            yield f"{short(unit)}: done; {self._overall_words()}"
        elif kind == "epoch" and (self.verbose or record["epoch"] == record["epochs"]):
            yield _epoch(record)
        elif kind == "stage" and self.verbose:
            yield f"{short(unit)}: {printable(record['what'])}"
        elif time.monotonic() - self.last >= HEARTBEAT:
            yield "; ".join([self._overall_words(), *(_at_work(network) for network in seen.networks.values())])

    def _is_new(self, line: str) -> bool:
        """Whether a line was not said before; from now on it was."""
        known = line in self.said
        self.said.add(line)
        return not known

    def _stamp(self) -> str:
        return "" if self.alive else time.strftime("%Y-%m-%d %H:%M:%S ")

    @property
    def _bound(self) -> str:
        return "at most" if self.console.options.ascii_only else "≤"  # what has no such sign would show a longer one

    def _overall_words(self) -> str:
        seen = self.watched
        times = clock_time(seen.clock() - seen.began)
        left = seen.left()
        if left is not None:
            times += f", {self._bound + ' ' if seen.plan.get('at_most') else ''}{clock_time(left)} left"
        return f"{seen.title(self._bound)}, {times}"

    def _page(self) -> str:
        return as_html(lambda console: console.print(self._view()))

    def _view(self) -> RenderableType:
        with self._lock:
            bars = [self._bar(), *self._networks()]
            if self.watched.dense is None:
                return Group(*bars)
            taken = len(self.console.render_lines(Group(*bars), pad=False))
            return Group(self._levels(self.console.height - taken - 1), *bars)

    def _bar(self) -> RenderableType:
        share = self.watched.share()
        self._overall.update(self._task, completed=share or 0.0, total=None if share is None else 1.0)
        words = Text(self._overall_words())
        if words.cell_len + 12 > self.console.width:
            return Group(words, self._overall.get_renderable())
        line = Table.grid(expand=True, padding=(0, 1, 0, 0))
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_row(words, self._overall.get_renderable())
        return line

    def _networks(self) -> list[RenderableType]:
        networks = list(self.watched.networks.values())
        if not networks:
            return []
        now = self.watched.clock()
        for with_bars in (True, False):
            table = network_table(networks, now, with_bars)
            if fits(self.console, table):
                return [table]
        return [stacked(table, self.console.width)]

    def _levels(self, height: int) -> RenderableType:
        """Return the table of levels; on a low screen with those that were told of last."""
        from lottery_hub.reporting.screen import levels_table  # not with the module: a first line waits for nothing

        seen = self.watched
        for shown in range(len(seen.levels), 0, -1):
            view = fitted(self.console, levels_table(seen.dense, seen.levels[-shown:], seen.controls))
            if len(self.console.render_lines(view, pad=False)) <= height:
                return view
        view = fitted(self.console, levels_table(seen.dense, [], []))
        return view if len(self.console.render_lines(view, pad=False)) <= height else Text("")


def network_table(networks: Iterable[Network], now: float, with_bars: bool) -> Table:
    """Return a row for each network at work."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("at work", no_wrap=True)
    table.add_column("epoch", no_wrap=True)
    for column in ("loss", "val. SA/RA", "images/s", "passed", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    if with_bars:
        table.add_column("", width=BAR, no_wrap=True)
    for network in networks:
        cells = [Text(cell) for cell in _cells(network, now)]
        bar = ProgressBar(total=1.0, completed=network.share() or 0.0, width=BAR)
        table.add_row(*cells, *([bar] if with_bars else []))
    return table


def _cells(network: Network, now: float) -> list[str]:
    last, rate = network.last, network.rate(now)
    known = last.get("validation_SA") is not None
    return [
        network.name,
        _place(network),
        f"{last['loss']:.3f}" if "loss" in last else "–",
        f"{percent(last['validation_SA'])}/{percent(last.get('validation_RA'))}" if known else "–",
        "–" if rate is None else f"{rate:,.0f}",
        clock_time(now - network.began),
        clock_time(network.left(now)),
    ]


def _place(network: Network) -> str:
    """Return where in its work a network is: `3/10`, `10/10, test`, or what it is at."""
    stage = "val." if network.stage == "validation" else network.stage
    epoch = f"{network.epoch}/{network.epochs}" if network.epochs else ""
    return ", ".join(filter(None, (epoch, stage))) or "–"


def _notes(kind: str, record: dict[str, Any]) -> list[str]:
    """Return how images were made to fit, and what else is worth a line whatever is shown."""
    lines = record["notes"] if kind == "data" else record["lines"] if kind == "notes" else ()
    return [f"note: {printable(line, 1000)}" for line in lines]


def _at_work(network: Network) -> str:
    now = time.monotonic()
    name, epoch, loss, accuracies, rate, passed, left = _cells(network, now)
    at = f"epoch {epoch}" if network.epochs else epoch
    return f"{name}: {at}, loss {loss}, validation SA/RA {accuracies}, {rate} images/s, {passed}, {left} left"


def _epoch(record: dict[str, Any]) -> str:
    shown = [f"{name} {percent(record.get(f'validation_{name}'))}" for name in ("SA", "RA")]
    validation = f", validation {' '.join(shown)}" if record.get("validation_SA") is not None else ""
    rate = record["images"] / max(record["seconds"], 1e-9)
    epoch = f"epoch {record['epoch']}/{record['epochs']}, loss {record['loss']:.3f}"
    return f"{short(record['unit'])}: {epoch}{validation}, {rate:,.0f} images/s"


def _figures(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{regime} {figure} {percent(record[regime][figure])}" for regime, figure in NAMES if regime in record
    )
