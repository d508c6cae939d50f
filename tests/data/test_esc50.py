"""The official layout: reading and decoding it, what is wrong with a folder, fetch and unpack."""

import copy
import errno
import hashlib
import re
import shutil
import stat
import zipfile

import numpy as np
import pandas as pd
import pooch
import pytest
import soundfile

from esc_lib import data
from esc_lib.data import decoding, demo, demo_sources, esc50

CATEGORIES = (
    "dog rooster pig cow frog cat hen insects sheep crow "
    "rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water "
    "toilet_flush thunderstorm "
    "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
    "drinking_sipping "
    "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking "
    "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
).split()
ESC10_TARGETS = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
COLUMNS = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ENCODING = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}


def official_rows(targets=range(50), folds=(1, 2)):
    """Return the table of a small ESC-50: one clip per class and fold, the csv's columns."""
    rows = []
    for fold in folds:
        for target in targets:
            src_file = 100000 + 1000 * fold + target
            rows.append((f"{fold}-{src_file}-A-{target}.wav", fold, target, CATEGORIES[target],
                         target in ESC10_TARGETS, src_file, "A"))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def sound(n_samples, sr=16000, hz=500.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n_samples) / sr)).astype(np.float32)


def write_clip(folder, filename, waveform, sr=16000, ending=".wav"):
    path = (folder / "audio" / filename).with_suffix(ending)
    container, subtype = ENCODING[ending]
    soundfile.write(path, waveform, sr, format=container, subtype=subtype)
    return path


