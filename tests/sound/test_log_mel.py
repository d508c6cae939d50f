"""The front end: parity with librosa and torchaudio, odd lengths, silence, standardisation."""

import multiprocessing
import os
from functools import cache

import numpy as np
import pytest
import torch

from esc_lib.config import PROFILES, Network
from esc_lib.data import demo
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound import log_mel_cpu
from esc_lib.sound.log_mel import (
    LogMel,
    librosa_difference_db,
    librosa_log_mel,
    mel_frequencies_hz,
    standardise,
)

FRONT_ENDS = {
    "thesis": PROFILES["esc50"].front_end,
    "16k": PROFILES["esc50-16k"].front_end,
    "demo": PROFILES["demo"].front_end,
}
CLIP_S = {"thesis": 5.0, "16k": 5.0, "demo": 3.0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Keep torch to one thread: these tensors are small, and threads would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


every_front_end = pytest.mark.parametrize("name", FRONT_ENDS)


@cache
def procedural_clip(target, sr, clip_s, fold=3):
    """Return the first recording of a class, float32 (samples,); read-only, since it is shared."""
    filename = f"{fold}-{100000 + 10000 * fold + 100 * target}-A-{target}.wav"
    clip = sum(demo.stems(filename, sr=sr, clip_s=clip_s).values()).astype(np.float32)
    clip.flags.writeable = False
    return clip


def as_batch(settings, *clips):
    """Return waveforms (batch, n_samples), zero beyond each clip's end, and their lengths."""
    waveforms = torch.zeros(len(clips), settings.n_samples)
    for row, clip in enumerate(clips):
        kept = clip[: settings.n_samples]
        waveforms[row, : len(kept)] = torch.tensor(kept)
    lengths = [min(len(clip), settings.n_samples) for clip in clips]
    return waveforms, torch.tensor(lengths)


@pytest.fixture(scope="module", params=FRONT_ENDS)
def batch(request):
    """Three clips of unequal length: whole, short, long."""
    settings, clip_s = FRONT_ENDS[request.param], CLIP_S[request.param]
    lengths_s = (clip_s, 0.728 * clip_s, 1.448 * clip_s)  # 3.64 s and 7.24 s for 5 s
    clips = [procedural_clip(t, settings.sr, s) for t, s in zip((0, 4, 8), lengths_s, strict=True)]
    return LogMel(settings), *as_batch(settings, *clips)


# ------------------------------------------------------------------------------------- parity


@every_front_end
@pytest.mark.parametrize("target", range(10))
def test_log_mel_is_librosas(name, target):
    settings = FRONT_ENDS[name]
    clip = procedural_clip(target, settings.sr, CLIP_S[name])
    waveforms, n_valid = as_batch(settings, clip)
    # float32 transforms of 2048 points: 60 dB under a frame's loudest bin the rounding is about
    # 1e-7 * 1e3 of the amplitude, that is 9e-4 dB; measured: at most 8e-5 dB
    assert librosa_difference_db(LogMel(settings), waveforms, n_valid) <= 1e-3


@every_front_end
def test_parity_check_sees_a_wrong_window(name):
    # the helper that the book reports must not pass whatever it is given
    settings = FRONT_ENDS[name]
    front_end = LogMel(settings)
    wrong = torch.hamming_window(len(front_end.window)).numpy()
    front_end.plan = front_end.plan._replace(window=wrong)
    waveforms, n_valid = as_batch(settings, procedural_clip(0, settings.sr, CLIP_S[name]))
    assert librosa_difference_db(front_end, waveforms, n_valid) > 0.1


@every_front_end
def test_log_mel_is_torchaudios(name):
    try:
        import torchaudio
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio cannot be imported here: {error}")
    settings = FRONT_ENDS[name]
    witness = torchaudio.transforms.MelSpectrogram(
        sample_rate=settings.sr,
        n_fft=settings.n_fft,
        win_length=settings.win_length,
        hop_length=settings.hop_length,
        f_min=settings.f_min_hz,
        f_max=settings.f_max_hz,
        pad=0,
        n_mels=settings.n_mels,
        window_fn=torch.hann_window,
        power=2.0,
        normalized=False,
        wkwargs={"periodic": True},
        center=True,
        pad_mode="constant",
        norm="slaney",
        mel_scale="slaney",
    )
    ours = LogMel(settings)
    for target in range(10):
        clip = procedural_clip(target, settings.sr, CLIP_S[name])
        waveforms, n_valid = as_batch(settings, clip)
        n_frames = int(ours.n_valid_frames(n_valid))
        log_mel = ours(waveforms, n_valid)[0, :, :n_frames]
        power = witness(torch.tensor(clip))[:, :n_frames]
        reference = 10 * power.clamp_min(1e-10).log10()
        audible = reference > reference.max() - 60
        # torchaudio computes its filters in float32, librosa in float64: near 8 kHz an edge moves
        # by 5e-4 Hz, 2e-5 of a triangle's half width; where a band lives on a bin with a fiftieth
        # of the full weight, that is 1e-3 of its power, 5e-3 dB; measured: at most 1.3e-3 dB
        assert (log_mel - reference)[audible].abs().max() <= 5e-3


@every_front_end
def test_mel_frequencies_are_where_sines_peak(name):
    settings = FRONT_ENDS[name]
    front_end, centres = LogMel(settings), mel_frequencies_hz(settings)
    assert centres.shape == (settings.n_mels,) and (centres.diff() > 0).all()
    # low bands are narrower than the window's main lobe: there the peak is not sharp
    bands = torch.arange(settings.n_mels // 3, settings.n_mels, 7)
    seconds = torch.arange(settings.n_samples) / settings.sr
    sines = torch.sin(2 * torch.pi * centres[bands, None].double() * seconds.double()).float()
    peaks = front_end.mel_power(sines).mean(dim=2).argmax(dim=1)
    assert (peaks - bands).abs().max() <= 1


# ------------------------------------------------------------------------------------- length


@pytest.mark.parametrize("name", ["thesis", "16k"])
def test_five_seconds_give_431_frames(name):
    settings = FRONT_ENDS[name]
    assert settings.n_frames == 431
    clip = procedural_clip(1, settings.sr, 5.0)
    assert len(clip) == 5 * settings.sr
    waveforms, n_valid = as_batch(settings, clip)
    front_end = LogMel(settings)
    assert front_end(waveforms, n_valid).shape == (1, 128, 431)
    assert front_end.features(waveforms, n_valid).shape == (1, 1, 128, 431)
    assert front_end.n_valid_frames(n_valid).tolist() == [431]
    assert librosa_log_mel(settings, clip).shape == (128, 431)


@pytest.mark.parametrize("name", ["thesis", "16k"])
def test_short_clip_is_padded_with_its_own_minimum(name):
    settings = FRONT_ENDS[name]
    clip = procedural_clip(2, settings.sr, 3.64)
    assert len(clip) == round(3.64 * settings.sr)
    waveforms, n_valid = as_batch(settings, clip)
    front_end = LogMel(settings)
    log_mel = front_end(waveforms, n_valid)[0]
    reference = torch.tensor(librosa_log_mel(settings, clip))
    own = reference.shape[1]
    assert front_end.n_valid_frames(n_valid).tolist() == [own] and own < 431
    audible = reference > reference.max() - 60
    assert (log_mel[:, :own] - reference)[audible].abs().max() <= 1e-3  # as in the parity test
    assert log_mel.shape == (128, 431)
    assert (log_mel[:, own:] == log_mel[:, :own].min()).all()
    features = front_end.features(waveforms, n_valid)[0, 0]
    assert (features[:, own:] == features[:, :own].min()).all()


@pytest.mark.parametrize("name", ["thesis", "16k"])
def test_long_clip_is_cut(name):
    settings = FRONT_ENDS[name]
    clip = procedural_clip(3, settings.sr, 7.24)
    assert len(clip) == round(7.24 * settings.sr)
    waveforms, n_valid = as_batch(settings, clip)
    front_end = LogMel(settings)
    assert front_end.n_valid_frames(n_valid).tolist() == [431]
    whole = torch.tensor(librosa_log_mel(settings, clip))
    assert whole.shape[1] > 431
    reference = whole[:, :431]  # the last of them still hears half a window beyond five seconds
    log_mel = front_end(waveforms, n_valid)[0]
    audible = reference > reference.max() - 60
    assert (log_mel - reference)[audible].abs().max() <= 1e-3  # as in the parity test
    assert audible[:, -1].any()


def test_n_valid_frames_are_librosas_around_every_hop():
    settings = FRONT_ENDS["demo"]
    front_end, hop = LogMel(settings), settings.hop_length
    lengths = [hop * k + d for k in (5, 6, 100) for d in (-1, 0, 1)]
    rng = np.random.default_rng(0)
    expected = [
        librosa_log_mel(settings, rng.standard_normal(n, dtype=np.float32)).shape[1]
        for n in lengths
    ]
    assert front_end.n_valid_frames(torch.tensor(lengths)).tolist() == expected


def test_default_length_is_the_full_width():
    settings = FRONT_ENDS["demo"]
    waveforms, n_valid = as_batch(settings, procedural_clip(5, settings.sr, 4.5))
    assert int(n_valid) == settings.n_samples
    front_end = LogMel(settings)
    assert torch.equal(front_end(waveforms), front_end(waveforms, n_valid))


# ----------------------------------------------------------------------------------- silence


@every_front_end
@pytest.mark.parametrize("share", [1.0, 0.728])
def test_silent_clip_stays_finite_to_the_logits(name, share):
    settings = FRONT_ENDS[name]
    loud = procedural_clip(6, settings.sr, CLIP_S[name])
    silent = np.zeros(round(share * len(loud)), np.float32)
    waveforms, n_valid = as_batch(settings, silent, loud)
    front_end = LogMel(settings)
    assert (front_end(waveforms, n_valid)[0] == -100).all()  # the floor, 10 log10 of 1e-10
    features = front_end.features(waveforms, n_valid)
    assert torch.isfinite(features).all()
    torch.manual_seed(0)
    network = SECNN(10, Network(channels=(8, 8, 16, 16, 32), hidden=16)).eval()
    with torch.no_grad():
        assert torch.isfinite(network(features)).all()


@every_front_end
@pytest.mark.parametrize("share", [1.0, 0.728, 0.3])
def test_silent_clip_has_no_features(name, share):
    # a constant minus its mean; sums of -100 are whole numbers that float32 holds exactly
    settings = FRONT_ENDS[name]
    silent = np.zeros(round(share * CLIP_S[name] * settings.sr), np.float32)
    features = LogMel(settings).features(*as_batch(settings, silent))
    assert (features == 0).all()


# --------------------------------------------------------------------------- standardisation


def test_features_have_mean_0_and_deviation_1_over_own_frames(batch):
    front_end, waveforms, n_valid = batch
    features = front_end.features(waveforms, n_valid)
    for item, frames in zip(features, front_end.n_valid_frames(n_valid), strict=True):
        own = item[0, :, :frames].double()
        # float32 sums of up to 55,168 values of order 1
        assert own.mean().abs() <= 1e-5
        assert (own.std(correction=0) - 1).abs() <= 1e-5


def test_standardise_by_hand():
    log_mel = torch.tensor([[[-10.0, -30.0, 99.0], [-50.0, -30.0, 99.0]]])
    inside = torch.tensor([[[True, True, False]]])
    root = 2**0.5  # mean -30, deviation sqrt((400 + 400) / 4)
    expected = torch.tensor([[[root, 0.0, -root], [-root, 0.0, -root]]])
    torch.testing.assert_close(standardise(log_mel, inside), expected, atol=1e-6, rtol=0)


def test_floor_is_80_db_under_the_clips_own_maximum():
    settings = FRONT_ENDS["demo"]
    seconds = np.arange(3 * settings.sr) / settings.sr
    sine = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    waveforms, n_valid = as_batch(settings, sine, sine / 4)
    log_mel = LogMel(settings)(waveforms, n_valid)
    span = log_mel.amax(dim=(1, 2)) - log_mel.amin(dim=(1, 2))
    torch.testing.assert_close(span, torch.tensor([80.0, 80.0]))
    assert log_mel[0].max() - log_mel[1].max() == pytest.approx(20 * np.log10(4), abs=1e-4)


@every_front_end
@pytest.mark.parametrize("gain", [2.0**-4, 0.1, 0.02])
def test_features_do_not_depend_on_the_level(name, gain):
    settings = FRONT_ENDS[name]
    clip = procedural_clip(7, settings.sr, CLIP_S[name])
    clip = clip * np.float32(0.9 / np.abs(clip).max())
    front_end = LogMel(settings)
    waveforms, n_valid = as_batch(settings, clip, clip * np.float32(gain))
    loud, quiet = front_end(waveforms, n_valid)
    # both floors are top_db below the clip's maximum, not the absolute floor at -100 dB
    assert quiet.max() - settings.top_db > -100
    # rounding of the transforms, at most about 1e-3 dB where it counts (see the parity test);
    # the network's unit is a clip's deviation, about 10 dB
    assert (loud - quiet + 20 * np.log10(gain)).abs().max() <= 1e-3
    first, second = front_end.features(waveforms, n_valid)
    assert (first - second).abs().max() <= 1e-4


# --------------------------------------------------------------------------------- behaviour


def test_batch_equals_its_items(batch):
    front_end, waveforms, n_valid = batch
    log_mel, features = front_end(waveforms, n_valid), front_end.features(waveforms, n_valid)
    for i in range(len(waveforms)):
        own = slice(i, i + 1)
        # a batched matrix product may sum in another order: last bits of numbers up to 100
        torch.testing.assert_close(
            front_end(waveforms[own], n_valid[own]), log_mel[own], atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            front_end.features(waveforms[own], n_valid[own]), features[own], atol=1e-5, rtol=0
        )


def test_input_is_unchanged_and_same_input_gives_same_output(batch):
    front_end, waveforms, n_valid = batch
    before = waveforms.clone(), n_valid.clone()
    first = front_end.features(waveforms, n_valid)
    assert torch.equal(waveforms, before[0]) and torch.equal(n_valid, before[1])
    assert torch.equal(front_end.features(waveforms, n_valid), first)


def test_front_end_has_nothing_to_learn_or_to_save():
    front_end = LogMel(FRONT_ENDS["demo"])
    assert not list(front_end.parameters()) and not front_end.state_dict()


# ------------------------------------------------------------------------- speed without change


@every_front_end
def test_one_pass_through_the_cache_gives_the_power_of_the_transform(name):
    settings = FRONT_ENDS[name]
    front_end = LogMel(settings)
    generator = torch.Generator().manual_seed(0)
    # shorter than the frames see, and longer; fewer frames than a block, and no whole blocks
    for n_frames, n_samples in ((settings.n_frames, settings.n_samples), (7, 100), (61, 10**5)):
        excerpt = front_end.of_frames(n_frames)
        waveforms = torch.randn(1, n_samples, generator=generator)
        ours = torch.empty(1, settings.n_mels, n_frames)
        log_mel_cpu.mel_power(
            waveforms[0].numpy(), excerpt.plan, settings.hop_length, ours[0].numpy()
        )
        # float32 transforms of at most 2048 points, every band a sum of squares
        torch.testing.assert_close(ours, excerpt.mel_power(waveforms), rtol=2e-5, atol=1e-6)


def test_the_processors_way_is_the_devices_way():
    front_end = LogMel(FRONT_ENDS["demo"])
    n_samples = front_end.settings.n_samples
    waveforms = torch.randn(3, n_samples, generator=torch.Generator().manual_seed(3))
    n_valid = torch.tensor([n_samples, n_samples // 2, 512])
    waveforms *= torch.arange(n_samples) < n_valid[:, None]
    device = front_end._decibels(front_end.mel_power(waveforms), n_valid)
    torch.testing.assert_close(front_end(waveforms, n_valid), device, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_fft", [8, 16, 32, 64, 4096])
def test_transforms_of_all_powers_of_two(n_fft):
    window = np.hanning(n_fft + 2)[1:-1].astype(np.float32)
    bins = np.eye(n_fft // 2 + 1, dtype=np.float32)
    signal = np.random.default_rng(0).standard_normal(50 * n_fft)
    hop = n_fft // 4 + 1  # one that does not divide n_fft
    power = np.empty((n_fft // 2 + 1, 50), np.float32)
    plan = log_mel_cpu.plan(window, bins)
    log_mel_cpu.mel_power(signal.astype(np.float32), plan, hop, power)
    padded = np.pad(signal, (n_fft // 2, n_fft))
    frames = np.stack([padded[t * hop : t * hop + n_fft] for t in range(50)])
    expected = np.abs(np.fft.rfft(frames * window)).T ** 2
    np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_not_a_number_is_not_lost():
    front_end = LogMel(FRONT_ENDS["demo"])
    waveforms = torch.zeros(1, front_end.settings.n_samples)
    waveforms[0, 5000] = torch.nan
    power = np.empty((64, 188), np.float32)
    log_mel_cpu.mel_power(waveforms[0].numpy(), front_end.plan, 256, power)
    assert np.isnan(power).any()
    assert np.array_equal(np.isnan(power), front_end.mel_power(waveforms)[0].isnan().numpy())


def test_lengths_the_transform_cannot_do_are_named():
    with pytest.raises(ValueError, match="n_fft=12 is not a power of two"):
        log_mel_cpu.plan(np.ones(12), np.ones((1, 7)))
    with pytest.raises(ValueError, match="mel band 1 holds no bin"):
        log_mel_cpu.plan(np.ones(8), np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_a_clip_has_the_same_bits_in_any_batch_on_any_number_of_threads(n_threads):
    settings = PROFILES["demo"].front_end
    front_end = LogMel(settings)
    waveforms = torch.randn(5, settings.n_samples, generator=torch.Generator().manual_seed(1))
    n_valid = torch.tensor([settings.n_samples, 20_000, 9_000, 512, settings.n_samples])
    alone = torch.cat(
        [front_end(w[None], n[None]) for w, n in zip(waveforms, n_valid, strict=True)]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        together = front_end(waveforms, n_valid)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python warns of forks beside threads
def test_a_forked_process_waits_for_no_thread_of_its_parent():
    settings = PROFILES["demo"].front_end
    front_end = LogMel(settings)
    waveforms = torch.randn(3, settings.n_samples, generator=torch.Generator().manual_seed(4))
    expected = front_end(waveforms)  # the threads are at work from now on
    reader, writer = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: writer.send(front_end(waveforms).numpy()))
    child.start()
    try:
        assert reader.poll(60), "the child hangs"
        assert np.array_equal(reader.recv(), expected.numpy())
    finally:
        child.kill()
        child.join()


def test_autocast_leaves_the_front_end_alone():
    settings = PROFILES["demo"].front_end
    front_end = LogMel(settings)
    waveforms = torch.randn(2, settings.n_samples, generator=torch.Generator().manual_seed(2))
    expected = front_end(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(waveforms), expected)


def test_gradients_reach_the_waveform():
    settings = PROFILES["demo"].front_end
    waveforms = torch.randn(2, settings.n_samples, requires_grad=True)
    LogMel(settings)(waveforms).sum().backward()
    assert torch.isfinite(waveforms.grad).all() and (waveforms.grad != 0).any(dim=1).all()


def test_excerpts_share_window_and_bank():
    front_end = LogMel(PROFILES["esc50"].front_end)
    short = front_end.of_frames(40)
    assert front_end.settings.n_frames == 431 and short.settings.n_frames == 40
    assert short.mel_basis is front_end.mel_basis and short.window is front_end.window
    waveforms = torch.randn(1, front_end.settings.n_samples)
    excerpt = waveforms[:, : short.settings.n_samples]
    torch.testing.assert_close(
        short.mel_power(excerpt), front_end.mel_power(waveforms)[..., :40], rtol=1e-4, atol=1e-4
    )
