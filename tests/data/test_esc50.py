"""ESC-50: its groups, decoding, unpacking, fetching, and which folder a profile has."""

import copy
import errno
import re
import shutil
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pooch
import pytest
import soundfile
from clip_folders import change_table, official_rows, sound, write_clip, write_layout

from esc_lib import data
from esc_lib.config import get_profile
from esc_lib.data import archives, decoding, demo, demo_sources, esc50
from esc_lib.data.table import read_clips


@pytest.fixture
def folder(tmp_path):
    """Six clips: dog, rooster and rain in two folds."""
    return write_layout(tmp_path / "set", official_rows(targets=(0, 1, 10)))


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


@pytest.mark.parametrize("rename", [
    lambda rows: rows.assign(category="spoken_" + rows.category),
    lambda rows: rows.assign(target=rows.target + 60),
    lambda rows: rows.assign(target=rows.target[::-1].to_numpy()),
])  # fmt: skip
def test_classes_of_ones_own_stand_for_themselves(rename):
    rows = rename(official_rows(folds=(1,)))
    assert esc50.major_category(rows).equals(rows.category)
    assert esc50.thesis_group(rows).equals(rows.category)


@pytest.mark.parametrize("profile", ["demo", "esc10", "esc50"])
def test_name_and_licence_are_those_of_the_clips(profile):
    own, official = get_profile(profile), official_rows(folds=(1,))
    of_esc50 = esc50.labelled(own, official)
    assert of_esc50.licence.startswith("CC BY") and "ESC" in of_esc50.dataset_label
    if profile != "demo":
        assert of_esc50 == own
    procedural = esc50.labelled(own, demo.clip_table(clips_per_class_per_fold=1))
    assert (procedural.dataset_label, procedural.licence) == ("procedural clips", "MIT")
    others = esc50.labelled(own, official.assign(category="spoken_" + official.category))
    assert (others.dataset_label, others.licence) == ("clips of one's own", "its makers'")
    unlabelled = {"dataset_label": "", "licence": ""}
    assert replace(others, **unlabelled) == replace(own, **unlabelled)


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
    return read_clips(folder)


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
    assert list(report) == ["filename", "sr", "channels", "duration_s", "peak_db", "rms_db",
                            "cancelled", "silent"]  # fmt: skip
    assert report.channels.eq(1).all() and not report.cancelled.any()
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


def test_sound_of_another_unit_is_scaled_and_sound_beyond_full_scale_named(uneven, decode):
    for place, level in ((0, 16_000.0), (1, 1.25)):  # in units of 16 bits; as of a lossy decoder
        soundfile.write(uneven.path[place], sound(16000, level=level), 16000, subtype="FLOAT")
    decoded = decode(uneven)
    lines = "\n".join(decoding.describe(uneven, decoded.report))
    assert "1 clips go beyond full scale, 1-101000-A-0.wav by 84.1 dB: they are scaled" in lines
    assert "1 clips go beyond full scale, 1-101001-A-1.wav by 1.9 dB: what lies beyond" in lines
    scaled, cut = decoded.waveforms[:2] / 32768
    np.testing.assert_allclose(scaled, sound(16000, level=1.0), atol=1e-3)
    np.testing.assert_allclose(cut, sound(16000, level=1.25).clip(-1, 1), atol=1e-3)


def test_channels_are_counted_and_those_that_cancel_each_other_named(uneven, decode):
    for place, second in ((0, 0.5), (1, -1.0)):
        both = np.stack([sound(16000), second * sound(16000)], axis=1)
        soundfile.write(uneven.path[place], both, 16000)
    report = decode(uneven).report
    assert decoding.characteristics(uneven, report).measured["channels"] == "mono, stereo"
    assert report.cancelled.tolist() == [False, True, False, False, False]
    lines = decoding.describe(uneven, report)
    assert "1-101001-A-1.wav is silent (its channels cancel each other)." in lines


def test_of_many_silent_clips_the_first_are_named(uneven, decode):
    report = decode(uneven).report
    many = pd.concat([report[report.silent]] * 15, ignore_index=True)
    lines = decoding.describe(uneven, many.assign(filename=[f"{i}.wav" for i in range(15)]))
    assert lines[-2:] == ["9.wav is silent (peak below -80 dB of full scale).", "5 more clips are "
                          "silent."]  # fmt: skip


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
    assert archives.unpack(archive, place, "set") == place / "set"
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
        archives.unpack(archive, place, "set")
    assert not list(place.iterdir()) and not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_file_that_is_no_zip_is_refused(tmp_path, content):
    archive = tmp_path / "set.zip"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"^unpack: .*set\.zip is not a zip archive; delete it"):
        archives.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]


def test_archive_without_the_folder_is_refused(tmp_path):
    archive = make_zip(tmp_path / "set.zip", {})
    with pytest.raises(ValueError, match=r"^unpack: .*set\.zip .*set"):
        archives.unpack(archive, tmp_path, "set")
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
        archives.unpack(archive, tmp_path, "set")
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
        archives.unpack(archive, tmp_path, "set")
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
        archives.unpack(archive, tmp_path, "set")
    assert list(tmp_path.iterdir()) == [archive]
    monkeypatch.undo()
    assert (archives.unpack(archive, tmp_path, "set") / "meta" / "esc50.csv").is_file()


def test_full_disk_is_said_in_a_sentence(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "set.zip", GOOD)
    fail_half_way(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match=r"^unpack: .*set\.zip .*No space left on device.*; "):
        archives.unpack(archive, tmp_path, "set")


