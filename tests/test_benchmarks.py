"""The benchmarks run, at their smallest; how long anything takes is nobody's business here."""

import contextlib
import io
import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import (
    __main__,
    _timing,
    exact_solver,
    explanation,
    front_end,
    memory,
    page,
    peak,
    training_step,
)
from esc_lib.config import Augmentation, FrontEnd
from esc_lib.machine.fingerprint import ROOT
from esc_lib.sound.log_mel import LogMel

NARROW = ["--channels", "4", "8", "8", "8", "8"]
BATCH = ["--batch", "2"]
SMALL = ["--freq", "6", "--atoms", "12", "--frames", "260"]


def run(monkeypatch, name, *arguments):
    """Run a script as `python -m` does, but in this process, which has imported torch."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")


def few_processes(monkeypatch):
    """Give a process of its own to the contender with a worker only, which is started by a fork."""
    in_process = subprocess.run

    def measure(command, **options):
        if dict(zip(command, command[1:])).get("--workers") != "0":
            return in_process(command, **options)
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            patch.setattr(sys, "argv", command[2:])
            training_step.main()
        return subprocess.CompletedProcess(command, 0, printed.getvalue(), "")

    monkeypatch.setattr(subprocess, "run", measure)


@pytest.mark.parametrize(
    ("name", "arguments", "contenders", "columns"),
    [
        (
            "front_end",
            ["--clips", "2", *BATCH],
            {"librosa, clip by clip", "ours, batches of 2, cpu"},
            {"clips_per_s", "ratio", "ratio_to_fastest_librosa"},
        ),
        (
            "training_step",
            ["--steps", "1", "--warmup", "1", "--workers", "1", *BATCH, *NARROW],
            {"thesis, 0 workers", "thesis, 1 worker", "ours"},
            {"ms_per_clip", "ratio"},
        ),
        (
            "peak",
            ["--sizes", "64", "96", *BATCH, *NARROW],
            {"matrices of 64, float32", "matrices of 96, float32"},
            {"gflop_per_s", "share_of_peak"},
        ),
        (
            "exact_solver",
            ["--nnls", *SMALL],
            {"scikit-learn", "SciPy nnls", "ours"},
            {"ratio", "relative_squared_error"},
        ),
    ],
)
def test_script_runs_and_saves_its_rows(
    monkeypatch, capsys, name, arguments, contenders, columns, tmp_path
):
    path = tmp_path / "new" / "rows.json"
    few_processes(monkeypatch)
    run(monkeypatch, name, "--repeats", "1", *arguments, "--json", str(path))
    printed = capsys.readouterr().out
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["settings"]["repeats"] == 1
    assert content["environment"]["threads"] == 1
    assert contenders <= {row["contender"] for row in content["rows"]}
    for row in content["rows"]:
        assert row["contender"] in printed
        for column in columns | {"seconds", "lowest", "highest"}:
            assert np.isfinite(row[column]) and row[column] > 0, (row["contender"], column)


def run_here(module, path, monkeypatch, *arguments):
    """Run a script in this process, where nothing that it measures is looked at."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--json", str(path)])
    module.main()
    return json.loads(path.read_text(encoding="utf-8"))


def test_explanation_times_ours_and_others_against_one_pass(tmp_path, monkeypatch, capsys):
    arguments = ["--repeats", "1", *NARROW]
    content = run_here(explanation, tmp_path / "rows.json", monkeypatch, *arguments)
    rows = {row["contender"]: row for row in content["rows"]}
    assert list(rows)[:2] == [explanation.PASS, "components (ours)"]
    assert {"captum's Grad-CAM", "captum's integrated gradients"} < set(rows)
    for row in content["rows"]:
        assert all(np.isfinite(row[column]) and row[column] > 0 for column in ("passes", "ms"))
    assert rows[explanation.PASS]["passes"] == 1
    assert "ours takes" in capsys.readouterr().out


def test_explanation_begins_every_call_anew_and_what_is_not_finite_stops_it(monkeypatch, tmp_path):
    new = explanation.decision((4, 8, 8, 8, 8), torch.device("cpu"))
    assert new() is not new() and "features" not in vars(new())
    monkeypatch.setattr(explanation, "captums_gradcam", lambda _: torch.tensor(torch.nan))
    with pytest.raises(SystemExit, match="explanation: captum's Grad-CAM is not finite"):
        run_here(explanation, tmp_path / "rows.json", monkeypatch, *NARROW)