def write_layout(folder, rows, endings=(".wav",)):
    """Write audio/ and meta/esc50.csv; the endings take turns."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    rows.to_csv(folder / "meta" / "esc50.csv", index=False)
    for i, filename in enumerate(rows.filename):
        write_clip(folder, filename, sound(400), ending=endings[i % len(endings)])
    return folder


@pytest.fixture
def folder(tmp_path):
    """Six clips: dog, rooster and rain in two folds."""
    return write_layout(tmp_path / "set", official_rows(targets=(0, 1, 10)))


def change_table(folder, change):
    table = folder / "meta" / "esc50.csv"
    table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")


# ------------------------------------------------------------------------------------ reading


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    """A whole small ESC-50, stored as people store it: some wav, some flac, some ogg."""
    folder = tmp_path_factory.mktemp("esc") / "ESC-50-master"
    return write_layout(folder, official_rows(), endings=(".wav", ".flac", ".ogg"))


def test_table_is_read_with_paths_and_labels(fifty):
    clips = esc50.read_clips(fifty)
    assert list(clips) == [*COLUMNS, "path", "label"] and len(clips) == 100
    assert (clips.label == clips.target).all()
    for filename, path in zip(clips.filename, clips.path, strict=True):
        assert filename.removesuffix(".wav") in path and soundfile.info(path).frames == 400
    assert {path.rpartition(".")[2] for path in clips.path} == {"wav", "flac", "ogg"}


def test_folder_may_be_given_as_text(fifty):
    pd.testing.assert_frame_equal(esc50.read_clips(str(fifty)), esc50.read_clips(fifty))


def test_esc10_subset_has_labels_0_to_9_in_the_order_of_targets(fifty):
    clips = esc50.read_clips(fifty, esc10_only=True)
    assert len(clips) == 20 and clips.esc10.all()
    assert clips.index.tolist() == list(range(20))
    labels = dict(zip(clips.target, clips.label, strict=True))
    assert labels == {target: label for label, target in enumerate(ESC10_TARGETS)}


def test_the_named_file_comes_before_a_compressed_one(folder):
    name = "1-101000-A-0.wav"
    write_clip(folder, name, sound(400), ending=".flac")
    clips = esc50.read_clips(folder)
    assert clips.path[clips.filename == name].item() == str(folder / "audio" / name)


@pytest.mark.parametrize("missing", ["", "meta"])
def test_folder_without_a_table_is_named(folder, missing):
    shutil.rmtree(folder / missing)
    with pytest.raises(
        FileNotFoundError, match=r"^read_clips: folder .*set has no meta/esc50\.csv; point DATA"
    ):
        esc50.read_clips(folder)


def test_folder_without_audio_is_named(folder):
    shutil.rmtree(folder / "audio")
    with pytest.raises(
        FileNotFoundError, match=r"^read_clips: folder .*set has no audio/ folder; point DATA"
    ):
        esc50.read_clips(folder)


def test_missing_clip_is_named(folder):
    (folder / "audio" / "2-102001-A-1.wav").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"^read_clips: clip 2-102001-A-1\.wav is listed in meta/esc50\.csv but missing in "
        r".*audio \(also as \.flac or \.ogg\); restore it or remove its row\.$",
    ):
        esc50.read_clips(folder)


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_column_is_named(folder, column):
    table = folder / "meta" / "esc50.csv"
    pd.read_csv(table).drop(columns=column).to_csv(table, index=False)
    with pytest.raises(
        ValueError,
        match=rf"^read_clips: .*esc50\.csv lacks the column\(s\) {column}; expected filename, fold",
    ):
        esc50.read_clips(folder)


@pytest.mark.parametrize("line", [2, 5, 7])
@pytest.mark.parametrize("column", COLUMNS)
def test_empty_field_is_named_by_its_line(folder, column, line):
    def empty(text):
        lines = text.splitlines()
        fields = lines[line - 1].split(",")
        fields[COLUMNS.index(column)] = ""
        lines[line - 1] = ",".join(fields)
        return "\n".join(lines) + "\n"

    change_table(folder, empty)
    with pytest.raises(ValueError, match=rf"esc50\.csv has an empty field in line {line}; fill"):
        esc50.read_clips(folder)


def test_lines_are_counted_as_an_editor_counts_them(folder):
    def empty_below_a_blank_line(text):
        header, first, *rest = text.splitlines()
        rest[1] = rest[1].replace("rain", "")
        return "\n".join([header, first, "", *rest]) + "\n\n"

    change_table(folder, empty_below_a_blank_line)
    with pytest.raises(ValueError, match=r"has an empty field in line 5; fill it in\.$"):
        esc50.read_clips(folder)


def test_blank_lines_alone_do_no_harm(folder):
    whole = esc50.read_clips(folder)
    change_table(folder, lambda text: text.replace("\n", "\n\n"))
    pd.testing.assert_frame_equal(esc50.read_clips(folder), whole)


def test_clip_listed_twice_is_named(folder):
    change_table(folder, lambda text: text + text.splitlines()[3] + "\n")
    with pytest.raises(ValueError, match=r"esc50\.csv lists 1-101010-A-10\.wav twice; remove one"):
        esc50.read_clips(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"esc50\.csv is not a csv table \("),
        (b"\xff\xfe\x00binary", r"esc50\.csv is not a csv table \("),
        (b'filename,fold\n"1-1-A-0.wav,1\n', r"esc50\.csv is not a csv table \("),
        (b"a,b\n1,2\n1,2,3\n", r"esc50\.csv is not a csv table \("),
        (",".join(COLUMNS).encode() + b"\n", r"esc50\.csv lists no clips for this profile\."),
    ],
)
def test_table_without_rows_is_named(folder, content, message):
    (folder / "meta" / "esc50.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        esc50.read_clips(folder)


def test_no_clips_for_the_profile(folder):
    change_table(folder, lambda text: text.replace("True", "False"))
    assert len(esc50.read_clips(folder)) == 6
    with pytest.raises(ValueError, match=r"esc50\.csv lists no clips for this profile\.$"):
        esc50.read_clips(folder, esc10_only=True)


# --------------------------------------------------------------------------------- categories


def test_every_target_falls_in_one_major_category():
    rows = official_rows(folds=(1,))
    major = esc50.major_category(rows)
    assert major.notna().all() and set(major) == set(esc50.MAJOR_CATEGORIES)
    assert (major.value_counts() == 10).all()
    by_name = dict(zip(rows.category, major, strict=True))
    for name, expected in {
        "crow": "Animals", "rain": "Natural soundscapes and water",
        "snoring": "Human, non-speech", "glass_breaking": "Interior, domestic",
        "hand_saw": "Exterior, urban",
    }.items():  # fmt: skip
        assert by_name[name] == expected


def test_thesis_groups_are_disjoint_and_of_known_targets():
    listed = [target for targets in esc50.THESIS_GROUPS.values() for target in targets]
    assert len(listed) == len(set(listed)) and set(listed) <= set(range(50))
    rows = official_rows(folds=(1,))
    group = esc50.thesis_group(rows)
    assert group.index.equals(rows.index)
    for name, targets in esc50.THESIS_GROUPS.items():
        assert rows.target[group == name].tolist() == sorted(targets)
    assert group.isna().sum() == 50 - len(listed)


def test_procedural_clips_keep_their_class():
    rows = demo.clip_table(clips_per_class_per_fold=1)
    assert esc50.major_category(rows).equals(rows.category)
    assert esc50.thesis_group(rows).equals(rows.category)
    assert {c.name for c in demo_sources.CLASSES} == set(rows.category)


def test_groups_do_not_depend_on_which_clips_are_at_hand():
    rows = official_rows(folds=(1,))
    part = rows[rows.target != 0]  # a class may be missing, for example among the errors
    assert esc50.major_category(part).tolist() == esc50.major_category(rows)[1:].tolist()
    assert esc50.thesis_group(part).isna().sum() == esc50.thesis_group(rows).isna().sum()


# ------------------------------------------------------------------------------------- decode


@pytest.fixture
def uneven(tmp_path):
    """Five clips that a careless reader would stumble over."""
    folder = tmp_path / "uneven"
    write_layout(folder, official_rows(targets=range(5), folds=(1,)))
    write_clip(folder, "1-101000-A-0.wav", sound(16000))
    write_clip(folder, "1-101001-A-1.wav", sound(44100, sr=44100), sr=44100)
    write_clip(folder, "1-101002-A-2.wav", np.zeros(16000, np.float32))
    write_clip(folder, "1-101003-A-3.wav", sound(11648, level=0.25))  # 0.728 s
    write_clip(folder, "1-101004-A-4.wav", sound(23168))  # 1.448 s
    return esc50.read_clips(folder)


@pytest.fixture
def decode(tmp_path):
    return lambda clips: decoding.decode(clips, 16000, 16000, tmp_path / "sounds.npy")


def test_decode_pads_cuts_and_resamples(uneven, decode, tmp_path):
    decoded = decode(uneven)
    assert decoded.waveforms.shape == (5, 16000) and decoded.waveforms.dtype == np.int16
    assert np.array_equal(decoded.waveforms, np.load(tmp_path / "sounds.npy"))
    assert decoded.n_valid.tolist() == [16000, 16000, 16000, 11648, 16000]
    whole, resampled, silent, short, long = decoded.waveforms.astype(float) / 32768
    np.testing.assert_allclose(whole, sound(16000), atol=1.6 / 32768)  # two roundings, libsndfile's
    # the filter rings at both ends of a sine that starts and stops
    np.testing.assert_allclose(resampled[500:-500], whole[500:-500], atol=1e-3)
    np.testing.assert_array_equal(long, whole)
    np.testing.assert_allclose(short[:11648], whole[:11648] / 2, atol=1.6 / 32768)
    assert not short[11648:].any() and not silent.any()


def test_decode_reports_every_clip(uneven, decode):
    report = decode(uneven).report
    assert list(report) == ["filename", "sr", "duration_s", "peak_db", "rms_db", "silent"]
    assert report.filename.tolist() == uneven.filename.tolist()
    assert report.sr.tolist() == [16000, 44100, 16000, 16000, 16000]
    np.testing.assert_allclose(report.duration_s, [1, 1, 1, 0.728, 1.448])
    assert report.silent.tolist() == [False, False, True, False, False]
    half = 20 * np.log10(0.5)
    # a sine of whole periods; the peak falls on a sample, 16 bits round it by 3e-4 dB
    np.testing.assert_allclose(report.peak_db[[0, 1, 4]], half, atol=0.01)
    np.testing.assert_allclose(report.peak_db[3], 2 * half, atol=0.01)
    np.testing.assert_allclose(report.rms_db[[0, 1, 4]], half + 10 * np.log10(0.5), atol=0.01)
    assert np.isfinite(report.peak_db).all() and np.isfinite(report.rms_db).all()


def test_description_names_the_silent_clip(uneven, decode):
    lines = decoding.describe(uneven, decode(uneven).report)
    assert lines[0].startswith("5 clips, 5 classes of 1 to 1 clips, 1 folds, sample rate 16000, 44")
    assert lines[1] == "Durations from 0.73 to 1.45 s."
    assert lines[2:] == ["1-101002-A-2.wav is silent (peak below -80 dB of full scale)."]


def test_decode_names_the_broken_clip(uneven, decode):
    path = uneven.path[3]
    with open(path, "rb+") as file:
        file.truncate(9000)
    with pytest.raises(ValueError, match=r"clip .*1-101003-A-3\.wav is truncated"):
        decode(uneven)


# ------------------------------------------------------------------------------------- unpack


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


GOOD = {"set/": b"", "set/meta/esc50.csv": b"table", "set/audio/a.wav": b"sound" * 1000}


def test_unpack_gives_the_folder_and_nothing_else(tmp_path):
    archive = make_zip(tmp_path / "set.zip", GOOD)
    place = tmp_path / "data"
    place.mkdir()
    assert esc50.unpack(archive, place, "set") == place / "set"
    files = {p.relative_to(place).as_posix(): p.read_bytes()
             for p in place.rglob("*") if p.is_file()}  # fmt: skip
    assert files == {name: content for name, content in GOOD.items() if content}
    assert [p.name for p in place.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "set/../../evil",
        "/etc/evil",
        "set\\..\\..\\evil",
        "set/..\\..\\evil",
        "C:\\evil",
        "other/evil",
        "evil",
        ".",
        "/",
    ],
)
def test_path_outside_the_root_is_refused(tmp_path, name):
    place = tmp_path / "deep" / "data"
    place.mkdir(parents=True)
    archive = make_zip(tmp_path / "deep" / "set.zip", {**GOOD, name: b"evil"})
    with pytest.raises(
        ValueError, match=rf"^unpack: .*set\.zip holds {re.escape(repr(name))}, a path outside set/"
    ):
        esc50.unpack(archive, place, "set")
    assert not list(place.iterdir()) and not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_file_that_is_no_zip_is_refused(tmp_path, content):
    archive = tmp_path / "set.zip"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"^unpack: .*set\.zip is not a zip archive; delete it"):
        esc50.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]


def test_archive_without_the_folder_is_refused(tmp_path):
    archive = make_zip(tmp_path / "set.zip", {})
    with pytest.raises(ValueError, match=r"^unpack: .*set\.zip .*set"):
        esc50.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]


def with_flag(path, at, value):
    """Set a byte of the last member's entry in the central directory."""
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + at] = value
    path.write_bytes(content)
    return path


