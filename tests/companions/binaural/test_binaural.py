"""Heads, rooms, rendering, spectrograms, classical cues, verdicts and the training of a BAST."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend
from scipy.signal import fftconvolve, spectrogram

from esc_lib.companions.binaural import (
    cues,
    heads,
    judging,
    network,
    rendering,
    rooms,
    spectrograms,
    training,
)
from esc_lib.companions.binaural.settings import Settings
from esc_lib.data.clips import Data
from esc_lib.training import loop

HRIR_DATA = os.environ.get("HRIR_DATA", "")
SPHERE = heads.spherical_head(10)
BOTH = (0, 1)  # seats
SMALL_HALL = rooms.Room("small hall", (8.0, 7.0, 5.0), 0.25, distance_m=1.5)


@pytest.fixture(autouse=True)
def same_noise():
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------ heads


@pytest.mark.parametrize("hz", [30.0, 500.0, 3000.0, 8000.0])
@pytest.mark.parametrize("angle", [0.0, 1.0, np.pi])
def test_sphere_equals_the_series_in_high_precision(hz, angle):
    mu = mpmath.mpf(2 * np.pi * hz * 0.0875 / 343)

    def term(m):
        def hankel(x):
            root = mpmath.sqrt(mpmath.pi / (2 * x))
            return root * mpmath.hankel2(m + mpmath.mpf(1) / 2, x)

        slope = hankel(mu) * m / mu - hankel_next(m, mu)
        return mpmath.mpc(0, 1) ** (m - 1) * (2 * m + 1) * mpmath.legendre(m, np.cos(angle)) / slope

    def hankel_next(m, x):
        return mpmath.sqrt(mpmath.pi / (2 * x)) * mpmath.hankel2(m + mpmath.mpf(3) / 2, x)

    expected = complex(sum(term(m) for m in range(40)) / mu**2)
    found = heads.sphere_spectrum(np.array([hz]), np.array([angle]))[0, 0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_sphere_has_no_effect_on_low_notes_and_doubles_high_ones_in_front():
    low, high = heads.sphere_spectrum(np.array([1.0, 20_000.0]), np.array([0.0]))[0]
    assert abs(low) == pytest.approx(1, abs=1e-3)
    assert abs(high) == pytest.approx(2, abs=0.02)


def test_time_difference_follows_woodworth_and_kuhn():
    head = heads.spherical_head(step_deg=5, ear_deg=90)
    found = heads.time_difference_s(head.responses)
    # all frequencies at once: between the rays of high ones and the waves of low ones
    left, step_s = (head.azimuths > 0) & (head.azimuths < 180), 1 / (8 * 16_000)
    low = 3 * 0.0875 / 343 * np.sin(np.deg2rad(head.azimuths))
    assert (found >= heads.woodworth_s(head.azimuths) - step_s)[left].all()
    assert (found <= low + step_s)[left].all()
    hz = np.array([100.0, 101.0])
    ears = heads.sphere_spectrum(hz, np.deg2rad([40.0 - 90, 40.0 + 90]))
    phase = np.angle(ears[0, 0] / ears[1, 0])
    kuhn = 3 * 0.0875 / 343 * np.sin(np.deg2rad(40))
    assert phase / (2 * np.pi * 100) == pytest.approx(kuhn, rel=0.03)


def test_woodworth_by_hand():
    found = heads.woodworth_s(np.array([0, 90, 180, 270, 30, 150]))
    side = 0.0875 / 343 * (1 + np.pi / 2)
    oblique = 0.0875 / 343 * (0.5 + np.pi / 6)
    np.testing.assert_allclose(found, [0, side, 0, -side, oblique, oblique], atol=1e-12)


def test_left_ear_leads_and_is_louder_for_sounds_from_the_left():
    time_s = heads.time_difference_s(SPHERE.responses)
    level_db = heads.level_difference_db(SPHERE.responses)
    left = (SPHERE.azimuths > 0) & (SPHERE.azimuths < 180)
    assert (time_s[left] > 0).all() and (level_db[left] > 0).all()
    np.testing.assert_allclose(SPHERE.responses[9, 0], SPHERE.responses[27, 1], atol=1e-12)


def test_ears_at_the_sides_cannot_tell_front_from_back_and_ears_behind_can():
    mirror = (18 - np.arange(36)) % 36
    apart = heads.spherical_head(step_deg=10, ear_deg=90).responses
    np.testing.assert_allclose(apart, apart[mirror], atol=1e-9)
    assert np.abs(SPHERE.responses - SPHERE.responses[mirror]).max() > 0.05


def test_response_is_short_and_begins_after_the_lead():
    longer = heads.spherical_head(step_deg=30, n_samples=256).responses
    short = heads.spherical_head(step_deg=30).responses
    assert np.square(longer[..., 64:]).sum() < 1e-4 * np.square(longer).sum()
    assert np.abs(short[..., :4]).max() < 0.1 * np.abs(short).max()


def test_nearest_azimuth_goes_around():
    wanted = np.array([0, 4.9, 5.1, 354.9, 355.1, 359.9, -20, 726])
    assert SPHERE.nearest(wanted).tolist() == [0, 0, 1, 35, 0, 0, 34, 1]
    uneven = replace(SPHERE, azimuths=np.array([0.0, 10.0, 90.0]))
    assert uneven.nearest(np.array([49, 51, 224, 226])).tolist() == [1, 2, 2, 0]


def ku100_like(path, **changes):
    """Write a small file in the layout of the measured one: pulses with Woodworth's delays."""
    azimuths = np.arange(0, 360, 5)
    responses = np.zeros((72, 2, 128))
    delays = np.round(heads.woodworth_s(azimuths) * 48_000 / 2).astype(int)
    responses[np.arange(72), 0, 40 - delays] = 1
    responses[np.arange(72), 1, 40 + delays] = 1
    arrays = {"hrir": responses, "azimuths": azimuths, **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_measured_head_is_resampled_and_keeps_its_delays(tmp_path):
    head = heads.read_ku100(ku100_like(tmp_path / "a.npz"))
    assert head.responses.shape == (72, 2, 43)  # 16 kHz
    found = heads.time_difference_s(head.responses)
    np.testing.assert_allclose(found, heads.woodworth_s(head.azimuths), atol=30e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hrir": None}, "is no such file"),
        ({"hrir": np.ones((72, 3, 128))}, r"holds shapes \(72, 3, 128\)"),
        ({"azimuths": np.arange(71)}, "holds shapes"),
        ({"hrir": np.zeros((72, 2, 128))}, "silent responses"),
        ({"hrir": np.full((72, 2, 128), np.nan)}, "NaN"),
        ({"azimuths": np.arange(72)}, "does not go all around"),
        ({"azimuths": -np.arange(0, 360, 5)}, "direction swapped"),
    ],
)
def test_wrong_files_of_responses_raise_one_sentence(tmp_path, changes, match):
    path = ku100_like(tmp_path / "a.npz", **changes)
    with pytest.raises(ValueError, match=f"read_ku100: .*{match}.*give ku100_circular.npz"):
        heads.read_ku100(path)


