"""Sound itself: reading good and broken files, resampling, noise, time shift, and both together."""

import struct

import numpy as np
import pytest
import soundfile
import torch

from esc_lib.config import Augmentation
from esc_lib.sound import audio, augment

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
}
every_format = pytest.mark.parametrize("ending", FORMATS)


def noisy_sine(sr=16000, seconds=1.0, hz=440.0, seed=0):
    t = np.arange(round(seconds * sr)) / sr
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * hz * t) + 0.05 * noise).astype(np.float32)


def write(folder, ending, waveform, sr=16000):
    path = folder / f"1-100032-A-0.{ending}"
    soundfile.write(path, waveform, sr, **FORMATS[ending])
    return path


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def peak_hz(waveform, sr):
    """Return the frequency of the strongest line, refined by a parabola through the log peak."""
    level = np.log(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) + 1e-12)
    k = int(level.argmax())
    left, top, right = level[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * top + right)) * sr / len(waveform)


# ------------------------------------------------------------------------------------ reading


@every_format
def test_read_returns_mono_float32_and_rate(tmp_path, ending):
    samples = np.round(noisy_sine(sr=22050) * 32768).astype(np.int16)
    waveform, sr = audio.read(write(tmp_path, ending, samples, 22050))
    assert sr == 22050 and waveform.dtype == np.float32 and waveform.shape == samples.shape
    if ending == "ogg":  # lossy: the sound is the same, the samples are not
        assert np.corrcoef(waveform, samples)[0, 1] > 0.99
    else:
        np.testing.assert_array_equal(waveform, samples / np.float32(32768))


def test_read_takes_text_paths(tmp_path):
    path = write(tmp_path, "wav", noisy_sine())
    np.testing.assert_array_equal(audio.read(str(path))[0], audio.read(path)[0])


@every_format
def test_stereo_becomes_the_mean_of_its_channels(tmp_path, ending):
    left, right = noisy_sine(hz=440, seed=1), noisy_sine(hz=660, seed=2)
    path = write(tmp_path, ending, np.stack([left, right], axis=1))
    waveform, _ = audio.read(path)
    both, _ = soundfile.read(path, dtype="float32")
    assert waveform.ndim == 1
    np.testing.assert_allclose(waveform, (both[:, 0] + both[:, 1]) / 2, atol=1e-7)


def test_16_bit_samples_survive_the_round_trip(tmp_path):
    samples = np.arange(-32768, 32768, 7).astype(np.int16)
    waveform, _ = audio.read(write(tmp_path, "wav", samples))
    np.testing.assert_array_equal(audio.to_int16(waveform), samples)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clip .*1-100032-A-0\.wav is missing; restore"):
        audio.read(tmp_path / "1-100032-A-0.wav")
    with pytest.raises(FileNotFoundError, match="is missing"):
        audio.read(tmp_path)  # a folder is no clip


