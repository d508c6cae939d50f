"""From atoms to sound: shares sum to one, so do the sounds; each step against known cases."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from esc_lib.config import Dictionaries, FrontEnd, Network, get_profile
from esc_lib.data import demo
from esc_lib.data.decoding import decode
from esc_lib.data.table import read_clips
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.statistics import Statistics
from esc_lib.explain.components import Components
from esc_lib.explain.masks import both_sides, cut_out, lift, share, stretch
from esc_lib.layers.hooks import mel_magnitude, pool_frames, record, reduce_frequency
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel

PROFILES = ("demo", "esc50-16k", "esc10")  # the three front ends
REAL = Path(os.environ.get("ESC_DATA") or "not set")  # real clips, in the layout of data/README.md
SMALL = FrontEnd(
    sr=8000, n_fft=256, win_length=186, hop_length=47, n_mels=32, f_max_hz=4000.0, n_frames=70
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ components add up to the clip


def clip_length_s(settings):
    return 3.0 if settings == get_profile("demo").front_end else 5.0


def procedural(settings):
    """Return a clip of each of the ten classes, (10, samples)."""
    clip_s = clip_length_s(settings)
    table = demo.clip_table(clips_per_class_per_fold=1)
    names = table[table.fold == 1].filename
    sounds = (demo.stems(name, sr=settings.sr, clip_s=clip_s).values() for name in names)
    n_samples = round(clip_s * settings.sr)
    return torch.stack([torch.from_numpy(sum(one)[:n_samples]).float() for one in sounds])


def real(settings):
    """Return the first clip of each of ten classes below `REAL`, as long as a profile's."""
    clips = read_clips(REAL).drop_duplicates("category")[:10]
    n_samples = round(clip_length_s(settings) * settings.sr)
    with tempfile.TemporaryDirectory() as folder:
        found = decode(clips, settings.sr, n_samples, Path(folder, "sounds.npy"))
        return torch.from_numpy(found.waveforms).float() / 32768


def components_of(front_end, waveforms):
    """Fit a dictionary over a block of a small untrained network, return it and the clips' H."""
    torch.manual_seed(0)
    model = SECNN(10, Network(channels=(2, 4, 6, 4, 4), se_reduction=2, hidden=4)).eval()
    n_valid = torch.full((len(waveforms),), waveforms.shape[1])
    with torch.no_grad(), record(model, ("conv_block3",)) as maps:
        model(front_end.features(waveforms, n_valid))
    h = reduce_frequency(maps["conv_block3"])
    h[:, :, 5:9] = 0  # a time at which no atom is active
    mel = pool_frames(mel_magnitude(front_end, waveforms), h.shape[-1])
    fitted = fit_layer(Statistics.of(mel, h), Dictionaries(), 0, models=())
    return Components("conv_block3", fitted.optimum.float(), fitted.scale.float()), h


