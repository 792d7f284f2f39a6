"""Copies the ticket of a finished find into the package, under a name by which everybody then has it.

    python scripts/package_ticket.py tickets/mine cifar10-resnet18-slim-adv
    python scripts/package_ticket.py --render    makes the cards of all that is packaged anew, from their records

Nothing is trained or measured. What is copied is what `lottery-hub push` would publish: records, the ticket, the
networks that were trained from it with seed 0, and the pictures that its card shows; the dense copy for timm and the
report page stay out. The card goes to model_cards/ too.
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import product
from pathlib import Path
from typing import get_args

from lottery_hub.errors import LotteryHubError, TicketError
from lottery_hub.networks.backbones import ARCHITECTURES
from lottery_hub.networks.tickets import Ticket
from lottery_hub.reporting.cards import render_card
from lottery_hub.reporting.ladder_cards import render_ladder_card
from lottery_hub.settings.config import Kind
from lottery_hub.sharing.publishing import PAGE, prepare
from lottery_hub.sharing.sources import packaged_name
from lottery_hub.storage import atomic
from lottery_hub.storage.folder import CARD, CONFIG, find_folder, load_ladder, load_ticket, read_about, trained_folders
from lottery_hub.storage.ownership import is_our_card, leave
from lottery_hub.storage.places import DEPLOYED

ROOT = Path(__file__).parent.parent
PACKAGED, CARDS = Path("lottery_hub", "packaged"), Path("model_cards")
NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run directory, or the ticket folder in it")
    parser.add_argument("name", nargs="?", help="of the ticket from now on, e.g. cifar10-resnet18-slim-adv")
    parser.add_argument("--no-checks", action="store_true", help="take a verdict that nobody has looked at closer too")
    parser.add_argument("--render", action="store_true", help="make the cards of what is packaged anew, and no more")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout that holds the package")
    options = parser.parse_args()
    if options.render != (options.name is None):
        parser.error("give a run directory and a name, or --render alone")
    if options.render:
        render(options.root)
        return
    files = contents(find_folder(options.run), options.name, checks=not options.no_checks)
    place = write(files, options.root, options.name)
    print(f"{options.name}: {place}, {len(files)} files, {sum(map(len, files.values())):,} bytes")
    for size, path in sorted(((len(content), path) for path, content in files.items()), reverse=True):
        print(f"{size:12,} {path}")


def contents(folder: Path, name: str, *, checks: bool = True) -> dict[str, bytes]:
    """Return path → contents of the folder that a ticket is packaged as.

    Raises:
        TicketError: it is none that is ready to be used, or the name is taken.
    """
    if not NAME.fullmatch(name) or name in {packaged_name(*each) for each in product(ARCHITECTURES, get_args(Kind))}:
        raise TicketError(f"{name} is no name for a ticket: letters, digits, - and no backbone's, e.g. cifar10-{name}")
    ticket = load_ticket(folder)
    if not ticket.judged:
        raise TicketError(f"{folder} was never judged; package what `lottery-hub find` has written")
    if checks and "checks" not in ticket.records["scrutiny"]:
        raise TicketError(f"{folder} has no figures by AutoAttack: find again with --checks, or add --no-checks")
    if (folder / CARD).exists() and not is_our_card(folder / CARD):
        raise TicketError(
            f"{folder / CARD} was changed by hand, and a packaged card is as it was rendered: move it away"
        )
    if lacking := sorted(set(DEPLOYED) - trained_folders(folder).keys()):
        raise TicketError(f"{folder} lacks the trained network {lacking[0]}; run its find again")
    prepared = prepare(folder, name, timm=False)
    return {path: content for path, content in prepared.files.items() if path != PAGE}


def write(files: dict[str, bytes], root: Path, name: str) -> Path:
    """Write the folder of a ticket and its card; where they are there already nothing is done.

    Raises:
        TicketError: something else is there.
    """
    place, card = root / PACKAGED / name, root / CARDS / f"{name}.md"
    if card.exists() and not is_our_card(card):
        raise TicketError(f"{card} was changed by hand; move it away")
    if place.exists() and _there(place) != files:
        raise TicketError(f"{place} is there already and holds something else; remove it first, if it may go")
    if not place.exists():
        with atomic.new_folder(place) as fresh:
            for path, content in files.items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(content)
    leave(card, card_beside(load_ticket(place), name).encode())
    return place


def card_beside(ticket: Ticket, name: str) -> str:
    """Return the card of a packaged ticket as model_cards/ has it, where its pictures are in another folder."""
    return render_card(ticket, name, beside=f"../{PACKAGED.as_posix()}/{name}/")


def render(root: Path) -> None:
    """Render every card of the package again."""
    for folder in sorted(path.parent for path in (root / PACKAGED).glob(f"*/{CONFIG}")):
        if read_about(folder).content == "ticket":
            ticket = load_ticket(folder)
            leave(folder / CARD, render_card(ticket, folder.name).encode())
            card = card_beside(ticket, folder.name)
        else:
            card = render_ladder_card(load_ladder(folder), folder.name)
        leave(root / CARDS / f"{folder.name}.md", card.encode())


def _there(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


if __name__ == "__main__":
    try:
        main()
    except LotteryHubError as problem:
        sys.exit(f"error: {problem}")
