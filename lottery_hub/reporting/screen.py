"""What a person sees when a command is done: tables and lines; what goes on meanwhile is in `progress`."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lottery_hub.errors import printable
from lottery_hub.judging.choosing import wins
from lottery_hub.judging.deciding import NOTHING, attack_behind, counted, frontier_of, tells_nothing, verdict_runs
from lottery_hub.reporting.narrow import fitted, least_width, print_line, print_words
from lottery_hub.reporting.notebook import WIDTH
from lottery_hub.reporting.notebook import as_html as as_html
from lottery_hub.settings.answers import DOUBLE_WIN, NO_DOUBLE_WIN, NOT_JUDGED, UNDECIDED, answer_of
from lottery_hub.settings.paths import path_of
from lottery_hub.values import percent as percent

COLUMNS = (("standard", "SA"), ("standard", "RA"), ("adversarial", "SA"), ("adversarial", "RA"))


SHORT = {"standard": "std", "adversarial": "adv"}
CAPTION = "in %; std, adv: after standard, adversarial transfer"


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


def verdict_table(summary: dict[str, Any], asked: bool = False) -> Table:
    """Return the four figures of the level that was picked: dense, ticket and their difference on test images."""
    dense, chosen = verdict_runs(summary)
    seeds = [run["seed"] for run in chosen["standard"]["seeds"]]
    caption = f"in %, on test images, of which one is {100 / summary['samples']:.2f}"
    caption += "; in brackets the 95 % interval of the difference"
    if len(seeds) > 1:
        caption += f"; ±: one deviation over {len(seeds)} seeds"
    if "confirmed" in summary:
        caption += f", {seeds[0]} to {seeds[-1]}{'' if asked else ', which had no part in picking the level'}"
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, caption=caption, caption_justify="left")
    table.add_column(f"level {summary['level']}", no_wrap=True)
    for name in ("dense", "ticket", "difference", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("match", no_wrap=True)
    for row in chosen["figures"]:
        regime, figure = row["regime"], row["figure"]
        # Of records that kept no single images there is none.
        ends = f" ({', '.join(percent(bound) for bound in row['interval'])})" if row["interval"] else ""
        table.add_row(
            f"{SHORT[regime]} {figure}",
            _with_deviation(row["dense"], dense[regime]["deviation"][figure]),
            _with_deviation(row["ticket"], chosen[regime]["deviation"][figure]),
            f"{percent(row['ticket'] - row['dense'])}{ends}",
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


def short(answer: str) -> str:
    """Return whether it is a double win: yes, no, that it is undecided, or a dash where nobody judged."""
    words: dict[str, str] = {DOUBLE_WIN: "yes", NO_DOUBLE_WIN: "no", NOT_JUDGED: "–"}
    return words.get(answer, answer)


def _answer(verdict: dict[str, Any]) -> Text:
    word = short(answer_of(verdict))
    return Text(word, style=STYLES[word])


def _match(figure: dict[str, Any]) -> Text:
    """Return whether a figure matches: yes, no, that it is undecided, or that it says nothing."""
    words = {"matching": "yes", "worse": "no"}
    word = "yes" if figure["matching"] else "no"
    word = words.get(figure["answer"], figure["answer"]) if "answer" in figure else word
    return Text(word, style=STYLES[word])


def print_find(console: Console, summary: dict[str, Any], about: str) -> None:
    """Print what a find says, and where its ticket is."""
    print_verdict(console, summary, about, bool(summary.get("asked_for")))
    print_line(console, f"ticket: {summary['ticket']}")


def print_verdict(console: Console, summary: dict[str, Any], about: str, asked: bool) -> None:
    """Print a verdict: the levels tried, the four figures of the one that was picked or asked for, and the answer.

    The words of records, which may be a stranger's, are escaped.
    """
    print_table(console, levels_table(summary["dense"], summary["levels"], summary["controls"]))
    print_table(console, verdict_table(summary, asked))
    count = len(verdict_runs(summary)[1]["standard"]["seeds"])
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    rule = summary["tolerance"] if "margin" in summary else f"tolerance {summary['tolerance']}"
    share = f"{percent(summary['fraction'])} % of the training images, " if summary["fraction"] != 1 else ""
    conditions = f"{share}{summary['samples']} test images, {seeds}, RA by {attack_behind(summary)}, {rule}"
    print_words(console, printable(f"{about}: {conditions}", 1000), "dim")
    seen = summary["scrutiny"].get("checks")
    if seen:
        ours, strong = (percent(row["RA"]) for row in seen["attacks"])
        words = "all checks of masked gradients passed" if seen["passed"] else "CHECKS OF MASKED GRADIENTS FAILED"
        about = f"RA {strong} % by AutoAttack where the verdict's attack finds {ours} % ({seen['samples']} test images)"
        print_words(console, f"{about}; {words}", None if seen["passed"] else "bold red")
    for line in looks_lines(summary["scrutiny"]):
        print_words(console, printable(line, 1000))
    for caveat in summary["caveats"]:
        print_words(console, f"caveat: {printable(caveat, 1000)}", "yellow")
    (chosen,) = (row for row in summary["levels"] if row["level"] == summary["level"])
    images = summary["validation_samples"]
    level = f"level {summary['level']}, {'as asked for' if asked else f'picked on {images} validation images'}"
    if not asked and not wins(chosen):
        level += ", where none wins" if "margin" not in summary else ", where none is surely inside"
    where = frontier_of(summary)
    if where:
        print_words(console, frontier_line(where))
    answer = answer_of(summary)
    if answer == DOUBLE_WIN:
        found = f"Double win at {percent(summary['sparsity'])} % sparsity ({level}){_counted(summary)}."
        print_words(console, found, "bold green")
    elif answer == UNDECIDED:
        found = f"Undecided at {percent(summary['sparsity'])} % sparsity ({level})"
        if tells_nothing(summary):
            found += f". There is {NOTHING}."
        else:
            found += f"{_counted(summary)}. What would decide it, if the differences stay where they are: "
            found += f"{printable(summary['would_decide'], 1000)}."
        print_words(console, found, "bold yellow")
    else:
        found = f"No double win at {percent(summary['sparsity'])} % sparsity ({level}); the ticket is marked as such."
        print_words(console, found, "bold red")


def _counted(summary: dict[str, Any]) -> str:
    """Return which figures do not count, in words; nothing where all do."""
    figures = verdict_runs(summary)[1]["figures"]
    lacking = [f"{SHORT[row['regime']]} {row['figure']}" for row in figures if row.get("answer") == "uninformative"]
    telling, of = counted(summary)
    are = "is" if len(lacking) == 1 else "are"
    return f", on {telling} of {of} figures: {' and '.join(lacking)} {are} uninformative" if lacking else ""


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


def as_text(printed: Callable[[Console], None]) -> str:
    """Return what is printed as plain text."""
    console = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, width=WIDTH)
    with console.capture() as capture:
        printed(console)
    return capture.get()
