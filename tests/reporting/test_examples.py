"""The picture of single images shows what a network says of each, right or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset, Split
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.examples import drawn, gallery
from lottery_hub.robustness.examples import examples
from lottery_hub.settings.config import Attack
from lottery_hub.storage.folder import load_ticket

ATTACK = Attack(eps=0.1, step_size=0.1, steps=1, random_start=False)


class Brightness(nn.Module):
    """Says 1 where an image is brighter than half on average, else 0."""

    def forward(self, images: Tensor) -> Tensor:
        above = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-above, above], 1) * 50


@pytest.fixture(scope="module")
def split() -> Split:
    """Bright enough to withstand; so little that it is broken; and a bright one that is called dark."""
    values = (204, 140, 204)
    images = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in values])
    return Split(images, torch.tensor([1, 1, 0]))


def test_each_image_is_attacked_where_the_network_was_right(split: Split) -> None:
    safe, broken, wrong = examples(Brightness(), split, ATTACK, image_size=8)
    assert [each.outcome for each in (safe, broken, wrong)] == ["withstands", "broken", "wrong already"]
    assert safe.attacked is not None
    assert float(safe.attacked.mean()) == pytest.approx(204 / 255 - 0.1)
    assert broken.said_attacked is not None
    assert (broken.said.label, broken.said_attacked.label) == (1, 0)
    assert broken.said.sure == pytest.approx(1 / (1 + np.exp(-100 * (140 / 255 - 0.5))), abs=1e-4)
    assert wrong.attacked is None


def test_the_picture_shows_clean_added_and_attacked_with_the_names_of_classes(split: Split) -> None:
    picture = drawn(examples(Brightness(), split, ATTACK, image_size=8), ("dark", "<b>bright"), ATTACK)
    assert "wrong about 1 already, 1 are broken by PGD-1 Linf eps 0.1 step 0.1, and 1 withstand" in picture.told
    assert [row[-1] for row in picture.rows] == ["withstands", "broken", "wrong already"]
    panels = picture.figure().axes
    assert [axes.get_title("left") for axes in panels] == [
        "<b>bright: withstands",
        "<b>bright: broken",
        "dark: wrong already",
    ]
    assert [len(axes.get_images()) for axes in panels] == [3, 3, 1]
    added = np.asarray(panels[0].get_images()[1].get_array())
    assert np.allclose(added, 0, atol=1e-5), "black: minus eps everywhere"
    assert "&lt;b&gt;bright" in picture.svg()


def test_images_are_those_of_the_verdict_and_are_asked_for(run: Path, tiny_data: Dataset, ladder: Ladder) -> None:
    picture = gallery(load_ticket(run / "ticket"), tiny_data)
    assert len(picture.rows) == 8
    assert {row[1] for row in picture.rows} <= set(tiny_data.classes)
    with pytest.raises(ConfigError, match="never judged"):
        gallery(ladder.ticket(1), tiny_data)
