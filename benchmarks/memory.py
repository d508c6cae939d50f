"""Memory and processor time of the steps that walk over clips, against the number of clips.

Every measurement is a process of its own, as every notebook is: what it holds at most, anonymous
memory (which has to be there) and pages of files (which the system may drop) apart where Linux
tells them, and the processor time of the step alone. The clips are a few that repeat, in a file
that is mapped as the study's own is.
"""

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import soundfile
import torch

from benchmarks import _timing
from esc_lib.config import NARROW, Network, Profile, get_profile
from esc_lib.data import Data, decode
from esc_lib.dictionaries import gather_once
from esc_lib.explain import OURS, folds, gradcam
from esc_lib.explain.components import Choice, Components
from esc_lib.layers import embeddings
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint, classifier, initial_model, predict, runs

DISTINCT, N_CLASSES, N_FOLDS = 20, 4, 5
GB = 1e9
METHODS = (OURS, "Deep Feature Factorization")  # the latter looks at all clips together
CONDITION = "other clip"  # holds three sounds of each clip


# ----------------------------------------------------------------------------------- the clips


def write_clips(folder: Path, n_clips: int, sr: int) -> None:
    """Write sounds, and a file of as many clips as will be asked for, one batch at a time."""
    sounds = _timing.noise_bursts(DISTINCT, sr)
    for i, sound in enumerate(sounds):
        soundfile.write(folder / f"{i}.wav", sound, sr)
    file = folder / "waveforms.npy"
    array = np.lib.format.open_memmap(file, "w+", np.int16, (n_clips, sounds.shape[1]))
    for start in range(0, n_clips, DISTINCT):
        array[start : start + DISTINCT] = sounds[: n_clips - start]


