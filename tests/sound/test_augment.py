"""Excerpts, mixing, masks and resizing of training batches."""

import numpy as np
import pytest
import torch
from scipy import signal

from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span


def one_hot(n=64, classes=10, seed=0):
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(labels, classes).float()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------- excerpts


def test_crop_copies_samples_and_puts_zeros_outside():
    clips = torch.arange(1, 21).float().view(2, 10)
    cut = augment.crop(clips, torch.tensor([-2, 7]), 5)
    assert cut.tolist() == [[0, 0, 1, 2, 3], [18, 19, 20, 0, 0]]


@pytest.mark.parametrize("n_samples", [20, 100, 300])
def test_excerpts_lie_within_the_sound_or_around_it(n_samples):
    span = torch.tensor([[50, 150]]).repeat(101, 1)
    place = torch.linspace(0, 1, 101)
    starts = augment.crop_starts(span, n_samples, place)
    ends = starts + n_samples
    if n_samples <= 100:
        assert (starts >= 50).all() and (ends <= 150).all()
    else:
        assert (starts <= 50).all() and (ends >= 150).all()
    # the first and last place reach both ends of what is allowed
    assert {int(starts[0]), int(starts[-1])} == {50, 150 - n_samples}
    assert (starts.diff() >= 0).all()


def test_sounding_span_finds_the_ends_of_the_sound():
    clips = torch.zeros(4, 1000, dtype=torch.int16)
    clips[0, 200:300] = 5000
    clips[1] = 1
    clips[2, 7] = -32768
    clips[2, 900] = 30  # 60.8 dB below the peak
    assert sounding_span(clips).tolist() == [[200, 300], [0, 1000], [7, 8], [0, 1000]]


# --------------------------------------------------------------------------------------- mixing


def test_draw_follows_beta_and_permutes():
    weight, partner = augment.draw_mix(4000, 0.2, np.random.default_rng(2))
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)); sd of the mean over 4000 items 0.007
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(weight.var()) == pytest.approx(1 / (4 * 1.4), rel=0.1)
    assert sorted(partner.tolist()) == list(range(4000))
    again = augment.draw_mix(4000, 0.2, np.random.default_rng(2))
    assert torch.equal(weight, again[0]) and torch.equal(partner, again[1])


def test_mixup_blends_features_and_targets_with_the_same_weights():
    # features that are the targets, in the shape of a spectrogram, must stay the targets
    targets = one_hot()
    features = targets[:, None, :, None].repeat(1, 1, 1, 3)
    mix = augment.draw_mix(64, 1.0, np.random.default_rng(0))
    mixed, mixed_targets = augment.mixup(features, targets, *mix)
    assert mixed.shape == features.shape and mixed.dtype == features.dtype
    for frame in range(3):
        assert torch.equal(mixed[:, 0, :, frame], mixed_targets)
    # a share and its complement, each rounded to float32
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(64), atol=1e-6, rtol=0)


def test_mixup_by_hand():
    features = torch.tensor([[[[4.0]]], [[[8.0]]]])
    targets = torch.eye(2)
    mixed, mixed_targets = augment.mixup(
        features, targets, torch.tensor([0.75, 1.0]), torch.tensor([1, 0])
    )
    assert mixed.flatten().tolist() == [5.0, 8.0]
    assert mixed_targets.tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_between_class_matches_levels_and_keeps_the_energy_of_independent_sounds():
    sounds = noise(2, 100_000) * torch.tensor([[1.0], [0.01]])
    weight, partner = torch.tensor([0.5, 0.8]), torch.tensor([1, 0])
    mixed, targets = augment.between_class(sounds, torch.eye(2), weight, partner)
    torch.testing.assert_close(targets, torch.tensor([[0.5, 0.5], [0.2, 0.8]]))
    level = mixed.square().mean(1).sqrt()
    torch.testing.assert_close(level, torch.ones(2), atol=0.02, rtol=0)
    unit = sounds / sounds.square().mean(1, keepdim=True).sqrt()
    share = (mixed @ unit.T) / sounds.shape[1]  # of each sound in each mixture
    ratio = share[0, 0] / share[0, 1], share[1, 1] / share[1, 0]
    assert float(ratio[0]) == pytest.approx(1, abs=0.05)
    assert float(ratio[1]) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("mixing", [augment.mixup, augment.between_class])
