"""What pictures are drawn on: matplotlib, its one user, set up without global state and imported on first use.

A picture has panels, each of one size. Together they make one figure, for files and cards; on a page each is an SVG of
its own, so that a narrow screen stacks them and no letter shrinks. Colours have names: a page gives them others in the
dark, and a file has those of paper. They are told apart by everybody (Okabe & Ito 2008), and nothing is said by colour
alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lottery_hub.errors import ConfigError, printable
from lottery_hub.settings.paths import place_of
from lottery_hub.storage.ownership import leave
from lottery_hub.storage.signing import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Figure

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
FEW = 4096  # colours of lines and letters with their smooth edges; a photograph has more

# Name → on paper, in the dark. Every pair is told from its ground by 3:1 (lines) or 4.5:1 (words).
COLOURS = {
    "paper": ("#ffffff", "#16191d"),
    "ink": ("#1b1f23", "#e8eaed"),
    "quiet": ("#5b636b", "#a9b1ba"),
    "hair": ("#d9dee3", "#343a41"),
    "wash": ("#e9edf0", "#262b31"),
    "ticket": ("#0065a8", "#58b4f0"),
    "dense": ("#4d545b", "#bcc3ca"),
    "omp": ("#b84d00", "#f2964b"),
    "random": ("#93447c", "#e093c4"),
    "worse": ("#fbe6dc", "#38251b"),
    "edge": ("#b84d01", "#f2964c"),
    "frontier": ("#007a59", "#35c79b"),
    "inside": ("#d6efe6", "#15362d"),
}
# Inches; a panel of this width stands alone on a telephone, and in pairs on a screen.
WIDTH, HEIGHT = 4.5, 2.9
TITLE, LEGEND = 0.3, 0.26

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # names are not formulas
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # words stay words: they are found, read aloud and small
    "svg.hashsalt": "lottery-hub",  # the same picture is the same file
    "pdf.fonttype": 42,
}
_SAFE_ID = re.compile(r'(\bid="|"#|url\(#)([A-Za-z][\w.-]*)')


def paper(name: str) -> str:
    """Return a named colour as it is on paper."""
    return COLOURS[name][0]


def whole_numbers(axis: Axis) -> None:
    """Have an axis label whole numbers alone, and few of them."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=7))


@dataclass(frozen=True)
class Picture:
    """A picture with all that it says in words too.

    Attributes:
        name: by which it is asked for, and the stem of its file.
        title: what it shows, in a few words.
        told: what is to be seen in it, in a sentence or two: the text alternative.
        note: how it is to be read.
        columns, rows: its data as a table, ready to print.
        panels: each draws one panel.
        size: of a panel, in inches.
        margins: of a panel, in inches: left, right, bottom, top.
    """

    name: str
    title: str
    told: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    panels: tuple[Callable[[Axes], None], ...] = field(repr=False)
    size: tuple[float, float] = (WIDTH, HEIGHT)
    margins: tuple[float, float, float, float] = (0.5, 0.2, 0.48, 0.32)

    def figure(self) -> Figure:
        """Return the whole picture as a matplotlib figure: title, panels in pairs, legend."""
        with _styled():
            return _whole(self)

    def save(self, path: Path | str, overwrite: bool = False) -> Path:
        """Write the picture; the name's ending says as what.

        Args:
            path: of the file.
            overwrite: where a file is that is not as this library wrote it, move it aside to `NAME.old`.

        Raises:
            ConfigError: it ends in none of .svg, .png and .pdf.
            TicketError: such a file is there, or this one cannot be written.
        """
        place = place_of(path)
        return leave(place, self.encode(format_of(place)), overwrite)

    def encode(self, kind: Format) -> bytes:
        """Return the contents of a file with the whole picture."""
        if kind == "svg":
            return self.svg().encode()
        with _styled():
            return _bytes(_whole(self), kind)

    def svg(self) -> str:
        """Return the whole picture as an SVG file, which is light or dark as its reader wishes."""
        with _styled():
            drawn = _bytes(_whole(self), "svg").decode()
        return signed(f'<?xml version="1.0" encoding="utf-8"?>\n{_tinted(drawn, self.name, alone=True)}')

    def parts(self, prefix: str) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the panels as SVG for a page, and the legend as pairs of a small SVG and its words.

        What the SVGs name inside begins with `prefix`: on one page no two may use the same.
        """
        prefix = f"{prefix}-{self.name}"
        with _styled():
            figures = [_single(self, place) for place in range(len(self.panels))]
            drawn = [
                _tinted(_bytes(figure, "svg").decode(), f"{prefix}-{place}") for place, figure in enumerate(figures)
            ]
            keys = [
                (_tinted(_key(handle), f"{prefix}-key-{place}"), label)
                for place, (handle, label) in enumerate(_legend(figures))
            ]
        return drawn, keys

    def _repr_svg_(self) -> str:
        """Show it in a notebook."""
        return self.svg().partition("\n")[2]


def format_of(path: Path) -> Format:
    """Return the format that a file's name ends in."""
    ending = path.suffix.lower().removeprefix(".")
    for kind in FORMATS:
        if ending == kind:
            return kind
    raise ConfigError(f"{printable(path.name)} ends in none of .svg, .png and .pdf, by which a picture is written")


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    own = {"axes.edgecolor": "quiet", "grid.color": "hair", "text.color": "ink", "axes.titlecolor": "ink"}
    own |= {"axes.labelcolor": "quiet", "xtick.color": "quiet", "ytick.color": "quiet", "figure.facecolor": "paper"}
    own |= {"xtick.labelcolor": "ink", "ytick.labelcolor": "ink", "axes.facecolor": "paper"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not what its user has set for other pictures
        matplotlib.rcParams.update(_STYLE | {key: paper(name) for key, name in own.items()})
        yield


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=200)