def packed(archive, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(archive, "w", method) as members:
        members.writestr("set/audio/a.wav", content)


def add_link(archive, target):
    link = zipfile.ZipInfo("set/audio/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr(link, target)


def overlapping(archive):
    """Let a thousand members be the same bytes of the archive."""
    with zipfile.ZipFile(archive, "a") as members:
        one = members.getinfo("set/audio/a.wav")
        for i in range(1000):
            other = copy.copy(one)
            other.filename = f"set/audio/{i}.wav"
            members.filelist.append(other)
        members._didModify = True


NOISE = np.random.default_rng(0).bytes(20_000)
HOSTILE = {
    "a link to the system": (lambda z: add_link(z, "/etc"), "'set/audio/link', a link"),
    "a link out of the root": (lambda z: add_link(z, "../../.."), "'set/audio/link', a link"),
    "zeros without end": (
        lambda z: packed(z, bytes(30_000_000)), "would unpack to 1 files",
    ),
    "members upon each other": (overlapping, "would unpack to 1002 files"),
    "many members": (
        lambda z: make_zip(z, {f"set/{i}": b"" for i in range(20_001)}), "to 20001 files",
    ),
    "a size that is made up": (lambda z: with_flag(z, 27, 0x7F), "2.1[0-9] GB"),
    "encrypted": (lambda z: with_flag(z, 8, 1), "encrypted"),
    "packed in an unknown way": (lambda z: with_flag(z, 10, 77), "is damaged"),
    "another checksum": (lambda z: with_flag(z, 16, 0), "is damaged"),
    "cut in its list": (lambda z: with_flag(z, 2, 0), "is damaged"),
    "only a file of that name": (lambda z: make_zip(z, {"set": b"evil"}), "holds no set/"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_is_not_a_set_of_clips_is_refused_and_leaves_nothing(
    tmp_path, monkeypatch, case
):
    archive = make_zip(tmp_path / "set.zip", {"set/x": b"", "set/audio/a.wav": NOISE})
    spoil, message = HOSTILE[case]
    spoil(archive)
    if "damaged" not in message:
        monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *_: pytest.fail("written"))
    with pytest.raises(ValueError, match=rf"^unpack: .*set\.zip .*{message}.*; delete it") as said:
        esc50.unpack(archive, tmp_path, "set")
    assert "\n" not in str(said.value)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_member_is_refused_and_leaves_nothing(tmp_path, method):
    archive = tmp_path / "set.zip"
    packed(archive, bytes(range(256)) * 40, method)
    content = bytearray(archive.read_bytes())
    content[60:70] = bytes(10)
    archive.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"^unpack: .*set\.zip"):
        esc50.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]


def fail_half_way(monkeypatch, error):
    def extract_one_and_fail(self, path):
        self.extract(self.namelist()[-1], path)
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "extractall", extract_one_and_fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_interrupted_unpacking_leaves_nothing(tmp_path, monkeypatch, error):
    archive = make_zip(tmp_path / "set.zip", GOOD)
    fail_half_way(monkeypatch, error)
    with pytest.raises(type(error)):
        esc50.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]
    monkeypatch.undo()
    assert (esc50.unpack(archive, tmp_path, "set") / "meta" / "esc50.csv").is_file()


