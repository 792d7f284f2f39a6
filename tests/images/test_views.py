"""From stored bytes to batches: exact pixels, and random views that show nothing but the image and black."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_hub.images.datasets import Split
from lottery_hub.images.views import augmented, centred, plain_batches, train_batches

CPU = torch.device("cpu")
AUGMENTS = ["none", "crop", "crop-flip", "random-resized-crop"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=6, side=8, seed=0):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=seeded(seed))


def numbered(count, side=8):
    """A split whose image and label i both carry the number i."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(count, 3, side, side).contiguous()
    return Split(images, labels)


def test_an_image_of_the_wanted_size_is_its_bytes_over_255():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert torch.equal(centred(images, 16), images / 255)


def test_centring_leaves_the_stored_bytes_alone():
    images = noise()
    before = images.clone()
    centred(images, 8).zero_()
    centred(images, 12).zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize(("stored", "wanted"), [(8, 32), (28, 32), (32, 224), (64, 32), (32, 8), (33, 32)])
def test_an_image_of_another_size_is_resampled_to_the_wanted_one(stored, wanted):
    pixels = centred(noise(side=stored), wanted)
    assert pixels.shape == (6, 3, wanted, wanted)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_resampling_cuts_a_sixteenth_off_each_side():
    # 256 → 32 passes through round(32 * 256 / 224) = 37 pixels, of which 2 on the left and 3 on the right go.
    ramp = torch.arange(256, dtype=torch.uint8).expand(1, 3, 256, 256)
    row = centred(ramp, 32)[0, 0, 16] * 255
    centres = (torch.arange(32) + 2 + 0.5) * 256 / 37 - 0.5
    torch.testing.assert_close(row, centres, rtol=0, atol=0.1)


def test_a_constant_image_stays_constant_in_every_size():
    images = torch.full((1, 3, 10, 10), 51, dtype=torch.uint8)
    torch.testing.assert_close(centred(images, 32), torch.full((1, 3, 32, 32), 0.2))


def test_no_augmentation_is_the_centred_image():
    images = noise()
    assert torch.equal(augmented(images, "none", 8, seeded()), centred(images, 8))
    assert torch.equal(augmented(images, "none", 12, seeded()), centred(images, 12))


def crops_of(pixels, padding):
    """Every crop of one padded image [3, s, s], by hand: rows and columns shifted, black where nothing is."""
    side = pixels.shape[-1]
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            shown = torch.zeros_like(pixels)
            rows = range(max(0, -down), min(side, side - down))
            columns = range(max(0, -right), min(side, side - right))
            for row in rows:
                shown[:, row, columns.start : columns.stop] = pixels[
                    :, row + down, columns.start + right : columns.stop + right
                ]
            yield (down, right), shown


def test_a_crop_is_the_image_shifted_by_at_most_an_eighth_with_black_beside_it():
    images = noise(count=1).clamp_min(1)  # no black of its own
    wanted = dict(crops_of(images[0] / 255, padding=1))
    seen = set()
    for view in augmented(images.expand(200, 3, 8, 8), "crop", 8, seeded()):
        seen |= {offset for offset, crop in wanted.items() if torch.equal(view, crop)}
        assert any(torch.equal(view, crop) for crop in wanted.values())
    assert seen == set(wanted)  # all nine turn up


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([8, 16, 24]))
def test_a_crop_shows_only_values_of_its_own_image_or_black(seed, side):
    count = 5
    images = torch.stack([torch.full((3, side, side), 10 * i + 1, dtype=torch.uint8) for i in range(count)])
    views = augmented(images, "crop-flip", side, seeded(seed))
    for i, view in enumerate(views):
        values = set((view * 255).round().int().unique().tolist())
        assert values <= {0, 10 * i + 1}
        inner = view[:, side // 8 : -side // 8, side // 8 : -side // 8]
        assert bool((inner > 0).all())  # the shift never reaches farther than the padding


def test_a_flip_mirrors_left_and_right_and_half_of_the_images():
    # Every row reads 1..8, so that a shift by one keeps the order and a flip turns it round.
    image = torch.arange(1, 9, dtype=torch.uint8).expand(400, 3, 8, 8)
    views = augmented(image, "crop-flip", 8, seeded())[:, 0, 2:6, 2:6]
    falling = views[..., 0] > views[..., -1]
    assert bool((falling == falling[:, :1]).all())
    assert 150 < int(falling[:, 0].sum()) < 250
    assert not bool((augmented(image, "crop", 8, seeded())[:, 0, 2, 2:6].diff() < 0).any())  # crop never flips


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([8, 20]), st.sampled_from([8, 17, 32]))
def test_a_resized_crop_has_the_wanted_shape_and_no_new_extremes(seed, stored, wanted):
    images = noise(count=4, side=stored, seed=seed % 1000).clamp(30, 200)
    views = augmented(images, "random-resized-crop", wanted, seeded(seed))
    assert views.shape == (4, 3, wanted, wanted)
    assert views.min() >= 30 / 255 - 1e-6  # interpolation stays between its pixels, and nothing is padded
    assert views.max() <= 200 / 255 + 1e-6