def table(folder: Path, n_clips: int) -> pd.DataFrame:
    """Return the clips' table: classes and folds in turn, pairs from one recording."""
    number = np.arange(n_clips)
    label = number // 2 % N_CLASSES
    clips = pd.DataFrame({"filename": [f"{i}.wav" for i in number], "src_file": number // 2})
    clips["fold"] = 1 + number // (2 * N_CLASSES) % N_FOLDS
    clips["label"] = clips["target"] = label
    clips["category"] = [f"class {i}" for i in label]
    clips["path"] = [str(folder / f"{i % DISTINCT}.wav") for i in number]
    return clips.assign(part="train")


def open_clips(folder: Path, n_clips: int, profile: Profile) -> Data:
    """Return so many clips, mapped, with the profile's split."""
    waveforms = np.load(folder / "waveforms.npy", mmap_mode="c")[:n_clips]
    n_valid = torch.full((n_clips,), waveforms.shape[1])
    data = Data(table(folder, n_clips), torch.from_numpy(waveforms), n_valid)
    return runs.split_for(data, profile)


# ----------------------------------------------------------------------------------- the steps


class Study:
    """What a step finds when it begins; the network has fresh weights."""

    def __init__(self, folder: Path, n_clips: int, channels: tuple[int, ...], scratch: Path):
        network = NARROW if channels == NARROW.channels else Network(channels=channels)
        self.profile = replace(get_profile("esc50"), network=network)
        self.folder, self.scratch, self.n_clips = folder, scratch, n_clips
        self.data = open_clips(folder, n_clips, self.profile)
        self.model = initial_model(self.profile, N_CLASSES).to(best_device()).eval()
        self.front_end = LogMel(self.profile.front_end).to(best_device())
        self.seen = self.model, self.front_end, self.data


def decoding(study: Study) -> int:
    """Decode all clips and save them (notebook 01)."""
    settings = study.profile.front_end
    clips = table(study.folder, study.n_clips)
    decode(clips, settings.sr, settings.n_samples, study.scratch / "waveforms.npy")
    return study.n_clips


def predictions(study: Study) -> int:
    """Decide on all clips (notebooks 03 and 06)."""
    with autocast(best_device()):
        predict(*study.seen, np.arange(study.n_clips))
    return study.n_clips


def training(study: Study) -> int:
    """Take the first steps of a training run (notebook 03)."""

    class EnoughError(Exception):
        pass

    step, taken = classifier._Classifier.step, []

    def first_steps(task, *place):
        taken.append(place)
        if len(taken) > 3:
            raise EnoughError
        return step(task, *place)

    with mock.patch.object(classifier._Classifier, "step", first_steps):
        with contextlib.suppress(EnoughError):
            classifier.fit(study.data, study.profile, study.scratch)
    return study.n_clips


def embedding(study: Study) -> int:
    """Embed the training clips (notebooks 04 and 07)."""
    embeddings.embed(*study.seen, study.data.split.train)
    return len(study.data.split.train)


def grad_cam(study: Study) -> int:
    """Grad-CAM of test clips, of which notebook 07 takes 64."""
    rows = study.data.split.test[:64]
    features = study.front_end.features(*study.data.batch(rows))
    gradcam(study.model, features, study.data.labels[rows])
    return len(rows)


def gathering(study: Study) -> int:
    """Gather V and H of the training clips (notebook 05)."""
    rows = study.data.split.train
    gather_once(study.scratch / "hidden.pt", *study.seen, rows, BLOCKS, keep=BLOCKS)
    return len(rows)


def explaining(study: Study) -> int:
    """Explain and judge the test fold, mixed, by two methods (notebook 08)."""
    profile, device = study.profile, best_device()
    weights = study.scratch / runs.name_of(profile) / "model.safetensors"
    checkpoint.save(weights, study.model, profile, study.data.class_names)
    fitted = {
        (block, Choice.dictionary): Components(
            block, torch.rand(profile.front_end.n_mels, atoms), torch.ones(atoms)
        ).to(device)
        for block, atoms in zip(BLOCKS, profile.network.channels, strict=True)
    }
    changes = {"fit": lambda *_: fitted, "CONDITIONS": (CONDITION,)}
    with mock.patch.multiple(folds, **changes):
        folds.explain_fold(study.data, profile, study.scratch, study.scratch / "fold", METHODS)
    return len(study.data.split.test)


STEPS: dict[str, Callable[[Study], int]] = {
    "decoding": decoding,
    "predictions": predictions,
    "training, first steps": training,
    "embeddings": embedding,
    "Grad-CAM": grad_cam,
    "gathering and fitting": gathering,
    "explanations": explaining,
}
FEW = ("Grad-CAM", "training, first steps")  # do not walk over all clips: no cost to fit
NO_NETWORK = ("decoding",)


# -------------------------------------------------------------------------------- measurements


@contextlib.contextmanager
def watched(interval_s: float = 0.01) -> Iterator[dict[str, float]]:
    """Fill a dict, in GB, with the most that this process holds inside the block.

    On Linux ``anonymous`` and ``file``, looked at every now and then; ``peak``, from its start on.
    """
    found: dict[str, float] = {}
    status, done = Path("/proc/self/status"), threading.Event()
    names = {"RssAnon:": "anonymous", "RssFile:": "file", "VmHWM:": "peak"}

    def look() -> None:
        for line in status.read_text().splitlines():
            key, value, *_ = line.split() + [""]
            if name := names.get(key):
                found[name] = max(found.get(name, 0.0), 1024 * int(value) / GB)

    def watch() -> None:
        while not done.wait(interval_s):
            look()

    if not status.is_file():
        yield found
        unit = 1 if sys.platform == "darwin" else 1024
        found["peak"] = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB
        return
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        look()


def measure(step: str, folder: Path, n_clips: int, channels: tuple[int, ...]) -> dict:
    """Do a step in this process and say what it took."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        study = Study(folder, n_clips, channels, Path(scratch))
        before = time.process_time()
        with watched() as found:
            walked = STEPS[step](study)
        return found | {"walked": walked, "cpu_s": time.process_time() - before}


def measure_in_process(
    step: str, folder: Path, n_clips: int, channels: tuple[int, ...]
) -> dict[str, float]:
    """Call this script for one measurement."""
    command = [sys.executable, "-m", "benchmarks.memory", "--only", step, "--folder", folder]
    command += ["--clips", n_clips, "--channels", *channels]
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=root)
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {run.returncode}, often want of memory"
        sys.exit(f"memory: {step} on {n_clips} clips failed ({reason}).")
    return json.loads(run.stdout.splitlines()[-1])


def exponent(walked: list[float], cost: list[float]) -> float:
    """Return b of cost = a clips**b, fitted on logarithms; 1 is linear."""
    return float(np.polyfit(np.log(walked), np.log(cost), 1)[0])


def summary(rows: list[dict]) -> dict[str, dict]:
    """Return each step's growth over the clips: exponent of its cost, GB per 1,000 clips."""
    found = {}
    for step, of_step in pd.DataFrame(rows).groupby("contender", sort=False):
        narrow = of_step[of_step.width == of_step.width.min()]
        if narrow.clips.nunique() < 2:
            continue
        slope = np.polyfit(narrow.clips / 1000, narrow.get("anonymous", narrow.peak), 1)[0]
        found[step] = {"gb_per_1000": float(slope)}
        if step not in FEW:
            found[step]["exponent"] = exponent(narrow.walked, narrow.cpu_s)
    return found


def main() -> None:
    """Run from the command line."""
    options = _timing.parser(__doc__.partition("\n")[0], repeats=1)
    options.add_argument(
        "--clips", type=_timing.positive, nargs="+", default=[500, 1000, 2000, 8000]
    )
    options.add_argument("--channels", type=_timing.positive, nargs=5, default=NARROW.channels)
    options.add_argument(
        "--full", type=_timing.positive, nargs="*", default=[2000],
        help="numbers of clips that the full network sees, too; none: ''",
    )  # fmt: skip
    options.add_argument(
        "--steps", choices=STEPS, nargs="+", default=list(STEPS),
        help="measure these only; rows of the others that the JSON file holds stay",
    )  # fmt: skip
    options.add_argument("--folder", type=Path, help="where the clips lie, 441 kB each")
    options.add_argument("--only", choices=STEPS, help="measure this step, once, print it as JSON")
    arguments = options.parse_args()
    channels = tuple(arguments.channels)
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.folder, *arguments.clips, channels)))
        return

    found = _timing.environment()
    _timing.header("Memory and processor time against the number of clips", found)
    folder = Path(tempfile.mkdtemp(prefix="clips_", dir=arguments.folder))
    rows = []
    if arguments.json and arguments.json.is_file():
        kept = json.loads(arguments.json.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in kept if row["contender"] not in arguments.steps]
    try:
        sr = get_profile("esc50").front_end.sr
        write_clips(folder, max(arguments.clips + arguments.full), sr)
        for step in arguments.steps:
            sizes = [(n, channels) for n in arguments.clips]
            if step not in NO_NETWORK:
                sizes += [(n, Network().channels) for n in arguments.full]
            for n, width in sizes:
                taken = measure_in_process(step, folder, n, width)
                rows.append({"contender": step, "clips": n, "width": width[0], **taken})
                print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1))
    finally:
        shutil.rmtree(folder)
    print()
    earlier = [step for step in STEPS if step not in arguments.steps]
    kept = [step for step in earlier if any(row["contender"] == step for row in rows)]
    _timing.report(arguments, found, rows, steps=summary(rows), of_an_earlier_run=kept)


if __name__ == "__main__":
    main()
