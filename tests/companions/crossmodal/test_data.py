"""Pairs, pictures of sounds and back, generated pairs, and readers of FSDD, MNIST and Sub-URMP."""

import gzip
import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from esc_lib.companions.crossmodal import digits, procedural, sub_urmp
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures, draw_partners, from_levels
from esc_lib.companions.crossmodal.spectrograms import (
    DIGIT_FRONT_END,
    excerpt,
    mel_power,
    pictures_of,
    waveform_of,
)

FSDD = Path(os.environ.get("FSDD_DATA") or "not set")  # digit_speaker_index.wav
MNIST = Path(os.environ.get("MNIST_DATA") or "not set")  # t10k-images-idx3-ubyte.gz, ...
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def generated():
    return procedural.make(n_per_class=10, n_sources=5)


def pictures(labels, sources):
    pixels = torch.zeros(len(labels), 1, 64, 64, dtype=torch.uint8)
    return Pictures(pixels, torch.tensor(labels), np.array(sources))


# ---------------------------------------------------------------------------------- pairs


def test_partners_share_the_class_or_do_not():
    labels, others = RNG.integers(0, 5, 200), RNG.integers(0, 5, 90)
    matched, mismatched = draw_partners(labels, others, np.random.default_rng(1))
    assert (others[matched] == labels).all()
    assert (others[mismatched] != labels).all()
    assert len(np.unique(matched)) > 60  # partners vary
    again = draw_partners(labels, others, np.random.default_rng(1))
    assert (matched == again[0]).all() and (mismatched == again[1]).all()


def test_a_class_without_partners_is_named():
    with pytest.raises(ValueError, match="draw_partners: class 2 has 0 partners of its own"):
        draw_partners(np.array([0, 2]), np.array([0, 1]), RNG)


def test_a_source_in_both_parts_is_refused():
    images = {"train": pictures([0, 1], ["a", "b"]), "test": pictures([0, 1], ["c", "d"])}
    leak = images | {"test": pictures([0, 1], ["c", "b"])}
    PairSet("fine", ["x", "y"], images, images, DIGIT_FRONT_END)
    with pytest.raises(ValueError, match="PairSet: images of 'b' are in train and in test"):
        PairSet("leak", ["x", "y"], images, leak, DIGIT_FRONT_END)
    with pytest.raises(ValueError, match="PairSet: no train sounds of class 'z'"):
        PairSet("few", ["x", "y", "z"], images, images, DIGIT_FRONT_END)


def test_directions_swap_the_sides(generated):
    assert generated.sides("S2I") == (generated.sounds, generated.images)
    assert generated.sides("I2S") == (generated.images, generated.sounds)
    with pytest.raises(ValueError, match="sides: direction='A2B'"):
        generated.sides("A2B")


def test_grey_levels_survive_a_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    unit = Pictures(levels, torch.tensor([0]), np.array(["a"])).unit()
    assert (float(unit.min()), float(unit.max())) == (-1, 1)
    assert torch.equal(from_levels(unit), levels)


# -------------------------------------------------------------------- pictures of sounds


def test_picture_is_librosas_log_mel_below_its_peak(generated):
    rng = np.random.default_rng(0)
    waveform = procedural.sound(1, rng, rng)
    (picture,) = pictures_of(torch.from_numpy(waveform)[None], DIGIT_FRONT_END)
    s = DIGIT_FRONT_END
    power = librosa.feature.melspectrogram(
        y=waveform, sr=s.sr, n_fft=s.n_fft, win_length=s.win_length, hop_length=s.hop_length,
        n_mels=s.n_mels, fmin=s.f_min_hz, fmax=s.f_max_hz, pad_mode="constant",
    )  # fmt: skip
    below_peak = librosa.power_to_db(power, ref=np.max, top_db=60)
    assert below_peak.shape == picture.shape[1:] == (64, 64)
    step_db = 60 / 255
    unit = picture[0].float() / 127.5 - 1
    np.testing.assert_allclose((unit.numpy() - 1) / 2 * 60, below_peak, atol=0.5 * step_db + 1e-3)
    audible = picture[0].numpy() > 0
    ours = mel_power(unit, s).numpy()[audible]
    np.testing.assert_allclose(
        10 * np.log10(ours), 10 * np.log10(power / power.max())[audible], atol=0.5 * step_db + 1e-3
    )


def test_level_does_not_matter_and_silence_is_refused():
    waveforms = torch.from_numpy(RNG.normal(size=(1, 6048))).float()
    both = pictures_of(torch.cat([waveforms, waveforms / 1000]), DIGIT_FRONT_END)
    assert torch.equal(both[0], both[1])
    with pytest.raises(ValueError, match="pictures_of: clip 1 is silent"):
        pictures_of(torch.cat([waveforms, 0 * waveforms]), DIGIT_FRONT_END)