def test_missing_or_damaged_file_of_responses(tmp_path):
    with pytest.raises(ValueError, match="is missing; give ku100"):
        heads.read_ku100(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("azimuth, left, right")
    with pytest.raises(ValueError, match="is no such file"):
        heads.read_ku100(tmp_path / "text.npz")
    whole = ku100_like(tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no such file"):
        heads.read_ku100(tmp_path / "cut.npz")


@pytest.mark.skipif(not HRIR_DATA, reason="HRIR_DATA names no folder with ku100_circular.npz")
def test_measured_ku100_turns_anticlockwise_and_resembles_a_sphere():
    head = heads.read_ku100(Path(HRIR_DATA) / "ku100_circular.npz")
    assert len(head.azimuths) == 360
    time_s = heads.time_difference_s(head.responses)
    ahead = (head.azimuths <= 60) | (head.azimuths >= 300)
    np.testing.assert_allclose(time_s[ahead], heads.woodworth_s(head.azimuths)[ahead], atol=80e-6)
    level = heads.level_difference_db(head.responses)
    assert level[45] > 8 and level[315] < -8 and abs(level[0]) < 1.5


# ------------------------------------------------------------------------------------------ rooms


def test_reverberation_time_of_a_known_decay_and_by_pyroomacoustics():
    import pyroomacoustics

    rng = np.random.default_rng(0)
    decay = rng.normal(size=16_000) * 10 ** (-3 * np.arange(16_000) / 16_000 / 0.4)
    assert rooms.reverberation_time_s(decay, 16_000) == pytest.approx(0.4, rel=0.05)
    theirs = pyroomacoustics.experimental.measure_rt60(decay, 16_000, decay_db=20)
    assert rooms.reverberation_time_s(decay, 16_000) == pytest.approx(theirs, rel=0.02)


@pytest.fixture(scope="module")
def in_hall():
    return rooms.room_responses(SMALL_HALL, SPHERE, np.array([0.0, 90.0]))


def test_room_has_the_reverberation_time_that_it_states(in_hall):
    import pyroomacoustics

    for ears in in_hall:
        for ear in ears:
            found = pyroomacoustics.experimental.measure_rt60(ear, 16_000, decay_db=20)
            assert found == pytest.approx(0.25, rel=0.15)


def test_direct_sound_in_a_room_is_that_of_the_head_alone(in_hall):
    alone = rooms.room_responses(rooms.ANECHOIC, SPHERE, np.array([0.0, 90.0]))
    before = 48  # samples: the floor answers later
    assert np.abs(in_hall[..., :before] - alone[..., :before]).max() < 0.01 * np.abs(alone).max()
    assert np.square(in_hall[..., before:]).sum() > 0.1 * np.square(alone).sum()


def test_images_equal_those_found_by_hand():
    room = replace(SMALL_HALL, size_m=(8.0, 7.0, 3.0))
    source, position = np.array([2.0, 3.0, 1.4]), np.array([4.0, 3.0, 1.4])
    rng = np.random.default_rng(0)
    offsets, strengths = rooms.image_sources(room, source, position, rng)
    back = rooms.reflection_of(room)
    # itself, then mirrored in the six walls
    mirrored = [(-2, 3, 1.4), (14, 3, 1.4), (2, -3, 1.4), (2, 11, 1.4), (2, 3, -1.4), (2, 3, 4.6)]
    np.testing.assert_allclose(offsets[0], [-2, 0, 0], atol=1e-5)
    np.testing.assert_allclose(strengths[:4], [1, back, back, back])
    for place in mirrored:
        near = np.abs(offsets + position - place).max(axis=1) <= rooms.JITTER_M + 1e-5
        assert near.any()


def test_directions_are_turned_into_the_heads_own():
    ahead, left, up = np.eye(3)
    found = rooms.as_azimuth(np.stack([ahead, left, -ahead, -left, up]), 0)
    np.testing.assert_allclose(found, [0, 90, 180, 270, 0])
    np.testing.assert_allclose(rooms.as_azimuth(left[None], 90), [0], atol=1e-9)
    # from above on the left: as far to the side as a lateral angle of 30 degrees, ahead or behind
    high = np.array([[0.5, 0.5, np.sqrt(0.5)], [-0.5, 0.5, np.sqrt(0.5)]])
    np.testing.assert_allclose(rooms.as_azimuth(high, 0), [30, 150])


def test_rooms_that_cannot_be():
    with pytest.raises(ValueError, match="'small hall' .* too small for a loudspeaker 3.5 m"):
        rooms.draw_seat(replace(SMALL_HALL, distance_m=3.5), np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot have an RT60 of 0.01 s"):
        rooms.reflection_of(replace(SMALL_HALL, rt60_s=0.01))
    with pytest.raises(ValueError, match="needs 4678 reflections, more than 120"):
        rooms.reflection_of(rooms.Room("bath", (3.5, 3.5, 2.2), 30.0, distance_m=1.0))


def test_places_are_seats_of_rooms_and_repeat():
    places = rooms.prepare_places([rooms.ANECHOIC, SMALL_HALL], SPHERE, 4, 2)
    assert places.table.to_dict("list") == {
        "room": ["anechoic", "small hall", "small hall"], "seat": [0, 0, 1]}  # fmt: skip
    assert places.responses.shape == (3, 4, 2, 8000)
    assert places.azimuths.tolist() == [0, 90, 180, 270]
    assert np.abs(places.responses[1] - places.responses[2]).max() > 0.01
    again = rooms.prepare_places([rooms.ANECHOIC, SMALL_HALL], SPHERE, 4, 2)
    np.testing.assert_array_equal(again.responses, places.responses)


# -------------------------------------------------------------------------------------- rendering


def make_data(n=12, sr=16_000, length=24_000):
    """Clips of noise that sound in one second only; the last is silent, one is very short."""
    rng = np.random.default_rng(0)
    waveforms = np.zeros((n, length), np.int16)
    for i in range(n - 1):
        waveforms[i, 4000:20_000] = 3000 * rng.normal(size=16_000).clip(-5, 5)
    n_valid = np.full(n, length)
    n_valid[1] = 6000
    parts = np.array(["train", "validation", "test"])[np.arange(n) % 3]
    clips = pd.DataFrame(
        {"filename": [f"{i}.wav" for i in range(n)], "src_file": np.arange(n) // 2 * 3,
         "category": "noise", "part": parts, "label": 0}
    )  # fmt: skip
    return Data(clips, torch.from_numpy(waveforms), torch.from_numpy(n_valid))


@pytest.fixture(scope="module")
def excerpts():
    return rendering.cut_excerpts(make_data(), 16_000, per_clip=2)


@pytest.fixture(scope="module")
def places():
    return rooms.prepare_places([rooms.ANECHOIC, SMALL_HALL], SPHERE, 12, 2)


def test_excerpts_lie_where_the_clips_sound(excerpts):
    assert excerpts.waveforms.shape == (22, 8000)  # not of the silent clip
    assert "11.wav" not in set(excerpts.table.filename)
    np.testing.assert_allclose(excerpts.waveforms.square().mean(1).sqrt(), 0.05, rtol=1e-4)
    first = excerpts.table.drop_duplicates("filename")
    others = first[first.filename != "1.wav"]
    assert (others.start_s >= 0.25 - 0.01).all() and (others.start_s <= 0.75 + 0.01).all()
    assert (excerpts.table.start_s <= 1.0).all()


def test_parts_of_the_clips_are_kept_and_cutting_repeats(excerpts):
    data = make_data()
    parts = dict(zip(data.clips.filename, data.clips.part))
    assert (excerpts.table.part == excerpts.table.filename.map(parts)).all()
    again = rendering.cut_excerpts(data, 16_000, per_clip=2)
    assert torch.equal(again.waveforms, excerpts.waveforms)


def test_other_sample_rates_are_brought_to_16_khz():
    found = rendering.cut_excerpts(make_data(sr=32_000, length=48_000), 32_000)
    assert found.waveforms.shape == (11, 8000)
    with pytest.raises(ValueError, match="no clip holds any sound"):
        data = make_data()
        rendering.cut_excerpts(replace(data, waveforms=0 * data.waveforms), 16_000)


def test_rendering_equals_convolution(excerpts, places):
    scenes = rendering.draw_scenes(excerpts, places, "test", 2, BOTH)
    heard = rendering.Renderer(excerpts, places)(scenes)
    assert heard.shape == (len(scenes), 2, 8000)
    for row in (0, 1, len(scenes) - 1):
        scene = scenes.iloc[row]
        dry = excerpts.waveforms[scene.excerpt].numpy().astype(float)
        for ear in (0, 1):
            response = places.responses[scene.place, scene.azimuth, ear].astype(float)
            expected = fftconvolve(dry, response)[:8000]
            np.testing.assert_allclose(heard[row, ear], expected, atol=2e-6)
    batches = torch.cat(list(rendering.Renderer(excerpts, places).batches(scenes, 5)))
    torch.testing.assert_close(batches, heard)


def test_scenes_are_balanced_of_one_part_and_at_the_seats_allowed(excerpts, places):
    scenes = rendering.draw_scenes(excerpts, places, "train", 6, seats=(1,))
    assert set(scenes.part) == {"train"} and len(scenes) == 6 * 8
    assert scenes.excerpt.value_counts().eq(6).all()
    assert scenes.azimuth.value_counts().eq(4).all()
    assert scenes.room.value_counts().to_dict() == {"anechoic": 24, "small hall": 24}
    assert set(scenes.seat[scenes.room == "small hall"]) == {1}
    np.testing.assert_allclose(scenes.azimuth_deg, scenes.azimuth * 30)
    pd.testing.assert_frame_equal(
        scenes, rendering.draw_scenes(excerpts, places, "train", 6, seats=(1,)))  # fmt: skip
    test = rendering.draw_scenes(excerpts, places, "test", 6, BOTH)
    assert not set(test.filename) & set(scenes.filename)
    with pytest.raises(ValueError, match=r"seats=\(7,\) leaves 1 of 2 rooms"):
        rendering.draw_scenes(excerpts, places, "train", 1, seats=(7,))
    with pytest.raises(ValueError, match="part 'valid' has 0 excerpts"):
        rendering.draw_scenes(excerpts, places, "valid", 1, BOTH)


# ----------------------------------------------------------------------------------- spectrograms


def test_spectrograms_equal_scipys_and_have_the_published_size():
    heard = torch.randn(2, 2, 8000, dtype=torch.float64).float()
    found = spectrograms.levels_db(heard)
    assert found.shape == (2, 2, 129, 61)
    window = torch.hann_window(256).numpy()
    _, _, power = spectrogram(heard.numpy(), window=window, nperseg=256, noverlap=128,
                              detrend=False, mode="magnitude", scaling="spectrum")  # fmt: skip
    expected = 20 * np.log10(power * window.sum())
    loud = expected > -20
    assert loud.mean() > 0.99
    np.testing.assert_allclose(found.numpy()[loud], expected[loud], atol=0.02)


def test_both_ears_are_standardised_together():
    heard = torch.randn(3, 2, 8000)
    heard[:, 1] = 0.1 * heard[:, 0]
    found = spectrograms.spectrograms(heard)
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((1, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    levels = spectrograms.levels_db(heard)
    scale = levels.std((1, 2, 3))
    apart = (found[:, 0] - found[:, 1]).mean((1, 2)) * scale
    np.testing.assert_allclose(apart, 20, atol=0.05)  # the difference in dB is still there
    torch.testing.assert_close(spectrograms.spectrograms(7 * heard), found, atol=1e-3, rtol=0)
    assert torch.isfinite(spectrograms.spectrograms(torch.zeros(1, 2, 8000))).all()


def test_a_tone_burst_lies_at_its_time_and_frequency():
    time = torch.arange(8000) / 16_000
    burst = torch.sin(2 * np.pi * 3000 * time) * ((time > 0.3) & (time < 0.35))
    levels = spectrograms.levels_db(burst.expand(1, 2, -1))[0, 0]
    start, end, low, high = spectrograms.edges()
    place, column = np.unravel_index(int(levels.argmax()), levels.shape)
    assert low + (place + 0.5) * (high - low) / 129 == pytest.approx(3000, abs=32)
    assert 0.3 < start + (column + 0.5) * (end - start) / 61 < 0.35


# ------------------------------------------------------------------------------------------- cues


@pytest.mark.parametrize("delay", [-9, 0, 5, 12])
def test_gcc_phat_finds_a_delay_under_any_filter(delay):
    rng = np.random.default_rng(0)
    sound = torch.from_numpy(rng.normal(size=8200).cumsum()).float()  # red noise
    left, right = sound[100:8100], sound[100 - delay : 8100 - delay]  # positive: right is later
    found = cues.simple_cues(torch.stack([left, right])[None])
    assert found[0, 0] * 16_000 == pytest.approx(delay, abs=0.26)
    assert found[0, 1] == pytest.approx(0, abs=0.3)


def test_level_differences_in_bands():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(1, 1, 8000))).float()
    spectrum = torch.fft.rfft(noise)
    hz = torch.fft.rfftfreq(8000, 1 / 16_000)
    right = torch.fft.irfft(spectrum * torch.where(hz < 3000, 1.0, 0.1), 8000)
    levels = cues.band_levels_db(torch.cat([noise, right], dim=1))[0]
    expected = [0.0] * 6 + [20.0] * 4
    np.testing.assert_allclose(levels[0] - levels[1], expected, atol=0.05)


def test_look_up_finds_the_directions_of_noise_on_the_sphere(places):
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(1, 8000))).float()
    sound = rendering.Excerpts(pd.DataFrame({"part": ["test"]}), noise)
    scenes = pd.DataFrame({"excerpt": 0, "place": 0, "azimuth": np.arange(12)})
    heard = rendering.Renderer(sound, places)(scenes)
    found = cues.look_up(cues.simple_cues(heard), SPHERE)
    true = np.arange(12) * 30.0
    error = judging.angular_error_deg(found, true)
    folded = np.minimum(error, judging.angular_error_deg(judging.mirrored(found), true))
    assert folded.max() <= 20


def test_level_cues_are_blind_to_delays_and_rich_cues_are_not():
    rng = np.random.default_rng(0)
    sound = np.zeros((3, 2, 8000), np.float32)
    for row, delay in enumerate((0, 5, 10)):
        sound[row, 0, 100:7000] = rng.normal(size=6900)
        sound[row, 1] = np.roll(sound[row, 0], delay)  # the right ear later
    sound = torch.from_numpy(sound)
    difference = cues.level_cues(sound)[:, :10]
    np.testing.assert_allclose(difference, 0, atol=1e-3)
    rich = cues.rich_cues(sound)
    assert rich.shape == (3, 20 + 2 + 57)
    np.testing.assert_allclose(rich[:, 20] * 16_000, [0, 5, 10], atol=0.01)


@pytest.mark.parametrize("make", [cues.neighbours, cues.trees])
def test_localisers_learn_directions_of_other_clips(excerpts, places, make):
    anechoic = rooms.Places(places.table[:1], places.azimuths, places.responses[:1])
    renderer = rendering.Renderer(excerpts, anechoic)
    train, test = (
        rendering.draw_scenes(excerpts, anechoic, part, 24, BOTH) for part in ("train", "test")
    )
    seen, unseen = (cues.rich_cues(renderer(scenes)) for scenes in (train, test))
    machine = make().fit(seen, rendering.targets(train).numpy())
    error = judging.angular_error_deg(judging.azimuth_of(machine.predict(unseen)), test.azimuth_deg)
    assert np.median(error) < 5  # by chance 90


# --------------------------------------------------------------------------------------- verdicts


def test_angles_by_hand():
    assert judging.angular_error_deg(np.array([350.0, 10, 180, -90]), np.array([10, 350, 0, 270])
                                     ).tolist() == [20, 20, 180, 0]  # fmt: skip
    points = np.array([[2.0, 0], [0, 0.1], [-1, 0], [0, -3]])
    assert judging.azimuth_of(points).tolist() == [0, 90, 180, 270]
    assert judging.mirrored([0, 30, 90, 200, 270]).tolist() == [180, 150, 90, 340, 270]
    azimuths = np.arange(0, 360, 10.0)
    truth = rendering.targets(pd.DataFrame({"azimuth_deg": azimuths})).numpy()
    np.testing.assert_allclose(judging.azimuth_of(truth), azimuths, atol=1e-4)


def judged():
    scenes = pd.DataFrame(
        {"azimuth_deg": [0, 30, 30, 90, 180, 300], "src_file": [1, 1, 2, 2, 3, 3],
         "room": ["a", "a", "a", "b", "b", "b"], "excerpt": range(6), "place": 0, "azimuth": 0}
    )  # fmt: skip
    return judging.judge(scenes, np.array([170.0, 40, 145, 110, 0, 50]))


def test_verdicts_by_hand():
    table = judged()
    assert table.error_deg.tolist() == [170, 10, 115, 20, 180, 110]
    np.testing.assert_array_equal(table.confused, [1, 0, 1, np.nan, 1, 0])
    assert table.folded_deg.tolist() == [10, 10, 5, 20, 0, 110]


def test_summary_by_hand():
    table = judging.summary(judged(), "room")
    assert table["mean"].to_dict() == pytest.approx({"a": 295 / 3, "b": 310 / 3})
    assert (table.low <= table["mean"]).all() and (table.high >= table["mean"]).all()
    by_azimuth = judging.summary(judged(), ["room", "azimuth_deg"])
    assert by_azimuth.loc[("a", 30), "mean"] == 62.5 and len(by_azimuth) == 5


def test_scenes_in_which_front_and_back_are_alike_are_not_counted_as_confused():
    table = judging.errors({"one": judged()})
    assert table.confused.to_list() == pytest.approx([200 / 3, 50])
    assert table.scenes.to_list() == [3, 3]


def test_paired_difference_is_on_the_same_scenes():
    first = judged()
    second = first.assign(error_deg=first.error_deg + 7)
    assert judging.paired(first, second) == pytest.approx((7, 7, 7))
    with pytest.raises(ValueError, match="judge different scenes"):
        judging.paired(first, second.assign(azimuth=1))


def test_confusion_by_hand():
    table = pd.DataFrame({"azimuth_deg": [0.0, 0, 90], "estimated_deg": [359.0, 181, 100]})
    found = judging.confusion(table, np.array([0, 90, 180, 270]))
    assert found.tolist() == [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


# --------------------------------------------------------------------------------------- training

TINY = Settings(
    width=16, layers=1, heads=2, head_width=8, hidden=16, stride=16, dropout=0.1,
    epochs=3, batch_size=6, per_excerpt=2, learning_rate=1e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def two_sides(excerpts):
    """Sounds from the left or the right only."""
    azimuths = np.array([90.0, 270.0])
    responses = rooms.room_responses(rooms.ANECHOIC, SPHERE, azimuths)[None]
    return rooms.Places(pd.DataFrame({"room": ["anechoic"], "seat": [0]}), azimuths, responses)


def test_training_learns_left_from_right(excerpts, two_sides, tmp_path):
    settings = replace(TINY, epochs=6, batch_size=16, per_excerpt=8, learning_rate=5e-3)
    fit = training.fit(excerpts, two_sides, settings, tmp_path)
    assert fit.history.train_loss.iloc[-1] < 0.5 * fit.history.train_loss.iloc[0]
    scenes = rendering.draw_scenes(excerpts, two_sides, "test", 2, BOTH)
    heard = rendering.Renderer(excerpts, two_sides)(scenes)
    points = network.estimate(fit.model, [spectrograms.spectrograms(heard)])
    error = judging.angular_error_deg(judging.azimuth_of(points.numpy()), scenes.azimuth_deg)
    assert (error < 45).all()


@pytest.fixture(scope="module")
def whole(excerpts, two_sides, tmp_path_factory):
    return training.fit(excerpts, two_sides, TINY, tmp_path_factory.mktemp("whole"))


def test_history_says_how_each_epoch_went(whole):
    assert list(whole.history) == [
        "epoch", "train_loss", "validation_loss", "validation_error_deg", "seconds"]  # fmt: skip
    assert whole.history.epoch.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 0), (2, 2), (3, 0)])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    excerpts, two_sides, tmp_path, monkeypatch, whole, epoch, step
):
    """Also within an epoch, whose dropout is seeded once, at its beginning."""
    take = training._Localiser.step

    def stops(task, *place):
        if place == (epoch, step):
            raise KeyboardInterrupt
        return take(task, *place)

    monkeypatch.setattr(loop, "SAVE_INTERVAL_S", 0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Localiser, "step", stops)
        training.fit(excerpts, two_sides, TINY, tmp_path)
    torch.manual_seed(99)
    resumed = training.fit(excerpts, two_sides, TINY, tmp_path)
    histories = (run.history.drop(columns="seconds") for run in (whole, resumed))
    pd.testing.assert_frame_equal(*histories)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