def test_memory_measures_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_in_process", memory.measure)
    arguments = ["--clips", "40", "--full", "--folder", str(tmp_path), *NARROW]
    content = run_here(memory, tmp_path / "rows.json", monkeypatch, *arguments)
    assert [row["contender"] for row in content["rows"]] == list(memory.STEPS)
    for row in content["rows"]:
        assert 0 < row["walked"] <= 40 and row["peak"] > 0.05 and row["cpu_s"] > 0
    assert content["steps"] == {}  # one number of clips has no slope
    arguments += ["--steps", "decoding"]
    again = run_here(memory, tmp_path / "rows.json", monkeypatch, *arguments)
    assert {row["contender"] for row in again["rows"]} == set(memory.STEPS)
    assert again["of_an_earlier_run"] == [step for step in memory.STEPS if step != "decoding"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_memory_fits_growth_to_the_narrow_network():
    costs = {100: 2.0, 200: 4.0, 400: 8.0}
    rows = [
        {"contender": step, "clips": n, "width": 4, "walked": n, "cpu_s": s, "anonymous": n / 1000,
         "peak": 9}
        for step in ("decoding", "Grad-CAM") for n, s in costs.items()
    ]  # fmt: skip
    found = memory.summary([*rows, rows[0] | {"width": 64, "anonymous": 5}])
    assert found["decoding"] == pytest.approx({"gb_per_1000": 1, "exponent": 1})
    assert set(found["Grad-CAM"]) == {"gb_per_1000"}  # sees as many clips however many there are


def test_a_step_that_fails_is_named(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nMemoryError: 9 GB")
    monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(memory, "write_clips", lambda *_: None)
    arguments = ["--clips", "40", "--folder", str(tmp_path), *NARROW]
    with pytest.raises(SystemExit, match=r"decoding on 40 clips failed \(MemoryError: 9 GB\)"):
        run_here(memory, tmp_path / "rows.json", monkeypatch, *arguments)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------- one table, one page


def timed(contender, *rounds, **more):
    return {"contender": contender, **_timing.spread(list(rounds)), **more}


@pytest.fixture
def record():
    """Return a record as a run of all scripts leaves it."""
    found = dict.fromkeys(("processor", "instructions", "accelerator", "precision", "torch"), "x")
    found |= {"threads": 1, "load at the start": 0.1, _timing.MODE: 400}
    rows = {
        "front_end": [timed("librosa, clip by clip", 10, 12, 11), timed("ours, cpu", 1, 1.5, 1)],
        "training_step": [timed("thesis, 2 workers", 8, 8), timed("thesis, 0 workers", 9, 9),
                          timed("ours", 2, 2)],
        "peak": [timed("matrices of 64, bfloat16", 1, share_of_peak=1, dtype="bfloat16"),
                 timed("training step of 2", 1, 2, 3, share_of_peak=0.6, dtype="bfloat16")],
        "explanation": [timed(explanation.PASS, 1, 1), timed("components (ours)", 1.2, 1.6),
                        timed("components (ours), and its sound", 2, 2)],
        "exact_solver": [timed("scikit-learn", 6), timed("ours", 2)],
        "memory": [
            {"contender": step, "clips": n, "width": width, "walked": n, "cpu_s": n / 100,
             "anonymous": 0.5 + n / 10000, "peak": 2}
            for step in memory.STEPS for n, width in ((500, 16), (2000, 16), (2000, 64))
        ],
    }  # fmt: skip
    record = {script: {"environment": found, "rows": of} for script, of in rows.items()}
    record["training_step"]["baseline"] = "thesis, 2 workers"
    record["memory"]["steps"] = memory.summary(rows["memory"])
    return record


def test_one_table_holds_all_ratios_and_their_worst_rounds(record):
    table = page.ratios(record).set_index(["benchmark", "contender"])
    expected = {
        ("front end", "ours, cpu"): (11, 8),
        ("training step", "thesis, 0 workers"): (8 / 9, 8 / 9),
        ("training step", "ours"): (4, 4),
        ("peak", "training step of 2"): (0.6, 0.4),
        ("explanation of a clip", "components (ours)"): (1.4, 1.6),
        ("explanation of a clip", "components (ours), and its sound"): (2, 2),
        ("exact solver", "ours"): (3, 3),
    }
    assert table.index.tolist() == list(expected)
    np.testing.assert_allclose(table[["ratio", "worst round"]], list(expected.values()))
    met = table.met.dropna().to_dict()
    assert list(met.values()) == [False, True, False, True]
    assert (table["bfloat16 peak"] == "400").all()


def test_the_page_says_what_was_found(record):
    text = page.text(record)
    opening = text.partition("## Ratios")[0]
    assert "ours, cpu, 11 times as fast as librosa, clip by clip; 8 in the worst round" in opening
    assert opening.count("not met") == 2 and opening.count(", met.") == 3
    assert "at most 0.7 GB in any step" in opening and "drop: at most 2 GB" in opening
    assert "power of 1.00 to 1.00" in opening
    assert "nan" not in text and all(f"| {step} | 0.55 | 0.70 |" in text for step in memory.STEPS)
    assert "earlier run" not in text
    record["memory"]["of_an_earlier_run"] = ["decoding"]
    assert "From an earlier run than the rest: decoding." in page.text(record)
    only = page.text({"peak": record["peak"]})
    assert "training step of 2" in only and "Memory" not in only


def test_the_picture_is_readable_and_the_same_each_time(record, tmp_path):
    (tmp_path / "_static").mkdir()
    page.write(record, tmp_path)
    svg = (tmp_path / page.CURVES).read_text(encoding="utf-8")
    page.write(record, tmp_path)
    assert (tmp_path / page.CURVES).read_text(encoding="utf-8") == svg
    width_pt = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1])
    assert 6 <= width_pt / 72 <= 7
    sizes_px = [float(size) for size in re.findall(r'font[^"]*?([\d.]+)px', svg)]
    assert sizes_px and min(sizes_px) * 96 / 72 >= 9
    for words in (*memory.STEPS, "goal", "processor time (s)", "memory at most (GB)"):
        assert f">{words}<" in svg


