"""SA and RA as counts, on models whose right, wrong and breakable images are known by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery_hub.errors import ConfigError
from lottery_hub.images.datasets import Split
from lottery_hub.robustness import evaluation
from lottery_hub.robustness.evaluation import Accuracy, evaluate
from lottery_hub.settings.config import Attack
from lottery_hub.sharing.pulling import load_ticket


class BrightestChannel(nn.Module):
    """Says which colour channel is the brightest on average, so an attack of eps closes a gap of 2 eps."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(5.0))
        self.normaliser = nn.BatchNorm2d(3)  # only there to have a training flag and statistics
        self.seen = []

    def forward(self, images):
        self.seen.append((tuple(images.shape), self.training, self.normaliser.training))
        return self.sharpness * images.mean((2, 3))


def coloured(gaps, labels):
    """Grey 100 images, whose channel 0 is `gap` brighter than the others (0 to 255): the model says class 0."""
    images = torch.full((len(gaps), 3, 4, 4), 100, dtype=torch.uint8)
    images[:, 0] += torch.tensor(gaps, dtype=torch.uint8).view(-1, 1, 1)
    return Split(images, torch.tensor(labels))


# Right on 0, 1, 2, 4; wrong on 3 and 5.
SPLIT = coloured(gaps=[10, 30, 50, 50, 70, 90], labels=[0, 0, 0, 1, 0, 2])


def pgd(eps, **changes):
    return Attack(eps=eps / 255, step_size=eps / 2 / 255, steps=8).changed(**changes)


def test_standard_accuracy_counts_the_right_answers():
    measured = evaluate(BrightestChannel(), SPLIT, image_size=4)
    assert measured == Accuracy(samples=6, correct=4, robust=None)
    assert measured.SA == 4 / 6
    assert measured.RA is None


@pytest.mark.parametrize(("eps", "robust"), [(4, 4), (6, 3), (14, 3), (16, 2), (24, 2), (26, 1), (34, 1), (36, 0)])
def test_robust_accuracy_counts_the_gaps_that_twice_eps_does_not_close(eps, robust):
    measured = evaluate(BrightestChannel(), SPLIT, attack=pgd(eps), image_size=4)
    assert measured == Accuracy(samples=6, correct=4, robust=robust)
    assert measured.record()["RA"] == robust / 6


@pytest.mark.parametrize("attack", [Attack(method="fgsm", eps=1.0), Attack(eps=1.0, step_size=0.5, steps=4)])
def test_nothing_stands_where_every_pixel_may_become_any_other(attack):
    assert evaluate(BrightestChannel(), SPLIT, attack=attack, image_size=4).RA == 0


def test_passes_that_do_not_fit_into_memory_are_made_with_half_the_images():
    model = BrightestChannel()
    sizes = []

    def count(module, arguments):
        sizes.append(len(arguments[0]))
        if len(arguments[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(count)
    measured = evaluate(model, SPLIT, attack=pgd(14), image_size=4, batch_size=8)
    assert measured == Accuracy(samples=6, correct=4, robust=3)
    assert sizes[:3] == [6, 4, 2]


def test_without_a_radius_ra_is_sa():
    measured = evaluate(BrightestChannel(), SPLIT, attack=Attack(eps=0.0), image_size=4)
    assert measured.robust == measured.correct == 4


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 100), min_size=1, max_size=12),
    eps=st.integers(0, 60),
    batch_size=st.integers(1, 5),
    data=st.data(),
)
def test_counts_are_those_of_the_images_one_by_one(gaps, eps, batch_size, data):
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(gaps), max_size=len(gaps)))
    # At a gap of exactly 0 or 2 eps the channels tie, and rounding decides.
    gaps = [gap + 1 if gap in (0, 2 * eps) else gap for gap in gaps]
    attack = pgd(eps) if eps else Attack(eps=0.0)
    measured = evaluate(BrightestChannel(), coloured(gaps, labels), attack=attack, image_size=4, batch_size=batch_size)
    right = [gap for gap, label in zip(gaps, labels, strict=True) if label == 0]
    assert measured == Accuracy(len(gaps), len(right), sum(gap > 2 * eps for gap in right))


def test_only_what_is_right_clean_is_attacked(monkeypatch):
    attacked = []

    def spy(model, images, labels, attack, generator, loss):
        attacked.append((images[:, 0, 0, 0].mul(255).round().int() - 100).tolist())
        return images

    monkeypatch.setattr(evaluation, "perturb", spy)
    measured = evaluate(BrightestChannel(), SPLIT, attack=pgd(4), image_size=4, batch_size=4)
    assert attacked == [[10, 30, 50], [70]]
    assert measured.robust == 4


