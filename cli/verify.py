"""`lottery-hub verify`: whether a ticket is what its card says."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options

NOT_VERIFIED, CANNOT_TELL = 1, 3


def verify_command(
    ref: options.Ref,
    dataset: Annotated[
        str | None, typer.Option(help="Where its images are, if not under the recorded name.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Measure on so many test images; on all unless given.", show_default=False),
    ] = None,
    ladder: Annotated[
        str | None, typer.Option(help="The ladder it was taken from, if not a packaged one.", show_default=False)
    ] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Train again as recorded, with the first seed (minutes to hours).")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the Hub's dataset that its records name, if it is no named one.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Compute what its records ask for, however much it is.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Check a ticket against its card: files, records, origin, and its figures measured again.

    Exit code 0: verified; 1: not verified; 3: it cannot be told from here.
    """
    from dataclasses import asdict

    from rich.console import Console

    from lottery_hub.errors import printable
    from lottery_hub.reporting.showing import showing

    with showing("reading the ticket"):
        from lottery_hub.settings.environment import choose_device
        from lottery_hub.sharing.pulling import pull
        from lottery_hub.verifying import verdict_of, verify

        chosen = choose_device(device)
        pulled = pull(ref, models=True)
        findings = verify(
            pulled,
            dataset=dataset,
            ladder=pull(ladder, wanted="ladder").folder if ladder else None,
            sample=sample,
            rerun=rerun,
            fetch=fetch,
            long=long,
            device=chosen,
        )
    answer = verdict_of(findings)
    if as_json:
        options.emit(
            {"verdict": answer, "commit": pulled.commit, "findings": [asdict(finding) for finding in findings]}
        )
    else:
        styles = {"verified": "green", "not verified": "bold red", "cannot tell": "yellow"}
        console = Console(highlight=False)
        for finding in findings:
            console.print(f"{finding.question:9}", end="")
            console.print(f"{finding.answer:13}", style=styles[finding.answer], end="")
            console.print(printable(finding.why, 400), markup=False, soft_wrap=not console.is_terminal)
        console.print(answer, style=styles[answer])
    if answer != "verified":
        raise typer.Exit(NOT_VERIFIED if answer == "not verified" else CANNOT_TELL)
