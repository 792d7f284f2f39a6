"""The store: a unit is made once, whoever asks and however many at once; damage is said, and made good."""

from __future__ import annotations

import os
import random
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lottery_hub.errors import BusyError, ConfigError, DamageWarning, LotteryHubError, StoreError
from lottery_hub.running.store import Store, Unit, address, default_store, open_store
from lottery_hub.storage import sealed
from tests.faults import store_campaign


def unit(number: int) -> Unit:
    return Unit(f"unit {number}", {"unit": "test", "number": number, "share": 0.1})


def work(folder: Path) -> dict[str, Any]:
    (folder / "weights").write_text("trained", encoding="utf-8")
    return {"SA": 0.1 + 0.2}


def fails(folder: Path) -> dict[str, Any]:
    raise AssertionError("it was done again")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


# Addresses


def test_an_address_is_the_hash_of_what_determines_a_unit_and_of_nothing_else() -> None:
    # printf '{"a":[1,2.5,null],"b":"ü"}' | sha256sum
    said = "e2672cf879e97a793f656865538547ae5f61ce7879a9dadf9f44f8903812b738"
    assert address({"b": "ü", "a": [1, 2.5, None]}) == said
    assert Unit("one name", {"n": 1}).address == Unit("another", {"n": 1}, {"start": "x"}).address
    assert Unit("one name", {"n": 1}).address != Unit("one name", {"n": 2}).address


# Units


def test_a_unit_is_made_once_and_found_by_another_store_object(store: Store) -> None:
    assert store.finished(unit(1)) is None
    assert store.once(unit(1), work).record == {"SA": 0.1 + 0.2}
    again = open_store(store.directory)
    assert again.once(unit(1), fails).record == {"SA": 0.1 + 0.2}
    assert (again.folder(unit(1)) / "weights").read_text() == "trained"
    assert again.addresses() == {unit(1).address}
    assert [each.name for each in again.missing([unit(1), unit(2), unit(2)])] == ["unit 2"]
    # Nothing else is left beside it: no lock, no owner.
    assert [path.name for path in again.folder(unit(1)).parent.iterdir()] == [unit(1).address]


