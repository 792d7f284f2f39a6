"""`lottery-hub cache`: the images of large datasets that are kept decoded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from lottery_hub.images.caching import Kept

app = typer.Typer(help="List or remove the decoded images of large datasets.", no_args_is_help=True)


@app.command("list")
def list_command(as_json: options.Json = False) -> None:
    """List the datasets that are kept decoded, by when they were last used."""
    from lottery_hub.images.caching import cache_folder, kept

    entries = kept()
    if as_json:
        options.emit({"folder": str(cache_folder()), "datasets": [_described(entry) for entry in entries]})
        return
    for entry in entries:
        print(_line(entry))
    print(f"{sum(entry.size for entry in entries) / 1e9:.1f} GB in {cache_folder()}")


@app.command("prune")
def prune_command(
    unused_for: Annotated[int, typer.Option(min=0, max=100_000, help="Only what was not used for so many days.")] = 30,
    as_json: options.Json = False,
) -> None:
    """Remove decoded images; they are decoded again when they are wanted. Trainings that read them go on."""
    from lottery_hub.images.caching import kept, remove

    before = (datetime.now(UTC) - timedelta(days=unused_for)).timestamp()
    removed = [entry for entry in kept() if entry.used <= before]
    for entry in removed:
        remove(entry)
    if as_json:
        options.emit({"removed": [_described(entry) for entry in removed]})
    else:
        for entry in removed:
            print(f"removed {_line(entry)}")
        print(f"{sum(entry.size for entry in removed) / 1e9:.1f} GB removed")


def _described(entry: Kept) -> dict[str, Any]:
    about = entry.about or {}
    return {
        "key": entry.folder.name,
        "name": about.get("name"),
        "whole": entry.about is not None,
        "images": about.get("images"),
        "image_size": about.get("size"),
        "bytes": entry.size,
        "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
    }


def _line(entry: Kept) -> str:
    from lottery_hub.errors import printable

    told = _described(entry)
    what = (
        f"{printable(told['name'])}, {told['images']:,} images of {told['image_size']}x{told['image_size']}"
        if told["whole"]
        else "not whole: what was decoded before it was stopped"
    )
    return f"{told['key'][:12]}  {entry.size / 1e9:8.2f} GB  {told['used'][:10]}  {what}"
