"""The command line: parse, call, print. One file a command group; nothing here computes."""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
import warnings
from typing import TextIO

import typer

from lottery_hub.errors import DamageWarning, LotteryHubError, printable
from lottery_hub.version import __version__

from . import (
    backbones,
    bring,
    cache,
    export,
    find,
    hub,
    listing,
    make,
    predict,
    results,
    see,
    show,
    store,
    study,
    terminal,
    use,
    verify,
    watching,
)

app = typer.Typer(
    help="Find, keep and share double-win lottery tickets: sparse, accurate and robust subnetworks of timm ResNets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("find")(find.find_command)
app.command("study")(study.study_command)
app.command("draw")(make.draw_command)
app.command("pretrain")(make.pretrain_command)
app.command("finetune")(use.finetune_command)
app.command("evaluate")(use.evaluate_command)
app.command("predict")(predict.predict_command)
app.command("show")(show.show_command)
app.command("plot")(see.plot_command)
app.command("report")(see.report_command)
app.command("board")(see.board_command)
app.command("results")(results.results_command)
app.command("export")(export.export_command)
app.command("verify")(verify.verify_command)
app.command("import")(bring.import_command)
app.command("push")(hub.push_command)
app.command("pull")(hub.pull_command)
app.command("search")(hub.search_command)
app.command("list")(listing.list_command)
app.command("backbones")(backbones.backbones_command)
app.add_typer(store.app, name="store")
app.add_typer(cache.app, name="cache")
for group in (app, store.app, cache.app):
    for each in group.registered_commands:
        each.callback = watching.watched(each.callback)


NO_ROOM = (errno.ENOSPC, errno.EPIPE, errno.EDQUOT, errno.EIO)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lottery-hub {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Options that stand before the command."""


def main() -> None:
    """Run the command line: exit code 1 with one line for an error, 2 for wrong usage."""
    terminal.never_fail()
    with warnings.catch_warnings():
        warnings.simplefilter("always", DamageWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata in pictures; what matters is in the notes
        warnings.showwarning = _show_warning
        if "WORLD_SIZE" in os.environ:  # set by torchrun, for one
            _run_together()
        else:
            _run()


def _run_together() -> None:
    """Run the command line in the first of several processes, and what it has others do in the others."""
    from lottery_hub.settings.ranks import joined

    rank = os.environ.get("RANK", "0")
    try:
        with joined() as ranks:
            if ranks.first:
                try:
                    _run()
                finally:
                    ranks.dismiss()
            else:
                ranks.follow()
    except (LotteryHubError, OSError) as problem:
        print(f"error: process {printable(rank, 20)}: {printable(problem, 2000)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(watching.INTERRUPTED)


def _run() -> None:
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # as where it was closed before the start
                sys.stdout.flush()  # what is left, while an error can still be told
    except (LotteryHubError, OSError) as problem:
        # Of the screen alone the system tells no file name.
        if isinstance(problem, OSError) and problem.filename is None and problem.errno in NO_ROOM:
            _end_without_output(problem)
        if "--debug" in sys.argv:
            from lottery_hub.fetching.connection import redacted

            print(redacted(traceback.format_exc()), file=sys.stderr)
        # What the system says against a file or a connection is news to the user, wherever it was met.
        print(f"error: {printable(problem, 2000)}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == watching.INTERRUPTED and threading.active_count() > 1:
            os._exit(watching.INTERRUPTED)  # interrupted a second time, before transfers at work could end
        raise


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of ours as one line, and another's as Python does."""
    ours = issubclass(category, DamageWarning)
    shown = (
        f"warning: {printable(message, 2000)}\n"
        if ours
        else warnings.formatwarning(message, category, filename, lineno, line)
    )
    print(shown, end="", file=file or sys.stderr)


def _end_without_output(problem: OSError) -> None:
    """End with 1 where what is printed or written finds no room; quietly where only the reader has gone."""
    # Else the interpreter would try again as it ends, and print a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if problem.errno != errno.EPIPE:
        print(f"error: cannot write: {problem.strerror}", file=sys.stderr)
    sys.exit(1)