OF_THE_STUDY = {
    "azimuths", "new_seats", "excerpts", "step_deg", "variants", "variant_epochs", "cue_rounds",
    "test_rounds", "masked",
}  # fmt: skip


def test_runs_are_kept_apart_by_data_and_by_the_settings_that_decide_them(
    excerpts, places, two_sides
):
    runs = {}
    for name, value in asdict(TINY).items():
        other = {"fusion": "add", "loss": "squared", "variants": "none"}.get(name) or value + 1
        changed = replace(TINY, **{name: other})
        runs[name] = training.run_identity(excerpts, places, changed)
    same = training.run_identity(excerpts, places, replace(TINY))
    assert {name for name, identity in runs.items() if identity == same} == OF_THE_STUDY
    assert len(set(runs.values())) == 1 + len(runs) - len(OF_THE_STUDY)
    assert training.run_identity(excerpts, two_sides, TINY) not in runs.values()


@each_edit
@pytest.mark.parametrize("module", ["companions/binaural/rendering", "training/loop"])
def test_an_edit_of_code_makes_a_run_stale(excerpts, places, monkeypatch, module, edit):
    before = training.run_identity(excerpts, places, TINY)
    pretend(monkeypatch, module, edit)
    assert (training.run_identity(excerpts, places, TINY) != before) == (edit == CODE)


def test_a_loss_that_is_not_finite_stops_the_run(excerpts, two_sides, tmp_path, monkeypatch):
    broken = lambda points, truth: points.sum() * float("nan")  # noqa: E731
    monkeypatch.setitem(training.LOSSES, "hybrid", broken)
    with pytest.raises(FloatingPointError, match="train_loss is nan at epoch 1, step 1"):
        training.fit(excerpts, two_sides, TINY, tmp_path)


def test_unknown_loss():
    with pytest.raises(ValueError, match="loss='cosine', expected one of squared, angular, hybrid"):
        Settings(loss="cosine")
