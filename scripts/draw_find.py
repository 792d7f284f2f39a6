"""Draws the picture of the README from the records of a find, which are kept beside it.

python scripts/draw_find.py                  docs/find/curve.svg, from docs/find/results.json
python scripts/draw_find.py tickets/mine     the same, of that find, whose records it copies first
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from lottery_hub.reporting.plots import curve

PLACE = Path(__file__).parent.parent / "docs" / "find"
RECORDS, DRAWN = PLACE / "results.json", PLACE / "curve.svg"


def main() -> None:
    """Draw the picture, and print what is to be seen in it: the README's text for who cannot see it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run directory")
    run = parser.parse_args().run
    if run is not None:
        PLACE.mkdir(exist_ok=True)
        shutil.copyfile(run / "ticket" / "results.json", RECORDS)
    picture = curve(json.loads(RECORDS.read_text(encoding="utf-8")))
    picture.save(DRAWN)
    print(picture.told)


if __name__ == "__main__":
    main()