def test_all_scripts_are_run_and_recorded_and_some_may_be_run_again(record, tmp_path, monkeypatch):
    calls, path = [], tmp_path / "results" / "benchmarks.json"
    (tmp_path / "book" / "_static").mkdir(parents=True)
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    monkeypatch.setattr(__main__, "RECORD", path)
    monkeypatch.setattr(__main__, "measure", lambda *call: calls.append(call) or record[call[0]])

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        __main__.main()

    call("--quick")
    assert [name for name, _ in calls] == list(record) and not path.exists()
    assert all(options[:2] == ["--repeats", "1"] for _, options in calls)
    call()
    assert json.loads(path.read_text()) == record
    assert (tmp_path / "book" / page.PAGE).read_text("utf-8") == page.text(record)
    record["peak"]["rows"][1]["share_of_peak"] = 0.3
    calls.clear()
    call("--scripts", "peak")
    assert [name for name, _ in calls] == ["peak"]
    again = json.loads(path.read_text())
    assert again == record and list(again) == list(record)


def test_the_smallest_run_of_all_scripts_has_options_that_they_know(monkeypatch):
    modules = {
        "front_end": front_end, "training_step": training_step, "peak": peak, "memory": memory,
        "explanation": explanation, "exact_solver": exact_solver,
    }  # fmt: skip
    monkeypatch.setattr(front_end, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(peak, "keep_freed_memory", lambda: None)
    for script, (usual, quick) in __main__.SCRIPTS.items():
        for options in (usual, quick):
            seen = []
            stop = lambda title, found, seen=seen: seen.append(title) or sys.exit(0)  # noqa: E731
            monkeypatch.setattr(_timing, "header", stop)
            monkeypatch.setattr(sys, "argv", [script, *options])
            with pytest.raises(SystemExit) as stopped:
                modules[script].main()
            assert stopped.value.code == 0 and len(seen) == 1


def test_the_page_in_the_book_is_that_of_the_record():
    if not __main__.RECORD.is_file():
        pytest.skip("nothing was recorded")
    kept = json.loads(__main__.RECORD.read_text(encoding="utf-8"))
    assert (ROOT / "book" / page.PAGE).read_text(encoding="utf-8") == page.text(kept)
    assert (ROOT / "book" / page.CURVES).is_file()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("front_end", ["--clips", "0"], "argument --clips: 0 is not a positive integer"),
        ("training_step", ["--workers", "-1"], "--workers -1: expected 0 or more"),
        ("exact_solver", ["--atoms", "0"], "argument --atoms: 0 is not a positive integer"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(monkeypatch, capsys, name, arguments, message):
    modules = {
        "front_end": front_end, "training_step": training_step, "exact_solver": exact_solver,
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as stopped:
        modules[name].main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_front_end_gives_no_times_where_outputs_differ(monkeypatch, capsys, tmp_path):
    path = tmp_path / "rows.json"
    command = ["front_end", "--clips", "1", "--malloc", "default", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", command)

    class OtherWindow(LogMel):
        def __init__(self, settings):
            super().__init__(settings)
            wrong = torch.hamming_window(len(self.window)).numpy()
            self.plan = self.plan._replace(window=wrong)

    monkeypatch.setattr(front_end, "LogMel", OtherWindow)
    with pytest.raises(SystemExit, match="ours, batches of 16, cpu differs from librosa by"):
        front_end.main()
    assert not path.exists()


@pytest.mark.parametrize(("solver", "name"), [("by_us", "ours"), ("by_scikit_learn", "scikit")])
def test_exact_solver_gives_no_times_where_someone_misses_the_optimum(
    monkeypatch, tmp_path, solver, name
):
    path = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["exact_solver", *SMALL, "--json", str(path)])
    solve = getattr(exact_solver, solver)
    # ten per cent too much adds 0.01 ||W H||^2, far more than the slack
    monkeypatch.setattr(exact_solver, solver, lambda v, h: 1.1 * solve(v, h))
    with pytest.raises(SystemExit, match=f"exact_solver: {name}.* above the best objective"):
        exact_solver.main()
    assert not path.exists()


def test_exact_solver_problem_is_repeatable_correlated_and_non_negative():
    v, h = exact_solver.problem(6, 32, 2080)
    assert (v.shape, h.shape, v.dtype, h.dtype) == ((6, 2080), (32, 2080), "float32", "float32")
    assert v.min() >= 0 and h.min() == 0
    again = exact_solver.problem(6, 32, 2080)
    assert np.array_equal(v, again[0]) and np.array_equal(h, again[1])
    # smoothed noise of this length correlates by 0.2 at most
    assert (np.corrcoef(h) - np.eye(32)).max(axis=1).mean() > 0.5


def test_a_contender_that_fails_is_named(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nMemoryError: 9 GB")
    monkeypatch.setattr(training_step.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(sys, "argv", ["training_step"])
    with pytest.raises(SystemExit, match=r"thesis, 0 workers failed \(MemoryError: 9 GB\)"):
        training_step.main()


def test_both_ways_of_training_see_the_same_features():
    settings, plain = FrontEnd(), replace(Augmentation(), probability=0.0)
    clips = _timing.noise_bursts(2, settings.sr)
    waveforms = clips.astype(np.float32) / 32768
    dataset = training_step.Clips(waveforms, np.arange(2), settings, plain)
    n_valid = torch.full((2,), clips.shape[1])
    ours = LogMel(settings).features(torch.from_numpy(waveforms), n_valid)
    # both are (dB - mean) / deviation; 1e-3 dB over a deviation of more than 10 dB
    for features, (theirs, _) in zip(ours, dataset, strict=False):
        torch.testing.assert_close(features, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_thesis_noise_has_the_ratio_asked_for(exponent):
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(44_100, dtype=np.float32)
    settings = replace(Augmentation(), noise_exponents=(exponent,))
    noise = training_step.add_noise(wave, settings, rng) - wave
    ratio_db = 10 * np.log10(np.mean(wave**2) / np.mean(noise**2))
    assert ratio_db == pytest.approx(settings.snr_db, abs=0.01)
    # power per octave falls as 2**-exponent per octave in density: 1 to 2 kHz against 8 to 16 kHz
    power = np.abs(np.fft.rfft(noise)) ** 2
    slope = np.log2(power[1000:2000].mean() / power[8000:16000].mean()) / 3
    assert slope == pytest.approx(exponent, abs=0.25)


def test_thesis_shift_does_not_wrap():
    wave = np.arange(1, 101, dtype=np.float32)
    moved = [training_step.shift(wave, 0.2, np.random.default_rng(seed)) for seed in range(20)]
    offsets = []
    for shifted in moved:
        kept = shifted[shifted > 0]
        assert np.array_equal(np.diff(kept), np.ones(len(kept) - 1))  # one piece, in order
        assert len(kept) >= 80
        offsets.append(int(np.flatnonzero(shifted)[0]) - int(kept[0] - 1))
    assert min(offsets) < 0 < max(offsets)


def test_interleave_takes_turns():
    calls = []
    seconds = _timing.interleave({n: lambda n=n: calls.append(n) for n in "abc"}, repeats=3)
    assert "".join(calls) == "abcabcabc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_noise_bursts_are_repeatable_and_use_the_range():
    clips = _timing.noise_bursts(2, 16_000)
    assert clips.shape == (2, 80_000) and clips.dtype == np.int16
    assert np.array_equal(clips, _timing.noise_bursts(2, 16_000))
    assert (np.abs(clips.astype(int)).max(axis=1) > 0.89 * 32768).all()