def test_excerpt_is_the_loudest_part_or_is_padded():
    n_samples = 63 * 96
    long = np.zeros(10_000, np.float32)
    long[3000:5000] = 1
    assert excerpt(long, DIGIT_FRONT_END).sum() == 2000
    short = excerpt(np.ones(10, np.float32), DIGIT_FRONT_END)
    assert len(short) == n_samples and short.sum() == 10


def back_and_forth(pixels):
    """Return the picture of the sound made from a picture."""
    waveform = waveform_of(pixels[0].float() / 127.5 - 1, DIGIT_FRONT_END)
    return pictures_of(torch.from_numpy(waveform)[None], DIGIT_FRONT_END)[0]


def correlation(first, second):
    return np.corrcoef(first.numpy().ravel(), second.numpy().ravel())[0, 1]


def power(pixels):
    return mel_power(pixels.float() / 127.5 - 1, DIGIT_FRONT_END)


@pytest.mark.parametrize("label", range(10))
def test_sound_made_from_a_picture_has_that_picture(generated, label):
    sounds = generated.sounds["test"]
    (row, *_) = np.flatnonzero(sounds.labels == label)
    other = np.flatnonzero(sounds.labels == (label + 1) % 10)[0]
    own = power(sounds.pixels[row])
    assert correlation(own, power(back_and_forth(sounds.pixels[row]))) > 0.95
    assert correlation(own, power(sounds.pixels[other])) < 0.8


def test_a_tone_comes_back_at_its_frequency():
    t = np.arange(63 * 96) / 8000
    tone = torch.from_numpy(np.sin(2 * np.pi * 1000 * t)).float()[None]
    unit = pictures_of(tone, DIGIT_FRONT_END)[0, 0].float() / 127.5 - 1
    waveform = waveform_of(unit, DIGIT_FRONT_END)
    spectrum = np.abs(np.fft.rfft(waveform))
    peak_hz = np.fft.rfftfreq(len(waveform), 1 / 8000)[spectrum.argmax()]
    assert peak_hz == pytest.approx(1000, abs=20)
    assert waveform.dtype == np.float32 and np.abs(waveform).max() == pytest.approx(0.9)
    assert (waveform == waveform_of(unit, DIGIT_FRONT_END)).all()


def test_a_black_picture_is_silence():
    assert not waveform_of(-torch.ones(64, 64), DIGIT_FRONT_END).any()


# ---------------------------------------------------------------------------- generated


def test_generated_pairs_repeat_and_vary_within_a_class(generated):
    again = procedural.make(n_per_class=10, n_sources=5)
    assert torch.equal(generated.sounds["train"].pixels, again.sounds["train"].pixels)
    assert torch.equal(generated.images["test"].pixels, again.images["test"].pixels)
    other = procedural.make(n_per_class=10, n_sources=5, seed=1)
    assert not torch.equal(generated.images["test"].pixels, other.images["test"].pixels)
    for side in (generated.sounds, generated.images):
        assert not set(side["train"].sources) & set(side["test"].sources)
        for label in range(10):
            own = side["train"].pixels[side["train"].labels == label]
            assert len(torch.unique(own, dim=0)) == len(own) == 6


def test_rising_and_falling_sweeps_do_so():
    for label, sign in ((1, 1), (2, -1)):
        for seed in range(5):
            waveform = procedural.sound(
                label, np.random.default_rng(seed), np.random.default_rng(seed + 50)
            )
            (picture,) = pictures_of(torch.from_numpy(waveform)[None], DIGIT_FRONT_END)
            power = mel_power(picture[0].float() / 127.5 - 1, DIGIT_FRONT_END).numpy()
            lowest = (power > 0.05 * power.max(axis=0)).argmax(axis=0)  # the fundamental's band
            assert sign * (lowest[45] - lowest[15]) > 2, (label, seed)


def test_a_nearest_neighbour_tells_classes_of_held_out_sources_apart():
    """Classes can be told apart, but not perfectly by pixels alone."""
    pairs = procedural.make(n_per_class=20, n_sources=10)
    for side in (pairs.sounds, pairs.images):
        train, test = (side[part].unit().flatten(1) for part in ("train", "test"))
        nearest = torch.cdist(test, train).argmin(dim=1)
        right = (side["train"].labels[nearest] == side["test"].labels).float().mean()
        assert 0.3 < right < 1