def test_a_batch_without_a_right_answer_is_not_attacked(monkeypatch):
    monkeypatch.setattr(evaluation, "perturb", lambda *_: pytest.fail("attacked"))
    assert evaluate(BrightestChannel(), coloured([50, 60], [1, 2]), attack=pgd(4), image_size=4).RA == 0


class Answers(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images):
        return self.logits.expand(len(images), -1) + 0 * images.sum()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_answer_with_a_logit_that_is_no_number_is_wrong(bad, place):
    logits = [1.0, 0.0, 0.0]
    logits[place] = bad
    split = coloured([50] * 3, [0, 1, 2])
    assert evaluate(Answers(*logits), split, attack=pgd(4), image_size=4) == Accuracy(3, 0, 0)


def test_a_model_that_breaks_down_under_attack_is_not_robust():
    class NanOffTheByteGrid(BrightestChannel):
        def forward(self, images):
            scaled = images * 255
            clean = ((scaled - scaled.round()).abs() < 1e-3).flatten(1).all(1)
            return super().forward(images) + torch.where(clean, 0.0, float("nan"))[:, None]

    split = coloured([50, 50], [0, 0])
    assert evaluate(NanOffTheByteGrid(), split, attack=pgd(1.5, steps=1), image_size=4) == Accuracy(2, 2, 0)


def test_the_model_is_measured_in_eval_mode_and_gets_its_flags_back():
    model = BrightestChannel().train()
    model.normaliser.eval()  # a user's frozen layer stays frozen
    evaluate(model, SPLIT, attack=pgd(4), image_size=4)
    assert not any(training or normalising for _, training, normalising in model.seen)
    assert model.training
    assert not model.normaliser.training

    model.eval()
    evaluate(model, SPLIT, attack=pgd(4), image_size=4)
    assert not any(module.training for module in model.modules())


def test_flags_come_back_after_a_failure_too():
    class Broken(BrightestChannel):
        def forward(self, images):
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, SPLIT, image_size=4)
    assert all(module.training for module in model.modules())


def test_the_model_sees_the_size_it_was_trained_at():
    model = BrightestChannel()
    evaluate(model, SPLIT, image_size=9, batch_size=4)
    assert [shape for shape, *_ in model.seen] == [(4, 3, 9, 9), (2, 3, 9, 9)]


def test_a_seed_decides_the_random_starts():
    starts = []

    class Recording(BrightestChannel):
        def forward(self, images):
            if images.requires_grad:
                starts.append(images.detach().clone())
            return super().forward(images)

    for seed in (1, 1, 2):
        evaluate(Recording(), SPLIT, attack=pgd(4, steps=1), image_size=4, seed=seed)
    first, again, other = starts
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_lower_precision_is_used_only_where_asked_for():
    dtypes = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(48, 3)

        def forward(self, images):
            logits = self.head(images.flatten(1))
            dtypes.append(logits.dtype)
            return logits

    evaluate(Watched(), SPLIT, image_size=4)
    evaluate(Watched(), SPLIT, image_size=4, precision="bfloat16")
    assert dtypes == [torch.float32, torch.bfloat16]


def test_the_record_holds_shares_and_counts():
    assert Accuracy(8, 6, 2).record() == {"SA": 0.75, "RA": 0.25, "correct": 6, "robust": 2, "samples": 8}
    assert Accuracy(8, 6).record() == {"SA": 0.75, "RA": None, "correct": 6, "robust": None, "samples": 8}


def test_images_are_shown_at_their_own_size_unless_another_is_asked_for():
    seen = []

    class Watch(nn.Module):
        def forward(self, images):
            seen.append(tuple(images.shape))
            return torch.zeros(len(images), 2)

    split = Split(torch.zeros(3, 3, 48, 48, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    evaluate(Watch(), split)
    evaluate(Watch(), split, image_size=16)
    assert seen == [(3, 3, 48, 48), (3, 3, 16, 16)]


def test_a_plain_timm_network_is_refused_because_it_takes_normalised_images():
    ticket = load_ticket("resnet18-slim-std", 0.2)
    split = Split(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ConfigError, match=r"ticket.to_normalised\(\)"):
        evaluate(ticket.to_model(), split)
    evaluate(ticket.to_normalised(), split)