def test_a_killed_unit_goes_on_with_what_it_left(store: Store) -> None:
    def killed(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint.pt").write_text("half way", encoding="utf-8")
        raise KeyboardInterrupt

    def goes_on(folder: Path) -> dict[str, Any]:
        assert (folder / "checkpoint.pt").read_text(encoding="utf-8") == "half way"
        return work(folder)

    with pytest.raises(KeyboardInterrupt):
        store.once(unit(1), killed)
    assert store.finished(unit(1)) is None
    assert len(list(store.left())) == 1
    store.once(unit(1), goes_on)
    assert list(store.left()) == []
    assert sorted(path.name for path in store.folder(unit(1)).iterdir()) == ["result.json", "weights"]


@pytest.mark.parametrize("damage", ["flipped", "gone", "another's", "no unit", "a link"])
@pytest.mark.parametrize("name", ["result.json", "weights"])
def test_what_is_damaged_is_set_aside_with_a_word_and_made_anew(store: Store, name: str, damage: str) -> None:
    store.once(unit(1), work)
    store.once(unit(2), lambda folder: work(folder) | {"SA": 1.0})
    path, place = store.folder(unit(1)) / name, store.folder(unit(1))
    if damage == "flipped":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif damage == "gone":
        path.unlink()
    elif damage == "another's":
        shutil.rmtree(place)
        shutil.copytree(store.folder(unit(2)), place)
    elif damage == "no unit":
        shutil.rmtree(place)
        place.write_text("")
    else:
        place.rename(store.directory / "mine")
        place.symlink_to(store.directory / "mine")
    assert store.finished(unit(1)) is None
    with pytest.warns(DamageWarning, match=r"is set aside as .*\.damaged and made anew"):
        assert store.once(unit(1), work).record == {"SA": 0.1 + 0.2}
    assert store.once(unit(2), fails).record == {"SA": 1.0}
    assert len(list(store.left())) == 1


def test_what_does_not_fit_is_set_aside_too(store: Store) -> None:
    def fits(wanted: Unit, found: sealed.Sealed) -> str | None:
        return None if found.record["SA"] <= 1 else "SA is above 1"

    store.once(unit(1), lambda folder: {"SA": 7.0})
    assert store.finished(unit(1), fits) is None
    with pytest.warns(DamageWarning, match="is not what it should be: SA is above 1"):
        assert store.once(unit(1), work, fits).record == {"SA": 0.1 + 0.2}


def test_a_strangers_links_are_written_through_nowhere(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "weights").write_text("thesis")
    place = store.folder(unit(1))
    partial_place = place.with_name(f"{place.name}.partial")
    partial_place.mkdir(parents=True)
    (partial_place / "weights").symlink_to(mine / "weights")
    with pytest.warns(DamageWarning, match="is a link, and nothing is written through it"):
        store.once(unit(1), work)
    assert (mine / "weights").read_text() == "thesis"
    shutil.rmtree(store.directory / "units")
    (store.directory / "units").symlink_to(mine)
    for call in (store.finished, partial(store.once, work=work)):
        with pytest.raises(StoreError, match="units is a link"):
            call(unit(1))
    assert [path.name for path in mine.iterdir()] == ["weights"]


# Many at once


def test_a_unit_that_another_is_at_is_left_to_it(store: Store) -> None:
    def meets(folder: Path) -> dict[str, Any]:
        with pytest.raises(BusyError, match=f"process {os.getpid()} on .* is at it"):
            store.once(unit(1), fails)
        return work(folder)

    store.once(unit(1), meets)


def test_four_processes_on_one_store_are_killed_and_started_again_and_make_each_unit_once(tmp_path: Path) -> None:
    found = store_campaign.once(tmp_path, random.Random(3))
    assert (found["killed"], found["problems"]) == (6, [])


def test_a_unit_that_is_made_twice_is_noticed(store: Store, tmp_path: Path) -> None:
    """What the campaign counts can fail."""
    log = tmp_path / "log"
    for number in range(2):
        store.once(store_campaign.unit(number), partial(store_campaign.make, number, log, 0.0))
    assert store_campaign.wrong(store, log, set(), 2) == []
    store_campaign.make(0, log, 0.0, tmp_path)
    assert [line.partition(",")[0] for line in store_campaign.wrong(store, log, set(), 2)] == [
        f"unit 0 {what} 2 times" for what in ("begins", "epoch-0", "epoch-1", "epoch-2", "ends")
    ]


def test_what_is_missing_of_very_many_units_is_known_soon(store: Store) -> None:
    units = [unit(number) for number in range(20_000)]
    for each in units[::2]:
        store.folder(each).mkdir(parents=True)
    began = time.process_time()
    assert len(store.missing(units)) == 10_000
    assert time.process_time() - began < 1.0  # of 100,000 it is 0.4 s on an idle machine


# The folder


def test_the_store_of_a_user_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOTTERY_HUB_STORE", str(tmp_path / "mine"))
    assert default_store() == open_store().directory == tmp_path / "mine"
    monkeypatch.delenv("LOTTERY_HUB_STORE")
    assert default_store() == Path(os.environ["HF_HOME"]) / "lottery_hub" / "store"


def test_a_store_is_made_by_its_first_unit(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new" / "store")
    assert store.addresses() == set()
    assert not (tmp_path / "new").exists()
    store.once(unit(1), work)
    assert (store.directory / "store.json").is_file()
    assert open_store(store.directory).addresses() == {unit(1).address}
    with pytest.raises(ConfigError, match="s3://bucket/units is an address"):
        open_store("s3://bucket/units")


def test_a_folder_of_something_else_is_no_store_and_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(StoreError, match="is not empty and not a store of units; choose another --store"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match=r"thesis\.tex is a file"):
        open_store(tmp_path / "thesis.tex")
    with pytest.raises(StoreError, match=r"cannot keep units in .*thesis\.tex/inside"):
        open_store(tmp_path / "thesis.tex" / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_of_another_version_is_refused_and_a_damaged_marker_is_written_anew(store: Store) -> None:
    store.once(unit(1), work)
    marker = store.directory / "store.json"
    whole = marker.read_bytes()
    marker.write_text('{"lottery_hub_store": 2}')
    with pytest.raises(StoreError, match="is a store of another version of lottery-hub"):
        open_store(store.directory)
    for damage in (b"", b"[]", whole[:-3], b"{}"):
        marker.write_bytes(damage)
        with pytest.warns(DamageWarning, match=r"store\.json is damaged"):
            open_store(store.directory)
        assert marker.read_bytes() == whole


# Removing


def test_what_is_removed_is_gone_and_made_again_when_it_is_asked_for(store: Store) -> None:
    for number in (1, 2):
        store.once(unit(number), work)
    store.remove(store.folder(unit(1)))
    assert store.addresses() == {unit(2).address}
    assert [path.name for path in store.folder(unit(1)).parent.iterdir()] == []
    with pytest.raises(LotteryHubError, match="again"):
        store.once(unit(1), lambda folder: (_ for _ in ()).throw(LotteryHubError("again")))


def test_what_somebody_is_at_is_not_removed(store: Store) -> None:
    def meets(folder: Path) -> dict[str, Any]:
        with pytest.raises(BusyError):
            store.remove(folder)
        return work(folder)

    store.once(unit(1), meets)
