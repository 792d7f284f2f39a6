"""What units begin with: by content, in memory or in the store, and believed only where the hash comes out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lottery_hub.errors import StoreError
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.tickets import Ladder
from lottery_hub.running.store import Store, Unit, open_store
from lottery_hub.settings.config import DataPlan
from lottery_hub.training import inputs
from lottery_hub.training.inputs import Inputs, key_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def unit(ladder: Ladder, data: Dataset) -> Unit:
    return Unit("one", {}, {"start": key_of(ladder.ticket(2)), "data": key_of(data)})


def test_what_is_kept_is_found_by_another_process_as_it_was(store: Store, ladder: Ladder, tiny_data: Dataset) -> None:
    tiny_data = replace(tiny_data, original_sides=(6, 20))
    asked, start = unit(ladder, tiny_data), ladder.ticket(2)
    here = Inputs(store, {asked.inputs["start"]: start, asked.inputs["data"]: tiny_data})
    here.keep()
    here.keep()
    assert len(store.addresses()) == 2
    there = here.elsewhere()
    assert there.held == {}
    found, images = there.ticket(asked), there.data(asked)
    assert (found.fingerprint(), found.level, found.provenance) == (start.fingerprint(), 2, start.provenance)
    assert (images.describe(), images.classes) == (tiny_data.describe(), tiny_data.classes)
    assert all(torch.equal(getattr(images, s).images, getattr(tiny_data, s).images) for s in inputs.SPLITS)


def test_what_is_called_otherwise_is_another(ladder: Ladder, tiny_data: Dataset) -> None:
    assert key_of(tiny_data) != key_of(replace(tiny_data, name="bars"))
    assert key_of(tiny_data) != key_of(replace(tiny_data, classes=("a", "b", "c")))
    assert key_of(ladder.ticket(2)) != key_of(replace(ladder.ticket(2), level=3))
    assert key_of(ladder.ticket(2)) == key_of(ladder.ticket(2))


def test_what_is_damaged_or_missing_is_one_line(store: Store, ladder: Ladder, tiny_data: Dataset) -> None:
    asked = unit(ladder, tiny_data)
    with pytest.raises(StoreError, match="give the command again that needs it"):
        Inputs(store).data(asked)
    here = Inputs(store, {asked.inputs["data"]: tiny_data})
    here.keep()
    path = store.folder(asked.inputs["data"]) / "images.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(StoreError, match=r"images\.safetensors is damaged"):
        Inputs(store).data(asked)


def test_large_images_are_loaded_again_instead_and_must_be_the_same(
    store: Store, ladder: Ladder, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = unit(ladder, tiny_data)
    key = asked.inputs["data"]
    here = Inputs(store, {key: tiny_data}, {key: DataPlan(dataset="stripes")})
    monkeypatch.setattr(inputs, "LARGE", 1000)
    here.keep()
    assert store.addresses() == set()
    monkeypatch.setattr(inputs, "load_planned", lambda plan: tiny_data)
    assert here.elsewhere().data(asked) is tiny_data
    monkeypatch.setattr(inputs, "load_planned", lambda plan: replace(tiny_data, fingerprint="sha256:others"))
    with pytest.raises(StoreError, match="stripes holds other images on this machine"):
        here.elsewhere().data(asked)
