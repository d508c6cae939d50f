"""The repository's address: in one place, and a change of it executes nothing."""

import re
from dataclasses import replace

import nbformat
import pytest

from esc_lib.machine.fingerprint import ROOT
from esc_lib.study import notebook, steps
from esc_lib.study.contents import note_of
from esc_lib.study.options import Options

ADDRESS = "https://example.org/somebody/fork"
RECORDED = Options(reference=("esc10",))


@pytest.fixture
def fork(monkeypatch):
    monkeypatch.setenv("REPOSITORY", ADDRESS)


def test_the_address_stands_in_one_place():
    address = notebook.repository()
    written = [
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.*", "book/**/*.*", "notebooks/*.py", "esc_lib/**/*.*", ".github/**/*.*")
        for path in ROOT.glob(pattern)
        if path.suffix in (".py", ".md", ".yml", ".toml") and address in path.read_text("utf-8")
    ]
    assert written == ["pyproject.toml"]


def test_pages_buttons_and_cells_follow_it(fork, tmp_path, monkeypatch):
    monkeypatch.setattr(Options, "build", tmp_path)
    steps.assemble(RECORDED)
    texts = {p: p.read_text("utf-8") for p in tmp_path.rglob("*") if p.suffix in (".md", ".yml")}
    assert f'url: "{ADDRESS}"' in texts[tmp_path / "book" / "_config.yml"]
    assert not any(steps.ADDRESS in text for text in texts.values())
    linked = set(re.findall(r"\[the repository\]\(([^)]*)\)", "".join(texts.values())))
    assert linked == {ADDRESS}
    for path in (tmp_path / "book" / "notebooks").glob("*.ipynb"):
        first = nbformat.read(path, as_version=4).cells[0]
        assert f'prepare("{path.stem}")' in first.source
        assert f'"{ADDRESS}"' in first.source and "remove-cell" in first.metadata.tags


def test_a_damaged_page_is_named(tmp_path, monkeypatch):
    page = tmp_path / "01_data.ipynb"
    page.write_text("{}")
    monkeypatch.setattr(Options, "build", tmp_path / "build")
    monkeypatch.setattr(steps, "staged", lambda _: {page: tmp_path / "build" / "01_data.ipynb"})
    with pytest.raises(steps.Failed, match="01_data.ipynb"):
        steps.assemble(Options())


def test_pages_of_several_records_come_from_the_first_that_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr("esc_lib.study.options.ROOT", tmp_path)
    for name in ("notebooks/01_a.py", "notebooks/02_b.py", "results/esc50-16k/notebooks/02_b.ipynb",
                 "results/esc10/notebooks/01_a.ipynb", "results/esc10/notebooks/02_b.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    options = Options.of_environment({"REFERENCE": "esc50-16k esc10"})
    places = [options.executed(stem).parent.parent.name for stem in options.sources]
    assert places == ["esc10", "esc50-16k"]
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\n\nText")])
    steps.say_what_was_recorded(page, "esc50-16k")
    assert page.cells[0].source == "# Title\n\n*Recorded on ESC-50, 16 kHz 8-bit copy.*\n\nText"


def test_a_change_of_it_converts_and_assembles_anew_and_executes_nothing(fork):
    import dodo

    def decides(tasks):
        """Return what makes a task due: files and the values that are compared."""
        return [(t["file_dep"], *(getattr(u, "config", u) for u in t["uptodate"])) for t in tasks]

    before = {}
    for address in (ADDRESS, "https://example.org/other"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REPOSITORY", address)
            before[address] = (
                decides(dodo.task_execute()),
                decides(dodo.task_convert()),
                decides([dodo.task_assemble()]),
            )
    (one, converted, assembled), (other, converted_anew, assembled_anew) = before.values()
    assert one and one == other
    assert converted != converted_anew and assembled != assembled_anew


def test_only_what_a_notebook_knows_is_given_to_it():
    options = replace(Options(), epochs=3, companions={"hrir": ROOT / "some.npz"})
    assert "epochs" in steps.parameters_of(options, "03_training")
    assert not {"epochs", "hrir"} & set(steps.parameters_of(options, "02_features"))
    assert "hrir" in steps.parameters_of(options, "10_binaural_attention_rollout")


@pytest.mark.parametrize(
    ("given", "jobs", "threads"),
    [
        ({}, 8, 1),  # the short notebooks of the generated clips
        ({"PROFILE": "esc10"}, 1, 8),
        ({"PROFILE": "esc10", "JOBS": "3"}, 3, 2),
        ({"JOBS": "16"}, 16, 1),
    ],
)
def test_notebooks_at_once_share_out_the_cores(monkeypatch, given, jobs, threads):
    monkeypatch.setattr("esc_lib.study.options.CORES", 8)
    found = Options.of_environment(given)
    assert (found.jobs, found.threads) == (jobs, threads)


def test_clips_are_prepared_again_only_when_they_changed(monkeypatch, tmp_path):
    monkeypatch.setattr(Options, "build", tmp_path / "build")
    clips = tmp_path / "clips"
    (clips / "meta").mkdir(parents=True)
    (clips / "audio").mkdir()
    (clips / "meta" / "esc50.csv").write_text("filename\na.wav\n")
    (clips / "audio" / "a.wav").write_bytes(b"1234")
    monkeypatch.setattr("esc_lib.data.prepare", lambda *_: clips)
    options = Options()
    assert not steps.data_unchanged(options)
    steps.make_data(options)
    assert steps.data_unchanged(options)
    (clips / "audio" / "a.wav").write_bytes(b"12345")
    assert not steps.data_unchanged(options)
    steps.make_data(options)
    assert steps.data_unchanged(options)
    (clips / "meta" / "esc50.csv").unlink()
    assert not steps.data_unchanged(options)


def test_the_content_of_listed_clips_decides(tmp_path):
    clips, memory = tmp_path / "clips", tmp_path / "memory.json"
    write = lambda name, content: (clips / name).write_bytes(content)  # noqa: E731
    (clips / "meta").mkdir(parents=True)
    (clips / "audio" / "deep").mkdir(parents=True)
    write("meta/esc50.csv", 'filename;fold\n"a.wav";1\ndeep/B.WAV;1\n'.encode("utf-16"))
    write("audio/a.flac", b"1234")
    write("audio/deep/b.wav", b"5678")
    first = note_of(clips, memory)
    write("audio/.DS_Store", b"Finder")
    write("audio/c.wav", b"not listed")
    (clips / "audio" / "notes.wav").symlink_to("/nowhere")
    (clips / "audio" / "a.flac").touch()
    assert note_of(clips, memory) == first
    write("audio/deep/b.wav", b"8765")  # of the same size
    second = note_of(clips, memory)
    assert second["audio_sha256"] != first["audio_sha256"]
    assert second == note_of(clips, tmp_path / "another.json")
    write("audio/deep/b.wav", b"5678")
    assert note_of(clips, memory) == first
