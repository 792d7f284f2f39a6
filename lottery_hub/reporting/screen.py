"""What a person sees while a command works and when it is done. Progress goes to stderr."""

from __future__ import annotations

import io
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lottery_hub.errors import printable
from lottery_hub.judging.choosing import wins
from lottery_hub.judging.deciding import verdict_runs
from lottery_hub.reporting.narrow import fitted, least_width
from lottery_hub.reporting.notebook import CellView
from lottery_hub.settings.paths import path_of
from lottery_hub.values import percent as percent

COLUMNS = (("standard", "SA"), ("standard", "RA"), ("adversarial", "SA"), ("adversarial", "RA"))


SHORT = {"standard": "std", "adversarial": "adv"}
WIDTH = 100  # of text that is printed nowhere
HTML = '<pre style="line-height:normal;font-family:Menlo,Consolas,monospace;background:none">{code}</pre>'
CAPTION = "in %; std, adv: after standard, adversarial transfer"


class Decoding:
    """Told how many images are decoded, says so now and then on stderr, and what time is left."""

    EVERY = 5.0  # seconds

    def __init__(self, shown: bool | None = True) -> None:
        """Args: shown: whether at all; None where a terminal watches."""
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._began = self._last = time.monotonic()
        self._before = 0

    def __call__(self, ready: int, total: int) -> None:
        now = time.monotonic()
        if not self._before:
            self._began, self._before = now, ready  # what a run before this one has decoded comes at once
        if not self._shown or (now - self._last < self.EVERY and ready < total):
            return
        self._last = now
        rate = (ready - self._before) / max(now - self._began, 1e-9)
        left = f", {(total - ready) / rate / 60:.0f} minutes left" if rate and ready < total else ""
        print(f"decoding images: {ready:,} of {total:,}{left}", file=sys.stderr, flush=True)


def print_table(console: Console, table: Table) -> None:
    """Print a table with every figure whole: a terminal too narrow for it has its rows stacked, a file none cut."""
    screen = console.width
    if not console.is_terminal:
        console.width = max(screen, least_width(console, table))
    console.print(fitted(console, table))
    console.width = screen


def levels_table(dense: dict[str, Any] | None, levels: list[dict[str, Any]], controls: list[dict[str, Any]]) -> Table:
    """Return the table of a find: dense, then each level tried, then the controls; failing figures in red.

    What cannot be told is yellow. By a margin, `valid.` is the share of resamples in which a level lies inside.
    """
    inside = any("inside" in row["validation"] for row in levels)
    about = (
        "valid.: how surely inside the frontier; test: the answer"
        if inside
        else "valid., test: double win on those images"
    )
    table = _figures_table(f"{CAPTION}; {about}", "level")
    table.add_column("valid.", no_wrap=True)
    table.add_column("test", no_wrap=True)
    if dense is not None:
        table.add_row("dense", "0.00", *(percent(dense[regime][figure]) for regime, figure in COLUMNS), "", "")
    for row in [*sorted(levels, key=lambda row: int(row["level"])), *controls]:
        test = _answer(row) if "adversarial" in row else "–"
        held_out = row["validation"]
        valid = Text(f"{held_out['inside'] * 100:.0f} %") if "inside" in held_out else _answer(held_out)
        verdicts = (valid, test)
        table.add_row(str(row.get("level", row.get("method"))), percent(row["sparsity"]), *_cells(row), *verdicts)
    return table


