"""One training step of the thesis's network: the thesis's way, and ours.

The same clips, front end, augmentation, mixup, network, batch and optimiser, so that what differs
is how they are computed:

- the thesis's way: a torch Dataset that augments one float waveform with NumPy and calls librosa,
  a DataLoader, the network in float32 in PyTorch's default layout. It runs without worker
  processes and with ``--workers`` of them; the faster of the two is the baseline.
- ours: int16 waveforms on the device, augmentation and log-mel in a batch there, channels_last,
  the precision that ``esc_lib.machine.hardware.best_precision`` chooses, freed memory kept.

How memory is allocated is settled for a whole process, so every measurement has its own. They
take turns.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks import _timing
from esc_lib.config import Augmentation, FrontEnd, Network, get_profile
from esc_lib.machine.hardware import autocast, best_device, best_precision, keep_freed_memory
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.augment import augment_waveforms, mixup
from esc_lib.sound.log_mel import LogMel, librosa_log_mel

LEARNING_RATE = 1e-3  # thesis, section 4.6


# --------------------------------------------------------------------------- the thesis's way


class Clips(Dataset):
    """Augmented, standardised log-mel spectrograms, computed clip by clip when asked for.

    Parameters
    ----------
    waveforms : float32 array, shape (clips, samples), full scale 1.
    """

    def __init__(
        self,
        waveforms: np.ndarray,
        labels: np.ndarray,
        settings: FrontEnd,
        augmentation: Augmentation,
    ):
        self.waveforms, self.labels = waveforms, labels
        self.settings, self.augmentation = settings, augmentation

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        rng = np.random.default_rng(int(torch.randint(2**31, ())))  # differs between workers
        waveform = self.waveforms[index]
        if rng.random() < self.augmentation.probability:
            waveform = add_noise(waveform, self.augmentation, rng)
        if rng.random() < self.augmentation.probability:
            waveform = shift(waveform, self.augmentation.max_shift, rng)
        log_mel = librosa_log_mel(self.settings, waveform)[:, : self.settings.n_frames]
        features = (log_mel - log_mel.mean()) / (log_mel.std() + 1e-6)
        missing = self.settings.n_frames - features.shape[1]
        features = np.pad(features, ((0, 0), (0, missing)), constant_values=features.min())
        return torch.from_numpy(features.astype(np.float32))[None], int(self.labels[index])


def add_noise(waveform: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Add white, pink or brown noise at the settings' signal-to-noise ratio."""
    noise = rng.standard_normal(len(waveform), dtype=np.float32)
    exponent = rng.choice(settings.noise_exponents)
    if exponent == 2:
        noise = np.cumsum(noise)
        noise -= noise.mean()
    elif exponent:
        spectrum = np.fft.rfft(noise)
        spectrum[1:] *= np.arange(1, len(spectrum), dtype=np.float32) ** (-exponent / 2)
        spectrum[0] = 0
        noise = np.fft.irfft(spectrum, len(waveform))
    gain = np.sqrt(np.mean(waveform**2) / np.mean(noise**2) / 10 ** (settings.snr_db / 10))
    return (waveform + gain * noise).astype(np.float32)


def shift(waveform: np.ndarray, max_shift: float, rng: np.random.Generator) -> np.ndarray:
    """Move a clip by up to a share of its length, with zeros in the gap."""
    offset = int(rng.uniform(-max_shift, max_shift) * len(waveform))
    shifted = np.zeros_like(waveform)
    if offset >= 0:
        shifted[offset:] = waveform[: len(waveform) - offset]
    else:
        shifted[:offset] = waveform[-offset:]
    return shifted


