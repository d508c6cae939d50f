"""What the benchmarks share: options, synthetic clips, interleaved timing, tables."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_device, best_precision
from esc_lib.sound.audio import to_int16

CLIP_S = 5.0
MODE = "bfloat16 peak (GFLOP/s)"
PACKAGES = ("torch", "torchaudio", "librosa", "numpy", "scipy")


def positive(text: str) -> int:
    """Read a positive integer from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def parser(description: str, repeats: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--repeats", type=positive, default=repeats, help="interleaved rounds")
    options.add_argument("--json", type=Path, metavar="FILE", help="save settings and rows here")
    return options


def noise_bursts(n_clips: int, sr: int, seed: int = 0) -> np.ndarray:
    """Return clips of a few decaying bursts over quiet noise, int16, shape (clips, samples).

    As int16, because that is what a recording is; divide by 32768 for full scale 1.
    """
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(CLIP_S * sr), dtype=np.float32) / sr
    clips = np.empty((n_clips, len(time_s)), np.int16)
    for clip in clips:
        envelope = np.full_like(time_s, 0.01)
        for start_s, decay_s in zip(rng.uniform(0, CLIP_S, 4), rng.uniform(0.05, 0.5, 4)):
            after = time_s >= start_s
            envelope[after] += np.exp(-(time_s[after] - start_s) / decay_s)
        wave = envelope * rng.standard_normal(len(time_s), dtype=np.float32)
        clip[:] = to_int16(0.9 * wave / np.abs(wave).max())
    return clips


def synchronise() -> None:
    """Wait until the accelerator, if there is one, has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def interleave(
    contenders: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Time every contender once per round, A B C A B C: a machine that drifts favours none.

    Parameters
    ----------
    contenders : name to what is timed; each is to be warm already.

    Returns
    -------
    dict, name to seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            synchronise()
            started = time.perf_counter()
            run()
            synchronise()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    """Return the columns by which a reader judges a median, and all rounds."""
    ends = {"lowest": min(seconds), "highest": max(seconds)}
    return {"seconds": float(np.median(seconds)), **ends, "rounds": [float(s) for s in seconds]}


def matrix_peak(size: int = 1024, repeats: int = 5) -> float:
    """Return GFLOP/s of the best of a few bfloat16 products: the mode that the machine is in.

    Some processors' matrix units run at half their rate while the machine is warm or shared.
    """
    left, right = torch.randn(2, size, size, device=best_device()).bfloat16()
    torch.mm(left, right)
    seconds = interleave({"": lambda: torch.mm(left, right)}, repeats)[""]
    return 2 * size**3 / min(seconds) / 1e9


def environment() -> dict[str, object]:
    """Return what the times depend on: hardware, threads, versions, and who else is at work."""
    device = best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": "none" if device.type == "cpu" else name,
        "precision": best_precision(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "load at the start": round(os.getloadavg()[0], 2),
        MODE: round(matrix_peak()),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def header(title: str, found: Mapping[str, object]) -> None:
    """Print the title and the environment, before the waiting begins."""
    print(title)
    for name, value in found.items():
        print(f"  {name}: {value}")
    print(flush=True)


def report(
    arguments: argparse.Namespace, found: Mapping[str, object], rows: list[dict], **totals
) -> None:
    """Print a table, and save it with settings and environment where ``--json`` says.

    Rounds are saved only; to the environment comes the machine's mode at the end.
    """
    table = pd.DataFrame(rows).drop(columns="rounds", errors="ignore")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.json is None:
        return
    settings = {name: value for name, value in vars(arguments).items() if name != "json"}
    found = {**found, f"{MODE}, at the end": round(matrix_peak())}
    content = {"settings": settings, "environment": found, "rows": rows, **totals}
    text = json.dumps(content, indent=1, default=str) + "\n"
    write_atomically(arguments.json, lambda path: path.write_text(text, encoding="utf-8"))


def _processor() -> str:
    """Return the processor's name; Linux tells it in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
