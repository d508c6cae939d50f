"""The grid on which anybody's sounds are filtered."""

import librosa
import numpy as np
import pytest
import torch

from esc_lib.config import PROFILES
from esc_lib.explain.masks import cut_out
from esc_lib.sound.grid import SCALES, Grid
from esc_lib.sound.log_mel import LogMel

WAVES = 0.1 * torch.randn(2, 8001, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", SCALES)
def test_masks_that_sum_to_one_give_sounds_that_sum_to_the_sound(scale):
    grid = Grid(8000, 512, 128, 40, scale)
    mask = torch.rand(2, *grid.shape(8001), generator=torch.Generator().manual_seed(1))
    both = grid.apply(WAVES, mask) + grid.apply(WAVES, 1 - mask)
    torch.testing.assert_close(both, WAVES, atol=1e-6, rtol=0)
    torch.testing.assert_close(grid.apply(WAVES, torch.ones_like(mask)), WAVES, atol=1e-6, rtol=0)


def test_the_grid_of_the_front_end_cuts_out_what_the_study_does():
    settings = PROFILES["esc10"].front_end
    grid, front_end = Grid.of(settings), LogMel(settings)
    waves = 0.1 * torch.randn(1, 5 * settings.sr, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(1, *grid.shape(5 * settings.sr))
    assert mask.shape[1:] == (settings.n_mels, settings.n_frames)
    reach = (settings.n_frames - 1) * settings.hop_length
    ours, study = grid.apply(waves, mask), cut_out(front_end, waves, mask)
    torch.testing.assert_close(ours[:, :reach], study[:, :reach], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "expected"), [
    ("mel", librosa.mel_frequencies(42, fmin=0, fmax=4000)),
    ("htk", librosa.mel_frequencies(42, fmin=0, fmax=4000, htk=True)),
    ("linear", np.linspace(0, 4000, 42)),
])  # fmt: skip
def test_a_tone_is_loudest_in_the_band_of_its_frequency(scale, expected):
    grid = Grid(8000, 512, 128, 40, scale)
    np.testing.assert_allclose(grid.centres_hz, expected[1:-1])
    for band in (12, 25, 36):
        hz = grid.centres_hz[band]
        tone = torch.sin(2 * np.pi * hz * torch.arange(8000) / 8000)[None]
        assert abs(int(grid.magnitude(tone)[0].mean(dim=1).argmax()) - band) <= 1


def test_gradients_go_through_mask_and_sound():
    grid, waves = Grid(8000, 256, 64, 20), WAVES[:, :2000].double()
    mask = torch.rand(2, *grid.shape(2000), dtype=torch.float64)
    waves.requires_grad_(), mask.requires_grad_()
    sound = grid.apply(waves, mask)
    weights = torch.randn_like(sound)
    by_mask, by_wave = torch.autograd.grad((weights * sound).sum(), [mask, waves])
    step = 1e-4
    with torch.no_grad():  # the sound is linear in both
        nudge = torch.zeros_like(mask)
        nudge[1, 7, 9] = step
        change = (weights * (grid.apply(waves, mask + nudge) - sound)).sum() / step
        assert float(by_mask[1, 7, 9]) == pytest.approx(float(change), rel=1e-3, abs=1e-5)
        nudge = torch.zeros_like(waves)
        nudge[0, 500] = step
        change = (weights * (grid.apply(waves + nudge, mask) - sound)).sum() / step
        assert float(by_wave[0, 500]) == pytest.approx(float(change), rel=1e-3, abs=1e-5)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="scale='bark'; choose one of mel, htk, linear"):
        Grid(8000, scale="bark")
    with pytest.raises(ValueError, match="hop_length=600 has to be at most half the window, 1024"):
        Grid(8000, hop_length=600)