# -------------------------------------------------------------------------------------- fetch


@pytest.fixture
def official_zip(tmp_path, monkeypatch):
    """A small official archive, and an idea of the official set that fits it."""
    monkeypatch.setattr(esc50, "OFFICIAL", (4, 2, 2))
    monkeypatch.setattr(esc50, "CLIP_SAMPLES", 400)
    monkeypatch.setattr(esc50, "CLIP_SR", 16_000)
    return pack(write_layout(tmp_path / "made", official_rows(targets=(0, 1))))


def pack(source):
    members = {
        f"{esc50.ARCHIVE_ROOT}/{p.relative_to(source).as_posix()}": p.read_bytes()
        for p in source.rglob("*")
        if p.is_file() and p.suffix != ".zip"
    }
    return make_zip(source / "official.zip", members)


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


def test_fetch_asks_pooch_for_the_archive_of_a_commit(official_zip, tmp_path, monkeypatch):
    asked = []

    def retrieve(url, known_hash, *, fname, path, progressbar):
        asked.append((url, known_hash, path))
        return str(official_zip)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    cache = tmp_path / "data"
    cache.mkdir()
    assert esc50.fetch(cache) == cache / "ESC-50"
    assert asked == [(esc50.ARCHIVE_URL, None, cache)]
    assert re.search(r"/archive/[0-9a-f]{40}\.zip$", esc50.ARCHIVE_URL)
    assert len(read_clips(cache / "ESC-50")) == 4


def test_fetch_downloads_checks_and_unpacks_once(official_zip, tmp_path, serve):
    downloads = serve(lambda output_file: shutil.copyfile(official_zip, output_file))
    cache = tmp_path / "data"  # does not exist yet
    folder = esc50.fetch(str(cache))
    assert len(read_clips(folder)) == 4 and downloads == [esc50.ARCHIVE_URL]
    assert esc50.fetch(cache) == folder and len(downloads) == 1
    shutil.rmtree(folder)  # the archive is still there and still right
    assert esc50.fetch(cache) == folder and len(downloads) == 1


def test_existing_folder_is_not_downloaded_again(tmp_path, serve):
    downloads = serve(lambda output_file: pytest.fail("nothing is to be downloaded"))
    (tmp_path / "ESC-50").mkdir()
    assert esc50.fetch(tmp_path) == tmp_path / "ESC-50" and not downloads


def another_level(source):
    write_clip(source, "1-101000-A-0.wav", sound(400, level=0.4))


def longer(source):
    write_clip(source, "1-101001-A-1.wav", sound(401))


def fewer(source):
    change_table(source, lambda text: "\n".join(text.splitlines()[:-1]) + "\n")


def renamed(source):
    change_table(source, lambda text: text.replace("dog", "wolf"))


@pytest.mark.parametrize(("change", "message"), [
    (another_level, r"its samples are not those of the first download, noted in .*ESC-50\.sha256"),
    (longer, r"1-101001-A-1\.wav has \(401,\) samples at 16000 Hz; expected 400 at 16000"),
    (fewer, r"clips, classes and folds are \(3, 2, 2\); expected \(4, 2, 2\)"),
    (renamed, r"its classes are not those of ESC-50"),
])  # fmt: skip
def test_other_content_is_named_and_the_archive_kept(
    official_zip, tmp_path, serve, change, message
):
    archives = [official_zip]
    serve(lambda output_file: shutil.copyfile(archives[-1], output_file))
    cache = tmp_path / "data"
    folder = esc50.fetch(cache)
    again = write_layout(tmp_path / "again", official_rows(targets=(0, 1)))
    archives.append(pack(again))  # other bytes, the same content
    for part in (folder, cache / "ESC-50.zip"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    assert esc50.fetch(cache) == folder
    change(again)
    archives.append(pack(again))
    for part in (folder, cache / "ESC-50.zip"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(ValueError, match=message) as raised:
        esc50.fetch(cache)
    assert "DATA=folder" in str(raised.value) and "\n" not in str(raised.value)
    assert {p.name for p in cache.iterdir()} == {"ESC-50.zip", "ESC-50.sha256"}


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
        return write(tmp_path / "demo", sr=sr, clip_s=1.0, clips_per_class_per_fold=2)

    monkeypatch.setattr(demo, "write", write_small)
    assert data.prepare("demo") == tmp_path / "demo"
    assert asked == [(("data", "demo"), 16000, 3.0)]


@pytest.fixture
def splittable(tmp_path):
    """Two classes in six folds: what is needed to hold a fifth of five back."""
    return write_layout(tmp_path / "set", official_rows(targets=(0, 1), folds=range(1, 7)))


@pytest.mark.parametrize("profile", ["esc10", "esc50"])
def test_prepare_fetches_the_official_set(splittable, monkeypatch, profile):
    monkeypatch.setattr(esc50, "fetch", lambda cache: splittable if cache.name == "data" else None)
    assert data.prepare(profile) == splittable


def test_prepare_takes_the_given_folder(splittable, monkeypatch):
    monkeypatch.setattr(esc50, "fetch", lambda cache: pytest.fail("nothing is to be fetched"))
    for profile in ("demo", "esc10", "esc50", "esc50-16k"):
        assert data.prepare(profile, str(splittable)) == splittable
    monkeypatch.setenv("HOME", str(splittable.parent))
    assert data.prepare("demo", "~/set") == splittable


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