def _add(figure: Figure, picture: Picture, place: int, corner: tuple[float, float]) -> Axes:
    """Draw a panel whose lower left corner is there, in inches."""
    left, right, bottom, top = picture.margins
    width, height = picture.size
    whole = figure.get_size_inches()
    box = (corner[0] + left, corner[1] + bottom, width - left - right, height - bottom - top)
    axes = figure.add_axes((box[0] / whole[0], box[1] / whole[1], box[2] / whole[0], box[3] / whole[1]))
    axes.set_gid(f"panel-{place}")
    picture.panels[place](axes)
    return axes


def _single(picture: Picture, place: int) -> Figure:
    figure = _figure(*picture.size)
    _add(figure, picture, place, (0.0, 0.0))
    return figure


def _whole(picture: Picture) -> Figure:
    width, height = picture.size
    across = min(2, len(picture.panels))
    down = math.ceil(len(picture.panels) / across)
    # A legend of one row where it fits, else of two or three.
    known = _legend([_single(picture, place) for place in range(len(picture.panels))])
    longest = max((len(label) for _, label in known), default=0)
    per_row = max(1, min(len(known), int(across * width / (0.55 + 0.072 * longest))))
    below = LEGEND * math.ceil(len(known) / per_row) + 0.06 if known else 0.0
    figure = _figure(across * width, down * height + TITLE + below)
    for place in range(len(picture.panels)):
        column, row = place % across, place // across
        _add(figure, picture, place, (column * width, below + (down - 1 - row) * height))
    total = figure.get_size_inches()[1]
    figure.text(0.12 / (across * width), 1 - 0.2 / total, picture.title, fontsize=11, weight="bold", va="center")
    if known:
        handles, labels = zip(*known, strict=True)
        figure.legend(
            handles, labels, loc="lower left", ncols=per_row, frameon=False, fontsize=8.5, borderaxespad=0.2,
            columnspacing=1.4, handlelength=2.0, bbox_to_anchor=(0.0, 0.0),
        )  # fmt: skip
    return figure


def _legend(figures: Sequence[Figure]) -> list[tuple[Any, str]]:
    """Return handles and labels of all panels, each label once."""
    found: dict[str, Any] = {}
    for figure in figures:
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
    return [(handle, label) for label, handle in found.items()]


def _key(handle: Any) -> str:
    """Return what stands for a label in a legend, as SVG."""
    figure = _figure(0.36, 0.18)
    figure.legend(
        [handle], [""], loc="center", frameon=False, borderpad=0, borderaxespad=0, handletextpad=0, handlelength=2.2
    )
    return _bytes(figure, "svg").decode()


def _bytes(figure: Figure, kind: Format) -> bytes:
    held = BytesIO()
    # Neither when nor by whom: the same picture is the same file.
    dated = {"svg": {"Date": None, "Creator": None, "Format": None, "Type": None}, "png": {"Software": None}}
    figure.savefig(held, format=kind, metadata=dated.get(kind, {"CreationDate": None, "Producer": None}))
    return _few_colours(held) if kind == "png" else held.getvalue()


def _few_colours(png: BytesIO) -> bytes:
    """Return a PNG by a table of 256 colours, a third of the bytes: what is drawn looks the same, photographs stay."""
    from PIL import Image

    picture, held = Image.open(png).convert("RGB"), BytesIO()
    if picture.getcolors(FEW) is None:
        return png.getvalue()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(held, "png", optimize=True)
    return held.getvalue()


def _tinted(svg: str, name: str, alone: bool = False) -> str:
    """Return matplotlib's SVG with colours that follow the page, names that are its own, and no more than it needs."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _SAFE_ID.sub(lambda hit: f"{hit[1]}{name}-{hit[2]}", svg)
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    svg = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--letters, sans-serif)", svg)
    # A width in points would not follow the page's.
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    if alone:
        width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # type: ignore[union-attr]
        svg = svg.replace("<svg", f'<svg width="{width}pt" height="{height}pt"', 1)
        return svg.replace("<defs>", f"<style>{palette()}</style><defs>", 1)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def palette() -> str:
    """Return the named colours as CSS: those of paper, and those of the dark on a screen whose reader wishes that."""
    light, dark = ("".join(f"--{name}:{pair[place]};" for name, pair in COLOURS.items()) for place in (0, 1))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
