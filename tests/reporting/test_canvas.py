"""A picture as a file and as parts of a page: the same each time, in colours that follow the page, and never in place
of somebody's file."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.reporting.canvas import COLOURS, Picture, _few_colours, paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = '<script>alert(1)</script> & "x" $y$'


def draw(axes: Axes) -> None:
    axes.plot([0, 1], [1, 2], "o-", color=paper("ticket"), label=NAME)
    axes.set_title(NAME)


PICTURE = Picture("one", "A title", "Told.", "Noted.", ("a",), (("b",),), (draw, draw))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1], ids=["paper", "dark"])
def test_words_and_lines_stand_out_from_their_ground(theme: int) -> None:
    ground = luminance(COLOURS["paper"][theme])
    for name, least in (
        ("ink", 7),
        ("quiet", 4.5),
        ("ticket", 4.5),
        *dict.fromkeys(("dense", "omp", "random"), 3).items(),
    ):
        other = luminance(COLOURS[name][theme])
        high, low = max(other, ground), min(other, ground)
        assert (high + 0.05) / (low + 0.05) >= least, name


def test_no_two_colours_are_one_on_paper() -> None:
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_picture_is_the_same_file(kind: str, start: bytes, tmp_path: Path) -> None:
    once = PICTURE.save(tmp_path / f"x.{kind}").read_bytes()
    assert once.startswith(start)
    assert once == PICTURE.encode(kind)  # type: ignore[arg-type]


def test_a_png_is_wide_enough_for_a_card_and_opaque() -> None:
    image = Image.open(io.BytesIO(PICTURE.encode("png")))
    assert image.width == 1800
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_a_png_of_few_colours_is_a_table_of_them_and_a_photograph_stays() -> None:
    drawn, photo = io.BytesIO(), io.BytesIO()
    ramp = np.linspace(0, 255, 1024).astype(np.uint8).reshape(8, 128, 1).repeat(4, 0).repeat(3, 2)
    Image.fromarray(ramp).save(drawn, "png")
    kept = Image.open(io.BytesIO(_few_colours(drawn)))
    assert kept.mode == "P"
    assert (np.asarray(kept.convert("RGB")) == ramp).all()
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(photo, "png")
    assert _few_colours(photo) == photo.getvalue()


def test_an_svg_is_dark_where_its_reader_wishes_and_asks_for_nothing() -> None:
    svg = PICTURE.svg()
    assert "prefers-color-scheme:dark" in svg
    body = svg.split("</style>")[1]
    assert not re.search("#[0-9a-f]{6}", body), "every colour is a named one"
    assert not re.search(r'(href|src)="(?!#)', svg)
    assert "url(http" not in svg


def test_words_stay_words_in_an_svg_and_names_stay_text() -> None:
    svg = PICTURE.svg()
    assert "A title" in svg
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


def test_parts_of_a_page_share_no_name() -> None:
    panels, keys = PICTURE.parts("t1")
    assert (len(panels), [label for _, label in keys]) == (2, [NAME])
    names = [name for svg in [*panels, *(svg for svg, _ in keys)] for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(names) == len(set(names))
    assert all(name.startswith("t1-one-") for name in names)
    for svg in panels:
        assert set(re.findall(r'(?:"#|url\(#)([^")]+)', svg)) <= set(names)


def test_settings_of_other_pictures_neither_matter_nor_change() -> None:
    before = PICTURE.svg()
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "red"}):
        assert PICTURE.svg() == before
        assert mpl.rcParams["font.size"] == 40


def test_a_picture_of_ours_makes_room_and_a_changed_one_does_not(tmp_path: Path) -> None:
    place = PICTURE.save(tmp_path / "x.svg")
    PICTURE.save(place)
    place.write_text(place.read_text(encoding="utf-8").replace("A title", "My title"), encoding="utf-8")
    with pytest.raises(TicketError, match=r"x\.svg is there already"):
        PICTURE.save(place)
    PICTURE.save(place, overwrite=True)
    assert "My title" in (tmp_path / "x.svg.old").read_text(encoding="utf-8")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.jpg ends in none of \.svg, \.png and \.pdf"):
        PICTURE.save(tmp_path / "x.jpg")
