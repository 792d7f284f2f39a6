"""Units on Ray: the same figures as here, whoever dies; run where Ray is installed (`pip install -e '.[cluster]'`)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery_hub.errors import DamageWarning, LotteryHubError, StoppedError
from lottery_hub.finding import find
from lottery_hub.images.datasets import Dataset
from lottery_hub.networks.backbones import Backbone
from lottery_hub.running.engines import Engine
from lottery_hub.running.locks import locked
from lottery_hub.running.named import engine_of
from lottery_hub.running.store import Store, Unit, open_store
from lottery_hub.settings.config import DataPlan, DrawPlan
from lottery_hub.settings.plans import FindPlan
from lottery_hub.storage import sealed
from lottery_hub.storage.folder import load_ticket, save_backbone
from tests.judged import TRANSFER

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with engine_of("ray", "cpu", 2) as engine:
            yield engine


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@dataclass
class Nothing:
    """The inputs of units that need none."""

    store: Store
    held: dict[str, Any] = field(default_factory=dict)

    def keep(self) -> None:
        """Nothing is held."""

    def elsewhere(self) -> Nothing:
        return self


def unit(name: str) -> Unit:
    return Unit(name, {"unit": "test", "name": name})


def run(engine: Engine, store: Store, names: str, do: Any, stop: threading.Event | None = None) -> list[Any]:
    """Run the units of these letters; workers get `do` as it is, with all that it closes over."""
    told: list[Any] = []
    records = engine.run(
        do,
        [unit(name) for name in names],
        Nothing(store),
        lambda *word: told.append(word),
        stop or threading.Event(),
        2,
    )
    return [records, told]


def test_the_same_find_here_and_on_ray_gives_the_same_records_bit_by_bit(
    engine: Engine, backbone: Backbone, tiny_data: Dataset, tmp_path: Path
) -> None:
    plan = FindPlan(
        pretrain=str(save_backbone(backbone, tmp_path / "net")),
        arch="resnet18-slim",
        data=DataPlan(dataset=tiny_data.name, image_size=8),
        draw=DrawPlan(method="omp", rounds=1),
        ladder="draw",
        transfer=TRANSFER,
        scan="all",
    )
    assert engine.jobs >= 2
    found, kinds = {}, {}
    for name, by in (("ray", engine), ("here", None)):
        told: list[str] = []
        kinds[name] = told
        find(
            plan,
            tmp_path / name,
            data=tiny_data,
            store=tmp_path / f"{name}-store",
            engine=by,
            report=lambda kind, _, told=told: told.append(kind),
        )
        found[name] = load_ticket(tmp_path / name)
    same = [_untimed(found[name].records["transfers"]) for name in ("ray", "here")]
    assert same[0] == same[1]
    assert len(same[0]) == 4
    assert found["ray"].fingerprint() == found["here"].fingerprint()
    assert {"unit", "epoch", "dense", "level"} <= set(kinds["ray"])


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(inside) for key, inside in value.items() if key not in ("seconds", "peak_memory")}
    return [_untimed(inside) for inside in value] if isinstance(value, list) else value


def test_a_unit_whose_worker_is_killed_is_begun_again_and_goes_on(engine: Engine, store: Store) -> None:
    def do(unit: Unit, inputs: Any, *_: Any) -> Any:
        def work(folder: Path) -> dict[str, Any]:
            attempts = len(list(folder.iterdir()))
            (folder / f"attempt-{attempts}").write_text(str(os.getpid()))
            if unit.name == "b" and attempts < 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"attempts": attempts}

        return inputs.store.once(unit, work).record

    records, _ = run(engine, store, "abc", do)
    assert records == [{"attempts": 0}, {"attempts": 2}, {"attempts": 0}]
    assert list(store.left()) == []


def test_one_whose_workers_all_die_is_reported_in_one_line_and_a_file(engine: Engine, store: Store) -> None:
    def do(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(LotteryHubError, match=r"^a failed \(its worker died 4 times: .*\); more in .*\.log$") as caught:
        run(engine, store, "a", do)
    assert str(caught.value).isprintable()
    assert (store.directory / "failures" / f"{unit('a').address}.log").is_file()


def test_what_goes_wrong_in_a_worker_is_told_as_if_it_were_here(engine: Engine, store: Store) -> None:
    def diverges(*_: Any) -> Any:
        raise LotteryHubError("training diverged")

    def fails(*_: Any) -> Any:
        return {}["nothing"]

    with pytest.raises(LotteryHubError, match=r"^training diverged$"):
        run(engine, store, "a", diverges)
    with pytest.raises(LotteryHubError, match=r"^b failed \('nothing'\); more in .*\.log$"):
        run(engine, store, "b", fails)
    log = (store.directory / "failures" / f"{unit('b').address}.log").read_text(encoding="utf-8")
    assert "KeyError: 'nothing'" in log


def test_what_another_process_is_at_is_waited_for_and_damage_is_said(engine: Engine, store: Store) -> None:
    def do(unit: Unit, inputs: Any, *_: Any) -> Any:
        return inputs.store.once(unit, lambda folder: {"made": unit.name}).record

    run(engine, store, "c", do)
    (store.folder(unit("c")) / "result.json").write_text("{}")
    place = store.folder(unit("a"))
    place.parent.mkdir(parents=True)
    with locked(place):
        waiting = threading.Timer(1.5, lambda: None)
        waiting.start()
        done: list[Any] = []

        def ask() -> None:
            with pytest.warns(DamageWarning, match="is set aside"):
                done.append(run(engine, store, "abc", do)[0])

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1.5)
        assert done == []
    asking.join(60)
    assert done == [[{"made": name} for name in "abc"]]


def test_a_stop_leaves_a_store_that_goes_on(engine: Engine, store: Store) -> None:
    stop = threading.Event()

    def do(unit: Unit, inputs: Any, *_: Any) -> Any:
        def work(folder: Path) -> dict[str, Any]:
            if unit.name != "a" and not (folder / "began").exists():
                (folder / "began").write_text("")
                for _ in range(600):  # as training does, it looks up now and then
                    time.sleep(0.1)
            return {}

        return inputs.store.once(unit, work).record

    def when_begun() -> None:
        while len(list(store.directory.rglob("began"))) < 1:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=when_begun, daemon=True).start()
    with pytest.raises(StoppedError):
        run(engine, store, "abc", do, stop)
    assert not list(store.directory.rglob("*.owner"))
    for left in store.left():
        (left / "began").touch()
    again = threading.Event()
    threading.Timer(30, again.set).start()
    assert len(run(engine, store, "a", do, again)[0]) == 1
    assert sealed.parse(store.folder(unit("a")) / "result.json").record == {}
    assert torch.get_num_threads() == 1
