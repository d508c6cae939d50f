"""A planted cue: where it is, how loud, and when a map hits it."""

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, small_data

from esc_lib.explain import planted
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz

SR = FRONT_END.sr
ROWS = np.array([1, 3, 8])


@pytest.fixture(scope="module")
def data():
    return small_data()


def test_a_cue_is_a_short_tone_of_known_level_inside_the_clip(data):
    cue = planted.draw(data, 1500.0, SR, seed=0)
    clean, lengths = data.batch(ROWS)
    added = cue.added_to(clean, ROWS, SR) - clean
    n = round(planted.LENGTH_S * SR)
    for clip, row in enumerate(ROWS):
        start = cue.starts[row]
        assert 0 <= start and start + n <= lengths[clip]
        sounding = added[clip, start : start + n]
        assert added[clip].abs().sum() == pytest.approx(float(sounding.abs().sum()), rel=1e-5)
        middle = sounding[n // 4 : -n // 4]
        amplitude = float(middle.square().mean().mul(2).sqrt())
        ratio_db = 20 * np.log10(amplitude / float(clean[clip].abs().max()))
        assert ratio_db == pytest.approx(planted.LEVEL_DB, abs=0.1)
        spectrum = torch.fft.rfft(middle).abs()
        assert float(spectrum.argmax()) * SR / len(middle) == pytest.approx(1500, abs=2 * SR / n)
    assert len(set(planted.draw(data, 1500.0, SR, seed=0).starts - cue.starts)) == 1
    assert (planted.draw(data, 1500.0, SR, seed=1).starts != cue.starts).any()


def test_only_the_clips_named_get_the_cue(data):
    cue = planted.draw(data, 1500.0, SR, seed=0)
    kept = data.waveforms.clone()
    found = planted.plant(data, cue, ROWS, SR)
    assert torch.equal(data.waveforms, kept)
    changed = (found.waveforms != kept).any(dim=1).nonzero()[:, 0]
    assert changed.tolist() == ROWS.tolist() and found.waveforms.dtype == torch.int16
    added = (found.waveforms.float() - kept.float())[ROWS] / 32767
    clean, _ = data.batch(ROWS)
    by_hand = cue.added_to(clean, ROWS, SR) - clean
    torch.testing.assert_close(added, by_hand, atol=2e-4, rtol=0)


def test_the_place_of_a_cue_is_where_the_spectrogram_changes(data):
    front_end = LogMel(FRONT_END)
    cue = planted.draw(data, 1500.0, SR, seed=0)
    clean, _ = data.batch(ROWS)
    gain = (front_end.mel_power(cue.added_to(clean, ROWS, SR)) - front_end.mel_power(clean)).abs()
    for clip, row in enumerate(ROWS):
        bands, frames = place = cue.place(front_end, int(row))
        assert planted.hit(gain[clip], place)
        assert float(gain[clip, bands, frames].sum() / gain[clip].sum()) > 0.9
        away = gain[clip].clone()
        away[bands, frames] = 0
        assert not planted.hit(away, place)
        nearest = np.abs(mel_frequencies_hz(FRONT_END).numpy() - 1500).argmin()
        assert (bands.start, bands.stop) == (nearest - 1, nearest + 2)


def test_chance_is_what_random_maps_hit(data):
    front_end, generator = LogMel(FRONT_END), torch.Generator().manual_seed(0)
    cue = planted.draw(data, 1500.0, SR, seed=0)
    place = cue.place(front_end, 0)
    maps = torch.rand(4000, FRONT_END.n_mels, FRONT_END.n_frames, generator=generator)
    share = np.mean([planted.hit(one, place) for one in maps])
    assert share == pytest.approx(planted.chance(front_end, place), abs=0.01)