@every_format
def test_garbage_is_named(tmp_path, ending):
    path = tmp_path / f"1-100032-A-0.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ValueError, match=rf"clip .*-A-0\.{ending} cannot be decoded \(.*replace"):
        audio.read(path)


@every_format
def test_file_without_a_byte_is_named(tmp_path, ending):
    path = tmp_path / f"1-100032-A-0.{ending}"
    path.touch()
    with pytest.raises(ValueError, match=rf"clip .*-A-0\.{ending} cannot be decoded"):
        audio.read(path)


@pytest.mark.parametrize("ending", ["wav", "ogg"])  # a FLAC file of no samples has no bytes
def test_clip_without_samples_is_named(tmp_path, ending):
    path = write(tmp_path, ending, np.zeros(0, np.float32))
    with pytest.raises(ValueError, match=rf"clip .*-A-0\.{ending} holds no samples; replace"):
        audio.read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_named(tmp_path, value):
    clip = noisy_sine()
    clip[100] = value
    path = tmp_path / "1-100032-A-0.wav"
    soundfile.write(path, clip, 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"clip .*1-100032-A-0\.wav holds NaN or infinity"):
        audio.read(path)


# --------------------------------------------------------------------------------- truncation


def cut(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_wav_cut_in_its_data_is_truncated(tmp_path, kept):
    path = write(tmp_path, "wav", noisy_sine())
    cut(path, 44 + round(kept * 32000))
    with pytest.raises(ValueError, match=r"clip .*1-100032-A-0\.wav is truncated; replace"):
        audio.read(path)


def test_wav_that_lacks_its_last_byte_is_truncated(tmp_path):
    path = write(tmp_path, "wav", noisy_sine())
    cut(path, -1)
    with pytest.raises(ValueError, match=r"1-100032-A-0\.wav is truncated"):
        audio.read(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_cut_flac_is_named(tmp_path, kept):
    # its decoder stumbles over the missing bytes before we can count samples
    path = write(tmp_path, "flac", noisy_sine())
    cut(path, round(kept * path.stat().st_size))
    with pytest.raises(ValueError, match=r"-A-0\.flac (cannot be decoded|is truncated).*replace"):
        audio.read(path)


def ogg_pages(path):
    content = path.read_bytes()
    return [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]


@pytest.mark.parametrize("kept", [0.5, 0.7])
def test_ogg_cut_between_its_ends_is_truncated(tmp_path, kept):
    path = write(tmp_path, "ogg", noisy_sine(seconds=5))
    cut(path, round(kept * path.stat().st_size))
    with pytest.raises(ValueError, match=r"clip .*1-100032-A-0\.ogg is truncated; replace"):
        audio.read(path)


@pytest.mark.parametrize("n_bytes", [-1, -100, -500])
def test_ogg_cut_in_its_last_page_is_truncated(tmp_path, n_bytes):
    # the last page says "end of stream" in its first bytes; without its end it is not decoded,
    # and up to half a second would be missing without a word
    path = write(tmp_path, "ogg", noisy_sine(seconds=5))
    assert path.stat().st_size - ogg_pages(path)[-1] > 500
    cut(path, n_bytes)
    with pytest.raises(ValueError, match=r"clip .*1-100032-A-0\.ogg is truncated; replace"):
        audio.read(path)


@pytest.mark.parametrize("beyond", [0, 3, 4, 5, 6, 26, 27, 30])
@pytest.mark.parametrize("page", [-2, -1])
def test_ogg_cut_in_a_page_header_is_truncated(tmp_path, page, beyond):
    path = write(tmp_path, "ogg", noisy_sine(seconds=5))
    cut(path, ogg_pages(path)[page] + beyond)
    with pytest.raises(ValueError, match=r"clip .*1-100032-A-0\.ogg is truncated; replace"):
        audio.read(path)


@every_format
def test_bytes_after_the_sound_do_no_harm(tmp_path, ending):
    path = write(tmp_path, ending, noisy_sine())
    intact, _ = audio.read(path)
    path.write_bytes(path.read_bytes() + b"a tag that some editor appended")
    np.testing.assert_array_equal(audio.read(path)[0], intact)


@pytest.mark.parametrize("size", [
    0xFFFFFFFF, 0xFFFFFFFF - 36, 0x80000000, 0x7FFFF000, 0x7FFFFFFF - 36, 0,
])  # fmt: skip
def test_wav_whose_writer_could_not_go_back_is_read_to_its_end(tmp_path, size):
    # ffmpeg and sox to a pipe, arecord, a recorder that died
    path = write(tmp_path, "wav", noisy_sine())
    intact, _ = audio.read(path)
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[4:8] = struct.pack("<I", min(size + 36, 0xFFFFFFFF))
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    np.testing.assert_array_equal(audio.read(path)[0], intact)


def test_flac_of_unknown_length_is_named(tmp_path):
    path = write(tmp_path, "flac", noisy_sine())
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # the number of samples, and its four high bits before
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"-A-0\.flac cannot be decoded \(its header does not say"):
        audio.read(path)


def test_ogg_with_much_behind_it_is_complete(tmp_path):
    path = write(tmp_path, "ogg", noisy_sine())
    intact, _ = audio.read(path)
    path.write_bytes(path.read_bytes() + bytes(70_000))
    np.testing.assert_array_equal(audio.read(path)[0], intact)


def test_a_clip_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = write(tmp_path, "wav", noisy_sine())

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"^read: no permission to read clip .*\.wav; ask"):
        audio.read(path)


def test_wav_without_the_pad_byte_is_complete(tmp_path):
    # an odd number of bytes is to be padded to an even one; not every program does it
    path = tmp_path / "1-100032-A-0.wav"
    soundfile.write(path, noisy_sine()[:1001], 16000, subtype="PCM_U8")
    intact, _ = audio.read(path)
    cut(path, -1)
    waveform, _ = audio.read(path)
    assert len(waveform) == 1001
    np.testing.assert_array_equal(waveform, intact)


# -------------------------------------------------------------------- resampling, length, bits


@pytest.mark.parametrize(("sr", "target_sr"), [(44100, 16000), (16000, 44100), (48000, 44100)])
@pytest.mark.parametrize("hz", [100.0, 1234.3, 7000.0])
def test_resampling_keeps_frequency_and_level(sr, target_sr, hz):
    t = np.arange(2 * sr) / sr
    sine = (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)
    resampled = audio.resample(sine, sr, target_sr)
    assert len(resampled) == 2 * target_sr and resampled.dtype == np.float32
    # the parabola through a Hann peak is off by up to 0.02 bins of 0.5 Hz
    assert peak_hz(resampled, target_sr) == pytest.approx(hz, abs=0.02)
    middle = resampled[target_sr // 4 : -target_sr // 4].astype(float)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=1e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    t = np.arange(44100) / 44100
    sine = (0.5 * np.sin(2 * np.pi * 12000 * t)).astype(np.float32)
    middle = audio.resample(sine, 44100, 16000)[2000:-2000]
    assert 20 * np.log10(np.abs(middle).max() / 0.5) < -100  # would fold to 4 kHz


def test_resampling_to_the_same_rate_changes_nothing():
    clip = noisy_sine()
    np.testing.assert_array_equal(audio.resample(clip, 16000, 16000), clip)


def test_to_int16_rounds_and_clips():
    step = 1 / 32768
    waveform = np.array([0, 0.4 * step, 0.6 * step, -0.6 * step, 1 - step, 1, 1.7, -1, -3])
    expected = [0, 0, 1, -1, 32767, 32767, 32767, -32768, -32768]
    for dtype in (np.float32, np.float64):
        samples = audio.to_int16(waveform.astype(dtype))
        assert samples.dtype == np.int16 and samples.tolist() == expected


def test_loudest_is_where_the_energy_is():
    clip = np.array([0.0, 1, 0, -3, 3, 0, 4, 0])
    assert audio.loudest(clip, 2).tolist() == [-3, 3]
    assert audio.loudest(clip, 4).tolist() == [-3, 3, 0, 4]
    assert audio.loudest(clip, 1).tolist() == [4]
    assert audio.loudest(clip, 9) is clip
    rng = np.random.default_rng(0)
    noise = rng.normal(size=300).astype(np.float32)
    starts = [np.square(noise[start : start + 40]).sum() for start in range(261)]
    start = int(np.argmax(starts))
    np.testing.assert_array_equal(audio.loudest(noise, 40), noise[start : start + 40])


def test_fit_length_cuts_or_pads_at_the_end():
    clip = np.arange(1, 6, dtype=np.int16)
    assert audio.fit_length(clip, 3).tolist() == [1, 2, 3]
    assert audio.fit_length(clip, 5).tolist() == [1, 2, 3, 4, 5]
    assert audio.fit_length(clip, 7).tolist() == [1, 2, 3, 4, 5, 0, 0]
    assert audio.fit_length(clip, 7).dtype == np.int16 and clip.tolist() == [1, 2, 3, 4, 5]


# -------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize(("exponent", "db_per_octave"), [(0.0, 0.0), (1.0, -3.01), (2.0, -6.02)])
@pytest.mark.parametrize("sr", [16000, 44100])
def test_coloured_noise_has_its_slope(sr, exponent, db_per_octave):
    noise = audio.coloured_noise(torch.full((4,), exponent), 5 * sr, sr, generator())
    power = torch.fft.rfft(noise.double()).abs().square().mean(dim=0).numpy()
    hz = np.arange(len(power)) * sr / (5 * sr)
    edges = 25 * 2 ** np.arange(0, np.log2(sr / 2 / 25), 0.5)  # half octaves up to sr / 2
    bands = np.digitize(hz, edges)
    level = [10 * np.log10(power[bands == k].mean()) for k in range(1, len(edges))]
    centres = [np.log2(hz[bands == k]).mean() for k in range(1, len(edges))]
    slope = np.polyfit(centres, level, 1)[0]
    # the lowest half octave has 50 bins x 4 clips: sd 0.3 dB, over a fit of 8 octaves and more;
    # sd of the slope over seeds: 0.02
    assert slope == pytest.approx(db_per_octave, abs=0.08)


@pytest.mark.parametrize("n_samples", [16000, 15999, 80000])
def test_coloured_noise_has_nothing_under_20_hz_and_unit_power(n_samples):
    noise = audio.coloured_noise(torch.tensor([0.0, 1.0, 2.0]), n_samples, 16000, generator())
    assert noise.shape == (3, n_samples) and noise.dtype == torch.float32
    power = torch.fft.rfft(noise.double()).abs().square()
    low = torch.fft.rfftfreq(n_samples, 1 / 16000) < 20
    # rounding to float32 is white: 1e-14 of the power, over all bins
    assert (power[:, low].sum(dim=1) / power.sum(dim=1)).max() < 1e-12
    torch.testing.assert_close(noise.double().square().mean(dim=1), torch.ones(3).double(),
                               atol=1e-5, rtol=0)  # fmt: skip
    assert noise.double().mean(dim=1).abs().max() < 1e-6


def test_coloured_noise_comes_from_the_generator_alone():
    exponents = torch.tensor([0.0, 2.0])
    first, again, other = (
        audio.coloured_noise(exponents, 4000, 16000, generator(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def unequal_clips(seed=0):
    """Return four clips of different lengths and levels, the last one silent."""
    n_valid = torch.tensor([8000, 5824, 100, 8000])
    waveforms = torch.zeros(4, 8000)
    for row, (n, level) in enumerate(zip(n_valid.tolist(), (0.3, 0.001, 0.9, 0.0), strict=True)):
        clip = torch.randn(n, generator=generator(seed + row))
        waveforms[row, :n] = level * clip / clip.abs().max()
    return waveforms, n_valid


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 15.0, 40.0])
def test_noise_has_its_snr_over_the_clips_own_length(snr_db):
    waveforms, n_valid = unequal_clips()
    before = waveforms.clone()
    noise = audio.coloured_noise(torch.tensor([0.0, 1, 2, 1]), 8000, 16000, generator())
    mixed = audio.add_noise(waveforms, n_valid, noise, snr_db)
    assert torch.equal(waveforms, before)
    for row in range(3):
        clip = waveforms[row, : n_valid[row]].double()
        added = mixed[row, : n_valid[row]].double() - clip
        measured = 10 * torch.log10(clip.square().sum() / added.square().sum())
        # what was added is known to float32's step of the sum: 6e-8 of the clip, under noise
        # that is 1e-2 of it at 40 dB: 1e-5 relative per sample, less in the mean
        assert float(measured) == pytest.approx(snr_db, abs=1e-3)
        assert (mixed[row, n_valid[row] :] == 0).all()
        shape = torch.corrcoef(torch.stack([added, noise[row, : n_valid[row]].double()]))[0, 1]
        assert shape > 0.999


def test_silent_clip_stays_silent_under_noise():
    waveforms, n_valid = unequal_clips()
    noise = audio.coloured_noise(torch.zeros(4), 8000, 16000, generator())
    assert (audio.add_noise(waveforms, n_valid, noise, 15.0)[3] == 0).all()


# -------------------------------------------------------------------------------------- shift


def shift_by_hand(waveforms, n_valid, offsets):
    shifted = [[0.0] * len(row) for row in waveforms]
    for row, (n, offset) in enumerate(zip(n_valid, offsets, strict=True)):
        for i in range(n):
            if 0 <= i + offset < n:
                shifted[row][i + offset] = waveforms[row][i]
    return shifted


def test_shift_is_the_plain_loop():
    rng = np.random.default_rng(0)
    n_valid = [10, 10, 10, 7, 7, 7, 7, 1, 1, 10, 10, 7]
    offsets = [0, 3, -3, 0, 2, -2, 6, 1, -1, 10, -10, 9]
    waveforms = np.zeros((len(n_valid), 10), np.float32)
    for row, n in enumerate(n_valid):
        waveforms[row, :n] = rng.uniform(0.5, 1, n)
    given = torch.tensor(waveforms)
    shifted = audio.shift(given, torch.tensor(n_valid), torch.tensor(offsets))
    assert shifted.tolist() == shift_by_hand(waveforms.tolist(), n_valid, offsets)
    assert torch.equal(given, torch.tensor(waveforms))


def test_shift_is_the_plain_loop_for_every_offset():
    waveform = torch.arange(1.0, 10.0)
    for n in (1, 4, 9):
        offsets = list(range(-10, 11))
        clips = (waveform * (torch.arange(9) < n)).repeat(len(offsets), 1)
        lengths = [n] * len(offsets)
        shifted = audio.shift(clips, torch.tensor(lengths), torch.tensor(offsets))
        assert shifted.tolist() == shift_by_hand(clips.tolist(), lengths, offsets)


# ------------------------------------------------------------------------------- augmentation


def augmented(settings, seed=0, clips=None):
    waveforms, n_valid = clips or unequal_clips()
    return augment.augment_waveforms(waveforms, n_valid, settings, 16000, generator(seed))


def test_augmentation_is_decided_by_its_generator():
    settings = Augmentation(probability=0.5)
    assert torch.equal(augmented(settings, 3), augmented(settings, 3))
    assert not torch.equal(augmented(settings, 3), augmented(settings, 4))


def test_augmentation_leaves_its_input_alone():
    clips = unequal_clips()
    before = clips[0].clone(), clips[1].clone()
    result = augmented(Augmentation(probability=1.0), clips=clips)
    assert torch.equal(clips[0], before[0]) and torch.equal(clips[1], before[1])
    assert not torch.equal(result, before[0]) and result.shape == before[0].shape


def test_augmentation_never_happens_at_probability_0():
    waveforms, _ = unequal_clips()
    for seed in range(5):
        assert torch.equal(augmented(Augmentation(probability=0.0), seed), waveforms)


def test_augmentation_adds_nothing_beyond_a_clips_end():
    _, n_valid = unequal_clips()
    beyond = torch.arange(8000) >= n_valid[:, None]
    for seed in range(5):
        result = augmented(Augmentation(probability=1.0), seed)
        assert (result[beyond] == 0).all() and (result[3] == 0).all()


def test_noise_and_shift_come_independently_at_their_probability():
    # a clip of two spikes on silence shows both: noise fills the silence, a shift moves a spike
    n_clips, n_samples = 4000, 200
    waveforms = torch.zeros(n_clips, n_samples)
    waveforms[:, [50, 150]] = 1.0
    n_valid = torch.full((n_clips,), n_samples)
    settings = Augmentation(probability=0.3)
    result = augment.augment_waveforms(waveforms, n_valid, settings, 16000, generator())
    noisy = (result != 0).sum(dim=1) > 2
    # the noise is 15 dB under the clip, far under the spikes
    shifted = result.argmax(dim=1).ne(50) & result[:, 50].lt(0.5)
    sd = (0.3 * 0.7 / n_clips) ** 0.5
    assert float(noisy.float().mean()) == pytest.approx(0.3, abs=4 * sd)
    # offsets are whole samples up to 20 % of 200: 1 in 40 draws rounds to zero
    assert float(shifted.float().mean()) == pytest.approx(0.3 * 39 / 40, abs=4 * sd)
    both = float((noisy & shifted).float().mean())
    assert both == pytest.approx(0.3 * 0.3 * 39 / 40, abs=4 * (0.09 * 0.91 / n_clips) ** 0.5)


def test_shifts_are_uniform_up_to_a_share_of_the_clips_own_length():
    n_clips = 3000
    n_valid = torch.where(torch.arange(n_clips) % 2 == 0, 1000, 400)
    waveforms = torch.zeros(n_clips, 1000)
    middle = n_valid // 2
    waveforms[torch.arange(n_clips), middle] = 1.0
    settings = Augmentation(probability=1.0, snr_db=60.0, max_shift=0.2)
    result = augment.augment_waveforms(waveforms, n_valid, settings, 16000, generator())
    offsets = result.argmax(dim=1) - middle
    for length in (1000, 400):
        moved = offsets[n_valid == length].float() / length
        assert moved.abs().max() <= 0.2
        assert moved.min() < -0.19 and moved.max() > 0.19
        # uniform on +- 0.2: sd 0.2 / sqrt(3), of the mean over 1500 clips 0.003
        assert float(moved.mean()) == pytest.approx(0, abs=0.012)
        assert float(moved.std()) == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_each_clip_draws_one_of_the_noise_colours():
    n_clips, n_samples = 300, 4000
    waveforms = torch.randn(n_clips, n_samples, generator=generator(9))
    n_valid = torch.full((n_clips,), n_samples)
    settings = Augmentation(probability=1.0, max_shift=0.0)
    result = augment.augment_waveforms(waveforms, n_valid, settings, 16000, generator())
    spectrum = torch.fft.rfft(result - waveforms).abs().square()
    above_1_khz = spectrum[:, 250:].sum(dim=1) / spectrum.sum(dim=1)
    # share of the power above 1 kHz: white 7/8, pink log(8)/log(400) = 0.35, brown under 0.02
    white, brown = above_1_khz > 0.7, above_1_khz < 0.1
    pink = ~white & ~brown
    assert ((above_1_khz[pink] > 0.2) & (above_1_khz[pink] < 0.5)).all()
    sd = (n_clips * 2 / 9) ** 0.5
    assert all(abs(int(k.sum()) - n_clips / 3) < 4 * sd for k in (white, pink, brown))


def test_level_matched_keeps_the_level_below_full_scale():
    clips = torch.stack([torch.sin(torch.arange(800.0)), torch.ones(800), torch.ones(800)])
    click, silence = torch.zeros(800), torch.zeros(800)
    click[3] = 0.2
    kept = clips.clone()
    found = audio.level_matched(torch.stack([0.01 * clips[0], click, silence]), clips)
    torch.testing.assert_close(found[0], clips[0])
    assert found[1].abs().max() == 1 and found[1, 3] == 1  # a click cannot be as loud
    assert torch.equal(found[2], silence)
    assert torch.equal(clips, kept)