def test_resized_crops_cover_8_to_100_percent_of_the_image():
    side = 64
    ramp = torch.arange(side, dtype=torch.uint8)
    columns = ramp.expand(side, side)
    images = torch.stack([columns, columns.T, columns]).expand(500, 3, side, side)
    views = augmented(images, "random-resized-crop", 16, seeded()) * 255
    # The pixels' values are their coordinates; 16 sample centres span 15/16 of a box.
    width = (views[:, 0, 8, -1] - views[:, 0, 8, 0]).abs() * 16 / 15 / side
    height = (views[:, 1, -1, 8] - views[:, 1, 0, 8]).abs() * 16 / 15 / side
    area, aspect = width * height, width / height
    # Evenly spaced to the last: a box that hung over the edge would repeat its border.
    steps = views[:, 0, 8].diff(dim=-1)
    assert (steps - steps.median(dim=-1, keepdim=True).values).abs().max() < 0.6
    inside = (views[:, :2].amin((1, 2, 3)) > 1) & (views[:, :2].amax((1, 2, 3)) < side - 2)  # away from the border
    assert area.min() > 0.07
    assert area.max() <= 1.03
    assert area.max() > 0.85
    assert aspect[inside].min() > 0.74
    assert aspect[inside].max() < 1.34


@pytest.mark.parametrize("augment", AUGMENTS)
def test_a_generator_decides_the_views(augment):
    images = noise()
    first, again, other = (augmented(images, augment, 8, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (augment == "none")


@pytest.mark.parametrize("augment", AUGMENTS)
def test_training_batches_are_a_shuffle_with_each_image_beside_its_label(augment):
    split = numbered(20)
    batches = list(train_batches(split, 8, augment, 8, seeded(), CPU))
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels.tolist()) == list(range(20))
    assert labels.tolist() != list(range(20))
    for images, of_images in batches:
        assert images.dtype == torch.float32
        assert (images.amax((1, 2, 3)) * 255).round().long().tolist() == of_images.tolist()


def test_training_batches_follow_their_generator():
    split = numbered(20)

    def epoch(seed):
        return torch.cat([images for images, _ in train_batches(split, 8, "crop-flip", 8, seeded(seed), CPU)])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))


@pytest.mark.parametrize(("count", "sizes"), [(17, [8, 8]), (16, [8, 8]), (18, [8, 8, 2]), (1, [1])])
def test_a_last_batch_of_one_image_is_dropped_unless_it_is_all_there_is(count, sizes):
    batches = train_batches(numbered(count), 8, "none", 8, seeded(), CPU)
    assert [len(labels) for _, labels in batches] == sizes


def test_plain_batches_keep_the_order_and_drop_nothing():
    split = numbered(17)
    batches = list(plain_batches(split, 8, 8, CPU))
    assert [len(labels) for _, labels in batches] == [8, 8, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels)
    assert torch.equal(torch.cat([images for images, _ in batches]), split.images / 255)


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_batches_lie_in_memory_as_the_convolutions_like_them(augment, size):
    for images, _ in train_batches(numbered(6), 3, augment, size, seeded(), CPU):
        assert images.is_contiguous(memory_format=torch.channels_last)
    for images, _ in plain_batches(numbered(6), 3, size, CPU):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_crop_flip_also_crops():
    images = noise(count=1).clamp_min(1).expand(100, 3, 8, 8)
    views = augmented(images, "crop-flip", 8, seeded())
    assert bool((views == 0).flatten(1).any(1).any())  # black comes in only by a shift


def test_small_boxes_turn_up_on_both_sides_of_the_image():
    side = 64
    columns = torch.arange(side, dtype=torch.uint8).expand(side, side)
    images = torch.stack([columns, columns.T, columns]).expand(500, 3, side, side)
    views = augmented(images, "random-resized-crop", 16, seeded()) * 255
    width = (views[:, 0, 8, -1] - views[:, 0, 8, 0]).abs() * 16 / 15 / side
    height = (views[:, 1, -1, 8] - views[:, 1, 0, 8]).abs() * 16 / 15 / side
    assert (width * height).min() < 0.12
    for channel in (0, 1):
        middle = views[:, channel].mean((1, 2))
        assert middle.min() < side * 0.3
        assert middle.max() > side * 0.7


def test_shrinking_averages_instead_of_skipping_pixels():
    # A checkerboard of single pixels is grey from afar.
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64)
    pixels = centred(board, 8)
    torch.testing.assert_close(pixels, torch.full_like(pixels, 0.5), rtol=0, atol=0.05)
