"""`draw` in Python: a ladder and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import lottery_hub as lh
from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone


def test_a_ladder_is_drawn_written_and_taken_where_a_folder_is(backbone: Backbone, tmp_path: Path) -> None:
    drawn = lh.draw(backbone, method="omp", rounds=2, output=str(tmp_path / "run"), device="cpu")
    assert drawn.folder == tmp_path / "run" / "ladder"
    assert drawn.record() == {"ladder": str(drawn.folder), "method": "omp", "sparsities": list(drawn.ladder.sparsities)}
    assert lh.load_ladder(drawn).sparsities == drawn.ladder.sparsities
    assert lh.load_backbone(drawn).fingerprint() == backbone.fingerprint()


def test_imp_takes_images_that_are_in_memory(backbone: Backbone, tiny_data: Dataset, tmp_path: Path) -> None:
    small = ["draw.recipe.epochs=1", "recipe.image_size=8", "recipe.attack=null"]
    drawn = lh.draw(backbone, source=tiny_data, rounds=2, settings=small, output=tmp_path / "run", device="cpu")
    assert drawn.ladder.drawing["data"]["name"] == "stripes"
    assert drawn.ladder.drawing["plan"]["recipe"]["epochs"] == 1


@pytest.mark.parametrize(("option", "word"), [("method", "magic"), ("preset", "fast")])
def test_a_word_that_an_option_cannot_be_is_one_line(backbone: Backbone, option: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown {option} '{word}'; choose "):
        lh.draw(backbone, **{option: word})  # type: ignore[arg-type]
