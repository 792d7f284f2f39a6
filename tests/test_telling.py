"""What work tells is heard by whoever listens where it is done, and Ctrl-C says what is kept."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import Any

import pytest

from lottery_hub import telling
from lottery_hub.errors import StoppedError
from lottery_hub.running.side_by_side import side_by_side
from lottery_hub.telling import if_stopped, listening, tell, working


class Heard(list[tuple[str, dict[str, Any]]]):
    def __call__(self, kind: str, record: dict[str, Any]) -> None:
        self.append((kind, record))


def test_what_is_told_is_heard_inside_and_by_nobody_outside() -> None:
    heard = Heard()
    with listening(heard):
        tell("doing", what="reading")
    tell("doing", what="nothing that anybody hears")
    assert heard == [("doing", {"what": "reading"})]


def test_threads_are_heard_by_whoever_listens_where_they_are_begun() -> None:
    heard = Heard()
    with listening(heard):
        side_by_side([partial(tell, "doing", what=str(number)) for number in range(3)], 2, 1, Event())
    assert sorted(record["what"] for _, record in heard) == ["0", "1", "2"]


def test_a_unit_puts_its_name_to_what_is_told_and_adds_passes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY", 0.0)
    heard = Heard()
    with listening(heard), working("dense", 100):
        tell("passes", passes=40, before=True)
        tell("begun", epoch=3, epochs=5)
        tell("passes", passes=20, images=10)
        tell("passes", passes=20, images=10)
    assert heard == [
        ("unit", {"unit": "dense", "finished": False, "passes": 100}),
        ("passes", {"unit": "dense", "done": 40.0, "images": 0, "before": True}),
        ("begun", {"unit": "dense", "epoch": 3, "epochs": 5}),
        ("passes", {"unit": "dense", "done": 60.0, "images": 10}),
        ("passes", {"unit": "dense", "done": 80.0, "images": 20}),
        ("ended", {"unit": "dense"}),
    ]


def test_passes_are_told_a_few_times_a_second() -> None:
    heard = Heard()
    with listening(heard), working("dense", 1000):
        for _ in range(1000):
            tell("passes", passes=1)
    assert [kind for kind, _ in heard].count("passes") < 50


def test_a_unit_that_is_to_stop_ends_at_the_next_thing_that_it_tells() -> None:
    stop = Event()
    with working("dense", 2, Heard(), stop):
        tell("passes", passes=1)
        stop.set()
        with pytest.raises(StoppedError, match="dense was stopped"):
            tell("passes", passes=1)


def test_ctrl_c_says_what_the_innermost_knows() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    for inner, said in (("epochs are kept", "epochs are kept"), ("", "nothing was written")):
        with pytest.raises(KeyboardInterrupt) as stop, if_stopped("nothing was written"), if_stopped(inner):
            interrupt()
        assert str(stop.value) == said
