"""A ticket has the pictures that its records can make, and says which where it lacks one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery_hub.errors import ConfigError
from lottery_hub.networks.tickets import Ladder
from lottery_hub.reporting.pictures import plot, possible
from lottery_hub.storage.folder import load_ticket


def test_a_verdict_has_curves_and_a_ticket_alone_its_layers(run: Path, ladder: Ladder) -> None:
    assert possible(load_ticket(run)) == ["curve", "differences", "density", "training"]
    assert possible(ladder.ticket(2)) == ["density"]


def test_a_picture_that_there_is_not_is_named_with_those_that_there_are(run: Path, ladder: Ladder) -> None:
    with pytest.raises(ConfigError, match="no picture curve of this ticket: it was never judged; there is density"):
        plot(ladder.ticket(2), "curve")
    with pytest.raises(ConfigError, match="its verdict was not looked at so; find with --unseen"):
        plot(load_ticket(run), "unseen")
    with pytest.raises(ConfigError, match="no picture is called cvurve; there are curve, differences, density"):
        plot(ladder.ticket(2), "cvurve")