def thesis_step(arguments: argparse.Namespace, device: torch.device) -> Callable[[], float]:
    """Return a function that does one step the thesis's way and returns its loss."""
    settings, network, n_classes = study(arguments)
    augmentation = Augmentation()
    waveforms, labels = clips(arguments, settings, n_classes)
    dataset = Clips(waveforms.astype(np.float32) / 32768, labels, settings, augmentation)
    # two batches per worker are prepared ahead: some are left, so that workers never rest
    n_batches = arguments.warmup + arguments.steps + 2 * arguments.workers + 1
    loader = DataLoader(
        dataset,
        arguments.batch,
        sampler=RandomSampler(dataset, replacement=True, num_samples=n_batches * arguments.batch),
        num_workers=arguments.workers,
        pin_memory=device.type == "cuda",
    )
    torch.manual_seed(0)
    model = SECNN(n_classes, network).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    rng = np.random.default_rng(0)
    batches = iter(loader)

    def step() -> float:
        features, labels = (tensor.to(device) for tensor in next(batches))
        targets = nn.functional.one_hot(labels, n_classes).float()
        share = rng.beta(augmentation.mix_alpha, augmentation.mix_alpha)
        partner = torch.from_numpy(rng.permutation(arguments.batch)).to(device)
        features = share * features + (1 - share) * features[partner]
        targets = share * targets + (1 - share) * targets[partner]
        loss = nn.functional.cross_entropy(model(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# --------------------------------------------------------------------------------------- ours


def our_step(arguments: argparse.Namespace, device: torch.device) -> Callable[[], float]:
    """Return a function that does one step as ``training.classifier`` does and returns its loss."""
    keep_freed_memory()
    settings, network, n_classes = study(arguments)
    augmentation = Augmentation()
    clips_int16, labels = clips(arguments, settings, n_classes)
    n_samples = clips_int16.shape[1]
    padded = np.pad(clips_int16, ((0, 0), (0, max(0, settings.n_samples - n_samples))))
    waveforms = torch.from_numpy(padded[:, : settings.n_samples]).to(device)
    one_hot = nn.functional.one_hot(torch.from_numpy(labels), n_classes).float().to(device)
    n_valid = torch.full((arguments.batch,), min(n_samples, settings.n_samples), device=device)
    front_end = LogMel(settings).to(device)
    torch.manual_seed(0)
    model = SECNN(n_classes, network).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=best_precision() == "16-mixed")
    rng = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> float:
        rows = torch.from_numpy(rng.integers(len(waveforms), size=arguments.batch)).to(device)
        batch = waveforms[rows].float() / 32768
        batch = augment_waveforms(batch, n_valid, augmentation, settings.sr, generator)
        features = front_end.features(batch, n_valid)
        share = rng.beta(augmentation.mix_alpha, augmentation.mix_alpha, arguments.batch)
        partner = torch.from_numpy(rng.permutation(arguments.batch)).to(device)
        weight = torch.from_numpy(share).float().to(device)
        features, targets = mixup(features, one_hot[rows], weight, partner)
        features = features.contiguous(memory_format=torch.channels_last)
        with autocast(device):
            logits = model(features)
        loss = nn.functional.cross_entropy(logits.float(), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return step


# -------------------------------------------------------------------------------------- both


STEPS = {"thesis": thesis_step, "ours": our_step}


def study(arguments: argparse.Namespace) -> tuple[FrontEnd, Network, int]:
    """Return the profile's front end, its network with the channels asked for, its classes."""
    profile = get_profile(arguments.profile)
    n_classes = 10 if profile.esc10_only else 50
    return profile.front_end, Network(channels=tuple(arguments.channels)), n_classes


def clips(
    arguments: argparse.Namespace, settings: FrontEnd, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return synthetic clips, int16, and their labels: two batches, drawn from with replacement."""
    waveforms = _timing.noise_bursts(2 * arguments.batch, settings.sr)
    return waveforms, np.arange(len(waveforms)) % n_classes


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Time one contender in this process: mean seconds per step after the warm-up.

    The mean, because worker processes deliver their batches in bursts.
    """
    step = STEPS[arguments.only](arguments, best_device())
    for _ in range(arguments.warmup):
        step()
    started = time.perf_counter()
    for _ in range(arguments.steps):
        loss = step()  # a number on the CPU: the device has finished forward
    _timing.synchronise()
    return {"seconds": (time.perf_counter() - started) / arguments.steps, "loss": loss}


def measure_in_process(name: str, only: str, workers: int, arguments: argparse.Namespace) -> float:
    """Call this script for one contender and return its seconds per step."""
    numbers = {"batch": arguments.batch, "steps": arguments.steps, "warmup": arguments.warmup}
    command = [sys.executable, "-m", "benchmarks.training_step", "--only", only]
    command += ["--workers", str(workers), "--profile", arguments.profile]
    command += [word for key, value in numbers.items() for word in (f"--{key}", str(value))]
    command += ["--channels", *map(str, arguments.channels)]
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {run.returncode}, often want of memory"
        sys.exit(f"training_step: {name} failed ({reason}); try a smaller --batch.")
    result = json.loads(run.stdout.splitlines()[-1])
    if not math.isfinite(result["loss"]):
        sys.exit(f"training_step: the loss of {name} is {result['loss']}; its time means nothing.")
    return result["seconds"]


def main() -> None:
    """Run from the command line."""
    on_cpu = best_device().type == "cpu"
    options = _timing.parser(__doc__.partition("\n")[0], repeats=3)
    options.add_argument("--profile", choices=("esc10", "esc50"), default="esc50")
    options.add_argument("--batch", type=_timing.positive, default=32, help="clips per step")
    options.add_argument(
        "--steps", type=_timing.positive, default=2 if on_cpu else 20, help="timed, per round"
    )
    options.add_argument(
        "--warmup", type=_timing.positive, default=2 if on_cpu else 6, help="untimed, per round"
    )
    options.add_argument("--workers", type=int, default=2, help="of the thesis's DataLoader")
    options.add_argument("--channels", type=_timing.positive, nargs=5, default=Network().channels)
    options.add_argument(
        "--only", choices=STEPS, help="measure this one alone, once, and print it as JSON"
    )
    arguments = options.parse_args()
    if arguments.workers < 0:
        options.error(f"--workers {arguments.workers}: expected 0 or more")
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return

    found = _timing.environment()
    _timing.header(f"Training step, {arguments.batch} clips, profile {arguments.profile}", found)
    contenders = {
        f"thesis, {_workers(count)}": ("thesis", count) for count in (0, arguments.workers)
    } | {"ours": ("ours", 0)}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.repeats):
        for name, (only, workers) in contenders.items():
            seconds[name].append(measure_in_process(name, only, workers, arguments))

    times = {name: _timing.spread(values) for name, values in seconds.items()}
    baseline = min((n for n in times if n != "ours"), key=lambda n: times[n]["seconds"])
    rows = [
        {
            "contender": name,
            "ratio": times[baseline]["seconds"] / values["seconds"],
            **values,
            "ms_per_clip": 1000 * values["seconds"] / arguments.batch,
        }
        for name, values in times.items()
    ]
    ratio = rows[-1]["ratio"]
    _timing.report(arguments, found, rows, baseline=baseline, ratio=ratio)
    print(f"ours is {ratio:.3g} times as fast as {baseline!r}, the faster of the thesis's ways")


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


if __name__ == "__main__":
    main()