def test_too_few_sources_are_refused():
    with pytest.raises(ValueError, match="make: 3 pictures a class of 5 sources"):
        procedural.make(n_per_class=3, n_sources=5)


# -------------------------------------------------------------------------------- readers


@pytest.fixture
def digit_folders(tmp_path):
    """Two speakers, two clips per digit, and 40 small images."""
    spoken, written = tmp_path / "fsdd" / "recordings", tmp_path / "mnist"
    spoken.mkdir(parents=True)
    written.mkdir()
    rng = np.random.default_rng(0)
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for index in range(2):
                noise = rng.uniform(-0.5, 0.5, 3000 + 3000 * index)
                soundfile.write(spoken / f"{digit}_{speaker}_{index}.wav", noise, 8000)
    (spoken / "notes.wav").write_bytes(b"not a clip")
    images = np.kron(rng.integers(0, 256, (40, 7, 7)), np.ones((4, 4))).astype(np.uint8)
    write_idx(written / "t10k-images-idx3-ubyte.gz", 2051, images)
    write_idx(written / "t10k-labels-idx1-ubyte.gz", 2049, np.arange(40, dtype=np.uint8) % 10)
    return spoken.parent, written, images


def write_idx(path, magic, values):
    head = np.array([magic, *values.shape], ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes()))


def test_digits_are_read_with_labels_and_speakers(digit_folders):
    spoken, written, images = digit_folders
    sounds = digits.read_spoken(spoken)
    assert sounds.pixels.shape == (40, 1, 64, 64)
    assert sounds.labels.tolist() == np.repeat(np.arange(10), 4).tolist()
    assert sounds.sources[:4].tolist() == ["ann", "ann", "bob", "bob"]
    found = digits.read_written(written, "t10k")
    assert found.labels.tolist() == [index % 10 for index in range(40)]
    small = torch.nn.functional.interpolate(found.pixels.float(), 28, mode="area")
    assert np.corrcoef(small.numpy().ravel(), images.ravel())[0, 1] > 0.9


def test_digit_pairs_hold_out_speakers_and_images(digit_folders):
    spoken, written, images = digit_folders
    with pytest.raises(ValueError, match=r"read_pairs: test_speakers=\('eve',\); name some"):
        digits.read_pairs(spoken, written, ("eve",))
    with pytest.raises(ValueError, match="name some, not all"):
        digits.read_pairs(spoken, written, ("ann", "bob"))
    write_idx(written / "train-images-idx3-ubyte.gz", 2051, images[:20])
    write_idx(written / "train-labels-idx1-ubyte.gz", 2049, np.arange(20, dtype=np.uint8) % 10)
    pairs = digits.read_pairs(spoken, written, ("bob",))
    assert set(pairs.sounds["train"].sources) == {"ann"}
    assert set(pairs.sounds["test"].sources) == {"bob"}
    assert (len(pairs.images["train"]), len(pairs.images["test"])) == (20, 40)


def test_images_are_split_where_only_the_test_images_are_there(digit_folders):
    spoken, written, _ = digit_folders
    images = np.zeros((200, 28, 28), np.uint8)
    write_idx(written / "t10k-images-idx3-ubyte.gz", 2051, images)
    write_idx(written / "t10k-labels-idx1-ubyte.gz", 2049, np.arange(200, dtype=np.uint8) % 10)
    pairs = digits.read_pairs(spoken, written, ("bob",))
    sources = [*pairs.images["train"].sources, *pairs.images["test"].sources]
    assert len(pairs.images["test"]) == 40  # a fifth
    assert len(set(sources)) == 200


def test_bad_digit_files_are_named(digit_folders, tmp_path):
    spoken, written, images = digit_folders
    with pytest.raises(ValueError, match="read_spoken: .* has no files named digit_speaker_index"):
        digits.read_spoken(written)
    path = tmp_path / "images.gz"
    with pytest.raises(ValueError, match=r"read_idx: .*images.gz cannot be read"):
        digits.read_idx(path, "images")
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"read_idx: .*images.gz cannot be read"):
        digits.read_idx(path, "images")
    write_idx(path, 2049, images)
    with pytest.raises(ValueError, match="holds no images in MNIST's idx form"):
        digits.read_idx(path, "images")
    whole = gzip.decompress((written / "t10k-images-idx3-ubyte.gz").read_bytes())
    for content in (b"", b"\0\0", whole[:10], whole[:-1]):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match="holds no images in MNIST's idx form"):
            digits.read_idx(path, "images")
    write_idx(written / "t10k-labels-idx1-ubyte.gz", 2049, np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="read_written: 40 images and 3 labels"):
        digits.read_written(written, "t10k")


