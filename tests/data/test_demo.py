"""The procedural set: its layout, its determinism, and that its declared truth is true."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile
from edits import CODE, each_edit, pretend

from esc_lib.data import demo, demo_sources

SMALL = {"seed": 3, "sr": 16000, "clip_s": 1.0, "clips_per_class_per_fold": 2}
RENDER = {name: SMALL[name] for name in ("seed", "sr", "clip_s")}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return demo.write(tmp_path_factory.mktemp("demo") / "set", **SMALL)


@pytest.fixture(scope="module")
def table(small):
    return pd.read_csv(small / "meta" / "esc50.csv")


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------ layout

def test_layout_is_the_official_one(small, table):
    assert list(table) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    assert table["esc10"].dtype == bool and not table["esc10"].any()
    assert sorted(p.name for p in (small / "audio").iterdir()) == sorted(table["filename"])
    built = (table["fold"].astype(str) + "-" + table["src_file"].astype(str) + "-"
             + table["take"] + "-" + table["target"].astype(str) + ".wav")
    assert (built == table["filename"]).all()
    assert (table.groupby(["fold", "target"]).size() == 2).all() and len(table) == 100
    names = dict(zip(table["target"], table["category"], strict=True))
    assert [names[i] for i in range(10)] == [c.name for c in demo_sources.CLASSES]


def test_files_are_16_bit_mono_without_clipping(small, table):
    for name in table["filename"]:
        info = soundfile.info(small / "audio" / name)
        assert (info.channels, info.samplerate, info.subtype) == (1, 16000, "PCM_16")
        peak = np.abs(soundfile.read(small / "audio" / name)[0]).max()
        assert 10 ** (-18.5 / 20) < peak < 1 - 1 / 32768


def test_some_clips_are_shorter_and_two_are_longer(small, table):
    frames = pd.Series([soundfile.info(small / "audio" / n).frames for n in table["filename"]])
    assert set(frames) == {11520, 16000, 22400}
    assert (frames == 22400).sum() == 2
    assert 1 <= (frames == 11520).sum() <= 8


def test_two_fifths_of_the_clips_share_a_recording():
    shared = [demo.clip_table(seed=seed)["src_file"].duplicated(keep=False).mean()
              for seed in range(5)]
    assert 0.32 < np.mean(shared) < 0.48


def test_only_the_documented_recording_straddles_folds():
    full = demo.clip_table(seed=1)
    folds = full.groupby("src_file")["fold"].nunique()
    assert folds[folds > 1].to_dict() == {demo.STRADDLING["src_file"]: 2}
    places = full[full["src_file"] == demo.STRADDLING["src_file"]]
    where = list(places[["fold", "target"]].itertuples(index=False, name=None))
    assert where == [demo.STRADDLING["home"], demo.STRADDLING["stray"]]
    assert (full.groupby("src_file")["take"].nunique() == full.groupby("src_file").size()).all()


# ------------------------------------------------------------------------------- determinism

def test_same_seed_gives_identical_bytes(small, tmp_path):
    assert contents(demo.write(tmp_path / "again", **SMALL)) == contents(small)


def test_another_seed_gives_other_audio():
    # first recordings keep their names whatever the seed
    first, second = (demo.stems("1-110000-A-0.wav", seed=s, clip_s=1.0) for s in (3, 4))
    assert np.abs(first["bell"] - second["bell"]).max() > 0.01


def test_takes_share_the_recording_but_not_the_waveform():
    full = demo.clip_table(seed=0)
    source = full.loc[full["take"] == "B", "src_file"]
    pair = full[full["src_file"] == source[source != demo.STRADDLING["src_file"]].iloc[0]]
    first, second = (demo.stems(name, clip_s=1.0) for name in pair["filename"][:2])
    ratios = []
    for layers in (first, second):
        power = {name: np.mean(wave**2) for name, wave in layers.items()}
        ratios.append(power["background"] / sum(v for k, v in power.items() if k != "background"))
    # the mixed signal fixes the level; chance correlation between stems moves the sum of powers
    assert ratios[0] == pytest.approx(ratios[1], rel=0.1)
    n = min(len(first["background"]), len(second["background"]))
    assert abs(np.corrcoef(first["background"][:n], second["background"][:n])[0, 1]) < 0.1


# ------------------------------------------------------------------------------------- truth

def test_stems_add_up_to_every_clip(small, table):
    settings = json.loads((small / "meta" / "demo.json").read_text())["render"]
    assert settings == RENDER
    truth = {c.name: [source for source, *_ in c.parts] for c in demo_sources.CLASSES}
    for name, category in zip(table["filename"], table["category"], strict=True):
        clip, _ = soundfile.read(small / "audio" / name)
        layers = demo.stems(name, **settings)
        assert list(layers) == truth[category] + ["background"]
        # half a step of rounding, plus the float sum
        assert np.abs(sum(layers.values()) - clip).max() <= 0.5 / 32768 + 1e-9


def third_octaves(freqs_hz, power):
    edges = 1000 * 2 ** ((np.arange(-14, 10) - 0.5) / 3)  # standard bands, 35 Hz to 7.1 kHz
    return np.histogram(freqs_hz, edges, weights=power)[0]


@pytest.mark.parametrize("factor", [1.0, 1.08])
@pytest.mark.parametrize("name", demo_sources.SOURCES)
def test_rendered_source_has_its_declared_spectrum(name, factor):
    rng = np.random.default_rng(0)
    wave = demo_sources.render_source(name, 40 * 16000, 16000, rng, factor=factor)
    freqs, measured = scipy.signal.welch(wave, 16000, nperseg=8192)
    window_hz = 0.6 * 16000 / 8192 / factor  # the analysis widens lines, which matters at edges
    truth = demo_sources.source_spectra(freqs / factor, resolution_hz=window_hz)[name].to_numpy()
    rendered, true = third_octaves(freqs, measured), third_octaves(freqs, truth)
    assert np.corrcoef(rendered, true)[0, 1] > 0.98
    # rumble, the narrowest noise, varies most: sd 1.5 % in 40 s
    assert np.mean(wave**2) == pytest.approx(1, abs=0.06)
    # the share of power that lies in a wrong band is half of this sum
    assert np.abs(rendered / rendered.sum() - true / true.sum()).sum() < 0.06


@pytest.mark.parametrize("tilt_db", [-7.0, 0.0])
def test_background_has_its_declared_tilt(tilt_db):
    noise = demo_sources.render_background(160000, 16000, tilt_db, np.random.default_rng(0))
    freqs, power = scipy.signal.welch(noise, 16000, nperseg=8192)
    inside = (freqs > 100) & (freqs < 7900)
    slope = np.polyfit(np.log2(freqs[inside]), 10 * np.log10(power[inside]), 1)[0]
    assert slope == pytest.approx(tilt_db, abs=0.05)  # sd over seeds: 0.01
    assert np.mean(noise**2) == pytest.approx(1, abs=0.14)  # steep noise varies most: sd 3.5 %
    assert power[freqs < 20].sum() < 1e-3 * power.sum()


def test_sources_keep_their_spectrum_inside_clips():
    # take the recording's factor out, average over clips: envelopes must not move the power
    grid = np.arange(4097) * 16000 / 8192
    truth = demo_sources.source_spectra(grid)
    for target in (1, 3, 7, 9):  # strokes, scatter, train and rare events
        name = demo_sources.CLASSES[target].parts[0][0]
        mean = np.zeros(23)
        for fold in demo.FOLDS:
            src_file = 100000 + 10000 * fold + 100 * target + 1
            wave = demo.stems(f"{fold}-{src_file}-A-{target}.wav")[name]
            factor = demo.recording(src_file).factor
            freqs, power = scipy.signal.welch(wave, 16000, nperseg=8192)
            mean += third_octaves(freqs / factor, power / power.sum())
        assert np.corrcoef(mean, third_octaves(grid, truth[name]))[0, 1] > 0.97


def test_spectra_lose_no_line_between_bins():
    for n_bins in (65, 513, 8193):
        spectra = demo_sources.source_spectra(np.linspace(0, 8000, n_bins))
        assert list(spectra) == list(demo_sources.SOURCES) and len(spectra) == n_bins
        assert (spectra >= 0).all(axis=None)
        np.testing.assert_allclose(spectra.sum(), 1, atol=1e-3)  # tails of the wide resonances
    wide = demo_sources.source_spectra(np.linspace(0, 8000, 513), resolution_hz=20)
    assert wide["hum"].max() < spectra["hum"].max() and wide["hum"].sum() == pytest.approx(1, 1e-3)


def test_classes_combine_shared_sources():
    rows = [(target, *part) for target, c in enumerate(demo_sources.CLASSES) for part in c.parts]
    table = pd.DataFrame(rows, columns=["target", "source", "weight", "envelope"])
    np.testing.assert_allclose(table.groupby("target")["weight"].sum(), 1)
    assert table.groupby("target").size().between(2, 3).all() and table["target"].nunique() == 10
    assert set(table["source"]) == set(demo_sources.SOURCES)
    assert (table["source"].value_counts() > 1).sum() >= 6


# --------------------------------------------------------------------------- folders, faults

@pytest.fixture
def quick(monkeypatch):
    """Replace rendering by silence of the right length, for tests of the folder alone."""
    calls = []

    def silence(name, *, seed, sr, clip_s):
        calls.append(name)
        return {"background": np.zeros(demo._start(name, seed, sr, clip_s)[0])}

    monkeypatch.setattr(demo, "stems", silence)
    return calls


TINY = {"clip_s": 1.0, "clips_per_class_per_fold": 1}


def test_complete_folder_is_kept(quick, tmp_path):
    folder = demo.write(tmp_path / "set", **TINY)
    assert folder == tmp_path / "set" and len(quick) == 50
    demo.write(folder, **TINY)
    assert len(quick) == 50


@pytest.mark.parametrize("change", [{"seed": 5}, {"sr": 22050}, {"clip_s": 1.5},
                                    {"clips_per_class_per_fold": 2}])
def test_other_settings_rebuild(quick, tmp_path, change):
    folder = demo.write(tmp_path / "set", **TINY)
    demo.write(folder, **{**TINY, **change})
    record = json.loads((folder / "meta" / "demo.json").read_text())
    assert {**record, **record["render"]}.items() >= change.items()
    assert len(list((folder / "audio").iterdir())) == len(quick) - 50
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"RIFF")])
def test_missing_or_cut_clip_rebuilds(quick, tmp_path, damage):
    folder = demo.write(tmp_path / "set", **TINY)
    before = contents(folder)
    damage(next((folder / "audio").iterdir()))
    assert contents(demo.write(folder, **TINY)) == before


def test_interrupted_write_leaves_what_was_there(quick, tmp_path, monkeypatch):
    def stop(name, **settings):
        if len(quick) > 70:
            raise KeyboardInterrupt
        return silence(name, **settings)

    silence = demo.stems
    monkeypatch.setattr(demo, "stems", stop)
    folder = demo.write(tmp_path / "set", **TINY)
    before = contents(folder)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            demo.write(target, **{**TINY, "seed": 9})
    assert list(tmp_path.iterdir()) == [folder] and contents(folder) == before


def test_foreign_folder_is_refused_and_untouched(quick, tmp_path):
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"other than a demo set \('chapter.tex'\); choose"):
        demo.write(foreign, **TINY)
    with pytest.raises(ValueError, match=r"holds something other than a demo set"):
        demo.write(foreign / "chapter.tex", **TINY)
    ours = demo.write(tmp_path / "set", **TINY)
    (ours / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"\('notes.txt'\); choose another folder"):
        demo.write(ours, **{**TINY, "seed": 9})
    assert (foreign / "chapter.tex").read_text() == "years of work" and not quick[50:]


def test_empty_folder_is_filled(quick, tmp_path):
    (tmp_path / "set").mkdir()
    assert len(contents(demo.write(tmp_path / "set", **TINY))) == 52


@pytest.mark.parametrize(("change", "message"), [
    ({"seed": -1}, "seed=-1, expected an integer from 0"),
    ({"sr": 8000}, "sr=8000, expected an integer from 16000"),
    ({"clip_s": float("nan")}, "clip_s=nan, expected 1 to 60 s"),
    ({"clips_per_class_per_fold": 0}, "clips_per_class_per_fold=0, expected 1 to 99"),
])
def test_bad_setting_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        demo.write(tmp_path / "set", **change)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["1-110000-A-1.wav", "9-1-A-0.wav", "../1-110000-A-0.wav",
                                  "4-120800-B-8.wav"])
def test_unknown_clip_is_named(name):
    with pytest.raises(ValueError, match="is no clip of the demo set; take a name from"):
        demo.stems(name)


def test_unknown_source_and_bad_grid_are_named():
    with pytest.raises(ValueError, match="name='cat' is no source; choose from hum"):
        demo_sources.render_source("cat", 100, 16000, np.random.default_rng(0))
    for freqs in ([100.0], [0.0, np.nan], [2.0, 1.0], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="is not an increasing row of at least two"):
            demo_sources.source_spectra(freqs)


@each_edit
def test_a_set_made_by_other_code_is_rebuilt(quick, tmp_path, monkeypatch, edit):
    folder = demo.write(tmp_path / "set", **TINY)
    before = (folder / "meta" / "demo.json").read_text()
    pretend(monkeypatch, "data/demo_sources", edit)
    demo.write(folder, **TINY)
    assert len(quick) == (100 if edit == CODE else 50)
    assert ((folder / "meta" / "demo.json").read_text() != before) == (edit == CODE)