def test_full_disk_is_said_in_a_sentence(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "set.zip", GOOD)
    fail_half_way(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match=r"^unpack: .*set\.zip .*No space left on device.*; "):
        esc50.unpack(archive, tmp_path, "set")


# -------------------------------------------------------------------------------------- fetch


@pytest.fixture
def official_zip(tmp_path):
    """A small official archive."""
    source = write_layout(tmp_path / "made" / esc50.ARCHIVE_ROOT, official_rows(targets=(0, 1)))
    members = {
        f"{esc50.ARCHIVE_ROOT}/{p.relative_to(source).as_posix()}": p.read_bytes()
        for p in source.rglob("*")
        if p.is_file()
    }
    return make_zip(tmp_path / "made" / "official.zip", members)


@pytest.fixture
def serve(monkeypatch):
    """Let pooch work as it does, but take its bytes from a function instead of the network."""
    downloads = []

    def install(downloader):
        def download(url, output_file, pooch_instance):
            downloads.append(url)
            downloader(output_file)

        monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: download)
        return downloads

    return install


def md5(path):
    return "md5:" + hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_fetch_asks_pooch_for_the_pinned_archive(official_zip, tmp_path, monkeypatch):
    asked = []

    def retrieve(url, known_hash, *, fname, path, progressbar):
        asked.append((url, known_hash, path))
        return str(official_zip)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    cache = tmp_path / "data"
    cache.mkdir()
    assert esc50.fetch(cache) == cache / "ESC-50-master"
    assert asked == [(esc50.ARCHIVE_URL, esc50.ARCHIVE_HASH, cache)]
    assert re.fullmatch(r"md5:[0-9a-f]{32}", esc50.ARCHIVE_HASH)
    assert len(esc50.read_clips(cache / "ESC-50-master")) == 4