def verdict_table(summary: dict[str, Any]) -> Table:
    """Return the four figures of the level that was picked: dense, ticket and their difference on test images."""
    dense, chosen = verdict_runs(summary)
    seeds = [run["seed"] for run in chosen["standard"]["seeds"]]
    caption = f"in %, on test images, of which one is {100 / summary['samples']:.2f}"
    caption += "; in brackets the 95 % interval of the difference"
    if len(seeds) > 1:
        caption += f"; ±: one deviation over {len(seeds)} seeds"
    if "confirmed" in summary:
        caption += f", {seeds[0]} to {seeds[-1]}, which had no part in picking the level"
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, caption=caption, caption_justify="left")
    table.add_column(f"level {summary['level']}", no_wrap=True)
    for name in ("dense", "ticket", "difference", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("match", no_wrap=True)
    for row in chosen["figures"]:
        regime, figure = row["regime"], row["figure"]
        low, high = (percent(bound) for bound in row["interval"])
        table.add_row(
            f"{SHORT[regime]} {figure}",
            _with_deviation(row["dense"], dense[regime]["deviation"][figure]),
            _with_deviation(row["ticket"], chosen[regime]["deviation"][figure]),
            f"{percent(row['ticket'] - row['dense'])} ({low}, {high})",
            percent(row["tolerance"]),
            _match(row),
        )
    return table


def _with_deviation(mean: float, deviation: float | None) -> str:
    return percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"


def fractions_table(summaries: list[dict[str, Any]]) -> Table:
    """Return one table of several finds: for each fraction of the training images dense, ticket and verdict."""
    table = _figures_table(CAPTION, "fraction")
    table.add_column("double win", no_wrap=True)
    for summary in summaries:
        dense = summary["dense"]
        (row,) = (row for row in summary["levels"] if row["level"] == summary["level"])
        shown = f"{summary['fraction']:g}"
        table.add_row(shown, "0.00", *(percent(dense[regime][figure]) for regime, figure in COLUMNS), "")
        table.add_row("", percent(row["sparsity"]), *_cells(row), _answer(summary), end_section=True)
    return table


def words_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table of words, the first of which may be long."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in header:
        table.add_column(column, justify="right" if column.endswith("%") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def corruptions_table(correct: dict[str, list[int]], samples: int) -> Table:
    """Return the accuracies under common corruptions: a row each, a column for each severity."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, caption=f"accuracy %, {samples} test images")
    table.add_column("corruption")
    for severity in range(1, 6):
        table.add_column(f"severity {severity}" if severity == 1 else str(severity), justify="right")
    table.add_column("mean", justify="right")
    for kind, counts in correct.items():
        shares = [count / samples for count in counts]
        table.add_row(kind.replace("_", " "), *map(percent, [*shares, sum(shares) / len(shares)]))
    return table


def looks_lines(scrutiny: dict[str, Any]) -> list[str]:
    """Return what closer looks at ticket and dense found, a line each: corruptions, and attacks in other norms."""
    lines = []
    if "corruptions" in scrutiny:
        look = scrutiny["corruptions"]
        means = {name: network["mean"] for name, network in look["networks"].items()}
        lines.append(f"under corruptions, mean SA {_side_by_side(means)} ({look['samples']} test images)")
    if "unseen" in scrutiny:
        look = scrutiny["unseen"]
        for rows in zip(*look["networks"].values(), strict=True):
            shares = {name: row["RA"] for name, row in zip(look["networks"], rows, strict=True)}
            lines.append(f"RA by {rows[0]['attack']} {_side_by_side(shares)} ({look['samples']} test images)")
    return lines


def _side_by_side(shares: dict[str, float]) -> str:
    return ", ".join(
        f"{percent(shares[f'ticket-{regime}-seed-0'])} % after {regime} transfer "
        f"(dense {percent(shares[f'dense-{regime}-seed-0'])} %)"
        for regime in SHORT
    )


def _figures_table(caption: str, first: str) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, caption=caption, caption_justify="left")
    table.add_column(first, justify="right", no_wrap=True)
    table.add_column("sparsity", justify="right", no_wrap=True)
    for regime, figure in COLUMNS:
        table.add_column(f"{SHORT[regime]} {figure}", justify="right", no_wrap=True)
    return table


def _cells(row: dict[str, Any]) -> list[Text]:
    styles = {(figure["regime"], figure["figure"]): _match(figure).style for figure in row["figures"]}
    return [
        Text(percent(row[regime][figure]), style="" if styles[regime, figure] == GREEN else styles[regime, figure])
        if regime in row
        else Text("–")
        for regime, figure in COLUMNS
    ]


GREEN = "bold green"
STYLES = {"yes": GREEN, "no": "red", "undecided": "yellow", "uninformative": "dim"}


def _answer(verdict: dict[str, Any]) -> Text:
    """Return whether it is a double win: yes, no, or that it is undecided."""
    words = {"double win": "yes", "no double win": "no"}
    word = "yes" if verdict["double_win"] else "no"
    word = words.get(verdict["answer"], verdict["answer"]) if "answer" in verdict else word
    return Text(word, style=STYLES[word])


def _match(figure: dict[str, Any]) -> Text:
    """Return whether a figure matches: yes, no, that it is undecided, or that it says nothing."""
    words = {"matching": "yes", "worse": "no"}
    word = "yes" if figure["matching"] else "no"
    word = words.get(figure["answer"], figure["answer"]) if "answer" in figure else word
    return Text(word, style=STYLES[word])


def print_find(console: Console, summary: dict[str, Any], about: str) -> None:
    """Print what a find says: the levels tried, the four figures of the one that was picked, and the verdict."""
    print_table(console, levels_table(summary["dense"], summary["levels"], summary["controls"]))
    print_table(console, verdict_table(summary))
    count = len(verdict_runs(summary)[1]["standard"]["seeds"])
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    rule = summary["tolerance"] if "margin" in summary else f"tolerance {summary['tolerance']}"
    weaker = f" (after standard transfer {summary['standard_attack']})" if "standard_attack" in summary else ""
    conditions = f"{summary['samples']} test images, {seeds}, RA by {summary['attack']}{weaker}, {rule}"
    console.print(f"{about}: {conditions}", style="dim", highlight=False, markup=False, soft_wrap=True)
    seen = summary["scrutiny"].get("checks")
    if seen:
        ours, strong = (percent(row["RA"]) for row in seen["attacks"])
        words = "all checks of masked gradients passed" if seen["passed"] else "CHECKS OF MASKED GRADIENTS FAILED"
        about = f"RA {strong} % by AutoAttack where the verdict's attack finds {ours} % ({seen['samples']} test images)"
        console.print(
            f"{about}; {words}", style=None if seen["passed"] else "bold red", highlight=False, soft_wrap=True
        )
    for line in looks_lines(summary["scrutiny"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for caveat in summary["caveats"]:
        console.print(f"caveat: {caveat}", style="yellow", highlight=False, soft_wrap=True)
    (chosen,) = (row for row in summary["levels"] if row["level"] == summary["level"])
    level = f"level {summary['level']}, picked on {summary['validation_samples']} validation images"
    if not wins(chosen):
        level += ", where none wins" if "margin" not in summary else ", where none is surely inside"
    if "frontier" in summary:
        console.print(frontier_line(summary["frontier"]), highlight=False, soft_wrap=True)
    if summary["double_win"]:
        found = f"Double win at {percent(summary['sparsity'])} % sparsity ({level}){_counted(summary)}."
        console.print(found, style="bold green", highlight=False, soft_wrap=True)
    elif summary.get("answer") == "undecided":
        saved = f"Undecided: saved {level}, {percent(summary['sparsity'])} %{_counted(summary)}. "
        saved += f"What would decide it, if the differences stay where they are: {summary['would_decide']}."
        console.print(saved, style="bold yellow", highlight=False, soft_wrap=True)
    else:
        saved = f"No double win: saved {level}, {percent(summary['sparsity'])} %, marked as such."
        console.print(saved, style="bold red", highlight=False, soft_wrap=True)
    console.print(f"ticket: {summary['ticket']}", highlight=False, markup=False, soft_wrap=True)


def _counted(summary: dict[str, Any]) -> str:
    """Return which figures do not count, in words; nothing where all do."""
    figures = verdict_runs(summary)[1]["figures"]
    lacking = [f"{SHORT[row['regime']]} {row['figure']}" for row in figures if row.get("answer") == "uninformative"]
    counted = len(figures) - len(lacking)
    return f", on {counted} of {len(figures)} figures: {' and '.join(lacking)} is uninformative" if lacking else ""


def frontier_line(frontier: dict[str, Any]) -> str:
    """Return up to which sparsity tickets are within the margin, in words."""
    low, high = (percent(end) for end in frontier["interval"])
    least = "at least " if frontier["beyond"] else ""
    return f"frontier: within the margin up to {least}{percent(frontier['sparsity'])} % sparsity ({low} to {high})"


def print_next(directory: object, dataset: str, *, judged: bool = False) -> None:
    """Print what one does next with the network that a run directory holds; `dataset` as it was asked for."""
    ref = shlex.quote(printable(directory, 1000))
    # Nothing is loaded from a folder on the word of records: it is named again.
    where = f" --dataset {shlex.quote(printable(dataset, 1000))}" if path_of(dataset).is_dir() else ""
    print("next:")
    print(f"  lottery-hub predict {ref} IMAGE")
    print(f"  lottery-hub evaluate {ref}{where}")
    print(f"  lottery-hub export {ref} --format onnx --output net.onnx")
    print(f"  lottery-hub push {ref} USER/NAME{where if judged else ''}")
    if judged:
        print("these take the network after adversarial transfer, seed 0; --regime and --trained-seed choose another")


class Working:
    """What is at work, on one line of stderr that changes; a line each where that is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.status = self.console.status("")

    def __enter__(self) -> Working:
        return self

    def tell(self, line: str) -> None:
        """Say what is at work now."""
        if self.console.is_terminal:
            self.status.start()
            self.status.update(Text(printable(line)))
        else:
            self.console.print(printable(line), markup=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status.stop()


def as_text(printed: Callable[[Console], None]) -> str:
    """Return what is printed as plain text."""
    console = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, width=WIDTH)
    with console.capture() as capture:
        printed(console)
    return capture.get()


def as_html(printed: Callable[[Console], None]) -> str:
    """Return what is printed as a piece of a page, in colour."""
    console = Console(file=io.StringIO(), record=True, force_terminal=True, force_jupyter=False, width=WIDTH)
    printed(console)
    return console.export_html(inline_styles=True, code_format=HTML)


class Progress:
    """A live view of a run: the table so far and the unit at work; plain lines where it is no terminal or notebook."""

    def __init__(self, shown: bool | None = True) -> None:
        """Args: shown: whether at all; None where somebody watches."""
        self.console = Console(stderr=True)
        notebook = self.console.is_jupyter
        self.alive = notebook or self.console.is_terminal
        self.console.quiet = not (self.alive if shown is None else shown)
        self.dense: dict[str, Any] | None = None
        self.levels: list[dict[str, Any]] = []
        self.controls: list[dict[str, Any]] = []
        self.busy: set[str] = set()
        self.line = "starting"
        self.began = time.monotonic()
        live = Live(get_renderable=self._view, console=self.console, refresh_per_second=4, transient=True)
        self.live = CellView(self._page) if notebook else live

    def __enter__(self) -> Progress:
        if self.alive and not self.console.quiet:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def notes(self, lines: Iterable[str]) -> None:
        """Say how images were made to fit, and what else is worth a line."""
        for line in lines:
            self.console.print(f"note: {printable(line, 1000)}", highlight=False, markup=False, soft_wrap=True)

    def report(self, kind: str, record: dict[str, Any]) -> None:
        """Take what a run tells."""
        if kind == "ladder":
            source, method = printable(record["source"]), record["method"]
            self._say(f"ladder: {source}, {method}, {record['levels']} levels")
        elif kind == "data":
            self.notes(record["notes"])
        elif kind == "dense":
            self.dense = record
            self._say(f"dense: {_figures(record)}")
        elif kind == "level":
            self.levels = [row for row in self.levels if row["level"] != record["level"]] + [record]
            verdict = record.get("answer", "double win" if record["double_win"] else "no double win")
            if "adversarial" not in record:
                verdict = "rejected on validation images, adversarial transfer left out"
            self._say(f"level {record['level']} ({percent(record['sparsity'])} %): {_figures(record)}: {verdict}")
        elif kind == "control":
            self.controls.append(record)
            self._say(f"{record['method']} control: {_figures(record)}")
        elif kind == "radius":
            self._say(f"dense after standard transfer: RA {percent(record['RA'])} % at eps {record['eps']:.4g}")
        elif kind == "cell":
            self.dense, self.levels, self.controls = None, [], []
            self._say(f"cell {printable(record['cell'])}")
        elif kind == "failed":
            self._say(f"cell {printable(record['cell'])} failed: {printable(record['why'], 1000)}")
        elif kind == "look" and not record["finished"]:
            self._say(f"{record['unit']}: minutes of attacks on the networks behind the verdict")
        elif kind == "unit" and record["finished"]:
            self._say(f"{record['unit']}: done before")
        elif kind == "busy":
            line = f"{record['unit']}: {record['who']}; waiting for it"
            if line not in self.busy:
                self.busy.add(line)
                self._say(line)
        elif kind == "unit":
            self.line = f"{record['unit']}: first epoch"
        elif kind in ("epoch", "draw"):
            what = f"level {record['level']} of {record['of']}" if kind == "draw" else record["unit"]
            self.line = (
                f"{what}: epoch {record['epoch']}/{record['epochs']}, loss {record['loss']:.3f}{_validation(record)}, "
                f"{record['images'] / max(record['seconds'], 1e-9):.0f} images/s"
            )
            if not self.alive and record["epoch"] == record["epochs"]:
                self._say(self.line)
        if isinstance(self.live, CellView):
            self.live.refresh()

    def _say(self, line: str) -> None:
        self.line = line
        if not self.alive:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _page(self) -> str:
        return as_html(lambda console: console.print(self._view()))

    def _view(self) -> RenderableType:
        passed = time.monotonic() - self.began
        line = Text(f"{passed // 60:.0f}:{passed % 60:02.0f}  {self.line}", style="dim")
        if self.dense is None:
            return line
        return Group(fitted(self.console, levels_table(self.dense, self.levels, self.controls)), line)


def _validation(record: dict[str, Any]) -> str:
    shown = [f"{name} {percent(record.get(f'validation_{name}'))}" for name in ("SA", "RA")]
    return f", validation {' '.join(shown)}" if record.get("validation_SA") is not None else ""


def _figures(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{regime} {figure} {percent(record[regime][figure])}" for regime, figure in COLUMNS if regime in record
    )
