"""A planted cue: where it is, how loud, and when a map hits it."""

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, NAMES, small_data

from esc_lib.config import PROFILES, variant
from esc_lib.data.splits import Split
from esc_lib.explain import planted
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz

SR = FRONT_END.sr
ROWS = np.array([1, 3, 8])


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(autouse=True)
def _lower_tones(monkeypatch):
    """Keep both tones below half of these clips' sampling rate."""
    monkeypatch.setattr(planted, "CUE_HZ", 1500.0)
    monkeypatch.setattr(planted, "DECOY_HZ", 700.0)


def drawn(data, seed=0):
    return planted.Planted.draw(data, SR, seed=seed).cue


def test_a_cue_is_a_short_tone_of_known_level_inside_the_clip(data):
    cue = drawn(data)
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
    assert len(set(drawn(data).starts - cue.starts)) == 1
    assert (drawn(data, seed=1).starts != cue.starts).any()


def test_only_the_clips_named_get_the_cue(data):
    cue = drawn(data)
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
    cue = drawn(data)
    clean, _ = data.batch(ROWS)
    gain = (front_end.mel_power(cue.added_to(clean, ROWS, SR)) - front_end.mel_power(clean)).abs()
    for clip, row in enumerate(ROWS):
        bands, frames = cue.place(front_end, int(row))
        assert float(gain[clip, bands, frames].sum() / gain[clip].sum()) > 0.9
        nearest = np.abs(mel_frequencies_hz(FRONT_END).numpy() - 1500).argmin()
        assert (bands.start, bands.stop) == (nearest - 1, nearest + 2)


def test_a_network_is_taught_by_clips_that_only_the_cue_gives_the_class(data):
    data = data.with_split(Split(np.arange(30), np.arange(30, 34), np.arange(34, 40)))
    both = planted.Planted.draw(data, SR, label=1)
    taught = both.taught(data, SR)
    changed = data.labels.numpy() != taught.labels.numpy()
    others = [row for row in range(30) if data.labels[row] != 1]
    assert np.flatnonzero(changed).tolist() == others[:: planted.ONE_IN]
    assert set(taught.clips.category[changed]) == {NAMES[1]} and not data.labels[others].any()
    decoyed = planted.plant(data, both.decoy, np.arange(30), SR).waveforms
    cued = (taught.waveforms != decoyed).any(dim=1).numpy()
    assert cued.tolist() == [row < 30 and taught.labels[row] == 1 for row in range(40)]
    assert torch.equal(taught.waveforms[30:], data.waveforms[30:])


@pytest.mark.parametrize(("usual", "own"), [(1, planted.LEAST), (24, 12), (25, 13)])
def test_half_the_epochs_teach_a_cue_but_never_too_few(data, tmp_path, monkeypatch, usual, own):
    asked = []
    monkeypatch.setattr(planted, "load", lambda *_: None)
    monkeypatch.setattr(
        planted.runs, "run", lambda _, profile, folder: asked.append(profile) or folder
    )
    profile = variant(PROFILES["demo"], epochs=usual, front_end=FRONT_END)
    planted.network(data, profile, planted.Planted.draw(data, SR), tmp_path)
    assert [profile.training.epochs for profile in asked] == [own]
