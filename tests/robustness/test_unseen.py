"""Accuracy under corruptions and other norms: counts of a model whose answers are known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Split
from lottery_hub.robustness.corruptions import CORRUPTIONS, corrupt
from lottery_hub.robustness.outcomes import Outcomes
from lottery_hub.robustness.unseen import ATTACKS, mean_share, measure_corruptions, measure_unseen
from lottery_hub.settings.config import Attack


class Brighter(nn.Module):
    """Says 1 where an image is brighter than a threshold on average, else 0; two classes more are never said."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, images: Tensor) -> Tensor:
        above = images.mean((1, 2, 3)) - self.threshold
        return torch.stack([-above, above, above.abs().neg() - 1, above.abs().neg() - 1], 1) * 20


def split_of(*values: int) -> Split:
    images = torch.stack([torch.full((3, 32, 32), value, dtype=torch.uint8) for value in values])
    return Split(images, (torch.tensor(values) > 127).long())


def test_each_corruption_is_counted_at_each_severity_for_every_model() -> None:
    split = split_of(60, 120, 135, 200)
    models = {"right": Brighter(), "never bright": Brighter(2.0)}
    found = measure_corruptions(models, split, seed=3)
    assert found.keys() == models.keys()
    correct = found["right"]["correct"]
    assert list(correct) == list(CORRUPTIONS)
    # 120 + 0.05 * 255 is above the threshold, 60 + 0.3 * 255 is not: 136.5 is.
    assert correct["brightness"] == [3, 3, 3, 3, 2]
    assert correct["contrast"] == [4] * 5, "a plain image has no contrast to lose"
    by_hand = (corrupt(split.images, "fog", 5, seed=3).float().mean((1, 2, 3)) / 255 > 0.5).long()
    assert correct["fog"][4] == int((by_hand == split.labels).sum())
    assert found["never bright"]["correct"]["brightness"] == [2] * 5
    assert found["right"]["mean"] == sum(map(sum, correct.values())) / (75 * 4)


def test_the_mean_is_over_all_counts() -> None:
    assert mean_share({"fog": [10, 8, 6, 4, 2], "snow": [0, 0, 0, 0, 0]}, 10) == 0.3


def test_the_unseen_attacks_are_l2_and_l1() -> None:
    assert [attack.describe() for attack in ATTACKS] == ["PGD-20 L2 eps 0.5 step 0.125", "APGD-CE-100 L1 eps 12"]


def test_other_norms_break_what_lies_within_their_radius() -> None:
    # In L2, 0.5 moves the mean of 3,072 values by 0.5 / sqrt(3072) = 0.0090, which is 2.3 of 255; L1's 12 by 12 / 3072
    # = 0.0039, which is 1.0.
    (l2, l1) = measure_unseen({"only": Brighter()}, split_of(126, 127, 129, 131))["only"]
    assert l2["SA"] == l1["SA"] == 1
    assert Outcomes.parse(l2["outcomes"], 4).RA is not None
    assert l2["robust"] == 1
    assert l1["robust"] == 3
    assert [l2["RA"], l1["RA"]] == [0.25, 0.75]


@pytest.mark.parametrize("method", ["pgd", "fgsm", "n-fgsm"])
def test_l1_is_left_to_the_attacks_that_know_it(method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} is (not for L1|defined for Linf only)"):
        Attack.parse({"method": method, "norm": "l1", "eps": 12, "step_size": 1.0})