def largest_difference(settings, waveforms):
    """Return by how much the atoms' sounds together miss the clips, and each atom's peak."""
    front_end = LogMel(settings)
    fitted, h = components_of(front_end, waveforms)
    total, sizes = torch.zeros_like(waveforms), []
    for atom in range(h.shape[1]):
        keep = torch.zeros(len(h), h.shape[1], 1)
        keep[:, atom] = 1
        sound = cut_out(front_end, waveforms, fitted.mask(h, keep, settings.n_frames))
        sizes.append(float(sound.abs().amax()))
        total += sound
    return float((total - waveforms).abs().amax()), sizes


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_mask_removes_is_what_one_minus_it_keeps(profile):
    settings = get_profile(profile).front_end
    front_end, waveforms = LogMel(settings), procedural(settings)[:2]
    shape = (2, settings.n_mels, settings.n_frames)
    mask = torch.rand(shape, generator=generator())
    kept, removed = both_sides(front_end, waveforms, mask)
    assert torch.equal(kept, cut_out(front_end, waveforms, mask))
    torch.testing.assert_close(removed, cut_out(front_end, waveforms, 1 - mask), rtol=0, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_the_sounds_of_all_atoms_add_up_to_the_clip(profile, padded):
    settings = get_profile(profile).front_end
    waveforms = procedural(settings)
    if padded:
        waveforms = torch.nn.functional.pad(waveforms, (0, settings.n_samples - waveforms.shape[1]))
    difference, sizes = largest_difference(settings, waveforms)
    assert difference < 1e-4
    assert sum(size > 0.01 for size in sizes) >= 3  # several atoms have something to say


@pytest.mark.skipif(not REAL.is_dir(), reason="ESC_DATA names no folder of real clips")
@pytest.mark.parametrize("profile", PROFILES)
def test_the_sounds_of_all_atoms_add_up_to_real_clips(profile):
    settings = get_profile(profile).front_end
    waveforms = real(settings)
    assert len(waveforms) == 10
    assert largest_difference(settings, waveforms)[0] < 1e-4


def test_groups_of_atoms_that_change_with_time_add_up_to_the_clip():
    settings = get_profile("demo").front_end
    front_end, waveforms = LogMel(settings), procedural(settings)
    fitted, h = components_of(front_end, waveforms)
    group = torch.randint(3, h.shape, generator=generator())
    masks = [fitted.mask(h, (group == i).float(), settings.n_frames) for i in range(3)]
    torch.testing.assert_close(sum(masks), torch.ones_like(masks[0]))
    assert all(mask.std() > 0.05 for mask in masks)
    sounds = [cut_out(front_end, waveforms, mask) for mask in masks]
    assert (sum(sounds) - waveforms).abs().max() < 1e-4


# ------------------------------------------------------------------------------------- the steps


def test_shares_by_hand():
    w = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    h = torch.tensor([[[1.0, 4.0], [1.0, 0.0]]])
    first = share(w, h, torch.tensor([[[1.0], [0.0]]]))
    torch.testing.assert_close(first, torch.tensor([[[0.25, 1.0], [1.0, 1.0]]]))
    by_frame = share(w, h, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    torch.testing.assert_close(by_frame, torch.tensor([[[0.75, 1.0], [0.0, 1.0]]]))


def test_shares_sum_to_one_also_where_no_atom_is_active():
    w = torch.rand(12, 5, generator=generator(0)).pow(4)
    w[3] = 0  # a band that no atom has
    h = torch.rand(2, 5, 9, generator=generator(1))
    h[:, :, 4] = 0  # a time at which no atom is active
    keeps = torch.eye(5)[:, None, :, None].expand(5, 2, 5, 1)
    shares = torch.stack([share(w, h, keep) for keep in keeps])
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(2, 12, 9))
    assert shares.min() >= 0
    torch.testing.assert_close(shares[:, :, 3], torch.full((5, 2, 9), 0.2))
    torch.testing.assert_close(shares[:, :, :, 4], torch.full((5, 2, 12), 0.2))
    assert (share(w, h, torch.zeros(2, 5, 1)) == 0).all()


@pytest.mark.parametrize("n_frames", [431, 188, 96])
@pytest.mark.parametrize("halvings", range(6))
def test_stretch_is_linear_between_the_centres_of_pooled_frames(n_frames, halvings):
    frame = np.arange(n_frames)
    own_frame = torch.from_numpy(frame).float()[None, None]
    centres = pool_frames(own_frame, n_frames >> halvings)[0, 0].numpy()  # where each one lies
    values = torch.rand(2, 3, len(centres), generator=generator())
    found = stretch(values, n_frames)
    assert found.shape == (2, 3, n_frames)
    expected = [[np.interp(frame, centres, row) for row in one] for one in values.numpy()]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_stretch_keeps_constants_exactly():
    assert torch.equal(stretch(torch.full((1, 2, 5), 0.3), 188), torch.full((1, 2, 188), 0.3))


@pytest.mark.parametrize("profile", PROFILES)
def test_lift_is_the_mean_of_the_bands_that_hear_a_bin(profile):
    basis = LogMel(get_profile(profile).front_end).mel_basis
    matrix = lift(basis)
    assert matrix.shape == basis.T.shape and (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(basis.shape[1]))
    heard = np.flatnonzero(basis.sum(dim=0))
    for bin_ in heard[:: len(heard) // 20]:
        column = basis[:, bin_].double().numpy()
        np.testing.assert_allclose(matrix[bin_], column / column.sum(), atol=1e-6)
    assert heard[0] > 0 and torch.equal(matrix[0], matrix[heard[0]])  # below the bank
    assert torch.equal(matrix[-1], matrix[heard[-1]])


def test_a_bin_that_no_band_hears_does_as_its_nearest_neighbour():
    basis = torch.zeros(2, 8)
    basis[0, 1], basis[1, 6] = 0.3, 0.1
    assert lift(basis)[:, 1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


# -------------------------------------------------------------------------------------- the sound


@pytest.fixture(scope="module")
def noise():
    """Return clips of white noise, (20, samples): more than one batch."""
    return 0.2 * torch.randn(20, 3200, generator=generator())


def random_masks(seed, n=20):
    return torch.rand(n, SMALL.n_mels, SMALL.n_frames, generator=generator(seed))


def test_a_mask_of_ones_returns_the_clip_and_one_of_zeros_silence(noise):
    front_end, ones = LogMel(SMALL), torch.ones_like(random_masks(0))
    torch.testing.assert_close(cut_out(front_end, noise, ones), noise, rtol=0, atol=1e-6)
    assert (cut_out(front_end, noise, torch.zeros_like(ones)) == 0).all()


def test_cut_out_is_linear_in_the_mask_and_a_batch_equals_its_clips(noise):
    front_end, one, other = LogMel(SMALL), random_masks(1), random_masks(2)
    together = cut_out(front_end, noise, 0.3 * one + 2 * other)
    apart = 0.3 * cut_out(front_end, noise, one) + 2 * cut_out(front_end, noise, other)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)
    assert (together - noise).abs().max() > 0.05
    alone = cut_out(front_end, noise[17:18], one[17:18])
    torch.testing.assert_close(cut_out(front_end, noise, one)[17:18], alone, rtol=0, atol=1e-6)


def test_a_mask_of_one_band_keeps_the_tone_in_it_and_takes_out_the_other():
    time_s = torch.arange(3200) / SMALL.sr
    low, high = (0.3 * torch.sin(2 * torch.pi * hz * time_s) for hz in (500.0, 2500.0))
    mask = torch.zeros(1, SMALL.n_mels, SMALL.n_frames)
    mask[:, :16] = 1  # up to about 1250 Hz
    sound = cut_out(LogMel(SMALL), (low + high)[None], mask)[0]
    inner = slice(300, -300)  # where a tone begins or ends it has all frequencies
    assert (sound - low)[inner].abs().max() < 3e-3


def test_beyond_the_reach_of_the_frames_there_is_silence():
    reach = (SMALL.n_frames - 1) * SMALL.hop_length + SMALL.n_fft // 4
    long = torch.full((1, reach + 100), 0.5)
    sound = cut_out(LogMel(SMALL), long, torch.ones_like(random_masks(0, n=1)))
    torch.testing.assert_close(sound[:, :reach], long[:, :reach], rtol=0, atol=1e-5)
    assert (sound[:, reach:] == 0).all()