@pytest.fixture
def urmp(tmp_path):
    """Two recordings per instrument and part, two moments each; images of one colour."""
    rng = np.random.default_rng(0)
    for part in ("train", "validation"):
        for label, instrument in enumerate(sub_urmp.INSTRUMENTS):
            for kind in ("img", "chunk"):
                (tmp_path / kind / part / instrument).mkdir(parents=True)
            for recording in ("01", "02"):
                for ms in (0, 500):
                    name = f"{part}/{instrument}/{instrument}{recording}_{ms}"
                    colour = (20 * label, 128, 255)
                    Image.new("RGB", (130, 108), colour).save(
                        tmp_path / "img" / f"{name}.jpg", quality=95
                    )
                    noise = rng.uniform(-0.5, 0.5, 22_050)
                    soundfile.write(tmp_path / "chunk" / f"{name}.wav", noise, 44_100)
    return tmp_path


def test_sub_urmp_is_read_by_its_folders(urmp):
    rest = urmp / "chunk" / "train" / "bassoon" / "bassoon01_0.wav"
    soundfile.write(rest, np.zeros(22_050), 44_100)
    pairs = sub_urmp.read_pairs(urmp)
    assert pairs.class_names == list(sub_urmp.INSTRUMENTS)
    for part in ("train", "test"):
        images, sounds = pairs.images[part], pairs.sounds[part]
        assert images.pixels.shape == (52, 3, 64, 64)
        assert sounds.pixels.shape == (52, 1, 64, 64)
        middle = images.pixels[:, :, 32, 32].int()
        expected = torch.stack([20 * images.labels, *torch.tensor([[128], [255]]).expand(2, 52)], 1)
        assert (middle - expected).abs().max() <= 6  # JPEG
        assert (sounds.labels == images.labels).all()
    assert not pairs.sounds["train"].pixels[0].any()  # a rest is black
    sources = pairs.sounds["train"].sources
    assert sources[:4].tolist() == ["train bassoon01"] * 2 + ["train bassoon02"] * 2
    assert len(set(sources)) == 26


def test_sub_urmp_may_lie_one_folder_down(urmp, tmp_path_factory):
    parent = tmp_path_factory.mktemp("parent")
    (parent / "Sub-URMP").symlink_to(urmp)
    files = sub_urmp.list_files(parent, "chunk", "test")
    assert [path.stem for _, path in files[:2]] == ["bassoon01_0", "bassoon01_500"]
    assert len(files) == 52
    (urmp / "chunk" / "validation" / "bassoon" / "._bassoon01_0.wav").write_bytes(b"\0\5\x16\7")
    assert sub_urmp.list_files(parent, "chunk", "test") == files


def test_a_wrong_layout_of_sub_urmp_is_named(urmp):
    for path in (urmp / "chunk" / "validation" / "oboe").glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match=r"list_files: no \*\.wav in .*validation.oboe; Sub-URMP"):
        sub_urmp.read_pairs(urmp)
    broken = next((urmp / "img" / "train" / "cello").glob("*.jpg"))
    broken.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="sub_urmp: image .* cannot be read"):
        sub_urmp._image(broken)


# ------------------------------------------------------------------------------ real data


@pytest.mark.skipif(not FSDD.is_dir(), reason="FSDD_DATA names no folder of spoken digits")
def test_real_spoken_digits_survive_the_way_to_a_picture_and_back():
    sounds = digits.read_spoken(FSDD)
    assert len(sounds) == 3000
    assert np.bincount(sounds.labels).tolist() == [300] * 10
    assert len(set(sounds.sources)) == 6
    rows = np.random.default_rng(0).choice(3000, 12, replace=False)
    found = [correlation(sounds.pixels[r], back_and_forth(sounds.pixels[r])) for r in rows]
    assert min(found) > 0.9  # in dB


@pytest.mark.skipif(
    not (FSDD.is_dir() and MNIST.is_dir()), reason="FSDD_DATA and MNIST_DATA name no folders"
)
def test_real_digit_pairs():
    pairs = digits.read_pairs(FSDD, MNIST)
    assert (len(pairs.sounds["train"]), len(pairs.sounds["test"])) == (2000, 1000)
    assert len(pairs.images["train"]) + len(pairs.images["test"]) == 10_000
    train, test = pairs.images["train"], pairs.images["test"].take(np.arange(200))
    nearest = torch.cdist(test.unit().flatten(1), train.unit().flatten(1)).argmin(dim=1)
    assert (train.labels[nearest] == test.labels).float().mean() > 0.9
