"""Who trains, validates and tests; and what notebooks hand to each other without losing it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.data import clips as artifacts
from esc_lib.data import demo, splits
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import ROOT

FOLDS = (1, 2, 3, 4, 5)


def make_clips(n_classes=10, per_class_and_fold=8, seed=0):
    """Return a table in the manner of ESC-50: two clips in five share a source recording.

    Three recordings straddle folds: one of them between folds 1 and 2, one between 2 and 4, and
    one, of two classes, between 3 and 5.
    """
    rng = np.random.default_rng(seed)
    rows, source = [], 1000
    for fold in FOLDS:
        for label in range(n_classes):
            left = per_class_and_fold
            while left:
                takes = min(left, int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])))
                rows += [(fold, label, source)] * takes
                left, source = left - takes, source + 1
    clips = pd.DataFrame(rows, columns=["fold", "label", "src_file"])
    for number, places in ((1, ((1, 0), (2, 0))), (2, ((2, 3), (4, 3))), (3, ((3, 5), (5, 6)))):
        for fold, label in places:
            row = clips.index[(clips.fold == fold) & (clips.label == label)][0]
            clips.loc[row, "src_file"] = number
    return clips.sample(frac=1, random_state=seed).reset_index(drop=True)


CLIPS = make_clips()


def sources(clips, rows):
    return set(clips.src_file.iloc[rows])


def check_parts(clips, parts, test_fold):
    """Check what holds under every protocol: the test is the fold, no clip stands in two parts."""
    assert parts.test.tolist() == np.flatnonzero(clips.fold == test_fold).tolist()
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert len(set(rows.tolist())) == len(rows)
    for part in (parts.train, parts.validation, parts.test):
        assert (np.diff(part) > 0).all() and 0 <= part.min() and part.max() < len(clips)


# -------------------------------------------------------------------------------------- split


@pytest.mark.parametrize("seed", [0, 1, 2, 7])
@pytest.mark.parametrize("test_fold", FOLDS)
def test_no_source_recording_stands_in_two_parts(test_fold, seed):
    parts = splits.split(CLIPS, test_fold, seed=seed)
    check_parts(CLIPS, parts, test_fold)
    train, validation, test = (
        sources(CLIPS, part) for part in (parts.train, parts.validation, parts.test)
    )
    assert not train & validation and not train & test and not validation & test
    assert splits.leaked_share(CLIPS, parts) == 0


@pytest.mark.parametrize("test_fold", FOLDS)
def test_only_recordings_of_the_test_fold_are_left_out(test_fold):
    parts = splits.split(CLIPS, test_fold)
    used = np.concatenate([parts.train, parts.validation, parts.test])
    unused = np.setdiff1d(np.arange(len(CLIPS)), used)
    in_test = CLIPS.src_file.isin(sources(CLIPS, parts.test))
    expected = np.flatnonzero(in_test & (CLIPS.fold != test_fold))
    assert unused.tolist() == expected.tolist()
    # the table has a clip of such a recording for every fold
    assert {1: {1}, 2: {1, 2}, 3: {3}, 4: {2}, 5: {3}}[test_fold] == sources(CLIPS, unused)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("test_fold", FOLDS)
@pytest.mark.parametrize("name", splits.COMPARED)
def test_parts_have_their_share_and_all_classes(name, test_fold, seed):
    parts = splits.split(CLIPS, test_fold, protocol=name, validation_share=0.2, seed=seed)
    check_parts(CLIPS, parts, test_fold)
    rest = len(parts.train) + len(parts.validation)
    # whole recordings of up to three clips: a class's part is met to within a clip or two
    assert len(parts.validation) / rest == pytest.approx(0.2, abs=0.02)
    labels = CLIPS.label.to_numpy()
    share = [(labels[parts.validation] == k).sum() / 32 for k in range(10)]
    assert share == pytest.approx([0.2] * 10, abs=2.5 / 32)
    assert set(labels[parts.train]) == set(labels[parts.test]) == set(range(10))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("name", splits.COMPARED)
def test_validation_share_is_followed(name, share):
    parts = splits.split(CLIPS, 1, protocol=name, validation_share=share)
    rest = len(parts.train) + len(parts.validation)
    assert len(parts.validation) / rest == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("test_fold", FOLDS)
def test_a_whole_fold_validates_and_shares_no_recording(test_fold):
    parts = splits.split(CLIPS, test_fold, protocol="whole_fold")
    check_parts(CLIPS, parts, test_fold)
    assert set(CLIPS.fold.iloc[parts.validation]) == {test_fold % 5 + 1}
    assert set(CLIPS.fold.iloc[parts.train]) == set(FOLDS) - {test_fold, test_fold % 5 + 1}
    assert splits.leaked_share(CLIPS, parts) == 0
    assert not sources(CLIPS, parts.test) & sources(CLIPS, parts.train)
    assert not sources(CLIPS, parts.test) & sources(CLIPS, parts.validation)


@pytest.mark.parametrize("test_fold", FOLDS)
def test_without_validation_all_trains_that_shares_no_recording_with_the_test(test_fold):
    parts = splits.split(CLIPS, test_fold, protocol="no_validation")
    tested = CLIPS.fold == test_fold
    assert parts.test.tolist() == np.flatnonzero(tested).tolist()
    assert not len(parts.validation)
    shared = CLIPS.src_file.isin(CLIPS.src_file[tested])
    assert parts.train.tolist() == np.flatnonzero(~tested & ~shared).tolist()


@pytest.mark.parametrize("test_fold", FOLDS)
def test_random_clips_use_every_clip_and_leak(test_fold):
    # the thesis's cut: about two clips in five have a sibling, four fifths of those in training
    parts = splits.split(CLIPS, test_fold, protocol="random_clips")
    check_parts(CLIPS, parts, test_fold)
    assert len(parts.train) + len(parts.validation) + len(parts.test) == len(CLIPS)
    assert splits.leaked_share(CLIPS, parts) > 0.2
    assert sources(CLIPS, parts.train) & sources(CLIPS, parts.validation)


@pytest.mark.parametrize("name", splits.COMPARED)
def test_same_seed_gives_the_same_split_and_the_table_is_unchanged(name):
    clips = CLIPS.copy(deep=True)
    first, again, other = (
        splits.split(clips, 2, protocol=name, seed=seed) for seed in (4, 4, 5)
    )
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
    assert first.validation.tolist() != other.validation.tolist()
    assert first.test.tolist() == other.test.tolist()
    pd.testing.assert_frame_equal(clips, CLIPS)


@pytest.mark.parametrize("name", splits.COMPARED)
def test_rows_are_counted_not_looked_up(name):
    # a table that was filtered or sorted keeps its old index; parts are row numbers all the same
    renamed = CLIPS.set_index(np.arange(len(CLIPS))[::-1] + 5000)
    plain, other = (splits.split(c, 3, protocol=name) for c in (CLIPS, renamed))
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(plain, part), getattr(other, part))
    named = splits.name_parts(renamed, other)
    assert named.index.equals(renamed.index)
    assert named.tolist() == splits.name_parts(CLIPS, plain).tolist()
    assert splits.leaked_share(renamed, other) == splits.leaked_share(CLIPS, plain)


def test_demo_set_is_split_without_its_straddling_recording():
    clips = demo.clip_table().rename(columns={"target": "label"})
    parts = splits.split(clips, demo.STRADDLING["home"][0])
    unused = splits.name_parts(clips, parts) == "unused"
    assert clips[unused].src_file.tolist() == [demo.STRADDLING["src_file"]]


@pytest.mark.parametrize("fold", [0, 6, "1"])
def test_unknown_fold_is_named(fold):
    with pytest.raises(
        ValueError, match=rf"^split: test_fold={fold}, expected one of \[1, 2, 3, 4, 5\]; change it"
    ):
        splits.split(CLIPS, fold)


def test_unknown_protocol_is_named():
    with pytest.raises(
        ValueError, match=r"^split: protocol='random', expected one of source_grouped, random_cl"
    ):
        splits.split(CLIPS, 1, protocol="random")


# ------------------------------------------------------------------------------------ reports


def by_hand():
    """Eight clips; recording 7 straddles folds 1 and 2, recordings 5 and 6 have two clips."""
    return pd.DataFrame(
        {
            "fold": [1, 1, 2, 2, 2, 3, 3, 3],
            "label": [0, 1, 0, 1, 0, 0, 1, 1],
            "src_file": [7, 4, 7, 5, 5, 6, 6, 8],
        }
    )


def test_leaked_share_by_hand():
    def parts(train, validation):
        return splits.Split(np.array(train), np.array(validation), np.array([0, 1]))

    clips = by_hand()
    # clip 4 has clip 3 in training, clip 6 has clip 5; clip 7 is alone
    assert splits.leaked_share(clips, parts([2, 3, 5], [4, 6, 7])) == pytest.approx(2 / 3)
    assert splits.leaked_share(clips, parts([2, 3, 4], [5, 6, 7])) == 0
    assert splits.leaked_share(clips, parts([3, 5], [4, 6])) == 1
    # siblings inside validation, or in the test fold, do not count
    assert splits.leaked_share(clips, parts([7], [2, 3, 4])) == 0


def test_shared_sources_by_hand():
    shared = splits.shared_sources(by_hand())
    assert shared.tolist() == [True, False, True, True, True, True, True, False]


def test_straddling_sources_by_hand():
    straddling = splits.straddling_sources(by_hand())
    assert straddling.index.tolist() == [0, 2] and straddling.fold.tolist() == [1, 2]
    assert list(straddling) == list(by_hand())
    found = splits.straddling_sources(CLIPS)
    assert found.src_file.tolist() == [1, 1, 2, 2, 3, 3]
    assert found.fold.tolist() == [1, 2, 2, 4, 3, 5]
    assert splits.straddling_sources(by_hand()[1:]).empty


def test_parts_are_named():
    parts = splits.Split(np.array([3, 5]), np.array([7]), np.array([0, 1]))
    named = splits.name_parts(by_hand(), parts)
    test, unused, train, validation = "test", "unused", "train", "validation"
    assert named.tolist() == [test, test, unused, train, unused, train, unused, validation]
    assert named.name == "part"


# ---------------------------------------------------------------------------------- artefacts


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_atomically_writes_and_replaces(tmp_path):
    path = tmp_path / "metrics.json"
    for content in ("first", "second"):
        write_atomically(path, lambda p, text=content: p.write_text(text))
        assert path.read_text() == content and names(tmp_path) == ["metrics.json"]


def test_write_atomically_shows_nothing_before_the_end(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def write(scratch):
        scratch.write_text("half")
        assert path.read_text() == "old" and scratch.parent == tmp_path  # same disk: a rename
        scratch.write_text("new")

    write_atomically(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [None, "good"])
def test_failing_writer_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "waveforms.npy"
    if before:
        path.write_text(before)

    def fail_half_way(scratch):
        scratch.write_text("ha")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail_half_way)
    if before:
        assert path.read_text() == before and names(tmp_path) == ["waveforms.npy"]
    else:
        assert not names(tmp_path)


def test_writer_that_fails_at_once_leaves_what_was_there(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("good")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda scratch: 1 / 0)
    assert path.read_text() == "good" and names(tmp_path) == ["clips.csv"]


@pytest.fixture
def study(tmp_path):
    """Six clips as notebook 01 leaves them."""
    rng = np.random.default_rng(0)
    n_valid = np.array([50, 50, 20, 50, 31, 50], np.int64)
    waveforms = rng.integers(-32768, 32768, (6, 50)).astype(np.int16)
    waveforms[np.arange(50) >= n_valid[:, None]] = 0
    clips = pd.DataFrame(
        {
            "filename": [f"{i}-7-A-0.wav" for i in range(6)],
            "fold": [1, 1, 2, 2, 3, 3],
            "category": ["rain", "dog", "rain", "dog", "crow", "crow"],
            "esc10": [True, True, True, True, False, False],
            "label": [2, 0, 2, 0, 1, 1],
            "part": ["test", "test", "train", "train", "validation", "unused"],
        }
    )
    artifacts.save_data(tmp_path, clips, waveforms, n_valid)
    return tmp_path, clips, waveforms, n_valid


def test_data_survive_the_round_trip(study):
    folder, clips, waveforms, n_valid = study
    assert names(folder) == ["clips.csv", "n_valid.npy", "waveforms.npy"]
    data = artifacts.open_data(folder)
    pd.testing.assert_frame_equal(data.clips, clips)
    assert data.waveforms.dtype == torch.int16 and data.n_valid.dtype == torch.int64
    np.testing.assert_array_equal(data.waveforms.numpy(), waveforms)
    np.testing.assert_array_equal(data.n_valid.numpy(), n_valid)
    assert data.labels.tolist() == [2, 0, 2, 0, 1, 1] and data.labels.dtype == torch.int64
    assert data.class_names == ["dog", "crow", "rain"]
    assert [getattr(data.split, part).tolist() for part in ("train", "validation", "test")] == [
        [2, 3], [4], [0, 1],
    ]  # fmt: skip


def test_batch_has_full_scale_1_and_its_lengths(study):
    folder, _, waveforms, n_valid = study
    data = artifacts.open_data(folder)
    rows = np.array([4, 0, 4])
    batch, lengths = data.batch(rows)
    assert batch.dtype == torch.float32 and batch.abs().max() <= 1
    np.testing.assert_array_equal(batch.numpy() * 32768, waveforms[rows])
    assert lengths.tolist() == n_valid[rows].tolist()
    assert rows.tolist() == [4, 0, 4]


def test_what_is_done_to_opened_data_stays_off_the_disk(study):
    folder, _, waveforms, _ = study
    data = artifacts.open_data(folder)
    data.waveforms[0, 0] = 5
    del data
    np.testing.assert_array_equal(artifacts.open_data(folder).waveforms.numpy(), waveforms)


def test_saving_again_does_not_disturb_who_reads(study):
    folder, clips, waveforms, n_valid = study
    data = artifacts.open_data(folder)  # waveforms are still on disk, only mapped
    artifacts.save_data(folder, clips, np.zeros_like(waveforms), n_valid)
    np.testing.assert_array_equal(data.waveforms.numpy(), waveforms)
    assert not artifacts.open_data(folder).waveforms.any()


def test_opening_what_was_never_saved_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"waveforms\.npy"):
        artifacts.open_data(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_a_share_that_leaves_nothing_to_train_on_is_refused(share):
    clips = pd.DataFrame({"fold": [1, 2], "label": [0, 0], "src_file": [1, 2]})
    with pytest.raises(ValueError, match=rf"validation_share={share}, expected above 0"):
        splits.split(clips, 1, validation_share=share)


# ------------------------------------------------------------------------- can a set be split


def set_of(counts, folds=FOLDS):
    """Return a table of classes with so many clips, of a recording each, in every fold."""
    rows = [
        (f"{fold}-{name}{i}.wav", fold, label, name, f"{fold}{name}{i}")
        for label, (name, n) in enumerate(counts.items())
        for fold in folds
        for i in range(n if isinstance(n, int) else n.get(fold, 0))
    ]
    return pd.DataFrame(rows, columns=["filename", "fold", "label", "category", "src_file"])


@pytest.mark.parametrize("folds", [(1, 2), (1, 2, 3), FOLDS, tuple(range(1, 11))])
def test_sets_with_any_number_of_folds_can_be_split(folds):
    splits.check(set_of({"dog": 5, "cat": 5}, folds), 1)


@pytest.mark.parametrize(("clips", "message"), [
    (set_of({"dog": 5, "cat": 5}, folds=(3,)), "all clips are of fold 3; at least two folds are"),
    (set_of({"dog": 5, "cat": 5}, folds=(0, 2)), r"test_fold=1, expected one of \[0, 2\]"),
    (set_of({"dog": 5, "cat": {1: 3}}), "with fold 1 tested, class 'cat' has no training"),
    (set_of({"dog": 5, "cat": {1: 2, 2: 1}}), "with fold 1 tested, .* of class 'cat' 1"),
    (set_of({"dog": 5, "cat": {1: 2, 2: 2, 3: 2, 4: 2}}), "fold 5 tested, class 'cat' has no test"),
    (set_of({"dog": 1, "cat": 1}, folds=(1, 2, 3)), "have 4 clips of 4 recordings"),
    (set_of({"dog": 5, "cat": 5}).assign(src_file=0), "have 40 clips of 1 recordings"),
])  # fmt: skip
def test_sets_that_cannot_be_split_are_refused_by_class_and_fold(clips, message):
    with pytest.raises(ValueError, match=message) as raised:
        splits.check(clips, 1)
    assert str(raised.value).startswith("split: ") and "\n" not in str(raised.value)


def test_where_a_sound_lies_is_noted_as_the_project_sees_it(study, monkeypatch):
    folder, clips, waveforms, n_valid = study
    monkeypatch.chdir(ROOT)
    paths = ["data/demo/a.wav", str(ROOT / "data" / "b.wav"), *["/elsewhere/c.wav"] * 4]
    artifacts.save_data(folder, clips.assign(path=paths), waveforms, n_valid)
    data = artifacts.open_data(folder)
    assert data.clips.path.tolist()[:3] == ["data/demo/a.wav", "data/b.wav", "/elsewhere/c.wav"]
    assert data.file(1) == ROOT / "data" / "b.wav" and data.file(2) == Path("/elsewhere/c.wav")