def test_mixing_leaves_its_input_alone(mixing):
    sounds, targets = noise(16, 50), one_hot(16)
    before = sounds.clone(), targets.clone()
    mixing(sounds, targets, *augment.draw_mix(16, 1.0, np.random.default_rng(0)))
    assert torch.equal(sounds, before[0]) and torch.equal(targets, before[1])


def test_between_class_of_silence_is_finite():
    mixed, _ = augment.between_class(
        torch.zeros(2, 8), torch.eye(2), torch.tensor([0.3, 0.5]), torch.tensor([1, 0])
    )
    assert torch.equal(mixed, torch.zeros(2, 8))


# -------------------------------------------------------------------------------- masks and size


def test_masks_are_one_stripe_along_each_axis_and_no_wider_than_allowed():
    features = torch.ones(200, 1, 40, 60)
    masked = augment.mask_stripes(features, 0.25, np.random.default_rng(0))
    assert torch.equal(features, torch.ones_like(features))
    dead_bands = (masked[:, 0] == 0).all(2)
    dead_frames = (masked[:, 0] == 0).all(1)
    assert dead_bands.sum(1).max() == 10 and dead_frames.sum(1).max() == 15
    assert dead_bands.any(0).all()  # they reach all bands
    for dead in (dead_bands, dead_frames):
        edges = dead.int().diff(dim=1).abs().sum(1) + dead[:, 0].int() + dead[:, -1].int()
        assert set(edges.tolist()) <= {0, 2}  # one stripe, or none
    expected = ~(dead_bands[:, :, None] | dead_frames[:, None])
    assert torch.equal(masked[:, 0] != 0, expected)


def test_resize_stretches_without_moving_bands():
    features = noise(2, 1, 8, 12)
    assert augment.resize(features, 12) is features
    tone = torch.zeros(1, 1, 8, 12)
    tone[:, :, 3] = 1
    for n_frames in (9, 15):
        stretched = augment.resize(tone, n_frames)
        assert stretched.shape == (1, 1, 8, n_frames)
        torch.testing.assert_close(stretched[0, 0, 3], torch.ones(n_frames))
        assert stretched[0, 0, [0, 1, 2, 4, 5, 6, 7]].abs().max() < 1e-6
    ramp = torch.arange(12.0).expand(1, 1, 8, 12)
    assert (augment.resize(ramp, 24)[0, 0, 0].diff() >= 0).all()


# ----------------------------------------------------------------------------------- transforms


def test_transforms_are_drawn_for_each_item_and_leave_the_input_alone():
    clips = noise(64, 4000)
    before = clips.clone()
    generator = torch.Generator().manual_seed(1)
    changed = augment.transform_waveforms(clips, 0.5, 16_000, generator)
    assert torch.equal(clips, before)
    same = sum(torch.allclose(a, b, atol=1e-5) for a, b in zip(clips, changed))
    assert same == pytest.approx(64 / 8, abs=7)  # three coins for each clip
    none = augment.transform_waveforms(clips, 0.0, 16_000, generator)
    assert torch.allclose(none, clips)


@pytest.mark.parametrize(("low", "corner"), [(True, 2000.0), (False, 500.0)])
def test_filter_is_a_butterworth_of_second_order(low, corner):
    sr = 16_000
    seconds = torch.arange(sr) / sr
    hz = torch.tensor([125.0, 500.0, 2000.0, 6000.0])
    tones = torch.sin(2 * np.pi * hz[:, None] * seconds)
    every = torch.full((4, 1), corner)
    filtered = augment.second_order(tones, every, torch.full((4, 1), low), sr)
    middle = slice(sr // 4, 3 * sr // 4)
    gain = filtered[:, middle].square().mean(1) / tones[:, middle].square().mean(1)
    numerator, denominator = signal.butter(2, corner, "low" if low else "high", analog=False, fs=sr)
    expected = signal.freqz(numerator, denominator, hz.numpy(), fs=sr)[1]
    # the digital reference is warped near half the sample rate
    assert gain[:3].sqrt().numpy() == pytest.approx(np.abs(expected)[:3], abs=0.02)
