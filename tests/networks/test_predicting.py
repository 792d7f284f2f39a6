"""What a ticket says of pictures is what its network says of the pixels that it was trained to see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lottery_hub.errors import ConfigError, DataError, TicketError
from lottery_hub.images.datasets import Dataset
from lottery_hub.images.fitting import Fit
from lottery_hub.networks.predicting import predict, predict_each
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
    model = ladder.ticket(1).to_normalised().train()
    with torch.no_grad():
        model.network.fc.bias.fill_(float("nan"))
    with pytest.raises(TicketError, match="no numbers"):
        list(predict(model, Fit(8, 8), tiny_data.test.images[:2]))
    assert all(module.training for module in model.modules())
    with pytest.raises(ConfigError, match="top and batch_size are numbers, 1 or more"):
        list(predict(model, Fit(8, 8), tiny_data.test.images[:2], top=0))


def test_pictures_go_through_the_network_by_the_batch_and_one_that_is_none_keeps_its_place(
    ladder: Ladder, tiny_data: Dataset
) -> None:
    model, images = ladder.ticket(1).to_normalised(), list(tiny_data.test.images[:5])
    sizes: list[int] = []
    model.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    lost = DataError("it was not found")
    given = [images[0], None, images[1], lost, "nowhere.png", images[2], None, None, images[3], images[4]]
    said = list(predict_each(model, Fit(8, 8), given, batch_size=3))
    assert sizes == [1, 1, 1, 2], "of three where no None stands and none is amiss"
    assert [each is one for (each, _), one in zip(said, [one for one in given if one is not None], strict=True)]
    assert [isinstance(told, DataError) for _, told in said] == [False, False, True, True, False, False, False]
    assert said[2][1] is lost
