"""What a ticket says of pictures is what its network says of the pixels that it was trained to see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lottery_hub.errors import ConfigError, TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.fitting import Fit
from lottery_hub.networks.predicting import predict
from lottery_hub.networks.tickets import Ladder
from lottery_hub.storage.folder import load_ticket


def test_a_judged_ticket_predicts_with_its_trained_network_and_its_names(run: Path, tiny_data: Dataset) -> None:
    ticket, images = load_ticket(run), tiny_data.test.images
    said = ticket.predict(images, batch_size=5)
    with torch.no_grad():
        shares = ticket.network().to_normalised().eval()(images.float() / 255).softmax(1)
    assert [each.label for each in said] == shares.argmax(1).tolist()
    assert [each.name for each in said] == [tiny_data.classes[label] for label in shares.argmax(1).tolist()]
    assert [each.probability for each in said] == pytest.approx(shares.amax(1).tolist(), abs=1e-5)
    assert all(sum(share for _, share in each.top) == pytest.approx(1) and len(each.top) == 3 for each in said)
    assert len(ticket.predict(images[0], top=1)[0].top) == 1
    standard = ticket.network("standard", 1).predict(images)
    assert [each.top for each in standard] != [each.top for each in said]


def test_of_unknown_names_the_numbers_are_given(ladder: Ladder, tiny_data: Dataset) -> None:
    (said,) = ladder.ticket(1).predict(tiny_data.test.images[0])
    assert said.name == str(said.label)
    assert said.record()["top"][0] == {"name": said.name, "probability": said.probability}


def test_a_network_that_answers_nothing_is_an_error_and_stays_as_it_was(ladder: Ladder, tiny_data: Dataset) -> None:
    model = ladder.ticket(1).to_normalised()
    with torch.no_grad():
        model.network.fc.bias.fill_(float("nan"))
    with pytest.raises(TicketError, match="no numbers"):
        list(predict(model, Fit(8, 8), tiny_data.test.images[:2]))
    assert all(module.training for module in model.modules())
    with pytest.raises(ConfigError, match="top and batch_size are 1 or more"):
        list(predict(model, Fit(8, 8), tiny_data.test.images[:2], top=0))
