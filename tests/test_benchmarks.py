"""The benchmarks run, at their smallest; how long anything takes is nobody's business here."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import _timing, exact_solver, front_end, training_step
from esc_lib.config import Augmentation, FrontEnd
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