def test_fetch_downloads_checks_and_unpacks_once(official_zip, tmp_path, monkeypatch, serve):
    downloads = serve(lambda output_file: shutil.copyfile(official_zip, output_file))
    monkeypatch.setattr(esc50, "ARCHIVE_HASH", md5(official_zip))
    cache = tmp_path / "data"  # does not exist yet
    folder = esc50.fetch(str(cache))
    assert len(esc50.read_clips(folder)) == 4 and downloads == [esc50.ARCHIVE_URL]
    assert esc50.fetch(cache) == folder and len(downloads) == 1
    shutil.rmtree(folder)  # the archive is still there and still right
    assert esc50.fetch(cache) == folder and len(downloads) == 1


def test_existing_folder_is_not_downloaded_again(tmp_path, serve):
    downloads = serve(lambda output_file: pytest.fail("nothing is to be downloaded"))
    (tmp_path / "ESC-50-master").mkdir()
    assert esc50.fetch(tmp_path) == tmp_path / "ESC-50-master" and not downloads


def test_wrong_checksum_is_refused_and_leaves_nothing(official_zip, tmp_path, serve):
    serve(lambda output_file: shutil.copyfile(official_zip, output_file))
    with pytest.raises(
        ValueError, match=rf"^fetch: {re.escape(esc50.ARCHIVE_URL)} is not the expected archive: "
    ):
        esc50.fetch(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def connection_error():
    return pytest.importorskip("requests").exceptions.ConnectionError("no route to host")


def wrong_proxy():
    # of two minds: an OSError and a ValueError
    return pytest.importorskip("requests").exceptions.InvalidProxyURL("check your proxy URL")


@pytest.mark.parametrize("make_error", [connection_error, wrong_proxy, TimeoutError])
def test_failed_download_is_a_sentence_and_leaves_nothing(tmp_path, serve, make_error):
    error = make_error()

    def fail_half_way(output_file):
        with open(output_file, "wb") as file:
            file.write(b"PK\x03\x04")
        raise error

    serve(fail_half_way)
    with pytest.raises(
        OSError,
        match=rf"^fetch: {re.escape(esc50.ARCHIVE_URL)} could not be downloaded "
        rf"\({type(error).__name__}.*\); check the connection .*run again, or .* DATA=folder\.$",
    ):
        esc50.fetch(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_full_disk_is_not_blamed_on_the_connection_alone(tmp_path, serve):
    def fail(output_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    serve(fail)
    with pytest.raises(OSError, match=r"^fetch: .* could not be downloaded \(No space left on dev"):
        esc50.fetch(tmp_path / "data")


def test_interrupted_download_leaves_nothing(tmp_path, serve):
    def interrupt(output_file):
        with open(output_file, "wb") as file:
            file.write(b"PK\x03\x04")
        raise KeyboardInterrupt

    serve(interrupt)
    with pytest.raises(KeyboardInterrupt):
        esc50.fetch(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


# ------------------------------------------------------------------------------------ prepare


def test_prepare_writes_the_demo_set_at_the_front_ends_length(tmp_path, monkeypatch):
    asked, write = [], demo.write

    def write_small(folder, *, sr, clip_s):
        asked.append((folder.parts[-2:], sr, clip_s))
        return write(tmp_path / "demo", sr=sr, clip_s=1.0, clips_per_class_per_fold=1)

    monkeypatch.setattr(demo, "write", write_small)
    assert data.prepare("demo") == tmp_path / "demo"
    assert asked == [(("data", "demo"), 16000, 3.0)]


@pytest.mark.parametrize("profile", ["esc10", "esc50"])
def test_prepare_fetches_the_official_set(folder, monkeypatch, profile):
    monkeypatch.setattr(esc50, "fetch", lambda cache: folder if cache.name == "data" else None)
    assert data.prepare(profile) == folder


def test_prepare_takes_the_given_folder(folder, monkeypatch):
    monkeypatch.setattr(esc50, "fetch", lambda cache: pytest.fail("nothing is to be fetched"))
    for profile in ("demo", "esc10", "esc50", "esc50-16k"):
        assert data.prepare(profile, str(folder)) == folder


def test_prepare_checks_the_given_folder(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere has no meta/esc50\.csv; point DATA"):
        data.prepare("esc50", tmp_path / "nowhere")
    change_table(folder, lambda text: text.replace("True", "False"))
    with pytest.raises(ValueError, match="lists no clips for this profile"):
        data.prepare("esc10", folder)


def test_prepare_says_what_it_cannot_fetch():
    with pytest.raises(
        ValueError, match=r"^prepare: profile 'esc50-16k' has nothing to download; .* DATA=folder"
    ):
        data.prepare("esc50-16k")


def test_prepare_names_an_unknown_profile():
    with pytest.raises(ValueError, match=r"profile='esc51' is unknown; choose one of demo, esc10"):
        data.prepare("esc51")


def test_esc10_column_with_other_words_is_refused(tmp_path):
    folder = demo.write(tmp_path / "set", clips_per_class_per_fold=1)
    table = folder / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace("False", "no", 1))
    with pytest.raises(ValueError, match="esc10='no'; expected True or False"):
        esc50.read_clips(folder, esc10_only=True)
